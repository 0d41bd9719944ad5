//! Memslots of the test window with memory of a kind that not every host has.

use crate::doorbell;
use crate::report::Out;
use wire::step::{SlotApi, SlotMemory, Status, Step};

/// Makes memslot `slot` of `pages` pages of 4 KiB at `gpa`, without flags. Whether there is one now: where the host has
/// no such memory at the moment, the test is reported as skipped.
pub fn make(out: &mut Out, slot: u8, gpa: u64, pages: u32, memory: SlotMemory) -> bool {
    let made = doorbell::ring(Step::SetSlot { api: SlotApi::V1, slot, flags: 0, gpa, pages, memory });
    if made.status == Status::NoMemory {
        out.skip("the host has no memory of that kind left for a memslot");
    }
    made.status == Status::Done
}
