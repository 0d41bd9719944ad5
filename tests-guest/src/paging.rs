//! The mapping in which guests run: physical addresses one to one, in 2 MiB pages that CPL3 may use too. A test may map
//! a page anew, through another entry of the PAT, or a second time.

use crate::cpu;
use alloc::alloc::alloc_zeroed;
use core::alloc::Layout;
use core::arch::asm;
use core::ptr::NonNull;
use volatile::VolatilePtr;
use wire::layout::MEMORY_END;

/// Both ways to boot map the first 4 GiB.
pub const MAPPED: u64 = 1 << 32;

/// Where aliases are: what entry 1 of the PML4 maps.
const ALIASES: u64 = 1 << 39;
/// Where the page is that [`walk_by`] maps: what entry 2 of the PML4 maps.
const WALKED: u64 = 2 << 39;
/// Where memory above 4 GiB is: what entry 3 of the PML4 maps.
const ABOVE: u64 = 3 << 39;

/// A page by its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// 4 KiB.
    Small,
    /// 2 MiB.
    Large,
    /// 1 GiB, where [`has_huge`].
    Huge,
}

// Bits of an entry of a paging structure: SDM Vol. 3A "4-Level Paging and 5-Level Paging".
/// Present, writable, and for CPL3 too.
const PRESENT_WRITABLE_USER: u64 = 7;
/// An entry of a page directory maps a page of 2 MiB, one of a page-directory-pointer table a page of 1 GiB.
const PS: u64 = 1 << 7;
/// The address in an entry, of a table or of a small page.
const ADDRESS: u64 = 0xf_ffff_ffff_f000;

impl Page {
    /// Its size in bytes.
    pub const fn size(self) -> u64 {
        match self {
            Page::Small => 0x1000,
            Page::Large => 0x20_0000,
            Page::Huge => 0x4000_0000,
        }
    }

    /// The leaf that maps the page at `gpa` one to one through the entry `pat_entry` of the PAT.
    ///
    /// SDM Vol. 3A, "Paging and Memory Typing When the PAT Is Supported": PWT, PCD and PAT are the entry's number.
    const fn leaf(self, gpa: u64, pat_entry: u8) -> u64 {
        let (pwt_pcd, pat) = ((pat_entry as u64 & 3) << 3, pat_entry as u64 >> 2 & 1);
        let at = gpa & !(self.size() - 1);
        match self {
            Page::Small => at | pwt_pcd | pat << 7 | PRESENT_WRITABLE_USER,
            Page::Large | Page::Huge => at | pwt_pcd | pat << 12 | PS | PRESENT_WRITABLE_USER,
        }
    }
}

/// Whether CPUID shows pages of 1 GiB.
pub fn has_huge() -> bool {
    cpu::leaf(0x8000_0001, 0).registers[3] >> 26 & 1 == 1
}

/// A page of RAM, filled with zeros and aligned to its size, that nobody else uses. It is never freed.
///
/// # Panics
/// There is no memory for it.
pub fn spare(page: Page) -> u64 {
    let size = page.size() as usize;
    let Ok(layout) = Layout::from_size_align(size, size) else { panic!("a page of an impossible size") };
    // SAFETY: the layout is not of size 0.
    let memory = unsafe { alloc_zeroed(layout) };
    assert!(!memory.is_null(), "no memory for a page");
    memory.expose_provenance() as u64
}

/// Maps the page of that size at `gpa` through the entry `pat_entry` of the PAT, one to one as before, for all vCPUs.
/// Drops what the TLB of this vCPU holds; each other one has to [`flush`] its own. Caches are left alone.
///
/// The first page inside a larger one takes memory for a table. The pages around it stay mapped as they were.
///
/// # Panics
/// The address is not mapped at all, or there is no memory for the table.
pub fn map(gpa: u64, page: Page, pat_entry: u8) {
    assert!(gpa < MAPPED && pat_entry < 8, "a page that cannot be mapped");
    let pointers = table(entry(cpu::cr3(), 0).read());
    let leaf = match page {
        Page::Huge => entry(pointers, gpa >> 30),
        Page::Large => entry(directory(pointers, gpa), gpa >> 21),
        Page::Small => entry(small_pages(directory(pointers, gpa), gpa), gpa >> 12),
    };
    leaf.write(page.leaf(gpa, pat_entry));
    flush();
}

/// Maps the small page at `gpa` once more, at [`alias_of`] it and the entry `pat_entry` of the PAT, for all vCPUs. What it
/// is mapped as one to one stays, and no TLB holds anything of an alias before.
///
/// # Panics
/// There is no such page or entry, or no memory for the tables.
pub fn alias(gpa: u64, pat_entry: u8) {
    assert!(gpa < MAPPED && pat_entry < 8, "a page that cannot be mapped");
    let linear = alias_of(gpa, pat_entry);
    let at = tables(linear, &[39, 30, 21]);
    entry(at, linear >> 12).write(Page::Small.leaf(gpa, pat_entry));
}

/// Maps the page of 2 MiB around `gpa`, which may lie above 4 GiB, through entry 0 of the PAT, and gives the linear address
/// at which `gpa` is.
///
/// # Panics
/// There is no such memory, or none for the tables.
pub fn above(gpa: u64) -> u64 {
    assert!(gpa < MEMORY_END, "a page that cannot be mapped");
    let linear = ABOVE + gpa;
    entry(tables(linear, &[39, 30]), linear >> 21).write(Page::Large.leaf(gpa, 0));
    linear
}

/// The table to which the entries for a linear address lead, one at each of these bits of it on; tables are made where
/// there are none.
fn tables(linear: u64, shifts: &[u32]) -> u64 {
    shifts.iter().fold(cpu::cr3(), |at, shift| {
        let entry = entry(at, linear >> shift);
        if entry.read() & 1 == 0 {
            entry.write(spare(Page::Small) | PRESENT_WRITABLE_USER);
        }
        table(entry.read())
    })
}

/// The first entry of a page table by which the page of RAM at `gpa` is mapped, as WB after a reset.
pub const fn first_entry(gpa: u64) -> u64 {
    Page::Small.leaf(gpa, 0)
}

/// A page table in RAM with that entry, in a page that nobody else uses.
pub fn table_of(gpa: u64) -> u64 {
    let table = spare(Page::Small);
    entry(table, 0).write(first_entry(gpa));
    table
}

/// Has the page at `table` be the page table that maps one page, with what its first entry says, and gives that page's
/// linear address. The CPU reads the table through the entry `pat_entry` of the PAT: an entry of a directory has PWT and PCD
/// for that, so it is one of the first four.
///
/// SDM Vol. 3A, "Paging and Memory Typing When the PAT Is Supported".
pub fn walk_by(table: u64, pat_entry: u8) -> u64 {
    assert!(pat_entry < 4, "no entry of the PAT that an entry of a directory selects");
    let directory = tables(WALKED, &[39, 30]);
    entry(directory, WALKED >> 21).write(table | u64::from(pat_entry) << 3 | PRESENT_WRITABLE_USER);
    flush();
    WALKED
}

/// The linear address of the alias of the small page at `gpa` through an entry of the PAT: each entry has its own, so that
/// one page can be mapped through all of them at once.
pub const fn alias_of(gpa: u64, pat_entry: u8) -> u64 {
    let size = Page::Small.size();
    ALIASES + (gpa / size * 8 + pat_entry as u64) * size
}

/// The directory of the 1 GiB around `gpa`, made if that is one page.
fn directory(pointers: u64, gpa: u64) -> u64 {
    inside(entry(pointers, gpa >> 30), Page::Large)
}

/// The table of small pages of the 2 MiB around `gpa`, made if that is one page.
fn small_pages(directory: u64, gpa: u64) -> u64 {
    inside(entry(directory, gpa >> 21), Page::Small)
}

/// The table to which an entry leads; a page that it maps is split into pages of size `page` before.
fn inside(entry: VolatilePtr<'static, u64>, page: Page) -> u64 {
    if entry.read() & PS != 0 {
        entry.write(split(entry.read(), page) | PRESENT_WRITABLE_USER);
    }
    table(entry.read())
}

/// Drops all that the TLB of this vCPU holds. There are no global pages.
pub fn flush() {
    // SAFETY: the page tables stay the same.
    unsafe { asm!("mov cr3, {}", in(reg) cpu::cr3(), options(nostack, preserves_flags)) };
}

/// A new table of pages of size `page` that maps what the leaf one level above maps, in the same way.
fn split(leaf: u64, page: Page) -> u64 {
    let pat_entry = ((leaf >> 3 & 3) | (leaf >> 12 & 1) << 2) as u8;
    let base = leaf & ADDRESS & !(512 * page.size() - 1);
    let new = spare(Page::Small);
    for n in 0..512 {
        entry(new, n).write(page.leaf(base + n * page.size(), pat_entry));
    }
    new
}

/// The table to which an entry leads.
fn table(entry: u64) -> u64 {
    assert!(entry & 1 != 0 && entry & PS == 0, "page tables that are not those of the boot");
    entry & ADDRESS
}

/// The entry of the table at `table` for an address, of which `index` is the part from this level's index on.
fn entry(table: u64, index: u64) -> VolatilePtr<'static, u64> {
    let at = (table & ADDRESS) + (index & 511) * 8;
    let Some(pointer) = NonNull::new(core::ptr::with_exposed_provenance_mut(at as usize)) else {
        panic!("page tables at address 0")
    };
    // SAFETY: page tables are mapped one to one, and the CPU alone reads them besides; it may set bits in between, but
    // no bit that is looked at here.
    unsafe { VolatilePtr::new(pointer) }
}
