//! Changing memory types as the SDM asks for: with caching off, the caches flushed and MTRRs disabled meanwhile.
//! SDM Vol. 3A, "MTRR Considerations in MP Systems" and "Programming the PAT".

use crate::report::Out;
use crate::sweep::{cr0_once, msr_once};
use crate::{cache, cpu, cr0, guard, msr, paging};
use wire::firmware;
pub use wire::firmware::{ENABLE, FIXED_ENABLE};
use wire::layout::{CR0_CD, CR0_NW, FIXED_MTRRS, MTRR_DEF_TYPE, MTRR_PHYSBASE0};
use wire::memtype::MemType;
use wire::register::{Place, Register};

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

/// Changes MTRRs by the SDM's sequence, with caching on afterwards, MTRRs enabled, fixed ranges too, and this default
/// type.
pub fn program(out: &mut Out, default: MemType, write: impl FnOnce(&mut Out)) {
    change(out, ENABLE | FIXED_ENABLE | default as u64, write);
    caching(out, true);
}

/// Writes variable pair `n` for a range of a size that is a power of two.
pub fn pair(out: &mut Out, n: u32, base: u64, size: u64, memtype: MemType) {
    raw_pair(out, n, base, mask(size), memtype);
}

/// Writes variable pair `n`, whatever range its mask makes.
pub fn raw_pair(out: &mut Out, n: u32, base: u64, mask: u64, memtype: MemType) {
    msr_once(out, MTRR_PHYSBASE0 + 2 * n, base | memtype as u64);
    msr_once(out, MTRR_PHYSBASE0 + 2 * n + 1, mask);
}

/// The mask of a variable pair for a size that is a power of two, with V.
pub fn mask(size: u64) -> u64 {
    firmware::mask(size, cpu::maxphyaddr())
}

/// A page in a fixed range: the register, the byte in it, and the page's address.
#[derive(Debug, Clone, Copy)]
pub struct FixedPage {
    /// The fixed-range MTRR.
    pub register: u32,
    /// The byte of it that holds the page's type.
    pub byte: u8,
    /// GPA.
    pub gpa: u64,
}

/// One page in a fixed range of each size, 64 KiB, 16 KiB and 4 KiB, that no firmware uses.
pub const FIXED: [FixedPage; 3] = [
    FixedPage { register: 0x250, byte: 7, gpa: 0x7_0000 },
    FixedPage { register: 0x258, byte: 4, gpa: 0x9_0000 },
    FixedPage { register: 0x26a, byte: 0, gpa: 0xd_0000 },
];

/// Sets all fixed ranges to WB, but those of [`FIXED`].
pub fn fixed(out: &mut Out, memtype: MemType) {
    for index in FIXED_MTRRS {
        let mut value = [MemType::Wb as u8; 8];
        for page in FIXED.iter().filter(|page| page.register == index) {
            value[usize::from(page.byte)] = memtype as u8;
        }
        msr_once(out, index, u64::from_le_bytes(value));
    }
}
