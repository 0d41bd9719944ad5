//! CPUID, the time-stamp counter, and how vCPUs wait.

use crate::report::Out;
use core::arch::asm;
use raw_cpuid::native_cpuid::cpuid_count;
use wire::record::CpuidLeaf;

/// What CPUID shows in a leaf, as a record.
pub fn leaf(leaf: u32, subleaf: u32) -> CpuidLeaf {
    let result = cpuid_count(leaf, subleaf);
    CpuidLeaf { leaf, subleaf, registers: [result.eax, result.ebx, result.ecx, result.edx] }
}

/// Reports what the guest is told about MTRRs and about the width of physical addresses, on which reserved bits depend.
pub fn report_mtrrs_and_width(out: &mut Out) {
    out.cpuid(leaf(1, 0));
    out.cpuid(leaf(0x8000_0008, 0));
}

/// MAXPHYADDR: bits of a physical address.
pub fn maxphyaddr() -> u8 {
    leaf(0x8000_0008, 0).registers[0] as u8
}

/// CR3: the physical address of the page tables.
pub fn cr3() -> u64 {
    let value;
    // SAFETY: reads CR3.
    unsafe { asm!("mov {}, cr3", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// CR4.
pub fn cr4() -> u64 {
    let value;
    // SAFETY: reads CR4.
    unsafe { asm!("mov {}, cr4", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// CR4.MCE: machine checks are exceptions, and not the end.
pub const CR4_MCE: u64 = 1 << 6;

/// Sets or clears CR4.MCE and leaves all else as it is; returns what was written to CR4.
pub fn set_mce(on: bool) -> u64 {
    let value = if on { cr4() | CR4_MCE } else { cr4() & !CR4_MCE };
    // SAFETY: a bit that every CPU has and that decides about machine checks alone.
    unsafe { asm!("mov cr4, {}", in(reg) value, options(nostack, preserves_flags)) };
    value
}

/// Whether `done` came true within 4 * 10^9 cycles of the time-stamp counter, one to four seconds on most CPUs.
///
/// It only has to be long: a vCPU that runs natively takes microseconds. An emulator may be a thousand times slower
/// while the counter follows the wall clock, and the VMM may end the VM before this gives up.
pub fn wait_until(done: impl Fn() -> bool) -> bool {
    const CYCLES: u64 = 4_000_000_000;
    let start = cycles();
    while !done() {
        if since(start) > CYCLES {
            return false;
        }
        core::hint::spin_loop();
    }
    true
}

/// Cycles since the time-stamp counter stood at `start`; 0 where it stepped back, as it may when a vCPU moves to
/// another CPU whose counter is behind.
pub fn since(start: u64) -> u64 {
    cycles().saturating_sub(start)
}

/// The time-stamp counter.
pub fn cycles() -> u64 {
    // SAFETY: reads a counter.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Stops this vCPU for good.
pub fn halt() -> ! {
    loop {
        // SAFETY: interrupts are off, so nothing comes after this.
        unsafe { asm!("hlt", options(nomem, nostack)) };
    }
}
