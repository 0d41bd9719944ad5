//! Model-specific registers. The one module that uses the `x86` crate: for the names of MSRs and for plain reads.

use crate::attempt;
use crate::traps::Came;
use wire::outcome::ReadOutcome;

pub use x86::msr::{APIC_BASE, MC0_CTL, MCG_CAP, MCG_CTL, MCG_STATUS};

/// Reads an MSR that may not be there; 0 where it is not.
#[inline(always)]
pub fn read(index: u32) -> (Came, u64) {
    let (mut low, mut high) = (0u32, 0u32);
    // SAFETY: RDMSR changes nothing but EAX and EDX, and may fault here.
    let came = unsafe {
        attempt!("rdmsr", in("ecx") index, inout("eax") low, inout("edx") high, options(nostack, preserves_flags))
    };
    (came, u64::from(high) << 32 | u64::from(low))
}

/// Reads an MSR that may not be there.
pub fn try_rdmsr(index: u32) -> ReadOutcome {
    let (came, value) = read(index);
    came.fault().map_or(Ok(value), Err)
}

/// Writes an MSR, which may refuse it.
///
/// # Safety
/// The MSR must be one that a write to cannot pull memory or control flow from under the compiler's feet. Memory types
/// (PAT, MTRRs) and machine-check banks are fine.
#[inline(always)]
pub unsafe fn write(index: u32, value: u64) -> Came {
    // SAFETY: as the caller promises; may fault here.
    unsafe {
        attempt!("wrmsr", in("ecx") index, in("eax") value as u32, in("edx") (value >> 32) as u32,
            options(nostack, preserves_flags))
    }
}

/// Reads an architectural MSR that every x86-64 CPU has.
pub fn rdmsr(index: u32) -> u64 {
    // SAFETY: reading an MSR that is there has no effect on memory.
    unsafe { x86::msr::rdmsr(index) }
}
