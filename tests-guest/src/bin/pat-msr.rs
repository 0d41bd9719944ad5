//! Family `pat-msr`: IA32_PAT by RDMSR and WRMSR.

#![no_std]
#![no_main]

use guest::guard::Guard;
use guest::report::Out;
use guest::smp::Cpu;
use guest::{msr, sweep};
use wire::layout::PAT;
use wire::needs::Needs;
use wire::record::{Series, Start};
use wire::register::{Place, Register};

guest::family!();

/// The eight entries, each with another type where there are enough: UC, WC, WT, WP, WB, UC-, WB, WT.
const DISTINCT: u64 = 0x0406_0706_0504_0100;

guest::test!("reset", "Reads the PAT as found.", Needs::NONE, points = 1, |out| {
    out.reads(Place::msr(PAT)).push(msr::try_rdmsr(PAT));
});

guest::test!("bytes", "Writes all 256 values to each byte.", Needs::NONE, points = 2048, |out| {
    let _guard = Guard::new();
    (0..8).for_each(|byte| sweep::msr(out, PAT, Series::byte(DISTINCT, byte), 256));
});

guest::test!("flip", "Flips each bit of the value found.", Needs::NONE, points = 64, |out| {
    let _guard = Guard::new();
    let base = msr::try_rdmsr(PAT).unwrap_or(DISTINCT);
    sweep::msr(out, PAT, Series::Flip { base, first: 0 }, 64);
});

guest::test!(
    "permute",
    "Writes eight distinct rotations and their mirror images, and reads each back.",
    Needs::NONE,
    points = 16,
    |out| {
        let _guard = Guard::new();
        for turn in 0..8 {
            for value in [DISTINCT.rotate_left(8 * turn), DISTINCT.swap_bytes().rotate_left(8 * turn)] {
                sweep::msr_once(out, PAT, value);
            }
        }
    }
);

guest::test!(
    "init",
    "Writes the PAT of another vCPU, sends it INIT and SIPI, and reads it there again.",
    Needs::cpus(2).and(Needs::APIC),
    points = 3,
    init
);

fn init(out: &mut Out) {
    let cpu = Cpu::start(out, 1, Start::Sipi);
    let place = Place { cpu: 1, register: Register::Msr(PAT) };
    out.reads(place).push(cpu.run(|| msr::try_rdmsr(PAT)));
    out.write(place, DISTINCT, cpu.run(|| sweep::write_msr(PAT, DISTINCT)));
    cpu.init_sipi(out);
    out.reads(place).push(cpu.run(|| msr::try_rdmsr(PAT)));
}
