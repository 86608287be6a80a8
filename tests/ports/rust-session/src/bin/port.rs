//! The counter in Rust as a port: the line protocol of spec/PORTS.md on stdin and stdout. `DISTKIT_URL`
//! is the URL of the Redis, redis://127.0.0.1:6379 unless given.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::error::Error as StdError;
use std::io::{BufRead, Write};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard};

use distkit_rust_session::wire::{Failure, Redis, Request, Server};
use distkit_rust_session::{
    Answer, Condition, Counter, Error, Operation, Options, Outcome, Relation, State, Step,
};
use redis::{Cmd, Value as Reply};
use serde_json::{Value, json};

const ON_A_KEY: [(&str, Operation); 10] = [
    ("get", Operation::Get),
    ("inc", Operation::Inc),
    ("dec", Operation::Inc),
    ("set", Operation::Set),
    ("set_on_instance", Operation::SetOnInstance),
    ("delete", Operation::Delete),
    ("delete_on_instance", Operation::DeleteOnInstance),
    ("inc_if", Operation::Inc),
    ("set_if", Operation::Set),
    ("set_on_instance_if", Operation::SetOnInstance),
];
const OTHERS: [&str; 6] = [
    "heartbeat",
    "clear_on_instance",
    "clear",
    "leave",
    "batch",
    "together",
];
const FAULTS: [&str; 10] = [
    "lose_reply",
    "give_up",
    "lose_replies",
    "give_up_from",
    "refuse",
    "late_copy",
    "empty",
    "lose_key",
    "rollback",
    "reuse",
];
const ATTEMPTS: u32 = 2;

type Anything = Box<dyn StdError>;

/// What becomes of the requests of one call, counted from 1. One that is sent again keeps its number.
struct Faults {
    number: u64,
    is_answered: bool,
    lost: HashSet<u64>,
    given_up_from: u64,
    refused: u64,
    copied: u64,
}

impl Faults {
    fn of(message: &Value) -> Faults {
        let numbers = message["lose_replies"].as_array();
        let mut lost: HashSet<u64> = numbers
            .into_iter()
            .flatten()
            .filter_map(Value::as_u64)
            .collect();
        if message["lose_reply"] == true {
            lost.insert(1);
        }
        let from = message["give_up_from"].as_u64().unwrap_or(u64::MAX);
        Faults {
            number: 0,
            is_answered: true,
            lost,
            given_up_from: if message["give_up"] == true { 1 } else { from },
            refused: message["refuse"].as_u64().unwrap_or(0),
            copied: message["copy"].as_u64().unwrap_or(0),
        }
    }
}

/// What the network does, and has kept.
struct Network {
    wall_ms: Option<i64>,
    faults: Faults,
    copies: Vec<Request>,
}

/// The Redis that the counters see: each run of the script meets the faults.
#[derive(Clone)]
struct Faulty {
    server: Server,
    network: Arc<Mutex<Network>>,
}

impl Faulty {
    fn network(&self) -> MutexGuard<'_, Network> {
        self.network.lock().expect("nobody panics with it")
    }

    /// A request is sent, or sent again. The error is what Redis answers instead of running it.
    fn begin(&self, request: &Request) -> Result<(), Failure> {
        let network = &mut *self.network();
        let faults = &mut network.faults;
        if faults.is_answered {
            faults.number += 1;
            faults.is_answered = false;
            if faults.number == faults.copied {
                network.copies.push(request.clone());
            }
        }
        if faults.number != faults.refused || faults.lost.contains(&faults.number) {
            return Ok(());
        }
        faults.is_answered = true;
        let message = "OOM command not allowed when used memory > 'maxmemory'".into();
        Err(Failure::Refused {
            code: "OOM".into(),
            message,
        })
    }

    fn loses_reply(&self) -> bool {
        let faults = &mut self.network().faults;
        let number = faults.number;
        let is_lost = faults.lost.remove(&number) || number >= faults.given_up_from;
        faults.is_answered = !is_lost;
        is_lost
    }
}

impl Redis for Faulty {
    async fn evaluate(&self, request: &Request) -> Result<Vec<Option<i64>>, Failure> {
        self.begin(request)?;
        let reply = self.server.evaluate(request).await;
        if self.loses_reply() {
            Err(Failure::NoReply("the reply was lost".into()))
        } else {
            reply
        }
    }

    async fn fields(&self, hash: &str) -> Result<Vec<(String, String)>, Failure> {
        self.server.fields(hash).await
    }
}

/// One history.
struct Port {
    redis: Faulty,
    prefix: String,
    threshold_ms: u64,
    instances: HashMap<String, Counter>,
    keys: BTreeSet<String>,
    snapshot: Vec<(String, Vec<u8>)>,
}

impl Port {
    fn new(url: &str) -> Result<Port, Anything> {
        let network = Network {
            wall_ms: None,
            faults: Faults::of(&Value::Null),
            copies: vec![],
        };
        Ok(Port {
            redis: Faulty {
                server: Server::new(url)?,
                network: Arc::new(Mutex::new(network)),
            },
            prefix: String::new(),
            threshold_ms: 30_000,
            instances: HashMap::new(),
            keys: BTreeSet::new(),
            snapshot: vec![],
        })
    }

    async fn answer(&mut self, message: &Value) -> Result<Value, Anything> {
        match text(message, "op") {
            "hello" => return Ok(hello()),
            "reset" => self.reset(message),
            "die" => drop(self.instances.remove(text(message, "instance"))),
            "empty" => self.empty().await?,
            "lose_key" => {
                let key = self.redis_key(&format!("counter:{}", text(message, "key")));
                self.ask(redis::cmd("DEL").arg(key)).await?;
            }
            "snapshot" => self.take_snapshot().await?,
            "roll_back" => self.roll_back().await?,
            "late_copy" => self.deliver(message).await,
            _ => return Ok(self.call(message).await),
        }
        Ok(json!({}))
    }

    // --- Events -----------------------------------------------------------------------------------

    fn reset(&mut self, message: &Value) {
        self.prefix = text(message, "prefix").into();
        self.threshold_ms = message["threshold_ms"].as_u64().unwrap_or(30_000);
        self.instances.clear();
        self.keys.clear();
        self.snapshot.clear();
        self.redis.network().copies.clear();
    }

    async fn empty(&self) -> Result<(), Anything> {
        self.ask(redis::cmd("DEL").arg(self.redis_keys()))
            .await
            .map(drop)
    }

    async fn take_snapshot(&mut self) -> Result<(), Anything> {
        self.snapshot.clear();
        for key in self.redis_keys() {
            if let Reply::BulkString(content) = self.ask(redis::cmd("DUMP").arg(&key)).await? {
                self.snapshot.push((key, content));
            }
        }
        Ok(())
    }

    async fn roll_back(&self) -> Result<(), Anything> {
        self.empty().await?;
        for (key, content) in &self.snapshot {
            self.ask(redis::cmd("RESTORE").arg(key).arg(0).arg(content))
                .await?;
        }
        Ok(())
    }

    /// The copies that were kept arrive now; nobody hears the replies.
    async fn deliver(&self, message: &Value) {
        let copies = std::mem::take(&mut self.redis.network().copies);
        for mut copy in copies {
            copy.args[Request::WALL] = message["wall_ms"].to_string();
            drop(self.redis.server.evaluate(&copy).await);
        }
    }

    async fn ask(&self, command: &Cmd) -> Result<Reply, Anything> {
        self.redis
            .server
            .ask(command)
            .await
            .map_err(|failure| failure.to_string().into())
    }

    fn redis_key(&self, name: &str) -> String {
        format!("distkit:{{{}}}:{name}", self.prefix)
    }

    /// Every Redis key that this history may have made. The server is not searched: it may hold others.
    fn redis_keys(&self) -> Vec<String> {
        let counters = self.keys.iter().map(|key| format!("counter:{key}"));
        ["instances".into(), "keys".into()]
            .into_iter()
            .chain(counters)
            .map(|name| self.redis_key(&name))
            .collect()
    }

    // --- Calls ------------------------------------------------------------------------------------

    async fn call(&mut self, message: &Value) -> Value {
        let counter = match self.counter(text(message, "instance")) {
            Ok(counter) => counter,
            Err(error) => return failed(&error),
        };
        for call in std::iter::once(message)
            .chain(list(message, "steps"))
            .chain(list(message, "calls"))
        {
            self.keys.extend(call["key"].as_str().map(String::from));
        }
        self.befall(message);
        match text(message, "op") {
            "together" => together(&counter, list(message, "calls")).await,
            "batch" => batch(&counter, list(message, "steps")).await,
            _ => single(&counter, message).await,
        }
    }

    /// The faults and the wall clock of the requests to come.
    fn befall(&self, message: &Value) {
        let network = &mut *self.redis.network();
        network.wall_ms = message["wall_ms"].as_i64();
        network.faults = Faults::of(message);
    }

    fn counter(&mut self, name: &str) -> Result<Counter, Error> {
        if let Some(known) = self.instances.get(name) {
            return Ok(known.clone());
        }
        let redis = self.redis.clone();
        let clock = move || {
            redis
                .network()
                .wall_ms
                .map_or(String::new(), |wall| wall.to_string())
        };
        let options = Options {
            threshold_ms: self.threshold_ms,
            instance_id: Some(name.into()),
            attempts: ATTEMPTS,
            heartbeat: false,
            wall: Some(Box::new(clock)),
            ..Options::default()
        };
        let counter = Counter::new(self.redis.clone(), &self.prefix, options)?;
        self.instances.insert(name.into(), counter.clone());
        Ok(counter)
    }
}

async fn single(counter: &Counter, call: &Value) -> Value {
    let done = match text(call, "op") {
        "heartbeat" => counter.heartbeat().await,
        "clear_on_instance" => counter.clear_on_instance().await,
        "clear" => counter.clear().await,
        "leave" => counter.leave().await,
        _ => return answered(outcome(counter, call).await),
    };
    done.map_or_else(|error| failed(&error), |()| json!({}))
}

async fn outcome(counter: &Counter, call: &Value) -> Outcome {
    counter.run(step(call)?).await
}

async fn batch(counter: &Counter, calls: &[Value]) -> Value {
    let steps: Result<Vec<Step>, Error> = calls.iter().map(step).collect();
    let outcomes = match steps {
        Ok(steps) => counter.batch(steps).await,
        Err(error) => Err(error),
    };
    match outcomes {
        Ok(outcomes) => json!({"answers": outcomes.into_iter().map(answered).collect::<Vec<_>>()}),
        Err(error) => failed(&error),
    }
}

/// Each call is made by a task of its own, all of them at the same time.
async fn together(counter: &Counter, calls: &[Value]) -> Value {
    let running: Vec<_> = (calls.iter().cloned())
        .map(|call| {
            let counter = counter.clone();
            tokio::spawn(async move { single(&counter, &call).await })
        })
        .collect();
    let mut answers = Vec::new();
    for task in running {
        answers.push(task.await.expect("a call does not panic"));
    }
    json!({"answers": answers})
}

/// The step that a message asks for.
fn step(call: &Value) -> Result<Step, Error> {
    let op = text(call, "op");
    let known = ON_A_KEY.iter().find(|(name, _)| *name == op);
    let operation = known.map_or(Operation::Get, |(_, operation)| *operation);
    let count = number(call, "count").unwrap_or(1);
    let count = if op == "dec" {
        count.saturating_neg()
    } else {
        count
    };
    let condition = relation(text(call, "comparator")).map(|relation| {
        let operand = number(call, "value").unwrap_or(0);
        Condition { relation, operand }
    });
    let takes_count = !matches!(
        operation,
        Operation::Get | Operation::Delete | Operation::DeleteOnInstance
    );
    Step::new(
        operation,
        text(call, "key"),
        if takes_count { count } else { 0 },
        condition,
    )
}

fn relation(name: &str) -> Option<Relation> {
    match name {
        "eq" => Some(Relation::Eq),
        "ne" => Some(Relation::Ne),
        "lt" => Some(Relation::Lt),
        "gt" => Some(Relation::Gt),
        "always" => Some(Relation::Always),
        _ => None,
    }
}

fn hello() -> Value {
    let operations: Vec<&str> = ON_A_KEY
        .iter()
        .map(|(name, _)| *name)
        .chain(OTHERS)
        .collect();
    json!({
        "protocol": 1, "port": "distkit for Rust", "clock": "virtual", "instances": "many",
        "operations": operations, "faults": FAULTS, "features": ["applied", "always"],
    })
}

fn answered(outcome: Outcome) -> Value {
    match outcome {
        Ok(Answer::State(state)) => pair(state),
        Ok(Answer::Change { new, old, applied }) => {
            json!({"new": pair(new), "old": pair(old), "applied": applied})
        }
        Err(error) => failed(&error),
    }
}

fn pair(state: State) -> Value {
    json!({"cumulative": state.cumulative, "instance_count": state.instance_count})
}

fn failed(error: &Error) -> Value {
    let name = match error {
        Error::InvalidKey(_) => "invalid_key",
        Error::Overflow(_) => "overflow",
        Error::Unknown(_) => "unknown",
        Error::NotExecuted(_) => "not_executed",
        Error::Refused(_) => "refused",
        Error::Layout(_) => "layout",
    };
    json!({"error": name, "message": error.to_string()})
}

fn text<'a>(message: &'a Value, field: &str) -> &'a str {
    message[field].as_str().unwrap_or("")
}

fn number(message: &Value, field: &str) -> Option<i64> {
    message[field].as_i64()
}

fn list<'a>(message: &'a Value, field: &str) -> &'a [Value] {
    message[field].as_array().map_or(&[], Vec::as_slice)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Anything> {
    let url = std::env::var("DISTKIT_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".into());
    let mut port = Port::new(&url)?;
    port.ask(&redis::cmd("PING")).await.map_err(|error| {
        let place = url.rsplit('@').next().unwrap_or_default(); // no password on the screen
        format!("no Redis answers at {place}, which DISTKIT_URL names: {error}")
    })?;
    for line in std::io::stdin().lock().lines() {
        let answer = port.answer(&serde_json::from_str(&line?)?).await?;
        let mut out = std::io::stdout().lock();
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}
