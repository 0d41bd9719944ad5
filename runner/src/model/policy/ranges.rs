//! Ranges in policies: bits of a register, and indices of MSRs.

use serde::Deserialize;

/// The first bit of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum First {
    Bit(u8),
    Maxphyaddr,
}

/// A range of bits of a 64-bit register: `"12"`, `"8-11"` or `"maxphyaddr-63"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct BitRange {
    first: First,
    last: u8,
}

impl BitRange {
    /// The bits as a mask, or nothing if it takes a MAXPHYADDR and that is not known. Empty where MAXPHYADDR is above
    /// the last bit.
    pub fn mask(self, maxphyaddr: Option<u8>) -> Option<u64> {
        let first = match self.first {
            First::Bit(bit) => bit,
            First::Maxphyaddr => maxphyaddr?,
        };
        let upto = u64::MAX >> (63 - self.last);
        Some(if first > self.last { 0 } else { upto & u64::MAX << first })
    }
}

impl TryFrom<String> for BitRange {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no range of bits such as \"8-11\", \"12\" or \"maxphyaddr-63\"");
        let (first, last) = text.split_once('-').unwrap_or((&text, &text));
        let bit = |word: &str| word.parse::<u8>().ok().filter(|&bit| bit < 64).ok_or_else(wrong);
        let range = match first {
            "maxphyaddr" => BitRange { first: First::Maxphyaddr, last: bit(last)? },
            _ => BitRange { first: First::Bit(bit(first)?), last: bit(last)? },
        };
        match range.first {
            First::Bit(first) if first > range.last => Err(wrong()),
            _ => Ok(range),
        }
    }
}

/// Indices of MSRs: `"0xfe"`, `"0x258-0x259"`, or every second from the first on, `"0x200-0x20e/2"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct MsrRange {
    first: u32,
    last: u32,
    step: u32,
}

impl MsrRange {
    /// Whether it has the MSR `index`.
    pub fn has(self, index: u32) -> bool {
        (self.first..=self.last).contains(&index) && (index - self.first).is_multiple_of(self.step)
    }

    /// All indices in it.
    pub fn iter(self) -> impl Iterator<Item = u32> {
        (self.first..=self.last).step_by(self.step as usize)
    }
}

impl TryFrom<String> for MsrRange {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no range of MSRs such as \"0xfe\", \"0x258-0x259\" or \"0x200-0x20e/2\"");
        let (range, step) = match text.split_once('/') {
            Some((range, step)) => (range, step.parse().ok().filter(|&step| step > 0).ok_or_else(wrong)?),
            None => (text.as_str(), 1),
        };
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let index = |word: &str| {
            let digits = word.strip_prefix("0x").filter(|digits| !digits.starts_with('+'));
            digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()).ok_or_else(wrong)
        };
        let range = MsrRange { first: index(first)?, last: index(last)?, step };
        if range.first > range.last { Err(wrong()) } else { Ok(range) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bits(text: &str) -> Result<BitRange, String> {
        text.to_owned().try_into()
    }

    fn msrs(text: &str) -> Result<MsrRange, String> {
        text.to_owned().try_into()
    }

    #[test]
    fn a_range_of_bits_is_a_mask() {
        assert_eq!(bits("8-11").unwrap().mask(None), Some(0xf00));
        assert_eq!(bits("63").unwrap().mask(None), Some(1 << 63));
        assert_eq!(bits("0-63").unwrap().mask(None), Some(u64::MAX));
        assert_eq!(bits("maxphyaddr-63").unwrap().mask(Some(36)), Some(0xffff_fff0_0000_0000));
        assert_eq!(bits("maxphyaddr-63").unwrap().mask(Some(64)), Some(0));
        assert_eq!(bits("maxphyaddr-63").unwrap().mask(None), None);
    }

    #[test]
    fn msrs_are_counted_with_a_step() {
        assert!(msrs("0x200-0x20e/2").unwrap().iter().eq((0x200..=0x20e).step_by(2)));
        assert!(!msrs("0x200-0x20e/2").unwrap().has(0x201));
        assert!(msrs("0xfe").unwrap().iter().eq([0xfe]));
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for text in ["", "64", "9-8", "8-maxphyaddr", "a-b", "8-"] {
            assert!(bits(text).is_err(), "{text}");
        }
        for text in ["", "fe", "0x2-0x1", "0x1/0", "0x", "0x+1", "0x100000000"] {
            assert!(msrs(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text: String) {
            let _ = (bits(&text), msrs(&text));
        }
    }
}
