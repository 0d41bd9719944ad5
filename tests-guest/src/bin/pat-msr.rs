//! Family `pat-msr`: IA32_PAT by RDMSR and WRMSR.
//!
//! What: WRMSR of all 256 values in each byte of IA32_PAT, with what is read back, its value after reset, and what INIT
//! leaves of it.
//!
//! Why: six values are types and all others must raise #GP(0). A value that is accepted but means nothing makes a
//! page's type undefined.
//!
//! Source: SDM Vol. 3A, "IA32_PAT MSR" and "Programming the PAT"; KVM's `arch/x86/kvm/x86.h:kvm_pat_valid`,
//! `arch/x86/kvm/x86.c:kvm_vcpu_reset`.

#![no_std]
#![no_main]

use guest::guard::Guard;
use guest::report::Out;
use guest::smp::Cpu;
use guest::values::{PAT_TYPES, WB, all_differ};
use guest::{msr, sweep};
use wire::layout::PAT;
use wire::needs::Needs;
use wire::record::{Series, Start};
use wire::register::{Place, Register};

guest::family!();

/// Eight rotations of [`PAT_TYPES`] and their mirror images, but with WB in entry 0, by which all is mapped that the
/// guest itself uses. Only `bytes` and `flip` put other types there, because entry 0 is one of their subjects.
const PERMUTED: [u64; 16] = {
    let mut values = [0; _];
    let mut n = 0;
    while n < values.len() {
        let types = if n % 2 == 0 { PAT_TYPES } else { PAT_TYPES.swap_bytes() };
        values[n] = types.rotate_left(8 * (n as u32 / 2)) & !0xff | WB;
        n += 1;
    }
    values
};
const _: () = assert!(all_differ(&PERMUTED), "two permutations of the PAT are the same");

guest::test!("reset", "Reads the PAT as found.", Needs::NONE, points = 1, |out| {
    out.reads(Place::msr(PAT)).push(msr::try_rdmsr(PAT));
});

guest::test!("bytes", "Writes all 256 values to each byte.", Needs::NONE, points = 2048, |out| {
    let _guard = Guard::new();
    (0..8).for_each(|byte| sweep::msr(out, PAT, Series::byte(PAT_TYPES, byte), 256));
});

guest::test!("flip", "Flips each bit of the value found.", Needs::NONE, points = 64, |out| {
    let _guard = Guard::new();
    let base = msr::try_rdmsr(PAT).unwrap_or(PAT_TYPES);
    sweep::msr(out, PAT, Series::Flip { base, first: 0 }, 64);
});

guest::test!(
    "permute",
    "Writes permutations of the types with entry 0 WB, and reads each back.",
    Needs::NONE,
    points = 16,
    |out| {
        let _guard = Guard::new();
        for value in PERMUTED {
            sweep::msr_once(out, PAT, value);
        }
    }
);

guest::test!(
    "init",
    "Writes the PAT of another vCPU, sends it INIT and SIPI, and reads it there again.",
    Needs::cpus(2).and(Needs::APIC),
    points = 5,
    init
);

fn init(out: &mut Out) {
    let cpu = Cpu::start(out, 1, Start::Sipi);
    let place = Place { cpu: 1, register: Register::Msr(PAT) };
    out.reads(place).push(cpu.run(|| msr::try_rdmsr(PAT)));
    out.write(place, PAT_TYPES, cpu.run(|| sweep::write_msr(PAT, PAT_TYPES)));
    cpu.init_sipi(out);
    out.reads(place).push(cpu.run(|| msr::try_rdmsr(PAT)));
}
