//! EPT paging structures: guest-physical addresses one to one, WB but for the pages under test. SDM Vol. 3C, "The EPT
//! Translation Mechanism".

use crate::paging::{self, Page};
use core::arch::asm;
use core::ptr::NonNull;
use volatile::VolatilePtr;
use wire::memtype::{EptType, MemType};

/// Readable, writable, executable.
const ALL: u64 = 7;
/// An entry of a page directory maps a page of 2 MiB.
const LARGE: u64 = 1 << 7;
/// In the pointer: tables are accessed as WB, and have four levels.
const POINTER: u64 = MemType::Wb as u64 | 3 << 3;
/// The type of a page that is not under test.
const WB: EptType = EptType { memtype: MemType::Wb, ignore_pat: false };
/// Guest-physical memory that is mapped: one page directory's.
const MAPPED: u64 = 1 << 30;

/// The paging structures of one guest.
pub struct Ept {
    root: u64,
    directory: u64,
}

impl Ept {
    /// Maps the first GiB.
    pub fn new() -> Ept {
        let [root, pointers, directory] = [(); 3].map(|()| paging::spare(Page::Small));
        set(root, 0, pointers | ALL);
        set(pointers, 0, directory | ALL);
        for n in 0..512 {
            set(directory, n, (n * Page::Large.size()) | LARGE | ALL | WB.bits());
        }
        Ept { root, directory }
    }

    /// What goes into the VMCS.
    pub fn pointer(&self) -> u64 {
        self.root | POINTER
    }

    /// Maps the page of that size, small or large, at `gpa` with this type. All else in the same 2 MiB is WB.
    pub fn map(&mut self, gpa: u64, page: Page, ept: EptType) {
        assert!(gpa < MAPPED && gpa.is_multiple_of(page.size()), "a page that EPT cannot map here");
        let large = gpa & !(Page::Large.size() - 1);
        let index = large / Page::Large.size();
        match page {
            Page::Large => set(self.directory, index, large | LARGE | ALL | ept.bits()),
            Page::Small => {
                let entry = get(self.directory, index);
                let table = if entry & LARGE == 0 { entry & !0xfff } else { paging::spare(Page::Small) };
                for n in 0..512 {
                    let at = large + n * Page::Small.size();
                    set(table, n, at | ALL | if at == gpa { ept } else { WB }.bits());
                }
                set(self.directory, index, table | ALL);
            }
            Page::Huge => panic!("EPT maps no page of 1 GiB here: there is no such memory"),
        }
        invalidate();
    }
}

/// INVEPT of all contexts.
fn invalidate() {
    let (descriptor, failed) = ([0u64; 2], &mut 0u8);
    // SAFETY: drops translations, which are found again in the tables.
    unsafe {
        asm!("invept {}, [{}]", "setbe {}", in(reg) 2u64, in(reg) descriptor.as_ptr(), out(reg_byte) *failed,
            options(nostack));
    }
    assert!(*failed == 0, "INVEPT failed");
}

fn get(table: u64, index: u64) -> u64 {
    entry(table, index).read()
}

fn set(table: u64, index: u64, value: u64) {
    entry(table, index).write(value);
}

fn entry(table: u64, index: u64) -> VolatilePtr<'static, u64> {
    let at = table as usize + index as usize % 512 * 8;
    let Some(pointer) = NonNull::new(core::ptr::with_exposed_provenance_mut(at)) else { panic!("EPT at address 0") };
    // SAFETY: in a page of `paging::spare` that is an EPT table; nobody but the CPU, in VMX non-root operation, reads it
    // besides.
    unsafe { VolatilePtr::new(pointer) }
}
