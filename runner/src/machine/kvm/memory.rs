//! The host's memory behind memslots: anonymous pages, transparent huge pages, hugetlb, memfds, and BARs of the host.

use crate::host::mmio::HostMmio;
use crate::machine::memfd;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use vm_memory::mmap::{MmapRegionBuilder, MmapRegionError};
use vm_memory::{FileOffset, MmapRegion, VolatileMemory, VolatileSlice};
use wire::needs::Needs;
use wire::step::SlotMemory;

const LARGE: usize = SlotMemory::Thp.page_size() as usize;
/// Where the host says how many hugetlb pages it has; by size in KiB.
const HUGETLB: &str = "/sys/kernel/mm/hugepages";
/// Whether the host makes transparent huge pages.
const THP: &str = "/sys/kernel/mm/transparent_hugepage/enabled";

/// Memory for a memslot. It goes when this is dropped.
#[derive(Debug)]
pub struct Memory {
    region: Arc<MmapRegion>,
    /// Where in the region the memory starts: transparent huge pages have to be aligned.
    offset: usize,
    size: usize,
    /// Its kind; none for a BAR of the host.
    kind: Option<SlotMemory>,
}

/// Why the host gave no memory.
#[derive(Debug)]
pub enum NoMemory {
    /// It cannot be mapped or populated.
    Io(io::Error),
    /// It is there, but not in huge pages.
    NotHuge,
}

impl From<io::Error> for NoMemory {
    fn from(error: io::Error) -> Self {
        NoMemory::Io(error)
    }
}

impl From<MmapRegionError> for NoMemory {
    fn from(error: MmapRegionError) -> Self {
        match error {
            MmapRegionError::Mmap(error) => NoMemory::Io(error),
            other => NoMemory::Io(io::Error::other(other)),
        }
    }
}

impl fmt::Display for NoMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoMemory::Io(error) => error.fmt(f),
            NoMemory::NotHuge => f.write_str("the kernel gave small pages"),
        }
    }
}

impl Memory {
    /// `size` bytes of that kind, zeroed.
    ///
    /// # Errors
    /// The host has none, or not in such pages.
    pub fn new(kind: SlotMemory, size: usize) -> Result<Self, NoMemory> {
        let whole = size.next_multiple_of(kind.page_size() as usize);
        let hugetlb = |page: libc::c_int| anonymous(whole, libc::MAP_HUGETLB | page);
        let (region, offset) = match kind {
            SlotMemory::Small | SlotMemory::Sparse => (anonymous(size, libc::MAP_NORESERVE)?, 0),
            SlotMemory::Hugetlb2M => (hugetlb(libc::MAP_HUGE_2MB)?, 0),
            SlotMemory::Hugetlb1G => (hugetlb(libc::MAP_HUGE_1GB)?, 0),
            SlotMemory::Memfd => {
                let file = memfd::with(&[])?;
                file.set_len(whole as u64)?;
                let builder = MmapRegionBuilder::new(whole).with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE);
                let builder = builder.with_file_offset(FileOffset::new(file, 0));
                (builder.with_mmap_flags(libc::MAP_SHARED | libc::MAP_NORESERVE).build()?, 0)
            }
            SlotMemory::Thp => {
                // Room on both sides, so that the kernel does not merge it with other memory of the kind.
                let region = anonymous(whole + 2 * LARGE, libc::MAP_NORESERVE)?;
                let start = region.as_ptr() as usize;
                (region, (start + 1).next_multiple_of(LARGE) - start)
            }
        };
        let memory = Memory { region: Arc::new(region), offset, size, kind: Some(kind) };
        let advice = if kind == SlotMemory::Thp { libc::MADV_HUGEPAGE } else { libc::MADV_NOHUGEPAGE };
        memory.hold(whole, advice);
        if kind.page_size() > SlotMemory::Small.page_size() {
            // A touch would end in SIGBUS where a limit of hugetlb pages is met.
            // SAFETY: the mapping has `whole` bytes there; they are zero and stay so.
            match unsafe { libc::madvise(memory.as_ptr().cast(), whole, libc::MADV_POPULATE_WRITE) } {
                0 => {}
                _ => return Err(io::Error::last_os_error().into()),
            }
        }
        if kind == SlotMemory::Thp && huge(memory.as_ptr() as usize)? != whole {
            return Err(NoMemory::NotHuge);
        }
        Ok(memory)
    }

    /// A page of a BAR of the host.
    ///
    /// # Errors
    /// It cannot be mapped.
    pub fn device(mmio: &HostMmio) -> io::Result<Self> {
        let region = mmio.map()?;
        Ok(Memory { offset: 0, size: region.size(), kind: None, region })
    }

    /// Why the host cannot give what slots need, tried with a page of each kind.
    pub fn lacks(needs: Needs) -> Option<String> {
        SlotMemory::ALL.into_iter().find_map(|kind| {
            let wanted = Needs::memory(kind);
            let why = (wanted != Needs::NONE && needs.has(wanted))
                .then(|| Memory::new(kind, kind.page_size() as usize).err())
                .flatten()?;
            let kib = kind.page_size() >> 10;
            Some(match kind {
                SlotMemory::Thp => format!("it needs transparent huge pages: {why}; {THP} must be always or madvise"),
                _ => format!(
                    "it needs free hugetlb pages of {kib} KiB: {why}; write how many there shall be to \
                     {HUGETLB}/hugepages-{kib}kB/nr_hugepages"
                ),
            })
        })
    }

    /// Bytes.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Its kind; none for a BAR of the host.
    pub fn kind(&self) -> Option<SlotMemory> {
        self.kind
    }

    /// Its first byte.
    pub fn as_ptr(&self) -> *mut u8 {
        self.region.as_ptr().wrapping_add(self.offset)
    }

    /// The `len` bytes at `offset`, if they are in there.
    pub fn slice(&self, offset: usize, len: usize) -> Option<VolatileSlice<'_>> {
        let inside = offset.checked_add(len).is_some_and(|end| end <= self.size);
        inside.then(|| self.region.get_slice(self.offset + offset, len).ok()).flatten()
    }

    /// Keeps the host's memory management away from it, as far as it lets us; `advice` is about huge pages. Where it
    /// moves, merges, collapses or reclaims a page, an MMU notifier zaps its SPTE, which would be taken for a zap of
    /// KVM's own. Compaction is left: no call keeps it off.
    fn hold(&self, len: usize, advice: libc::c_int) {
        let start = self.as_ptr().cast::<libc::c_void>();
        // No result matters: a kernel without KSM, THP or NUMA refuses what it has no need of, and without mlock
        // (RLIMIT_MEMLOCK may be less than a slot) the rest is as before.
        // SAFETY: the mapping has `len` bytes at `start`, and none of the calls changes what it holds.
        unsafe {
            // With MADV_NOHUGEPAGE khugepaged collapses no such memory, and a fault makes no huge page of it.
            libc::madvise(start, len, advice);
            // KSM merges only what is offered, but a process can be started with all of its memory offered.
            libc::madvise(start, len, libc::MADV_UNMERGEABLE);
            // NUMA balancing unmaps pages to see who touches them, but not where a policy says on which node they
            // belong.
            libc::syscall(libc::SYS_mbind, start, len, libc::MPOL_LOCAL, std::ptr::null::<u8>(), 0usize, 0u32);
            // It is not reclaimed, and populated here: nor is a zero page, read before it was written, replaced.
            if self.kind != Some(SlotMemory::Sparse) {
                libc::mlock(start, len);
            }
        }
    }
}

fn anonymous(size: usize, flags: libc::c_int) -> Result<MmapRegion, MmapRegionError> {
    MmapRegionBuilder::new(size)
        .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE)
        .with_mmap_flags(libc::MAP_ANONYMOUS | libc::MAP_PRIVATE | flags)
        .build()
}

/// The bytes in transparent huge pages of the mapping that holds `address`.
fn huge(address: usize) -> io::Result<usize> {
    let line = smaps(address, "AnonHugePages:")?;
    let kib = line.trim().strip_suffix(" kB").and_then(|kib| kib.parse::<usize>().ok());
    kib.map(|kib| kib << 10).ok_or_else(|| io::Error::other(format!("AnonHugePages in /proc/self/smaps is {line}")))
}

/// /proc/self/smaps, which is opened once: a process that is confined opens no file.
///
/// # Errors
/// It cannot be opened.
pub fn mappings() -> io::Result<&'static Mutex<File>> {
    static FILE: OnceLock<Mutex<File>> = OnceLock::new();
    if let Some(file) = FILE.get() {
        return Ok(file);
    }
    let file = File::open("/proc/self/smaps")?;
    Ok(FILE.get_or_init(|| Mutex::new(file)))
}

/// What /proc/self/smaps has in the line `name` of the mapping that holds `address`.
fn smaps(address: usize, name: &str) -> io::Result<String> {
    let mut text = String::new();
    let mut file = mappings()?.lock().unwrap_or_else(PoisonError::into_inner);
    file.rewind()?;
    // Not as a file, whose size it would ask for first: that is 0 here, and another system call.
    Read::by_ref(&mut *file).take(u64::MAX).read_to_string(&mut text)?;
    let holds = |line: &&str| {
        let area = line.split(' ').next().and_then(|area| area.split_once('-'));
        area.is_some_and(|(from, to)| {
            let number = |text| usize::from_str_radix(text, 16).unwrap_or(0);
            (number(from)..number(to)).contains(&address)
        })
    };
    let found = text.lines().skip_while(|line| !holds(line)).find_map(|line| line.strip_prefix(name));
    found.map(str::to_owned).ok_or_else(|| io::Error::other(format!("/proc/self/smaps has no {name} there")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;
    use vm_memory::Bytes;

    #[test]
    fn small_memory_is_held_as_far_as_the_host_lets_us() {
        for kind in [SlotMemory::Small, SlotMemory::Memfd] {
            let memory = Memory::new(kind, 4 << 12).unwrap();
            let flags = smaps(memory.as_ptr() as usize, "VmFlags:").unwrap();
            let has = |flag: &str| flags.split_whitespace().any(|it| it == flag);
            assert!(has("nh") || !std::fs::exists(THP).unwrap(), "{flags}");
            let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            // SAFETY: the structure is the one that the call fills.
            assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) }, 0);
            if limit.rlim_cur < 1 << 20 {
                return crate::skip::skip("RLIMIT_MEMLOCK is too small");
            }
            assert!(has("lo"), "{flags}");
            assert_eq!(memory.slice(0, 8).unwrap().load::<u64>(0, Ordering::SeqCst).unwrap(), 0);
        }
    }

    #[test]
    fn huge_pages_are_aligned_and_huge() {
        for kind in [SlotMemory::Thp, SlotMemory::Hugetlb2M] {
            let memory = match Memory::new(kind, 2 * LARGE) {
                Ok(memory) => memory,
                Err(error) => return crate::skip::skip(&format!("{kind}: {error}")),
            };
            // Another one beside it counts for itself.
            let other = Memory::new(kind, LARGE).ok();
            assert!((memory.as_ptr() as usize).is_multiple_of(LARGE));
            if kind == SlotMemory::Thp {
                assert_eq!(huge(memory.as_ptr() as usize).unwrap(), 2 * LARGE);
            } else {
                assert_eq!(smaps(memory.as_ptr() as usize, "KernelPageSize:").unwrap().trim(), "2048 kB");
            }
            drop(other);
        }
    }

    #[test]
    fn no_slice_leaves_the_memory() {
        let memory = Memory::new(SlotMemory::Small, 1 << 12).unwrap();
        assert!(memory.slice(0xff8, 8).is_some());
        assert!(memory.slice(0xff9, 8).is_none() && memory.slice(usize::MAX, 8).is_none());
    }

    #[test]
    fn what_the_host_lacks_is_said() {
        assert_eq!(Memory::lacks(Needs::SLOTS), None);
        let Some(reason) = Memory::lacks(Needs::HUGETLB_1G) else { return };
        assert!(reason.contains("hugetlb pages of 1048576 KiB: "), "{reason}");
    }
}
