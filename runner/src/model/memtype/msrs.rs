//! The MSRs of a vCPU, as far as it is known what they hold, and the variable ranges that its MTRRs make.

use super::mtrr::{NoType, Range};
use std::cell::OnceCell;
use std::collections::BTreeMap;

/// MSRs by index. The ranges of the MTRRs among them are made of them once, until one changes: a test has a type looked up
/// for many a page.
#[derive(Debug, Clone, Default)]
pub struct Msrs {
    values: BTreeMap<u32, u64>,
    ranges: OnceCell<Result<Ranges, NoType>>,
}

/// The variable ranges that are valid.
#[derive(Debug, Clone, Default)]
pub(super) struct Ranges {
    /// By number.
    pub by_number: Vec<Range>,
    /// By base, the highest first.
    pub by_base: Vec<Range>,
}

impl Msrs {
    /// What an MSR holds, if that is known.
    pub fn get(&self, index: u32) -> Option<u64> {
        self.values.get(&index).copied()
    }

    /// It is known what an MSR holds.
    pub fn set(&mut self, index: u32, value: u64) {
        if self.values.insert(index, value) != Some(value) {
            self.ranges.take();
        }
    }

    /// What an MSR holds is not known any more.
    pub fn forget(&mut self, index: u32) {
        self.values.remove(&index);
        self.ranges.take();
    }

    /// The variable ranges that are valid, or why they are not known.
    pub(super) fn ranges(&self) -> Result<&Ranges, NoType> {
        let make = || {
            let by_number = Range::all(self)?;
            let mut by_base = by_number.clone();
            by_base.sort_by_key(|range| std::cmp::Reverse(range.base));
            Ok(Ranges { by_number, by_base })
        };
        self.ranges.get_or_init(make).as_ref().map_err(|&why| why)
    }
}

impl FromIterator<(u32, u64)> for Msrs {
    fn from_iter<I: IntoIterator<Item = (u32, u64)>>(msrs: I) -> Self {
        Msrs { values: msrs.into_iter().collect(), ranges: OnceCell::new() }
    }
}
