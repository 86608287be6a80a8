//! Steps: what can be done to a counter, what it returns, and how a request spells it (R1, R2, R9, R15).
//!
//! The reply to a request is the view before its steps. The results are computed here, as the server
//! computes them: exactly, since a total may leave the range of an `i64` (R7).

use std::fmt;
use std::sync::Arc;

/// R2: the largest count and total.
pub const MAX: i64 = (1 << 53) - 1;
pub(crate) const SPAN: i128 = 1 << 53;
/// The layout of what is stored that this port knows.
const LAYOUT: i64 = 1;
const LONGEST_NAME: usize = 255;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    Eq,
    Ne,
    Lt,
    Gt,
    Always,
}

/// R15. The operand of `Always` is not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    pub relation: Relation,
    pub operand: i64,
}

impl Condition {
    fn holds(self, subject: i128) -> bool {
        let operand = i128::from(self.operand);
        match self.relation {
            Relation::Eq => subject == operand,
            Relation::Ne => subject != operand,
            Relation::Lt => subject < operand,
            Relation::Gt => subject > operand,
            Relation::Always => true,
        }
    }

    fn spell(self, to: &mut String) {
        let (letter, operand) = match self.relation {
            Relation::Eq => ('e', i128::from(self.operand)),
            Relation::Ne => ('n', i128::from(self.operand)),
            Relation::Lt => ('l', i128::from(self.operand)),
            Relation::Gt => ('g', i128::from(self.operand)),
            // Greater than any number that is in range. Out of range the step is refused anyway.
            Relation::Always => ('g', -SPAN),
        };
        *to += &format!("{letter}{operand}");
    }
}

/// R9; `Look` and `Drop` are the instance's own (R16, R18).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Get,
    Inc,
    SetOnInstance,
    DeleteOnInstance,
    Set,
    Delete,
    #[doc(hidden)]
    Look,
    #[doc(hidden)]
    Drop,
}

impl Operation {
    /// It starts a new epoch. When its session is lost before the reply, its outcome is unknown (R12).
    pub(crate) fn is_global(self) -> bool {
        matches!(self, Operation::Set | Operation::Delete)
    }

    /// It makes a slice, or keeps one.
    pub(crate) fn writes(self) -> bool {
        !matches!(self, Operation::Get | Operation::Look | Operation::Drop)
    }
}

#[derive(Clone, Debug)]
pub struct Step {
    pub(crate) key: Arc<str>,
    pub(crate) operation: Operation,
    pub(crate) count: i64,
    pub(crate) condition: Option<Condition>,
}

impl Step {
    /// A step. `dec(n)` is `inc(-n)`; operations without a count ignore it.
    ///
    /// # Errors
    /// `InvalidKey` (R1) or, if the key is good, `Overflow` for a count or operand out of range (R2).
    pub fn new(
        operation: Operation,
        key: &str,
        count: i64,
        condition: Option<Condition>,
    ) -> Result<Step, Error> {
        check_name("key", key, &[':'])?;
        check_number("count", count)?;
        if let Some(condition) = condition {
            check_number("operand", condition.operand)?;
        }
        Ok(Step {
            key: key.into(),
            operation,
            count,
            condition,
        })
    }

    /// A step of the instance's own making, on a key that is good already.
    pub(crate) fn own(operation: Operation, key: &Arc<str>) -> Step {
        Step {
            key: key.clone(),
            operation,
            count: 0,
            condition: None,
        }
    }

    fn is_same_inc(&self, other: &Step) -> bool {
        self.operation == Operation::Inc
            && other.operation == Operation::Inc
            && self.condition.is_none()
            && other.condition.is_none()
            && self.count == other.count
    }

    fn spell(&self, to: &mut String) {
        if let Some(condition) = self.condition {
            condition.spell(to);
        }
        match self.operation {
            Operation::Get => {}
            Operation::Inc => *to += &format!("+{}", self.count),
            Operation::SetOnInstance => *to += &format!("={}", self.count),
            Operation::DeleteOnInstance => *to += "=0",
            Operation::Set => *to += &format!("!{}", self.count),
            Operation::Delete => *to += "~0",
            Operation::Look => *to += "?",
            Operation::Drop => *to += "x",
        }
    }
}

/// The steps on one counter as a request spells them: equal increments in a row are one word.
pub(crate) fn spell(steps: &[&Step]) -> String {
    let mut words = String::new();
    let mut at = 0;
    while at < steps.len() {
        let same = steps[at..]
            .iter()
            .take_while(|step| step.is_same_inc(steps[at]))
            .count()
            .max(1);
        steps[at].spell(&mut words);
        if same > 1 {
            words += &format!("*{same}");
        }
        at += same;
    }
    words
}

/// R1.
pub(crate) fn check_name(what: &str, name: &str, forbidden: &[char]) -> Result<(), Error> {
    if name.is_empty() || name.len() > LONGEST_NAME {
        let many = name.len();
        return Err(Error::InvalidKey(format!(
            "{what} must have 1 to 255 bytes, not {many}"
        )));
    }
    if let Some(found) = name.chars().find(|char| forbidden.contains(char)) {
        return Err(Error::InvalidKey(format!(
            "{what} must not contain {found:?}: {name:?}"
        )));
    }
    Ok(())
}

fn check_number(what: &str, number: i64) -> Result<(), Error> {
    if (-MAX..=MAX).contains(&number) {
        return Ok(());
    }
    Err(Error::Overflow(format!(
        "{what} must be from -(2^53 - 1) to 2^53 - 1, not {number}"
    )))
}

/// What an instance sees of a counter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    pub total: i128,
    pub epoch: i64,
    pub count: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    pub cumulative: i64,
    pub instance_count: i64,
}

/// What a step returns: with a condition, the state after and before it, and whether the condition held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    State(State),
    Change {
        new: State,
        old: State,
        applied: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// R1: the name is not allowed, or Redis holds something else under it.
    InvalidKey(String),
    /// R2: a number would leave the range.
    Overflow(String),
    /// R12: it was executed once, or not at all.
    Unknown(String),
    /// R12: it certainly was not executed.
    NotExecuted(String),
    /// Redis answered with an error, and executed nothing.
    Refused(String),
    /// The prefix has another layout than this port knows.
    Layout(i64),
}

impl fmt::Display for Error {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::InvalidKey(why)
            | Error::Overflow(why)
            | Error::Unknown(why)
            | Error::NotExecuted(why)
            | Error::Refused(why) => to.write_str(why),
            Error::Layout(found) => {
                write!(
                    to,
                    "the prefix has layout {found}, and this port knows {LAYOUT}"
                )
            }
        }
    }
}

impl std::error::Error for Error {}

/// What became of a step.
pub type Outcome = Result<Answer, Error>;

impl View {
    /// The view after a step, and the step's result (R9). A refused step changes nothing (R2).
    pub(crate) fn run(self, step: &Step) -> (View, Outcome) {
        match step.condition {
            Some(condition) => self.run_if(step, condition),
            None => {
                let after = self.after(step);
                let (total, count) = match step.operation {
                    Operation::Delete => (self.total, self.count),
                    Operation::DeleteOnInstance => (after.total, self.count),
                    _ => (after.total, after.count),
                };
                match (after.state(), state(total, count)) {
                    (Some(_), Some(answer)) => (after, Ok(Answer::State(answer))),
                    _ => (self, Err(refused())),
                }
            }
        }
    }

    fn run_if(self, step: &Step, condition: Condition) -> (View, Outcome) {
        let subject = match step.operation {
            Operation::SetOnInstance => i128::from(self.count),
            _ => self.total,
        };
        let applied = condition.holds(subject);
        let after = if applied { self.after(step) } else { self };
        match (after.state(), self.state()) {
            (Some(new), Some(old)) => (after, Ok(Answer::Change { new, old, applied })),
            _ => (self, Err(refused())),
        }
    }

    fn after(self, step: &Step) -> View {
        match step.operation {
            Operation::Get | Operation::Look | Operation::Drop => self,
            Operation::Inc => self.with_count(self.count + step.count),
            Operation::SetOnInstance => self.with_count(step.count),
            Operation::DeleteOnInstance => self.with_count(0),
            Operation::Set => self.in_new_epoch(step.count),
            Operation::Delete => self.in_new_epoch(0),
        }
    }

    fn with_count(self, count: i64) -> View {
        let total = self.total - i128::from(self.count) + i128::from(count);
        View {
            total,
            count,
            ..self
        }
    }

    fn in_new_epoch(self, count: i64) -> View {
        View {
            total: i128::from(count),
            epoch: self.epoch + 1,
            count,
        }
    }

    fn state(self) -> Option<State> {
        state(self.total, self.count)
    }
}

/// The numbers, if they are in range.
fn state(total: i128, count: i64) -> Option<State> {
    let cumulative = i64::try_from(total).ok()?;
    let in_range = |number| (-MAX..=MAX).contains(&number);
    (in_range(cumulative) && in_range(count)).then_some(State {
        cumulative,
        instance_count: count,
    })
}

fn refused() -> Error {
    Error::Overflow("a count or the total would leave the range of -(2^53 - 1) to 2^53 - 1".into())
}
