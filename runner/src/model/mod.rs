//! The model: replays the log of a run and says of each point what a policy predicts.
//!
//! A point is one decided (register, value), (access, exit), (instruction, outcome) or (step, reply). After a mismatch
//! the state adopts what was seen, so that one wrong point does not make those after it wrong.

mod access;
mod cache;
mod coherence;
mod cr0;
mod event;
pub mod leaf;
mod leaf_rules;
mod leaves;
mod mce;
mod memory;
mod memslot;
pub mod memtype;
mod mmio;
mod names;
mod order;
mod point;
pub mod policy;
mod register;
mod replay;
mod sptes;
mod state;
mod step;
pub mod timing;
mod words;

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;

pub use coherence::{Aspect, Promise};
pub use event::{Event, events};
pub use leaves::Interval;
pub use memory::Setting;
pub use point::{Action, Class, Decision, Effect, Prediction, Rule, Why};
pub use replay::Replay;
pub use sptes::Situation;
pub use words::{EffectOf, OpWords};
