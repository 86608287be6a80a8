//! What an `inc` of the published crate `distkit` costs, for `make bench`.
//!
//! `DISTKIT_URL` says which Redis. A line with a number of tasks and a number of calls for each comes
//! in on stdin; the microseconds that they took altogether go out on stdout.

use std::io::{BufRead, Write};
use std::time::Instant;

use distkit::DistkitRedisKey;
use distkit::icounter::{
    StrictInstanceAwareCounter as Counter, StrictInstanceAwareCounterOptions,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("DISTKIT_URL").map_err(|_| "DISTKIT_URL must name a Redis")?;
    let connection = redis::Client::open(url)?.get_connection_manager().await?;
    let counter = Counter::new(StrictInstanceAwareCounterOptions {
        prefix: DistkitRedisKey::try_from("crate-bench".to_string())?,
        connection_manager: connection,
        dead_instance_threshold_ms: 30_000,
    });
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let mut words = line.split_whitespace();
        let mut number = || words.next().and_then(|word| word.parse::<u64>().ok());
        let (tasks, calls) = (number().ok_or("tasks")?, number().ok_or("calls")?);
        let began = Instant::now();
        let mut running = Vec::new();
        for _ in 0..tasks {
            let counter = counter.clone();
            running.push(tokio::spawn(async move {
                let key = DistkitRedisKey::try_from("k".to_string()).expect("a key");
                for _ in 0..calls {
                    counter.inc(&key, 1).await.expect("an answer");
                }
            }));
        }
        for task in running {
            task.await?;
        }
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", began.elapsed().as_micros())?;
        out.flush()?;
    }
    Ok(())
}
