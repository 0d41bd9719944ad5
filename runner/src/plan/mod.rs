//! The plan: which test runs in which VM, as cells with stable, readable ids.

pub mod vm;
