//! Family `boot`: whether a guest runs here at all.
//!
//! What: the guest starts by PVH in 64-bit mode, reports one line over the serial line and ends.
//!
//! Why: before any register is tried it must be certain that a VM starts, that its report comes through whole, and that
//! it ends as it should. The runner boots this guest first on every machine.
//!
//! Source: `include/xen/interface/hvm/start_info.h` of the kernel has what a PVH guest finds at its start;
//! `Documentation/virt/kvm/api.rst` has KVM_RUN and its exits.

#![no_std]
#![no_main]

use guest::cpu;
use guest::report::Out;
use wire::layout::{MTRR_DEF_TYPE, PAT};
use wire::needs::Needs;
use wire::register::{Place, Register};

guest::family!();

guest::test!("hello", "Boots, and reads CPUID and the memory-type state as found.", Needs::NONE, points = 5, hello);

fn hello(out: &mut Out) {
    out.cpuid(cpu::leaf(1, 0));
    out.cpuid(cpu::leaf(0x8000_0008, 0));
    out.reads(Place::msr(MTRR_DEF_TYPE)).push(guest::msr::try_rdmsr(MTRR_DEF_TYPE));
    out.reads(Place::msr(PAT)).push(guest::msr::try_rdmsr(PAT));
    out.reads(Place::boot(Register::Cr0)).push(Ok(guest::cr0::read()));
}
