//! The judge: from what was observed in a cell, the facts and a policy, a verdict with every point that is not as
//! predicted.

mod candidates;
mod cell;
mod contrast;
mod deviation;
mod ending;
mod kernel;
mod log;
mod merge;
mod proof;
mod tally;
mod verdict;

#[cfg(test)]
mod tests;

pub use candidates::{Against, Candidate, Candidates, CellLog, Pair, Seen, Standing};
pub use cell::{Departures, Judge, Judgement};
pub use contrast::Contrast;
pub use deviation::{Deviation, Deviations};
pub use kernel::{Findings, findings, is_finding};
pub use merge::{By, Judged, Point, Points};
pub use proof::{Proof, Witnesses};
pub use verdict::{UnknownVerdict, Verdict};
