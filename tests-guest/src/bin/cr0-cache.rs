//! Family `cr0-cache`: CR0.CD and NW, and the instructions that control caches.
//!
//! What: MOV to CR0 with CD and NW in all combinations and with reserved bits, LMSW, CLTS and INIT, each with what CR0
//! holds afterwards; then WBINVD, INVD, WBNOINVD, CLFLUSH, CLFLUSHOPT and CLWB at CPL0 and CPL3.
//!
//! Why: CR0.CD is the switch by which a guest turns caching off, NW without CD is invalid and must raise #GP(0), and a
//! hypervisor emulates each of these instructions by a path of its own.
//!
//! Source: SDM Vol. 3A, "Control Registers" and "Cache Control Registers and Bits", Vol. 2 for the instructions; KVM's
//! `arch/x86/kvm/x86.c:kvm_is_valid_cr0`, `kvm_set_cr0` (since 7.2 in regs.c), `kvm_emulate_wbinvd`.

#![no_std]
#![no_main]

use guest::cr0::{EM, MP, PE, TS};
use guest::guard::Guard;
use guest::report::Out;
use guest::smp::Cpu;
use guest::{cache, cr0, sweep};
use wire::insn::Insn;
use wire::layout::{CR0_CD, CR0_NW};
use wire::needs::Needs;
use wire::record::{Series, Start};
use wire::register::{Place, Register};

guest::family!();

/// All of CD and NW. The architecture has no use for NW without CD.
const COMBINATIONS: [u64; 4] = [0, CR0_NW, CR0_CD, CR0_CD | CR0_NW];

guest::test!("mov", "Moves each CD/NW combination to CR0 after each other one.", Needs::NONE, points = 32, |out| {
    let _guard = Guard::new();
    for from in COMBINATIONS {
        for to in COMBINATIONS {
            sweep::cr0_once(out, with(from));
            sweep::cr0_once(out, with(to));
        }
    }
});

guest::test!("bits", "Flips each bit of CR0 from 6 to 63 but PG.", Needs::NONE, points = 57, |out| {
    let _guard = Guard::new();
    let base = cr0::read();
    sweep::cr0(out, Series::Flip { base, first: 6 }, 31 - 6);
    sweep::cr0(out, Series::Flip { base, first: 32 }, 32);
});

guest::test!(
    "lmsw",
    "LMSW of values with PE, with each legal combination of CD and NW set.",
    Needs::NONE,
    points = 54,
    |out| {
        let _guard = Guard::new();
        for combination in [0, CR0_CD, CR0_CD | CR0_NW] {
            for value in [PE, PE | MP, PE | EM, PE | TS, PE | MP | EM | TS, 0x10 | PE, 0x20 | PE, 0xfff1, 0xffff] {
                sweep::cr0_once(out, with(combination));
                sweep::lmsw_once(out, value as u16);
            }
        }
    }
);

guest::test!(
    "clts",
    "CLTS with TS set and clear, with each legal combination of CD and NW set.",
    Needs::NONE,
    points = 9,
    |out| {
        let _guard = Guard::new();
        for combination in [0, CR0_CD, CR0_CD | CR0_NW] {
            sweep::cr0_once(out, with(combination) | TS);
            sweep::clts_once(out);
            sweep::clts_once(out);
        }
    }
);

guest::test!(
    "init",
    "Sets each legal combination of CD and NW on another vCPU, sends it INIT and SIPI, reads its CR0 in real mode.",
    Needs::cpus(2).and(Needs::APIC),
    points = 7,
    init
);

fn init(out: &mut Out) {
    let cpu = Cpu::start(out, 1, Start::Sipi);
    let place = Place { cpu: 1, register: Register::Cr0 };
    for combination in [0, CR0_CD, CR0_CD | CR0_NW] {
        let value = cpu.run(|| with(combination));
        out.write(place, value, cpu.run(|| sweep::write_cr0(value)));
        cpu.init_sipi(out);
    }
}

guest::test!("wbinvd", "WBINVD at CPL0 and at CPL3.", Needs::NONE, points = 3, |out| {
    cache::exercise(out, Insn::Wbinvd, &[0, 3]);
});
guest::test!("invd", "INVD at CPL0 and at CPL3.", Needs::NONE, points = 3, |out| {
    cache::exercise(out, Insn::Invd, &[0, 3]);
});
guest::test!("wbnoinvd", "WBNOINVD at CPL0.", Needs::NONE, points = 2, |out| {
    cache::exercise(out, Insn::Wbnoinvd, &[0]);
});
guest::test!("wbnoinvd-user", "WBNOINVD at CPL3.", Needs::NONE, points = 2, |out| {
    cache::exercise(out, Insn::Wbnoinvd, &[3]);
});
guest::test!("clflush", "CLFLUSH at CPL0 and CPL3.", Needs::NONE, points = 3, |out| {
    cache::exercise(out, Insn::Clflush, &[0, 3]);
});
guest::test!("clflushopt", "CLFLUSHOPT at CPL0 and CPL3.", Needs::NONE, points = 3, |out| {
    cache::exercise(out, Insn::Clflushopt, &[0, 3]);
});
// Apart, because there are KVMs whose emulator of CPL0 does not know CLWB and gives up the VM.
guest::test!("clwb", "CLWB at CPL0.", Needs::NONE, points = 2, |out| cache::exercise(out, Insn::Clwb, &[0]));
guest::test!("clwb-user", "CLWB at CPL3.", Needs::NONE, points = 2, |out| cache::exercise(out, Insn::Clwb, &[3]));

/// CR0 as it is, with this combination of CD and NW.
fn with(combination: u64) -> u64 {
    cr0::read() & !(CR0_CD | CR0_NW) | combination
}
