//! Family `memtype`: pages of memslots touched in all states of a VM that decide memory types, for the witness of SPTEs, and
//! timed.
//!
//! A mark follows each touch and each change of state, so that it is certain which came first.
//!
//! What: sets up MTRRs of each type with overlaps and odd masks, the PAT, CR0.CD, and non-coherent DMA that comes and
//! goes; touches pages before and after each change, times them at CPL3, and marks the place in the log for the witness
//! of SPTEs.
//!
//! Why: this is the question of the project: which type a guest's page really has, in each state of the VM, and whether
//! a leaf that was made before a change is zapped.
//!
//! Source: SDM Vol. 3A, "Memory Type Range Registers (MTRRs)" and "Selecting Memory Types"; KVM's
//! `arch/x86/kvm/vmx/vmx.c:vmx_get_mt_mask`, `arch/x86/kvm/mtrr.c:update_mtrr`, `arch/x86/kvm/x86.c:kvm_post_set_cr0`.

#![no_std]
#![no_main]

use guest::doorbell::ring;
use guest::guard::Guard;
use guest::mmio::read;
use guest::mtrr::{mask, pair, program, raw_pair};
use guest::report::Out;
use guest::sweep::{cr0_once, msr_once};
use guest::touch::{touch, touch_all, touch_by};
use guest::values::PAT_TYPES;
use guest::{cpu, cr0, paging, timed};
use wire::layout::{CR0_CD, MTRR_DEF_TYPE, MTRR_PHYSBASE0, PAT, WINDOW};
use wire::memtype::MemType;
use wire::needs::Needs;
use wire::step::{SlotApi, SlotMemory, Step};

guest::family!();

const RAM: Needs = Needs::STEPS.and(Needs::SLOTS);
/// KVM_MEM_READONLY, include/uapi/linux/kvm.h.
const READONLY: u32 = 1 << 1;
const SLOT: u8 = 1;
/// Half the window: a slot that holds no whole 2 MiB is mapped by small pages.
const SLOT_PAGES: u32 = 0x100;
const PAGE: u64 = 0x1000;
/// What one setting of MTRRs gets of the window, and half of it.
const AREA: u64 = 0x1_0000;
const HALF: u64 = AREA / 2;

guest::test!("reset-state", "Touches a page with MTRRs, PAT and CR0 as they are made.", RAM, points = 17, |out| {
    start(out, 0);
    touch(out, area(0));
});

guest::test!(
    "default-type",
    "Gives IA32_MTRR_DEF_TYPE each type, and touches a page each time.",
    RAM,
    points = 49,
    |out| {
        let _guard = Guard::new();
        start(out, 0);
        for (n, memtype) in (0..).zip(MemType::OF_MTRR) {
            program(out, memtype, |_| {});
            touch(out, area(n));
        }
    }
);

guest::test!(
    "mtrr-types",
    "Gives a variable range each type, and touches pages at both its ends and behind it.",
    RAM,
    points = 89,
    |out| {
        let _guard = Guard::new();
        start(out, 0);
        for (n, memtype) in (0..).zip(MemType::OF_MTRR) {
            let others = if memtype == MemType::Wb { MemType::Uc } else { MemType::Wb };
            program(out, others, |out| pair(out, 0, area(n), HALF, memtype));
            for gpa in [area(n), area(n) + HALF - PAGE, area(n) + HALF] {
                touch(out, gpa);
            }
        }
    }
);

guest::test!(
    "mtrr-disabled",
    "Touches pages in and out of a range while MTRRs are disabled.",
    RAM,
    points = 27,
    |out| {
        let _guard = Guard::new();
        start(out, 0);
        program(out, MemType::Wb, |out| pair(out, 0, area(0), HALF, MemType::Wc));
        msr_once(out, MTRR_DEF_TYPE, MemType::Wb as u64);
        touch(out, area(0));
        touch(out, area(0) + HALF);
    }
);

guest::test!(
    "overlap-uc-above",
    "Has a UC range overlap one of each other type, from the middle up.",
    RAM,
    points = 70,
    |out| {
        overlap_uc(out, HALF, HALF, 0, AREA);
    }
);
guest::test!(
    "overlap-uc-below",
    "The same, with the UC range from the start, over all of it.",
    RAM,
    points = 70,
    |out| {
        overlap_uc(out, 0, AREA, HALF, HALF);
    }
);
guest::test!("overlap-uc-same", "The same, with the UC range as the first half of it.", RAM, points = 70, |out| {
    overlap_uc(out, 0, HALF, 0, AREA);
});

/// A UC range and another one, each from an offset on and of a size, of which one lies in the other.
fn overlap_uc(out: &mut Out, uc: u64, uc_size: u64, other: u64, other_size: u64) {
    let _guard = Guard::new();
    start(out, 0);
    for (n, memtype) in (0..).zip(MemType::OF_MTRR.into_iter().filter(|&memtype| memtype != MemType::Uc)) {
        program(out, MemType::Wb, |out| {
            pair(out, 0, area(n) + other, other_size, memtype);
            pair(out, 1, area(n) + uc, uc_size, MemType::Uc);
        });
        touch(out, area(n));
        touch(out, area(n) + HALF);
    }
}

guest::test!(
    "overlap-wt-wb",
    "Has ranges of WT and WB overlap, either one inside the other.",
    RAM,
    points = 42,
    |out| {
        let _guard = Guard::new();
        start(out, 0);
        for (n, (outer, inner)) in (0..).zip([(MemType::Wt, MemType::Wb), (MemType::Wb, MemType::Wt)]) {
            program(out, MemType::Uc, |out| {
                pair(out, 0, area(n), AREA, outer);
                pair(out, 1, area(n) + HALF, HALF, inner);
            });
            touch(out, area(n));
            touch(out, area(n) + HALF);
        }
    }
);

guest::test!(
    "overlap-undefined",
    "Has ranges of types overlap of which the SDM says nothing, WC or WP and another but UC, either inside the other.",
    RAM,
    points = 154,
    |out| {
        let _guard = Guard::new();
        start(out, 0);
        let undefined = |one, other| {
            let open = |memtype| matches!(memtype, MemType::Wc | MemType::Wp);
            one != other && one != MemType::Uc && other != MemType::Uc && (open(one) || open(other))
        };
        let mut next = (0..).map(area);
        for outer in MemType::OF_MTRR {
            for inner in MemType::OF_MTRR.into_iter().filter(|&inner| undefined(outer, inner)) {
                let Some(gpa) = next.next() else { return };
                program(out, MemType::Uc, |out| {
                    pair(out, 0, gpa, AREA, outer);
                    pair(out, 1, gpa + HALF, HALF, inner);
                });
                touch(out, gpa);
                touch(out, gpa + HALF);
            }
        }
    }
);

guest::test!(
    "short-mask",
    "Leaves the mask bits from 32 on clear, and touches pages in the range and around it.",
    RAM,
    points = 35,
    |out| {
        let _guard = Guard::new();
        start(out, 0);
        program(out, MemType::Wb, |out| raw_pair(out, 0, area(1), mask(HALF) & 0xffff_ffff, MemType::Uc));
        for gpa in [area(1) - PAGE, area(1), area(1) + HALF - PAGE, area(1) + HALF, area(2)] {
            touch(out, gpa);
        }
    }
);

guest::test!(
    "discontiguous-mask",
    "Leaves bit 14 of a mask for 4 KiB clear, and touches pages in the two parts of the range, between and behind.",
    RAM,
    points = 35,
    |out| {
        let _guard = Guard::new();
        start(out, 0);
        program(out, MemType::Wb, |out| raw_pair(out, 0, area(0), mask(PAGE) & !(1 << 14), MemType::Uc));
        for page in [0, 1, 3, 4, 5] {
            touch(out, area(0) + page * PAGE);
        }
    }
);

guest::test!(
    "unaligned-base",
    "Gives a range a base in its middle, and touches pages in both halves.",
    RAM,
    points = 32,
    |out| {
        let _guard = Guard::new();
        start(out, 0);
        program(out, MemType::Wb, |out| raw_pair(out, 0, area(0) + HALF, mask(AREA), MemType::Uc));
        for gpa in [area(0), area(0) + HALF, area(1) - PAGE, area(1)] {
            touch(out, gpa);
        }
    }
);

guest::test!(
    "retype",
    "Changes the type of a range in use by one WRMSR, and touches the same pages again.",
    RAM,
    points = 40,
    |out| {
        let _guard = Guard::new();
        start(out, 0);
        // The first and the last page of the range, and the first one behind it.
        let pages = [area(0), area(0) + HALF - PAGE, area(0) + HALF];
        program(out, MemType::Wb, |out| pair(out, 0, area(0), HALF, MemType::Wb));
        touch_all(out, &pages);
        msr_once(out, MTRR_PHYSBASE0, area(0) | MemType::Uc as u64);
        ring(Step::Mark);
        touch_all(out, &pages);
    }
);

guest::test!(
    "move",
    "Moves a UC range in use by one WRMSR, and touches pages of the old and the new place again.",
    RAM,
    points = 40,
    |out| {
        let _guard = Guard::new();
        start(out, 0);
        let pages = [area(0), area(1), area(2)];
        program(out, MemType::Wb, |out| pair(out, 0, area(0), AREA, MemType::Uc));
        touch_all(out, &pages);
        msr_once(out, MTRR_PHYSBASE0, area(1) | MemType::Uc as u64);
        ring(Step::Mark);
        touch_all(out, &pages);
    }
);

guest::test!(
    "mask-before-base",
    "With MTRRs enabled, writes the mask of a pair that was never used, then its base.",
    RAM,
    points = 34,
    |out| new_pair(out, [(1, mask(HALF)), (0, area(0))])
);
guest::test!("base-before-mask", "The same, base first.", RAM, points = 34, |out| {
    new_pair(out, [(0, area(0)), (1, mask(HALF))]);
});

/// Gives a pair that was never written a range of type UC, which is 0, while MTRRs are enabled.
fn new_pair(out: &mut Out, writes: [(u32, u64); 2]) {
    let _guard = Guard::new();
    start(out, 0);
    let pages = [area(0), area(0) + HALF];
    program(out, MemType::Wb, |_| {});
    touch_all(out, &pages);
    for (which, value) in writes {
        msr_once(out, MTRR_PHYSBASE0 + which, value);
        ring(Step::Mark);
    }
    touch_all(out, &pages);
}

guest::test!(
    "pat",
    "Writes the PAT, and touches the same page again and one through each entry.",
    RAM,
    points = 50,
    |out| {
        let _guard = Guard::new();
        start(out, 0);
        program(out, MemType::Wb, |_| {});
        touch(out, area(0));
        msr_once(out, PAT, PAT_TYPES);
        ring(Step::Mark);
        touch(out, area(0));
        for entry in 0..8 {
            let gpa = area(1) + u64::from(entry) * PAGE;
            paging::map(gpa, paging::Page::Small, entry);
            touch_by(out, gpa, entry);
        }
    }
);

guest::test!(
    "cd",
    "Sets CR0.CD by MOV and clears it again, and each time touches the same pages and a new one.",
    RAM,
    points = 48,
    |out| {
        cd(out, cr0_once);
    }
);
guest::test!("cd-sregs", "The same by KVM_SET_SREGS.", RAM, points = 48, |out| {
    cd(out, |_, value| {
        ring(Step::SetCr0 { cpu: 0, value });
    });
});

/// Two ranges, so that the types that MTRRs give differ from each other and from what CD gives.
fn cd(out: &mut Out, set: impl Fn(&mut Out, u64)) {
    let _guard = Guard::new();
    start(out, 0);
    program(out, MemType::Wb, |out| pair(out, 0, area(0), AREA, MemType::Wt));
    touch_all(out, &[area(0), area(1)]);
    for (n, on) in (1..).zip([true, false]) {
        set(out, if on { cr0::read() | CR0_CD } else { cr0::read() & !CR0_CD });
        ring(Step::Mark);
        for gpa in [area(0), area(1), area(0) + n * PAGE] {
            touch(out, gpa);
        }
    }
}

guest::test!(
    "plug",
    "Plugs a device with non-coherent DMA in and out, and each time touches the same pages and new ones.",
    RAM.and(Needs::DMA),
    points = 54,
    |out| {
        let _guard = Guard::new();
        start(out, 0);
        program(out, MemType::Wb, |out| pair(out, 0, area(0), AREA, MemType::Uc));
        touch_all(out, &[area(0), area(1)]);
        for (n, step) in (1..).zip([Step::PlugDma, Step::UnplugDma]) {
            ring(step);
            ring(Step::Mark);
            for gpa in [area(0), area(1), area(0) + n * PAGE, area(1) + n * PAGE] {
                touch(out, gpa);
            }
        }
    }
);

guest::test!(
    "readonly-slot",
    "Reads pages of a read-only memslot in and out of a UC range.",
    RAM.and(Needs::READONLY_SLOTS),
    points = 26,
    |out| {
        let _guard = Guard::new();
        start(out, READONLY);
        program(out, MemType::Wb, |out| pair(out, 0, area(0), AREA, MemType::Uc));
        for gpa in [area(0), area(1)] {
            read(out, 0, gpa, 8);
            ring(Step::Mark);
            timed::loads(out, gpa, 0);
        }
    }
);

// A load of four bytes is the least that every BAR takes. A store might make the device do something.
guest::test!(
    "host-mmio",
    "Loads from a memslot over a PCI BAR of the host, in a range of type WB.",
    RAM.and(Needs::HOST_MMIO),
    points = 21,
    |out| {
        let _guard = Guard::new();
        cpu::report_mtrrs_and_width(out);
        timed::calibrate(out);
        ring(Step::SetMmioSlot { slot: SLOT, gpa: area(0) });
        ring(Step::Mark);
        program(out, MemType::Wb, |_| {});
        read(out, 0, area(0), 4);
        ring(Step::Mark);
        timed::device(out, area(0), 0);
    }
);

/// Reports on what masks depend and by what times are read, and makes the slot, with these flags.
fn start(out: &mut Out, flags: u32) {
    cpu::report_mtrrs_and_width(out);
    timed::calibrate(out);
    ring(Step::SetSlot {
        api: SlotApi::V1,
        slot: SLOT,
        flags,
        gpa: WINDOW,
        pages: SLOT_PAGES,
        memory: SlotMemory::Small,
    });
    ring(Step::Mark);
}

/// Area number `n` of the slot.
fn area(n: u64) -> u64 {
    WINDOW + n * AREA
}
