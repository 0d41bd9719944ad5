//! Witnesses at work: those of a run, and their watch over one cell.

use super::kmsg::KernelLog;
use super::tracer::{Traced, Tracer};
use super::{Kind, Kinds, Witnessed, once, taint};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use wire::host::HostRecord;

/// What a VMM owes the witnesses of a cell, and what they tell it. It is plain data, so that the VMM may live in another
/// process than the witnesses, which need privileges.
pub trait Watching: fmt::Debug + Sync {
    /// What is asked of the VMM.
    fn wants(&self) -> Wants;

    /// This thread runs a vCPU of the cell's VM from now on.
    fn thread(&self, thread: libc::pid_t);

    /// The changes of SPTEs and the zaps since the last time.
    fn sptes(&self) -> Vec<HostRecord>;

    /// Something is missing of what was witnessed.
    fn gap(&self, what: &str);

    /// KVM's statistics of the VM and its vCPUs at its end, added up.
    fn stats(&self, stats: BTreeMap<String, u64>);
}

/// What witnesses ask of a VMM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wants {
    /// That it names its threads, and takes the changes of SPTEs into its log.
    pub trace: bool,
    /// That it reads KVM's statistics.
    pub stats: bool,
}

/// The witnesses of a run.
#[derive(Debug, Default)]
pub struct Witnesses {
    kinds: Kinds,
    tracer: Option<Mutex<Tracer>>,
    log: Option<Mutex<KernelLog>>,
}

impl Witnesses {
    /// Starts these.
    ///
    /// # Errors
    /// What was tried, and what the system says.
    pub fn start(kinds: &Kinds) -> Result<Witnesses, String> {
        let tracer = match kinds.0.iter().any(|kind| kind.traces()) {
            true => Some(Mutex::new(Tracer::new(kinds)?)),
            false => None,
        };
        let log = match kinds.0.contains(&Kind::Log) {
            true => Some(Mutex::new(KernelLog::open().map_err(|error| format!("cannot open /dev/kmsg: {error}"))?)),
            false => None,
        };
        Ok(Witnesses { kinds: kinds.clone(), tracer, log })
    }

    /// Which these are.
    pub fn kinds(&self) -> &Kinds {
        &self.kinds
    }

    /// Begins a cell; nothing if there is no witness. What came before is of no cell. Where the kernel's log is watched and
    /// `warn_again` is set, the kernel gives warnings of once a boot again.
    pub fn watch(&self, warn_again: bool) -> Option<Watch<'_>> {
        if self.kinds.0.is_empty() {
            return None;
        }
        let mut witnessed = Witnessed { watched: self.kinds.0.clone(), ..Witnessed::default() };
        if let Some(Err(error)) = self.tracer.as_ref().map(|tracer| lock(tracer).forget()) {
            witnessed.gaps.push(format!("the trace cannot be read: {error}"));
        }
        if let Some(Err(error)) = self.log.as_ref().map(|log| lock(log).news()) {
            witnessed.gaps.push(format!("the kernel's log cannot be read: {error}"));
        }
        if self.log.is_some() && warn_again {
            once::again();
        }
        let cell = Mutex::new(Cell { traced: Traced::default(), witnessed });
        Some(Watch { witnesses: self, cell, taint: taint::read().filter(|_| self.log.is_some()) })
    }
}

/// The watch over one cell.
#[derive(Debug)]
pub struct Watch<'a> {
    witnesses: &'a Witnesses,
    cell: Mutex<Cell>,
    /// The kernel's taint at the beginning.
    taint: Option<u64>,
}

#[derive(Debug)]
struct Cell {
    traced: Traced,
    witnessed: Witnessed,
}

impl Watching for Watch<'_> {
    fn wants(&self) -> Wants {
        Wants { trace: self.witnesses.tracer.is_some(), stats: self.witnesses.kinds.0.contains(&Kind::Stats) }
    }

    fn thread(&self, thread: libc::pid_t) {
        let mut cell = lock(&self.cell);
        cell.traced.threads.insert(thread);
        let heard = self.witnesses.tracer.as_ref().map(|tracer| lock(tracer).listen(&cell.traced.threads));
        if let Some(Err(error)) = heard {
            cell.witnessed.gaps.push(error);
        }
    }

    fn sptes(&self) -> Vec<HostRecord> {
        let Some(tracer) = &self.witnesses.tracer else { return Vec::new() };
        let mut cell = lock(&self.cell);
        lock(tracer).drain(&mut cell.traced).unwrap_or_else(|error| {
            cell.witnessed.gaps.push(format!("the trace cannot be read: {error}"));
            Vec::new()
        })
    }

    fn gap(&self, what: &str) {
        lock(&self.cell).witnessed.gaps.push(what.to_owned());
    }

    fn stats(&self, stats: BTreeMap<String, u64>) {
        lock(&self.cell).witnessed.stats = stats;
    }
}

impl Watch<'_> {
    /// Ends the watch, when the VM is gone: what a kernel has to say of the end belongs to the cell.
    pub fn end(self) -> Witnessed {
        let Cell { mut traced, mut witnessed } = self.cell.into_inner().unwrap_or_else(PoisonError::into_inner);
        witnessed.trace = traced.text();
        let mut counts = vec![(traced.cut, "times trace events came faster than they are read")];
        if [Kind::Sptes, Kind::Zaps].iter().any(|kind| witnessed.watched.contains(kind)) {
            counts.push((traced.lost, "trace events were lost, SPTEs perhaps among them"));
        }
        if let Some(log) = &self.witnesses.log {
            match lock(log).news() {
                Ok(news) => {
                    witnessed.kernel_log = news.lines;
                    counts.push((news.more, "lines of the kernel's log more than a cell keeps"));
                    counts.push((news.lost, "lines of the kernel's log were overwritten before they were read"));
                }
                Err(error) => witnessed.gaps.push(format!("the kernel's log cannot be read: {error}")),
            }
        }
        if let (Some(before), Some(now)) = (self.taint, taint::read()) {
            witnessed.taint = taint::names(now & !before);
        }
        let some = counts.into_iter().filter(|&(count, _)| count > 0);
        witnessed.gaps.extend(some.map(|(count, what)| format!("{count} {what}")));
        witnessed
    }
}

/// A lock whose holder panicked still guards values that are whole enough to tell what was seen.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
