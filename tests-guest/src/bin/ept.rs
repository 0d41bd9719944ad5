//! Family `ept`: which memory type comes of an EPT leaf, the PAT and CR0.CD. This guest is the hypervisor, and a guest of
//! its own times the accesses.
//!
//! What: this guest turns on VMX, makes EPT leaves of each type with and without IPAT, and has a guest of its own time
//! pages of each PAT type, with CR0.CD set and clear and with paging off.
//!
//! Why: KVM's whole control over a guest's memory types is the type and IPAT of a leaf. What these come to is a rule of
//! the CPU, and this family measures it where no KVM is between.
//!
//! Source: SDM Vol. 3C, "EPT and Memory Typing" and "Memory Type Used for Translated Guest-Physical Addresses".

#![no_std]
#![no_main]

use guest::mtrr::{self, ENABLE};
use guest::paging::{self, Page};
use guest::report::Out;
use guest::sweep::msr_once;
use guest::values::PAT_TYPES;
use guest::vmx::Hypervisor;
use guest::{cache, cpu, timed};
use wire::layout::PAT;
use wire::memtype::{EptType, MemType};
use wire::needs::Needs;

guest::family!();

/// MTRRs under which all memory is WB, and disabled ones, under which it is UC: neither matters under EPT.
const DEF_TYPES: [u64; 2] = [ENABLE | MemType::Wb as u64, 0];
/// Of the PAT.
const EACH_ENTRY: [Option<u8>; 8] = [Some(0), Some(1), Some(2), Some(3), Some(4), Some(5), Some(6), Some(7)];

guest::test!(
    "small",
    "Each type and IPAT of a small EPT leaf, with each type of the PAT, CR0.CD on and off, MTRRs WB and disabled.",
    Needs::BARE,
    points = 372,
    |out| walk(out, Page::Small, &EACH_ENTRY)
);

guest::test!(
    "large",
    "The same by a large EPT leaf and a large page of the nested guest.",
    Needs::BARE,
    points = 372,
    |out| walk(out, Page::Large, &EACH_ENTRY)
);

guest::test!(
    "unpaged",
    "Each type and IPAT of a small EPT leaf, with paging off in the nested guest, CR0.CD on and off.",
    Needs::BARE,
    points = 92,
    |out| walk(out, Page::Small, &[None])
);

/// Times a page of that size by each EPT leaf, through each of the entries of the PAT; without one, with paging off.
fn walk(out: &mut Out, page: Page, entries: &[Option<u8>]) {
    cpu::report_mtrrs_and_width(out);
    mtrr::report(out);
    timed::calibrate(out);
    let mut hypervisor = match Hypervisor::start() {
        Ok(hypervisor) => hypervisor,
        Err(reason) => return out.skip(reason),
    };
    if entries.contains(&None) && !hypervisor.can_run_unpaged() {
        return out.skip("VMX without unrestricted guests: none can run with paging off");
    }
    let gpa = paging::spare(page);
    for def_type in DEF_TYPES {
        mtrr::change(out, def_type, |out| msr_once(out, PAT, PAT_TYPES));
        each_leaf(out, &mut hypervisor, gpa, page, entries);
        mtrr::caching(out, true);
        each_leaf(out, &mut hypervisor, gpa, page, entries);
    }
}

fn each_leaf(out: &mut Out, hypervisor: &mut Hypervisor, gpa: u64, page: Page, entries: &[Option<u8>]) {
    for memtype in MemType::OF_MTRR {
        for ignore_pat in [false, true] {
            let ept = EptType { memtype, ignore_pat };
            hypervisor.map(gpa, page, ept);
            for &entry in entries {
                paging::map(gpa, page, entry.unwrap_or(0));
                // The page had another type before: nothing of it may stay in a cache.
                cache::write_back();
                hypervisor.time(out, gpa, entry, ept);
            }
        }
    }
}
