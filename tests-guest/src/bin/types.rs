//! Family `types`: which memory type comes of MTRRs, PAT and CR0.CD. Each combination is set by the SDM's sequence, and
//! then a page is timed at CPL3.
//!
//! What: each MTRR type by a variable, a fixed and the default range, with each type in each entry of the PAT, by small
//! and large pages, with CR0.CD set and clear, and overlaps of ranges. A page is timed each time.
//!
//! Why: it is the SDM's table of effective memory types in full, on a machine without a hypervisor: what all else is
//! held against.
//!
//! Source: SDM Vol. 3A, "Memory Type Range Registers (MTRRs)", "Selecting Memory Types for Pentium III and More Recent
//! Processor Families", "Preventing Caching".

#![no_std]
#![no_main]

use guest::mtrr::{self, ENABLE, FIXED, FIXED_ENABLE, fixed, pair};
use guest::paging::{self, Page};
use guest::report::Out;
use guest::sweep::msr_once;
use guest::values::PAT_RESET;
use guest::{cache, cpu, timed};
use wire::layout::{MTRR_PHYSBASE0, PAT};
use wire::memtype::MemType;
use wire::needs::Needs;

guest::family!();

/// A page under test.
#[derive(Clone, Copy)]
struct Target {
    gpa: u64,
    page: Page,
}

guest::test!(
    "variable",
    "Each type by a variable-range MTRR, with each type in each entry of the PAT, by small and large pages, CD on and off.",
    Needs::NONE,
    points = 1_272,
    |out| {
        start(out);
        let targets = spare();
        for memtype in MemType::OF_MTRR {
            walk(out, ENABLE | MemType::Wb as u64, &targets, |out| {
                for (n, target) in targets.iter().enumerate() {
                    pair(out, n as u32, target.gpa, target.page.size(), memtype);
                }
            });
        }
    }
);

guest::test!(
    "default",
    "Each type as the MTRRs' default type, with each type in each entry of the PAT, by small and large pages, CD on and off.",
    Needs::NONE,
    points = 1_152,
    |out| {
        start(out);
        let targets = spare();
        for memtype in MemType::OF_MTRR {
            walk(out, ENABLE | memtype as u64, &targets, |_| {});
        }
    }
);

guest::test!(
    "fixed",
    "Each type by a fixed-range MTRR of each size, with each type in each entry of the PAT, CD on and off.",
    Needs::NONE,
    points = 1_962,
    |out| {
        start(out);
        let targets = FIXED.map(|fixed| Target { gpa: fixed.gpa, page: Page::Small });
        for memtype in MemType::OF_MTRR {
            walk(out, ENABLE | FIXED_ENABLE | MemType::Wb as u64, &targets, |out| fixed(out, memtype));
        }
    }
);

guest::test!(
    "disabled",
    "MTRRs disabled, with each type in each entry of the PAT, by small and large pages, CD on and off.",
    Needs::NONE,
    points = 288,
    |out| {
        start(out);
        let targets = spare();
        walk(out, MemType::Wb as u64, &targets, |out| {
            for (n, target) in targets.iter().enumerate() {
                pair(out, n as u32, target.gpa, target.page.size(), MemType::Wb);
            }
        });
    }
);

guest::test!(
    "overlaps",
    "A page in two and in three variable ranges, of all types of which the SDM says what comes.",
    Needs::NONE,
    points = 699,
    overlaps
);

/// Reports the state as found, with what the guest is told about MTRRs, and by what times are read.
fn start(out: &mut Out) {
    cpu::report_mtrrs_and_width(out);
    mtrr::report(out);
    timed::calibrate(out);
}

/// A small and a large page, in different large pages.
fn spare() -> [Target; 2] {
    [Page::Large, Page::Small].map(|page| Target { gpa: paging::spare(page), page })
}

/// Sets MTRRs by `set`, and the PAT so that in turn each of its entries holds each type; times each page through each
/// entry, with CR0.CD set and clear.
fn walk(out: &mut Out, def_type: u64, targets: &[Target], set: impl Fn(&mut Out)) {
    for turn in 0..MemType::ALL.len() {
        mtrr::change(out, def_type, |out| {
            set(out);
            msr_once(out, PAT, pat(turn));
        });
        through_each_entry(out, targets);
        mtrr::caching(out, true);
        through_each_entry(out, targets);
    }
}

fn through_each_entry(out: &mut Out, targets: &[Target]) {
    for entry in 0..8 {
        for &Target { gpa, page } in targets {
            time(out, gpa, page, entry);
        }
    }
}

fn time(out: &mut Out, gpa: u64, page: Page, entry: u8) {
    paging::map(gpa, page, entry);
    // The page had another type before: nothing of it may stay in a cache.
    cache::write_back();
    timed::page(out, gpa, entry);
}

/// A PAT in which entry 0 holds the type number `turn`, and each other entry the type after that of the one before.
fn pat(turn: usize) -> u64 {
    (0..8).map(|entry| (MemType::ALL[(turn + entry) % MemType::ALL.len()] as u64) << (8 * entry)).sum()
}

/// What is timed is the small page in the innermost range.
fn overlaps(out: &mut Out) {
    start(out);
    let base = paging::spare(Page::Large);
    for outer in MemType::OF_MTRR {
        for inner in MemType::OF_MTRR {
            if !defined(outer, inner) {
                continue;
            }
            time_overlap(out, base, &[outer, inner]);
            for third in MemType::OF_MTRR {
                if defined(outer, third) && defined(inner, third) {
                    time_overlap(out, base, &[outer, inner, third]);
                }
            }
        }
    }
}

/// Times a page in ranges of these types, each of them in the one before, with a default type that is none of them.
fn time_overlap(out: &mut Out, base: u64, types: &[MemType]) {
    const SIZES: [u64; 3] = [0x20_0000, 0x1_0000, 0x1000];
    let other = MemType::OF_MTRR.into_iter().find(|memtype| !types.contains(memtype));
    mtrr::change(out, ENABLE | other.unwrap_or(MemType::Uc) as u64, |out| {
        msr_once(out, PAT, PAT_RESET);
        for n in 0..SIZES.len() as u32 {
            match types.get(n as usize) {
                // The higher range has the higher base too.
                Some(&memtype) => pair(out, n, base + 0x10_0000 * u64::from(n != 0), SIZES[n as usize], memtype),
                None => msr_once(out, MTRR_PHYSBASE0 + 2 * n + 1, 0),
            }
        }
    });
    mtrr::caching(out, true);
    time(out, base + 0x10_0000, Page::Small, 0);
}

/// Whether the SDM says what comes of ranges of these types: SDM Vol. 3A, "MTRR Precedences".
fn defined(one: MemType, other: MemType) -> bool {
    use MemType::{Uc, Wb, Wt};
    one == other || one == Uc || other == Uc || matches!((one, other), (Wt, Wb) | (Wb, Wt))
}
