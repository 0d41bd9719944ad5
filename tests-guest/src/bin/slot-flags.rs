//! Family `slot-flags`: memslots with a flag that says which memory types their pages have, next to plain ones.
//!
//! A mark follows each touch and each change of state, so that it is certain which came first.
//!
//! What: makes two memslots, one with KVM_MEM_NON_COHERENT_DMA or KVM_MEM_WC and one without, and touches pages of both
//! through each entry of the PAT, under MTRRs of each type and with CR0.CD set; a read-only slot and one of host MMIO
//! with the flag; and gives a slot the flag and takes it away while its pages are in use.
//!
//! Why: by such a flag a VMM says of one buffer alone that a device reads it without snooping caches. No other page may
//! change its type for that, host MMIO must stay uncached, and a page that is mapped when the flag changes must get its
//! new type. No released KVM has one: only patched ones run this.
//!
//! Source: the proposals in ci/kernels/patches; KVM's `arch/x86/kvm/vmx/vmx.c:vmx_get_mt_mask`,
//! `virt/kvm/kvm_main.c:check_memory_region_flags`, `arch/x86/kvm/x86.c:kvm_mmu_slot_apply_flags`.

#![no_std]
#![no_main]

use guest::doorbell::ring;
use guest::guard::Guard;
use guest::mmio::read;
use guest::mtrr::{pair, program};
use guest::paging::{self, Page};
use guest::report::Out;
use guest::sweep::{cr0_once, msr_once};
use guest::touch::{touch, touch_all, touch_by};
use guest::values::PAT_TYPES;
use guest::{cpu, cr0, timed};
use wire::layout::{CR0_CD, PAT, WINDOW};
use wire::memtype::MemType;
use wire::needs::Needs;
use wire::step::{SlotType, Status, Step};

guest::family!();

const RAM: Needs = Needs::STEPS.and(Needs::SLOTS);
const NON_COHERENT_DMA: Needs = RAM.and(Needs::SLOT_NON_COHERENT_DMA);
const WC: Needs = RAM.and(Needs::SLOT_WC);
const PAGE: u64 = Page::Small.size();
const PAGES: u32 = 0x20;
/// The slot with the flag, and the plain one beside it.
const FLAGGED: u8 = 1;
const PLAIN: u8 = 2;
const FLAGGED_GPA: u64 = WINDOW;
const PLAIN_GPA: u64 = WINDOW + PAGES as u64 * PAGE;

guest::test!(
    "non-coherent-dma-pat",
    "Touches a page of a slot with KVM_MEM_NON_COHERENT_DMA and one of a plain slot through each entry of the PAT.",
    NON_COHERENT_DMA,
    points = 69,
    |out| pat(out, SlotType::NonCoherentDma)
);
guest::test!("wc-pat", "The same with KVM_MEM_WC.", WC, points = 69, |out| pat(out, SlotType::Wc));

fn pat(out: &mut Out, typed: SlotType) {
    let _guard = Guard::new();
    start(out, typed);
    program(out, MemType::Wb, |_| {});
    msr_once(out, PAT, PAT_TYPES);
    ring(Step::Mark);
    for entry in 0..8 {
        for slot in [FLAGGED_GPA, PLAIN_GPA] {
            let gpa = slot + u64::from(entry) * PAGE;
            paging::map(gpa, Page::Small, entry);
            touch_by(out, gpa, entry);
        }
    }
}

guest::test!(
    "non-coherent-dma-mtrr",
    "Gives both slots each type by MTRRs, of which a flagged slot takes no notice, and then sets CR0.CD.",
    NON_COHERENT_DMA,
    points = 88,
    |out| mtrr(out, SlotType::NonCoherentDma)
);
guest::test!("wc-mtrr", "The same with KVM_MEM_WC.", WC, points = 88, |out| mtrr(out, SlotType::Wc));

fn mtrr(out: &mut Out, typed: SlotType) {
    let _guard = Guard::new();
    start(out, typed);
    for (n, memtype) in (0..).zip(MemType::OF_MTRR) {
        let others = if memtype == MemType::Wb { MemType::Uc } else { MemType::Wb };
        program(out, others, |out| pair(out, 0, WINDOW, 2 * u64::from(PAGES) * PAGE, memtype));
        touch_all(out, &[FLAGGED_GPA + n * PAGE, PLAIN_GPA + n * PAGE]);
    }
    cr0_once(out, cr0::read() | CR0_CD);
    ring(Step::Mark);
    // One page that was touched before, and a new one.
    for n in [0, 8] {
        touch_all(out, &[FLAGGED_GPA + n * PAGE, PLAIN_GPA + n * PAGE]);
    }
}

guest::test!(
    "non-coherent-dma-change",
    "Gives a slot in use the flag KVM_MEM_NON_COHERENT_DMA and takes it away, and each time touches the same pages and new ones.",
    NON_COHERENT_DMA,
    points = 63,
    |out| change(out, SlotType::NonCoherentDma)
);
guest::test!("wc-change", "The same with KVM_MEM_WC.", WC, points = 63, |out| change(out, SlotType::Wc));

/// Pages are mapped by an entry of the PAT of type WC, so that it shows whether that one is honoured.
fn change(out: &mut Out, typed: SlotType) {
    /// The entry of [`PAT_TYPES`] that is WC.
    const ENTRY: u8 = 1;
    let _guard = Guard::new();
    start(out, SlotType::Plain);
    program(out, MemType::Wb, |_| {});
    msr_once(out, PAT, PAT_TYPES);
    ring(Step::Mark);
    for (n, typed) in (0..).zip([SlotType::Plain, typed, typed, SlotType::Plain]) {
        if n > 0 {
            make(FLAGGED, typed, false, FLAGGED_GPA);
            ring(Step::Mark);
        }
        for gpa in [FLAGGED_GPA, FLAGGED_GPA + (n + 1) * PAGE, PLAIN_GPA] {
            paging::map(gpa, Page::Small, ENTRY);
            touch_by(out, gpa, ENTRY);
        }
    }
}

guest::test!(
    "non-coherent-dma-readonly",
    "Reads pages of a read-only slot with KVM_MEM_NON_COHERENT_DMA, with and without a UC range over them.",
    NON_COHERENT_DMA.and(Needs::READONLY_SLOTS),
    points = 24,
    |out| readonly(out, SlotType::NonCoherentDma)
);
guest::test!("wc-readonly", "The same with KVM_MEM_WC.", WC.and(Needs::READONLY_SLOTS), points = 24, |out| readonly(
    out,
    SlotType::Wc
));

fn readonly(out: &mut Out, typed: SlotType) {
    let _guard = Guard::new();
    begin(out);
    make(FLAGGED, typed, true, FLAGGED_GPA);
    ring(Step::Mark);
    program(out, MemType::Wb, |out| pair(out, 0, FLAGGED_GPA, PAGE, MemType::Uc));
    for gpa in [FLAGGED_GPA, FLAGGED_GPA + PAGE] {
        read(out, 0, gpa, 8);
        ring(Step::Mark);
        timed::loads(out, gpa, 0);
    }
}

// A load of four bytes is the least that every BAR takes. A store might make the device do something.
guest::test!(
    "non-coherent-dma-host-mmio",
    "Loads from a slot with KVM_MEM_NON_COHERENT_DMA over a PCI BAR of the host, in a range of type WB.",
    NON_COHERENT_DMA.and(Needs::HOST_MMIO),
    points = 21,
    |out| host_mmio(out, SlotType::NonCoherentDma)
);
guest::test!("wc-host-mmio", "The same with KVM_MEM_WC.", WC.and(Needs::HOST_MMIO), points = 21, |out| host_mmio(
    out,
    SlotType::Wc
));

fn host_mmio(out: &mut Out, typed: SlotType) {
    let _guard = Guard::new();
    begin(out);
    ring(Step::SetTypedMmioSlot { typed, slot: FLAGGED, gpa: FLAGGED_GPA });
    ring(Step::Mark);
    program(out, MemType::Wb, |_| {});
    read(out, 0, FLAGGED_GPA, 4);
    ring(Step::Mark);
    timed::device(out, FLAGGED_GPA, 0);
}

guest::test!(
    "refused",
    "Makes memslots with each flag of a memory type, whether KVM has it or not, and touches a page of each.",
    RAM,
    points = 21,
    |out| {
        begin(out);
        for (slot, typed) in (1..).zip(SlotType::ALL) {
            let gpa = WINDOW + u64::from(slot) * u64::from(PAGES) * PAGE;
            let made = make(slot, typed, false, gpa);
            ring(Step::Mark);
            if made {
                touch(out, gpa);
            }
        }
    }
);

/// Reports on what masks depend and by what times are read.
fn begin(out: &mut Out) {
    cpu::report_mtrrs_and_width(out);
    timed::calibrate(out);
}

/// The same, and makes a slot of that type and a plain one beside it.
fn start(out: &mut Out, typed: SlotType) {
    begin(out);
    make(FLAGGED, typed, false, FLAGGED_GPA);
    make(PLAIN, SlotType::Plain, false, PLAIN_GPA);
    ring(Step::Mark);
}

/// Makes a slot of that type, or changes it. Whether it is there.
fn make(slot: u8, typed: SlotType, readonly: bool, gpa: u64) -> bool {
    ring(Step::SetTypedSlot { typed, slot, readonly, gpa, pages: PAGES }).status == Status::Done
}
