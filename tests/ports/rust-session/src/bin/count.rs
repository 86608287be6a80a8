//! A process that counts: `count PREFIX KEY TIMES THRESHOLD_MS`, on `DISTKIT_URL`. It says what it sees,
//! adds 1 that many times, and then says what it sees once for each line that it reads.

use std::io::BufRead;
use std::process::ExitCode;

use distkit_rust_session::wire::Server;
use distkit_rust_session::{Counter, Options};

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [prefix, key, times, threshold_ms] = words.as_slice() else {
        return Err("usage: count PREFIX KEY TIMES THRESHOLD_MS".into());
    };
    let server = Server::new(&std::env::var("DISTKIT_URL")?)?;
    let options = Options {
        threshold_ms: threshold_ms.parse()?,
        ..Options::default()
    };
    let counter = Counter::new(server, prefix, options)?;
    say(&counter, key).await?;
    for _ in 0..times.parse::<u64>()? {
        counter.inc(key, 1).await?;
    }
    let mut lines = std::io::stdin().lock().lines();
    while lines.next().transpose()?.is_some() {
        say(&counter, key).await?;
    }
    Ok(())
}

async fn say(counter: &Counter, key: &str) -> Result<(), distkit_rust_session::Error> {
    let seen = counter.get(key).await?;
    println!("[{},{}]", seen.cumulative, seen.instance_count);
    Ok(())
}
