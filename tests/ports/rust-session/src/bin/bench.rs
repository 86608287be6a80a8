//! What an `inc` costs, for `make bench`: as tests/ports/rust/src/bin/bench.rs does it with the published
//! crate. A line with a number of tasks and a number of calls for each comes in on stdin; the microseconds
//! that they took altogether go out on stdout.

use std::io::{BufRead, Write};
use std::time::Instant;

use distkit_rust_session::wire::Server;
use distkit_rust_session::{Counter, Options};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("DISTKIT_URL").map_err(|_| "DISTKIT_URL must name a Redis")?;
    let counter = Counter::new(Server::new(&url)?, "rust-session-bench", Options::default())?;
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
                for _ in 0..calls {
                    counter.inc("k", 1).await.expect("an answer");
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
