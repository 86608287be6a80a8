//! StrictInstanceAwareCounter in Rust, on the script that every port shares (spec/PROTOCOL.md).
//!
//! [`Counter`] is what an application uses: any number of tasks call it at the same time, and those
//! that wait share the next request. `steps` are the operations, without state; `instance` is what
//! an instance keeps, sends and learns; `wire` is Redis.

mod counter;
mod instance;
mod steps;
pub mod wire;

pub use counter::{Counter, Options};
pub use steps::{Answer, Condition, Error, MAX, Operation, Outcome, Relation, State, Step};
