//! What guests say, and the logs that are made of it.

use crate::config::Set;
use crate::host::facts::Facts;
use crate::judge::{Deviations, Judge, Verdict};
use crate::machine::lines::LineSplitter;
use crate::machine::{End, Line, Observed};
use crate::model::policy::Policies;
use crate::report::Cells;
use crate::selftest::recorded_runs;
use crate::witness::{Kind, Witnessed};
use std::sync::OnceLock;
use wire::frame::{VERSION, checksum};
use wire::host::HostRecord;
use wire::layout::EXIT_DONE;
use wire::step::Step;
use wire::stream::Reader;

/// Run and test of all logs here.
const RUN: u64 = 0x5eed;
const TEST: &str = "memtype/pat";

/// Bytes of a serial line, cut into lines and read as a report.
pub fn bytes(data: &[u8]) -> bool {
    let (mut log, mut splitter) = (Vec::new(), LineSplitter::default());
    // As they come: in pieces.
    data.chunks(7).for_each(|chunk| splitter.push(chunk, &mut log));
    splitter.finish(&mut log);
    let mut reader = Reader::new(None);
    for line in &log {
        if let Line::Guest(line) = line
            && reader.line(line).is_err()
        {
            return false;
        }
    }
    reader.finish().is_ok()
}

/// A record a line, of a guest (`<`) or of the VMM (`>`). The VMM's must print as they were read, and so must the steps in
/// them, through the doorbell.
pub fn records(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    let (mut right, mut next) = (true, 0);
    let mut reader = Reader::new(Some(RUN));
    reader.line(&framed(&mut next, &start())).expect("a start line");
    for line in text.lines() {
        match line.split_at_checked(1) {
            Some(("<", text)) => {
                let number = next;
                // One that is refused is not counted.
                if reader.line(&framed(&mut next, text)).is_err() {
                    (right, next) = (false, number);
                }
            }
            Some((">", text)) => match text.parse::<HostRecord>() {
                Ok(record) => {
                    assert_eq!(record.to_string().parse(), Ok(record), "{text}");
                    if let HostRecord::Step { step, .. } = record {
                        assert_eq!(Step::from_words(step.words()), Some(step), "{text}");
                    }
                }
                Err(_) => right = false,
            },
            _ => right &= line.parse::<Line>().is_ok(),
        }
    }
    right
}

/// What a start line says.
fn start() -> String {
    format!("{VERSION} {RUN:x} {TEST}")
}

/// A line with the next number and a right checksum.
fn framed(next: &mut u32, body: &str) -> String {
    let line = format!("{next:x} {body}");
    *next += 1;
    format!("{line}*{:04x}", checksum(RUN, &line))
}

/// What logs are judged by.
struct Known {
    policies: Vec<Policies>,
    facts: Facts,
}

fn known() -> &'static Known {
    static KNOWN: OnceLock<Known> = OnceLock::new();
    KNOWN.get_or_init(|| {
        let set = Set::load(None).expect("the embedded configurations");
        let policies =
            Policies::load(set.sources("policies").map(|(_, source)| source)).expect("the embedded policies");
        let all = policies.iter().map(|policy| policies.asked(Some(&policy.id)).expect("its own policy")).collect();
        let header = recorded_runs().expect("the recorded runs").remove(0).header;
        let facts = Cells::new(&header).facts(&header.cells[0].id);
        Known { policies: all, facts }
    })
}

/// A log as results have it, but without numbers and checksums: those it gets here. It is judged by each policy in turn, as
/// SPTEs were watched and as they were not. The first byte says which policy, and how the VM ended.
pub fn judged(data: &[u8]) -> bool {
    let Some((&first, data)) = data.split_first() else { return false };
    let text = String::from_utf8_lossy(data);
    let (mut log, mut next) = (Vec::new(), 0);
    for line in text.lines() {
        match (line.strip_prefix('<'), line.parse()) {
            (Some("start"), _) => log.push(Line::Guest(framed(&mut next, &start()))),
            (Some(body), _) => log.push(Line::Guest(framed(&mut next, body))),
            (None, Ok(line)) => log.push(line),
            (None, Err(_)) => {}
        }
    }
    let records = next.saturating_sub(1);
    log.push(Line::Guest(framed(&mut next, &format!("end {records:x}"))));
    let known = known();
    let policies = &known.policies[usize::from(first) % known.policies.len()];
    let end = if first & 0x40 == 0 { End::Exit(EXIT_DONE) } else { End::Shutdown };
    let watched = if first & 0x20 == 0 { [Kind::Sptes].into() } else { Default::default() };
    let observed = Observed { log, end, micros: 1, witness: Witnessed { watched, ..Witnessed::default() } };
    let judgement = Judge::new(policies, &Deviations::none()).cell(TEST, 0, &observed, Some(RUN), &known.facts);
    judgement.verdict != Verdict::Error
}
