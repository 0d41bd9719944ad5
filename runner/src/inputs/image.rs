//! Programs: guests that somebody made, and kernels that somebody built.

use crate::guests;
use crate::host::linux::Linux;
use crate::machine::bochs::{Mtrrs, Pvh};
use crate::machine::kvm::boot;
use std::path::Path;
use vm_memory::{GuestAddress, GuestMemoryMmap};

thread_local! {
    /// A guest's RAM. What an image before has left there is in no image's way.
    static RAM: GuestMemoryMmap =
        GuestMemoryMmap::from_ranges(&[(GuestAddress(0), boot::RAM)]).expect("memory for a guest");
}

/// A guest's ELF file.
pub fn guest(data: &[u8]) -> bool {
    let listed = guests::listed("input", data).is_ok();
    let loaded = RAM.with(|ram| boot::load(ram, data, b"module", &boot::command_line(1, "test")).is_ok());
    listed && loaded
}

/// A kernel's, for 128 MiB of memory.
pub fn linux(data: &[u8]) -> bool {
    let Ok(linux) = Linux::of(Path::new("input"), data.to_owned()) else { return false };
    let (elf, command_line) = (&linux.vmlinux[..], "quiet");
    let image = Pvh { elf, command_line, initrd: Some(b"init"), megs: 128, mtrrs: Mtrrs::Reset };
    image.disk().is_ok()
}
