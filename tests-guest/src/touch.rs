//! Touching pages of the windows of tests, so that KVM maps them, and timing them.

use crate::doorbell::ring;
use crate::report::Out;
use crate::smp::Cpu;
use crate::{cpu, mmio, slot, timed};
use wire::layout::WINDOW;
use wire::step::{SlotMemory, Step};

/// The slot that [`start`] makes.
pub const SLOT: u8 = 1;

/// Reports on what masks depend and by what times are read, and makes a slot of `pages` pages of 4 KiB with memory of that
/// kind at the start of the test window. Whether it is there: else the test is reported as skipped.
pub fn start(out: &mut Out, pages: u32, memory: SlotMemory) -> bool {
    cpu::report_mtrrs_and_width(out);
    timed::calibrate(out);
    let made = slot::make(out, SLOT, WINDOW, pages, memory);
    ring(Step::Mark);
    made
}

/// Stores to a page that is mapped through entry 0 of the PAT; after a mark, times it.
pub fn touch(out: &mut Out, gpa: u64) {
    touch_by(out, gpa, 0);
}

/// The same of a page that is mapped through another entry.
pub fn touch_by(out: &mut Out, gpa: u64, pat_entry: u8) {
    mmio::write(out, 0, gpa, 8, gpa);
    ring(Step::Mark);
    timed::page(out, gpa, pat_entry);
}

/// The same of a page that is mapped through entry 0, by an application processor if one is given.
pub fn touch_on(out: &mut Out, cpu: Option<&Cpu>, gpa: u64) {
    let Some(cpu) = cpu else { return touch(out, gpa) };
    mmio::write_by(out, cpu, 0, gpa, 8, gpa);
    ring(Step::Mark);
    timed::page_by(out, cpu, gpa, 0);
}

/// Touches each of these pages.
pub fn touch_all(out: &mut Out, pages: &[u64]) {
    pages.iter().for_each(|&gpa| touch(out, gpa));
}
