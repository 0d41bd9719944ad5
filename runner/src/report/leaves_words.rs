//! The tables of leaf SPTEs in words.

use super::leaves::{Dma, Memory, Row, Setup};
use crate::model::leaf::LeafType;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use wire::memtype::{EptType, MemType};
use wire::step::SlotType;

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            self.pat_quirk_off.then_some("quirk IGNORE_GUEST_PAT disabled"),
            self.cd_quirk_off.then_some("quirk CD_NW_CLEARED disabled"),
            match self.dma {
                Dma::Never => None,
                Dma::Always => Some("non-coherent DMA"),
                Dma::Plugged => Some("non-coherent DMA, plugged in later"),
                Dma::Unplugged => Some("non-coherent DMA, taken away again"),
            },
        ];
        let parts: Vec<&str> = parts.into_iter().flatten().collect();
        f.write_str(if parts.is_empty() { "default" } else { "" })?;
        f.write_str(&parts.join(", "))
    }
}

impl Memory {
    /// The word for it.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Memory::Ram => "ram",
            Memory::ReadOnly => "read-only",
            Memory::HostMmio => "host-mmio",
        }
    }
}

impl fmt::Display for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Row::Leaf { setup, cd, memory, typed } => {
                setup.fmt(f)?;
                f.write_str(if *cd { ", CR0.CD=1" } else { "" })?;
                f.write_str(match memory {
                    Memory::Ram => "",
                    Memory::ReadOnly => ", read-only memslot",
                    Memory::HostMmio => ", PCI BAR of the host",
                })?;
                match typed {
                    SlotType::Plain => Ok(()),
                    typed => write!(f, ", memslot flag {typed}"),
                }
            }
            Row::Lookup(test, mtrr) => write!(f, "{test}, pages of type {mtrr}"),
            Row::Zap(event, setup) => write!(f, "{event}: {setup}"),
        }
    }
}

/// Leaves by the type that the guest's MTRRs give.
pub struct Shown<'a>(pub &'a BTreeMap<MemType, BTreeSet<LeafType>>);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list =
            |leaves: &BTreeSet<LeafType>| leaves.iter().map(LeafType::to_string).collect::<Vec<_>>().join(" or ");
        let mut kinds = self.0.values();
        let first = kinds.next();
        let follows = |(&memtype, leaves): (&MemType, &BTreeSet<LeafType>)| {
            leaves.iter().eq([&LeafType::Ept(EptType { memtype, ignore_pat: false })])
        };
        if self.0.len() > 1 && self.0.iter().all(follows) {
            let types: Vec<&str> = self.0.keys().map(|memtype| memtype.name()).collect();
            return write!(f, "guest MTRR type: {}", types.join(", "));
        }
        match first {
            Some(first) if kinds.all(|other| other == first) => f.write_str(&list(first)),
            _ => {
                let each = self.0.iter().map(|(memtype, leaves)| format!("{memtype}: {}", list(leaves)));
                f.write_str(&each.collect::<Vec<_>>().join("; "))
            }
        }
    }
}

/// How many leaves were zapped.
pub fn zaps(zapped: &BTreeSet<(usize, usize)>) -> String {
    let word = |&(leaves, of): &(usize, usize)| match leaves {
        0 => "none".to_owned(),
        _ if leaves == of => "all".to_owned(),
        _ => format!("{leaves} of {of}"),
    };
    zapped.iter().map(word).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(pairs: &[(MemType, &str)]) -> String {
        let mut leaves: BTreeMap<MemType, BTreeSet<LeafType>> = BTreeMap::new();
        for &(memtype, leaf) in pairs {
            leaves.entry(memtype).or_default().insert(leaf.to_owned().try_into().unwrap());
        }
        Shown(&leaves).to_string()
    }

    #[test]
    fn a_rule_is_told_from_a_list() {
        use MemType::{Uc, Wb, Wc};
        assert_eq!(shown(&[(Uc, "WB+IPAT"), (Wb, "WB+IPAT")]), "WB+IPAT");
        assert_eq!(shown(&[(Uc, "UC"), (Wc, "WC"), (Wb, "WB")]), "guest MTRR type: UC, WC, WB");
        assert_eq!(shown(&[(Uc, "UC"), (Wb, "UC"), (Wb, "WB")]), "UC: UC; WB: UC or WB");
        assert_eq!(shown(&[(Uc, "UC")]), "UC");
    }

    #[test]
    fn zaps_are_all_or_none_or_counted() {
        assert_eq!(zaps(&[(0, 2), (0, 3)].into()), "none");
        assert_eq!(zaps(&[(2, 2), (3, 3)].into()), "all");
        assert_eq!(zaps(&[(1, 2), (2, 2)].into()), "1 of 2 or all");
    }
}
