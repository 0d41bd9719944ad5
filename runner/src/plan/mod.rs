//! The plan: which test runs in which VM, as cells with stable, readable ids.
//!
//! A [`suite`] pairs tests with [VM configurations](vm) by patterns. [`Plan::new`] makes cells of the pairs, and keeps
//! those that the filters on the command line pick.

mod cells;
pub(crate) mod pattern;
pub mod shard;
pub mod suite;
pub mod vm;

pub use cells::{Cell, Plan, TestRef, picked};
