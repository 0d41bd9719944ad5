//! Names and numbers in words: MSRs, exceptions, errnos, bits.

use std::fmt;
use wire::outcome::Fault;

/// The name of an MSR as in the SDM, if it is one of those that matter here.
fn msr_name(index: u32) -> Option<String> {
    const FIX4K: [&str; 8] = ["C0000", "C8000", "D0000", "D8000", "E0000", "E8000", "F0000", "F8000"];
    Some(match index {
        0xfe => "IA32_MTRRCAP".into(),
        0x179 => "IA32_MCG_CAP".into(),
        0x17a => "IA32_MCG_STATUS".into(),
        0x17b => "IA32_MCG_CTL".into(),
        0x200..=0x20f if index.is_multiple_of(2) => format!("IA32_MTRR_PHYSBASE{}", (index - 0x200) / 2),
        0x200..=0x20f => format!("IA32_MTRR_PHYSMASK{}", (index - 0x200) / 2),
        0x250 => "IA32_MTRR_FIX64K_00000".into(),
        0x258 => "IA32_MTRR_FIX16K_80000".into(),
        0x259 => "IA32_MTRR_FIX16K_A0000".into(),
        0x268..=0x26f => format!("IA32_MTRR_FIX4K_{}", FIX4K[index as usize - 0x268]),
        0x277 => "IA32_PAT".into(),
        0x280..=0x29f => format!("IA32_MC{}_CTL2", index - 0x280),
        0x2ff => "IA32_MTRR_DEF_TYPE".into(),
        0x400..=0x47f => {
            let which = ["CTL", "STATUS", "ADDR", "MISC"][index as usize % 4];
            format!("IA32_MC{}_{which}", (index - 0x400) / 4)
        }
        _ => return None,
    })
}

/// An MSR: `0x277 IA32_PAT`.
pub struct Msr(pub u32);

impl fmt::Display for Msr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)?;
        msr_name(self.0).map_or(Ok(()), |name| write!(f, " {name}"))
    }
}

/// All 64 bits: `0x0007040600070406`.
pub struct Hex(pub u64);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#018x}", self.0)
    }
}

/// An exception: `#GP(0)`.
pub struct Exception(pub u8, pub Option<u32>);

impl fmt::Display for Exception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0, self.1) {
            (6, _) => f.write_str("#UD"),
            (8, _) => f.write_str("#DF"),
            (18, _) => f.write_str("#MC"),
            (13, Some(0)) => f.write_str("#GP(0)"),
            (13, Some(error)) => write!(f, "#GP({error:#x})"),
            (13, None) => f.write_str("#GP"),
            (14, Some(error)) => write!(f, "#PF({error:#x})"),
            (vector, Some(error)) => write!(f, "exception {vector} with error code {error:#x}"),
            (vector, None) => write!(f, "exception {vector}"),
        }
    }
}

impl From<Fault> for Exception {
    fn from(fault: Fault) -> Self {
        Exception(fault.vector, Some(fault.error))
    }
}

/// An errno by its name, for those that KVM's ioctls give here.
pub struct Errno(pub u32);

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match i32::try_from(self.0).unwrap_or(0) {
            libc::EINVAL => f.write_str("EINVAL"),
            libc::ENOENT => f.write_str("ENOENT"),
            libc::EEXIST => f.write_str("EEXIST"),
            libc::EBADF => f.write_str("EBADF"),
            libc::ENOTTY => f.write_str("ENOTTY"),
            libc::EPERM => f.write_str("EPERM"),
            libc::EFAULT => f.write_str("EFAULT"),
            libc::ENOMEM => f.write_str("ENOMEM"),
            libc::EBUSY => f.write_str("EBUSY"),
            libc::ENXIO => f.write_str("ENXIO"),
            libc::E2BIG => f.write_str("E2BIG"),
            libc::EIO => f.write_str("EIO"),
            _ => write!(f, "errno {}", self.0),
        }
    }
}

/// The positions of the bits that are set, as ranges: `8-9, 12`.
pub struct Bits(pub u64);

impl fmt::Display for Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while rest != 0 {
            let first = rest.trailing_zeros();
            let count = (rest >> first).trailing_ones();
            rest &= u64::MAX.checked_shl(first + count).unwrap_or(0);
            match count {
                1 => write!(f, "{first}")?,
                _ => write!(f, "{first}-{}", first + count - 1)?,
            }
            if rest != 0 {
                f.write_str(", ")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_manual() {
        let said = |index| Msr(index).to_string();
        assert_eq!(said(0x277), "0x277 IA32_PAT");
        assert_eq!(said(0x20f), "0x20f IA32_MTRR_PHYSMASK7");
        assert_eq!(said(0x26b), "0x26b IA32_MTRR_FIX4K_D8000");
        assert_eq!(said(0x407), "0x407 IA32_MC1_MISC");
        assert_eq!(said(0x210), "0x210");
    }

    #[test]
    fn bits_are_ranges() {
        assert_eq!(Bits(0x1300).to_string(), "8-9, 12");
        assert_eq!(Bits(u64::MAX << 40).to_string(), "40-63");
        assert_eq!(Bits(1 << 63).to_string(), "63");
    }

    #[test]
    fn exceptions_have_their_short_names() {
        assert_eq!(Exception::from(Fault::GP0).to_string(), "#GP(0)");
        assert_eq!(Exception::from(Fault { vector: 13, error: 0x18 }).to_string(), "#GP(0x18)");
        assert_eq!(Exception(18, Some(0)).to_string(), "#MC");
        assert_eq!(Exception(1, None).to_string(), "exception 1");
    }
}
