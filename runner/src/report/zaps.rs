//! What boots cost, with a group of columns for each run: zaps, leaves zapped and made again, ticks and time. All is
//! counted in what was seen between the first and the last step `clock` of a cell.

use super::columns::{Notes, Runs, gap, names, why_not};
use super::verdict::{Cells, test};
use crate::host::facts::Facts;
use crate::machine::{Line, Observed};
use crate::model::leaf::{Entry, Format};
use crate::results::{CellOutcome, Run};
use crate::witness::Kind;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::io::{self, Write};
use std::ops::Range;
use wire::host::HostRecord;
use wire::layout::RAM;
use wire::step::{SlotMemory, Status, Step};

const PAGE: u64 = 0x1000;

/// What heads the columns of a run.
const COLUMNS: [&str; 5] = ["zaps", "SPTEs zapped", "refaults", "zap ticks", "boot ticks"];

/// What was booted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    /// As its test calls it.
    boot: String,
    /// Id of the VM configuration.
    vm: String,
    /// Bytes.
    memory: u64,
    vcpus: u8,
}

/// Leaves of the guest's memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Leaves {
    /// How many were zapped; one that was made again counts each time.
    zapped: u64,
    /// How many were made where one had been zapped.
    refaults: u64,
}

/// Calls of KVM's zap.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Zaps {
    calls: u64,
    /// Ticks of the host's time-stamp counter.
    ticks: u64,
}

/// What one boot cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cost {
    /// As far as a witness of them watched.
    zaps: Option<Zaps>,
    /// As far as a witness of SPTEs watched, whose format is known.
    leaves: Option<Leaves>,
    /// Ticks of the guest's time-stamp counter.
    ticks: u64,
    /// The host's time.
    nanoseconds: u64,
}

/// The table.
#[derive(Debug, Default)]
pub struct Boots<'a> {
    runs: Vec<&'a Run>,
    /// What each run shows of a row, and the cells that could.
    rows: BTreeMap<Row, (BTreeMap<usize, Cost>, BTreeSet<&'a str>)>,
}

impl<'a> Boots<'a> {
    /// Adds a run as the next group of columns.
    pub fn add(&mut self, run: &'a Run) {
        let (cells, column) = (Cells::new(&run.header), self.runs.len());
        self.runs.push(run);
        for result in &run.results {
            let CellOutcome::Observed(observed) = &result.outcome else { continue };
            let Some(cost) = cost(observed, &cells.facts(&result.cell)) else { continue };
            let (costs, ids) = self.rows.entry(row(&result.cell, observed)).or_default();
            ids.insert(&result.cell);
            if gap(observed).is_none() {
                costs.insert(column, cost);
            }
        }
    }

    /// Whether no run has a boot.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Prints the table.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let mut notes = Notes::default();
        let heads: Vec<String> =
            names(&self.runs).iter().flat_map(|name| COLUMNS.map(|column| format!("{name}: {column}"))).collect();
        writeln!(out, "| boot | VM | memory | vCPUs | {} |", heads.join(" | "))?;
        writeln!(out, "|---|---|---|---|{}", "---|".repeat(heads.len()))?;
        for (row, (costs, cells)) in &self.rows {
            let columns = self.runs.iter().enumerate().map(|(n, run)| match costs.get(&n) {
                Some(cost) => cost.words(run, &mut notes),
                None => [(); COLUMNS.len()].map(|()| notes.dash(why_not(run, cells))),
            });
            let Row { boot, vm, memory, vcpus } = row;
            let memory = format!("{} MiB", memory >> 20);
            let columns: Vec<String> = columns.flatten().collect();
            writeln!(out, "| {boot} | {vm} | {memory} | {vcpus} | {} |", columns.join(" | "))?;
        }
        write!(out, "\n{notes}{}", Runs(&self.runs))
    }
}

impl Cost {
    fn words(&self, run: &Run, notes: &mut Notes) -> [String; COLUMNS.len()] {
        let off = |kind: Kind| {
            let watched = run.header.witnesses.contains(&kind);
            let what = if watched { "saw entries of a format that is not known" } else { "did not watch" };
            format!("the witness of {kind} {what}")
        };
        let mut or_dash = |number: Option<String>, kind| number.unwrap_or_else(|| notes.dash(Some(&off(kind))));
        [
            or_dash(self.zaps.map(|zaps| zaps.calls.to_string()), Kind::Zaps),
            or_dash(self.leaves.map(|leaves| leaves.zapped.to_string()), Kind::Sptes),
            or_dash(self.leaves.map(|leaves| leaves.refaults.to_string()), Kind::Sptes),
            or_dash(self.zaps.map(|zaps| Millions(zaps.ticks).to_string()), Kind::Zaps),
            format!("{} ({:.1} ms)", Millions(self.ticks), self.nanoseconds as f64 / 1e6),
        ]
    }
}

/// A number in millions.
struct Millions(u64);

impl fmt::Display for Millions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2}M", self.0 as f64 / 1e6)
    }
}

/// What was booted in a cell.
fn row(cell: &str, observed: &Observed) -> Row {
    let test = test(cell);
    let name = test.split_once('/').map_or(test, |(_, name)| name);
    let vcpus = host(observed).filter_map(|record| match record {
        HostRecord::Reset { at, .. } => Some(at.cpu + 1),
        _ => None,
    });
    Row {
        boot: name.split('-').next().unwrap_or(name).to_owned(),
        vm: cell.split_once('@').map_or("default", |(_, vm)| vm).to_owned(),
        memory: RAM + memory(observed).iter().map(|frames| (frames.end - frames.start) * PAGE).sum::<u64>(),
        vcpus: vcpus.max().unwrap_or(1),
    }
}

fn host(observed: &Observed) -> impl Iterator<Item = HostRecord> {
    observed.log.iter().filter_map(|line| match line {
        Line::Host(record) => Some(*record),
        Line::Guest(_) => None,
    })
}

/// The frames of a guest's memory: of memslots of that kind. What the guest itself runs from is not among them: which
/// of those pages a waiting vCPU touches between two zaps is chance.
fn memory(observed: &Observed) -> Vec<Range<u64>> {
    let frames = |record| match record {
        HostRecord::Step {
            step: Step::SetSlot { gpa, pages, memory: SlotMemory::Sparse, .. },
            status: Status::Done,
            ..
        } => Some(gpa / PAGE..gpa / PAGE + u64::from(pages)),
        _ => None,
    };
    host(observed).filter_map(frames).collect()
}

/// What the boot of a cell cost; nothing, where the cell holds none, or one that did not come to its end.
fn cost(observed: &Observed, facts: &Facts) -> Option<Cost> {
    let records: Vec<HostRecord> = host(observed).collect();
    let clock = |record: &HostRecord| match *record {
        HostRecord::Step { step: Step::Clock { ticks }, status: Status::Done, value } => Some((ticks, value)),
        _ => None,
    };
    let from = records.iter().position(|record| clock(record).is_some())?;
    let to = records.iter().rposition(|record| clock(record).is_some()).filter(|&to| to > from)?;
    let ((first, began), (last, ended)) = (clock(&records[from])?, clock(&records[to])?);
    let (boot, watched) = (&records[from..to], |kind| observed.witness.watched.contains(&kind));
    Some(Cost {
        zaps: watched(Kind::Zaps).then(|| zaps(boot)),
        leaves: Format::of(facts)
            .filter(|_| watched(Kind::Sptes))
            .map(|format| leaves(boot, format, &memory(observed))),
        ticks: last.saturating_sub(first),
        nanoseconds: ended.saturating_sub(began),
    })
}

fn zaps(boot: &[HostRecord]) -> Zaps {
    boot.iter().fold(Zaps::default(), |sum, record| match record {
        HostRecord::Zap { ticks, .. } => Zaps { calls: sum.calls + 1, ticks: sum.ticks.saturating_add(*ticks) },
        _ => sum,
    })
}

fn leaves(boot: &[HostRecord], format: Format, memory: &[Range<u64>]) -> Leaves {
    let (mut leaves, mut gone) = (Leaves::default(), HashSet::new());
    for record in boot {
        let HostRecord::Spte { gfn, level, old, new } = *record else { continue };
        let is_leaf = |spte| format.entry(spte, level) == Entry::Leaf;
        match (is_leaf(old), is_leaf(new)) {
            _ if !memory.iter().any(|frames| frames.contains(&gfn)) => {}
            (true, false) => {
                leaves.zapped += 1;
                gone.insert((gfn, level));
            }
            (false, true) if gone.remove(&(gfn, level)) => leaves.refaults += 1,
            _ => {}
        }
    }
    leaves
}

#[cfg(test)]
mod tests;
