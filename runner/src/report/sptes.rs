//! Changes of SPTEs in words.

use crate::machine::{Line, Observed};
use crate::model::leaf::{Entry, Format};
use serde::Serialize;
use wire::host::HostRecord;
use wire::memtype::EptType;

/// Bits 51:12 of an entry: the frame that it maps or the table that it points to.
const FRAME: u64 = 0x000f_ffff_ffff_f000;
/// A change of an SPTE.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Index of the line in the log, from 0.
    pub line: usize,
    /// The guest page frame, in hexadecimal.
    pub gfn: String,
    /// Level of the entry: 1 is that of 4K pages.
    pub level: u8,
    /// What it was before.
    pub old: String,
    /// What it is now.
    pub new: String,
    /// It is the entry of a table that came or went, and maps nothing itself.
    pub table: bool,
    /// A page was mapped, and is no more.
    pub zapped: bool,
}

/// The changes in a log. `ept` says whether the entries are EPT's, so that a leaf has a memory type.
pub fn changes(observed: &Observed, ept: bool) -> Vec<Change> {
    let format = if ept { Format::Ept } else { Format::PageTable };
    let is = |entry, spte, level| format.entry(spte, level) == entry;
    let change = |(line, record): (usize, &Line)| match *record {
        Line::Host(HostRecord::Spte { gfn, level, old, new }) => Some(Change {
            line,
            gfn: format!("{gfn:x}"),
            level,
            old: words(format, old, level),
            new: words(format, new, level),
            table: [old, new].iter().all(|&spte| is(Entry::Unused, spte, level) || is(Entry::Table, spte, level)),
            zapped: is(Entry::Leaf, old, level) && is(Entry::Unused, new, level),
        }),
        _ => None,
    };
    observed.log.iter().enumerate().filter_map(change).collect()
}

/// An entry in words: `WB+IPAT rwx to frame 3692`.
fn words(format: Format, spte: u64, level: u8) -> String {
    let frame = (spte & FRAME) >> 12;
    match (format.entry(spte, level), format) {
        (Entry::Unused, _) => "nothing".to_owned(),
        (Entry::Mmio, _) => "MMIO".to_owned(),
        (Entry::Table, _) => format!("table at frame {frame:x}"),
        (Entry::Leaf, Format::Ept) => {
            let memtype = EptType::of_leaf(spte).map_or("a reserved type".to_owned(), |memtype| memtype.to_string());
            let may = |bit: u32, letter| if spte >> bit & 1 == 1 { letter } else { '-' };
            format!("{memtype} {}{}{} to frame {frame:x}", may(0, 'r'), may(1, 'w'), may(2, 'x'))
        }
        (Entry::Leaf, Format::PageTable) => format!("leaf to frame {frame:x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::End;
    use proptest::prelude::*;

    #[test]
    fn entries_of_stock_kernels_are_in_words() {
        // Linux 6.12 and 6.1 on Bochs.
        for (spte, level, words) in [
            (0x8600_0000_0369_2b77, 1, "WB+IPAT rwx to frame 3692"),
            (0x8600_0000_0369_2937, 1, "WB rwx to frame 3692"),
            (0x0600_0000_0696_9b05, 1, "UC r-x to frame 6969"),
            (0x8600_0000_0360_0bf7, 2, "WB+IPAT rwx to frame 3600"),
            (0x8000_0000_05dd_5907, 2, "table at frame 5dd5"),
            (0x0000_0f80_d000_0046, 1, "MMIO"),
            (0x8000_0000_0000_0000, 1, "nothing"),
            (0x5a0, 1, "nothing"),
            (0x17, 1, "a reserved type rwx to frame 0"),
        ] {
            assert_eq!(super::words(Format::Ept, spte, level), words, "{spte:x}");
        }
        assert_eq!(words(Format::PageTable, 0x0060_0000_0369_2067, 1), "leaf to frame 3692");
        assert_eq!(words(Format::PageTable, 0x0008_0000_d000_0017, 1), "MMIO");
    }

    proptest! {
        #[test]
        fn a_zap_takes_a_page_away(gfn: u64, level in 1..6u8, old: u64, new: u64, ept: bool) {
            let log = vec![Line::Host(HostRecord::Spte { gfn, level, old, new })];
            let observed = Observed { log, end: End::Halt, micros: 0, witness: Default::default() };
            let change = &changes(&observed, ept)[0];
            prop_assert_eq!(change.zapped, change.old.contains(" to frame") && change.new == "nothing");
        }
    }
}
