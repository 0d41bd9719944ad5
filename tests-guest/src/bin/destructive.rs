//! Family `destructive`: cacheable accesses to pages of the host that are not memory. They may take the host down.
//!
//! What: a page of the host is put into a memslot: the first of a PCI BAR, one of the legacy VGA hole, or that of the local
//! APIC. The guest makes its own type WB, by MTRRs and PAT, and loads, stores back what it has loaded, and flushes the line.
//! It reports each access. It runs only where `--destructive` names the target (docs/destructive.md).
//!
//! Why: KVM makes the leaf of a page UC where it takes it for MMIO. Where it takes a device's page for RAM, the leaf is WB
//! with IPAT, the guest's accesses are cacheable, and the write-back of a line meets a device that knows no lines. Nothing
//! is promised then: a machine check, a hang or a reset of the host has been reported, and so has nothing at all. So
//! nothing is expected here either; a machine check and a host that goes down are findings.
//!
//! Source: KVM's `arch/x86/kvm/mmu/spte.c:kvm_is_mmio_pfn`, which asks `arch/x86/mm/pat/memtype.c:pat_pfn_immune_to_uc_mtrr`;
//! that one has the ISA range, 0xa0000 to 0xfffff, as WB. SDM Vol. 3A, "Methods of Caching Available": caching of
//! memory-mapped I/O is not supported.

#![no_std]
#![no_main]

use core::arch::asm;
use guest::doorbell::ring;
use guest::guard::Guard;
use guest::mmio::{read, write};
use guest::mtrr::{caching, change};
use guest::report::Out;
use guest::values::ENABLED;
use guest::{cpu, user};
use wire::layout::WINDOW;
use wire::memtype::MemType;
use wire::needs::Needs;
use wire::step::{Hazard, Step};

guest::family!();

const HAZARD: Needs = Needs::STEPS.and(Needs::SLOTS).and(Needs::DESTRUCTIVE);
const SLOT: u8 = 1;
/// Offset of what is stored to. In the page of a local APIC that is the task priority, which is 0 already (SDM Vol. 3A,
/// "Local APIC Register Address Map").
const OFFSET: u64 = 0x80;

guest::test!(
    "host-bar",
    "Accesses the first page of a PCI BAR of the host as WB memory, and flushes the line.",
    HAZARD.and(Needs::HAZARD_BAR),
    points = 10,
    |out| access(out, Hazard::HostBar)
);
guest::test!(
    "vga-hole",
    "The same with the page at 0xa0000, which KVM takes for RAM.",
    HAZARD.and(Needs::HAZARD_VGA),
    points = 10,
    |out| access(out, Hazard::VgaHole)
);
guest::test!(
    "apic-page",
    "The same with the page of the host's local APIC.",
    HAZARD.and(Needs::HAZARD_APIC),
    points = 10,
    |out| access(out, Hazard::ApicPage)
);

fn access(out: &mut Out, hazard: Hazard) {
    let _guard = Guard::new();
    cpu::report_mtrrs_and_width(out);
    change(out, ENABLED & !0xff | MemType::Wb as u64, |_| {});
    caching(out, true);
    ring(Step::SetHazardSlot { slot: SLOT, gpa: WINDOW, hazard });
    ring(Step::Mark);
    let gpa = WINDOW + OFFSET;
    for cpl in [0, 3] {
        // A second load comes from the cache, if there is one.
        read(out, cpl, gpa, 4);
        let value = read(out, cpl, gpa, 4);
        write(out, cpl, gpa, 4, value);
        // The line goes back to the device now, and not when nobody waits for it.
        user::run(|| flush(gpa));
        ring(Step::Mark);
    }
}

/// Writes the line at an address back and drops it.
fn flush(address: u64) {
    // SAFETY: CLFLUSH changes no register and no memory that the compiler knows of; the page is mapped.
    unsafe { asm!("mfence", "clflush [{}]", "mfence", in(reg) address, options(nostack, preserves_flags)) };
}
