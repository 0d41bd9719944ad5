//! SPTEs: what is a leaf, and what the bits of one say of memory types.

use crate::host::facts::{Fact, Facts};
use crate::witness::is_used;
use serde::{Deserialize, Serialize};
use std::fmt;
use wire::layout::in_window;
use wire::memtype::EptType;

/// The bits of an address that are the offset into a page.
pub const PAGE_SHIFT: u32 = 12;
/// EPT and page tables alike: above level 1, an entry with this bit is a leaf.
const LARGE: u64 = 1 << 7;
/// Bits 2:0 of an EPT entry that allows to write and to fetch but not to read: the misconfiguration with which KVM
/// catches MMIO (`mmu/spte.c:kvm_mmu_set_ept_masks`).
const EPT_MMIO: u64 = 6;
/// In ordinary page tables KVM catches MMIO by a present entry with this reserved bit
/// (`mmu/spte.c:kvm_mmu_reset_all_pte_masks`, `svm/svm.c:svm_adjust_mmio_mask`). No frame that KVM maps has it: where
/// physical addresses have all 52 bits, KVM does without such entries.
const PAGE_TABLE_MMIO: u64 = 1 << 51;

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

/// What an SPTE is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// Nothing.
    Unused,
    /// KVM's mark for emulated MMIO.
    Mmio,
    /// It points to a page of SPTEs.
    Table,
    /// It maps memory.
    Leaf,
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
        let intel = match facts.get("kvm-vendor") {
            Some(Fact::Text(vendor)) if vendor == "kvm_intel" => true,
            Some(Fact::Text(vendor)) if vendor == "kvm_amd" => false,
            _ => return None,
        };
        Some(if intel && facts.bool("tdp")? { Format::Ept } else { Format::PageTable })
    }

    /// What an SPTE at `level` is.
    pub fn entry(self, spte: u64, level: u8) -> Entry {
        let mmio = match self {
            Format::Ept => spte & 7 == EPT_MMIO,
            Format::PageTable => spte & PAGE_TABLE_MMIO != 0,
        };
        match is_used(spte) {
            false => Entry::Unused,
            true if mmio => Entry::Mmio,
            true if level > 1 && spte & LARGE == 0 => Entry::Table,
            true => Entry::Leaf,
        }
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

/// The guest page frame of an address.
pub fn frame(gpa: u64) -> u64 {
    gpa >> PAGE_SHIFT
}

/// How many frames a leaf at `level` maps.
pub fn frames(level: u8) -> u64 {
    1 << (9 * u32::from(level.clamp(1, 3) - 1))
}

/// The address of a guest page frame, if it lies in the test window or in the low window.
pub fn window_gpa(gfn: u64) -> Option<u64> {
    let gpa = gfn.checked_mul(1 << PAGE_SHIFT)?;
    in_window(gpa, 1 << PAGE_SHIFT).then_some(gpa)
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
    fn only_entries_that_map_are_leaves() {
        for format in [Format::Ept, Format::PageTable] {
            assert_eq!(format.entry(0, 1), Entry::Unused);
            assert_eq!(format.entry(0x8000_0000_0000_0000, 1), Entry::Unused);
            assert_eq!(format.entry(0x77, 1), Entry::Leaf);
            assert_eq!(format.entry(0xf7, 2), Entry::Leaf);
            assert_eq!(format.entry(0x77, 2), Entry::Table);
        }
        // Emulated MMIO of Linux under EPT, and under NPT.
        assert_eq!(Format::Ept.entry(0x8000_0000_0000_0006, 1), Entry::Mmio);
        assert_eq!(Format::Ept.entry(0x0000_0f80_d000_0046, 1), Entry::Mmio);
        assert_eq!(Format::PageTable.entry(0x0008_0000_d000_0017, 1), Entry::Mmio);
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
