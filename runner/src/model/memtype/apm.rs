//! AMD: the effective memory type of PAT and MTRRs, natively and with nested paging.
//!
//! APM (AMD64 Architecture Programmer's Manual) Vol. 2, 7.8 "Page-Attribute Table Mechanism" and 15.25.8 "Combining
//! Memory Types, MTRRs". That the tables are there, what they are numbered, and what a host's WB makes of each type of the
//! guest (WC+ of WC, UC of UC-) is confirmed by quotations; the other cells are from memory and were not checked.

use std::fmt;
use wire::memtype::MemType::{self, *};

/// An effective memory type as the APM has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Apm {
    /// Uncacheable; MTRRs say so, and caches are not asked.
    Uc,
    /// Cache disabled: uncacheable, but caches that hold the line are asked and give it up.
    Cd,
    /// Write combining.
    Wc,
    /// Write combining that asks the caches.
    WcPlus,
    /// Write protected.
    Wp,
    /// Write-through.
    Wt,
    /// Write-back.
    Wb,
}

impl Apm {
    /// All of them.
    pub const ALL: [Apm; 7] = [Apm::Uc, Apm::Cd, Apm::Wc, Apm::WcPlus, Apm::Wp, Apm::Wt, Apm::Wb];

    /// The type that accesses look like to one who times them and has no line of the page in a cache: what the caches are
    /// asked shows only where one holds it.
    pub fn looks_like(self) -> MemType {
        match self {
            Apm::Uc | Apm::Cd => Uc,
            Apm::Wc | Apm::WcPlus => Wc,
            Apm::Wp => Wp,
            Apm::Wt => Wt,
            Apm::Wb => Wb,
        }
    }
}

impl fmt::Display for Apm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Apm::Cd => "CD",
            Apm::WcPlus => "WC+",
            other => other.looks_like().name(),
        })
    }
}

/// What page tables say of a page: one PAT type, or that which a guest's and a host's PAT type make together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PageType {
    /// That of the PAT.
    Pat(MemType),
    /// WC of one of them, and cacheable by the other.
    WcPlus,
}

/// What a guest's page tables and the host's nested ones say together: the PAT type `guest` of the guest's own IA32_PAT
/// (VMCB field G_PAT), and `host` of the host's.
///
/// APM Vol. 2, 15.25.8, table 15-19.
pub fn nested(guest: MemType, host: MemType) -> PageType {
    match (guest, host) {
        (Uc, _) => PageType::Pat(Uc),
        (Wc, Uc | UcMinus | Wc) | (UcMinus, Wc) => PageType::Pat(Wc),
        (Wc, Wp | Wt | Wb) | (Wp | Wt | Wb, Wc) => PageType::WcPlus,
        (UcMinus, UcMinus) => PageType::Pat(UcMinus),
        (UcMinus, _) | (_, Uc | UcMinus) => PageType::Pat(Uc),
        (Wp, Wt) | (Wt, Wp) => PageType::Pat(Uc),
        (Wb, host) => PageType::Pat(host),
        (guest, _) => PageType::Pat(guest),
    }
}

/// The effective type of what page tables say and the MTRR type of the system-physical page. UC- is none of an MTRR's, and
/// counts as UC there.
///
/// APM Vol. 2, 15.25.8, table 15-20, whose rows without WC+ are those of 7.8, the combined types without nested paging.
pub fn combined(page: PageType, mtrr: MemType) -> Apm {
    match (page, mtrr) {
        (PageType::Pat(Wc), _) => Apm::Wc,
        (PageType::Pat(UcMinus | Wb) | PageType::WcPlus, Wc) | (PageType::WcPlus, Uc | UcMinus) => Apm::Wc,
        (_, Uc | UcMinus) => Apm::Uc,
        (PageType::WcPlus, _) => Apm::WcPlus,
        (PageType::Pat(Wp), Wp | Wb) | (PageType::Pat(Wb), Wp) => Apm::Wp,
        (PageType::Pat(Wt), Wt | Wb) | (PageType::Pat(Wb), Wt) => Apm::Wt,
        (PageType::Pat(Wb), Wb) => Apm::Wb,
        (PageType::Pat(_), _) => Apm::Cd,
    }
}

/// The effective type without nested paging.
pub fn native(pat: MemType, mtrr: MemType) -> Apm {
    combined(PageType::Pat(pat), mtrr)
}

/// The effective type of a guest's page under KVM with nested paging: its leaves select entry 0 of the host's PAT, and KVM
/// loads only where that is WB (`x86.c:kvm_x86_vendor_init`). `guest_pat` is the type of the guest's own PAT, WB while its
/// paging is off; `host_mtrr` that of the host's MTRRs for the page that backs it. Guest MTRRs have no part in it.
pub fn npt(guest_pat: MemType, host_mtrr: MemType) -> Apm {
    combined(nested(guest_pat, Wb), host_mtrr)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::select;

    /// Table 15-19 as it is printed: guest UC UC- WC WP WT WB down, host the same across.
    const NESTED: &str = "
        UC   UC  UC  UC  UC  UC  UC
        UC-  UC  UC- WC  UC  UC  UC
        WC   WC  WC  WC  WC+ WC+ WC+
        WP   UC  UC  WC+ WP  UC  WP
        WT   UC  UC  WC+ UC  WT  WT
        WB   UC  UC  WC+ WP  WT  WB";
    const HOST: [MemType; 6] = [Uc, UcMinus, Wc, Wp, Wt, Wb];

    /// Table 15-20: page types down, MTRR types UC WC WP WT WB across.
    const COMBINED: &str = "
        UC   UC  CD  CD  CD  CD
        UC-  UC  WC  CD  CD  CD
        WC   WC  WC  WC  WC  WC
        WC+  WC  WC  WC+ WC+ WC+
        WP   UC  CD  WP  CD  WP
        WT   UC  CD  CD  WT  WT
        WB   UC  WC  WP  WT  WB";
    const MTRR: [MemType; 5] = [Uc, Wc, Wp, Wt, Wb];

    fn page(word: &str) -> PageType {
        if word == "WC+" { PageType::WcPlus } else { PageType::Pat(word.parse().unwrap()) }
    }

    fn lines(table: &'static str) -> impl Iterator<Item = (&'static str, Vec<&'static str>)> {
        table.lines().filter(|line| !line.trim().is_empty()).map(|line| {
            let mut words = line.split_whitespace();
            (words.next().unwrap(), words.collect())
        })
    }

    #[test]
    fn every_cell_is_the_manuals() {
        let mut cells = 0;
        for (guest, row) in lines(NESTED) {
            for (host, expected) in HOST.into_iter().zip(row) {
                assert_eq!(nested(guest.parse().unwrap(), host), page(expected), "{guest} x {host}");
                cells += 1;
            }
        }
        for (of, row) in lines(COMBINED) {
            for (mtrr, expected) in MTRR.into_iter().zip(row) {
                assert_eq!(combined(page(of), mtrr).to_string(), expected, "{of} x {mtrr}");
                cells += 1;
            }
        }
        assert_eq!(cells, 6 * 6 + 7 * 5);
    }

    /// RAM of a host is WB by its MTRRs: a guest gets what it asks for, coherent with caches in any case.
    #[test]
    fn a_guest_gets_what_its_pat_asks_for_on_ram() {
        let on_ram = MemType::ALL.map(|pat| npt(pat, Wb).to_string());
        assert_eq!(on_ram, ["CD", "WC+", "WT", "WP", "WB", "CD"], "of UC WC WT WP WB UC-");
        let on_mmio = MemType::ALL.map(|pat| npt(pat, Uc).to_string());
        assert_eq!(on_mmio, ["UC", "WC", "UC", "UC", "UC", "UC"]);
    }

    #[test]
    fn each_type_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<String> = Apm::ALL.iter().map(Apm::to_string).collect();
        assert_eq!(names.len(), Apm::ALL.len());
    }

    proptest! {
        /// Where neither is WC or UC, guest and host may change places; and MTRRs never make anything cacheable.
        #[test]
        fn the_tables_are_what_their_names_say(
            guest in select(&MemType::ALL), host in select(&MemType::ALL), mtrr in select(&MemType::OF_MTRR),
        ) {
            if ![guest, host].contains(&Uc) {
                prop_assert_eq!(nested(guest, host), nested(host, guest));
            }
            prop_assert_eq!(nested(guest, guest), PageType::Pat(guest));
            let cacheable = |memtype: MemType| matches!(memtype, Wp | Wt | Wb);
            let seen = combined(nested(guest, host), mtrr).looks_like();
            prop_assert!(!cacheable(seen) || [guest, host, mtrr].into_iter().all(cacheable));
        }

        /// Intel and AMD look the same but where Intel's MTRR of WC or WP lets UC- be WC.
        #[test]
        fn natively_it_looks_as_on_intel_where_memory_is_wb_or_uc(
            pat in select(&MemType::ALL), mtrr in select(&[Uc, Wb]),
        ) {
            prop_assert_eq!(native(pat, mtrr).looks_like(), crate::model::memtype::combine(mtrr, pat));
        }
    }
}
