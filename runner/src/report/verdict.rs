//! Verdicts on the cells of a run, from its observations.

use super::tally::is_expected;
use crate::host::facts::{Fact, Facts};
use crate::host::vm_facts;
use crate::judge::{Judge, Judgement, Verdict};
use crate::plan::vm::VmConfig;
use crate::results::{Boot, CellOutcome, CellResult, Fate, Header, Intent, PlannedCell};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};

/// The verdict on a cell: a line of `verdicts.jsonl`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CellVerdict {
    /// The cell's id.
    pub cell: String,
    /// Time that its VM took, in microseconds; none if there was no VM.
    pub micros: Option<u64>,
    /// Whether host or harness could not run it, or the run was interrupted before.
    pub broken: bool,
    /// What the judge thinks.
    pub judgement: Judgement,
}

/// The cells of a run, as a judge needs them.
#[derive(Debug)]
pub struct Cells<'a> {
    header: &'a Header,
    /// Position in the plan, by id.
    positions: HashMap<&'a str, usize>,
}

impl<'a> Cells<'a> {
    /// The cells that the header plans.
    pub fn new(header: &'a Header) -> Self {
        let positions = header.cells.iter().enumerate().map(|(at, cell)| (cell.id.as_str(), at)).collect();
        Cells { header, positions }
    }

    /// The run id that the guest of a cell puts into its report: that of the run and the cell's position in the plan,
    /// so that a line of another cell of the same run is noticed too; in a merged run, that of its shard.
    pub fn run_id(&self, cell: &str) -> Option<u64> {
        let of = |at: usize| self.header.cells[at].run.unwrap_or_else(|| self.header.run.wrapping_add(at as u64));
        self.positions.get(cell).map(|&at| of(at))
    }

    /// The least number of points that the test of a cell makes.
    pub(super) fn points(&self, cell: &str) -> u64 {
        self.positions.get(cell).map_or(0, |&at| self.header.cells[at].points)
    }

    /// What is known of the host and the VM of a cell.
    pub fn facts(&self, cell: &str) -> Facts {
        let vm = self.positions.get(cell).map(|&at| &self.header.cells[at].vm);
        vm_facts(&self.header.facts, vm.unwrap_or(&VmConfig::default()))
    }

    /// Whether SPTEs are EPT's, so that a leaf has a memory type.
    pub fn has_ept(&self, cell: &str) -> bool {
        let facts = self.facts(cell);
        let text = |name: &str, word: &str| facts.get(name) == Some(&Fact::Text(word.to_owned()));
        text("kvm-vendor", "kvm_intel") && facts.bool("tdp") != Some(false)
    }

    /// The verdict on what came of a cell.
    pub fn verdict(&self, judge: &Judge<'_>, result: &CellResult) -> CellVerdict {
        let (micros, judgement) = match &result.outcome {
            CellOutcome::Observed(observed) => {
                let (run, facts) = (self.run_id(&result.cell), self.facts(&result.cell));
                (
                    Some(observed.micros),
                    judge.cell(test(&result.cell), self.points(&result.cell), observed, run, &facts),
                )
            }
            CellOutcome::Skip(reason) => (None, Judgement::new(Verdict::Skip, reason.clone())),
            CellOutcome::Died(reason) => (None, Judgement::new(Verdict::Crash, reason.clone())),
            CellOutcome::Error(reason) => (None, Judgement::new(Verdict::Error, reason.clone())),
        };
        let broken = matches!(result.outcome, CellOutcome::Error(_));
        CellVerdict { cell: result.cell.clone(), micros, broken, judgement }
    }

    /// The verdicts on the cells that are not among those that are `known`, which have results. `left` are the intents
    /// that are left in the run's directory.
    pub fn not_run(&self, known: &[CellVerdict], left: &[Intent]) -> Vec<CellVerdict> {
        self.missing(known.iter().map(|verdict| (verdict.cell.as_str(), verdict.judgement.verdict)), left)
    }

    /// The same, of cells that are known by id and verdict.
    pub fn missing<'k>(
        &self,
        known: impl Iterator<Item = (&'k str, Verdict)> + Clone,
        left: &[Intent],
    ) -> Vec<CellVerdict> {
        let ended = self.header.fail_fast && known.clone().any(|(_, verdict)| !is_expected(verdict));
        let ids: HashSet<&str> = known.map(|(cell, _)| cell).collect();
        let missing = self.header.cells.iter().filter(|cell| !ids.contains(cell.id.as_str()));
        let absent = |cell: &PlannedCell| !self.header.merged.is_empty() && cell.run.is_none();
        let not_run = |cell: &PlannedCell| match absent(cell) {
            true => missing_shard(&cell.id),
            false => not_run(&cell.id, left, ended),
        };
        missing.map(not_run).collect()
    }
}

/// The verdict on a cell that has no result. `ended` is whether the run was to end before it.
fn not_run(cell: &str, left: &[Intent], ended: bool) -> CellVerdict {
    let (verdict, reason) = match (left.iter().find(|intent| intent.cell == cell), Boot::now()) {
        (None, _) if ended => (Verdict::NotRun, "the run ended at the first cell that was not as expected".to_owned()),
        (None, _) => (Verdict::NotRun, "the run was interrupted before".to_owned()),
        (Some(intent), now) if intent.fate(&now) == Fate::HostDown => (Verdict::Crash, intent.words(&now)),
        (Some(intent), now) => (Verdict::NotRun, intent.words(&now)),
    };
    let broken = verdict == Verdict::NotRun && !ended;
    CellVerdict { cell: cell.to_owned(), micros: None, broken, judgement: Judgement::new(verdict, reason) }
}

/// The verdict on a cell of a shard that nobody merged.
fn missing_shard(cell: &str) -> CellVerdict {
    let reason = "its shard is missing among those that were merged".to_owned();
    let judgement = Judgement::new(Verdict::NotRun, reason);
    CellVerdict { cell: cell.to_owned(), micros: None, broken: true, judgement }
}

/// `family/test` of a cell's id.
pub fn test(cell: &str) -> &str {
    cell.split_once('@').map_or(cell, |(test, _)| test)
}

/// `family` of a cell's id.
pub fn family(cell: &str) -> &str {
    cell.split_once('/').map_or(cell, |(family, _)| family)
}
