//! Family `matrix`: all that a guest can set of memory types, each against each other, in one boot.
//!
//! A mark follows each touch, so that it is certain which came first.
//!
//! What: gives pages each type by a variable range, by the default type, and has MTRRs disabled, each with PATs that hold all
//! types, and with CR0.CD clear and set, by the SDM's sequence; touches and times a page through each entry of the PAT, on
//! pages that are new each time, or the same all along.
//!
//! Why: what comes of one setting can depend on the others, and on what was before. On new pages each leaf is made under its
//! setting; on old ones leaves stay where KVM zaps none, and are stale.
//!
//! Source: SDM Vol. 3A, "Selecting Memory Types for Pentium III and More Recent Processor Families" and "Preventing
//! Caching"; KVM's `arch/x86/kvm/vmx/vmx.c:vmx_get_mt_mask` and `arch/x86/kvm/mtrr.c:update_mtrr`.

#![no_std]
#![no_main]

use guest::guard::Guard;
use guest::mtrr::{ENABLE, FIXED_ENABLE, caching, change, pair};
use guest::paging::{self, Page};
use guest::report::Out;
use guest::sweep::msr_once;
use guest::touch::{start, touch_by};
use wire::layout::{MTRR_PHYSBASE0, PAT, WINDOW};
use wire::memtype::MemType;
use wire::needs::Needs;
use wire::step::SlotMemory;

guest::family!();

const SLOTS: Needs = Needs::STEPS.and(Needs::SLOTS);
const ENTRIES: u8 = 8;
/// With each PAT CR0.CD is clear first, and then set.
const CACHING: [bool; 2] = [true, false];
const PAGE: u64 = Page::Small.size();
/// A power of two that holds the pages of all settings, and so is the size of one variable range.
const SLOT_PAGES: u64 = 0x400;
const _: () = assert!(
    SETTINGS.len() as u64 * TURNS as u64 * CACHING.len() as u64 * ENTRIES as u64 <= SLOT_PAGES,
    "more pages than the memslot has"
);

/// What MTRRs say of all pages under test.
#[derive(Clone, Copy)]
enum Setting {
    /// This type, by a variable range.
    Range(MemType),
    /// This type, by default.
    Default(MemType),
    /// MTRRs are disabled.
    Disabled,
}

const SETTINGS: [Setting; 2 * MemType::OF_MTRR.len() + 1] = {
    let mut all = [Setting::Disabled; _];
    let mut n = 0;
    while n < MemType::OF_MTRR.len() {
        all[2 * n] = Setting::Range(MemType::OF_MTRR[n]);
        all[2 * n + 1] = Setting::Default(MemType::OF_MTRR[n]);
        n += 1;
    }
    all
};

/// How many PATs each setting gets. Each of them holds all types.
const TURNS: usize = 3;

guest::test!(
    "fresh",
    "Each type by a range and by default, and no MTRRs, with three PATs and CR0.CD clear and set, each time on eight new pages.",
    SLOTS,
    points = 1_847,
    |out| {
        let mut next = WINDOW;
        walk(out, TURNS, |_| {
            next += PAGE;
            next - PAGE
        });
    }
);

guest::test!(
    "reuse",
    "The same with one PAT for each setting, and on the same eight pages each time.",
    SLOTS,
    points = 625,
    |out| walk(out, 1, |entry| WINDOW + u64::from(entry) * PAGE)
);

/// Makes each setting by the SDM's sequence `turns` times, each time with another PAT, and touches a page through each
/// entry of it, with CR0.CD clear and set.
fn walk(out: &mut Out, turns: usize, mut page: impl FnMut(u8) -> u64) {
    let _guard = Guard::new();
    if !start(out, SLOT_PAGES as u32, SlotMemory::Small) {
        return;
    }
    for (n, setting) in SETTINGS.into_iter().enumerate() {
        for turn in 0..turns {
            program(out, setting, pat(n + 2 * turn));
            for on in CACHING {
                if !on {
                    caching(out, false);
                }
                for entry in 0..ENTRIES {
                    let gpa = page(entry);
                    paging::map(gpa, Page::Small, entry);
                    touch_by(out, gpa, entry);
                }
            }
        }
    }
}

fn program(out: &mut Out, setting: Setting, pat: u64) {
    let (def_type, range) = match setting {
        // The default is another type, so that the range shows.
        Setting::Range(MemType::Wb) => (ENABLE | FIXED_ENABLE | MemType::Uc as u64, Some(MemType::Wb)),
        Setting::Range(memtype) => (ENABLE | FIXED_ENABLE | MemType::Wb as u64, Some(memtype)),
        Setting::Default(memtype) => (ENABLE | FIXED_ENABLE | memtype as u64, None),
        Setting::Disabled => (MemType::Wb as u64, Some(MemType::Wb)),
    };
    change(out, def_type, |out| {
        match range {
            Some(memtype) => pair(out, 0, WINDOW, SLOT_PAGES * PAGE, memtype),
            None => msr_once(out, MTRR_PHYSBASE0 + 1, 0),
        }
        msr_once(out, PAT, pat);
    });
    caching(out, true);
}

/// A PAT of which entry 0 is WB, because it maps all that the guest itself uses, and of which each other entry holds the type
/// after that of the one before, from a type on that `turn` says.
fn pat(turn: usize) -> u64 {
    let types: [u8; ENTRIES as usize] = core::array::from_fn(|entry| match entry {
        0 => MemType::Wb as u8,
        _ => MemType::ALL[(turn + entry) % MemType::ALL.len()] as u8,
    });
    u64::from_le_bytes(types)
}
