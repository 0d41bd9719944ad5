//! Which leaf SPTEs KVM made, in which state of the VM, and what it zapped: tables in Markdown with a column for each
//! run. They are made from what was seen; no prediction is in them. Cells of which witnesses missed something are left out.

use super::columns::{Notes, Runs, gap, names, why_not};
use super::leaves_words::{Shown, zaps};
use super::verdict::{Cells, test};
use crate::host::facts::Facts;
use crate::judge::Judge;
use crate::model::leaf::LeafType;
use crate::model::policy::{PolicyError, ZapEvent};
use crate::model::{Action, Effect, Event, Interval, Situation};
use crate::results::{CellOutcome, Run};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use wire::host::HostRecord;
use wire::memtype::MemType;
use wire::step::{SlotType, Status, Step};

/// When the VM had its device with non-coherent DMA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dma {
    /// Never.
    Never,
    /// Before its first vCPU was made, and since.
    Always,
    /// It came while the guest ran.
    Plugged,
    /// It came and went.
    Unplugged,
}

/// What memory is behind a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Memory {
    /// Anonymous memory of the VMM.
    Ram,
    /// The same in a read-only memslot.
    ReadOnly,
    /// A PCI BAR of the host.
    HostMmio,
}

/// How a VM is set up, guest MTRRs aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Setup {
    /// KVM_X86_QUIRK_IGNORE_GUEST_PAT is disabled.
    pub pat_quirk_off: bool,
    /// KVM_X86_QUIRK_CD_NW_CLEARED is disabled.
    pub cd_quirk_off: bool,
    /// Non-coherent DMA.
    pub dma: Dma,
}

/// What a row is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Row<'a> {
    /// Leaves, where KVM up to 6.10 finds the same type in the guest's MTRRs as the SDM says.
    Leaf {
        /// The VM.
        setup: Setup,
        /// CR0.CD of the vCPU that faulted.
        cd: bool,
        /// What is behind the page.
        memory: Memory,
        /// The memslot's flag of a memory type.
        typed: SlotType,
    },
    /// Leaves where it finds another type, and non-coherent DMA makes that matter: in a test, for pages of this type.
    Lookup(&'a str, MemType),
    /// What an event zaps.
    Zap(ZapEvent, Setup),
}

/// Which table a row stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Leaf,
    Lookup,
    Zap,
}

/// The tables, with their titles and what heads their first column.
const TABLES: [(Kind, &str, &str); 3] = [
    (Kind::Leaf, "Leaf SPTEs", "state of the VM"),
    (Kind::Lookup, "Where KVM up to 6.10 reads MTRRs in another way than the SDM", "test and page"),
    (Kind::Zap, "Leaves zapped", "event and state of the VM afterwards"),
];

/// What a run shows of a row.
#[derive(Debug, Default)]
pub struct Seen {
    /// Leaves, by the type that the guest's MTRRs give by the SDM.
    pub leaves: BTreeMap<MemType, BTreeSet<LeafType>>,
    /// How many leaves were gone after an event, of all that were there.
    pub zapped: BTreeSet<(usize, usize)>,
}

/// The tables.
#[derive(Debug, Default)]
pub struct Leaves<'a> {
    runs: Vec<&'a Run>,
    /// What each run shows, and the cells that could.
    rows: BTreeMap<Row<'a>, (Vec<Seen>, BTreeSet<&'a str>)>,
}

impl<'a> Leaves<'a> {
    /// Adds a run as the next column.
    ///
    /// # Errors
    /// No policy governs a cell, so that its log cannot be replayed.
    pub fn add(&mut self, judge: &Judge<'_>, run: &'a Run) -> Result<(), PolicyError> {
        let (cells, column) = (Cells::new(&run.header), self.runs.len());
        self.runs.push(run);
        for result in &run.results {
            let CellOutcome::Observed(observed) = &result.outcome else { continue };
            let cell = result.cell.as_str();
            let facts = cells.facts(cell);
            let mut setup = Setup::of(&facts);
            if gap(observed).is_some() {
                continue;
            }
            let zaps_seen = facts.is("tdp-mmu");
            judge.replay(test(cell), observed, cells.run_id(cell), &facts, |replay, event, decisions, _| {
                if let Event::Host(HostRecord::Step { step, status: Status::Done, .. }) = event {
                    // A step may disable quirks, too.
                    setup = Setup { dma: setup.dma.after(*step), ..Setup::of(replay.facts()) };
                }
                for decision in decisions {
                    if let (Action::Leaf { gpa, .. }, Effect::Leaf(leaf)) = (decision.action, decision.seen) {
                        let Some(situation) = replay.situation(gpa) else { continue };
                        let row = Row::of(test(cell), setup, situation);
                        self.seen(row, column, cell).leaves.entry(situation.mtrr).or_default().insert(leaf);
                    }
                }
                if !zaps_seen || !matches!(event, Event::Host(HostRecord::Step { step: Step::Mark, .. })) {
                    return;
                }
                // Of two kinds of events nobody knows which of them zapped.
                let Interval { events, gone, of } = replay.interval();
                if let (Some(&event), 1, 1..) = (events.first(), events.len(), *of) {
                    self.seen(Row::Zap(event, setup), column, cell).zapped.insert((*gone, *of));
                }
            })?;
        }
        Ok(())
    }

    fn seen(&mut self, row: Row<'a>, column: usize, cell: &'a str) -> &mut Seen {
        let (seen, cells) = self.rows.entry(row).or_default();
        cells.insert(cell);
        seen.resize_with(seen.len().max(column + 1), Seen::default);
        &mut seen[column]
    }

    /// Prints the tables.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let (mut notes, names) = (Notes::default(), names(&self.runs));
        for (kind, title, head) in TABLES {
            let rows: Vec<_> = self.rows.iter().filter(|(row, _)| row.kind() == kind).collect();
            if rows.is_empty() {
                continue;
            }
            writeln!(out, "## {title}\n\n| {head} | {} |", names.join(" | "))?;
            writeln!(out, "|---|{}", "---|".repeat(names.len()))?;
            for (row, (seen, cells)) in rows {
                let columns = self.runs.iter().enumerate().map(|(n, run)| match (row, seen.get(n)) {
                    (Row::Zap(..), Some(seen)) if !seen.zapped.is_empty() => zaps(&seen.zapped),
                    (_, Some(seen)) if !seen.leaves.is_empty() => Shown(&seen.leaves).to_string(),
                    _ => notes.dash(why_not(run, cells)),
                });
                writeln!(out, "| {row} | {} |", columns.collect::<Vec<_>>().join(" | "))?;
            }
            writeln!(out)?;
        }
        write!(out, "{notes}{}", Runs(&self.runs, &names))
    }
}

impl Memory {
    /// What is behind a page in that situation.
    pub(super) fn of(situation: Situation) -> Memory {
        match (situation.host_mmio, situation.readonly) {
            (true, _) => Memory::HostMmio,
            (_, true) => Memory::ReadOnly,
            _ => Memory::Ram,
        }
    }
}

impl Setup {
    fn of(facts: &Facts) -> Setup {
        let off = |quirk| facts.bool(quirk) == Some(false);
        let dma = if facts.is("non-coherent-dma") { Dma::Always } else { Dma::Never };
        Setup { pat_quirk_off: off("ignore-guest-pat"), cd_quirk_off: off("cd-nw-cleared"), dma }
    }
}

impl Dma {
    fn after(self, step: Step) -> Dma {
        match step {
            Step::PlugDma => Dma::Plugged,
            Step::UnplugDma => Dma::Unplugged,
            _ => self,
        }
    }
}

impl<'a> Row<'a> {
    fn kind(&self) -> Kind {
        match self {
            Row::Leaf { .. } => Kind::Leaf,
            Row::Lookup(..) => Kind::Lookup,
            Row::Zap(..) => Kind::Zap,
        }
    }

    fn of(test: &'a str, setup: Setup, situation: Situation) -> Row<'a> {
        let Situation { typed, dma, cd, mtrr, kvm_mtrr, .. } = situation;
        let memory = Memory::of(situation);
        if dma && !cd && mtrr != kvm_mtrr && typed == SlotType::Plain {
            Row::Lookup(test, mtrr)
        } else {
            Row::Leaf { setup, cd, memory, typed }
        }
    }
}

#[cfg(test)]
mod tests;
