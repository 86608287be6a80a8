//! The published crate `distkit` as a port: JSON Lines over stdin and stdout, spec/PORTS.md.
//!
//! It runs in real time only, for the crate reads Redis's own clock. `DISTKIT_URL` says which Redis.
//! The crate has no heartbeat to be called, so that none is offered.

use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::sync::Arc;

use distkit::{DistkitError, DistkitRedisKey};

use distkit::icounter::{
    InstanceAwareCounterTrait, StrictInstanceAwareCounter as Counter,
    StrictInstanceAwareCounterOptions,
};
use redis::aio::ConnectionManager;
use serde_json::{Value, json};

const OPERATIONS: [&str; 9] = [
    "get",
    "inc",
    "dec",
    "set",
    "set_on_instance",
    "delete",
    "delete_on_instance",
    "clear_on_instance",
    "clear",
];

/// One history: its prefix, its threshold, and the instances that are alive.
struct World {
    connection: ConnectionManager,
    prefix: String,
    threshold_ms: u64,
    instances: HashMap<String, Arc<Counter>>,
}

impl World {
    fn reset(&mut self, message: &Value) {
        self.prefix = text(message, "prefix");
        self.threshold_ms = message["threshold_ms"].as_u64().expect("threshold_ms");
        self.instances.clear();
    }

    fn instance(&mut self, name: &str) -> Result<Arc<Counter>, DistkitError> {
        if let Some(known) = self.instances.get(name) {
            return Ok(known.clone());
        }
        let counter = Counter::new(StrictInstanceAwareCounterOptions {
            prefix: DistkitRedisKey::try_from(self.prefix.clone())?,
            connection_manager: self.connection.clone(),
            dead_instance_threshold_ms: self.threshold_ms,
        });
        self.instances.insert(name.to_string(), counter.clone());
        Ok(counter)
    }

    /// Dropping the counter ends its background task; Redis is told nothing.
    fn die(&mut self, message: &Value) {
        self.instances.remove(&text(message, "instance"));
    }

    async fn call(&mut self, message: &Value) -> Result<Value, DistkitError> {
        let counter = self.instance(&text(message, "instance"))?;
        let key = || DistkitRedisKey::try_from(text(message, "key"));
        let count = message["count"].as_i64().unwrap_or(1);
        let pair = match message["op"].as_str().unwrap_or("") {
            "clear" => return counter.clear().await.map(|()| json!({})),
            "clear_on_instance" => return counter.clear_on_instance().await.map(|()| json!({})),
            "get" => counter.get(&key()?).await?,
            "inc" => counter.inc(&key()?, count).await?,
            "dec" => counter.dec(&key()?, count).await?,
            "set" => counter.set(&key()?, count).await?,
            "set_on_instance" => counter.set_on_instance(&key()?, count).await?,
            "delete" => counter.del(&key()?).await?,
            "delete_on_instance" => counter.del_on_instance(&key()?).await?,
            other => return Ok(json!({"error": "unsupported", "message": other})),
        };
        Ok(json!({"cumulative": pair.0, "instance_count": pair.1}))
    }

    async fn answer(&mut self, message: &Value) -> Value {
        match message["op"].as_str() {
            Some("hello") => json!({
                "protocol": 1, "port": "crate distkit 0.7.1", "clock": "real",
                "instances": "many", "operations": OPERATIONS, "faults": [],
            }),
            Some("reset") => {
                self.reset(message);
                json!({})
            }
            Some("die") => {
                self.die(message);
                json!({})
            }
            _ => self
                .call(message)
                .await
                .unwrap_or_else(|error| named(&error)),
        }
    }
}

fn text(message: &Value, field: &str) -> String {
    message[field].as_str().unwrap_or("").to_string()
}

/// The protocol's name for an error. The crate has none for a count out of range: Redis's own
/// refusal counts as one.
fn named(error: &DistkitError) -> Value {
    let message = error.to_string();
    let name = match error {
        DistkitError::InvalidRedisKey(_) => "invalid_key",
        DistkitError::RedisError(_) if message.contains("overflow") => "overflow",
        _ => "internal",
    };
    json!({"error": name, "message": message})
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("DISTKIT_URL").map_err(|_| "DISTKIT_URL must name a Redis")?;
    let connection = redis::Client::open(url)?.get_connection_manager().await?;
    let mut world = World {
        connection,
        prefix: String::new(),
        threshold_ms: 30_000,
        instances: HashMap::new(),
    };
    for line in std::io::stdin().lock().lines() {
        let answer = world.answer(&serde_json::from_str(&line?)?).await;
        let mut out = std::io::stdout().lock();
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}
