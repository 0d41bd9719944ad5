//! Reads a run's log as events, and says where it cannot be believed.

use crate::machine::{End, Line};
use crate::model::{Event, events};
use std::collections::VecDeque;
use wire::host::HostRecord;
use wire::record::{Record, Trap};
use wire::stream::{Item, Reader, StreamError};

/// The most events that a log may hold. The longest test makes a tenth of them; a guest that goes wild, which needs no more than a
/// line for as many as it likes, keeps the judge busy for a second at most.
const MOST_EVENTS: usize = 1 << 18;

/// How many lines of a console are kept.
const LAST_LINES: usize = 4;

/// What a log as a whole says, besides its events.
#[derive(Debug, Default)]
pub struct Account {
    /// The guest's report of this test and this run began.
    pub begun: bool,
    /// How many points the test made: what it did, whatever came of it.
    pub points: u64,
    /// Why the log cannot be believed, and the index of the line.
    pub broken: Option<(usize, String)>,
    /// The guest's report has no end, as it must be where the VM ended before the guest.
    pub unfinished: Option<String>,
    /// The guest's reason to skip.
    pub skip: Option<String>,
    /// How the guest died by its own account.
    pub died: Option<String>,
    /// What a Linux guest printed last.
    pub console: VecDeque<String>,
}

/// Reads `log` of test `test` in run `run` (any, where there is none), and gives each event with the index of its line.
pub fn read(log: &[Line], end: &End, test: &str, run: Option<u64>, mut take: impl FnMut(usize, Event<'_>)) -> Account {
    let (mut reader, mut account, mut count) = (Reader::new(run), Account::default(), 0);
    for (index, line) in log.iter().enumerate() {
        let record = match line {
            Line::Host(record) => {
                account.points += u64::from(is_done(&Event::Host(record)));
                take(index, Event::Host(record));
                continue;
            }
            Line::Console(line) => {
                account.console.push_back(line.clone());
                if account.console.len() > LAST_LINES {
                    account.console.pop_front();
                }
                continue;
            }
            Line::Guest(line) => match reader.line(line) {
                Ok(Some(Item::Record(record))) => record,
                Ok(Some(Item::Begin { test: found, .. })) if found != test => {
                    account.broken = Some((index, format!("the guest runs {found}, not {test}")));
                    return account;
                }
                Ok(Some(Item::Begin { .. })) => {
                    account.begun = true;
                    take(index, Event::Begin);
                    continue;
                }
                Ok(Some(Item::End) | None) => continue,
                Err(error) => {
                    account.broken = Some((index, error.to_string()));
                    return account;
                }
            },
        };
        match &record {
            Record::Skip { reason } => account.skip = Some(reason.clone()),
            Record::Panic { reason } => account.died = Some(format!("the guest gave up: {reason}")),
            Record::Dead { cpu, trap, rip, cr2 } => account.died = Some(death(*cpu, *trap, *rip, *cr2)),
            _ => {}
        }
        for event in events(&record) {
            count += 1;
            if count > MOST_EVENTS {
                account.broken = Some((index, format!("more than {MOST_EVENTS} points")));
                return account;
            }
            account.points += u64::from(is_done(&event));
            take(index, event);
        }
    }
    match reader.finish() {
        Ok(()) => {}
        Err(error @ StreamError::Empty) if *end == End::Exit(wire::layout::EXIT_DONE) => {
            account.broken = Some((log.len(), error.to_string()));
        }
        Err(error) => account.unfinished = Some(error.to_string()),
    }
    take(log.len(), if *end == End::Shutdown { Event::Shutdown } else { Event::End });
    account
}

/// Whether it is something that a test does. What comes by itself is not: it depends on KVM how many MMIO exits or
/// machine checks there are, and the model holds each of them against what was done.
fn is_done(event: &Event<'_>) -> bool {
    match event {
        Event::Write { .. } | Event::Read { .. } => true,
        Event::Host(record) => matches!(record, HostRecord::Step { .. }),
        Event::Guest(record) => {
            use Record::{Access, Aliased, Cpuid, Exec, Ordered, Timed};
            matches!(record, Exec { .. } | Access(_) | Timed(_) | Aliased(_) | Ordered(_) | Cpuid(_))
        }
        Event::Begin | Event::Shutdown | Event::End => false,
    }
}

fn death(cpu: u8, trap: Trap, rip: u64, cr2: u64) -> String {
    let Trap { vector, error, cpl } = trap;
    let address = if vector == 14 { format!(", CR2 {cr2:#x}") } else { String::new() };
    format!(
        "exception {vector} with error code {error:#x} at CPL {cpl}, RIP {rip:#x} of vCPU {cpu}{address}, \
         which the test did not expect"
    )
}
