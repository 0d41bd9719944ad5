//! Timing loads and stores of eight bytes at one address: what they cost shows the memory type.

use crate::paging::MAPPED;
use crate::report::Out;
use crate::user;
use core::arch::asm;
use wire::record::Timed;

/// Accesses of each kind that are enough for the difference of two types to be far more than what the fences cost.
pub const COUNT: u32 = 64;

/// Ticks of the time-stamp counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticks {
    /// Of all loads, with the loop around them.
    pub loads: u64,
    /// Of all stores, with the loop around them.
    pub stores: u64,
}

/// Does `count` loads and then `count` stores of the eight bytes at `gpa` at this privilege level. Stores store what is
/// there.
///
/// One load and one store go ahead, so that the TLB holds the page, and a cache the line where it may. The loops are
/// three instructions an access and touch no other memory. LFENCE holds RDTSC back until the loads are done, MFENCE
/// until the stores are.
///
/// At CPL0 it is for vCPUs whose CPL0 is not emulated: emulators know few fences.
#[inline(never)]
pub fn measure(gpa: u64, count: u32) -> Ticks {
    assert!(gpa < MAPPED && gpa.is_multiple_of(8) && count != 0, "timed accesses that cannot be done");
    let (loads, stores): (u64, u64);
    // SAFETY: the address is mapped; memory holds afterwards what it held before. RBX is left alone.
    unsafe {
        asm!(
            "mov {value}, [{gpa}]",
            "mov [{gpa}], {value}",
            "mfence",
            "lfence",
            "rdtsc",
            "lfence",
            "shl rdx, 32",
            "or rax, rdx",
            "mov {start}, rax",
            "mov ecx, {count:e}",
            "2:",
            "mov {value}, [{gpa}]",
            "dec ecx",
            "jnz 2b",
            "lfence",
            "rdtsc",
            "shl rdx, 32",
            "or rax, rdx",
            "sub rax, {start}",
            "mov {loads}, rax",
            "mfence",
            "lfence",
            "rdtsc",
            "lfence",
            "shl rdx, 32",
            "or rax, rdx",
            "mov {start}, rax",
            "mov ecx, {count:e}",
            "3:",
            "mov [{gpa}], {value}",
            "dec ecx",
            "jnz 3b",
            "mfence",
            "lfence",
            "rdtsc",
            "shl rdx, 32",
            "or rax, rdx",
            "sub rax, {start}",
            gpa = in(reg) gpa,
            count = in(reg) count,
            value = out(reg) _,
            start = out(reg) _,
            loads = out(reg) loads,
            out("rax") stores,
            out("rcx") _,
            out("rdx") _,
            options(nostack),
        );
    }
    Ticks { loads, stores }
}

/// Times `count` loads and stores at `gpa` at privilege level 0 or 3 of the vCPU that boots, and reports them. The page
/// is mapped through the entry `pat_entry` of the PAT.
pub fn at(out: &mut Out, cpl: u8, gpa: u64, pat_entry: u8, count: u32) {
    let Ticks { loads, stores } = if cpl == 0 { measure(gpa, count) } else { user::run(|| measure(gpa, count)) };
    out.timed(Timed { cpu: 0, cpl, gpa, pat_entry: Some(pat_entry), nested: None, count, loads, stores });
}
