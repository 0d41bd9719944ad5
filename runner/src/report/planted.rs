//! Prints what became of planted faults, for people.

use super::counted;
use super::human::style;
use crate::judge::Verdict;
use crate::selftest::{Outcome, Row};
use std::io::{self, Write};

/// Prints a row: what came of the fault, what it is and where, the cell that it was planted in, and what the judge said.
///
/// # Errors
/// The output cannot be written.
pub fn print_planted(out: &mut impl Write, row: &Row) -> io::Result<()> {
    let (word, style) = match row.outcome {
        Outcome::Caught => ("caught", style(Verdict::Pass)),
        Outcome::Skipped => ("skipped", style(Verdict::Skip)),
        Outcome::Missed => ("NOT CAUGHT", style(Verdict::Fail)),
    };
    writeln!(out, "{style}{word:>12}{style:#}  {:<8} {}", row.place, row.fault)?;
    writeln!(out, "{:23}in {}, {}", "", row.cell, row.ground)?;
    let verdict = row.verdict.map(|verdict| format!("{verdict}: ")).unwrap_or_default();
    writeln!(out, "{:23}{verdict}{}", "", row.said)
}

/// Prints how many were caught.
///
/// # Errors
/// The output cannot be written.
pub fn print_planted_sum(out: &mut impl Write, rows: &[Row]) -> io::Result<()> {
    let count = |outcome: Outcome| rows.iter().filter(|row| row.outcome == outcome).count();
    let all = counted(rows.len() as u64, "fault");
    let [caught, skipped, missed] = [Outcome::Caught, Outcome::Skipped, Outcome::Missed].map(count);
    writeln!(out, "\n{all}: {caught} caught, {skipped} skipped, {missed} not caught")
}
