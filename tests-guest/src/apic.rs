//! The local APIC in xAPIC mode: just enough to send INIT and SIPI, SDM Vol. 3A "Local APIC".

use crate::{cpu, msr};
use core::ptr::NonNull;
use volatile::VolatilePtr;

/// Spurious-interrupt vector register, as an offset into the APIC's page.
const SVR: u64 = 0xf0;
/// Interrupt command register, low and high half.
const ICR_LOW: u64 = 0x300;
const ICR_HIGH: u64 = 0x310;

/// SVR: the APIC is enabled by software. The spurious vector is 0xff.
const SVR_ENABLED: u32 = 0x1ff;
/// ICR: delivery mode INIT, level assert.
const INIT: u32 = 0x4500;
/// ICR: delivery mode start-up, level assert; the vector is the page number.
const SIPI: u32 = 0x4600;
/// ICR: delivery is pending.
const PENDING: u32 = 1 << 12;

/// Sends INIT to the vCPU whose APIC id is `cpu`, and waits a little, as the target needs time to reset.
pub(crate) fn init(cpu: u8) {
    register(SVR).write(SVR_ENABLED);
    command(cpu, INIT);
    let start = cpu::cycles();
    while cpu::since(start) < 200_000 {
        core::hint::spin_loop();
    }
}

/// Sends SIPI to the vCPU whose APIC id is `cpu`: it starts at page `page`.
pub(crate) fn sipi(cpu: u8, page: u8) {
    command(cpu, SIPI | u32::from(page));
}

fn command(cpu: u8, command: u32) {
    register(ICR_HIGH).write(u32::from(cpu) << 24);
    register(ICR_LOW).write(command);
    assert!(cpu::wait_until(|| register(ICR_LOW).read() & PENDING == 0), "the local APIC does not deliver");
}

fn register(offset: u64) -> VolatilePtr<'static, u32> {
    let base = msr::rdmsr(msr::APIC_BASE) & !0xfff;
    let address = core::ptr::with_exposed_provenance_mut((base + offset) as usize);
    // SAFETY: the APIC's page is mapped, and only raw pointers refer to it.
    unsafe { VolatilePtr::new(NonNull::new_unchecked(address)) }
}
