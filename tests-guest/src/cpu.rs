//! CPUID, the time-stamp counter, and how vCPUs wait.

use core::arch::asm;
use raw_cpuid::native_cpuid::cpuid_count;
use wire::record::CpuidLeaf;

/// What CPUID shows in a leaf, as a record.
pub fn leaf(leaf: u32, subleaf: u32) -> CpuidLeaf {
    let result = cpuid_count(leaf, subleaf);
    CpuidLeaf { leaf, subleaf, registers: [result.eax, result.ebx, result.ecx, result.edx] }
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

/// Whether `done` came true within about a second, by the time-stamp counter. It only has to be long: a healthy vCPU takes
/// microseconds, and a VM's watchdog takes longer.
pub fn wait_until(done: impl Fn() -> bool) -> bool {
    const CYCLES: u64 = 4_000_000_000;
    let start = cycles();
    while !done() {
        if cycles() - start > CYCLES {
            return false;
        }
        core::hint::spin_loop();
    }
    true
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
