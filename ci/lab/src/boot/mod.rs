//! Booting a kernel in an emulated machine, and watching it to its end.

pub mod bochs;
mod ending;
mod inbox;
pub mod qemu;
mod watch;

pub use ending::Ending;
pub use watch::{Limits, Watch};

/// Memory of the machine, in MiB.
pub const MEMORY: u32 = 512;

/// Words of the kernel's command line that are always there: console on the serial line; an end, instead of a wait,
/// after a panic; warnings on the console, as a kernel that dies cannot send its log; and no time for what no test is
/// about, such as a test of a random generator, names in the formats of trace events, certificates, and a walk of all
/// page tables for writable code.
pub const CMDLINE: &str = "console=ttyS0,115200 nokaslr mitigations=off panic=-1 nomodeset tsc=reliable \
    random.trust_cpu=on cryptomgr.notests rodata=off loglevel=5 \
    initcall_blacklist=jent_mod_init,trace_eval_init,load_system_certificate_list";

/// What is booted.
#[derive(Debug, Clone, Copy)]
pub struct Boot<'a> {
    /// The kernel, an ELF file with a PVH entry.
    pub vmlinux: &'a [u8],
    /// The initial RAM disk.
    pub initrd: &'a [u8],
    /// The kernel's command line.
    pub cmdline: &'a str,
    /// The CPU model, in the emulator's words.
    pub cpu: &'a str,
}
