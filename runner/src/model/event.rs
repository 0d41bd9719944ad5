//! What happens in a run, one thing at a time: series and runs of a record are taken apart.

use wire::host::HostRecord;
use wire::outcome::{Outcome, ReadOutcome};
use wire::record::Record;
use wire::register::{Place, Register};

/// One thing that happened.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the fields say what they are")]
pub enum Event<'a> {
    /// The guest's report starts.
    Begin,
    /// The runner's own account.
    Host(&'a HostRecord),
    /// One write to a register.
    Write { at: Place, value: u64, outcome: Outcome },
    /// One read of a register.
    Read { at: Place, outcome: ReadOutcome },
    /// Another record of the guest.
    Guest(&'a Record),
    /// The VM shut down on a triple fault.
    Shutdown,
    /// The VM ended in another way.
    End,
}

/// The events of a guest's record. Each value of a series and each register of a range is one.
pub fn events(record: &Record) -> impl Iterator<Item = Event<'_>> {
    let writes = match record {
        Record::Writes { at, series, runs } => Some(
            runs.iter()
                .flat_map(|run| (0..run.count).map(|_| run.outcome))
                .enumerate()
                .map(|(n, outcome)| Event::Write { at: *at, value: series.value(n as u64), outcome }),
        ),
        _ => None,
    };
    let reads = match record {
        Record::Reads { first, runs } => Some(
            runs.iter()
                .flat_map(|run| (0..run.count).map(|_| run.outcome))
                .enumerate()
                .map(|(n, outcome)| Event::Read { at: nth(*first, n), outcome }),
        ),
        _ => None,
    };
    let other = match record {
        Record::Writes { .. } | Record::Reads { .. } => None,
        Record::Write { at, value, outcome } => Some(Event::Write { at: *at, value: *value, outcome: *outcome }),
        other => Some(Event::Guest(other)),
    };
    writes.into_iter().flatten().chain(reads.into_iter().flatten()).chain(other)
}

/// The register `n` after `first`; only MSRs have successors.
fn nth(first: Place, n: usize) -> Place {
    match first.register {
        Register::Msr(index) => Place { register: Register::Msr(index.wrapping_add(n as u32)), ..first },
        _ => first,
    }
}
