//! What kvm-memtype guests and the runner say to each other.
//!
//! A guest observes and never judges. It reports [`record`]s over a serial line, one a line, each with a sequence
//! number and a checksum ([`frame`]). Where a test needs the VMM to do something, the guest rings a doorbell with a
//! [`step`]; the runner does it and keeps its own account of it, a [`host`] record. Guest and host records, in the
//! order in which they happened, are all that a judge gets to see.
//!
//! The vocabulary is shared: a [`Register`](register::Register), what came of touching it (an
//! [`Outcome`](outcome::Outcome)), and what a test [`Needs`](needs::Needs) of the machine that it runs on.
//!
//! Writing allocates nothing; reading does.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod coherence;
pub mod entry;
pub mod firmware;
pub mod frame;
pub mod history;
pub mod host;
pub mod insn;
pub mod layout;
pub mod memtype;
pub mod needs;
pub mod outcome;
pub mod probe;
pub mod record;
pub mod register;
pub mod step;
pub mod stream;
pub mod text;
