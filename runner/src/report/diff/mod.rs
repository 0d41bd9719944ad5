//! What two sides saw otherwise: verdicts that changed, and what guests got, grouped by what the cells have in common.

mod axes;
mod print;
mod seen;

pub use axes::Difference;
pub use print::{print_diff, print_diff_json};

use super::tally::{Outcome, is_expected};
use super::verdict::{CellVerdict, Cells};
use crate::judge::{Judge, Verdict};
use crate::model::policy::PolicyError;
use crate::results::{CellOutcome, Intent, Run};
use seen::{NOT_DONE, Point, points};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// One side: the cells of one or more runs of a host.
#[derive(Debug, Default)]
pub struct Side {
    /// Where it is from, in words: a line for each run.
    pub about: Vec<String>,
    cells: BTreeMap<String, Seen>,
}

/// What is known of a cell.
#[derive(Debug)]
struct Seen {
    verdict: CellVerdict,
    /// What was seen, in order; nothing if no guest ran.
    points: Option<Vec<Point>>,
}

impl Side {
    /// Adds a run, whose cells stand in for those of the same id that are there. `left` are the intents that are left in its
    /// directory.
    ///
    /// # Errors
    /// No policy governs a cell, so that its log cannot be replayed.
    pub fn add(&mut self, judge: &Judge<'_>, run: &Run, left: &[Intent]) -> Result<(), PolicyError> {
        let (cells, header) = (Cells::new(&run.header), &run.header);
        let host: Vec<&str> =
            ["kernel", "KVM"].iter().filter_map(|what| header.host.get(*what)).map(String::as_str).collect();
        self.about.push(format!("{}: {}", run.dir.display(), host.join("; ")));
        let mut verdicts = Vec::new();
        for result in &run.results {
            let verdict = cells.verdict(judge, result);
            let points = match &result.outcome {
                CellOutcome::Observed(observed) => Some(points(judge, &cells, &result.cell, observed)?),
                CellOutcome::Skip(_) | CellOutcome::Died(_) | CellOutcome::Error(_) => None,
            };
            self.cells.insert(result.cell.clone(), Seen { verdict: verdict.clone(), points });
            verdicts.push(verdict);
        }
        let missing = cells.not_run(&verdicts, left).into_iter();
        self.cells.extend(missing.map(|verdict| (verdict.cell.clone(), Seen { verdict, points: None })));
        Ok(())
    }
}

/// What kind of change of a verdict it is, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// It is not as expected, and was.
    NewlyFailing,
    /// Something is decided no more: it passed or failed, and now it could not be tried or told.
    Lost,
    /// It is not as expected in another way.
    OtherFailure,
    /// It is as expected, and was not.
    Mended,
    /// It is decided, and was not.
    Gained,
    /// Another verdict that is as expected.
    Other,
}

impl Kind {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Kind; 6] =
        [Kind::NewlyFailing, Kind::OtherFailure, Kind::Lost, Kind::Mended, Kind::Gained, Kind::Other];

    /// What cells of it have in common, in words.
    pub const fn title(self) -> &'static str {
        match self {
            Kind::NewlyFailing => "Newly failing",
            Kind::OtherFailure => "Failing in another way",
            Kind::Lost => "Decided no more",
            Kind::Mended => "Failing no more",
            Kind::Gained => "Decided now",
            Kind::Other => "As expected in another way",
        }
    }

    /// The kind of a change from one verdict to another.
    pub fn of(from: Verdict, to: Verdict) -> Kind {
        let decides = |verdict| !matches!(verdict, Verdict::Skip | Verdict::Inconclusive | Verdict::NotRun);
        match (is_expected(from), is_expected(to)) {
            _ if to == Verdict::NotRun => Kind::Lost,
            (true, false) => Kind::NewlyFailing,
            (false, false) => Kind::OtherFailure,
            _ if decides(from) && !decides(to) => Kind::Lost,
            (false, true) => Kind::Mended,
            (true, true) if decides(to) && !decides(from) => Kind::Gained,
            (true, true) => Kind::Other,
        }
    }
}

/// A cell whose verdict changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Changed {
    /// What kind of change it is.
    pub kind: Kind,
    /// The cell's id.
    pub cell: String,
    /// The verdict on the first side.
    pub from: Verdict,
    /// The verdict on the second.
    pub to: Verdict,
    /// The reason of the second.
    pub reason: String,
}

/// The differences of two sides.
#[derive(Debug, Default)]
pub struct Diff {
    /// Cells that are on both sides.
    pub both: usize,
    /// Cells in which a guest ran on both sides.
    pub observed: usize,
    /// Of those, the cells in which the same was seen.
    pub same: usize,
    /// Cells that are on one side alone, by id.
    pub alone: [Vec<String>; 2],
    /// Verdicts that changed, the worst first, then by id.
    pub changed: Vec<Changed>,
    /// What was seen otherwise.
    pub differences: Vec<Difference>,
}

impl Diff {
    /// What `to` has otherwise than `from`.
    pub fn new(from: &Side, to: &Side) -> Diff {
        let mut diff = Diff::default();
        let alone = |one: &Side, other: &Side| -> Vec<String> {
            one.cells.keys().filter(|cell| !other.cells.contains_key(*cell)).cloned().collect()
        };
        diff.alone = [alone(from, to), alone(to, from)];
        let mut differences = BTreeMap::new();
        for (cell, one) in &from.cells {
            let Some(other) = to.cells.get(cell) else { continue };
            diff.both += 1;
            let (was, is) = (one.verdict.judgement.verdict, other.verdict.judgement.verdict);
            if was != is {
                let reason = other.verdict.judgement.reason.clone();
                diff.changed.push(Changed { kind: Kind::of(was, is), cell: cell.clone(), from: was, to: is, reason });
            }
            if let (Some(one), Some(other)) = (&one.points, &other.points) {
                diff.observed += 1;
                diff.same += usize::from(!compare(cell, one, other, &mut differences));
            }
        }
        diff.changed.sort_by(|a, b| (a.kind, &a.cell).cmp(&(b.kind, &b.cell)));
        diff.differences = axes::grouped(differences);
        diff
    }

    /// A surprise where a cell is newly failing.
    pub fn outcome(&self) -> Outcome {
        match self.changed.iter().any(|changed| changed.kind == Kind::NewlyFailing) {
            true => Outcome::Surprise,
            false => Outcome::AsExpected,
        }
    }
}

/// Differences by all that they have in common, each with its points and cells.
type Ungrouped = BTreeMap<axes::Cause, (u64, BTreeSet<String>)>;

/// Compares what was seen in a cell, and says whether anything differs.
fn compare(cell: &str, from: &[Point], to: &[Point], differences: &mut Ungrouped) -> bool {
    // The same thing may be done several times: the first time here is held against the first time there.
    let (ours, mut theirs) = (numbered(from), numbered(to));
    let mut differs = false;
    let mut note = |point: &Point, was: &str, is: &str| {
        differs = true;
        let (count, cells) = differences.entry(axes::Cause::new(point, was, is)).or_default();
        *count += 1;
        cells.insert(cell.to_owned());
    };
    for (key, one) in ours {
        match theirs.remove(&key) {
            Some(other) if one.value == other.value => {}
            Some(other) => note(other, &one.value, &other.value),
            None if one.always => note(one, &one.value, NOT_DONE),
            None => {}
        }
    }
    theirs.into_values().filter(|other| other.always).for_each(|other| note(other, NOT_DONE, &other.value));
    differs
}

/// Points by what was done, and which time that was.
fn numbered(points: &[Point]) -> BTreeMap<(&str, usize), &Point> {
    let mut counts = BTreeMap::<&str, usize>::new();
    let numbered = points.iter().map(|point| {
        let count = counts.entry(&point.did).or_default();
        *count += 1;
        ((point.did.as_str(), *count), point)
    });
    numbered.collect()
}

#[cfg(test)]
mod tests;
