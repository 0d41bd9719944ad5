//! Writing a series of values to a register, each read back, reported as runs of equal outcomes.

use crate::report::Out;
use crate::traps::Came;
use crate::{cr0, msr};
use wire::layout::{MTRR_CAP, MTRR_PHYSBASE0};
use wire::outcome::{After, Outcome};
use wire::record::Series;
use wire::register::{Place, Register};

/// MSRs that a sweep may write to: MTRRcap, and the MTRRs, the PAT and their neighbours.
fn may_write(index: u32) -> bool {
    index == MTRR_CAP || (MTRR_PHYSBASE0..MTRR_PHYSBASE0 + 0x100).contains(&index)
}

/// Writes the first `count` values of `series` to the MSR `index`.
pub fn msr(out: &mut Out, index: u32, series: Series, count: u64) {
    assert!(may_write(index), "a sweep of an MSR that has nothing to do with memory types");
    // SAFETY: memory types only.
    let write = |value| unsafe { msr::write(index, value) };
    sweep(out, Place::msr(index), series, count, write, || msr::read(index));
}

/// Writes one value to the MSR `index` of this vCPU and reads it back.
pub fn write_msr(index: u32, value: u64) -> Outcome {
    assert!(may_write(index), "a write to an MSR that has nothing to do with memory types");
    // SAFETY: memory types only.
    attempt(value, |value| unsafe { msr::write(index, value) }, || msr::read(index))
}

/// Writes one value to the MSR `index` of the vCPU that boots, and reports it.
pub fn msr_once(out: &mut Out, index: u32, value: u64) {
    out.write(Place::msr(index), value, write_msr(index, value));
}

/// Writes the first `count` values of `series` to CR0 by MOV. None may clear PE or PG.
pub fn cr0(out: &mut Out, series: Series, count: u64) {
    assert!((0..count).all(|n| keeps_long_mode(series.value(n))), "a sweep of CR0 that would leave long mode");
    // SAFETY: PE and PG stay.
    let write = |value| unsafe { cr0::write(value) };
    sweep(out, Place::boot(Register::Cr0), series, count, write, read_cr0);
}

/// Writes one value to CR0 of this vCPU by MOV and reads it back. It must not clear PE or PG.
pub fn write_cr0(value: u64) -> Outcome {
    assert!(keeps_long_mode(value), "a write to CR0 that would leave long mode");
    // SAFETY: PE and PG stay.
    attempt(value, |value| unsafe { cr0::write(value) }, read_cr0)
}

/// Writes one value to CR0 of the vCPU that boots by MOV, and reports it. It must not clear PE or PG.
pub fn cr0_once(out: &mut Out, value: u64) {
    out.write(Place::boot(Register::Cr0), value, write_cr0(value));
}

/// LMSW on the vCPU that boots, and reports it.
pub fn lmsw_once(out: &mut Out, value: u16) {
    let outcome = attempt(value.into(), |_| cr0::lmsw(value), read_cr0);
    out.write(Place::boot(Register::Lmsw), value.into(), outcome);
}

/// CLTS on the vCPU that boots, and reports it as a write of 0.
pub fn clts_once(out: &mut Out) {
    let outcome = attempt(0, |_| cr0::clts(), read_cr0);
    out.write(Place::boot(Register::Clts), 0, outcome);
}

fn keeps_long_mode(value: u64) -> bool {
    value & (cr0::PE | cr0::PG) == cr0::PE | cr0::PG
}

fn read_cr0() -> (Came, u64) {
    (Came::NOTHING, cr0::read())
}

/// Writes a series of values. A run of values that do as the one before, the common case, costs no more than comparing
/// three numbers each.
fn sweep(
    out: &mut Out,
    at: Place,
    series: Series,
    count: u64,
    write: impl Fn(u64) -> Came,
    read: impl Fn() -> (Came, u64),
) {
    let mut before = held(read());
    let mut runs = out.writes(at, series);
    // What came of the last write, if its register then held what it should, and how many more did the same.
    let (mut last, mut more) = (None, 0);
    for n in 0..count {
        let value = series.value(n);
        let came = write(value);
        let (unread, found) = read();
        if let (Some(last), Some(before)) = (last, before.as_mut())
            && came == last
            && unread.is_nothing()
            && found == if came.is_nothing() { value } else { *before }
        {
            *before = found;
            more += 1;
            continue;
        }
        if let Some(last) = last.take() {
            runs.push_equal(as_written(last), more);
            more = 0;
        }
        let outcome = outcome(value, before, came, (unread, found));
        runs.push(outcome);
        last = (outcome.after == After::AsWritten).then_some(came);
        before = held((unread, found)).or(before);
    }
    if let Some(last) = last {
        runs.push_equal(as_written(last), more);
    }
}

/// Writes one value and reads the register before and after.
pub(crate) fn attempt(value: u64, write: impl Fn(u64) -> Came, read: impl Fn() -> (Came, u64)) -> Outcome {
    let before = held(read());
    let came = write(value);
    outcome(value, before, came, read())
}

/// What a register holds, if it can be read.
fn held((unread, found): (Came, u64)) -> Option<u64> {
    unread.is_nothing().then_some(found)
}

fn as_written(came: Came) -> Outcome {
    Outcome { fault: came.fault(), after: After::AsWritten }
}

/// What came of writing `value` to a register that held `before`, and what was read then.
fn outcome(value: u64, before: Option<u64>, came: Came, (unread, found): (Came, u64)) -> Outcome {
    let expected = if came.is_nothing() { Some(value) } else { before };
    let after = match unread.fault() {
        Some(fault) => After::Unreadable(fault.vector),
        None if expected == Some(found) => After::AsWritten,
        None => After::Value(found),
    };
    Outcome { fault: came.fault(), after }
}
