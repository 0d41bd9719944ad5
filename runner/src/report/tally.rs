//! The sum of a run.

use super::CellVerdict;
use crate::judge::{Verdict, Witnesses};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What a run comes to: the exit code, in words. The worse is the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// All is as expected, and something was decided.
    AsExpected,
    /// Something is not, or nothing was decided.
    Surprise,
    /// Host or harness could not run a cell, or the run was interrupted.
    Broken,
}

/// The sum of a run's verdicts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Tally {
    /// Cells by verdict.
    pub verdicts: BTreeMap<Verdict, u64>,
    /// Cells that host or harness could not run.
    pub broken: u64,
    /// Points that were decided.
    pub points: u64,
    /// Points that the architecture predicts otherwise, where another policy governs.
    pub departures: u64,
    /// The policies that governed.
    pub policies: BTreeSet<String>,
    /// Cells in which effective memory types were judged, by who witnessed them: times and SPTEs, or one of them.
    pub witnesses: BTreeMap<Witnesses, u64>,
    /// Why times said nothing in a cell that SPTEs alone witnessed, of the first.
    pub untimed: Option<String>,
    /// Time that the VMs took, in microseconds.
    pub micros: u64,
}

impl Tally {
    /// Counts one more cell.
    pub fn add(&mut self, cell: &CellVerdict) {
        *self.verdicts.entry(cell.judgement.verdict).or_default() += 1;
        self.broken += u64::from(cell.broken);
        self.points += cell.judgement.points;
        self.departures += cell.judgement.architecture.count;
        self.policies.extend(cell.judgement.policy.clone());
        let proof = &cell.judgement.proof;
        if let Some(witnesses) = proof.witnesses() {
            *self.witnesses.entry(witnesses).or_default() += 1;
            if witnesses == Witnesses::Sptes && self.untimed.is_none() {
                self.untimed = proof.why.clone();
            }
        }
        self.micros += cell.micros.unwrap_or(0);
    }

    /// Cells with that verdict.
    pub fn count(&self, verdict: Verdict) -> u64 {
        self.verdicts.get(&verdict).copied().unwrap_or(0)
    }

    /// Cells with a verdict that is a surprise.
    pub fn surprises(&self) -> u64 {
        self.verdicts.iter().filter(|(verdict, _)| !is_expected(**verdict)).map(|(_, count)| count).sum()
    }

    /// All cells.
    pub fn cells(&self) -> u64 {
        self.verdicts.values().sum()
    }

    /// The counts of cells by verdict: `56 pass, 2 xfail`.
    pub fn words(&self) -> String {
        let counts: Vec<String> = self.verdicts.iter().map(|(verdict, count)| format!("{count} {verdict}")).collect();
        counts.join(", ")
    }

    /// Whether anything was decided at all.
    pub fn decided(&self) -> bool {
        self.points > 0
    }

    /// What it comes to. A broken host weighs more than a surprise: what it says is not to be believed.
    pub fn outcome(&self) -> Outcome {
        if self.broken > 0 {
            Outcome::Broken
        } else if self.decided() && self.surprises() == 0 {
            Outcome::AsExpected
        } else {
            Outcome::Surprise
        }
    }
}

/// Whether a verdict is no surprise. Such a verdict need not be a pass.
pub fn is_expected(verdict: Verdict) -> bool {
    match verdict {
        Verdict::Pass | Verdict::Xfail | Verdict::Skip | Verdict::Inconclusive => true,
        Verdict::Fail | Verdict::Xpass | Verdict::Error | Verdict::Timeout | Verdict::Crash | Verdict::NotRun => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::Judgement;

    fn tally(verdicts: &[(Verdict, u64)]) -> Tally {
        let mut tally = Tally::default();
        for &(verdict, points) in verdicts {
            let judgement = Judgement { points, ..Judgement::new(verdict, String::new()) };
            tally.add(&CellVerdict { cell: "a/b".into(), micros: Some(2), broken: false, judgement });
        }
        tally
    }

    #[test]
    fn one_surprise_is_enough() {
        let expected = [(Verdict::Pass, 3), (Verdict::Xfail, 1), (Verdict::Skip, 0), (Verdict::Inconclusive, 0)];
        assert_eq!(tally(&expected).outcome(), Outcome::AsExpected);
        for surprise in [Verdict::Fail, Verdict::Xpass, Verdict::Error, Verdict::Timeout, Verdict::Crash] {
            assert_eq!(tally(&[(Verdict::Pass, 3), (surprise, 3)]).outcome(), Outcome::Surprise, "{surprise}");
        }
    }

    #[test]
    fn a_run_that_decided_nothing_is_not_as_expected() {
        assert_eq!(tally(&[(Verdict::Skip, 0), (Verdict::Inconclusive, 0)]).outcome(), Outcome::Surprise);
        assert_eq!(tally(&[]).outcome(), Outcome::Surprise);
    }

    #[test]
    fn a_cell_that_was_not_run_or_could_not_be_is_worse_than_a_surprise() {
        for verdict in [Verdict::Error, Verdict::NotRun] {
            let mut broken = tally(&[(Verdict::Pass, 3), (Verdict::Fail, 3)]);
            let judgement = Judgement::new(verdict, "out of memory".into());
            broken.add(&CellVerdict { cell: "a/c".into(), micros: None, broken: true, judgement });
            assert_eq!(broken.outcome(), Outcome::Broken);
        }
        // The run was to end at the first surprise.
        assert_eq!(tally(&[(Verdict::Fail, 3), (Verdict::NotRun, 0)]).outcome(), Outcome::Surprise);
    }

    #[test]
    fn it_adds_up() {
        let tally = tally(&[(Verdict::Pass, 3), (Verdict::Pass, 4)]);
        assert_eq!((tally.cells(), tally.points, tally.micros, tally.count(Verdict::Pass)), (2, 7, 4, 2));
    }
}
