//! The mapping in which guests run: physical addresses one to one, in 2 MiB pages that CPL3 may use too.

/// Both ways to boot map the first 4 GiB.
pub const MAPPED: u64 = 1 << 32;
