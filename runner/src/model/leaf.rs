//! Leaf SPTEs: what their bits say of memory types, and which there are.

use super::point::Why;
use super::policy::{ZapEvent, ZapRow};
use crate::host::facts::{Fact, Facts};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use wire::layout::{WINDOW, WINDOW_SIZE};
use wire::memtype::EptType;

const PAGE_SHIFT: u32 = 12;
/// EPT and page tables alike: an entry without this bit maps nothing that a guest could read. KVM's SPTEs for emulated
/// MMIO have it clear too (`mmu/spte.c:make_mmio_spte`).
const READABLE: u64 = 1;
/// EPT and page tables alike: above level 1, an entry with this bit is a leaf.
const LARGE: u64 = 1 << 7;

/// What a leaf says of memory types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum LeafType {
    /// The memory type of an EPT leaf, and whether it ignores the PAT.
    Ept(EptType),
    /// A reserved memory type in an EPT leaf, which makes it an EPT misconfiguration.
    Reserved(u8),
    /// The entry of the PAT that PAT, PCD and PWT of an entry of ordinary page tables select: nested paging of AMD, and
    /// shadow paging.
    Pat(u8),
}

impl fmt::Display for LeafType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LeafType::Ept(ept) => ept.fmt(f),
            LeafType::Reserved(bits) => write!(f, "reserved{bits}"),
            LeafType::Pat(entry) => write!(f, "PAT{entry}"),
        }
    }
}

/// As it is displayed.
impl TryFrom<String> for LeafType {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let number = |prefix| text.strip_prefix(prefix)?.parse().ok().filter(|number| *number < 8u8);
        let found = text.parse().ok().map(LeafType::Ept);
        let found = found.or_else(|| number("PAT").map(LeafType::Pat));
        let found = found.or_else(|| number("reserved").map(LeafType::Reserved));
        found.ok_or_else(|| format!("`{text}` is no type of a leaf such as \"WB+IPAT\", \"UC\" or \"PAT0\""))
    }
}

impl From<LeafType> for String {
    fn from(leaf: LeafType) -> String {
        leaf.to_string()
    }
}

/// The format of the entries that KVM's MMU makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// EPT.
    Ept,
    /// Ordinary page tables.
    PageTable,
}

impl Format {
    /// That of a host, if its vendor module and whether it has two-dimensional paging are known.
    pub fn of(facts: &Facts) -> Option<Format> {
        let intel = match facts.0.get("kvm-vendor") {
            Some(Fact::Text(vendor)) if vendor == "kvm_intel" => true,
            Some(Fact::Text(vendor)) if vendor == "kvm_amd" => false,
            _ => return None,
        };
        Some(if intel && facts.bool("tdp")? { Format::Ept } else { Format::PageTable })
    }

    /// What the leaf `spte` at `level` says.
    pub fn leaf(self, spte: u64, level: u8) -> LeafType {
        match self {
            Format::Ept => EptType::of_leaf(spte).map_or(LeafType::Reserved((spte >> 3 & 7) as u8), LeafType::Ept),
            // SDM Vol. 3A, "Determining the Memory Type Used for Linear Addresses"; the PAT bit of a large page is 12.
            Format::PageTable => {
                let pat_bit = if level == 1 { 7 } else { 12 };
                LeafType::Pat(((spte >> pat_bit & 1) << 2 | spte >> 3 & 3) as u8)
            }
        }
    }
}

/// Whether an SPTE at `level` is a leaf that maps memory.
pub fn maps(spte: u64, level: u8) -> bool {
    spte & READABLE != 0 && (level == 1 || spte & LARGE != 0)
}

/// The guest page frame of an address.
pub fn frame(gpa: u64) -> u64 {
    gpa >> PAGE_SHIFT
}

/// The address of a guest page frame, if it lies in the test window.
pub fn window_gpa(gfn: u64) -> Option<u64> {
    (frame(WINDOW)..frame(WINDOW + WINDOW_SIZE)).contains(&gfn).then_some(gfn << PAGE_SHIFT)
}

/// The leaves that an event should zap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All.
    All,
    /// Those of these frames, both ends included.
    Frames(u64, u64),
    /// None.
    Nothing,
}

impl Scope {
    fn has(self, gfn: u64) -> bool {
        match self {
            Scope::All => true,
            Scope::Frames(first, last) => (first..=last).contains(&gfn),
            Scope::Nothing => false,
        }
    }
}

/// Something happened after which leaves should be gone, or should not.
#[derive(Debug, Clone, Copy)]
pub struct Pending<'p> {
    /// What happened.
    pub event: ZapEvent,
    /// The row that speaks of it, or why none does.
    pub row: Result<&'p ZapRow, Why>,
    /// Which leaves it should zap.
    pub scope: Scope,
}

/// What came of the leaves that an event could have zapped.
#[derive(Debug, Clone, Copy)]
pub struct Zapped<'p> {
    /// The event; of several of the kind by the same row, the last.
    pub pending: Pending<'p>,
    /// How many are gone.
    pub leaves: usize,
    /// Of how many: those that should be, or where none should, all that no other event should zap.
    pub of: usize,
    /// How many should be gone.
    pub due: usize,
}

/// The leaves of the test window, and what happened to them since the last mark. Page frames stand for them.
///
/// Only at a mark is it certain which came before what: SPTEs stand in the log where the guest stopped next.
#[derive(Debug, Clone, Default)]
pub struct Leaves<'p> {
    present: BTreeSet<u64>,
    at_mark: BTreeSet<u64>,
    zapped: BTreeSet<u64>,
    touched: BTreeSet<u64>,
    pending: Vec<Pending<'p>>,
}

impl<'p> Leaves<'p> {
    /// A leaf was made or changed.
    pub fn set(&mut self, gfn: u64) {
        self.present.insert(gfn);
    }

    /// A leaf was taken away.
    pub fn zap(&mut self, gfn: u64) {
        self.present.remove(&gfn);
        self.zapped.insert(gfn);
    }

    /// The guest accessed the page.
    pub fn touch(&mut self, gfn: u64) {
        self.touched.insert(gfn);
    }

    /// Something happened.
    pub fn push(&mut self, pending: Pending<'p>) {
        self.pending.push(pending);
    }

    /// KVM may have zapped any leaf.
    pub fn forget(&mut self) {
        *self = Leaves { pending: std::mem::take(&mut self.pending), ..Leaves::default() };
    }

    /// A mark: what came of the leaves since the last one, and the pages that were accessed although no SPTE maps them.
    pub fn mark(&mut self) -> (Vec<Zapped<'p>>, Vec<u64>) {
        let pending = std::mem::take(&mut self.pending);
        let due = |gfn: &u64| pending.iter().any(|pending| pending.scope.has(*gfn));
        let mut zapped: Vec<Zapped<'p>> = Vec::new();
        for (n, &one) in pending.iter().enumerate() {
            // Of several of the kind by the same row, the last speaks for all.
            let row = |row: Result<&'p ZapRow, Why>| row.map(std::ptr::from_ref);
            let same = |other: &&Pending<'p>| one.event == other.event && row(one.row) == row(other.row);
            if pending[n + 1..].iter().any(|other| same(&other)) {
                continue;
            }
            let mine = |gfn: &u64| pending.iter().filter(same).any(|pending| pending.scope.has(*gfn));
            let count = self.at_mark.iter().filter(|gfn| mine(gfn)).count();
            let of = self.at_mark.iter().filter(|gfn| if count > 0 { mine(gfn) } else { !due(gfn) });
            let (leaves, of) = (of.clone().filter(|gfn| self.zapped.contains(gfn)).count(), of.count());
            if of > 0 {
                zapped.push(Zapped { pending: one, leaves, of, due: count });
            }
        }
        let mapped = |gfn: &u64| {
            // A 2M leaf is known by its first frame.
            [*gfn, gfn & !0x1ff].iter().any(|gfn| self.present.contains(gfn) || self.zapped.contains(gfn))
        };
        let unseen = self.touched.iter().copied().filter(|gfn| !mapped(gfn)).collect();
        self.at_mark = self.present.clone();
        self.zapped.clear();
        self.touched.clear();
        (zapped, unseen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_type_reads_back_from_a_policy() {
        for text in ["UC", "WB+IPAT", "PAT0", "PAT7", "reserved2"] {
            assert_eq!(LeafType::try_from(text.to_owned()).unwrap().to_string(), text);
        }
        for text in ["", "PAT8", "UC-", "wb + ipat", "PAT"] {
            assert!(LeafType::try_from(text.to_owned()).is_err(), "{text}");
        }
    }

    #[test]
    fn bits_are_read_by_the_format() {
        let leaf = |format: Format, spte, level| format.leaf(spte, level).to_string();
        assert_eq!(leaf(Format::Ept, 0x0600_0001_0a2b_3977, 1), "WB+IPAT");
        assert_eq!(leaf(Format::Ept, 0x507, 1), "UC");
        assert_eq!(leaf(Format::Ept, 0x517, 1), "reserved2");
        // Accessed and dirty are bits 5 and 6 there, and say nothing of types.
        assert_eq!(leaf(Format::PageTable, 0x67, 1), "PAT0");
        assert_eq!(leaf(Format::PageTable, 0xe7, 1), "PAT4");
        assert_eq!(leaf(Format::PageTable, 0x10ff, 2), "PAT7");
    }

    #[test]
    fn only_leaves_that_map_are_leaves() {
        // An SPTE that KVM marks emulated MMIO with on EPT: write and execute without read.
        assert!(!maps(0x8000_0000_0000_0006, 1));
        assert!(!maps(0x8000_0000_0000_0000, 1) && !maps(0, 1));
        assert!(maps(0x77, 1) && maps(0xf7, 2) && !maps(0x77, 2));
    }

    proptest! {
        #[test]
        fn no_text_panics(text: String) {
            let _ = LeafType::try_from(text);
        }

        #[test]
        fn no_bits_panic(spte: u64, level: u8) {
            for format in [Format::Ept, Format::PageTable] {
                let leaf = format.leaf(spte, level);
                prop_assert_eq!(LeafType::try_from(leaf.to_string()), Ok(leaf));
            }
        }
    }
}
