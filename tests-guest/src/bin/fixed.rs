//! Family `fixed`: memory types by fixed-range MTRRs, which cover the first MiB, in pages of the VM's RAM there.
//!
//! A mark follows each touch and each change of state, so that it is certain which came first.
//!
//! What: gives fixed ranges each type, alone, under variable ranges, and while fixed ranges or all MTRRs are off,
//! changes them in use, and touches and times a page in each.
//!
//! Why: below 1 MiB fixed ranges come before variable ones, in three grains, and switches of their own turn them off. A
//! KVM that honours MTRRs looks them up by other code than variable ranges, and zaps for them by other code.
//!
//! Source: SDM Vol. 3A, "Fixed Range MTRRs" and "MTRR Precedences"; KVM's
//! `arch/x86/kvm/mtrr.c:kvm_mtrr_get_guest_memory_type`, `update_mtrr`.

#![no_std]
#![no_main]

use guest::doorbell::ring;
use guest::guard::Guard;
use guest::mtrr::{ENABLE, FIXED, FIXED_ENABLE, caching, change, fixed, pair};
use guest::report::Out;
use guest::sweep::msr_once;
use guest::touch::touch_all;
use guest::{cpu, timed};
use wire::layout::MTRR_DEF_TYPE;
use wire::memtype::MemType;
use wire::needs::Needs;
use wire::step::Step;

guest::family!();

const RAM: Needs = Needs::STEPS.and(Needs::SLOTS);
/// The first MiB.
const LOW: u64 = 0x10_0000;
/// A page in a range of the same register as the first page of [`FIXED`].
const NEIGHBOUR: u64 = 0x6_0000;

guest::test!(
    "types",
    "Gives fixed ranges of 64, 16 and 4 KiB each type, and touches a page in each.",
    RAM,
    points = 138,
    |out| {
        let _guard = Guard::new();
        start(out);
        for memtype in MemType::OF_MTRR {
            program(out, ENABLE | FIXED_ENABLE | MemType::Wb as u64, |out| fixed(out, memtype));
            touch_all(out, &pages());
        }
    }
);

guest::test!(
    "over-variable",
    "Lays a variable range over fixed ranges of each type, and touches a page in each with fixed ranges on and off.",
    RAM,
    points = 283,
    |out| {
        let _guard = Guard::new();
        start(out);
        for memtype in MemType::OF_MTRR {
            for enable in [ENABLE | FIXED_ENABLE, ENABLE] {
                program(out, enable | MemType::Wb as u64, |out| {
                    fixed(out, memtype);
                    pair(out, 0, 0, LOW, MemType::Wt);
                });
                touch_all(out, &pages());
            }
        }
    }
);

guest::test!(
    "off",
    "Touches pages of UC fixed ranges while fixed ranges are off, and while all MTRRs are.",
    RAM,
    points = 88,
    |out| {
        let _guard = Guard::new();
        start(out);
        for enable in [ENABLE, FIXED_ENABLE, 0] {
            program(out, enable | MemType::Wb as u64, |out| fixed(out, MemType::Uc));
            touch_all(out, &pages());
        }
    }
);

guest::test!(
    "retype",
    "Changes the type of one fixed range in use by one WRMSR, and touches it, one of the same register and one of another \
     again.",
    RAM,
    points = 49,
    |out| {
        let _guard = Guard::new();
        start(out);
        let pages = [FIXED[0].gpa, NEIGHBOUR, FIXED[1].gpa];
        program(out, ENABLE | FIXED_ENABLE | MemType::Wb as u64, |out| fixed(out, MemType::Wb));
        touch_all(out, &pages);
        let mut types = [MemType::Wb as u8; 8];
        types[usize::from(FIXED[0].byte)] = MemType::Wt as u8;
        msr_once(out, FIXED[0].register, u64::from_le_bytes(types));
        ring(Step::Mark);
        touch_all(out, &pages);
    }
);

guest::test!("retype-off", "The same while fixed ranges are off, and then turns them on.", RAM, points = 42, |out| {
    let _guard = Guard::new();
    start(out);
    let page = [FIXED[0].gpa];
    program(out, ENABLE | MemType::Wb as u64, |out| fixed(out, MemType::Wb));
    touch_all(out, &page);
    msr_once(out, FIXED[0].register, 0);
    ring(Step::Mark);
    touch_all(out, &page);
    msr_once(out, MTRR_DEF_TYPE, ENABLE | FIXED_ENABLE | MemType::Wb as u64);
    ring(Step::Mark);
    touch_all(out, &page);
});

/// Reports on what masks depend and by what times are read.
fn start(out: &mut Out) {
    cpu::report_mtrrs_and_width(out);
    timed::calibrate(out);
    ring(Step::Mark);
}

/// Changes MTRRs by the SDM's sequence, with caching on afterwards, and marks that.
fn program(out: &mut Out, def_type: u64, write: impl FnOnce(&mut Out)) {
    change(out, def_type, write);
    caching(out, true);
    ring(Step::Mark);
}

fn pages() -> [u64; 3] {
    FIXED.map(|fixed| fixed.gpa)
}
