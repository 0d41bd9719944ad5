//! Random histories: drawn by seed, run on the embedded VMM, held against the model, shrunk, and named by cause.
//!
//! [`draw()`] makes a [`History`] of operations for the guest `interpreter`; [`Runner`] runs it and reads [`Finding`]s from
//! what was observed; [`shrink()`] finds the shortest history that still shows one; [`Session`] does all of it for a while
//! and keeps each [`Cause`] once.

mod cause;
mod draw;
mod history;
mod runner;
mod session;
mod shrink;

pub use cause::{Cause, Finding, Kind};
pub use draw::{Means, draw};
pub use history::{History, TEST};
pub use runner::{Machinery, Ran, Runner};
pub use session::{Find, Limits, Session, Sums};
pub use shrink::shrink;
