//! Results: one directory per run, written as the run goes, so that a killed run loses nothing and can be resumed.
//!
//! `observations.jsonl` holds what was observed: a [`Header`] in line 1, then a [`CellResult`] a line, each synced
//! before the runner goes on. It is only ever appended to, and may be compressed once the run is over.
//! `verdicts.jsonl` is derived from it and may be made anew.
//! Of a run that is repeated, each repetition is a run of its own: the first in the run's directory, the others in
//! directories `2`, `3` and so on in there.

mod dir;
mod error;
mod format;
mod intent;
mod merge;
mod observations;
mod read;
mod stream;
mod time;
mod verdicts;
mod write;

#[cfg(test)]
mod tests;

pub use dir::{all, find, repetitions, runs};
pub use error::ResultsError;
pub use format::{CellOutcome, CellResult, FORMAT, Header, Merged, PlannedCell, Shard, first_line};
pub use intent::{Boot, Fate, Intent};
pub use merge::{MergeError, merge};
use observations::OBSERVATIONS;
pub use read::{Planned, Run, read_header};
pub use stream::{RawLine, Stream};
pub use time::{rfc3339, seconds_since_1970, utc};
pub(crate) use verdicts::verdict_lines;
pub use verdicts::{read_verdicts, write_verdicts};
pub use write::{Resumed, Writer};

/// Name of the file of verdicts in a run's directory.
const VERDICTS: &str = "verdicts.jsonl";
