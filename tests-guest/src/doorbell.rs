//! The doorbell: asking the VMM for a host step.

use core::arch::asm;
use wire::layout::DOORBELL_PORT;
use wire::step::{Status, Step, StepBlock};

/// What came of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// How it went.
    pub status: Status,
    /// What it replied with; 0 for a step that replies with nothing.
    pub value: u64,
}

/// A block where the VMM looks for it: aligned, so that it does not cross a page.
#[repr(C, align(128))]
struct Aligned(StepBlock);

/// Has the VMM do `step`. Works at CPL3 too, where the I/O permission bitmap allows the port.
pub fn ring(step: Step) -> Reply {
    let mut block = Aligned(StepBlock { words: step.words(), reply: [0; 2] });
    let address = (&raw mut block).expose_provenance() as u32;
    // SAFETY: the VMM writes the reply words of the block and nothing else, which the compiler must expect of an asm
    // block that may touch memory.
    unsafe { asm!("out dx, eax", in("dx") DOORBELL_PORT, in("eax") address, options(nostack, preserves_flags)) };
    let [status, value] = block.0.reply;
    Reply { status: Status::from_word(status), value }
}
