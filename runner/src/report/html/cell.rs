//! What a report keeps of one cell.

use super::detail::{Detail, Details};
use crate::judge::{Judge, Judged, Judgement, Verdict};
use crate::machine::Observed;
use crate::model::{Action, Event, Replay};
use crate::report::types::{Answers, Asked};
use crate::report::{CellVerdict, Cells, test};
use crate::results::{CellOutcome, CellResult};
use std::collections::HashMap;
use wire::record::{Record, Timed};

/// What a page was set to, and what came of it. Pages that have all of it in common are one row.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Row {
    /// What the guest asked for.
    pub asked: Asked,
    /// What it got.
    pub answers: Answers,
    /// Whether that is as the governing policy has it; nothing where it says nothing.
    pub agrees: Option<bool>,
}

impl Row {
    /// Of a page that is timed now.
    fn of(replay: &Replay<'_>, vm: &str, timed: &Timed, judged: &Judged<'_>) -> Row {
        // Where the architecture itself governs, nothing stands beside it.
        let beside = judged.beside.as_ref().or(replay.by_architecture().then_some(&judged.decision));
        Row {
            asked: Asked::of(replay, vm, timed),
            answers: Answers::of(replay, timed, &judged.decision, beside),
            agrees: judged.decision.proves(),
        }
    }
}

/// A cell of a run, judged.
#[derive(Debug)]
pub struct Found {
    /// The verdict.
    pub verdict: CellVerdict,
    /// Whether a resumed run does not do it again.
    pub is_final: bool,
    /// The pages that were timed in it: each row once, in the order in which they came, with the number of pages.
    pub rows: Vec<(Row, u32)>,
    /// What was done and seen, if it is kept.
    pub detail: Option<Detail>,
}

/// Which cells are kept in full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// All.
    All,
    /// Those that say more than that all is as expected, or why nothing was tried.
    Telling,
}

impl Keep {
    /// Whether a cell of that verdict is.
    fn has(self, verdict: Verdict) -> bool {
        self == Keep::All || !matches!(verdict, Verdict::Pass | Verdict::Skip | Verdict::NotRun)
    }
}

/// Looks at the cells of a run.
#[derive(Debug, Clone, Copy)]
pub struct Looker<'a> {
    /// Who judges.
    pub judge: Judge<'a>,
    /// The run's cells.
    pub cells: &'a Cells<'a>,
    /// The verdicts that were written, by cell; none where the run was not judged.
    pub written: Option<&'a HashMap<String, CellVerdict>>,
    /// What is kept.
    pub keep: Keep,
}

impl Looker<'_> {
    /// Judges what came of a cell, unless that was done, and keeps of what was seen what a report shows.
    pub fn look(&self, result: &CellResult) -> Found {
        let is_final = result.outcome.is_final();
        let written = self.written.and_then(|written| written.get(&result.cell));
        let CellOutcome::Observed(observed) = &result.outcome else {
            let verdict = written.cloned().unwrap_or_else(|| self.cells.verdict(&self.judge, result));
            return Found { verdict, is_final, rows: Vec::new(), detail: None };
        };
        let first = match written {
            Some(written) => self.keep.has(written.judgement.verdict),
            None => self.keep == Keep::All,
        };
        let (judgement, mut rows, mut detail) = self.walk(&result.cell, observed, first);
        if !first && written.is_none() && self.keep.has(judgement.verdict) {
            (_, rows, detail) = self.walk(&result.cell, observed, true);
        }
        let of_now =
            || CellVerdict { cell: result.cell.clone(), micros: Some(observed.micros), broken: false, judgement };
        Found { verdict: written.cloned().unwrap_or_else(of_now), is_final, rows, detail }
    }

    /// Replays what was observed.
    fn walk(&self, cell: &str, observed: &Observed, detailed: bool) -> (Judgement, Vec<(Row, u32)>, Option<Detail>) {
        let facts = self.cells.facts(cell);
        let mut pages = Pages::new(cell);
        let mut details = detailed.then(|| Details::new(observed, self.judge.governing(&facts)));
        let (least, run) = (self.cells.points(cell), self.cells.run_id(cell));
        let judgement = self.judge.look(test(cell), least, observed, run, &facts, |replay, event, judged| {
            for it in judged {
                let row = match &it.decision.action {
                    Action::Timed(timed) => Some(pages.take(replay, timed, it)),
                    _ => None,
                };
                if let Some(details) = &mut details {
                    details.point(it, row);
                }
            }
            if let (Some(details), Event::Guest(Record::Reference(timed))) = (&mut details, event) {
                details.reference(replay, timed);
            }
        });
        let detail = details.map(|details| details.finish(observed, self.cells.has_ept(cell)));
        (judgement, pages.rows, detail)
    }
}

/// The rows of a cell as its pages come.
#[derive(Debug)]
struct Pages<'a> {
    vm: &'a str,
    numbers: HashMap<Row, u32>,
    rows: Vec<(Row, u32)>,
}

impl<'a> Pages<'a> {
    fn new(cell: &'a str) -> Self {
        Pages { vm: vm(cell), numbers: HashMap::new(), rows: Vec::new() }
    }

    /// Counts one more page, and gives the number of its row.
    fn take(&mut self, replay: &Replay<'_>, timed: &Timed, judged: &Judged<'_>) -> u32 {
        let row = Row::of(replay, self.vm, timed, judged);
        let next = self.rows.len() as u32;
        let number = *self.numbers.entry(row).or_insert_with_key(|row| {
            self.rows.push((row.clone(), 0));
            next
        });
        self.rows[number as usize].1 += 1;
        number
    }
}

/// The VM configuration of a cell's id.
pub fn vm(cell: &str) -> &str {
    cell.split_once('@').map_or("default", |(_, vm)| vm)
}
