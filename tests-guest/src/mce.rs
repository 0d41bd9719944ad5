//! Machine checks: setting up the banks, having the VMM inject an event, and reporting all that it left.

use crate::doorbell::{Reply, ring};
use crate::report::Out;
use crate::{cpu, msr, sweep, traps, user};
use wire::outcome::{After, Outcome};
use wire::register::{Place, Register};
use wire::step::{MceEvent, Status, Step};

/// IA32_MCG_CAP.MCG_CTL_P: there is an IA32_MCG_CTL.
pub const CTL_P: u64 = 1 << 8;
/// IA32_MCG_CAP.MCG_SER_P: software error recovery.
pub const SER_P: u64 = 1 << 24;
/// IA32_MCG_STATUS.RIPV: the interrupted program can go on.
pub const RIPV: u64 = 1;
/// IA32_MCG_STATUS.MCIP: a machine check is in progress.
pub const MCIP: u64 = 1 << 2;

// IA32_MCi_STATUS, SDM Vol. 3B "IA32_MCi_STATUS MSRs".
/// The register holds an error.
pub const VAL: u64 = 1 << 63;
/// The error was not corrected.
pub const UC: u64 = 1 << 61;
/// The error was enabled in IA32_MCi_CTL.
pub const EN: u64 = 1 << 60;
/// IA32_MCi_MISC holds more.
pub const MISCV: u64 = 1 << 59;
/// IA32_MCi_ADDR holds the address.
pub const ADDRV: u64 = 1 << 58;
/// The processor's context is corrupt.
pub const PCC: u64 = 1 << 57;

/// IA32_MCi_CTL of bank `bank`; STATUS, ADDR and MISC follow it.
pub fn bank_ctl(bank: u8) -> u32 {
    msr::MC0_CTL + 4 * u32::from(bank)
}

/// An event in `bank` with this status, and an address and extra data that are easy to recognise.
pub fn event(bank: u8, status: u64, mcg_status: u64) -> MceEvent {
    MceEvent { bank, status: status | ADDRV | MISCV, addr: 0xabcd_0000 + u64::from(bank), misc: 0x8c, mcg_status }
}

/// Gives the vCPU that boots `banks` banks with all that every KVM supports, and turns machine checks on.
pub fn set_up(out: &mut Out, banks: u8) {
    ring(Step::SetupMce { cpu: 0, mcg_cap: CTL_P | SER_P | u64::from(banks) });
    switch(out, true);
}

/// Sets or clears CR4.MCE of the vCPU that boots, reads CR4 back, and reports both.
pub fn switch(out: &mut Out, on: bool) {
    let value = cpu::set_mce(on);
    let found = cpu::cr4();
    let after = if found == value { After::AsWritten } else { After::Value(found) };
    out.write(Place::boot(Register::Cr4), value, Outcome { fault: None, after });
}

/// Has the VMM inject `event` while the vCPU that boots rings the doorbell at `cpl`; reports that CPL, a #MC, if one
/// comes, and then IA32_MCG_STATUS and the bank.
///
/// # Panics
/// The VMM did not take the step, so that its log lacks what the report speaks of.
pub fn inject(out: &mut Out, cpl: u8, event: MceEvent) {
    let step = Step::InjectMce { cpu: 0, event };
    let ask = || -> Reply { if cpl == 0 { ring(step) } else { user::run_with_doorbell(|| ring(step)) } };
    out.ring(0, cpl);
    let (reply, trap) = traps::awaiting(1 << traps::MACHINE_CHECK, ask);
    assert!(reply.status != Status::Invalid, "the VMM did not take the step");
    if let Some(trap) = trap {
        out.trap(0, trap);
    }
    report(out, event.bank);
}

/// Reports IA32_MCG_STATUS and the four registers of a bank.
pub fn report(out: &mut Out, bank: u8) {
    out.reads(Place::msr(msr::MCG_STATUS)).push(msr::try_rdmsr(msr::MCG_STATUS));
    let first = bank_ctl(bank);
    let mut runs = out.reads(Place::msr(first));
    (first..first + 4).for_each(|index| runs.push(msr::try_rdmsr(index)));
}

/// Writes to a machine-check MSR of the vCPU that boots, reads it back, and reports both.
pub fn write(out: &mut Out, index: u32, value: u64) {
    assert!((msr::MCG_CAP..=msr::MCG_CTL).contains(&index) || index >= msr::MC0_CTL && index < bank_ctl(32));
    // SAFETY: machine-check banks and their global registers only.
    let outcome = sweep::attempt(value, |value| unsafe { msr::write(index, value) }, || msr::read(index));
    out.write(Place::msr(index), value, outcome);
}
