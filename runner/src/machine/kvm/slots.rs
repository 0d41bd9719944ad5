//! Memslots of the test window: made, changed and deleted by host steps, and read and written through the HVA.

use super::sys;
use crate::host::mmio::HostMmio;
use kvm_bindings::{kvm_userspace_memory_region, kvm_userspace_memory_region2};
use kvm_ioctls::VmFd;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::atomic::Ordering;
use vm_memory::mmap::MmapRegionBuilder;
use vm_memory::{Bytes, MmapRegion, VolatileMemory};
use wire::layout::{WINDOW, WINDOW_SIZE};
use wire::step::{SlotApi, Status};

const PAGE: u64 = 0x1000;

/// The slots that host steps have made, by number. Slot 0 is the VM's RAM and not among them.
#[derive(Debug, Default)]
pub struct Slots(BTreeMap<u8, MmapRegion>);

impl Slots {
    /// Makes or changes a slot. Its memory is made with it, zeroed, and kept until the VM ends.
    pub fn set(&mut self, vm: &VmFd, api: SlotApi, slot: u8, flags: u32, gpa: u64, pages: u32) -> Status {
        let size = u64::from(pages) * PAGE;
        if slot == 0 || !is_inside(gpa, size) || self.0.get(&slot).is_some_and(|memory| memory.size() as u64 != size) {
            return Status::Invalid;
        }
        let memory = match self.0.entry(slot) {
            Entry::Occupied(kept) => kept.into_mut(),
            Entry::Vacant(place) => match anonymous(size as usize) {
                Ok(memory) => place.insert(memory),
                Err(_) => return Status::Errno(libc::ENOMEM.unsigned_abs()),
            },
        };
        tell(vm, api, slot, flags, gpa, size, memory.as_ptr() as u64)
    }

    /// Makes or moves a slot of one page, which is one of a BAR of the host.
    pub fn set_mmio(&mut self, vm: &VmFd, mmio: &HostMmio, slot: u8, gpa: u64) -> Status {
        // The memory of a number is of one kind: the host's BAR is the only file.
        let other = self.0.get(&slot).is_some_and(|memory| memory.file_offset().is_none());
        if slot == 0 || other || !is_inside(gpa, PAGE) {
            return Status::Invalid;
        }
        if let Entry::Vacant(place) = self.0.entry(slot) {
            match mmio.map() {
                Ok(page) => {
                    place.insert(page);
                }
                Err(error) => return Status::Errno(error.raw_os_error().unwrap_or(libc::ENOMEM).unsigned_abs()),
            }
        }
        self.set(vm, SlotApi::V1, slot, 0, gpa, 1)
    }

    /// Deletes a slot; its memory stays.
    pub fn delete(&self, vm: &VmFd, api: SlotApi, slot: u8) -> Status {
        match self.0.get(&slot) {
            Some(memory) => tell(vm, api, slot, 0, WINDOW, 0, memory.as_ptr() as u64),
            None => Status::Invalid,
        }
    }

    /// Writes eight bytes at `offset` of a slot's memory.
    pub fn poke(&self, slot: u8, offset: u32, value: u64) -> Status {
        let done =
            self.0.get(&slot).map(|memory| memory.as_volatile_slice().store(value, offset as usize, Ordering::SeqCst));
        if let Some(Ok(())) = done { Status::Done } else { Status::Invalid }
    }

    /// Reads eight bytes at `offset` of a slot's memory.
    pub fn peek(&self, slot: u8, offset: u32) -> (Status, u64) {
        let value = self.0.get(&slot).map(|memory| memory.as_volatile_slice().load(offset as usize, Ordering::SeqCst));
        if let Some(Ok(value)) = value { (Status::Done, value) } else { (Status::Invalid, 0) }
    }
}

/// Whether a slot lies in the test window.
fn is_inside(gpa: u64, size: u64) -> bool {
    gpa >= WINDOW && size > 0 && size <= WINDOW_SIZE && gpa - WINDOW <= WINDOW_SIZE - size
}

fn anonymous(size: usize) -> Result<MmapRegion, vm_memory::mmap::MmapRegionError> {
    MmapRegionBuilder::new(size)
        .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE)
        .with_mmap_flags(libc::MAP_ANONYMOUS | libc::MAP_PRIVATE | libc::MAP_NORESERVE)
        .build()
}

fn tell(vm: &VmFd, api: SlotApi, slot: u8, flags: u32, gpa: u64, size: u64, hva: u64) -> Status {
    let region = kvm_userspace_memory_region2 {
        slot: slot.into(),
        flags,
        guest_phys_addr: gpa,
        memory_size: size,
        userspace_addr: hva,
        // No file descriptor, so that a slot flagged KVM_MEM_GUEST_MEMFD cannot take standard input for one.
        guest_memfd: u32::MAX,
        ..Default::default()
    };
    let done = match api {
        SlotApi::V1 => {
            let kvm_userspace_memory_region2 { slot, flags, guest_phys_addr, memory_size, userspace_addr, .. } = region;
            let region = kvm_userspace_memory_region { slot, flags, guest_phys_addr, memory_size, userspace_addr };
            // SAFETY: the memory at `hva` is a mapping of `size` bytes that outlives the VM (both are fields of it, and
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
