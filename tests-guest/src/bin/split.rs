//! Family `split`: MTRRs that give parts of a large page different types, over memslots of each kind of memory. KVM can map
//! such a page by one leaf of one type, or by smaller ones.
//!
//! A mark follows each touch and each change of state, so that it is certain which came first.
//!
//! What: gives parts of a large page of a memslot other types by MTRRs, at each grain, over memslots of small pages, of
//! transparent and hugetlb pages and of a memfd, and touches both sides.
//!
//! Why: one large leaf has one type. Where MTRRs split a page, a KVM that honours them must map it by smaller leaves,
//! or half of it has the type of the other half.
//!
//! Source: SDM Vol. 3A, "Large Page Size Considerations"; KVM's `arch/x86/kvm/mmu/mmu.c:kvm_tdp_page_fault`,
//! `arch/x86/kvm/mtrr.c:kvm_mtrr_check_gfn_range_consistency` (to 6.10).

#![no_std]
#![no_main]

use guest::doorbell::ring;
use guest::guard::Guard;
use guest::mtrr::{pair, program};
use guest::paging::Page;
use guest::report::Out;
use guest::touch::{start, touch_all};
use wire::layout::WINDOW;
use wire::memtype::MemType;
use wire::needs::Needs;
use wire::step::{SlotMemory, Step};

guest::family!();

const RAM: Needs = Needs::STEPS.and(Needs::SLOTS);
const LARGE: u64 = Page::Large.size();
const PAGE: u64 = Page::Small.size();
/// Two large pages.
const SLOT_PAGES: u32 = (2 * LARGE / PAGE) as u32;
/// Where in the first large page a range starts.
const INSIDE: u64 = 0x8_0000;

guest::test!(
    "small",
    "Touches large pages that MTRRs split at 4 KiB, 64 KiB and 1 MiB and not at all, in a memslot of small pages.",
    RAM,
    points = 94,
    |out| split(out, SlotMemory::Small)
);
guest::test!("memfd", "The same in a memslot of a memfd.", RAM, points = 94, |out| split(out, SlotMemory::Memfd));
guest::test!("thp", "The same in a memslot of transparent huge pages.", RAM.and(Needs::THP), points = 94, |out| split(
    out,
    SlotMemory::Thp
));
guest::test!(
    "hugetlb-2m",
    "The same in a memslot of hugetlb pages of 2 MiB.",
    RAM.and(Needs::HUGETLB_2M),
    points = 94,
    |out| split(out, SlotMemory::Hugetlb2M)
);
guest::test!(
    "hugetlb-1g",
    "The same in a memslot at the start of a hugetlb page of 1 GiB.",
    RAM.and(Needs::HUGETLB_1G),
    points = 94,
    |out| split(out, SlotMemory::Hugetlb1G)
);

fn split(out: &mut Out, memory: SlotMemory) {
    let _guard = Guard::new();
    if !start(out, SLOT_PAGES, memory) {
        return;
    }
    // A type that is the default's as well splits nothing.
    for (memtype, size) in [
        (MemType::Wt, PAGE),
        (MemType::Uc, 16 * PAGE),
        (MemType::Wc, LARGE / 2),
        (MemType::Wp, LARGE),
        (MemType::Wb, PAGE),
    ] {
        let from = WINDOW + if size < LARGE / 2 { INSIDE } else { 0 };
        program(out, MemType::Wb, |out| pair(out, 0, from, size, memtype));
        ring(Step::Mark);
        // In the range, right behind it or in the next large page, and at the end of that.
        touch_all(out, &[from, from + size, WINDOW + 2 * LARGE - PAGE]);
    }
}
