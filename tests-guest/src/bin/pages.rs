//! Family `pages`: each type in each entry of the PAT, by small, large and huge pages of the guest, for its page tables, and
//! with paging off.
//!
//! What: puts each memory type into each of the eight entries of the PAT, maps a page through each entry by a leaf of 4
//! KiB, 2 MiB and 1 GiB, and touches and times it. With paging off, the same for each type of MTRR. Then has pages with each
//! type of MTRR be page tables, and times how long the CPU takes to read them, by each type of the PAT.
//!
//! Why: the bit PAT of a page-table entry has another place in a large page's, and the upper four entries are reached
//! by nothing else. A shadow MMU reads these bits itself, and EPT leaves them to the CPU. The CPU's reads of page tables are
//! typed as well, by the entry that leads to a table, and under EPT by the leaf that maps it.
//!
//! Source: SDM Vol. 3A, "Selecting a Memory Type from the PAT" and "Paging and Memory Typing"; KVM's
//! `arch/x86/kvm/vmx/vmx.c:vmx_get_mt_mask`.

#![no_std]
#![no_main]

use guest::doorbell::ring;
use guest::guard::Guard;
use guest::mtrr::{pair, program};
use guest::paging::{self, Page};
use guest::report::Out;
use guest::sweep::msr_once;
use guest::touch::{start, touch};
use guest::{cache, mmio, timed};
use wire::layout::{PAT, RAM, WINDOW};
use wire::memtype::MemType;
use wire::needs::Needs;
use wire::step::{SlotMemory, Step};

guest::family!();

const SLOTS: Needs = Needs::STEPS.and(Needs::SLOTS);
/// A large page.
const SLOT_PAGES: u32 = (Page::Large.size() / Page::Small.size()) as u32;

guest::test!("small", "Each type in each entry of the PAT, by a page of 4 KiB.", SLOTS, points = 81, |out| {
    each_entry(out, Page::Small);
});
guest::test!("large", "The same by a page of 2 MiB.", SLOTS, points = 81, |out| each_entry(out, Page::Large));
guest::test!("huge", "The same by a page of 1 GiB.", SLOTS, points = 81, |out| {
    if paging::has_huge() {
        each_entry(out, Page::Huge);
    } else {
        out.skip("CPUID shows no pages of 1 GiB");
    }
});

guest::test!(
    "unpaged",
    "Pages of each type by a variable-range MTRR, with paging off: the PAT has no say then.",
    SLOTS,
    points = 69,
    |out| {
        let _guard = Guard::new();
        if !start(out, SLOT_PAGES, SlotMemory::Small) {
            return;
        }
        for (gpa, memtype) in (WINDOW..).step_by(Page::Small.size() as usize).zip(MemType::OF_MTRR) {
            program(out, MemType::Wb, |out| pair(out, 0, gpa, Page::Small.size(), memtype));
            ring(Step::Mark);
            touch(out, gpa);
            timed::unpaged(out, gpa);
        }
    }
);

guest::test!(
    "walks",
    "Reads of page tables: each type by a variable-range MTRR, with each type of the PAT.",
    SLOTS,
    points = 78,
    |out| {
        let _guard = Guard::new();
        if !start(out, SLOT_PAGES, SlotMemory::Small) {
            return;
        }
        let tables = || (WINDOW..).step_by(Page::Small.size() as usize).zip(MemType::OF_MTRR);
        program(out, MemType::Wb, |out| {
            for (n, (table, memtype)) in (0..).zip(tables()) {
                pair(out, n, table, Page::Small.size(), memtype);
            }
        });
        timed::calibrate_walks(out);
        let first = paging::first_entry(paging::spare(Page::Small));
        tables().for_each(|(table, _)| mmio::write(out, 0, table, 8, first));
        ring(Step::Mark);
        use MemType::{Uc, UcMinus, Wb, Wc, Wp, Wt};
        // Entry 0 is that of the guest's own code, stacks and tables.
        for types in [[Wb, Wt, Wp, Wb, Wb, Wt, Wp, Wb], [Wb, Wc, UcMinus, Uc, Wb, Wc, UcMinus, Uc]] {
            msr_once(out, PAT, u64::from_le_bytes(types.map(|memtype| memtype as u8)));
            ring(Step::Mark);
            for (table, _) in tables() {
                for entry in 0..4 {
                    // It was read as another type before: nothing of it may stay in a cache.
                    cache::write_back();
                    timed::walk(out, table, entry);
                }
            }
        }
    }
);

fn each_entry(out: &mut Out, page: Page) {
    let _guard = Guard::new();
    if !start(out, SLOT_PAGES, SlotMemory::Small) {
        return;
    }
    program(out, MemType::Wb, |_| {});
    touch(out, WINDOW);
    for turn in 0..MemType::ALL.len() {
        let types: [MemType; 8] = core::array::from_fn(|entry| MemType::ALL[(turn + entry) % MemType::ALL.len()]);
        // The guest's own code, stacks and tables stay WB.
        let own = types.iter().position(|&memtype| memtype == MemType::Wb).unwrap_or_default() as u8;
        for gpa in (0..RAM).step_by(Page::Large.size() as usize) {
            paging::map(gpa, Page::Large, own);
        }
        msr_once(out, PAT, u64::from_le_bytes(types.map(|memtype| memtype as u8)));
        ring(Step::Mark);
        for entry in 0..8 {
            paging::map(WINDOW, page, entry);
            // The page had another type before: nothing of it may stay in a cache.
            cache::write_back();
            timed::page(out, WINDOW, entry);
        }
        paging::map(WINDOW, page, own);
    }
    // As the guard's PAT wants it.
    for gpa in (0..RAM).step_by(Page::Large.size() as usize) {
        paging::map(gpa, Page::Large, 0);
    }
}
