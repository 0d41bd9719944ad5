//! Writing a series of values to a register, each read back, reported as runs of equal outcomes.

use crate::report::Out;
use crate::{cr0, msr};
use wire::layout::{MTRR_CAP, MTRR_PHYSBASE0};
use wire::outcome::{After, Fault, Outcome, ReadOutcome};
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
    let write = |value| unsafe { msr::try_wrmsr(index, value) };
    sweep(out, Place::msr(index), series, count, write, || msr::try_rdmsr(index));
}

/// Writes one value to the MSR `index` of this vCPU and reads it back.
pub fn write_msr(index: u32, value: u64) -> Outcome {
    assert!(may_write(index), "a write to an MSR that has nothing to do with memory types");
    let mut before = msr::try_rdmsr(index).ok();
    // SAFETY: memory types only.
    step(value, &mut before, |value| unsafe { msr::try_wrmsr(index, value) }, || msr::try_rdmsr(index))
}

/// Writes one value to the MSR `index` of the vCPU that boots, and reports it.
pub fn msr_once(out: &mut Out, index: u32, value: u64) {
    out.write(Place::msr(index), value, write_msr(index, value));
}

/// Writes the first `count` values of `series` to CR0 by MOV. None may clear PE or PG.
pub fn cr0(out: &mut Out, series: Series, count: u64) {
    assert!((0..count).all(|n| keeps_long_mode(series.value(n))), "a sweep of CR0 that would leave long mode");
    // SAFETY: PE and PG stay.
    let write = |value| unsafe { cr0::try_write(value) };
    sweep(out, Place::boot(Register::Cr0), series, count, write, || Ok(cr0::read()));
}

/// Writes one value to CR0 of this vCPU by MOV and reads it back. It must not clear PE or PG.
pub fn write_cr0(value: u64) -> Outcome {
    assert!(keeps_long_mode(value), "a write to CR0 that would leave long mode");
    // SAFETY: PE and PG stay.
    step(value, &mut Some(cr0::read()), |value| unsafe { cr0::try_write(value) }, || Ok(cr0::read()))
}

/// Writes one value to CR0 of the vCPU that boots by MOV, and reports it. It must not clear PE or PG.
pub fn cr0_once(out: &mut Out, value: u64) {
    out.write(Place::boot(Register::Cr0), value, write_cr0(value));
}

/// LMSW on the vCPU that boots, and reports it.
pub fn lmsw_once(out: &mut Out, value: u16) {
    let outcome = step(value.into(), &mut Some(cr0::read()), |_| cr0::try_lmsw(value), || Ok(cr0::read()));
    out.write(Place::boot(Register::Lmsw), value.into(), outcome);
}

/// CLTS on the vCPU that boots, and reports it as a write of 0.
pub fn clts_once(out: &mut Out) {
    let outcome = step(0, &mut Some(cr0::read()), |_| cr0::try_clts(), || Ok(cr0::read()));
    out.write(Place::boot(Register::Clts), 0, outcome);
}

fn keeps_long_mode(value: u64) -> bool {
    value & (cr0::PE | cr0::PG) == cr0::PE | cr0::PG
}

fn sweep(
    out: &mut Out,
    at: Place,
    series: Series,
    count: u64,
    write: impl Fn(u64) -> Option<Fault>,
    read: impl Fn() -> ReadOutcome,
) {
    let mut before = read().ok();
    let mut runs = out.writes(at, series);
    for n in 0..count {
        runs.push(step(series.value(n), &mut before, &write, &read));
    }
}

/// One write and the read after it. `before` is what the register held before, and then what it holds.
#[inline]
fn step(
    value: u64,
    before: &mut Option<u64>,
    write: impl Fn(u64) -> Option<Fault>,
    read: impl Fn() -> ReadOutcome,
) -> Outcome {
    let fault = write(value);
    let expected = if fault.is_none() { Some(value) } else { *before };
    let after = match read() {
        Ok(found) => {
            *before = Some(found);
            if expected == Some(found) { After::AsWritten } else { After::Value(found) }
        }
        Err(fault) => After::Unreadable(fault.vector),
    };
    Outcome { fault, after }
}
