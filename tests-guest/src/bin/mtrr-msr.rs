//! Family `mtrr-msr`: every MTRR MSR and its neighbours by RDMSR and WRMSR.
//!
//! What: RDMSR and WRMSR of every MTRR MSR and of its neighbours: each type in each byte, each reserved bit, masks of
//! each shape, and what is read back.
//!
//! Why: a hypervisor that accepts what silicon refuses, or the other way round, breaks guests that probe. The memory
//! type of a page cannot be right where the register that asks for it is wrong.
//!
//! Source: SDM Vol. 3A, "IA32_MTRR_DEF_TYPE MSR", "Fixed Range MTRRs", "Variable Range MTRRs"; KVM's
//! `arch/x86/kvm/mtrr.c:kvm_mtrr_valid`, `kvm_mtrr_set_msr`.

#![no_std]
#![no_main]

use core::ops::RangeInclusive;
use guest::guard::{Guard, RANGE_MTRRS};
use guest::report::Out;
use guest::values::{ENABLED, FIXED_TYPES, VALID, own};
use guest::{cpu, msr, sweep};
use wire::layout::{FIXED_MTRRS, MTRR_CAP, MTRR_DEF_TYPE, MTRR_PHYSBASE0, VARIABLE_MTRRS};
use wire::needs::Needs;
use wire::record::Series;
use wire::register::Place;

guest::family!();

/// MSRs around the MTRRs that are none. 0x280 to 0x29f are IA32_MCi_CTL2, 0x277 is the PAT.
const NEIGHBOURS: [RangeInclusive<u32>; 6] =
    [0x210..=0x24f, 0x251..=0x257, 0x25a..=0x267, 0x270..=0x276, 0x278..=0x27f, 0x2a0..=0x2fe];

guest::test!("read", "Reads MTRRcap, all MTRRs and all neighbours.", Needs::NONE, points = 224, |out| {
    read(out, MTRR_CAP..=MTRR_CAP);
    read(out, MTRR_DEF_TYPE..=MTRR_DEF_TYPE);
    read(out, MTRR_PHYSBASE0..=MTRR_PHYSBASE0 + 2 * VARIABLE_MTRRS - 1);
    for index in FIXED_MTRRS {
        read(out, index..=index);
    }
    NEIGHBOURS.into_iter().for_each(|range| read(out, range));
});

guest::test!(
    "neighbours",
    "Writes 0 to 7 to each MSR between and around the MTRRs.",
    Needs::NONE,
    points = 1560,
    |out| {
        for index in NEIGHBOURS.into_iter().flatten() {
            sweep::msr(out, index, small(), 8);
        }
    }
);

guest::test!("cap", "Writes to MTRRcap, which is read-only.", Needs::NONE, points = 73, |out| {
    sweep::msr(out, MTRR_CAP, small(), 8);
    let base = msr::try_rdmsr(MTRR_CAP).unwrap_or(0);
    sweep::msr_once(out, MTRR_CAP, base);
    sweep::msr(out, MTRR_CAP, Series::Flip { base, first: 0 }, 64);
});

guest::test!(
    "fixed",
    "Writes all 256 values to each byte of each fixed-range MTRR.",
    Needs::NONE,
    points = 22_528,
    |out| {
        let _guard = Guard::new();
        for index in FIXED_MTRRS {
            (0..8).for_each(|byte| sweep::msr(out, index, Series::byte(FIXED_TYPES, byte), 256));
        }
    }
);

guest::test!(
    "def-type",
    "Writes all types, flips each bit and all of E and FE in MTRRdefType.",
    Needs::NONE,
    points = 644,
    |out| {
        let _guard = Guard::new();
        for base in [0, ENABLED] {
            sweep::msr(out, MTRR_DEF_TYPE, Series::byte(base, 0), 256);
            sweep::msr(out, MTRR_DEF_TYPE, Series::Flip { base, first: 0 }, 64);
        }
        // FE and E are bits 10 and 11.
        sweep::msr(out, MTRR_DEF_TYPE, Series::Field { base: 6, lsb: 10, width: 2, first: 0 }, 4);
    }
);

guest::test!("base", "Writes all 256 types and flips each bit of each PHYSBASE.", Needs::NONE, points = 2562, |out| {
    let _guard = Guard::new();
    cpu::report_mtrrs_and_width(out);
    for pair in 0..VARIABLE_MTRRS {
        let index = MTRR_PHYSBASE0 + 2 * pair;
        sweep::msr(out, index, Series::byte(0x8000_0000, 0), 256);
        sweep::msr(out, index, Series::Flip { base: 0x8000_0006, first: 0 }, 64);
    }
});

guest::test!("mask", "Flips each bit of each PHYSMASK with V clear and set.", Needs::NONE, points = 1538, |out| {
    let _guard = Guard::new();
    cpu::report_mtrrs_and_width(out);
    for pair in 0..VARIABLE_MTRRS {
        let index = MTRR_PHYSBASE0 + 2 * pair + 1;
        for base in [0, VALID, 0xf000_0000 | VALID] {
            sweep::msr(out, index, Series::Flip { base, first: 0 }, 64);
        }
    }
});

guest::test!(
    "mask-shape",
    "Writes discontiguous masks, and masks of all ones up to each bit.",
    Needs::NONE,
    points = 618,
    |out| {
        let _guard = Guard::new();
        cpu::report_mtrrs_and_width(out);
        for valid in [0, VALID] {
            for top in 12..64 {
                sweep::msr_once(out, MTRR_PHYSBASE0 + 1, (u64::MAX >> (63 - top)) & !0xfff | valid);
            }
            // Each pattern in bits 12 to 19, so that all small holes are there.
            let series = Series::Field { base: 0xf_0000_0000 | valid, lsb: 12, width: 8, first: 0 };
            sweep::msr(out, MTRR_PHYSBASE0 + 1, series, 256);
        }
    }
);

guest::test!(
    "program",
    "Gives every MTRR a value of its own, in two orders, and reads all back.",
    Needs::NONE,
    points = 112,
    |out| {
        let _guard = Guard::new();
        let mut order = RANGE_MTRRS;
        for (round, def_type) in [ENABLED, 0x801].into_iter().enumerate() {
            for index in order {
                sweep::msr_once(out, index, own(index, round as u64));
            }
            order.reverse();
            sweep::msr_once(out, MTRR_DEF_TYPE, def_type);
            read(out, MTRR_PHYSBASE0..=MTRR_PHYSBASE0 + 2 * VARIABLE_MTRRS - 1);
            FIXED_MTRRS.into_iter().for_each(|index| read(out, index..=index));
            read(out, MTRR_DEF_TYPE..=MTRR_DEF_TYPE);
        }
    }
);

/// The values 0 to 7.
const fn small() -> Series {
    Series::Field { base: 0, lsb: 0, width: 3, first: 0 }
}

fn read(out: &mut Out, range: RangeInclusive<u32>) {
    let mut runs = out.reads(Place::msr(*range.start()));
    range.for_each(|index| runs.push(msr::try_rdmsr(index)));
}
