//! The format `human`: what is not as it should be at once, all else in the sum.

use super::tally::is_expected;
use super::{CellVerdict, Outcome, Reporter, Tally};
use crate::judge::{Point, Verdict, Witnesses};
use anstyle::{AnsiColor, Style};
use std::collections::BTreeMap;
use std::io::{self, Write};

/// The most points of a cell that are printed; `explain` has all.
const MOST_POINTS: usize = 3;
/// The most cells of a group that are named.
const MOST_NAMES: usize = 3;

/// Prints for people. Colours are for the writer to strip where nobody wants them.
#[derive(Debug)]
pub struct Human<W> {
    out: W,
    /// For the sum, cells by verdict and reason: reasons that differ in numbers only are one, told as the first has it.
    groups: BTreeMap<(Verdict, String), Group>,
}

#[derive(Debug)]
struct Group {
    reason: String,
    cells: Vec<String>,
}

/// A reason without its numbers.
pub(super) fn without_numbers(reason: &str) -> String {
    let word =
        |word: &str| if word.starts_with(|c: char| c.is_ascii_digit()) { "#".to_owned() } else { word.to_owned() };
    reason.split(' ').map(|it| word(it.trim_start_matches('('))).collect::<Vec<_>>().join(" ")
}

/// The colour of a verdict. The word is always there too.
pub fn style(verdict: Verdict) -> Style {
    let colour = match verdict {
        Verdict::Pass => AnsiColor::Green,
        Verdict::Fail | Verdict::Crash | Verdict::Timeout | Verdict::Error => AnsiColor::Red,
        Verdict::Xfail | Verdict::Xpass => AnsiColor::Yellow,
        Verdict::Skip | Verdict::Inconclusive | Verdict::NotRun => AnsiColor::Cyan,
    };
    let style = colour.on_default();
    if is_expected(verdict) { style } else { style.bold() }
}

/// A number with its thousands apart.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A count and its noun.
pub fn counted(count: u64, noun: &str) -> String {
    format!("{} {noun}{}", grouped(count), if count == 1 { "" } else { "s" })
}

impl<W: Write> Human<W> {
    /// Prints to `out`.
    pub fn new(out: W) -> Self {
        Human { out, groups: BTreeMap::new() }
    }

    fn headline(&mut self, cell: &CellVerdict) -> io::Result<()> {
        let verdict = cell.judgement.verdict;
        let style = style(verdict);
        let word = verdict.to_string().to_uppercase();
        writeln!(self.out, "{style}{word:>12}{style:#}  {}  {}", cell.cell, headline(cell))
    }

    fn points(&mut self, cell: &CellVerdict) -> io::Result<()> {
        let bare: Vec<&Point> = cell.judgement.disagreements.iter().filter(|point| point.deviation.is_none()).collect();
        for point in bare.iter().take(MOST_POINTS) {
            writeln!(self.out, "{:14}{}", "", point.title())?;
            writeln!(self.out, "{:16}seen      {}", "", point.seen)?;
            writeln!(self.out, "{:16}expected  {}", "", point.expected)?;
            if let Some(by) = &point.by {
                writeln!(self.out, "{:16}by        {}: {}: {}", "", by.policy, by.row, by.rule)?;
                writeln!(self.out, "{:16}source    {}", "", by.source)?;
            }
        }
        if bare.len() > MOST_POINTS {
            let more = counted((bare.len() - MOST_POINTS) as u64, "more kind");
            writeln!(self.out, "{:14}and {more} of points", "")?;
        }
        writeln!(self.out, "{:14}in full: kvm-memtype explain {}", "", cell.cell)
    }

    /// By whom effective memory types were witnessed.
    fn proof(&mut self, tally: &Tally) -> io::Result<()> {
        let by: Vec<String> = tally
            .witnesses
            .iter()
            .map(|(witnesses, &count)| {
                let by = match witnesses {
                    Witnesses::Both => "times and SPTEs",
                    Witnesses::Sptes => "SPTEs alone",
                    Witnesses::Times => "times alone",
                };
                format!("{} by {by}", counted(count, "cell"))
            })
            .collect();
        if !by.is_empty() {
            writeln!(self.out, "effective memory types: {}", by.join(", "))?;
        }
        tally.untimed.iter().try_for_each(|why| writeln!(self.out, "  {why}"))
    }

    fn group(&mut self, verdict: Verdict, title: &str) -> io::Result<()> {
        let groups = self.groups.iter().filter(|((of, _), _)| *of == verdict);
        for (at, (_, Group { reason, cells })) in groups.enumerate() {
            if at == 0 {
                writeln!(self.out, "\n{title}")?;
            }
            let names = cells.iter().take(MOST_NAMES).map(String::as_str).collect::<Vec<_>>().join(", ");
            let more = if cells.len() > MOST_NAMES { ", ..." } else { "" };
            writeln!(self.out, "  {reason}")?;
            writeln!(self.out, "    {}: {names}{more}", counted(cells.len() as u64, "cell"))?;
        }
        Ok(())
    }
}

/// What came of a cell, in one line.
fn headline(cell: &CellVerdict) -> String {
    let judgement = &cell.judgement;
    let wrong = || format!("{} of {}", grouped(judgement.disagreements_total), counted(judgement.points, "point"));
    match judgement.verdict {
        Verdict::Fail => format!("{} not as predicted", wrong()),
        Verdict::Xfail if judgement.disagreements_total == 0 => judgement.deviations.join(", "),
        Verdict::Xfail => format!("{}: {}", wrong(), judgement.deviations.join(", ")),
        _ => judgement.reason.clone(),
    }
}

impl<W: Write> Reporter for Human<W> {
    fn cell(&mut self, cell: &CellVerdict) -> io::Result<()> {
        let judgement = &cell.judgement;
        let key = (judgement.verdict, without_numbers(&judgement.reason));
        match judgement.verdict {
            Verdict::Pass => return Ok(()),
            Verdict::Skip | Verdict::NotRun | Verdict::Inconclusive => {}
            Verdict::Xfail => self.headline(cell)?,
            _ => {
                self.headline(cell)?;
                self.points(cell)?;
            }
        }
        let group = || Group { reason: judgement.reason.clone(), cells: Vec::new() };
        self.groups.entry(key).or_insert_with(group).cells.push(cell.cell.clone());
        self.out.flush()
    }

    fn end(&mut self, tally: &Tally) -> io::Result<()> {
        self.group(Verdict::Xfail, "Known deviations:")?;
        self.group(Verdict::Inconclusive, "Inconclusive:")?;
        self.group(Verdict::Skip, "Skipped:")?;
        self.group(Verdict::NotRun, "Not run:")?;
        let counts: Vec<String> = tally
            .verdicts
            .iter()
            .map(|(&verdict, &count)| {
                let style = style(verdict);
                format!("{style}{} {verdict}{style:#}", grouped(count))
            })
            .collect();
        writeln!(self.out, "\n{}: {}", counted(tally.cells(), "cell"), counts.join(", "))?;
        let policies: Vec<&str> = tally.policies.iter().map(String::as_str).collect();
        let points = counted(tally.points, "point");
        writeln!(self.out, "{points} decided by policy {}", policies.join(", "))?;
        if tally.departures > 0 {
            let departures = counted(tally.departures, "point");
            writeln!(self.out, "{departures} otherwise than the architecture has it (explain shows them)")?;
        }
        self.proof(tally)?;
        let said = match tally.outcome() {
            Outcome::AsExpected if tally.count(Verdict::Inconclusive) > 0 => "What could be decided is as expected.",
            Outcome::AsExpected => "All is as expected.",
            Outcome::Broken if tally.count(Verdict::NotRun) > 0 => "Not all cells were run.",
            Outcome::Broken => "Host or harness is broken: not all cells could be run.",
            Outcome::Surprise if tally.decided() => "Not all is as expected.",
            Outcome::Surprise => "Nothing was decided.",
        };
        writeln!(self.out, "{said}")?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests;
