//! CR0 by MOV, LMSW and CLTS, with faults caught.

use crate::attempt;
use crate::traps::Came;
use core::arch::asm;

/// Protected mode; the bits are described in SDM Vol. 3A "Control Registers".
pub const PE: u64 = 1;
/// Monitor coprocessor.
pub const MP: u64 = 1 << 1;
/// Emulation: x87 and SSE instructions fault.
pub const EM: u64 = 1 << 2;
/// Task switched.
pub const TS: u64 = 1 << 3;
/// Paging.
pub const PG: u64 = 1 << 31;

/// Reads CR0.
#[inline]
pub fn read() -> u64 {
    let value;
    // SAFETY: reads CR0.
    unsafe { asm!("mov {}, cr0", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// MOV to CR0.
///
/// # Safety
/// The value must keep PE and PG, unless it is refused.
#[inline]
pub unsafe fn write(value: u64) -> Came {
    // SAFETY: stays in long mode, as the caller promises; may fault here.
    unsafe { attempt!("mov cr0, {value}", value = in(reg) value, options(nostack, preserves_flags)) }
}

/// LMSW, which loads PE, MP, EM and TS and cannot clear PE.
#[inline]
pub fn lmsw(value: u16) -> Came {
    // SAFETY: guest code uses no FPU instruction, so MP, EM and TS do not matter; may fault here.
    unsafe { attempt!("lmsw {value:x}", value = in(reg) value, options(nostack, preserves_flags)) }
}

/// CLTS, which clears TS.
#[inline]
pub fn clts() -> Came {
    // SAFETY: as for LMSW.
    unsafe { attempt!("clts", options(nostack, preserves_flags)) }
}
