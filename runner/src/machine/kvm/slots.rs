//! Memslots of the test window: made, changed and deleted by host steps, and read and written through the HVA.

use super::memory::Memory;
use super::sys;
use crate::host::mmio::HostMmio;
use kvm_bindings::{kvm_userspace_memory_region, kvm_userspace_memory_region2};
use kvm_ioctls::VmFd;
use std::arch::x86_64::{_mm_clflush, _mm_mfence};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::atomic::Ordering;
use vm_memory::{Bytes, VolatileSlice};
use wire::layout::{WINDOW, WINDOW_SIZE, in_memory};
use wire::step::{SlotApi, SlotMemory, Status};

const PAGE: u64 = 0x1000;

/// A memslot as it shall be.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Its number.
    pub slot: u8,
    /// KVM_MEM_* flags.
    pub flags: u32,
    /// First guest-physical address.
    pub gpa: u64,
    /// Pages of 4 KiB.
    pub pages: u32,
}

impl Wanted {
    fn size(self) -> u64 {
        u64::from(self.pages) * PAGE
    }

    /// Whether it lies in the test window or, with memory as it is touched, in what a guest may have of that, and is not the
    /// VM's RAM.
    fn is_allowed(self, kind: Option<SlotMemory>) -> bool {
        let Wanted { slot, gpa, .. } = self;
        let size = self.size();
        if kind == Some(SlotMemory::Sparse) {
            return slot != 0 && size > 0 && in_memory(gpa, size);
        }
        slot != 0 && gpa >= WINDOW && size > 0 && size <= WINDOW_SIZE && gpa - WINDOW <= WINDOW_SIZE - size
    }
}

/// The slots that host steps have made, by number. Slot 0 is the VM's RAM and not among them.
#[derive(Debug, Default)]
pub struct Slots(BTreeMap<u8, Memory>);

impl Slots {
    /// Makes or changes a slot. Its memory is made with it, zeroed, and kept until the VM ends.
    pub fn set(&mut self, vm: &VmFd, api: SlotApi, wanted: Wanted, memory: SlotMemory) -> Status {
        self.set_memory(vm, api, wanted, Some(memory), || Memory::new(memory, wanted.size() as usize).ok())
    }

    /// Makes or moves a slot of one page, which is one of a BAR of the host.
    pub fn set_mmio(&mut self, vm: &VmFd, mmio: &HostMmio, wanted: Wanted) -> Status {
        self.set_memory(vm, SlotApi::V1, wanted, None, || Memory::device(mmio).ok())
    }

    /// Makes or changes a slot with memory of that kind, of which a number keeps what it got first.
    fn set_memory(
        &mut self,
        vm: &VmFd,
        api: SlotApi,
        wanted: Wanted,
        kind: Option<SlotMemory>,
        make: impl FnOnce() -> Option<Memory>,
    ) -> Status {
        let size = wanted.size();
        let other = |memory: &Memory| memory.size() as u64 != size || memory.kind() != kind;
        if !wanted.is_allowed(kind) || self.0.get(&wanted.slot).is_some_and(other) {
            return Status::Invalid;
        }
        let memory = match self.0.entry(wanted.slot) {
            Entry::Occupied(kept) => kept.into_mut(),
            Entry::Vacant(place) => match make() {
                Some(memory) => place.insert(memory),
                None => return Status::NoMemory,
            },
        };
        tell(vm, api, wanted, memory.as_ptr() as u64)
    }

    /// Deletes a slot; its memory stays.
    pub fn delete(&self, vm: &VmFd, api: SlotApi, slot: u8) -> Status {
        match self.0.get(&slot) {
            Some(memory) => tell(vm, api, Wanted { slot, flags: 0, gpa: WINDOW, pages: 0 }, memory.as_ptr() as u64),
            None => Status::Invalid,
        }
    }

    /// Writes eight bytes at `offset` of a slot's memory, with their line out of the host's caches before and after if
    /// `flush`.
    pub fn poke(&self, slot: u8, offset: u32, value: u64, flush: bool) -> Status {
        let done = self.word(slot, offset).map(|word| {
            if flush {
                flush_line(&word);
            }
            word.store(value, 0, Ordering::SeqCst).map(|()| {
                if flush {
                    flush_line(&word);
                }
            })
        });
        if let Some(Ok(())) = done { Status::Done } else { Status::Invalid }
    }

    /// Reads eight bytes at `offset` of a slot's memory, with their line out of the host's caches before if `flush`.
    pub fn peek(&self, slot: u8, offset: u32, flush: bool) -> (Status, u64) {
        let value = self.word(slot, offset).map(|word| {
            if flush {
                flush_line(&word);
            }
            word.load(0, Ordering::SeqCst)
        });
        if let Some(Ok(value)) = value { (Status::Done, value) } else { (Status::Invalid, 0) }
    }

    /// Eight bytes of a slot's memory.
    fn word(&self, slot: u8, offset: u32) -> Option<VolatileSlice<'_>> {
        self.0.get(&slot).and_then(|memory| memory.slice(offset as usize, 8))
    }
}

/// Writes the line that holds the bytes back to memory and drops it from all caches.
fn flush_line(word: &VolatileSlice<'_>) {
    // SAFETY: every x86-64 CPU has CLFLUSH and MFENCE; the bytes are mapped, and hold afterwards what they held before.
    unsafe {
        _mm_mfence();
        _mm_clflush(word.ptr_guard().as_ptr());
        _mm_mfence();
    }
}

fn tell(vm: &VmFd, api: SlotApi, wanted: Wanted, hva: u64) -> Status {
    let region = kvm_userspace_memory_region2 {
        slot: wanted.slot.into(),
        flags: wanted.flags,
        guest_phys_addr: wanted.gpa,
        memory_size: wanted.size(),
        userspace_addr: hva,
        // No file descriptor, so that a slot flagged KVM_MEM_GUEST_MEMFD cannot take standard input for one.
        guest_memfd: u32::MAX,
        ..Default::default()
    };
    let done = match api {
        SlotApi::V1 => {
            let kvm_userspace_memory_region2 { slot, flags, guest_phys_addr, memory_size, userspace_addr, .. } = region;
            let region = kvm_userspace_memory_region { slot, flags, guest_phys_addr, memory_size, userspace_addr };
            // SAFETY: the memory at `hva` is a mapping of the slot's size that outlives the VM (both are fields of it, and
            // the VM's file descriptor is dropped first); size 0 takes the slot away.
            unsafe { vm.set_user_memory_region(region) }
        }
        // SAFETY: as above.
        SlotApi::V2 => unsafe { vm.set_user_memory_region2(region) },
    };
    match done {
        Ok(()) => Status::Done,
        Err(error) => Status::Errno(sys::errno(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::layout::{HIGH_MEMORY, HOLE, RAM};

    #[test]
    fn a_word_is_written_and_read_with_and_without_a_flush() {
        let memory = Memory::new(SlotMemory::Memfd, 1 << 12).unwrap();
        let slots = Slots(BTreeMap::from([(1, memory)]));
        for (offset, flush) in [(0, true), (0xff8, false)] {
            assert_eq!(slots.poke(1, offset, 7, flush), Status::Done);
            assert_eq!(slots.peek(1, offset, !flush), (Status::Done, 7));
        }
        // Outside, across the end, unaligned, and of no slot.
        for (slot, offset) in [(1, 0x1000), (1, 0xffc), (1, 4), (2, 0)] {
            assert_eq!(
                (slots.poke(slot, offset, 7, true), slots.peek(slot, offset, true).0),
                (Status::Invalid, Status::Invalid)
            );
        }
    }

    #[test]
    fn slots_lie_in_the_window() {
        let allowed = |slot, gpa, pages| Wanted { slot, flags: 0, gpa, pages }.is_allowed(Some(SlotMemory::Small));
        let all = (WINDOW_SIZE / PAGE) as u32;
        assert!(allowed(1, WINDOW, all) && allowed(1, WINDOW + WINDOW_SIZE - PAGE, 1));
        assert!(!allowed(0, WINDOW, 1) && !allowed(1, WINDOW, 0) && !allowed(1, WINDOW - PAGE, 1));
        assert!(!allowed(1, WINDOW, all + 1) && !allowed(1, WINDOW + PAGE, all) && !allowed(1, u64::MAX, 1));
    }

    #[test]
    fn large_memory_lies_around_the_hole() {
        let allowed = |slot, gpa, pages| Wanted { slot, flags: 0, gpa, pages }.is_allowed(Some(SlotMemory::Sparse));
        let low = ((HOLE - RAM) / PAGE) as u32;
        assert!(allowed(1, RAM, low) && allowed(1, HIGH_MEMORY, 13 << 18));
        assert!(!allowed(0, RAM, 1) && !allowed(1, RAM, 0) && !allowed(1, RAM - PAGE, 1) && !allowed(1, RAM, low + 1));
        assert!(!allowed(1, WINDOW, 1) && !allowed(1, HIGH_MEMORY - PAGE, 2) && !allowed(1, u64::MAX, 1));
    }
}
