//! Family `quirk`: quirks of KVM that decide memory types, disabled while the guest runs.
//!
//! A mark follows each touch and each change of state, so that it is certain which came first.
//!
//! What: touches pages through each entry of the PAT and with CR0.CD set, has the VMM disable a quirk of KVM meanwhile
//! (KVM_CAP_DISABLE_QUIRKS2), and touches the same pages and new ones.
//!
//! Why: IGNORE_GUEST_PAT and CD_NW_CLEARED decide what the next leaf is. Disabling one zaps nothing, so a page touched
//! before keeps the type of before, and a VMM that disables it late has a guest with both.
//!
//! Source: `arch/x86/kvm/x86.c:kvm_vm_ioctl_enable_cap`; `arch/x86/kvm/vmx/vmx.c:vmx_get_mt_mask`,
//! `vmx_ignore_guest_pat`; `Documentation/virt/kvm/api.rst`, KVM_CAP_DISABLE_QUIRKS2.

#![no_std]
#![no_main]

use guest::cr0;
use guest::doorbell::ring;
use guest::guard::Guard;
use guest::mtrr::{pair, program};
use guest::paging::{self, Page};
use guest::report::Out;
use guest::sweep::{cr0_once, msr_once};
use guest::touch::{start, touch, touch_all, touch_by};
use guest::values::PAT_TYPES;
use wire::layout::{CR0_CD, PAT, WINDOW};
use wire::memtype::MemType;
use wire::needs::Needs;
use wire::step::{SlotMemory, Step};

guest::family!();

const RAM: Needs = Needs::STEPS.and(Needs::SLOTS);
const PAGE: u64 = Page::Small.size();
const SLOT_PAGES: u32 = 0x40;
/// KVM_X86_QUIRK_CD_NW_CLEARED and KVM_X86_QUIRK_IGNORE_GUEST_PAT, arch/x86/include/uapi/asm/kvm.h.
const CD_NW_CLEARED: u32 = 1 << 1;
const IGNORE_GUEST_PAT: u32 = 1 << 9;
/// No kernel has a quirk of this bit.
const NO_QUIRK: u32 = 1 << 31;

guest::test!(
    "ignore-guest-pat",
    "Disables IGNORE_GUEST_PAT after pages were touched through each entry of the PAT, and touches them and new ones.",
    RAM,
    points = 89,
    |out| {
        let _guard = Guard::new();
        if !begin(out) {
            return;
        }
        msr_once(out, PAT, PAT_TYPES);
        through_each_entry(out, 0);
        disable(IGNORE_GUEST_PAT);
        through_each_entry(out, 0);
        through_each_entry(out, 8);
    }
);

guest::test!(
    "cd-nw-cleared",
    "Disables CD_NW_CLEARED after pages were touched with CR0.CD set, and touches them and new ones, with CD set and clear.",
    RAM,
    points = 50,
    |out| {
        let _guard = Guard::new();
        if !begin(out) {
            return;
        }
        program(out, MemType::Wb, |out| pair(out, 0, WINDOW, PAGE, MemType::Wt));
        caching_off(out, true);
        touch_all(out, &[WINDOW, WINDOW + PAGE]);
        disable(CD_NW_CLEARED);
        touch_all(out, &[WINDOW, WINDOW + PAGE, WINDOW + 2 * PAGE]);
        caching_off(out, false);
        touch_all(out, &[WINDOW, WINDOW + PAGE, WINDOW + 3 * PAGE]);
    }
);

guest::test!(
    "enable-again",
    "Disables CD_NW_CLEARED, then no quirk and one that no kernel has, and each time touches new pages with CR0.CD set.",
    RAM,
    points = 40,
    |out| {
        let _guard = Guard::new();
        if !begin(out) {
            return;
        }
        program(out, MemType::Wb, |_| {});
        caching_off(out, true);
        for (n, quirks) in (0..).zip([CD_NW_CLEARED, 0, NO_QUIRK, CD_NW_CLEARED | NO_QUIRK]) {
            disable(quirks);
            touch(out, WINDOW + n * PAGE);
        }
    }
);

fn begin(out: &mut Out) -> bool {
    start(out, SLOT_PAGES, SlotMemory::Small)
}

fn disable(quirks: u32) {
    ring(Step::DisableQuirks { quirks });
    ring(Step::Mark);
}

/// Sets or clears CR0.CD.
fn caching_off(out: &mut Out, off: bool) {
    let rest = cr0::read() & !CR0_CD;
    cr0_once(out, if off { rest | CR0_CD } else { rest });
    ring(Step::Mark);
}

/// Touches eight pages from number `first` on, each through an entry of the PAT of its own.
fn through_each_entry(out: &mut Out, first: u64) {
    for entry in 0..8 {
        let gpa = WINDOW + (first + u64::from(entry)) * PAGE;
        paging::map(gpa, Page::Small, entry);
        touch_by(out, gpa, entry);
    }
}
