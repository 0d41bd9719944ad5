//! Changing memory types as the SDM asks for: with caching off, the caches flushed and MTRRs disabled meanwhile.
//! SDM Vol. 3A, "MTRR Considerations in MP Systems" and "Programming the PAT".

use crate::report::Out;
use crate::sweep::{cr0_once, msr_once};
use crate::{cache, cr0, guard, msr, paging};
use wire::layout::{CR0_CD, CR0_NW, MTRR_DEF_TYPE};
use wire::register::{Place, Register};

/// IA32_MTRR_DEF_TYPE.E: MTRRs are enabled.
pub const ENABLE: u64 = 1 << 11;
/// IA32_MTRR_DEF_TYPE.FE: fixed-range MTRRs are enabled.
pub const FIXED_ENABLE: u64 = 1 << 10;

/// Reports all that decides memory types on the vCPU that boots, as found: MTRRs, PAT, CR0.
pub fn report(out: &mut Out) {
    for index in guard::registers() {
        out.reads(Place::msr(index)).push(msr::try_rdmsr(index));
    }
    out.reads(Place::boot(Register::Cr0)).push(Ok(cr0::read()));
}

/// Does `change`, which may write to MTRRs and to the PAT, on the vCPU that boots, and has IA32_MTRR_DEF_TYPE hold
/// `def_type` afterwards. All writes are reported. It leaves caching off; [`caching`] turns it on.
pub fn change(out: &mut Out, def_type: u64, change: impl FnOnce(&mut Out)) {
    caching(out, false);
    msr_once(out, MTRR_DEF_TYPE, 0);
    change(out);
    msr_once(out, MTRR_DEF_TYPE, def_type);
    cache::write_back();
    paging::flush();
}

/// Turns caching on or off by CR0.CD, and reports that. Caches and TLB are empty after it is turned off.
pub fn caching(out: &mut Out, on: bool) {
    let rest = cr0::read() & !(CR0_CD | CR0_NW);
    cr0_once(out, if on { rest } else { rest | CR0_CD });
    cache::write_back();
    paging::flush();
}
