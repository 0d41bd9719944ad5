//! The kernel library of the guests: everything that a test needs to do something to a vCPU and to say what happened.
//!
//! 1. Guests observe and never judge: nothing in here knows what is right.
//! 2. An instruction that may fault is tried with a fix-up ([`attempt!`]); any other exception ends the guest with a
//!    record.
//! 3. Only the vCPU that boots writes to the console. Application processors leave what they see in memory.
//! 4. Some KVMs emulate CPL0 at 0.75 us an instruction and know few of them: code is small, and no SSE is in it.

#![no_std]

extern crate alloc;

pub mod alias;
mod apic;
pub mod area;
pub mod boot;
pub mod cache;
pub mod console;
pub mod cpu;
pub mod cr0;
pub mod doorbell;
pub mod guard;
pub mod heap;
pub mod host;
mod job;
pub mod mce;
pub mod mmio;
pub mod module;
pub mod msr;
pub mod mtrr;
pub mod order;
pub mod paging;
pub mod process;
pub mod registry;
pub mod report;
pub mod slot;
pub mod smp;
pub mod startup;
pub mod sweep;
pub mod timed;
pub mod touch;
pub mod traps;
pub mod user;
pub mod values;
pub mod vmx;
