//! Family `linux`: a Linux kernel that boots to its init, which this guest is.
//!
//! The VMM loads the kernel that the user names, with this guest as its initial RAM disk, sets the MTRRs of each vCPU as
//! SeaBIOS leaves them, and notes the time before the first instruction and when this guest says that it is done. In
//! between Linux programs the MTRRs of all its vCPUs as it always does. Afterwards the VMM reads them.
//!
//! The guest goes to each vCPU in turn and reports what CPUID shows there, whose APIC id says which one it is. So a boot
//! that left a vCPU behind is none.
//!
//! What: boots a Linux kernel with 1, 2, 4 and 8 vCPUs to its init, and reads the MTRRs that it leaves.
//!
//! Why: replays have as many zaps as the sources say. A boot has those of the kernel as it is, among all that it does
//! besides. `report --zaps` counts it beside the replays.
//!
//! Source: Linux, `arch/x86/kernel/cpu/mtrr/generic.c:prepare_set`, `arch/x86/kernel/cpu/cacheinfo.c:cache_cpu_init`
//! and `cache_aps_init` (6.1: `mtrr/mtrr.c:mtrr_aps_init`); KVM's `arch/x86/kvm/mtrr.c:update_mtrr`.

#![no_std]
#![no_main]

use core::arch::naked_asm;
use guest::report::{self, Out};
use guest::{cpu, process};
use wire::needs::Needs;

guest::family!();

const VM: Needs = Needs::LINUX.and(Needs::APIC);

/// A test: its name and summary, and the vCPUs.
macro_rules! boot {
    ($name:literal, $summary:literal, $cpus:literal, points = $points:literal) => {
        guest::test!($name, $summary, VM.and(Needs::cpus($cpus)), points = $points, |out| run(out, $cpus));
    };
}

boot!("boot-1", "A Linux kernel to its init: 1 vCPU.", 1, points = 63);
boot!("boot-2", "A Linux kernel to its init: 2 vCPUs.", 2, points = 123);
boot!("boot-4", "A Linux kernel to its init: 4 vCPUs.", 4, points = 243);
boot!("boot-8", "A Linux kernel to its init: 8 vCPUs.", 8, points = 483);

/// Linux enters here, with RSP at the number of arguments.
#[unsafe(naked)]
#[unsafe(no_mangle)]
extern "C" fn process_entry() -> ! {
    naked_asm!("mov rdi, rsp", "and rsp, -16", "call {start}", "ud2", start = sym start)
}

extern "C" fn start(stack: *const usize) -> ! {
    // SAFETY: the entry passes the stack as it found it.
    unsafe { process::start(stack, env!("CARGO_BIN_NAME")) }
}

fn run(out: &mut Out, cpus: u8) {
    for cpu in 0..cpus {
        if !process::on(cpu) {
            report::give_up("Linux has not brought up all vCPUs");
        }
        out.cpuid(cpu::leaf(1, 0));
    }
}
