//! Cache-control instructions, and whether CPUID announces them.

use crate::report::Out;
use crate::{attempt, cpu, user};
use wire::insn::Insn;
use wire::outcome::Fault;
use wire::record::CpuidLeaf;

/// Executes the instruction at this privilege level, without a write-back before an INVD; one that takes a line gets a line of its own.
pub fn execute(insn: Insn) -> Option<Fault> {
    let line = [0u64; 8];
    let line = line.as_ptr();
    // SAFETY: write-backs and flushes change no value in memory. INVD may lose what is dirty: who executes it writes back
    // right before it, or stores what may be lost on purpose where no CPU without a hypervisor has caches. All may fault
    // here.
    let came = unsafe {
        match insn {
            Insn::Wbinvd => attempt!("wbinvd", options(nostack, preserves_flags)),
            Insn::Invd => attempt!("invd", options(nostack, preserves_flags)),
            Insn::Wbnoinvd => attempt!("wbnoinvd", options(nostack, preserves_flags)),
            Insn::Clflush => attempt!("clflush [{line}]", line = in(reg) line, options(nostack, preserves_flags)),
            Insn::Clflushopt => attempt!("clflushopt [{line}]", line = in(reg) line, options(nostack, preserves_flags)),
            Insn::Clwb => attempt!("clwb [{line}]", line = in(reg) line, options(nostack, preserves_flags)),
        }
    };
    came.fault()
}

/// WBINVD at CPL0: writes back and empties the caches.
pub fn write_back() {
    let _ = execute(Insn::Wbinvd);
}

/// The leaf that announces the instruction, and whether it does. WBINVD and INVD came with the 80486 and have no bit.
fn announced(insn: Insn) -> (CpuidLeaf, bool) {
    const EBX: usize = 1;
    const EDX: usize = 3;
    let (leaf, register, bit) = match insn {
        Insn::Wbinvd | Insn::Invd => return (cpu::leaf(1, 0), true),
        Insn::Clflush => (cpu::leaf(1, 0), EDX, 19),
        Insn::Clflushopt => (cpu::leaf(7, 0), EBX, 23),
        Insn::Clwb => (cpu::leaf(7, 0), EBX, 24),
        Insn::Wbnoinvd => (cpu::leaf(0x8000_0008, 0), EBX, 9),
    };
    (leaf, leaf.registers[register] >> bit & 1 != 0)
}

/// Executes the instruction at each of the privilege levels, if CPUID announces it, and reports all that.
pub fn exercise(out: &mut Out, insn: Insn, levels: &[u8]) {
    let (leaf, announced) = announced(insn);
    out.cpuid(leaf);
    if !announced {
        return out.skip("CPUID does not announce the instruction");
    }
    for &cpl in levels {
        if insn == Insn::Invd && cpl == 0 {
            execute(Insn::Wbinvd);
        }
        let fault = if cpl == 0 { execute(insn) } else { user::run(|| execute(insn)) };
        out.exec(insn, cpl, fault);
    }
}
