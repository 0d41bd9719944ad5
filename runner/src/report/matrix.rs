//! The memory types that guests got, as a picture: for each VM configuration a table with a row for each MTRR type and a
//! column for each type of the PAT.

use super::types::Page;
use crate::model::memtype::under_ept;
use anstyle::{AnsiColor, Style};
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};
use wire::memtype::{EptType, MemType};

/// Rows of a table.
const MTRR: [MemType; 5] = MemType::OF_MTRR;
/// Columns of a table.
const PAT: [MemType; 6] = [MemType::Uc, MemType::UcMinus, MemType::Wc, MemType::Wt, MemType::Wp, MemType::Wb];
/// Width of a column: a type, its marks, a space.
const COLUMN: usize = 6;

/// What pages got that asked for the same: how many each type, and whether all is as it should be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Field {
    /// Pages by what they got; nothing where nobody could tell.
    got: BTreeMap<Option<MemType>, usize>,
    /// A page got another type than the architecture gives.
    not_architecture: bool,
    /// A page got another type than the policy gives.
    not_policy: bool,
}

/// The fields of one VM configuration by CR0.CD, row and column.
type Table = BTreeMap<(bool, usize, usize), Field>;

/// Prints the tables, those of each target by itself.
///
/// # Errors
/// The output cannot be written.
pub fn print_matrix(out: &mut impl Write, pages: &[Page]) -> io::Result<()> {
    let mut tables = BTreeMap::<(&str, &str), Table>::new();
    for page in pages {
        // Where MTRRs overlap in a way that the SDM leaves undefined, there is no row.
        let (Some(row), Some(column)) = (place(&MTRR, &page.asked.mtrr), place(&PAT, &page.asked.pat)) else {
            continue;
        };
        let table = tables.entry((page.asked.target, &page.asked.vm)).or_default();
        table.entry((page.asked.cd, row, column)).or_default().add(page);
    }
    // VM configurations in which all is the same are one.
    let mut same: Vec<(&str, Vec<&str>, Table)> = Vec::new();
    for ((target, vm), table) in tables {
        match same.iter_mut().find(|(of, _, known)| *of == target && looks(known) == looks(&table)) {
            Some((_, vms, _)) => vms.push(vm),
            None => same.push((target, vec![vm], table)),
        }
    }
    for (at, (target, vms, table)) in same.iter().enumerate() {
        let gap = if at > 0 { "\n" } else { "" };
        writeln!(out, "{gap}{target}, VM {}", vms.join(", "))?;
        print(out, table)?;
    }
    legend(out, same.iter().flat_map(|(_, _, table)| table.values()))
}

fn place(types: &[MemType], word: &str) -> Option<usize> {
    types.iter().position(|memtype| memtype.to_string() == word)
}

/// What a table looks like: how many pages there are shows nowhere.
fn looks(table: &Table) -> Vec<(&(bool, usize, usize), String)> {
    table.iter().map(|(place, field)| (place, field.to_string())).collect()
}

fn print(out: &mut impl Write, table: &Table) -> io::Result<()> {
    let blocks: Vec<bool> = [false, true].into_iter().filter(|cd| table.keys().any(|(of, ..)| of == cd)).collect();
    let line = |name: &str, block: &dyn Fn(bool) -> String| {
        let blocks: Vec<String> = blocks.iter().map(|&cd| block(cd)).collect();
        format!("  {name:<6}{}", blocks.join("  ")).trim_end().to_owned()
    };
    let width = PAT.len() * COLUMN;
    writeln!(out, "{}", line("", &|cd| format!("{:<width$}", format!("PAT, CR0.CD={}", u8::from(cd)))))?;
    writeln!(out, "{}", line("MTRR", &|_| PAT.map(|memtype| format!("{:<COLUMN$}", memtype.to_string())).concat()))?;
    for (row, mtrr) in MTRR.iter().enumerate().filter(|(row, _)| table.keys().any(|(_, of, _)| of == row)) {
        let field = |cd, column| match table.get(&(cd, row, column)) {
            Some(field) => field.coloured(),
            None => format!("{:<COLUMN$}", "."),
        };
        writeln!(out, "{}", line(&mtrr.to_string(), &|cd| (0..PAT.len()).map(|column| field(cd, column)).collect()))?;
    }
    Ok(())
}

/// Says what the marks mean that are there.
fn legend<'a>(out: &mut impl Write, fields: impl Iterator<Item = &'a Field>) -> io::Result<()> {
    let (mut said, mut any) = ([false; 4], false);
    for field in fields {
        any = true;
        for (said, here) in
            said.iter_mut().zip([field.is_mixed(), field.not_architecture, field.not_policy, field.most().is_none()])
        {
            *said |= here;
        }
    }
    if !any {
        return writeln!(out, "No page was timed whose MTRR type and PAT type are known.");
    }
    if said.contains(&true) {
        writeln!(out)?;
    }
    let marks = [
        "~  not all pages got it",
        "*  one got what the architecture does not give",
        "!  one got what the policy does not give",
        "?  nobody could tell",
    ];
    marks.iter().zip(said).filter(|(_, said)| *said).try_for_each(|(mark, _)| writeln!(out, "  {mark}"))
}

impl Field {
    fn add(&mut self, page: &Page) {
        let got = got(page);
        let other = |word: &str| got.is_some() && word.parse::<MemType>().is_ok_and(|given| Some(given) != got);
        *self.got.entry(got).or_default() += 1;
        self.not_architecture |= other(&page.answers.architecture);
        self.not_policy |= other(&page.answers.policy);
    }

    /// Whether it is known that not all pages got the same.
    fn is_mixed(&self) -> bool {
        self.got.keys().flatten().count() > 1
    }

    /// What most pages got.
    fn most(&self) -> Option<MemType> {
        self.got.iter().max_by_key(|(got, count)| (got.is_some(), **count)).and_then(|(got, _)| *got)
    }

    /// As it is displayed, in colours and as wide as a column.
    fn coloured(&self) -> String {
        let text = self.to_string();
        let (memtype, marks) = text.split_at(text.find(['~', '*', '!']).unwrap_or(text.len()));
        let (style, pad) = (self.most().map_or(Style::new(), colour), COLUMN - text.len());
        let marked = if self.not_policy { AnsiColor::Red.on_default().bold() } else { Style::new().bold() };
        let marks = if marks.is_empty() { String::new() } else { format!("{marked}{marks}{marked:#}") };
        format!("{style}{memtype}{style:#}{marks}{:pad$}", "")
    }
}

/// A type and its marks.
impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.most() {
            Some(memtype) => memtype.fmt(f)?,
            None => f.write_str("?")?,
        }
        let marks = [(self.is_mixed(), "~"), (self.not_architecture, "*"), (self.not_policy, "!")];
        marks.iter().filter(|(there, _)| *there).try_for_each(|(_, mark)| f.write_str(mark))
    }
}

/// What a page got: by its times or, where those fit several types, the one of them that its leaf gives by the SDM's rule.
fn got(page: &Page) -> Option<MemType> {
    let times = &page.answers.times;
    if let Ok(memtype) = times.parse() {
        return Some(memtype);
    }
    let (leaf, pat) = (page.answers.leaf.parse::<EptType>().ok()?, page.asked.pat.parse().ok()?);
    // KVM never runs a guest with CD set in the CPU's own CR0.
    let memtype = under_ept(leaf, pat, false);
    let fits = times == "-" || times.split(" or ").any(|word| word == memtype.to_string());
    fits.then_some(memtype)
}

/// The colour of a type; its letters are always there too. Those who see no red or no green can tell these.
fn colour(memtype: MemType) -> Style {
    match memtype {
        MemType::Uc | MemType::UcMinus => AnsiColor::Magenta,
        MemType::Wc => AnsiColor::Yellow,
        MemType::Wt => AnsiColor::Cyan,
        MemType::Wp => AnsiColor::BrightBlue,
        MemType::Wb => AnsiColor::Green,
    }
    .on_default()
}

#[cfg(test)]
mod tests {
    use super::super::types::{Answers, Asked};
    use super::*;
    use snapbox::{assert_data_eq, str};

    fn page(vm: &str, [mtrr, pat]: [&str; 2], cd: bool, answers: [&str; 4]) -> Page {
        let [times, leaf, architecture, policy] = answers.map(str::to_owned);
        let asked = Asked { vm: vm.into(), target: "ram", mtrr: mtrr.into(), pat: pat.into(), cd };
        Page { id: "a/b:1".into(), asked, answers: Answers { times, leaf, architecture, policy, honoured: None } }
    }

    fn printed(pages: &[Page]) -> String {
        let mut bytes = Vec::new();
        print_matrix(&mut anstream::StripStream::new(&mut bytes), pages).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn what_differs_is_marked_and_what_is_the_same_is_one_table() {
        let mut pages = Vec::new();
        for vm in ["default", "other"] {
            pages.push(page(vm, ["WB", "WC"], false, ["WB", "WB+IPAT", "WC", "WB"]));
            pages.push(page(vm, ["UC", "UC-"], true, ["UC or WC", "-", "UC", "UC"]));
        }
        pages.push(page("dma", ["WB", "WC"], false, ["UC or WC", "WB", "WC", "WC"]));
        pages.push(page("dma", ["WB", "WC"], false, ["WC", "WB", "WC", "WC"]));
        pages.push(page("dma", ["WB", "WC"], false, ["UC", "UC", "WC", "WC"]));
        pages.push(page("dma", ["-", "WC"], false, ["UC", "UC", "-", "UC"]));
        assert_data_eq!(
            printed(&pages),
            str![[r#"
ram, VM default, other
        PAT, CR0.CD=0                         PAT, CR0.CD=1
  MTRR  UC    UC-   WC    WT    WP    WB      UC    UC-   WC    WT    WP    WB
  UC    .     .     .     .     .     .       .     ?     .     .     .     .
  WB    .     .     WB*   .     .     .       .     .     .     .     .     .

ram, VM dma
        PAT, CR0.CD=0
  MTRR  UC    UC-   WC    WT    WP    WB
  WB    .     .     WC~*! .     .     .

  ~  not all pages got it
  *  one got what the architecture does not give
  !  one got what the policy does not give
  ?  nobody could tell

"#]]
        );
    }

    #[test]
    fn a_leaf_tells_what_times_leave_open_and_nothing_else() {
        let of = |times, leaf| got(&page("x", ["WB", "WT"], false, [times, leaf, "-", "-"]));
        assert_eq!(of("WT or WP or WB", "WB"), Some(MemType::Wt));
        assert_eq!(of("-", "UC+IPAT"), Some(MemType::Uc));
        // They disagree: that is a finding, and no type.
        assert_eq!(of("UC or WC", "WB"), None);
        assert_eq!((of("UC or WC", "-"), of("-", "PAT0")), (None, None));
        assert_eq!(printed(&[]), "No page was timed whose MTRR type and PAT type are known.\n");
    }
}
