//! What goes wrong with a log: lines that are lost, come twice, in another order, or say something else.
//!
//! Each function changes a log and says whether it found what it changes.

use crate::machine::{End, Line, Observed};
use wire::frame::{VERSION, checksum};
use wire::host::HostRecord;
use wire::step::{Status, Step};

/// The indices of the guest's records: the lines of its report between start and end.
fn records(observed: &Observed) -> Vec<usize> {
    let is_record = |line: &Line| matches!(line, Line::Guest(line) if body(line).is_some_and(|it| !it.starts_with("end ") && !it.starts_with(VERSION)));
    (0..observed.log.len()).filter(|&at| is_record(&observed.log[at])).collect()
}

/// A line's text behind its number and before its checksum.
fn body(line: &str) -> Option<&str> {
    Some(line.rsplit_once('*')?.0.split_once(' ')?.1)
}

/// Gives all lines of a report their numbers and checksums anew, and its end the count: a guest that garbles what it says
/// before it is framed.
fn reframe(observed: &mut Observed, run: u64) {
    let mut next = 0u32;
    for line in &mut observed.log {
        let Line::Guest(line) = line else { continue };
        let Some(text) = body(line) else { continue };
        let text = match text.starts_with("end ") {
            true => format!("{next:x} end {:x}", next.saturating_sub(1)),
            false => format!("{next:x} {text}"),
        };
        *line = format!("{text}*{:04x}", checksum(run, &text));
        next += 1;
    }
}

/// Changes the text of the first record that `change` takes, with a right checksum.
fn rewrite(observed: &mut Observed, run: u64, change: impl Fn(&str) -> Option<String>) -> bool {
    for at in records(observed) {
        let Line::Guest(line) = &mut observed.log[at] else { continue };
        let number = line.split(' ').next().unwrap_or_default().to_owned();
        if let Some(text) = body(line).and_then(&change) {
            let text = format!("{number} {text}");
            *line = format!("{text}*{:04x}", checksum(run, &text));
            return true;
        }
    }
    false
}

/// The last value that was read is another one, by one bit.
pub fn value(observed: &mut Observed, run: u64) -> bool {
    rewrite(observed, run, |text| {
        let (what, value) = text.strip_prefix("r ")?.rsplit_once('=')?;
        let value = u64::from_str_radix(value, 16).ok()?;
        Some(format!("r {what}={:x}", value ^ 2))
    })
}

/// A record is not there.
pub fn lost(observed: &mut Observed, _: u64) -> bool {
    let middle = records(observed);
    middle.get(middle.len() / 2).map(|&at| observed.log.remove(at)).is_some()
}

/// A record comes twice.
pub fn twice(observed: &mut Observed, _: u64) -> bool {
    let middle = records(observed);
    middle.get(middle.len() / 2).map(|&at| observed.log.insert(at, observed.log[at].clone())).is_some()
}

/// A bit of a record is another one.
pub fn garbled(observed: &mut Observed, _: u64) -> bool {
    let Some(Line::Guest(line)) = records(observed).first().map(|&at| &mut observed.log[at]) else { return false };
    let mut bytes = line.clone().into_bytes();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    *line = String::from_utf8_lossy(&bytes).into_owned();
    true
}

/// The report stops in the middle, and the guest claims to be done.
pub fn torn(observed: &mut Observed, _: u64) -> bool {
    let middle = records(observed);
    middle.get(middle.len() / 2).map(|&at| observed.log.truncate(at)).is_some()
}

/// The guest leaves records out and counts right.
pub fn short(observed: &mut Observed, run: u64) -> bool {
    let writes = |at: &usize| matches!(&observed.log[*at], Line::Guest(line) if body(line).is_some_and(|it| it.starts_with("s ")));
    let Some(last) = records(observed).into_iter().rfind(writes) else { return false };
    observed.log.remove(last);
    reframe(observed, run);
    true
}

/// The report is that of another run.
pub fn stale(observed: &mut Observed, run: u64) -> bool {
    for line in &mut observed.log {
        if let Line::Guest(line) = line
            && let Some(text) =
                line.rsplit_once('*').map(|(text, _)| text.replace(&format!("{run:x}"), &format!("{:x}", run + 1)))
        {
            *line = format!("{text}*{:04x}", checksum(run + 1, &text));
        }
    }
    true
}

/// The VMM says that the VM ended in another way.
pub fn ending(observed: &mut Observed, _: u64) -> bool {
    observed.end = End::Shutdown;
    true
}

/// The place of the VMM's record of a step.
fn step(observed: &Observed, wanted: fn(&Step) -> bool) -> Option<usize> {
    observed.log.iter().position(|line| matches!(line, Line::Host(HostRecord::Step { step, .. }) if wanted(step)))
}

fn is_plug(step: &Step) -> bool {
    matches!(step, Step::PlugDma)
}

fn is_get(step: &Step) -> bool {
    matches!(step, Step::GetMsr { .. })
}

/// The VMM plugged a device in and did not say so.
pub fn step_lost(observed: &mut Observed, _: u64) -> bool {
    step(observed, is_plug).map(|at| observed.log.remove(at)).is_some()
}

/// It says so twice.
pub fn step_twice(observed: &mut Observed, _: u64) -> bool {
    step(observed, is_plug).map(|at| observed.log.insert(at, observed.log[at].clone())).is_some()
}

/// It says so too late: behind the next two steps, and with them behind an access.
pub fn step_late(observed: &mut Observed, _: u64) -> bool {
    let Some(at) = step(observed, is_plug) else { return false };
    let is_step = |line: &Line| matches!(line, Line::Host(HostRecord::Step { .. }));
    let Some(next) = (at + 1..observed.log.len()).filter(|&at| is_step(&observed.log[at])).nth(1) else { return false };
    observed.log[at..=next].rotate_left(1);
    true
}

/// KVM_SET_MSRS and KVM_GET_MSRS after it are told in the other order.
pub fn steps_swapped(observed: &mut Observed, _: u64) -> bool {
    let tells = |pair: &[Line]| match pair {
        [
            Line::Host(HostRecord::Step { step: Step::SetMsr { value: set, .. }, status: Status::Done, .. }),
            Line::Host(HostRecord::Step { step: Step::GetMsr { .. }, value, .. }),
        ] => *set != 0 && set == value,
        _ => false,
    };
    let found = observed.log.windows(2).position(tells);
    found.map(|at| observed.log.swap(at, at + 1)).is_some()
}

/// What KVM_GET_MSRS gave is another value, by one bit.
pub fn step_value(observed: &mut Observed, _: u64) -> bool {
    let Some(at) = step(observed, is_get) else { return false };
    let Line::Host(HostRecord::Step { value, .. }) = &mut observed.log[at] else { return false };
    *value ^= 1;
    true
}

/// Changes the first leaf that is made in the test window.
fn leaf(observed: &mut Observed, change: u64) -> bool {
    let found = observed.log.iter_mut().find_map(|line| match line {
        Line::Host(HostRecord::Spte { gfn: 0xd0000, level: 1, new, .. }) => Some(new),
        _ => None,
    });
    found.map(|new| *new ^= change).is_some()
}

/// A leaf of type WB was UC: bits 5:3 of an EPT entry.
pub fn leaf_type(observed: &mut Observed, _: u64) -> bool {
    leaf(observed, 6 << 3)
}

/// A leaf without IPAT had it: bit 6.
pub fn leaf_ipat(observed: &mut Observed, _: u64) -> bool {
    leaf(observed, 1 << 6)
}

/// No SPTE was seen at all.
pub fn blind(observed: &mut Observed, _: u64) -> bool {
    let before = observed.log.len();
    observed.log.retain(|line| !matches!(line, Line::Host(HostRecord::Spte { .. })));
    observed.log.len() < before
}

/// The leaves that a device zaps stayed.
pub fn zaps_unseen(observed: &mut Observed, _: u64) -> bool {
    let before = observed.log.len();
    observed.log.retain(
        |line| !matches!(line, Line::Host(HostRecord::Spte { level: 1, new, .. }) if !crate::witness::is_used(*new)),
    );
    observed.log.len() < before
}

/// The trace lost events.
pub fn gap(observed: &mut Observed, _: u64) -> bool {
    observed.witness.gaps.push("7 trace events were lost, SPTEs perhaps among them".to_owned());
    true
}

/// The kernel warned.
pub fn warning(observed: &mut Observed, _: u64) -> bool {
    let line = "WARNING: CPU: 0 PID: 137 at arch/x86/kvm/mmu/mmu.c:6447 kvm_zap_gfn_range+0x1f3/0x210 [kvm]";
    observed.witness.kernel_log.push(line.to_owned());
    true
}

/// The times of the first page of this word are those of the first page of that one.
fn times(observed: &mut Observed, run: u64, from: fn(&str) -> bool, to: fn(&str) -> bool) -> bool {
    let texts: Vec<String> = records(observed)
        .into_iter()
        .filter_map(|at| match &observed.log[at] {
            Line::Guest(line) => body(line).map(str::to_owned),
            _ => None,
        })
        .collect();
    let Some((_, times)) = texts.iter().find(|text| from(text)).and_then(|text| text.split_once(" load ")) else {
        return false;
    };
    let times = times.to_owned();
    rewrite(observed, run, |text| Some(format!("{} load {times}", text.split_once(" load ").filter(|_| to(text))?.0)))
}

/// A page of entry 0, which is WB, takes the time of one of entry 4, which is UC.
pub fn time(observed: &mut Observed, run: u64) -> bool {
    times(observed, run, |text| text.starts_with("a ") && text.contains(" 4 - "), |text| text.starts_with("a "))
}

/// A page under an EPT leaf of type UC takes the time of one under WB.
pub fn nested_time(observed: &mut Observed, run: u64) -> bool {
    times(observed, run, |text| text.starts_with("a ") && text.contains(" WB load 78 "), |text| text.starts_with("a "))
}

/// The page that shows what WB takes was not cached.
pub fn reference(observed: &mut Observed, run: u64) -> bool {
    let wb = |text: &str| text.starts_with("q ") && text.contains(" 0 - ");
    times(observed, run, |text| text.starts_with("q ") && text.contains(" 3 - "), wb)
}

/// No page was timed by which times could be read.
pub fn uncalibrated(observed: &mut Observed, run: u64) -> bool {
    let before = observed.log.len();
    let is_reference =
        |line: &Line| matches!(line, Line::Guest(line) if body(line).is_some_and(|it| it.starts_with("q ")));
    observed.log.retain(|line| !is_reference(line));
    reframe(observed, run);
    observed.log.len() < before
}
