//! The type that MTRRs give a page: by the SDM, and as KVM up to 6.10 looks it up.

use super::msrs::Msrs;
use std::fmt;
use wire::layout::{FIXED_MTRRS, MTRR_DEF_TYPE, MTRR_PHYSBASE0, VARIABLE_MTRRS};
use wire::memtype::MemType;

/// The MTRRs of one vCPU.
#[derive(Debug, Clone, Copy)]
pub struct Mtrrs<'a> {
    /// What is known of the vCPU's MSRs, by index.
    pub msrs: &'a Msrs,
    /// MAXPHYADDR, in bits.
    pub maxphyaddr: u8,
    /// CPUID.1:EDX.MTRR.
    pub in_cpuid: bool,
}

/// Whose rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lookup {
    /// SDM Vol. 3A, "Memory Type Range Registers (MTRRs)".
    Sdm,
    /// arch/x86/kvm/mtrr.c: kvm_mtrr_get_guest_memory_type of Linux up to 6.10.
    #[serde(rename = "kvm-pre-6.11")]
    KvmPre611,
}

/// Where KVM's own lookup errs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LookupFault {
    /// It takes a range to reach as far as the clear upper bits of its mask allow.
    ShortMask,
    /// It takes a range to be one run of addresses, also where its mask has holes.
    DiscontiguousMask,
    /// It has a range start at its base, also where the mask says that it starts below.
    UnalignedBase,
    /// It meets the highest base first, and UC wins only if it is met later.
    UcAbove,
}

/// Why MTRRs give a page no type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoType {
    /// It is not known what this MSR holds.
    Unknown(u32),
    /// The manual leaves it undefined: ranges of these types overlap.
    Overlap(MemType, MemType),
    /// This MSR holds a reserved type.
    Reserved(u32),
}

impl fmt::Display for NoType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoType::Unknown(msr) => write!(f, "it is not known what MSR {msr:#x} holds"),
            NoType::Overlap(one, other) => write!(f, "MTRRs of types {one} and {other} overlap there"),
            NoType::Reserved(msr) => write!(f, "MSR {msr:#x} holds a reserved type"),
        }
    }
}

/// IA32_MTRR_DEF_TYPE.E: MTRRs are enabled. SDM Vol. 3A, "IA32_MTRR_DEF_TYPE MSR".
const ENABLED: u64 = 1 << 11;
/// IA32_MTRR_DEF_TYPE.FE: fixed-range MTRRs are enabled.
const FIXED_ENABLED: u64 = 1 << 10;
/// IA32_MTRR_PHYSMASKn.V: the pair is valid.
const VALID: u64 = 1 << 11;
/// Where the fixed ranges end.
const FIXED_END: u64 = 1 << 20;
/// The bits of an address, a base or a mask that are above the offset into a page.
const PAGE: u64 = !0xfff;

/// A variable range that is valid.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range {
    /// IA32_MTRR_PHYSBASEn, the type in its low byte.
    pub base: u64,
    /// IA32_MTRR_PHYSMASKn.
    mask: u64,
    memtype: MemType,
}

impl Mtrrs<'_> {
    /// The type of the 4 KiB page of a guest-physical address.
    ///
    /// # Errors
    /// There is none, or it is not known.
    pub fn memtype(&self, gpa: u64, rules: Lookup) -> Result<MemType, NoType> {
        let def_type = self.msr(MTRR_DEF_TYPE)?;
        if def_type & ENABLED == 0 {
            // mtrr.c: mtrr_disabled_type: firmware that was shown no MTRRs cannot enable them.
            return Ok(if rules == Lookup::KvmPre611 && !self.in_cpuid { MemType::Wb } else { MemType::Uc });
        }
        if def_type & FIXED_ENABLED != 0 && gpa < FIXED_END {
            let (msr, byte) = fixed_range(gpa);
            return memtype_in(msr, self.msr(msr)? >> (8 * byte));
        }
        let ranges = self.msrs.ranges()?;
        let found = match rules {
            Lookup::Sdm => sdm_precedence(&ranges.by_number, gpa)?,
            Lookup::KvmPre611 => kvm_precedence(&ranges.by_base, gpa, self.maxphyaddr),
        };
        found.map_or_else(|| memtype_in(MTRR_DEF_TYPE, def_type), Ok)
    }

    /// Where KVM's lookup of the page errs: in which ranges hold the page, of the first for which that differs, or else in
    /// which of those that hold it wins.
    ///
    /// # Errors
    /// It is not known what the MTRRs hold.
    pub fn fault(&self, gpa: u64) -> Result<LookupFault, NoType> {
        let above = above(self.maxphyaddr);
        let differs = |range: &Range| range.holds(gpa) != range.holds_by_kvm(gpa, above);
        Ok(self.msrs.ranges()?.by_number.iter().find(|range| differs(range)).map_or(LookupFault::UcAbove, |range| {
            // Of a whole mask all bits are set from the lowest on.
            let mask = range.mask & PAGE | above;
            let missing = !mask & !((mask & mask.wrapping_neg()).wrapping_sub(1));
            let top = (above & above.wrapping_neg()) >> 1;
            match missing {
                0 => LookupFault::UnalignedBase,
                missing if missing & top != 0 => LookupFault::ShortMask,
                _ => LookupFault::DiscontiguousMask,
            }
        }))
    }

    fn msr(&self, index: u32) -> Result<u64, NoType> {
        msr(self.msrs, index)
    }

    /// Whether all pages of the `size` bytes at `gpa`, a power of two, have one type by any rules: no range begins, ends or
    /// has a hole in there.
    ///
    /// # Errors
    /// It is not known what the MTRRs hold.
    pub fn is_uniform(&self, gpa: u64, size: u64) -> Result<bool, NoType> {
        let def_type = self.msr(MTRR_DEF_TYPE)?;
        if def_type & ENABLED == 0 {
            return Ok(true);
        }
        let inside = (size - 1) & PAGE;
        let by_fixed = def_type & FIXED_ENABLED != 0 && gpa < FIXED_END;
        let cuts = |range: &Range| (range.base | range.mask) & inside != 0;
        Ok(gpa & inside == 0 && !by_fixed && !self.msrs.ranges()?.by_number.iter().any(cuts))
    }
}

fn msr(msrs: &Msrs, index: u32) -> Result<u64, NoType> {
    msrs.get(index).ok_or(NoType::Unknown(index))
}

/// The type in the low byte of a value of an MSR.
fn memtype_in(msr: u32, value: u64) -> Result<MemType, NoType> {
    match MemType::from_bits(value as u8) {
        None | Some(MemType::UcMinus) => Err(NoType::Reserved(msr)),
        Some(memtype) => Ok(memtype),
    }
}

/// The fixed-range MTRR, and the byte of it, that holds the type of an address below 1 MiB.
///
/// SDM Vol. 3A, "Fixed Range MTRRs": one register of 64 KiB ranges, two of 16 KiB and eight of 4 KiB, eight ranges each.
fn fixed_range(gpa: u64) -> (u32, u64) {
    let (first, range) = match gpa {
        0..0x8_0000 => (0, gpa >> 16),
        0x8_0000..0xc_0000 => (1, (gpa - 0x8_0000) >> 14),
        _ => (3, (gpa - 0xc_0000) >> 12),
    };
    (FIXED_MTRRS[first + range as usize / 8], range % 8)
}

/// The first and the last address whose types a fixed-range MTRR holds, if it is one.
pub fn covered_by_fixed(msr: u32) -> Option<(u64, u64)> {
    let (first, size) = match FIXED_MTRRS.iter().position(|&fixed| fixed == msr)? as u64 {
        0 => (0, 0x8_0000),
        n @ 1..3 => (0x8_0000 + (n - 1) * 0x2_0000, 0x2_0000),
        n => (0xc_0000 + (n - 3) * 0x8000, 0x8000),
    };
    Some((first, first + size - 1))
}

impl Range {
    /// Those that are valid.
    pub fn all(msrs: &Msrs) -> Result<Vec<Range>, NoType> {
        let mut ranges = Vec::new();
        for n in 0..VARIABLE_MTRRS {
            let at = MTRR_PHYSBASE0 + 2 * n;
            let mask = msr(msrs, at + 1)?;
            if mask & VALID != 0 {
                let base = msr(msrs, at)?;
                ranges.push(Range { base, mask, memtype: memtype_in(at, base)? });
            }
        }
        Ok(ranges)
    }

    /// SDM Vol. 3A, "Variable Range MTRRs".
    fn holds(&self, gpa: u64) -> bool {
        (gpa ^ self.base) & self.mask & PAGE == 0
    }

    /// mtrr.c: var_mtrr_range: a range is one run of addresses. The bits `above` of a mask, from MAXPHYADDR on, are taken
    /// as set (set_var_mtrr_msr).
    fn holds_by_kvm(&self, gpa: u64, above: u64) -> bool {
        let start = self.base & PAGE;
        let last = start | !(self.mask & PAGE | above);
        (start..=last).contains(&(gpa & PAGE))
    }
}

/// The bits at and above `maxphyaddr`.
fn above(maxphyaddr: u8) -> u64 {
    u64::MAX.checked_shl(maxphyaddr.into()).unwrap_or(0)
}

/// SDM Vol. 3A, "MTRR Precedences".
fn sdm_precedence(ranges: &[Range], gpa: u64) -> Result<Option<MemType>, NoType> {
    let types = ranges.iter().filter(|range| range.holds(gpa)).map(|range| range.memtype);
    if types.clone().any(|memtype| memtype == MemType::Uc) {
        return Ok(Some(MemType::Uc));
    }
    types
        .map(Ok)
        .reduce(|one, other| match (one?, other?) {
            (one, other) if one == other => Ok(one),
            (MemType::Wt, MemType::Wb) | (MemType::Wb, MemType::Wt) => Ok(MemType::Wt),
            (one, other) => Err(NoType::Overlap(one, other)),
        })
        .transpose()
}

/// mtrr.c: ranges are met in descending order of IA32_MTRR_PHYSBASEn (set_var_mtrr_msr), UC wins only over a type met
/// before it, and what the manual leaves undefined is WB.
fn kvm_precedence(by_base: &[Range], gpa: u64, maxphyaddr: u8) -> Option<MemType> {
    let above = above(maxphyaddr);
    let mut found = None;
    for memtype in by_base.iter().filter(|range| range.holds_by_kvm(gpa, above)).map(|range| range.memtype) {
        found = match (found, memtype) {
            (None, memtype) => Some(memtype),
            (Some(before), memtype) if before == memtype => Some(before),
            (Some(_), MemType::Uc) => return Some(MemType::Uc),
            (Some(MemType::Wt | MemType::Wb), MemType::Wt | MemType::Wb) => Some(MemType::Wt),
            (Some(_), _) => return Some(MemType::Wb),
        };
    }
    found
}

#[cfg(test)]
mod tests;
