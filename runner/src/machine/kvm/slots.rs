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
        .inspect(hold)
}

/// Keeps the host's memory management away from a slot's memory, as far as it lets us. Where it moves, merges,
/// collapses or reclaims a page, an MMU notifier zaps its SPTE, which would be taken for a zap of KVM's own. Compaction
/// is left: no call keeps it off.
fn hold(memory: &MmapRegion) {
    let (start, size) = (memory.as_ptr().cast::<libc::c_void>(), memory.size());
    // No result matters: a kernel without KSM, THP or NUMA refuses what it has no need of, and without mlock (at most
    // the 2 MiB of the window, but RLIMIT_MEMLOCK may be less) the rest is as before.
    // SAFETY: the mapping is `size` bytes at `start`, and none of the calls changes what it holds.
    unsafe {
        // khugepaged collapses no such memory, and a fault makes no huge page of it.
        libc::madvise(start, size, libc::MADV_NOHUGEPAGE);
        // KSM merges only what is offered, but a process can be started with all of its memory offered.
        libc::madvise(start, size, libc::MADV_UNMERGEABLE);
        // NUMA balancing unmaps pages to see who touches them, but not where a policy says on which node they belong.
        libc::syscall(libc::SYS_mbind, start, size, libc::MPOL_LOCAL, std::ptr::null::<u8>(), 0usize, 0u32);
        // It is not reclaimed, and populated here: nor is a zero page, read before it was written, replaced.
        libc::mlock(start, size);
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slots_memory_is_held_as_far_as_the_host_lets_us() {
        let memory = anonymous(4 * PAGE as usize).unwrap();
        let start = memory.as_ptr() as usize;
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let here = |line: &&str| {
            let area = line.split(' ').next().and_then(|area| area.split_once('-'));
            let (from, to) = area.map_or((0, 0), |(from, to)| {
                let number = |text| usize::from_str_radix(text, 16).unwrap_or(0);
                (number(from), number(to))
            });
            (from..to).contains(&start)
        };
        let flags = maps.lines().skip_while(|line| !here(line)).find_map(|line| line.strip_prefix("VmFlags:")).unwrap();
        let has = |flag: &str| flags.split_whitespace().any(|it| it == flag);
        let thp = std::path::Path::new("/sys/kernel/mm/transparent_hugepage").exists();
        assert!(has("nh") || !thp, "{flags}");
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the structure is the one that the call fills.
        assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) }, 0);
        if limit.rlim_cur < 1 << 20 {
            return crate::skip::skip("RLIMIT_MEMLOCK is too small");
        }
        assert!(has("lo"), "{flags}");
        assert_eq!(memory.as_volatile_slice().load::<u64>(0, Ordering::SeqCst).unwrap(), 0);
    }
}
