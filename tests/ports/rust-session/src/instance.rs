//! One instance: what it keeps, what it sends, and what a reply means (spec/PROTOCOL.md).
//!
//! It makes one call at a time, and is never interrupted: a task of its own drives it (counter.rs).
//! The server keeps R11; R10, R12, R16 and R18 are kept here.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::steps::{Error, Operation, Outcome, SPAN, Step, View, spell};
use crate::wire::{Failure, Redis, Request};

/// How many counters a request carries.
pub(crate) const MOST_COUNTERS: usize = 100;
/// How many steps a request carries.
pub(crate) const MOST_STEPS: usize = 512;
const LOOKS: usize = 10;
const RELEASES: usize = 90;
const MOST_LOSSES: u32 = 9;
const NOT_NOW: [&str; 4] = ["LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN"];
/// Before it is sent again: nothing, then this, then twice this, ...
const PAUSE: Duration = Duration::from_millis(20);

/// What the server's wall clock is for a request; empty: the server's own.
pub type Wall = Box<dyn Fn() -> String + Send>;

/// What it remembers of its slice of a counter.
#[derive(Clone, Copy, Default)]
struct Memory {
    epoch: i64,
    count: i64,
    seq: i64,
}

impl Memory {
    fn is_nothing(&self) -> bool {
        self.epoch == 0 && self.count == 0
    }
}

/// A request that ended without a reply of the script.
enum Ended {
    /// It is never sent again.
    GivenUp {
        may_have_arrived: bool,
        why: String,
    },
    /// An error of Redis, which executed nothing, to a request of which no copy was executed.
    Refused(String),
    Layout(i64),
}

/// What the script replied.
enum Reply {
    Numbers(Vec<Option<i64>>),
    /// No session, or late: the session is gone.
    SessionGone,
}

/// How a call goes: what R12 needs to know about it.
#[derive(Default)]
struct Call {
    outcomes: Vec<Option<Outcome>>,
    /// A request with its steps may have been executed, and no reply told.
    indeterminate: bool,
    losses: u32,
}

pub(crate) struct Settings {
    pub prefix: String,
    pub id: String,
    pub label: String,
    pub threshold_ms: u64,
    /// R19; 0: none.
    pub promise_ms: u64,
    /// Where its numbers start: anywhere, if another instance may have had its id.
    pub seq: i64,
    /// How often a request is sent before it is given up.
    pub attempts: u32,
    pub wall: Wall,
}

pub(crate) struct Instance<R> {
    redis: R,
    settings: Settings,
    session: i64,
    last: i64,
    seq: i64,
    acked: i64,
    fence: i64,
    /// In the order of the keys' bytes, which is that of their code points.
    memory: BTreeMap<Arc<str>, Memory>,
    /// The keys still to be looked at in this round of heartbeats.
    ahead: VecDeque<Arc<str>>,
    /// The last request of the heartbeat before.
    since: i64,
}

type Group<'a> = (Arc<str>, Vec<&'a Step>);

impl<R: Redis> Instance<R> {
    pub fn new(redis: R, settings: Settings) -> Self {
        Instance {
            redis,
            session: 0,
            last: 0,
            seq: settings.seq,
            acked: 0,
            fence: 0,
            memory: BTreeMap::new(),
            ahead: VecDeque::new(),
            since: 0,
            settings,
        }
    }

    // --- Calls ------------------------------------------------------------------------------------

    /// Run steps in order, in as many requests as they need. After one that failed, or of which a step
    /// is unknown, the rest is not sent.
    pub async fn steps(&mut self, steps: &[Step]) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(steps.len());
        for piece in pieces(steps) {
            let (some, failure) = self.call(piece).await;
            let is_over = failure.is_some()
                || some
                    .iter()
                    .any(|outcome| matches!(outcome, Err(Error::Unknown(_))));
            outcomes.extend(some);
            if is_over {
                break;
            }
        }
        let not_sent = || {
            Err(Error::NotExecuted(
                "an earlier request of this call failed".into(),
            ))
        };
        outcomes.resize_with(steps.len(), not_sent);
        outcomes
    }

    /// R4, R10, R18: look at some counters, and let go of those that have stayed 0.
    pub async fn heartbeat(&mut self) -> Result<(), Error> {
        let looks = self.next_looks();
        let let_go = self.idle();
        for key in &let_go {
            self.memory.remove(key);
        }
        let keys = looks.iter().chain(&let_go);
        let steps: Vec<Step> = keys.map(|key| Step::own(Operation::Look, key)).collect();
        let (_, failure) = self.call(&steps).await;
        self.since = self.seq;
        failure.map_or(Ok(()), Err)
    }

    /// R9: `set_on_instance(0)` on every counter that it remembers.
    pub async fn clear_on_instance(&mut self) -> Result<(), Error> {
        let keys: Vec<Arc<str>> = self.memory.keys().cloned().collect();
        self.set_to_zero(&keys, Operation::SetOnInstance).await
    }

    /// R9: `set(0)` on every counter that exists, or that it remembers.
    pub async fn clear(&mut self) -> Result<(), Error> {
        let listed =
            self.redis
                .fields(&self.key("keys"))
                .await
                .map_err(|failure| match failure {
                    Failure::Refused { message, .. } => Error::Refused(message),
                    Failure::NotSent(why) | Failure::NoReply(why) => Error::NotExecuted(why),
                })?;
        let existing = listed.into_iter().filter(|(_, epoch)| epoch == "0");
        let mut keys: Vec<Arc<str>> = existing.map(|(key, _)| key.into()).collect();
        keys.extend(self.memory.keys().cloned());
        keys.sort();
        keys.dedup();
        self.set_to_zero(&keys, Operation::Set).await
    }

    async fn set_to_zero(&mut self, keys: &[Arc<str>], operation: Operation) -> Result<(), Error> {
        if keys.is_empty() {
            return self.call(&[]).await.1.map_or(Ok(()), Err);
        }
        let steps: Vec<Step> = keys.iter().map(|key| Step::own(operation, key)).collect();
        self.steps(&steps)
            .await
            .into_iter()
            .collect::<Result<Vec<_>, _>>()
            .map(drop)
    }

    /// R16: drop the slices and close the session, if there is one. All is forgotten at once.
    pub async fn leave(&mut self) -> Result<(), Error> {
        let keys: Vec<Arc<str>> = std::mem::take(&mut self.memory).into_keys().collect();
        if self.session == 0 {
            return Ok(());
        }
        let is_open = self.drop_slices(&keys).await;
        let left = if is_open { self.close().await } else { Ok(()) };
        self.session = 0;
        left
    }

    /// Whether there may be a session to close still. A failure ends the dropping, but not the leave.
    async fn drop_slices(&mut self, keys: &[Arc<str>]) -> bool {
        for some in keys.chunks(MOST_COUNTERS) {
            let steps: Vec<Step> = some
                .iter()
                .map(|key| Step::own(Operation::Drop, key))
                .collect();
            let request = self.request(&self.session.to_string(), &grouped(&steps));
            match self.send(request).await {
                Ok((Reply::Numbers(_), _)) => self.acked = self.seq,
                Ok((Reply::SessionGone, _)) => return false,
                Err(_) => return true,
            }
        }
        true
    }

    async fn close(&mut self) -> Result<(), Error> {
        let request = self.request(&format!("-{}", self.session), &[]);
        match self.send(request).await {
            Ok((Reply::Numbers(_), _)) => self.acked = self.seq,
            Ok((Reply::SessionGone, _)) => {}
            Err(ended) => return Err(Call::default().failure(ended, true)),
        }
        Ok(())
    }

    // --- One call ---------------------------------------------------------------------------------

    /// The steps of one request, in whichever session they can run; none are a heartbeat. Gives what
    /// became of each, and what the call failed with as a whole.
    async fn call(&mut self, steps: &[Step]) -> (Vec<Outcome>, Option<Error>) {
        let mut call = Call {
            outcomes: vec![None; steps.len()],
            ..Call::default()
        };
        loop {
            if self.session == 0
                && let Err(ended) = self.come_back(&mut call).await
            {
                return call.over(ended, false);
            }
            let (places, left): (Vec<usize>, Vec<&Step>) = call.left(steps).unzip();
            let groups = grouped(left.iter().copied());
            self.remember_written(&groups);
            let request = self.request(&self.session.to_string(), &groups);
            match self.send(request).await {
                Err(ended) => return call.over(ended, true),
                Ok((Reply::Numbers(numbers), _)) => {
                    let answers = self.learn(&groups, &numbers);
                    call.fill(&places, &left, answers);
                    return (call.outcomes.into_iter().flatten().collect(), None);
                }
                Ok((Reply::SessionGone, resent)) => {
                    call.indeterminate |= resent;
                    if let Err(ended) = call.count_loss() {
                        return call.over(ended, false);
                    }
                    if resent {
                        call.fail_global(steps);
                    }
                }
            }
        }
    }

    /// Open a session, and restore in it all that is remembered (R10).
    async fn come_back(&mut self, call: &mut Call) -> Result<(), Ended> {
        while self.session == 0 {
            let request = self.open();
            match self.send(request).await?.0 {
                Reply::SessionGone => call.count_loss()?,
                Reply::Numbers(numbers) => {
                    self.session = numbers.get(1).copied().flatten().unwrap_or_default();
                    self.last = self.session;
                    self.acked = self.seq;
                    self.fence = self.seq;
                    self.memory.retain(|_, memory| !memory.is_nothing());
                    let restored = self.restore(call).await;
                    if restored.is_err() {
                        self.session = 0; // a partial session is not kept
                    }
                    restored?;
                }
            }
        }
        Ok(())
    }

    async fn restore(&mut self, call: &mut Call) -> Result<(), Ended> {
        let keys: Vec<Arc<str>> = self.memory.keys().cloned().collect();
        for some in keys.chunks(MOST_COUNTERS) {
            let groups: Vec<Group> = some.iter().map(|key| (key.clone(), vec![])).collect();
            let request = self.request(&format!("+{}", self.session), &groups);
            match self.send(request).await?.0 {
                Reply::Numbers(numbers) => drop(self.learn(&groups, &numbers)),
                Reply::SessionGone => return call.count_loss(),
            }
        }
        Ok(())
    }

    // --- Requests ---------------------------------------------------------------------------------

    fn key(&self, name: &str) -> String {
        format!("distkit:{{{}}}:{name}", self.settings.prefix)
    }

    /// The next request, with the next number.
    fn request(&mut self, session: &str, groups: &[Group]) -> Request {
        self.seq += 1;
        let settings = &self.settings;
        let numbers = [self.seq, self.acked].map(|number| number.to_string());
        let [seq, acked] = numbers;
        let (threshold, promise) = (
            settings.threshold_ms.to_string(),
            settings.promise_ms.to_string(),
        );
        let mut keys = vec![self.key("instances"), self.key("keys")];
        let id = settings.id.clone();
        let mut args = vec![
            id,
            session.into(),
            seq,
            acked,
            threshold,
            promise,
            String::new(),
        ];
        for (key, steps) in groups {
            let memory = self.memory.get(key).copied().unwrap_or_default();
            keys.push(self.key(&format!("counter:{key}")));
            args.push(memory.epoch.to_string());
            args.push(memory.count.to_string());
            args.push(memory.seq.max(self.fence).to_string());
            args.push(spell(steps));
        }
        Request { keys, args }
    }

    fn open(&mut self) -> Request {
        let mut request = self.request("0", &[]);
        request.args.push(self.last.to_string());
        request.args.push(self.settings.label.clone());
        request
    }

    /// What is written for the first time is remembered from when it is sent: the server may have a
    /// slice of it from now on.
    fn remember_written(&mut self, groups: &[Group]) {
        for (key, steps) in groups {
            if steps.iter().any(|step| step.operation.writes()) {
                let seq = self.fence;
                self.memory.entry(key.clone()).or_insert(Memory {
                    seq,
                    ..Memory::default()
                });
            }
        }
    }

    /// Send a request until there is a reply, or it is given up. With the reply comes whether an earlier
    /// transmission of the request went unanswered.
    async fn send(&mut self, mut request: Request) -> Result<(Reply, bool), Ended> {
        let mut may_have_arrived = false;
        let mut attempt = 0;
        loop {
            attempt += 1;
            request.args[Request::WALL] = (self.settings.wall)();
            let why = match self.redis.evaluate(&request).await {
                Ok(numbers) => return Ok((self.read(numbers)?, may_have_arrived)),
                Err(Failure::NotSent(why)) => why,
                Err(Failure::NoReply(why)) => {
                    may_have_arrived = true;
                    why
                }
                Err(Failure::Refused { code, message }) => {
                    if attempt == self.settings.attempts || !NOT_NOW.contains(&code.as_str()) {
                        return Err(match may_have_arrived {
                            true => Ended::GivenUp {
                                may_have_arrived,
                                why: message,
                            },
                            false => Ended::Refused(message),
                        });
                    }
                    message
                }
            };
            if attempt == self.settings.attempts {
                return Err(Ended::GivenUp {
                    may_have_arrived,
                    why,
                });
            }
            tokio::time::sleep(PAUSE * ((1 << (attempt - 1)) - 1)).await;
        }
    }

    fn read(&mut self, numbers: Vec<Option<i64>>) -> Result<Reply, Ended> {
        let named = numbers.get(1).copied().flatten().unwrap_or_default();
        match numbers.first().copied().flatten() {
            Some(1) => return Ok(Reply::Numbers(numbers)),
            Some(-2) => return Err(Ended::Layout(named)),
            Some(-1) => self.seq = self.seq.max(named),
            _ => {}
        }
        self.session = 0;
        Ok(Reply::SessionGone)
    }

    /// The results of the steps on each counter, computed on the views; what is known then is remembered.
    fn learn(
        &mut self,
        groups: &[Group],
        numbers: &[Option<i64>],
    ) -> HashMap<Arc<str>, Vec<Outcome>> {
        self.acked = self.seq;
        let mut answers = HashMap::with_capacity(groups.len());
        for ((key, steps), view) in groups.iter().zip(numbers[1..].chunks(4)) {
            let [Some(high), Some(low), Some(epoch), Some(count)] = *view else {
                let foreign = format!("what Redis holds for {key:?} is no counter");
                answers.insert(
                    key.clone(),
                    vec![Err(Error::InvalidKey(foreign)); steps.len()],
                );
                continue;
            };
            let total = i128::from(high) * SPAN + i128::from(low);
            let mut view = View {
                total,
                epoch,
                count,
            };
            let mut outcomes = Vec::with_capacity(steps.len());
            for step in steps {
                let (after, outcome) = view.run(step);
                view = after;
                outcomes.push(outcome);
            }
            if self.memory.contains_key(key) || view.count != 0 {
                let memory = Memory {
                    epoch: view.epoch,
                    count: view.count,
                    seq: self.seq,
                };
                self.memory.insert(key.clone(), memory);
            }
            answers.insert(key.clone(), outcomes);
        }
        answers
    }

    // --- Housekeeping -----------------------------------------------------------------------------

    fn counts(&self, key: &str) -> bool {
        self.memory.get(key).is_some_and(|memory| memory.count != 0)
    }

    /// The next counters of this round in which it still counts.
    fn next_looks(&mut self) -> Vec<Arc<str>> {
        if self.ahead.is_empty() {
            let counted = self.memory.iter().filter(|(_, memory)| memory.count != 0);
            self.ahead = counted.map(|(key, _)| key.clone()).collect();
        }
        let mut looks = Vec::with_capacity(LOOKS);
        while looks.len() < LOOKS
            && let Some(key) = self.ahead.pop_front()
        {
            if self.counts(&key) {
                looks.push(key);
            }
        }
        looks
    }

    /// The counters that were 0 at the heartbeat before and were not written since; the oldest first.
    fn idle(&self) -> Vec<Arc<str>> {
        let is_idle = |memory: &Memory| memory.count == 0 && memory.seq <= self.since;
        let mut idle: Vec<(i64, Arc<str>)> = (self.memory.iter())
            .filter(|(_, memory)| is_idle(memory))
            .map(|(key, memory)| (memory.seq, key.clone()))
            .collect();
        idle.sort();
        idle.into_iter()
            .take(RELEASES)
            .map(|(_, key)| key)
            .collect()
    }
}

impl Call {
    /// The steps without an outcome, with their places.
    fn left<'a>(&self, steps: &'a [Step]) -> impl Iterator<Item = (usize, &'a Step)> {
        let open: Vec<usize> = (0..steps.len())
            .filter(|&place| self.outcomes[place].is_none())
            .collect();
        open.into_iter().map(move |place| (place, &steps[place]))
    }

    fn fill(
        &mut self,
        places: &[usize],
        steps: &[&Step],
        answers: HashMap<Arc<str>, Vec<Outcome>>,
    ) {
        let mut given: HashMap<Arc<str>, _> = answers
            .into_iter()
            .map(|(key, some)| (key, some.into_iter()))
            .collect();
        for (&place, step) in places.iter().zip(steps) {
            self.outcomes[place] = given.get_mut(&step.key).and_then(Iterator::next);
        }
    }

    fn count_loss(&mut self) -> Result<(), Ended> {
        self.losses += 1;
        if self.losses < MOST_LOSSES {
            return Ok(());
        }
        let why = "the session was lost again and again".into();
        Err(Ended::GivenUp {
            may_have_arrived: false,
            why,
        })
    }

    /// R12: the epoch may have moved on, and the value was never remembered.
    fn fail_global(&mut self, steps: &[Step]) {
        for (outcome, step) in self.outcomes.iter_mut().zip(steps) {
            if outcome.is_none() && step.operation.is_global() {
                let why = "the session was lost before the reply: executed once or not at all";
                *outcome = Some(Err(Error::Unknown(why.into())));
            }
        }
    }

    /// What a call fails with whose request ended so. `carried`: the request had the call's steps.
    fn failure(&self, ended: Ended, carried: bool) -> Error {
        match ended {
            Ended::Layout(found) => Error::Layout(found),
            Ended::Refused(why) if self.indeterminate => Error::Unknown(why),
            Ended::Refused(why) => Error::Refused(why),
            Ended::GivenUp {
                may_have_arrived,
                why,
            } if self.indeterminate || (may_have_arrived && carried) => {
                Error::Unknown(format!("no reply ({why}): executed once or not at all"))
            }
            Ended::GivenUp { why, .. } => Error::NotExecuted(format!("no reply ({why})")),
        }
    }

    fn over(self, ended: Ended, carried: bool) -> (Vec<Outcome>, Option<Error>) {
        let error = self.failure(ended, carried);
        let failed = |outcome: Option<Outcome>| outcome.unwrap_or_else(|| Err(error.clone()));
        (self.outcomes.into_iter().map(failed).collect(), Some(error))
    }
}

/// The steps by key, the keys in the order in which they first come.
fn grouped<'a>(steps: impl IntoIterator<Item = &'a Step>) -> Vec<Group<'a>> {
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut groups: Vec<Group> = Vec::new();
    for step in steps {
        let place = *places.entry(&step.key).or_insert_with(|| {
            groups.push((step.key.clone(), Vec::new()));
            groups.len() - 1
        });
        groups[place].1.push(step);
    }
    groups
}

/// The steps in pieces of one request each.
fn pieces(steps: &[Step]) -> Vec<&[Step]> {
    let mut pieces = Vec::new();
    let mut keys = std::collections::HashSet::new();
    let mut first = 0;
    for (place, step) in steps.iter().enumerate() {
        keys.insert(&step.key);
        if place - first == MOST_STEPS || keys.len() > MOST_COUNTERS {
            pieces.push(&steps[first..place]);
            first = place;
            keys = [&step.key].into();
        }
    }
    pieces.push(&steps[first..]);
    pieces
}
