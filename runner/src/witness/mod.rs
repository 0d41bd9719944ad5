//! Witnesses on the host's side: what kernel and KVM show of a cell, beside what its guest says.
//!
//! They attach to cells: [`Witnesses::watch`] begins a cell, [`Watch`] hears it, and [`Watch::end`] says what was
//! witnessed. What is off costs nothing.

mod choose;
mod guardian;
mod instance;
mod kind;
mod kmsg;
mod line;
mod once;
mod probes;
mod sptes;
pub(crate) mod stats;
mod taint;
mod tracer;
mod watch;
mod witnessed;

pub use choose::{Choice, choose};
pub(crate) use instance::take_lines;
pub use kind::{Kind, Kinds};
pub(crate) use kmsg::KernelLog;
pub use sptes::is_used;
pub(crate) use tracer::Traced;
pub use watch::{Wants, Watch, Watching, Witnesses};
pub use witnessed::Witnessed;
