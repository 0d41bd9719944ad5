//! Memory types, as MTRRs, the PAT and EPT leaves encode them.

use crate::text::TextError;
use core::fmt;
use core::str::FromStr;

/// A memory type. SDM Vol. 3A, "Methods of Caching Available"; UC- is of the PAT only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum MemType {
    /// Strong uncacheable.
    Uc = 0,
    /// Write combining.
    Wc = 1,
    /// Write-through.
    Wt = 4,
    /// Write protected.
    Wp = 5,
    /// Write-back.
    Wb = 6,
    /// Uncached: UC that an MTRR can make WC.
    UcMinus = 7,
}

impl MemType {
    /// All of them, in the order of their encodings.
    pub const ALL: [MemType; 6] = [MemType::Uc, MemType::Wc, MemType::Wt, MemType::Wp, MemType::Wb, MemType::UcMinus];
    /// Those that an MTRR or an EPT leaf can hold.
    pub const OF_MTRR: [MemType; 5] = [MemType::Uc, MemType::Wc, MemType::Wt, MemType::Wp, MemType::Wb];

    /// The type that a byte of the PAT, or the low bits of another register, encodes; nothing for a reserved encoding.
    pub const fn from_bits(bits: u8) -> Option<MemType> {
        Some(match bits {
            0 => MemType::Uc,
            1 => MemType::Wc,
            4 => MemType::Wt,
            5 => MemType::Wp,
            6 => MemType::Wb,
            7 => MemType::UcMinus,
            _ => return None,
        })
    }

    /// Its name in manuals.
    pub const fn name(self) -> &'static str {
        match self {
            MemType::Uc => "UC",
            MemType::Wc => "WC",
            MemType::Wt => "WT",
            MemType::Wp => "WP",
            MemType::Wb => "WB",
            MemType::UcMinus => "UC-",
        }
    }
}

impl fmt::Display for MemType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// In any case: `UC-`, `wb`.
impl FromStr for MemType {
    type Err = TextError;

    fn from_str(s: &str) -> Result<Self, TextError> {
        let found = MemType::ALL.into_iter().find(|memtype| memtype.name().eq_ignore_ascii_case(s));
        found.ok_or_else(|| TextError::new("a memory type", s))
    }
}

/// What an EPT leaf says of memory types: its bits 5:3, and bit 6, "ignore PAT". SDM Vol. 3C, "EPT and Memory Typing".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EptType {
    /// The EPT memory type.
    pub memtype: MemType,
    /// The guest's PAT has no say.
    pub ignore_pat: bool,
}

impl EptType {
    /// That of a leaf; nothing where the type is reserved, which makes the leaf an EPT misconfiguration.
    pub const fn of_leaf(leaf: u64) -> Option<EptType> {
        match MemType::from_bits((leaf >> 3 & 7) as u8) {
            None | Some(MemType::UcMinus) => None,
            Some(memtype) => Some(EptType { memtype, ignore_pat: leaf >> 6 & 1 == 1 }),
        }
    }

    /// Bits 6:3 of a leaf, in place.
    pub const fn bits(self) -> u64 {
        (self.memtype as u64) << 3 | (self.ignore_pat as u64) << 6
    }
}

/// As reports and the wire have it: `WB`, `WB+IPAT`.
impl fmt::Display for EptType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.memtype.name())?;
        f.write_str(if self.ignore_pat { "+IPAT" } else { "" })
    }
}

impl FromStr for EptType {
    type Err = TextError;

    fn from_str(s: &str) -> Result<Self, TextError> {
        let (memtype, ignore_pat) = s.strip_suffix("+IPAT").map_or((s, false), |memtype| (memtype, true));
        match memtype.parse()? {
            MemType::UcMinus => Err(TextError::new("the type of an EPT leaf", s)),
            memtype => Ok(EptType { memtype, ignore_pat }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use proptest::prelude::*;

    #[test]
    fn every_type_reads_back() {
        for memtype in MemType::ALL {
            assert_eq!(MemType::from_bits(memtype as u8), Some(memtype));
            assert_eq!(memtype.to_string().parse(), Ok(memtype));
        }
        assert_eq!((0..=255).filter_map(MemType::from_bits).count(), MemType::ALL.len());
        assert_eq!("X".parse::<MemType>().unwrap_err().to_string(), "\"X\" is not a memory type");
        assert!("UC-+IPAT".parse::<EptType>().is_err());
    }

    proptest! {
        #[test]
        fn a_leafs_type_is_its_bits_6_to_3(leaf: u64) {
            match EptType::of_leaf(leaf) {
                Some(ept) => {
                    prop_assert_eq!(ept.bits(), leaf & 0x78);
                    prop_assert_eq!(ept.to_string().parse(), Ok(ept));
                }
                None => prop_assert!(matches!(leaf >> 3 & 7, 2 | 3 | 7)),
            }
        }
    }
}
