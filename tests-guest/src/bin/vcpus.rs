//! Family `vcpus`: vCPUs whose MTRRs or CR0.CD differ touch the same pages: KVM maps a page once, for all of them.
//!
//! A mark follows each touch, so that it is certain which came first.

#![no_std]
#![no_main]

use guest::guard::Guard;
use guest::mtrr::{ENABLE, FIXED_ENABLE};
use guest::report::Out;
use guest::smp::Cpu;
use guest::touch::{SLOT, touch_on};
use guest::{cpu, cr0, doorbell, paging, slot, sweep, timed};
use wire::layout::{CR0_CD, MTRR_DEF_TYPE, WINDOW};
use wire::memtype::MemType;
use wire::needs::Needs;
use wire::record::Start;
use wire::register::{Place, Register};
use wire::step::{SlotMemory, Step};

guest::family!();

const RAM: Needs = Needs::STEPS.and(Needs::SLOTS);
const PAGE: u64 = paging::Page::Small.size();
const SLOT_PAGES: u32 = 0x10;
/// The most vCPUs that a test has.
const MOST: usize = 8;

guest::test!(
    "mtrr-2",
    "Two vCPUs whose default types differ touch a page each, and then the one of the next.",
    RAM.and(Needs::cpus(2)),
    points = 31,
    |out| run(out, 2, default_type)
);
guest::test!("mtrr-4", "The same with four vCPUs.", RAM.and(Needs::cpus(4)), points = 49, |out| {
    run(out, 4, default_type);
});
guest::test!("mtrr-8", "The same with eight vCPUs.", RAM.and(Needs::cpus(8)), points = 85, |out| {
    run(out, 8, default_type);
});
guest::test!(
    "cd-2",
    "The same with two vCPUs, whose default type is WT, and of which the second has CR0.CD set.",
    RAM.and(Needs::cpus(2)),
    points = 31,
    |out| run(out, 2, caching)
);
guest::test!(
    "cd-4",
    "The same with four vCPUs, of which every second has CR0.CD set.",
    RAM.and(Needs::cpus(4)),
    points = 49,
    |out| run(out, 4, caching)
);

/// A register, and what a vCPU writes to it.
type Setting = (Register, u64);

/// MTRRs of another default type on each vCPU.
fn default_type(cpu: u8) -> [Setting; 2] {
    // WB first, so that the vCPU that boots runs from cached memory.
    const TYPES: [MemType; 5] = [MemType::Wb, MemType::Uc, MemType::Wt, MemType::Wc, MemType::Wp];
    set(TYPES[usize::from(cpu) % TYPES.len()], false)
}

/// WT on each vCPU, and caching off on every second.
fn caching(cpu: u8) -> [Setting; 2] {
    set(MemType::Wt, !cpu.is_multiple_of(2))
}

fn set(memtype: MemType, cd: bool) -> [Setting; 2] {
    let rest = cr0::read() & !CR0_CD;
    let def_type = ENABLE | FIXED_ENABLE | memtype as u64;
    [(Register::Msr(MTRR_DEF_TYPE), def_type), (Register::Cr0, if cd { rest | CR0_CD } else { rest })]
}

/// Each vCPU sets its registers. Then each touches a page of its own, and after that each the one of the next.
fn run(out: &mut Out, count: u8, settings: fn(u8) -> [Setting; 2]) {
    let _guard = Guard::new();
    cpu::report_mtrrs_and_width(out);
    let reference = timed::calibrate(out);
    let others: [Option<Cpu>; MOST] = core::array::from_fn(|n| {
        let cpu = (1..count).contains(&(n as u8)).then(|| Cpu::start(out, n as u8, Start::Direct))?;
        reference.by(out, &cpu);
        Some(cpu)
    });
    let on = |cpu: u8| others[usize::from(cpu)].as_ref();
    if !slot::make(out, SLOT, WINDOW, SLOT_PAGES, SlotMemory::Small) {
        return;
    }
    for cpu in 0..count {
        for (register, value) in settings(cpu) {
            let write = || match register {
                Register::Msr(index) => sweep::write_msr(index, value),
                _ => sweep::write_cr0(value),
            };
            let outcome = on(cpu).map_or_else(write, |other| other.run(write));
            out.write(Place { cpu, register }, value, outcome);
        }
    }
    doorbell::ring(Step::Mark);
    let page = |cpu: u8| WINDOW + u64::from(cpu) * PAGE;
    for cpu in 0..count {
        touch_on(out, on(cpu), page(cpu));
    }
    for cpu in 0..count {
        touch_on(out, on(cpu), page((cpu + 1) % count));
    }
}
