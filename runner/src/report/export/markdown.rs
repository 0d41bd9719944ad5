//! The format `markdown`: a summary for a mail or a pull request. What is long is folded away.

use super::{Judged, points, reason, titles};
use crate::judge::Verdict;
use crate::report::human::grouped;
use crate::report::tally::is_expected;
use crate::report::{CellVerdict, Outcome, Tally, counted};
use std::collections::BTreeMap;
use std::io::{self, Write};

/// The most cells that are named one by one; the rest is counted.
const MOST_CELLS: usize = 20;
/// The most points of a cell that are shown.
const MOST_POINTS: usize = 3;
/// The most families for a table that is not folded away.
const MOST_FAMILIES: usize = 6;

/// Writes runs, one section each.
///
/// # Errors
/// The output cannot be written.
pub fn write(out: &mut dyn Write, runs: &[Judged]) -> io::Result<()> {
    for ((at, judged), title) in runs.iter().enumerate().zip(titles(runs)) {
        if at > 0 {
            writeln!(out)?;
        }
        section(out, judged, &title)?;
    }
    Ok(())
}

fn section(out: &mut dyn Write, judged: &Judged, title: &str) -> io::Result<()> {
    let (header, tally) = (&judged.run.header, judged.tally());
    let said = match tally.outcome() {
        Outcome::AsExpected => "as expected",
        Outcome::Surprise => "**not as expected**",
        Outcome::Broken => "**broken, or not run to its end**",
    };
    writeln!(out, "## kvm-memtype: {}: {said}\n", escaped(title))?;
    for (what, is) in &header.host {
        writeln!(out, "- {}: {}", escaped(what), escaped(is))?;
    }
    writeln!(out, "- policy: {}", escaped(&judged.policies()))?;
    writeln!(out, "- run: {}, kvm-memtype {}\n", header.started, escaped(&header.version))?;
    writeln!(out, "{}: {}.", counted(tally.cells(), "cell"), tally.words())?;
    surprises(out, judged)?;
    for (verdict, title) in
        [(Verdict::Xfail, "Known deviations"), (Verdict::Inconclusive, "Inconclusive"), (Verdict::Skip, "Skipped")]
    {
        reasons(out, judged, verdict, title)?;
    }
    families(out, judged)
}

/// The cells that are not as expected, with their points.
fn surprises(out: &mut dyn Write, judged: &Judged) -> io::Result<()> {
    let cells: Vec<&CellVerdict> = judged.verdicts.iter().filter(|cell| !is_expected(cell.judgement.verdict)).collect();
    if cells.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n### Not as expected\n")?;
    for cell in cells.iter().take(MOST_CELLS) {
        writeln!(out, "- **{}** {}: {}", cell.judgement.verdict, code(&cell.cell), escaped(&reason(cell)))?;
        for point in points(cell).take(MOST_POINTS) {
            writeln!(out, "  - {}", escaped(&point))?;
        }
        if let more @ 1.. = cell.judgement.disagreements.len().saturating_sub(MOST_POINTS) {
            writeln!(out, "  - and {} of points", counted(more as u64, "more kind"))?;
        }
    }
    if let more @ 1.. = cells.len().saturating_sub(MOST_CELLS) {
        writeln!(out, "- and {}", counted(more as u64, "more cell"))?;
    }
    Ok(())
}

/// The reasons of a verdict, with how many cells have each.
fn reasons(out: &mut dyn Write, judged: &Judged, verdict: Verdict, title: &str) -> io::Result<()> {
    let mut reasons = BTreeMap::<String, u64>::new();
    for cell in judged.verdicts.iter().filter(|cell| cell.judgement.verdict == verdict) {
        *reasons.entry(reason(cell)).or_default() += 1;
    }
    if reasons.is_empty() {
        return Ok(());
    }
    let cells = reasons.values().sum();
    fold(out, &format!("{title}: {}", counted(cells, "cell")))?;
    for (reason, cells) in reasons {
        writeln!(out, "- {}: {}", counted(cells, "cell"), escaped(&reason))?;
    }
    writeln!(out, "\n</details>")
}

/// The table of verdicts by family, with the verdicts that there are.
fn families(out: &mut dyn Write, judged: &Judged) -> io::Result<()> {
    let (families, all) = (judged.families(), judged.tally());
    let folded = families.len() > MOST_FAMILIES;
    if folded {
        fold(out, &format!("By family: {} families", families.len()))?;
    } else {
        writeln!(out)?;
    }
    let verdicts: Vec<Verdict> = all.verdicts.keys().copied().collect();
    let words: Vec<&str> = verdicts.iter().map(|verdict| verdict.word()).collect();
    writeln!(out, "| family | cells | points | {} | VM seconds |", words.join(" | "))?;
    writeln!(out, "|---|--:|--:|{}--:|", "--:|".repeat(verdicts.len()))?;
    for (family, cells) in &families {
        let mut tally = Tally::default();
        cells.iter().for_each(|cell| tally.add(cell));
        row(out, family, &tally, &verdicts)?;
    }
    if families.len() > 1 {
        row(out, "all", &all, &verdicts)?;
    }
    if folded { writeln!(out, "\n</details>") } else { Ok(()) }
}

fn row(out: &mut dyn Write, name: &str, tally: &Tally, verdicts: &[Verdict]) -> io::Result<()> {
    let count = |&verdict: &Verdict| match tally.count(verdict) {
        0 => String::new(),
        count => grouped(count),
    };
    let counts: Vec<String> = verdicts.iter().map(count).collect();
    let (cells, points, seconds) = (grouped(tally.cells()), grouped(tally.points), tally.micros as f64 / 1e6);
    writeln!(out, "| {} | {cells} | {points} | {} | {seconds:.1} |", escaped(name), counts.join(" | "))
}

/// Begins what is folded away; after an empty line Markdown goes on within.
fn fold(out: &mut dyn Write, summary: &str) -> io::Result<()> {
    writeln!(out, "\n<details><summary>{}</summary>\n", escaped(summary))
}

/// A text in which nothing is markup.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '&' => out += "&amp;",
            // A number after it is a link to an issue, a name after it calls somebody.
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '@' | '~' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}

/// A cell's id as code; ids have no backtick.
fn code(id: &str) -> String {
    format!("`{id}`")
}

#[cfg(test)]
mod tests {
    use super::super::testing::{every_verdict, run, text};
    use super::*;
    use snapbox::{assert_data_eq, file};

    fn written(runs: &[Judged]) -> String {
        text(|out| write(out, runs))
    }

    #[test]
    fn each_verdict_has_its_place() {
        assert_data_eq!(written(&[every_verdict()]), file!["golden/every-verdict.md"].raw());
    }

    #[test]
    fn what_is_long_is_counted() {
        let text = written(&[run(&[Verdict::Fail; 50])]);
        assert!(text.contains("- and 30 more cells\n"), "{text}");
        assert!(text.starts_with("## kvm-memtype: smoke: **not as expected**\n"), "{text}");
    }

    #[test]
    fn text_is_no_markup() {
        assert_eq!(escaped("a|b <i> `c` #1 @x *y*"), r"a\|b &lt;i&gt; \`c\` \#1 \@x \*y\*");
    }
}
