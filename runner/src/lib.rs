//! kvm-memtype: tells which memory type a KVM guest really gets, and whether that is right.
//!
//! Data flows one way: [`config`] -> [`plan`] (cells) -> [`machine`] (a VM) -> guest -> wire (serial) -> [`results`] ->
//! [`judge`], with the [`model`]s -> [`report`].

pub mod bench;
pub mod busy;
pub mod cli;
pub mod config;
pub mod execute;
pub mod fleet;
pub mod fuzz;
pub mod guests;
pub mod history;
pub mod host;
pub mod inputs;
pub mod judge;
pub mod machine;
pub mod model;
pub mod plan;
pub mod replace;
pub mod report;
pub mod results;
pub mod selftest;
pub mod vmm;
pub mod witness;

#[cfg(test)]
mod skip;
