//! Redis: one run of the script, without retries. Whether a request may have arrived is told from what
//! failed: a connection that could not be made carried nothing; one that broke may have carried it.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, ErrorKind, RedisError, Value};
use tokio::sync::Mutex;

/// The script that every port shares.
pub const SCRIPT: &str = include_str!("../../../../distkit/redis/counter.lua");
const PATIENCE: Duration = Duration::from_secs(5);

/// KEYS and ARGV of one run of the script.
#[derive(Clone, Debug)]
pub struct Request {
    pub keys: Vec<String>,
    pub args: Vec<String>,
}

impl Request {
    /// ARGV[7]: the wall clock is read anew with each transmission.
    pub const WALL: usize = 6;
}

/// Why there is no reply.
#[derive(Clone, Debug)]
pub enum Failure {
    /// It cannot have arrived.
    NotSent(String),
    /// It may have arrived.
    NoReply(String),
    /// Redis answered with this error, and executed nothing.
    Refused { code: String, message: String },
}

impl fmt::Display for Failure {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::NotSent(why) | Failure::NoReply(why) => to.write_str(why),
            Failure::Refused { message, .. } => to.write_str(message),
        }
    }
}

impl Failure {
    fn refused(error: &RedisError) -> Failure {
        Failure::Refused {
            code: error.code().unwrap_or("ERR").into(),
            message: error.to_string(),
        }
    }

    fn is(&self, wanted: &str) -> bool {
        matches!(self, Failure::Refused { code, .. } if code == wanted)
    }
}

/// What a counter needs of Redis.
pub trait Redis: Send + Sync + 'static {
    /// Run the script once; four nils stand for a key that holds no counter.
    fn evaluate(
        &self,
        request: &Request,
    ) -> impl Future<Output = Result<Vec<Option<i64>>, Failure>> + Send;

    /// The fields of a hash, with their values.
    fn fields(
        &self,
        hash: &str,
    ) -> impl Future<Output = Result<Vec<(String, String)>, Failure>> + Send;
}

/// One connection, shared by everybody who has a clone of it, and made anew when it is broken.
#[derive(Clone)]
pub struct Server {
    client: Client,
    connection: Arc<Mutex<Option<MultiplexedConnection>>>,
    sha: Arc<str>,
}

impl Server {
    /// A Redis that is not connected to yet.
    ///
    /// # Errors
    /// The URL is none.
    pub fn new(url: &str) -> Result<Server, RedisError> {
        Ok(Server {
            client: Client::open(url)?,
            connection: Arc::default(),
            sha: redis::Script::new(SCRIPT).get_hash().into(),
        })
    }

    /// Send any command, once.
    ///
    /// # Errors
    /// There is no reply, or it is an error.
    pub async fn ask(&self, command: &Cmd) -> Result<Value, Failure> {
        let mut connection = self.connected().await?;
        match connection
            .send_packed_command(command)
            .await
            .and_then(Value::extract_error)
        {
            Ok(value) => Ok(value),
            Err(error) if is_reply(&error) => Err(Failure::refused(&error)),
            Err(error) => {
                *self.connection.lock().await = None;
                Err(Failure::NoReply(error.to_string()))
            }
        }
    }

    async fn connected(&self) -> Result<MultiplexedConnection, Failure> {
        let mut kept = self.connection.lock().await;
        if let Some(connection) = kept.as_ref() {
            return Ok(connection.clone());
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        let made = self
            .client
            .get_multiplexed_async_connection_with_config(&config)
            .await;
        let connection = made.map_err(|error| Failure::NotSent(error.to_string()))?;
        *kept = Some(connection.clone());
        Ok(connection)
    }
}

/// Whether Redis itself said this error.
fn is_reply(error: &RedisError) -> bool {
    error.code().is_some() || matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension)
}

fn command(name: &str, script: &str, request: &Request) -> Cmd {
    let mut command = redis::cmd(name);
    command
        .arg(script)
        .arg(request.keys.len())
        .arg(&request.keys)
        .arg(&request.args);
    command
}

impl Redis for Server {
    async fn evaluate(&self, request: &Request) -> Result<Vec<Option<i64>>, Failure> {
        let mut reply = self.ask(&command("EVALSHA", &self.sha, request)).await;
        if reply.as_ref().is_err_and(|failure| failure.is("NOSCRIPT")) {
            reply = self.ask(&command("EVAL", SCRIPT, request)).await;
        }
        numbers(reply?)
    }

    async fn fields(&self, hash: &str) -> Result<Vec<(String, String)>, Failure> {
        let value = self.ask(redis::cmd("HGETALL").arg(hash)).await?;
        redis::from_redis_value(value).map_err(|error| Failure::refused(&error.into()))
    }
}

fn numbers(reply: Value) -> Result<Vec<Option<i64>>, Failure> {
    let wrong =
        |value: &Value| Failure::NoReply(format!("this is no reply of the script: {value:?}"));
    let Value::Array(items) = reply else {
        return Err(wrong(&reply));
    };
    items
        .iter()
        .map(|item| match item {
            Value::Int(number) => Ok(Some(*number)),
            Value::Nil => Ok(None),
            other => Err(wrong(other)),
        })
        .collect()
}
