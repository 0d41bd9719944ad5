//! The trace events of this run, and what of them is one cell's.

use super::instance::{self, Instance};
use super::line::Line;
use super::sptes::{PREPARE_ZAP_PAGE, SET_SPTE, SPTE_CHANGED, Sptes};
use super::{Kind, Kinds};
use std::collections::BTreeSet;
use std::io;
use wire::host::HostRecord;

/// Keeps changes between unused entries out of the buffer: Linux 6.1 tells of all 512 of a table that goes.
const USED: &str = "(old_spte & 7) || (new_spte & 7)";
/// The most lines of events that a cell keeps.
const MOST_LINES: usize = 4096;

/// An instance of tracefs with the events that were asked for.
#[derive(Debug)]
pub struct Tracer {
    instance: Instance,
}

impl Tracer {
    /// Starts tracing for these witnesses.
    ///
    /// # Errors
    /// What was tried, and what the system says.
    pub fn new(kinds: &Kinds) -> Result<Tracer, String> {
        let tracefs = instance::find()?;
        instance::remove_stale(&tracefs);
        let instance = Instance::new(&tracefs)?;
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
                Kind::Msr => instance.enable("kvm/kvm_msr", None)?,
                Kind::Cr => instance.enable("kvm/kvm_cr", None)?,
                Kind::Exits => instance.enable("kvm/kvm_exit", None)?,
                Kind::Log | Kind::Stats => {}
            }
        }
        Ok(Tracer { instance })
    }

    /// Drops what has come so far: it is of no cell.
    ///
    /// # Errors
    /// The trace cannot be read.
    pub fn forget(&mut self) -> io::Result<()> {
        self.instance.drain(|_| {})
    }

    /// Hands what has come to a cell, and returns the changes of its SPTEs.
    ///
    /// # Errors
    /// The trace cannot be read.
    pub fn drain(&mut self, cell: &mut Traced) -> io::Result<Vec<HostRecord>> {
        let mut changes = Vec::new();
        self.instance.drain(|line| cell.take(line, &mut changes))?;
        Ok(changes)
    }
}

/// What the trace tells of one cell.
#[derive(Debug, Default)]
pub struct Traced {
    /// The threads that run its vCPUs.
    pub threads: BTreeSet<i32>,
    sptes: Sptes,
    /// Its events of KVM, as text.
    lines: Vec<String>,
    /// Events that are too many to keep.
    dropped: u64,
    /// Events that the ring buffer lost, at least.
    pub lost: u64,
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

    fn take(&mut self, line: &str, changes: &mut Vec<HostRecord>) {
        match Line::parse(line) {
            Line::Event(event) if matches!(event.name, "kvm_msr" | "kvm_cr" | "kvm_exit") => {
                if self.threads.contains(&event.tid) {
                    match self.lines.len() < MOST_LINES {
                        true => self.lines.push(format!("{} {}", event.name, event.text)),
                        false => self.dropped += 1,
                    }
                }
            }
            Line::Event(event) => self.sptes.take(&event, &self.threads, changes),
            Line::Lost(count) => self.lost += count.unwrap_or(1),
            Line::Other => {}
        }
    }
}
