//! The ROM of machine `bochs`: from the reset vector to a PVH entry that a boot disk names, without a BIOS.
//!
//! It is assembler alone. What it reads is described in `runner/src/machine/bochs/disk.rs`.

#![no_std]
#![no_main]

core::arch::global_asm!(include_str!("rom.s"));

/// Nothing here panics: there is no Rust code. The linker drops this.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
