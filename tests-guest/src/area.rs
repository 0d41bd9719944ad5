//! Per-vCPU state: stacks, GDT, TSS, what a trap left behind, and the mailbox of an application processor.
//!
//! All stacks of a vCPU lie in its area, and areas are aligned to their size, so RSP says which area is the own one. No
//! segment base or other CPU state has to be right for that.

use crate::smp::Mailbox;
use alloc::alloc::alloc_zeroed;
use core::alloc::Layout;
use core::arch::asm;
use core::cell::UnsafeCell;
use core::mem::{MaybeUninit, offset_of};
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use wire::record::Trap;

/// Size and alignment of an area in bytes.
pub const AREA_SIZE: usize = 0x8000;
/// What the head of the area, 1 KiB, leaves of the first 8 KiB.
const USER_STACK: usize = 0x1c00;
const TRAP_STACK: usize = 0x2000;
const MAIN_STACK: usize = 0x4000;
/// Ports that the I/O permission bitmap covers; it denies all others.
const BITMAP_PORTS: usize = 256;

// Segment descriptors, SDM Vol. 3A "Segment Descriptors"; the selectors are 0x08, 0x10, 0x1b and 0x23.
const KERNEL_CODE: u64 = 0x00af_9b00_0000_ffff;
const KERNEL_DATA: u64 = 0x00cf_9300_0000_ffff;
const USER_DATA: u64 = 0x00cf_f300_0000_ffff;
const USER_CODE: u64 = 0x00af_fb00_0000_ffff;

/// What `lgdt` loads.
#[repr(C, packed)]
struct TableRegister {
    limit: u16,
    base: u64,
}

/// 64-bit TSS with an I/O permission bitmap, SDM Vol. 3A "TSS" and Vol. 1 "I/O Permission Bit Map".
#[repr(C, packed)]
struct Tss {
    reserved0: u32,
    rsp: [u64; 3],
    reserved1: u64,
    ist: [u64; 7],
    reserved2: u64,
    reserved3: u16,
    bitmap_offset: u16,
    bitmap: [u8; BITMAP_PORTS / 8],
    bitmap_end: u8,
}

/// A stack; the alignment also makes the area's head a whole 1 KiB.
#[repr(C, align(0x400))]
struct Stack<const SIZE: usize>(UnsafeCell<[u8; SIZE]>);

/// An exception that nobody waited for.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Death {
    /// The exception.
    pub trap: Trap,
    /// RIP that the exception saved.
    pub rip: u64,
    /// CR2 at that moment; means something for a #PF.
    pub cr2: u64,
}

/// A vCPU's area. `kernel_rsp` comes first: user_return in traps.s finds it there. All zeros is a valid area.
#[repr(C, align(0x8000))]
pub struct Area {
    /// RSP to which code at CPL3 comes back.
    pub(crate) kernel_rsp: UnsafeCell<u64>,
    cpu: AtomicU8,
    /// Vectors that the handler records and returns from, one bit each.
    pub(crate) awaited: AtomicU32,
    /// Whether `caught` holds a trap.
    pub(crate) has_caught: AtomicBool,
    /// The first trap that came of those awaited.
    pub(crate) caught: UnsafeCell<Trap>,
    /// What this vCPU died of, once `mailbox` says so.
    pub(crate) death: UnsafeCell<Death>,
    /// How the vCPU that boots has this one do things.
    pub(crate) mailbox: Mailbox,
    gdt: UnsafeCell<[u64; 7]>,
    tss: UnsafeCell<Tss>,
    user_stack: Stack<USER_STACK>,
    trap_stack: Stack<TRAP_STACK>,
    main_stack: Stack<MAIN_STACK>,
}

// SAFETY: the cells are used by the area's own vCPU alone, but for `death`, which another vCPU reads only after the
// owner said in the mailbox, with release ordering, that it stopped.
unsafe impl Sync for Area {}

const _: () = assert!(offset_of!(Area, main_stack) + MAIN_STACK == AREA_SIZE, "the main stack ends with the area");

/// The area of the vCPU that boots; entry.s takes its end as the first stack.
#[unsafe(no_mangle)]
// SAFETY: integers, arrays and atomics only, for which zero is a value.
static BOOT_AREA: Area = unsafe { MaybeUninit::zeroed().assume_init() };

impl Area {
    /// A new area on the heap, for vCPU `cpu`. It is never freed.
    ///
    /// # Panics
    /// There is no memory for it.
    pub fn allocate(cpu: u8) -> &'static Area {
        // SAFETY: the layout is not of size 0.
        let memory = unsafe { alloc_zeroed(Layout::new::<Area>()) }.cast::<Area>();
        assert!(!memory.is_null(), "no memory for a vCPU's stacks");
        // SAFETY: of the right size and alignment, and all zeros is an area.
        let area = unsafe { &*memory };
        area.cpu.store(cpu, Ordering::Relaxed);
        area
    }

    /// The area of the vCPU that runs this.
    pub fn current() -> &'static Area {
        let rsp: usize;
        // SAFETY: reads RSP.
        unsafe { asm!("mov {}, rsp", out(reg) rsp, options(nomem, nostack, preserves_flags)) };
        // One below, because an empty stack's RSP is the end of the area.
        // SAFETY: guest code runs on stacks inside areas only, and areas are never freed.
        unsafe { &*core::ptr::with_exposed_provenance((rsp - 1) & !(AREA_SIZE - 1)) }
    }

    /// Index of the vCPU whose area this is.
    pub fn cpu(&self) -> u8 {
        self.cpu.load(Ordering::Relaxed)
    }

    /// Where the stack for CPL3 starts, downwards.
    pub(crate) fn user_stack_top(&self) -> u64 {
        (&raw const self.trap_stack).expose_provenance() as u64
    }

    /// Where the main stack starts, downwards.
    pub(crate) fn main_stack_top(&self) -> u64 {
        (&raw const *self).expose_provenance() as u64 + AREA_SIZE as u64
    }

    /// Loads GDT, TSS and IDT on the vCPU that runs this, whose area this must be.
    ///
    /// The TSS descriptor is written anew, because `ltr` marks it busy and INIT does not clear that.
    pub(crate) fn load(&self) {
        let tss = self.tss.get();
        let (base, limit) = (tss.expose_provenance() as u64, size_of::<Tss>() as u64 - 1);
        // SAFETY: own area; the CPU does not use this TSS before `ltr` below.
        unsafe {
            (*tss).ist[0] = (&raw const self.main_stack).expose_provenance() as u64;
            (*tss).bitmap_offset = offset_of!(Tss, bitmap) as u16;
            (*tss).bitmap = [0xff; _];
            (*tss).bitmap_end = 0xff;
        }
        let descriptor = limit | (base & 0xff_ffff) << 16 | 0x89 << 40 | (base >> 24 & 0xff) << 56;
        let gdt = self.gdt.get();
        // SAFETY: own area; no segment is loaded from this GDT while it changes.
        unsafe { *gdt = [0, KERNEL_CODE, KERNEL_DATA, USER_DATA, USER_CODE, descriptor, base >> 32] };
        let register = TableRegister { limit: size_of::<[u64; 7]>() as u16 - 1, base: gdt.expose_provenance() as u64 };
        // SAFETY: the GDT holds 64-bit code at 8, data at 16 and a TSS at 40, and the IDT's gates lead to handlers that
        // run on the TSS's stack.
        unsafe {
            asm!(
                "lgdt [{register}]",
                "push 8",
                "lea {scratch}, [rip + 2f]",
                "push {scratch}",
                "retfq",
                "2:",
                "mov {scratch:e}, 16",
                "mov ss, {scratch:e}",
                "mov ds, {scratch:e}",
                "mov es, {scratch:e}",
                "lidt [rip + idt_register]",
                "mov {scratch:e}, 40",
                "ltr {scratch:x}",
                register = in(reg) &raw const register,
                scratch = out(reg) _,
            );
        }
    }

    /// Allows the 32-bit port `port` at CPL3 on this vCPU, or forbids it again.
    pub(crate) fn allow_port(&self, port: u16, allow: bool) {
        let bits = 0xf << (port % 8);
        assert!(usize::from(port) < BITMAP_PORTS && port % 8 <= 4, "a port that the bitmap cannot allow");
        // SAFETY: own area; the CPU reads the bitmap, it does not write it.
        unsafe {
            let bitmap = &raw mut (*self.tss.get()).bitmap;
            let byte = bitmap.cast::<u8>().add(usize::from(port / 8));
            byte.write_volatile(if allow { byte.read_volatile() & !bits } else { byte.read_volatile() | bits });
        }
    }
}
