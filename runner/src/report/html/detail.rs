//! A cell in full, as far as a report shows it: points of each kind, times, SPTEs, and what else the witnesses said.

use crate::judge::{Judged, Point, Points, is_finding};
use crate::machine::{Line, Observed};
use crate::model::{Action, Replay};
use crate::report::sptes::{self, Change};
use wire::probe::{Probe, Sample};
use wire::record::Timed;

/// The most points of each kind that are kept: not as predicted, not predicted, not as the architecture, as predicted.
const MOST_POINTS: [usize; 4] = [48, 8, 8, 6];
/// The most timed pages.
const MOST_TIMED: usize = 40;
/// The most changes of SPTEs that map pages.
const MOST_SPTES: usize = 24;
/// The most lines of the kernel's log, or events.
const MOST_LINES: usize = 24;

/// Points of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Few {
    /// The first of them, equal neighbours merged.
    pub points: Vec<Point>,
    /// How many there are in all.
    pub total: u64,
}

/// A page that was timed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plot {
    /// The row of what came of it; none of a page by which times are read.
    pub row: Option<u32>,
    /// The type in the PAT of a page by which times are read; empty for others.
    pub reference: String,
    /// vCPU, privilege level and address, in words.
    pub what: String,
    /// The probes that were done.
    pub samples: Vec<(Probe, Sample)>,
}

/// What was done and seen in a cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detail {
    /// Points by kind, as [`MOST_POINTS`] has them.
    pub points: [Few; 4],
    /// Registers that were as predicted when vCPUs were made, and are not shown.
    pub hidden: u64,
    /// The first pages that were timed, with those before them by which times are read.
    pub timed: Vec<Plot>,
    /// How many were timed in all, those included.
    pub timed_total: usize,
    /// The first changes of SPTEs that map pages.
    pub sptes: Vec<Change>,
    /// How many there are in all.
    pub sptes_total: usize,
    /// The witnesses that watched, by word.
    pub watched: Vec<&'static str>,
    /// What the witnesses of the host's side said: a title, and lines.
    pub said: Vec<(&'static str, Vec<String>)>,
    /// How the VM ended.
    pub end: String,
    /// Lines in the log.
    pub lines: usize,
}

/// A detail as the cell's events come.
#[derive(Debug)]
pub struct Details<'p> {
    points: [Points<'p>; 4],
    /// Index of the guest's first line.
    guest: usize,
    hidden: u64,
    timed: Vec<Plot>,
    timed_total: usize,
}

impl<'p> Details<'p> {
    /// Nothing yet, of a cell that `policy` governs.
    pub fn new(observed: &Observed, policy: &'p str) -> Self {
        let guest = observed.log.iter().position(|line| matches!(line, Line::Guest(_)));
        Details {
            points: MOST_POINTS.map(|most| Points::new(policy, most)),
            guest: guest.unwrap_or(0),
            hidden: 0,
            timed: Vec::new(),
            timed_total: 0,
        }
    }

    /// Takes the next point, and the row of the page if it is one of a timed page.
    pub fn point(&mut self, judged: &Judged<'p>, row: Option<u32>) {
        let kind = match (judged.decision.agrees(), judged.architecture()) {
            (Some(false), _) => 0,
            (None, _) => 1,
            (Some(true), _) if judged.line < self.guest => {
                self.hidden += 1;
                return;
            }
            (Some(true), Some(_)) => 2,
            (Some(true), None) => 3,
        };
        self.points[kind].push(*judged);
        if let Action::Timed(timed) = &judged.decision.action {
            self.page(timed, row, String::new());
        }
    }

    /// Takes a page by which times are read.
    pub fn reference(&mut self, replay: &Replay<'_>, timed: &Timed) {
        let pat = replay.setting(timed).pat;
        self.page(timed, None, pat.map_or_else(|| "-".to_owned(), |pat| pat.to_string()));
    }

    fn page(&mut self, timed: &Timed, row: Option<u32>, reference: String) {
        self.timed_total += 1;
        if self.timed.len() < MOST_TIMED {
            let Timed { cpu, cpl, gpa, pat_entry, nested, times } = timed;
            let entry = pat_entry.map_or("paging off".to_owned(), |entry| format!("PAT entry {entry}"));
            let nested = nested.map_or(String::new(), |ept| format!(", under an EPT leaf of {ept}"));
            let what = format!("vCPU {cpu} at CPL {cpl}, page {gpa:#x}, {entry}{nested}");
            self.timed.push(Plot { row, reference, what, samples: times.iter().collect() });
        }
    }

    /// All of it, with what the witnesses said. `ept` says whether SPTEs are EPT's.
    pub fn finish(self, observed: &Observed, ept: bool) -> Detail {
        let witness = &observed.witness;
        let mut sptes = sptes::changes(observed, ept);
        sptes.retain(|change| !change.table);
        let sptes_total = sptes.len();
        sptes.truncate(MOST_SPTES);
        let mark = |line: &String| format!("{} {line}", if is_finding(line) { '!' } else { ' ' });
        let stats = witness.stats.iter().map(|(name, value)| format!("{name} {value}")).collect();
        let said = [
            ("What they did not see", witness.gaps.clone()),
            ("Newly tainted", witness.taint.clone()),
            ("The kernel's log", witness.kernel_log.iter().take(MOST_LINES).map(mark).collect()),
            ("KVM's statistics at the end", stats),
            ("Events", witness.trace.iter().take(MOST_LINES).cloned().collect()),
        ];
        Detail {
            points: self.points.map(|points| Few { total: points.total, points: points.into_vec() }),
            hidden: self.hidden,
            timed: self.timed,
            timed_total: self.timed_total,
            sptes,
            sptes_total,
            watched: witness.watched.iter().map(|kind| kind.word()).collect(),
            said: said.into_iter().filter(|(_, lines): &(_, Vec<_>)| !lines.is_empty()).collect(),
            end: observed.end.to_string(),
            lines: observed.log.len(),
        }
    }
}
