//! Ports and guest-physical addresses on which guest and VMM agree.

/// I/O port of the serial line (COM1 data register), one byte a write.
pub const SERIAL_PORT: u16 = 0x3f8;
/// I/O port of the embedded VMM that takes what a Linux kernel prints (COM2 data register).
pub const CONSOLE_PORT: u16 = 0x2f8;
/// I/O port that ends the guest: a write of [`EXIT_DONE`] or [`EXIT_PANIC`]. QEMU's `isa-debug-exit` sits at the same
/// place and turns a value `v` into the process status `v << 1 | 1`.
pub const EXIT_PORT: u16 = 0xf4;
/// I/O port of the doorbell: a 32-bit write of the GPA of a [`StepBlock`](crate::step::StepBlock).
pub const DOORBELL_PORT: u16 = 0xe0;
/// I/O port of the embedded VMM that takes many bytes of the serial line at once: a 32-bit write of the GPA of a 32-bit
/// count and that many bytes. So a line costs one VM exit, not one a byte.
pub const LINE_PORT: u16 = 0xe4;
/// I/O port of the embedded VMM that has a vCPU give way to others: a vCPU that waits for another one may share its CPU.
pub const YIELD_PORT: u16 = 0xe8;
/// Word of a guest's command line that says that [`LINE_PORT`] is there.
pub const LINE_PORT_WORD: &str = "line-port";

/// I/O port whose bytes Bochs writes to its standard output (`port_e9_hack`).
pub const DEBUG_PORT: u16 = 0xe9;
/// I/O port that ends Bochs when it is told [`SHUTDOWN_WORD`], a byte at a time.
pub const SHUTDOWN_PORT: u16 = 0x8900;
/// What [`SHUTDOWN_PORT`] waits for.
pub const SHUTDOWN_WORD: &[u8] = b"Shutdown";
/// Word of the command line by which a guest is told that it is in Bochs. It has no device at [`EXIT_PORT`], so the
/// guest writes [`EXIT_LINE`] and the value as eight hexadecimal digits to [`DEBUG_PORT`], and then shuts Bochs down.
pub const BOCHS_WORD: &str = "bochs";
/// Start of the line that takes the exit value out of Bochs.
pub const EXIT_LINE: &str = "kvm-memtype-exit ";
/// The line that the ROM writes to [`DEBUG_PORT`] first of all: what Bochs itself wrote there stands before it.
pub const START_LINE: &str = "kvm-memtype-start";
/// The line that the ROM writes to [`DEBUG_PORT`] when it is entered again, after a reset.
pub const RESET_LINE: &str = "kvm-memtype-reset";

/// Value written to [`EXIT_PORT`] by a test that ran to its end.
pub const EXIT_DONE: u32 = 0x10;
/// Value written to [`EXIT_PORT`] by a guest that met an exception or a panic that it did not ask for.
pub const EXIT_PANIC: u32 = 0x11;

/// GPA of the page to which a SIPI with vector 8 sends an application processor.
pub const TRAMPOLINE: u64 = 0x8000;
/// First GPA at which guests are linked; all below belongs to boot structures and the trampoline.
pub const IMAGE: u64 = 0x10_0000;
/// GPA of the test window: nothing lies there until a test puts a memslot there. Below 4 GiB, above any guest's RAM,
/// and clear of the I/O APIC and the local APIC.
pub const WINDOW: u64 = 0xd000_0000;
/// Size of the test window in bytes: room for some whole pages of 2 MiB. The 1 GiB around it, 0xc0000000 to 0xffffffff, holds
/// nothing else but what is above 0xfe000000.
pub const WINDOW_SIZE: u64 = 0x100_0000;
/// RAM of a VM of the embedded VMM in bytes, from GPA 0 on.
pub const RAM: u64 = 8 << 20;
/// GPA of the low window: RAM of the embedded VMM's guests that fixed-range MTRRs cover, and that tests alone use.
pub const LOW_WINDOW: u64 = 0x1_0000;
/// Size of the low window in bytes.
pub const LOW_WINDOW_SIZE: u64 = IMAGE - LOW_WINDOW;

/// GPA of the hole for PCI below 4 GiB of a guest with 3 GiB of memory or more. The test window lies in it.
pub const HOLE: u64 = 0xc000_0000;
/// Where the memory of a guest goes on behind that hole.
pub const HIGH_MEMORY: u64 = 1 << 32;
/// The end of all memory that a guest can have.
pub const MEMORY_END: u64 = 1 << 36;

/// Whether `len` bytes from `gpa` on lie between the RAM of the embedded VMM's guests and the hole for PCI, or behind that.
pub const fn in_memory(gpa: u64, len: u64) -> bool {
    inside(gpa, len, RAM, HOLE - RAM) || inside(gpa, len, HIGH_MEMORY, MEMORY_END - HIGH_MEMORY)
}

const fn inside(gpa: u64, len: u64, start: u64, size: u64) -> bool {
    gpa >= start && len <= size && gpa - start <= size - len
}

/// Whether `len` bytes from `gpa` on lie in the test window or in the low window.
pub const fn in_window(gpa: u64, len: u64) -> bool {
    inside(gpa, len, WINDOW, WINDOW_SIZE) || inside(gpa, len, LOW_WINDOW, LOW_WINDOW_SIZE)
}

/// CR0 of a vCPU that the embedded VMM starts in 64-bit mode: PG, WP, NE, ET, MP, PE.
pub const START_CR0: u64 = 0x8001_0033;
/// CR4 of a vCPU that enters 64-bit mode: PAE, OSFXSR, OSXMMEXCPT.
pub const START_CR4: u64 = 0x620;

/// The variable-range pairs that KVM has (`arch/x86/include/asm/kvm_host.h`, `KVM_NR_VAR_MTRR`).
pub const VARIABLE_MTRRS: u32 = 8;
/// The eleven fixed-range MTRRs, SDM Vol. 3A "Fixed Range MTRRs".
pub const FIXED_MTRRS: [u32; 11] = [0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f];
/// IA32_MTRRCAP.
pub const MTRR_CAP: u32 = 0xfe;
/// IA32_MTRR_DEF_TYPE.
pub const MTRR_DEF_TYPE: u32 = 0x2ff;
/// IA32_MTRR_PHYSBASE0; PHYSBASEn is at +2n, PHYSMASKn at +2n+1.
pub const MTRR_PHYSBASE0: u32 = 0x200;
/// IA32_PAT.
pub const PAT: u32 = 0x277;

/// CR0.NW, not write-through.
pub const CR0_NW: u64 = 1 << 29;
/// CR0.CD, cache disable.
pub const CR0_CD: u64 = 1 << 30;
