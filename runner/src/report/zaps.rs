//! What boots cost, a table for each measure with a column for each run: zaps, leaves zapped and made again, ticks and time.
//! All is counted in what was seen between the first and the last step `clock` of a cell.

use super::columns::{Notes, Runs, gap, why_not};
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

/// What a column has of a cost, or the witness that would have to watch.
type Field = fn(&Cost) -> Result<String, Kind>;

/// What each table is about.
const TABLES: [(&str, Field); 5] = [
    ("Zaps", |cost| cost.zaps.map(|zaps| zaps.calls.to_string()).ok_or(Kind::Zaps)),
    ("SPTEs zapped", |cost| cost.leaves.map(|leaves| leaves.zapped.to_string()).ok_or(Kind::Sptes)),
    ("Refaults", |cost| cost.leaves.map(|leaves| leaves.refaults.to_string()).ok_or(Kind::Sptes)),
    ("Ticks in zaps", |cost| cost.zaps.map(|zaps| Millions(zaps.ticks).to_string()).ok_or(Kind::Zaps)),
    ("Ticks and time of the boot", |cost| {
        Ok(format!("{} ({:.1} ms)", Millions(cost.ticks), cost.nanoseconds as f64 / 1e6))
    }),
];

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

    /// Prints the tables, with these names for the runs.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn print(&self, out: &mut impl Write, names: &[String]) -> io::Result<()> {
        let mut notes = Notes::default();
        for (title, field) in TABLES {
            writeln!(out, "## {title}\n\n| boot | VM | memory | vCPUs | {} |", names.join(" | "))?;
            writeln!(out, "|---|---|---|---|{}", "---|".repeat(names.len()))?;
            for (Row { boot, vm, memory, vcpus }, (costs, cells)) in &self.rows {
                let columns = self.runs.iter().enumerate().map(|(n, run)| match costs.get(&n).map(field) {
                    Some(Ok(words)) => words,
                    Some(Err(kind)) => notes.dash(Some(&blind(run, kind))),
                    None => notes.dash(why_not(run, cells)),
                });
                let columns: Vec<String> = columns.collect();
                writeln!(out, "| {boot} | {vm} | {} MiB | {vcpus} | {} |", memory >> 20, columns.join(" | "))?;
            }
            writeln!(out)?;
        }
        write!(out, "{notes}{}", Runs(&self.runs, names))
    }
}

/// Why a run counts nothing of which this witness would know.
fn blind(run: &Run, kind: Kind) -> String {
    let watched = run.header.witnesses.contains(&kind);
    let what = if watched { "saw entries of a format that is not known" } else { "did not watch" };
    format!("the witness of {kind} {what}")
}

/// A number in millions.
struct Millions(u64);

impl fmt::Display for Millions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2}M", self.0 as f64 / 1e6)
    }
}

/// What was booted in a cell: what a replay is of, or what family `linux` is.
fn row(cell: &str, observed: &Observed) -> Row {
    let test = test(cell);
    let (family, name) = test.split_once('/').unwrap_or(("", test));
    let name = name.split('-').next().unwrap_or(name);
    let memory = memory(observed);
    let vcpus = host(observed).filter_map(|record| match record {
        HostRecord::Reset { at, .. } => Some(at.cpu + 1),
        _ => None,
    });
    Row {
        boot: if memory.kernel { format!("{family}, a real {name}") } else { name.to_owned() },
        vm: cell.split_once('@').map_or("default", |(_, vm)| vm).to_owned(),
        memory: memory.bytes(),
        vcpus: vcpus.max().unwrap_or(1),
    }
}

fn host(observed: &Observed) -> impl Iterator<Item = HostRecord> {
    observed.log.iter().filter_map(|line| match line {
        Line::Host(record) => Some(*record),
        Line::Guest(_) | Line::Console(_) => None,
    })
}

/// A guest's memory, as far as what happens to it counts.
#[derive(Debug, Default)]
struct Memory {
    frames: Vec<Range<u64>>,
    /// A kernel runs from it, and uses all of it.
    kernel: bool,
}

impl Memory {
    /// With what a replay itself runs from.
    fn bytes(&self) -> u64 {
        let rest = if self.kernel { 0 } else { RAM };
        rest + self.frames.iter().map(|frames| (frames.end - frames.start) * PAGE).sum::<u64>()
    }

    fn has(&self, gfn: u64) -> bool {
        self.frames.iter().any(|frames| frames.contains(&gfn))
    }
}

/// The memory of a guest: memslots of that kind, or all that a kernel has. What a replay itself runs from is not among
/// it: which of those pages a waiting vCPU touches between two zaps is chance.
fn memory(observed: &Observed) -> Memory {
    host(observed).fold(Memory::default(), |mut memory, record| {
        match record {
            HostRecord::Step {
                step: Step::SetSlot { gpa, pages, memory: SlotMemory::Sparse, .. },
                status: Status::Done,
                ..
            } => memory.frames.push(gpa / PAGE..gpa / PAGE + u64::from(pages)),
            HostRecord::Kernel { memory: bytes, .. } => {
                memory.frames.push(0..bytes / PAGE);
                memory.kernel = true;
            }
            _ => {}
        }
        memory
    })
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

fn leaves(boot: &[HostRecord], format: Format, memory: &Memory) -> Leaves {
    let (mut leaves, mut gone) = (Leaves::default(), HashSet::new());
    for record in boot {
        let HostRecord::Spte { gfn, level, old, new } = *record else { continue };
        let is_leaf = |spte| format.entry(spte, level) == Entry::Leaf;
        match (is_leaf(old), is_leaf(new)) {
            _ if !memory.has(gfn) => {}
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
