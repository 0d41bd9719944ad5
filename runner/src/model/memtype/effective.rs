//! The effective memory type: MTRR and PAT, EPT leaf and PAT, and CR0.CD.

use wire::memtype::EptType;
use wire::memtype::MemType::{self, *};

/// Rows in the order of [`MemType::OF_MTRR`], columns in that of [`MemType::ALL`].
///
/// SDM Vol. 3A, "Selecting Memory Types for Pentium III and More Recent Processor Families", table "Effective Page-Level
/// Memory Types for Pentium III and More Recent Processor Families".
const TABLE: [[MemType; 6]; 5] = [
    // PAT:
    // UC  WC  WT  WP  WB  UC-   MTRR:
    [Uc, Wc, Uc, Uc, Uc, Uc], // UC
    [Uc, Wc, Uc, Uc, Wc, Wc], // WC
    [Uc, Wc, Wt, Wp, Wt, Uc], // WT
    [Uc, Wc, Wt, Wp, Wp, Wc], // WP
    [Uc, Wc, Wt, Wp, Wb, Uc], // WB
];

/// The effective type of a page of MTRR type, or EPT memory type, `below` that page tables map as `pat`. Caching is on.
///
/// `below` is none of the PAT's own: UC- counts as UC there.
pub fn combine(below: MemType, pat: MemType) -> MemType {
    let row = match below {
        Uc | UcMinus => 0,
        Wc => 1,
        Wt => 2,
        Wp => 3,
        Wb => 4,
    };
    let column = match pat {
        Uc => 0,
        Wc => 1,
        Wt => 2,
        Wp => 3,
        Wb => 4,
        UcMinus => 5,
    };
    TABLE[row][column]
}

/// The effective type with no EPT in use: of a page of MTRR type `mtrr` that page tables map as `pat`, with `cd` in the
/// CPU's CR0.
///
/// With CD set and the caches flushed nothing is cached any more, so that accesses are as those of UC. SDM Vol. 3A,
/// "Cache Control" and "Preventing Caching".
pub fn without_ept(mtrr: MemType, pat: MemType, cd: bool) -> MemType {
    if cd { Uc } else { combine(mtrr, pat) }
}

/// The effective type of a guest-physical page that an EPT leaf of type `ept` translates, that the guest's page tables
/// map as `pat`, with `cd` in the CPU's own CR0. MTRRs have no part in it. With the guest's CR0.PG clear, `pat` is WB.
///
/// SDM Vol. 3C, "Memory Type Used for Translated Guest-Physical Addresses".
pub fn under_ept(ept: EptType, pat: MemType, cd: bool) -> MemType {
    match ept {
        _ if cd => Uc,
        EptType { memtype, ignore_pat: true } => memtype,
        EptType { memtype, ignore_pat: false } => combine(memtype, pat),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::select;

    /// Every cell again, one PAT type a line, as the manual's table is printed: MTRR types UC WC WT WP WB.
    const COLUMNS: &str = "
        UC  UC UC UC UC UC
        UC- UC WC UC WC UC
        WC  WC WC WC WC WC
        WT  UC UC WT WT WT
        WP  UC UC WP WP WP
        WB  UC WC WT WP WB";

    #[test]
    fn every_cell_is_the_manuals() {
        let mut cells = 0;
        for line in COLUMNS.lines().filter(|line| !line.trim().is_empty()) {
            let mut words = line.split_whitespace().map(|word| word.parse::<MemType>().unwrap());
            let pat = words.next().unwrap();
            for (mtrr, expected) in MemType::OF_MTRR.into_iter().zip(words) {
                assert_eq!(combine(mtrr, pat), expected, "{mtrr} x {pat}");
                cells += 1;
            }
        }
        assert_eq!(cells, 30);
    }

    proptest! {
        #[test]
        fn an_effective_type_is_never_uc_minus(
            mtrr in select(&MemType::ALL), pat in select(&MemType::ALL), ignore_pat: bool, cd: bool,
        ) {
            let ept = EptType { memtype: mtrr, ignore_pat: ignore_pat && mtrr != UcMinus };
            prop_assert_ne!(under_ept(ept, pat, cd), UcMinus);
            prop_assert_ne!(without_ept(mtrr, pat, cd), UcMinus);
        }

        #[test]
        fn cd_beats_ipat_and_ipat_beats_the_pat(
            memtype in select(&MemType::OF_MTRR), pat in select(&MemType::ALL), ignore_pat: bool,
        ) {
            let ept = EptType { memtype, ignore_pat };
            prop_assert_eq!(under_ept(ept, pat, true), Uc);
            let expected = if ignore_pat { memtype } else { combine(memtype, pat) };
            prop_assert_eq!(under_ept(ept, pat, false), expected);
        }

        /// What the manual says in words: UC and WC of the PAT are final, and WB of the PAT leaves the MTRR's type.
        #[test]
        fn uc_and_wc_of_the_pat_win_and_wb_gives_way(mtrr in select(&MemType::OF_MTRR)) {
            prop_assert_eq!(combine(mtrr, Uc), Uc);
            prop_assert_eq!(combine(mtrr, Wc), Wc);
            prop_assert_eq!(combine(mtrr, Wb), mtrr);
        }
    }
}
