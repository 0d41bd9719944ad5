//! The suite against itself: faults of model, guest, VMM and witnesses are planted one by one, and each must be noticed.
//!
//! A fault is planted where it would be: in a policy, in a guest's ELF file, in what KVM tells a guest, in a log. What no
//! host is sure to have, such as a KVM whose SPTEs can be watched, is planted in a cell that was recorded where there was
//! one. No fault shows anything where its cell does not pass without it, so that goes first.

mod faults;
mod ground;
mod log;
mod plant;

#[cfg(test)]
mod tests;

pub(crate) use ground::recorded_runs;
pub use ground::{Ground, Grounds};
pub use plant::{Fault, Place, Plant};

use crate::judge::{Judgement, Verdict};
use serde::Serialize;

/// What became of a fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Row {
    /// The fault, in words.
    pub fault: &'static str,
    /// What is at fault.
    pub place: Place,
    /// The cell in which it was planted.
    pub cell: &'static str,
    /// Where that ran.
    pub ground: Ground,
    /// The verdict with the fault, if there was one.
    pub verdict: Option<Verdict>,
    /// What the judge said of it, or why the fault could not be planted.
    pub said: String,
    /// What that comes to.
    pub outcome: Outcome,
}

/// What a row comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The fault had the verdict that it deserves, for the reason that it is.
    Caught,
    /// It cannot be planted here.
    Skipped,
    /// It was not noticed, or taken for something else.
    Missed,
}

/// All faults.
pub fn faults() -> &'static [Fault] {
    faults::FAULTS
}

/// Plants all faults, one after the other, and gives each row as it comes.
///
/// # Errors
/// The first error of `each`, which ends it.
pub fn run<E>(grounds: &mut Grounds, mut each: impl FnMut(&Row) -> Result<(), E>) -> Result<Vec<Row>, E> {
    let mut rows = Vec::new();
    for fault in faults() {
        let row = row(grounds, fault);
        each(&row)?;
        rows.push(row);
    }
    Ok(rows)
}

/// Plants one.
fn row(grounds: &mut Grounds, fault: &Fault) -> Row {
    let ground = Grounds::ground(fault.cell);
    let row = |verdict, said: String, outcome| Row {
        fault: fault.what,
        place: fault.place,
        cell: fault.cell,
        ground,
        verdict,
        said,
        outcome,
    };
    match grounds.sound(fault.cell) {
        Ok(sound) if sound.verdict == Verdict::Pass => {}
        Ok(sound) => {
            let said = format!("{} without the fault, so it would show nothing: {}", sound.verdict, sound.reason);
            // What this KVM cannot do or does otherwise for a known reason is no fault of the suite's.
            let skip = matches!(sound.verdict, Verdict::Skip | Verdict::Xfail | Verdict::Inconclusive);
            let outcome = if skip && ground == Ground::Here { Outcome::Skipped } else { Outcome::Missed };
            return row(None, said, outcome);
        }
        Err(why) => return row(None, why, Outcome::Skipped),
    }
    match grounds.planted(fault) {
        Ok(judgement) => {
            let outcome = if caught(fault, &judgement) { Outcome::Caught } else { Outcome::Missed };
            row(Some(judgement.verdict), judgement.reason, outcome)
        }
        Err(why) => row(None, why, Outcome::Missed),
    }
}

/// Whether a judgement is the one that the fault deserves.
fn caught(fault: &Fault, judgement: &Judgement) -> bool {
    judgement.verdict == fault.verdict && judgement.reason.contains(fault.word)
}
