//! The host: what was probed of it, and what that means.

pub mod cpu;
pub mod doctor;
pub mod facts;
pub mod kvm;
pub mod module;
pub mod probe;
pub mod quirks;
pub mod rights;

pub use probe::{Host, probe, vm_facts};
