//! From the entry to the test and to the end: what the boot protocol hands over, and which test to run.

use crate::area::{AREA_SIZE, Area};
use crate::report::{self, Out};
use crate::{console, heap, module, registry};
use core::arch::global_asm;
use core::ptr::NonNull;
use volatile::VolatilePtr;
use wire::layout::{BOCHS_WORD, LINE_PORT_WORD, START_CR4};

global_asm!(include_str!("asm/entry.s"), AREA_SIZE = const AREA_SIZE, START_CR4 = const START_CR4);
global_asm!(include_str!("asm/mem.s"));

/// `hvm_start_info.magic`, xen/include/public/arch-x86/hvm/start_info.h.
const START_MAGIC: u32 = 0x336e_c578;
/// Type of a range in the memory map that is RAM.
const RAM: u32 = 1;
/// Longest command line in bytes; a longer one is cut off.
const COMMAND_LINE: usize = 512;

/// `struct hvm_start_info` of version 1, xen/include/public/arch-x86/hvm/start_info.h.
#[repr(C)]
#[derive(Clone, Copy)]
struct StartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    modules: u32,
    module_list: u64,
    command_line: u64,
    rsdp: u64,
    memory_map: u64,
    memory_map_entries: u32,
    reserved: u32,
}

/// `struct hvm_memmap_table_entry`.
#[repr(C)]
#[derive(Clone, Copy)]
struct MemoryRange {
    address: u64,
    size: u64,
    kind: u32,
    reserved: u32,
}

/// `struct hvm_modlist_entry`.
#[repr(C)]
#[derive(Clone, Copy)]
struct ModuleEntry {
    address: u64,
    size: u64,
    command_line: u64,
    reserved: u64,
}

/// Reads a `T` that the loader left at a physical address.
///
/// # Safety
/// A `T` must be there, and nobody may write to it meanwhile.
unsafe fn read<T: Copy>(address: u64) -> T {
    let Some(pointer) = NonNull::new(core::ptr::with_exposed_provenance_mut::<T>(address as usize)) else {
        panic!("the loader left a null pointer")
    };
    // SAFETY: as the caller promises.
    unsafe { VolatilePtr::new_read_only(pointer) }.read()
}

/// Called by [`family!`](crate::family) for the entry: runs the test of `family` that the command line names.
pub fn start(start_info: u64, pvh: u32, family: &str) -> ! {
    console::init(pvh != 0);
    Area::current().load();
    // SAFETY: both boot protocols say that this register holds the address of the structure.
    let info: StartInfo = unsafe { read(start_info) };
    assert!(info.magic == START_MAGIC && info.version >= 1, "the loader passed no hvm_start_info of version 1");
    let mut end_of_heap = u64::MAX;
    if info.modules > 0 {
        // SAFETY: the list has this many entries.
        let ModuleEntry { address, size, .. } = unsafe { read(info.module_list) };
        // SAFETY: the loader put it there, and the heap ends before it.
        unsafe { module::set(address, size) };
        end_of_heap = address;
    }
    for n in 0..u64::from(info.memory_map_entries) {
        // SAFETY: the map has this many entries.
        let range: MemoryRange = unsafe { read(info.memory_map + n * size_of::<MemoryRange>() as u64) };
        if range.kind == RAM {
            let end = range.address.saturating_add(range.size).min(end_of_heap);
            // SAFETY: RAM above the image; the loader's structures that are read below are not written to before.
            unsafe { heap::init(range.address, end) };
        }
    }
    let mut words = [0; COMMAND_LINE];
    let words = command_line(info.command_line, &mut words);
    if value(words, LINE_PORT_WORD.as_bytes()) == Some(b"") {
        console::whole_lines();
    }
    if value(words, BOCHS_WORD.as_bytes()) == Some(b"") {
        console::in_bochs();
    }
    let run = value(words, b"run=").map_or(0, hex);
    let wanted = value(words, b"test=");
    let Some(test) = registry::find(wanted) else {
        report::begin(run, family, "none");
        panic!("the command line names a test that this guest does not have");
    };
    let out: &mut Out = report::begin(run, family, registry::name(test));
    (test.run)(out);
    report::finish()
}

/// Copies the command line and gives the part of the buffer that it fills.
fn command_line(address: u64, buffer: &mut [u8; COMMAND_LINE]) -> &[u8] {
    let mut len = 0;
    while address != 0 && len < COMMAND_LINE {
        // SAFETY: the bytes up to the first zero belong to the command line.
        match unsafe { read(address + len as u64) } {
            0 => break,
            byte => buffer[len] = byte,
        }
        len += 1;
    }
    &buffer[..len]
}

/// What follows `key` in the word that starts with it.
fn value<'a>(line: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    line.split(|&byte| byte == b' ').find_map(|word| word.strip_prefix(key))
}

/// A hexadecimal number; what is no digit counts as zero, since nobody could be told before the report has its run id.
pub(crate) fn hex(digits: &[u8]) -> u64 {
    digits.iter().fold(0, |sum, &digit| sum << 4 | u64::from(char::from(digit).to_digit(16).unwrap_or(0)))
}
