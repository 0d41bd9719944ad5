//! The trace events of this run, and what of them is one cell's.

use super::instance::{self, Instance};
use super::line::Line;
use super::probes::{self, Probes, ZAP, ZAPPED, Zaps};
use super::sptes::{PREPARE_ZAP_PAGE, SET_SPTE, SPTE_CHANGED, Sptes};
use super::{Kind, Kinds};
use std::collections::BTreeSet;
use std::io;
use wire::host::HostRecord;

/// Keeps changes between unused entries out of the buffer: Linux 6.1 tells of all 512 of a table that goes.
const USED: &str = "(old_spte & 7) || (new_spte & 7)";
/// The most lines of events that a cell keeps.
const MOST_LINES: usize = 4096;
/// A filter that lets no event through.
const NOBODY: &str = "common_pid < 0";

/// An instance of tracefs with the events that were asked for.
#[derive(Debug)]
pub struct Tracer {
    instance: Instance,
    /// The events of which only those of a VM's threads are recorded. Changes of SPTEs are not among them: Linux 6.1
    /// zaps in kernel threads.
    of_threads: Vec<String>,
    /// The filter that keeps the others out.
    filter: String,
    /// Kprobes, if zaps are watched. They go after the instance that uses them.
    _probes: Option<Probes>,
}

impl Tracer {
    /// Starts tracing for these witnesses.
    ///
    /// # Errors
    /// What was tried, and what the system says.
    pub fn new(kinds: &Kinds) -> Result<Tracer, String> {
        let tracefs = instance::find()?;
        instance::remove_stale(&tracefs);
        probes::remove_stale(&tracefs);
        let probes = kinds.0.contains(&Kind::Zaps).then(|| Probes::new(&tracefs)).transpose()?;
        let instance = Instance::new(&tracefs, probes.as_ref())?;
        let mut of_threads: Vec<String> = probes.iter().flat_map(Probes::events).collect();
        for kind in &kinds.0 {
            match kind {
                Kind::Sptes => {
                    instance.enable(&format!("kvmmmu/{SET_SPTE}"), None)?;
                    for (name, filter) in [(SPTE_CHANGED, Some(USED)), (PREPARE_ZAP_PAGE, None)] {
                        let event = format!("kvmmmu/{name}");
                        if instance.has(&event) {
                            instance.enable(&event, filter)?;
                        }
                    }
                }
                Kind::Msr => of_threads.push("kvm/kvm_msr".to_owned()),
                Kind::Cr => of_threads.push("kvm/kvm_cr".to_owned()),
                Kind::Exits => of_threads.push("kvm/kvm_exit".to_owned()),
                Kind::Log | Kind::Stats | Kind::Zaps => {}
            }
        }
        for event in &of_threads {
            instance.enable(event, Some(NOBODY))?;
        }
        Ok(Tracer { instance, of_threads, filter: NOBODY.to_owned(), _probes: probes })
    }

    /// Records those events that are a VM's from now on for these threads. Where they are those of the VM before, as
    /// they mostly are, it costs nothing; else the kernel takes milliseconds.
    ///
    /// # Errors
    /// A filter is refused.
    pub fn listen(&mut self, threads: &BTreeSet<i32>) -> Result<(), String> {
        let filter = filter(threads);
        if self.of_threads.is_empty() || filter == self.filter {
            return Ok(());
        }
        self.of_threads.iter().try_for_each(|event| self.instance.filter(event, &filter))?;
        self.filter = filter;
        Ok(())
    }

    /// Drops what has come so far: it is of no cell.
    ///
    /// # Errors
    /// The trace cannot be read.
    pub fn forget(&mut self) -> io::Result<()> {
        self.instance.drain(|_| {}).map(drop)
    }

    /// Hands what has come to a cell, and returns the changes of its SPTEs and its zaps.
    ///
    /// # Errors
    /// The trace cannot be read.
    pub fn drain(&mut self, cell: &mut Traced) -> io::Result<Vec<HostRecord>> {
        let mut changes = Vec::new();
        let all = self.instance.drain(|line| cell.take(line, &mut changes))?;
        cell.cut += u64::from(!all);
        Ok(changes)
    }
}

/// The filter that lets the events of these threads through.
fn filter(threads: &BTreeSet<i32>) -> String {
    let each: Vec<String> = threads.iter().map(|thread| format!("common_pid == {thread}")).collect();
    if each.is_empty() { NOBODY.to_owned() } else { each.join(" || ") }
}

/// What the trace tells of one cell.
#[derive(Debug, Default)]
pub struct Traced {
    /// The threads that run its vCPUs.
    pub threads: BTreeSet<i32>,
    sptes: Sptes,
    zaps: Zaps,
    /// Its events of KVM, as text.
    lines: Vec<String>,
    /// Events that are too many to keep.
    dropped: u64,
    /// Events that the ring buffer lost, at least.
    pub lost: u64,
    /// How often there was no end of events, so that what belongs to a step may come after it.
    pub cut: u64,
}

impl Traced {
    /// Its events of KVM, and what is missing of them.
    pub fn text(&mut self) -> Vec<String> {
        let mut lines = std::mem::take(&mut self.lines);
        if self.dropped > 0 {
            lines.push(format!("and {} events more than a cell keeps", self.dropped));
        }
        if self.lost > 0 && !lines.is_empty() {
            lines.push(format!("{} events were lost: the trace's buffer overflowed", self.lost));
        }
        lines
    }

    /// Takes a line of the trace, and pushes the changes of SPTEs and the zaps that it tells.
    pub fn take(&mut self, line: &str, changes: &mut Vec<HostRecord>) {
        match Line::parse(line) {
            Line::Event(event) if matches!(event.name, "kvm_msr" | "kvm_cr" | "kvm_exit") => {
                if self.threads.contains(&event.tid) {
                    match self.lines.len() < MOST_LINES {
                        true => self.lines.push(format!("{} {}", event.name, event.text)),
                        false => self.dropped += 1,
                    }
                }
            }
            Line::Event(event) if matches!(event.name, ZAP | ZAPPED) => {
                if self.threads.contains(&event.tid) {
                    self.zaps.take(&event, changes);
                }
            }
            Line::Event(event) => self.sptes.take(&event, &self.threads, changes),
            Line::Lost(count) => self.lost += count.unwrap_or(1),
            Line::Other => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traced(lines: &[&str]) -> (Traced, Vec<HostRecord>) {
        let (mut traced, mut changes) = (Traced { threads: [133].into(), ..Traced::default() }, Vec::new());
        lines.iter().for_each(|line| traced.take(line, &mut changes));
        (traced, changes)
    }

    #[test]
    fn a_cell_keeps_the_events_of_its_threads() {
        let (mut cell, changes) = traced(&[
            "# tracer: nop",
            "     kvm-memtype-133     [000] .....    24.237974: kvm_msr: msr_write 206 = 0x800000a7 (#GP)",
            "     qemu-kvm-77         [001] .....    24.237975: kvm_msr: msr_read 2ff = 0x0",
            "     kvm-memtype-133     [000] .....    24.238001: kvm_mmu_set_spte: gfn 1 spte 600000002969b77 (rwxu) level 1 at 8",
            "CPU:1 [LOST 7 EVENTS]",
            "CPU:0 [LOST EVENTS]",
            "     kvm-memtype-133     [000] .....    24.238001: kvm_cr: cr_write 0 = 0xc0000033",
        ]);
        assert_eq!(changes, [HostRecord::Spte { gfn: 1, level: 1, old: 0, new: 0x0600_0000_0296_9b77 }]);
        let lost = "8 events were lost: the trace's buffer overflowed";
        assert_eq!(cell.text(), ["kvm_msr msr_write 206 = 0x800000a7 (#GP)", "kvm_cr cr_write 0 = 0xc0000033", lost]);
        assert_eq!(cell.lost, 8);
    }

    #[test]
    fn a_filter_names_each_thread() {
        assert_eq!(filter(&[].into()), NOBODY);
        assert_eq!(filter(&[7, 133].into()), "common_pid == 7 || common_pid == 133");
    }

    #[test]
    fn what_is_too_much_is_counted() {
        let line = "     kvm-memtype-133     [000] d..1.    24.237974: kvm_exit: vcpu 0 reason HLT";
        let (mut cell, _) = traced(&[line; MOST_LINES + 3]);
        let text = cell.text();
        assert_eq!(text.len(), MOST_LINES + 1);
        assert_eq!(text[MOST_LINES], "and 3 events more than a cell keeps");
    }
}
