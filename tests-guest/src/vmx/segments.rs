//! Host state and guest state: both are this guest's own, but for what 32-bit mode needs.

use super::vmcs::{Field, write, write_encoded};
use crate::{cpu, cr0};
use core::arch::asm;
use core::ptr::NonNull;
use volatile::VolatilePtr;

/// Selectors of the GDT, see area.rs.
const CODE: u64 = 0x8;
const DATA: u64 = 0x10;
const TSS: u64 = 0x28;

// Access rights as a VMCS has them: SDM Vol. 3C "Guest Register State".
const CODE_64: u64 = 0xa09b;
const CODE_32: u64 = 0xc09b;
const FLAT_DATA: u64 = 0xc093;
const BUSY_TSS: u64 = 0x8b;
const UNUSABLE: u64 = 1 << 16;

// Encodings of ES's fields; CS, SS, DS, FS, GS, LDTR and TR follow at a distance of two each.
const GUEST_SELECTORS: u32 = 0x800;
const GUEST_LIMITS: u32 = 0x4800;
const GUEST_RIGHTS: u32 = 0x4814;
const GUEST_BASES: u32 = 0x6806;
/// As above, without LDTR.
const HOST_SELECTORS: u32 = 0xc00;
/// CS among the guest's segments.
const CS: u32 = 1;

/// What SGDT and SIDT store.
#[repr(C, packed)]
#[derive(Default)]
struct TableRegister {
    limit: u16,
    base: u64,
}

fn tables() -> (TableRegister, TableRegister) {
    let (mut gdt, mut idt) = (TableRegister::default(), TableRegister::default());
    // SAFETY: stores ten bytes each.
    unsafe {
        asm!("sgdt [{}]", "sidt [{}]", in(reg) &raw mut gdt, in(reg) &raw mut idt, options(nostack, preserves_flags));
    }
    (gdt, idt)
}

/// Base of the TSS, from its descriptor.
fn tss_base(gdt: u64) -> u64 {
    let word = |n: u64| {
        let at = core::ptr::with_exposed_provenance_mut((gdt + TSS + 8 * n) as usize);
        let Some(pointer) = NonNull::<u64>::new(at) else { panic!("a GDT at address 0") };
        // SAFETY: the GDT has seven words, see area.rs; the CPU may set a bit that is not looked at.
        unsafe { VolatilePtr::new_read_only(pointer) }.read()
    };
    let low = word(0);
    word(1) << 32 | low >> 32 & 0xff00_0000 | low >> 16 & 0xff_ffff
}

/// Writes what a VM exit loads. RSP and RIP are written on entry.
pub fn host() {
    let (gdt, idt) = tables();
    for (n, selector) in [DATA, CODE, DATA, DATA, 0, 0, TSS].into_iter().enumerate() {
        write_encoded(HOST_SELECTORS + 2 * n as u32, selector);
    }
    for (field, value) in [
        (Field::HostCr0, cr0::read()),
        (Field::HostCr3, cpu::cr3()),
        (Field::HostCr4, cpu::cr4()),
        (Field::HostFsBase, 0),
        (Field::HostGsBase, 0),
        (Field::HostTrBase, tss_base(gdt.base)),
        (Field::HostGdtrBase, gdt.base),
        (Field::HostIdtrBase, idt.base),
        (Field::HostSysenterCs, 0),
        (Field::HostSysenterEsp, 0),
        (Field::HostSysenterEip, 0),
    ] {
        write(field, value);
    }
}

/// Writes what a VM entry loads, but for what [`mode`] writes.
pub fn guest() {
    let (gdt, idt) = tables();
    let segments = [
        (DATA, FLAT_DATA, 0),
        (CODE, CODE_64, 0),
        (DATA, FLAT_DATA, 0),
        (DATA, FLAT_DATA, 0),
        (0, UNUSABLE, 0),
        (0, UNUSABLE, 0),
        (0, UNUSABLE, 0),
        (TSS, BUSY_TSS, tss_base(gdt.base)),
    ];
    for (n, (selector, rights, base)) in segments.into_iter().enumerate() {
        let n = 2 * n as u32;
        let limit = if rights == BUSY_TSS { 0x67 } else { 0xffff_ffff };
        write_encoded(GUEST_SELECTORS + n, selector);
        write_encoded(GUEST_RIGHTS + n, rights);
        write_encoded(GUEST_LIMITS + n, limit);
        write_encoded(GUEST_BASES + n, base);
    }
    for (field, value) in [
        (Field::GuestCr3, cpu::cr3()),
        (Field::GuestCr4, cpu::cr4()),
        (Field::GuestGdtrBase, gdt.base),
        (Field::GuestGdtrLimit, gdt.limit.into()),
        (Field::GuestIdtrBase, idt.base),
        (Field::GuestIdtrLimit, idt.limit.into()),
        (Field::GuestDr7, 0x400),
        (Field::GuestDebugctl, 0),
        (Field::GuestRsp, 0),
        (Field::GuestRflags, 2),
        (Field::GuestPendingDebug, 0),
        (Field::GuestInterruptibility, 0),
        (Field::GuestActivity, 0),
        (Field::GuestSysenterCs, 0),
        (Field::GuestSysenterEsp, 0),
        (Field::GuestSysenterEip, 0),
    ] {
        write(field, value);
    }
}

/// Writes what makes 64-bit mode, or 32-bit protected mode with paging off. CR0 has CD as this vCPU has it now: VM entry
/// and VM exit leave that bit alone.
pub fn mode(paged: bool) {
    let (cr0, code) = if paged { (cr0::read(), CODE_64) } else { (cr0::read() & !cr0::PG, CODE_32) };
    write(Field::GuestCr0, cr0);
    write(Field::HostCr0, cr0::read());
    write_encoded(GUEST_RIGHTS + 2 * CS, code);
}
