//! Family `vcpus`: vCPUs whose MTRRs or CR0.CD differ touch the same pages: KVM maps a page once, for all of them.
//!
//! A mark follows each touch, so that it is certain which came first.
//!
//! What: two to eight vCPUs with other default types in their MTRRs, or with other CR0.CD, touch a page each, and then
//! the page of the next, and time it. MTRRs of one vCPU and of the other change while pages are in use.
//!
//! Why: registers are per vCPU, but a page has one leaf, made with the state of the vCPU that faulted first. What the
//! others get depends on who came first, and the SDM forbids such a state altogether.
//!
//! Source: SDM Vol. 3A, "MTRR Considerations in MP Systems"; KVM's `arch/x86/kvm/vmx/vmx.c:vmx_get_mt_mask`, which is
//! given the vCPU that faulted, and `arch/x86/kvm/mmu/spte.c:make_spte`.

#![no_std]
#![no_main]

use guest::doorbell::ring;
use guest::guard::Guard;
use guest::mtrr::{ENABLE, mask, pair, program};
use guest::report::Out;
use guest::smp::Cpu;
use guest::sweep::{msr_once, write_cr0};
use guest::touch::{SLOT, touch_all, touch_on};
use guest::{cpu, cr0, paging, slot, timed};
use wire::layout::{CR0_CD, MTRR_DEF_TYPE, MTRR_PHYSBASE0, WINDOW};
use wire::memtype::MemType;
use wire::needs::Needs;
use wire::record::Start;
use wire::register::{Place, Register};
use wire::step::{SlotMemory, Step};

guest::family!();

const RAM: Needs = Needs::STEPS.and(Needs::SLOTS);
const PAGE: u64 = paging::Page::Small.size();
const SLOT_SIZE: u64 = 0x1_0000;
const SLOT_PAGES: u32 = (SLOT_SIZE / PAGE) as u32;
/// The most vCPUs that a test has.
const MOST: usize = 8;

guest::test!(
    "mtrr-2",
    "Two vCPUs whose MTRRs give a memslot different types touch a page each, and then the one of the next.",
    RAM.and(Needs::cpus(2)),
    points = 33,
    |out| run(out, 2, other_types, |_| false)
);
guest::test!("mtrr-4", "The same with four vCPUs.", RAM.and(Needs::cpus(4)), points = 53, |out| {
    run(out, 4, other_types, |_| false);
});
guest::test!("mtrr-8", "The same with eight vCPUs.", RAM.and(Needs::cpus(8)), points = 93, |out| {
    run(out, 8, other_types, |_| false);
});
guest::test!(
    "mtrr-change",
    "Changes MTRRs of a second vCPU and then of the first while pages are in use, and touches them again each time.",
    RAM.and(Needs::cpus(2)),
    points = 66,
    |out| {
        let _guard = Guard::new();
        cpu::report_mtrrs_and_width(out);
        timed::calibrate(out);
        if !slot::make(out, SLOT, WINDOW, SLOT_PAGES, SlotMemory::Small) {
            return;
        }
        program(out, MemType::Wb, |out| pair(out, 0, WINDOW, PAGE, MemType::Wt));
        ring(Step::Mark);
        let pages = [WINDOW, WINDOW + PAGE];
        touch_all(out, &pages);
        for (index, value) in [
            (MTRR_PHYSBASE0, WINDOW | MemType::Uc as u64),
            (MTRR_PHYSBASE0 + 1, mask(SLOT_SIZE)),
            (MTRR_DEF_TYPE, ENABLE | MemType::Wp as u64),
            (MTRR_PHYSBASE0, WINDOW | MemType::Wc as u64),
        ] {
            ring(Step::SetMsr { cpu: 1, index, value });
            ring(Step::Mark);
            touch_all(out, &pages);
        }
        msr_once(out, MTRR_PHYSBASE0, WINDOW | MemType::Uc as u64);
        ring(Step::Mark);
        touch_all(out, &pages);
    }
);
guest::test!(
    "cd-2",
    "The same with two vCPUs, whose MTRRs say WT, and of which the second has CR0.CD set.",
    RAM.and(Needs::cpus(2)),
    points = 34,
    |out| run(out, 2, one_type, |cpu| !cpu.is_multiple_of(2))
);
guest::test!(
    "cd-4",
    "The same with four vCPUs, of which every second has CR0.CD set.",
    RAM.and(Needs::cpus(4)),
    points = 55,
    |out| run(out, 4, one_type, |cpu| !cpu.is_multiple_of(2))
);

/// MTRRs under which the slot has another type on each vCPU, and all else is WB.
fn other_types(cpu: u8) -> MemType {
    MemType::OF_MTRR[usize::from(cpu) % MemType::OF_MTRR.len()]
}

/// The slot is WT on each vCPU.
fn one_type(_: u8) -> MemType {
    MemType::Wt
}

/// Each vCPU has MTRRs give the slot the type that `memtype` says, and of those that `off` names caching is off. Then each
/// touches a page of its own, and after that each the one of the next.
fn run(out: &mut Out, count: u8, memtype: fn(u8) -> MemType, off: fn(u8) -> bool) {
    let _guard = Guard::new();
    cpu::report_mtrrs_and_width(out);
    let reference = timed::calibrate(out);
    if !slot::make(out, SLOT, WINDOW, SLOT_PAGES, SlotMemory::Small) {
        return;
    }
    for cpu in 0..count {
        // While MTRRs are disabled. The VMM does it before the vCPU runs, so that none runs from uncached memory: there
        // are hosts on which two such vCPUs that share a CPU wait for each other for ever.
        for (index, value) in [
            (MTRR_PHYSBASE0, WINDOW | memtype(cpu) as u64),
            (MTRR_PHYSBASE0 + 1, mask(SLOT_SIZE)),
            (MTRR_DEF_TYPE, ENABLE | MemType::Wb as u64),
        ] {
            if cpu == 0 {
                msr_once(out, index, value);
            } else {
                ring(Step::SetMsr { cpu, index, value });
            }
        }
    }
    let others: [Option<Cpu>; MOST] =
        core::array::from_fn(|n| (1..count).contains(&(n as u8)).then(|| Cpu::start(out, n as u8, Start::Direct)));
    let on = |cpu: u8| others[usize::from(cpu)].as_ref();
    others.iter().flatten().for_each(|cpu| reference.by(out, cpu));
    for cpu in others.iter().flatten().filter(|cpu| off(cpu.index())) {
        let (value, outcome) = cpu.run(|| {
            let value = cr0::read() | CR0_CD;
            (value, write_cr0(value))
        });
        out.write(Place { cpu: cpu.index(), register: Register::Cr0 }, value, outcome);
    }
    ring(Step::Mark);
    let page = |cpu: u8| WINDOW + u64::from(cpu) * PAGE;
    for cpu in 0..count {
        touch_on(out, on(cpu), page(cpu));
    }
    for cpu in 0..count {
        touch_on(out, on(cpu), page((cpu + 1) % count));
    }
}
