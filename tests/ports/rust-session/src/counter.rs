//! The counter that an application uses. A task of its own drives the instance; calls reach it through a
//! queue, and all that wait there when it is free share the next request (group commit).

use std::collections::HashSet;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::instance::{Instance, MOST_COUNTERS, MOST_STEPS, Settings, Wall};
use crate::steps::{Answer, Condition, Error, Operation, Outcome, State, Step, check_name};
use crate::wire::Redis;

/// How a counter is made; `..Options::default()` gives the rest.
pub struct Options {
    /// R5: how long it may be silent before it is presumed dead.
    pub threshold_ms: u64,
    /// Its id; otherwise a new one.
    pub instance_id: Option<String>,
    /// For people, in Redis.
    pub label: String,
    /// How often a request is sent before it is given up.
    pub attempts: u32,
    /// Beat every third of the threshold while nobody calls, and promise so (R19).
    pub heartbeat: bool,
    /// The server's wall clock in ms as text; otherwise its own.
    pub wall: Option<Wall>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            threshold_ms: 30_000,
            instance_id: None,
            label: String::new(),
            attempts: 8,
            heartbeat: true,
            wall: None,
        }
    }
}

type Told<T> = oneshot::Sender<T>;

enum Job {
    Steps(Vec<Step>, Told<Vec<Outcome>>),
    Heartbeat(Told<Result<(), Error>>),
    ClearOnInstance(Told<Result<(), Error>>),
    Clear(Told<Result<(), Error>>),
    Leave(Told<Result<(), Error>>),
}

/// One instance. Clones are the same instance; when the last one is dropped it ends, and Redis is not
/// told: call [`Counter::leave`] first.
///
/// A call that is cancelled while it waits in the queue is never sent. One that was sent goes on.
#[derive(Clone)]
pub struct Counter {
    jobs: mpsc::UnboundedSender<Job>,
}

impl Counter {
    /// A counter, driven by a task on the current runtime.
    ///
    /// # Errors
    /// `InvalidKey`: the prefix or the id is not allowed (R1).
    pub fn new(redis: impl Redis, prefix: &str, options: Options) -> Result<Counter, Error> {
        check_name("prefix", prefix, &[':', '{', '}'])?;
        let random = Uuid::new_v4();
        // An earlier life of a given id may have used any numbers.
        let seq = if options.instance_id.is_some() {
            (random.as_u128() >> 80) as i64
        } else {
            0
        };
        let id = options.instance_id.unwrap_or_else(|| random.to_string());
        check_name("instance id", &id, &[':'])?;
        let threshold_ms = options.threshold_ms;
        let promise_ms = if options.heartbeat {
            (2 * threshold_ms).div_ceil(5)
        } else {
            0
        };
        let settings = Settings {
            prefix: prefix.into(),
            id,
            label: options.label,
            threshold_ms,
            promise_ms,
            seq,
            attempts: options.attempts.max(1),
            wall: options.wall.unwrap_or_else(|| Box::new(String::new)),
        };
        let beat = options
            .heartbeat
            .then(|| Duration::from_millis(threshold_ms.div_ceil(3)));
        let (jobs, queue) = mpsc::unbounded_channel();
        tokio::spawn(
            Driver {
                instance: Instance::new(redis, settings),
                queue,
                beat,
            }
            .run(),
        );
        Ok(Counter { jobs })
    }

    pub async fn get(&self, key: &str) -> Result<State, Error> {
        self.plain(Operation::Get, key, 0).await
    }

    pub async fn inc(&self, key: &str, n: i64) -> Result<State, Error> {
        self.plain(Operation::Inc, key, n).await
    }

    pub async fn dec(&self, key: &str, n: i64) -> Result<State, Error> {
        self.plain(Operation::Inc, key, n.saturating_neg()).await
    }

    pub async fn set(&self, key: &str, n: i64) -> Result<State, Error> {
        self.plain(Operation::Set, key, n).await
    }

    pub async fn set_on_instance(&self, key: &str, n: i64) -> Result<State, Error> {
        self.plain(Operation::SetOnInstance, key, n).await
    }

    pub async fn delete(&self, key: &str) -> Result<State, Error> {
        self.plain(Operation::Delete, key, 0).await
    }

    pub async fn delete_on_instance(&self, key: &str) -> Result<State, Error> {
        self.plain(Operation::DeleteOnInstance, key, 0).await
    }

    async fn plain(&self, operation: Operation, key: &str, n: i64) -> Result<State, Error> {
        match self.run(Step::new(operation, key, n, None)?).await? {
            Answer::State(state) | Answer::Change { new: state, .. } => Ok(state),
        }
    }

    /// A step with a condition: `Inc`, `Set` or `SetOnInstance` (R15). Gives the state after and before it,
    /// and whether the condition held.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn run_if(
        &self,
        operation: Operation,
        key: &str,
        condition: Condition,
        n: i64,
    ) -> Result<Answer, Error> {
        self.run(Step::new(operation, key, n, Some(condition))?)
            .await
    }

    /// Any one step.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn run(&self, step: Step) -> Outcome {
        let mut outcomes = self.batch(vec![step]).await?;
        outcomes.pop().unwrap_or_else(|| Err(stopped()))
    }

    /// Steps in order, and what became of each. Those on up to 100 counters share a request.
    ///
    /// # Errors
    /// The counter's task has ended.
    pub async fn batch(&self, steps: Vec<Step>) -> Result<Vec<Outcome>, Error> {
        self.ask(|told| Job::Steps(steps, told)).await
    }

    /// R4: say that it is alive, and look after its counters.
    ///
    /// # Errors
    /// `Unknown`, `NotExecuted`, `Refused` or `Layout`.
    pub async fn heartbeat(&self) -> Result<(), Error> {
        self.ask(Job::Heartbeat).await?
    }

    /// R9.
    ///
    /// # Errors
    /// The first step's that failed; the others ran, unless a request got no reply.
    pub async fn clear_on_instance(&self) -> Result<(), Error> {
        self.ask(Job::ClearOnInstance).await?
    }

    /// R9.
    ///
    /// # Errors
    /// As `clear_on_instance`.
    pub async fn clear(&self) -> Result<(), Error> {
        self.ask(Job::Clear).await?
    }

    /// R16. It may call again, and comes back with nothing.
    ///
    /// # Errors
    /// Those of the request that closes the session.
    pub async fn leave(&self) -> Result<(), Error> {
        self.ask(Job::Leave).await?
    }

    async fn ask<T>(&self, job: impl FnOnce(Told<T>) -> Job) -> Result<T, Error> {
        let (told, answer) = oneshot::channel();
        self.jobs.send(job(told)).map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())
    }
}

fn stopped() -> Error {
    Error::NotExecuted("the counter's task has ended".into())
}

struct Driver<R> {
    instance: Instance<R>,
    queue: mpsc::UnboundedReceiver<Job>,
    beat: Option<Duration>,
}

impl<R: Redis> Driver<R> {
    async fn run(mut self) {
        let mut next = None;
        loop {
            let job = match next.take() {
                Some(job) => job,
                None => match self.wait().await {
                    Some(job) => job,
                    None => return,
                },
            };
            next = self.work(job).await;
        }
    }

    /// The next job; beats while there is none. None: nobody can call any more.
    async fn wait(&mut self) -> Option<Job> {
        let Some(beat) = self.beat else {
            return self.queue.recv().await;
        };
        loop {
            match tokio::time::timeout(beat, self.queue.recv()).await {
                Ok(job) => return job,
                Err(_) => drop(self.instance.heartbeat().await), // the next one may succeed
            }
        }
    }

    /// Do a job, and give back one that was taken from the queue with it and is still to be done. A
    /// receiver that is gone hears nothing.
    async fn work(&mut self, job: Job) -> Option<Job> {
        match job {
            Job::Steps(steps, told) => return self.group(steps, told).await,
            Job::Heartbeat(told) => drop(told.send(self.instance.heartbeat().await)),
            Job::ClearOnInstance(told) => drop(told.send(self.instance.clear_on_instance().await)),
            Job::Clear(told) => drop(told.send(self.instance.clear().await)),
            Job::Leave(told) => drop(told.send(self.instance.leave().await)),
        }
        None
    }

    /// Group commit: the steps of all who wait go into one request, as far as they fit, in the order in
    /// which they came.
    async fn group(&mut self, steps: Vec<Step>, told: Told<Vec<Outcome>>) -> Option<Job> {
        tokio::task::yield_now().await; // those that were just answered call again
        let mut all: Vec<Step> = Vec::new();
        let mut callers: Vec<(usize, Told<Vec<Outcome>>)> = Vec::new();
        let mut keys = HashSet::new();
        let mut next = Some(Job::Steps(steps, told));
        loop {
            match next.take().or_else(|| self.queue.try_recv().ok()) {
                Some(Job::Steps(steps, told)) => {
                    if told.is_closed() {
                        continue; // cancelled while it waited
                    }
                    let new: HashSet<_> = steps.iter().map(|step| step.key.clone()).collect();
                    let fits = all.len() + steps.len() <= MOST_STEPS
                        && keys.union(&new).count() <= MOST_COUNTERS;
                    if !callers.is_empty() && !fits {
                        next = Some(Job::Steps(steps, told));
                        break;
                    }
                    keys.extend(new);
                    callers.push((steps.len(), told));
                    all.extend(steps);
                }
                Some(other) => {
                    next = Some(other);
                    break;
                }
                None => break,
            }
        }
        if !callers.is_empty() {
            let mut outcomes = self.instance.steps(&all).await.into_iter();
            for (many, told) in callers {
                drop(told.send(outcomes.by_ref().take(many).collect()));
            }
        }
        next
    }
}
