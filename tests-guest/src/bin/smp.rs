//! Family `smp`: the registers of memory types are each vCPU's own, however it was started.
//!
//! What: two and four vCPUs, started by INIT and SIPI and directly by the VMM, each with values of its own in MTRRs,
//! PAT and CR0, which they report when all have been set.
//!
//! Why: these registers are per CPU. A hypervisor that keeps one of them for the VM, or resets it for a vCPU that
//! starts, shows only with several.
//!
//! Source: SDM Vol. 3A, "Processor State After Reset" and "MTRR Considerations in MP Systems"; KVM's
//! `arch/x86/kvm/x86.c:kvm_vcpu_reset`, `kvm_arch_vcpu_create`.

#![no_std]
#![no_main]

use guest::cr0;
use guest::report::Out;
use guest::smp::Cpu;
use guest::values::WB;
use guest::{msr, sweep};
use wire::layout::{CR0_CD, CR0_NW, MTRR_DEF_TYPE, MTRR_PHYSBASE0, PAT};
use wire::needs::Needs;
use wire::outcome::{Outcome, ReadOutcome};
use wire::record::Start;
use wire::register::{Place, Register};

guest::family!();

/// What each vCPU writes: one register of each kind, and CR0.
const REGISTERS: [Register; 6] = [
    Register::Msr(PAT),
    Register::Msr(0x250),
    Register::Msr(MTRR_PHYSBASE0 + 4),
    Register::Msr(MTRR_PHYSBASE0 + 5),
    Register::Msr(MTRR_DEF_TYPE),
    Register::Cr0,
];

const SIPI: Needs = Needs::APIC;
const DIRECT: Needs = Needs::STEPS;

guest::test!(
    "sipi-2",
    "Two vCPUs, the second started by SIPI, each with state of its own.",
    SIPI.and(Needs::cpus(2)),
    points = 37,
    |out| {
        own_state(out, 2, Start::Sipi);
    }
);
guest::test!(
    "sipi-4",
    "Four vCPUs started by SIPI, each with state of its own.",
    SIPI.and(Needs::cpus(4)),
    points = 75,
    |out| {
        own_state(out, 4, Start::Sipi);
    }
);
guest::test!(
    "direct-2",
    "Two vCPUs, the second started by the VMM, each with state of its own.",
    DIRECT.and(Needs::cpus(2)),
    points = 37,
    |out| {
        own_state(out, 2, Start::Direct);
    }
);
guest::test!(
    "direct-4",
    "Four vCPUs started by the VMM, each with state of its own.",
    DIRECT.and(Needs::cpus(4)),
    points = 75,
    |out| {
        own_state(out, 4, Start::Direct);
    }
);

/// Has each vCPU read, then each write, then each read again.
fn own_state(out: &mut Out, count: u8, how: Start) {
    let others: [Option<Cpu>; 4] =
        core::array::from_fn(|n| (1..count).contains(&(n as u8)).then(|| Cpu::start(out, n as u8, how)));
    let on = |cpu: u8| others[usize::from(cpu)].as_ref();
    for cpu in 0..count {
        report(out, cpu, on(cpu).map_or_else(read_all, |other| other.run(read_all)));
    }
    for cpu in 0..count {
        let written = on(cpu).map_or_else(|| write_all(0), |other| other.run(|| write_all(cpu)));
        for (register, (value, outcome)) in REGISTERS.into_iter().zip(written) {
            out.write(Place { cpu, register }, value, outcome);
        }
    }
    for cpu in 0..count {
        report(out, cpu, on(cpu).map_or_else(read_all, |other| other.run(read_all)));
    }
}

fn report(out: &mut Out, cpu: u8, found: [ReadOutcome; REGISTERS.len()]) {
    for (register, outcome) in REGISTERS.into_iter().zip(found) {
        out.reads(Place { cpu, register }).push(outcome);
    }
}

/// Reads the registers on the vCPU that runs this.
fn read_all() -> [ReadOutcome; REGISTERS.len()] {
    REGISTERS.map(|register| match register {
        Register::Msr(index) => msr::try_rdmsr(index),
        _ => Ok(cr0::read()),
    })
}

/// Writes to the registers on the vCPU that runs this: to MSRs a value that no other vCPU writes, to CR0 what
/// [`next_cr0`] says.
fn write_all(cpu: u8) -> [(u64, Outcome); REGISTERS.len()] {
    const TYPES: [u64; 4] = [0, 1, 4, 5];
    let kind = TYPES[usize::from(cpu) % TYPES.len()];
    REGISTERS.map(|register| match register {
        Register::Msr(index) => {
            let value = match index {
                MTRR_DEF_TYPE => 0xc00 | kind,
                _ if index == MTRR_PHYSBASE0 + 4 => (u64::from(cpu) + 8) << 28 | kind,
                _ if index == MTRR_PHYSBASE0 + 5 => 0xf_0000_0800 | 0xf000_0000 << cpu & 0xffff_f000,
                // The PAT and the fixed-range MTRR: one type in every byte, and in the lowest WB, since entry 0 of the
                // PAT maps all that the guest itself uses.
                _ => WB | (kind * 0x0101_0101_0101_0100),
            };
            (value, sweep::write_msr(index, value))
        }
        _ => {
            let value = next_cr0(cpu);
            (value, sweep::write_cr0(value))
        }
    })
}

/// CR0 of the vCPU that runs this with another legal combination of CD and NW. There are three, so vCPUs must share
/// them: even ones take the one before, odd ones the one after. So neighbours differ where all found the same, as when
/// the VMM starts them, and where application processors found both bits set, as INIT leaves them, and the vCPU that
/// boots neither.
fn next_cr0(cpu: u8) -> u64 {
    const LEGAL: [u64; 3] = [0, CR0_CD, CR0_CD | CR0_NW];
    let found = cr0::read();
    let at = LEGAL.iter().position(|&combination| combination == found & (CR0_CD | CR0_NW)).unwrap_or(0);
    found & !(CR0_CD | CR0_NW) | LEGAL[(at + if cpu.is_multiple_of(2) { 2 } else { 1 }) % LEGAL.len()]
}
