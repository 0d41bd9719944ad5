//! Whole runs in the formats of other people's tools. One exporter, one file: a function `write` that takes where to write
//! and the runs.

use super::CellVerdict;
use crate::results::Run;

/// A run, and what is thought of it: all that an exporter reads.
#[derive(Debug, Clone)]
pub struct Judged {
    /// What was run and observed, on what.
    pub run: Run,
    /// The verdict on each planned cell, once.
    pub verdicts: Vec<CellVerdict>,
}
