//! Family `mmio`: accesses that leave the VM, memslots that come and go, and memslot flags.
//!
//! What: loads and stores of each width and offset where no memslot is, in read-only memslots, in memslots that are
//! deleted and made again, each memslot flag in both ioctls, and loads from a PCI BAR of the host.
//!
//! Why: an access that leaves the VM must come to the VMM once, with its width and value, and one to memory must not; a
//! page that is MMIO to the host is one of the targets whose type is asked for.
//!
//! Source: `virt/kvm/kvm_main.c:check_memory_region_flags`, `__kvm_set_memory_region` (7.2: `kvm_set_memory_region`);
//! `arch/x86/kvm/x86.c:emulator_read_write`; `arch/x86/kvm/mmu/spte.c:kvm_is_mmio_pfn`.

#![no_std]
#![no_main]

use guest::doorbell::ring;
use guest::mmio::{read, write};
use guest::report::Out;
use guest::slot;
use wire::layout::WINDOW;
use wire::needs::Needs;
use wire::step::{SlotApi, SlotMemory, Status, Step};

guest::family!();

const SLOTS: Needs = Needs::STEPS.and(Needs::SLOTS);
const READONLY_SLOTS: Needs = SLOTS.and(Needs::READONLY_SLOTS);
/// KVM_MEM_READONLY, include/uapi/linux/kvm.h.
const READONLY: u32 = 1 << 1;
/// The slot that most tests use; slot 0 is the VM's RAM.
const SLOT: u8 = 1;
/// Eight different bytes.
const PATTERN: u64 = 0x8877_6655_4433_2211;

guest::test!(
    "unbacked",
    "Loads and stores of each width and offset where no memslot is, at CPL0.",
    SLOTS,
    points = 42,
    |out| {
        unbacked(out, 0);
    }
);
guest::test!("unbacked-user", "The same at CPL3.", SLOTS, points = 42, |out| unbacked(out, 3));

fn unbacked(out: &mut Out, cpl: u8) {
    for (offset, width) in accesses() {
        read(out, cpl, WINDOW + offset, width);
        write(out, cpl, WINDOW + offset, width, PATTERN.rotate_left(offset as u32));
    }
}

guest::test!(
    "pages",
    "Loads and stores at both ends of several pages where no memslot is.",
    SLOTS,
    points = 24,
    |out| {
        for page in [0, 1, 0x1ff] {
            for offset in [0, 0xff8] {
                for cpl in [0, 3] {
                    read(out, cpl, WINDOW + page * 0x1000 + offset, 8);
                    write(out, cpl, WINDOW + page * 0x1000 + offset, 8, PATTERN ^ page);
                }
            }
        }
    }
);

guest::test!(
    "readonly",
    "Loads and stores in a read-only memslot at CPL0; the host writes and reads its memory.",
    READONLY_SLOTS,
    points = 48,
    |out| {
        readonly(out, 0);
    }
);
guest::test!("readonly-user", "The same at CPL3.", READONLY_SLOTS, points = 48, |out| readonly(out, 3));

fn readonly(out: &mut Out, cpl: u8) {
    set(READONLY);
    ring(Step::Poke { slot: SLOT, offset: 0, value: PATTERN, flush: false });
    ring(Step::Poke { slot: SLOT, offset: 8, value: !PATTERN, flush: false });
    for (offset, width) in accesses() {
        read(out, cpl, WINDOW + offset, width);
        write(out, cpl, WINDOW + 8 + offset, width, PATTERN);
    }
    ring(Step::Peek { slot: SLOT, offset: 0, flush: false });
    ring(Step::Peek { slot: SLOT, offset: 8, flush: false });
    read(out, cpl, WINDOW + 8, 8);
}

guest::test!(
    "backed",
    "Loads and stores of each width and offset in a memslot; the host reads its memory.",
    SLOTS,
    points = 169,
    |out| {
        set(0);
        for cpl in [0, 3] {
            for (offset, width) in accesses() {
                ring(Step::Poke { slot: SLOT, offset: 0, value: PATTERN, flush: false });
                write(out, cpl, WINDOW + offset, width, !PATTERN);
                read(out, cpl, WINDOW + offset, width);
                ring(Step::Peek { slot: SLOT, offset: 0, flush: false });
            }
        }
    }
);

guest::test!(
    "memory-memfd",
    "Loads and stores at both ends of 2 MiB of a memfd; the host writes and reads them, with and without CLFLUSH.",
    SLOTS,
    points = 11,
    |out| memory(out, SlotMemory::Memfd)
);
guest::test!("memory-thp", "The same of a transparent huge page.", SLOTS.and(Needs::THP), points = 11, |out| memory(
    out,
    SlotMemory::Thp
));
guest::test!(
    "memory-hugetlb-2m",
    "The same of a hugetlb page of 2 MiB.",
    SLOTS.and(Needs::HUGETLB_2M),
    points = 11,
    |out| memory(out, SlotMemory::Hugetlb2M)
);
guest::test!(
    "memory-hugetlb-1g",
    "The same of the start of a hugetlb page of 1 GiB.",
    SLOTS.and(Needs::HUGETLB_1G),
    points = 11,
    |out| memory(out, SlotMemory::Hugetlb1G)
);

fn memory(out: &mut Out, memory: SlotMemory) {
    const PAGES: u32 = 0x200;
    if !slot::make(out, SLOT, WINDOW, PAGES, memory) {
        return;
    }
    for offset in [0, PAGES * 0x1000 - 8] {
        let gpa = WINDOW + u64::from(offset);
        ring(Step::Poke { slot: SLOT, offset, value: PATTERN, flush: true });
        read(out, 3, gpa, 8);
        write(out, 3, gpa, 8, !PATTERN);
        for flush in [true, false] {
            ring(Step::Peek { slot: SLOT, offset, flush });
        }
    }
}

guest::test!(
    "delete",
    "Uses a memslot, deletes it, touches the hole, makes it again and finds the contents.",
    SLOTS,
    points = 20,
    |out| {
        for cpl in [0, 3] {
            set(0);
            write(out, cpl, WINDOW + 0x10, 8, PATTERN ^ u64::from(cpl));
            read(out, cpl, WINDOW + 0x10, 8);
            ring(Step::DeleteSlot { api: SlotApi::V1, slot: SLOT });
            read(out, cpl, WINDOW + 0x10, 8);
            write(out, cpl, WINDOW + 0x10, 8, !PATTERN);
            ring(Step::Peek { slot: SLOT, offset: 0x10, flush: false });
            set(0);
            read(out, cpl, WINDOW + 0x10, 8);
            ring(Step::DeleteSlot { api: SlotApi::V1, slot: SLOT });
        }
    }
);

guest::test!(
    "turn-readonly",
    "Uses a memslot, makes it read-only under use, and writable again.",
    READONLY_SLOTS,
    points = 15,
    |out| {
        set(0);
        write(out, 0, WINDOW, 8, PATTERN);
        // KVM refuses to change KVM_MEM_READONLY of a slot: it has to be deleted first. The refusal is of interest too.
        set(READONLY);
        for flags in [READONLY, 0] {
            ring(Step::DeleteSlot { api: SlotApi::V1, slot: SLOT });
            set(flags);
            read(out, 0, WINDOW, 8);
            write(out, 0, WINDOW, 8, !PATTERN);
            read(out, 0, WINDOW, 8);
            ring(Step::Peek { slot: SLOT, offset: 0, flush: false });
        }
    }
);

guest::test!(
    "host-bar",
    "Loads from a PCI BAR of the host in a memslot, which is moved and deleted.",
    SLOTS.and(Needs::HOST_MMIO),
    points = 9,
    |out| {
        // Only loads: they do the least to whatever the device is.
        ring(Step::SetMmioSlot { slot: SLOT, gpa: WINDOW });
        read(out, 0, WINDOW, 4);
        read(out, 3, WINDOW, 4);
        ring(Step::SetMmioSlot { slot: SLOT, gpa: WINDOW + 0x3000 });
        read(out, 0, WINDOW, 4);
        read(out, 0, WINDOW + 0x3000, 4);
        ring(Step::Peek { slot: SLOT, offset: 0, flush: false });
        ring(Step::DeleteSlot { api: SlotApi::V1, slot: SLOT });
        read(out, 0, WINDOW + 0x3000, 4);
    }
);

// Each flag that KVM takes makes a point more than is counted here: the slot is deleted.
guest::test!("flags-v1", "Tries each memslot flag with KVM_SET_USER_MEMORY_REGION.", SLOTS, points = 33, |_| {
    flags(SlotApi::V1);
});
guest::test!(
    "flags-v2",
    "Tries each memslot flag with KVM_SET_USER_MEMORY_REGION2.",
    SLOTS.and(Needs::SLOTS_V2),
    points = 33,
    |_| {
        flags(SlotApi::V2);
    }
);

/// A slot without flags, then each flag alone, each in a slot of its own that is deleted if it came to be.
fn flags(api: SlotApi) {
    let flags = [0].into_iter().chain((0..32).map(|bit| 1 << bit));
    for (slot, flags) in (SLOT..).zip(flags) {
        let made = ring(Step::SetSlot { api, slot, flags, gpa: WINDOW, pages: 1, memory: SlotMemory::Small });
        if made.status == Status::Done {
            ring(Step::DeleteSlot { api, slot });
        }
    }
}

/// Makes the slot at the start of the window, of one page.
fn set(flags: u32) {
    ring(Step::SetSlot { api: SlotApi::V1, slot: SLOT, flags, gpa: WINDOW, pages: 1, memory: SlotMemory::Small });
}

/// Each offset and width whose access does not cross an eight-byte boundary.
fn accesses() -> impl Iterator<Item = (u64, u8)> {
    [1, 2, 4, 8].into_iter().flat_map(|width| (0..=8 - u64::from(width)).map(move |offset| (offset, width)))
}
