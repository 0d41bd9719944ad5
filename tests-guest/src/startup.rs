//! What firmware and Linux do to the MTRRs of a vCPU as they start it, step by step, by their published source.

use crate::report::Out;
use crate::sweep::{write_cr0, write_msr};
use crate::{cache, cpu, cr0, paging};
use wire::firmware::{self, ENABLE, FIXED_ENABLE, ON, fixed};
use wire::layout::{CR0_CD, CR0_NW, FIXED_MTRRS, MTRR_DEF_TYPE, MTRR_PHYSBASE0, PAT, VARIABLE_MTRRS};
use wire::memtype::MemType;
use wire::outcome::Outcome;
use wire::register::{Place, Register};

/// Linux, arch/x86/mm/pat/memtype.c:pat_init, and pat_bp_init since 6.3: WB, WC, UC-, UC, WB, WP, UC-, WT.
pub const LINUX_PAT: u64 = u64::from_le_bytes([6, 1, 7, 0, 6, 5, 7, 4]);

/// One thing that is done to a vCPU.
#[derive(Debug, Clone, Copy)]
pub enum Op {
    /// WRMSR.
    Msr(u32, u64),
    /// MOV to CR0 that turns caching on, or sets CD and clears NW.
    Caching(bool),
    /// WBINVD.
    WriteBack,
    /// MOV to CR3.
    FlushTlb,
}

/// Part of what firmware does, given where the hole for PCI below 4 GiB starts.
pub type Phase = fn(u64, &mut dyn FnMut(Op));

/// A register that was written, the value, and what came of it.
pub type Done = (Register, u64, Outcome);

impl Op {
    /// Does it on the vCPU that boots, and reports it.
    pub fn report(self, out: &mut Out) {
        if let Some((register, value, outcome)) = self.perform() {
            out.write(Place::boot(register), value, outcome);
        }
    }

    /// Does it on this vCPU.
    pub fn perform(self) -> Option<Done> {
        match self {
            Op::Msr(index, value) => return Some((Register::Msr(index), value, write_msr(index, value))),
            Op::Caching(on) => {
                let rest = cr0::read() & !(CR0_CD | CR0_NW);
                let value = if on { rest } else { rest | CR0_CD };
                return Some((Register::Cr0, value, write_cr0(value)));
            }
            Op::WriteBack => cache::write_back(),
            Op::FlushTlb => paging::flush(),
        }
        None
    }
}

/// SeaBIOS: [`firmware::seabios`].
pub fn seabios(hole: u64, op: &mut dyn FnMut(Op)) {
    firmware::seabios(hole, cpu::maxphyaddr(), &mut |index, value| op(Op::Msr(index, value)));
}

/// OVMF since SecMtrrSetup came, OvmfPkg/Sec/SecMain.c: SEC enables MTRRs with default type WB, fixed ranges off.
pub fn ovmf_sec(op: &mut dyn FnMut(Op)) {
    op(Op::Msr(MTRR_DEF_TYPE, ENABLE | MemType::Wb as u64));
}

/// OVMF, OvmfPkg/Library/PlatformInitLib/MemDetect.c:PlatformQemuInitializeRam, in PEI, in three phases. It makes all
/// fixed ranges WB, clears the variable ones and turns fixed ranges on, then makes 640 KiB to 1 MiB UC, and then
/// Uc32Base, which is the hole, to 4 GiB by one variable range. Earlier versions found MTRRs disabled in PEI, and ended
/// with the same values.
pub const OVMF_PEI: [Phase; 3] = [
    |_, op| {
        mtrr_lib(ENABLE | MemType::Wb as u64, op, |op| {
            FIXED_MTRRS.into_iter().for_each(|index| op(Op::Msr(index, fixed(MemType::Wb))));
            clear_variable(op);
        });
    },
    |_, op| mtrr_lib(ON, op, |op| FIXED_MTRRS[2..].iter().for_each(|&index| op(Op::Msr(index, fixed(MemType::Uc))))),
    |hole, op| mtrr_lib(ON, op, |op| variable(hole, op)),
];

/// OVMF, UefiCpuPkg/Library/MpInitLib/MpLib.c:ApInitializeSync: a vCPU that does not boot gets all MTRRs of the one
/// that does, by MtrrSetAllMtrrs. It held `before` in IA32_MTRR_DEF_TYPE.
pub fn ovmf_sync(hole: u64, before: u64, op: &mut dyn FnMut(Op)) {
    mtrr_lib(before, op, |op| {
        for (n, index) in FIXED_MTRRS.into_iter().enumerate() {
            op(Op::Msr(index, fixed(if n < 2 { MemType::Wb } else { MemType::Uc })));
        }
        variable(hole, op);
        (MTRR_PHYSBASE0 + 2..MTRR_PHYSBASE0 + 2 * VARIABLE_MTRRS).for_each(|index| op(Op::Msr(index, 0)));
    });
}

/// Linux, arch/x86/kernel/cpu/mtrr/generic.c:prepare_set, set_mtrr_state, post_set (since 6.2
/// cacheinfo.c:cache_cpu_init with mtrr_disable, mtrr_generic_set_state, mtrr_enable): each vCPU gets what firmware
/// left on the one that boots, one at a time under a lock, while stop_machine holds the others. MTRRs that hold that
/// already are not written, so that the default type, disabled and enabled again, and the PAT are what remains. It
/// writes no caches back on a CPU with self-snoop.
pub fn linux(self_snoop: bool, op: &mut dyn FnMut(Op)) {
    let write_back = |op: &mut dyn FnMut(Op)| {
        if !self_snoop {
            op(Op::WriteBack);
        }
    };
    op(Op::Caching(false));
    write_back(op);
    op(Op::FlushTlb);
    op(Op::Msr(MTRR_DEF_TYPE, ON & !0xcff));
    write_back(op);
    op(Op::Msr(PAT, LINUX_PAT));
    op(Op::FlushTlb);
    op(Op::Msr(MTRR_DEF_TYPE, ON));
    op(Op::Caching(true));
}

/// UefiCpuPkg/Library/MtrrLib/MtrrLib.c: MtrrLibPreMtrrChange, `write`, MtrrLibPostMtrrChange. AsmDisableCache writes
/// back after it has set CD, AsmEnableCache before it clears it.
fn mtrr_lib(before: u64, op: &mut dyn FnMut(Op), write: impl FnOnce(&mut dyn FnMut(Op))) {
    op(Op::Caching(false));
    op(Op::WriteBack);
    op(Op::FlushTlb);
    op(Op::Msr(MTRR_DEF_TYPE, before & !(ENABLE | FIXED_ENABLE)));
    write(op);
    op(Op::Msr(MTRR_DEF_TYPE, ON));
    op(Op::FlushTlb);
    op(Op::WriteBack);
    op(Op::Caching(true));
}

fn clear_variable(op: &mut dyn FnMut(Op)) {
    firmware::clear_variable(&mut |index, value| op(Op::Msr(index, value)));
}

fn variable(hole: u64, op: &mut dyn FnMut(Op)) {
    firmware::variable(hole, cpu::maxphyaddr(), &mut |index, value| op(Op::Msr(index, value)));
}
