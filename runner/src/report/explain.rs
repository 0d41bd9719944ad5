//! One cell in full: what was done, seen and expected, by which model and why.

use super::CellVerdict;
use super::human::{counted, style};
use super::sptes;
use super::witness::witnesses;
use crate::judge::Point;
use crate::machine::{Line, Observed};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{self, Write};

/// Points and lines that are shown of each kind where not all are asked for.
const SAMPLE: usize = 8;

/// Which points a section shows.
type Wanted = fn(&Point) -> bool;

/// What there is to explain.
#[derive(Debug)]
pub struct Explained<'a> {
    /// The cell's verdict.
    pub cell: &'a CellVerdict,
    /// Lines of a name and a value that say what it was run on.
    pub about: Vec<(&'static str, String)>,
    /// What was observed; nothing if no guest ran.
    pub observed: Option<&'a Observed>,
    /// All points.
    pub points: Vec<Point>,
    /// Whether SPTEs are EPT's, so that a leaf has a memory type.
    pub ept: bool,
}

/// Prints it; `all` of it, or a sample of what is as predicted.
///
/// # Errors
/// The output cannot be written.
pub fn explain(out: &mut impl Write, explained: &Explained<'_>, all: bool) -> io::Result<()> {
    let Explained { cell, about, observed, points, ept } = explained;
    let style = style(cell.judgement.verdict);
    writeln!(out, "{}  {style}{}{style:#}", cell.cell, cell.judgement.verdict)?;
    for (name, value) in about.iter().filter(|(_, value)| !value.is_empty()) {
        writeln!(out, "  {name:<10}{value}")?;
    }
    if !cell.judgement.reason.is_empty() {
        writeln!(out, "  {:<10}{}", "reason", cell.judgement.reason)?;
    }
    if let Some(proof) = cell.judgement.proof.words() {
        writeln!(out, "  {:<10}{proof}", "proof")?;
    }
    // What a vCPU was like when it was made is long, and seldom what somebody looks for unless it is wrong.
    let guest =
        observed.map_or(0, |observed| observed.log.iter().position(|line| !matches!(line, Line::Host(_))).unwrap_or(0));
    let shown = |point: &&Point| all || point.line >= guest || point.agrees != Some(true);
    let most = if all { usize::MAX } else { SAMPLE };
    let kinds: [(&str, Wanted); 4] = [
        ("Not as predicted", |point| point.agrees == Some(false)),
        ("Not predicted", |point| point.agrees.is_none()),
        ("As KVM's policy predicts, but not as the architecture", |point| {
            point.agrees == Some(true) && point.architecture.is_some()
        }),
        ("As predicted", |point| point.agrees == Some(true) && point.architecture.is_none()),
    ];
    for (title, wanted) in kinds {
        section(out, title, points.iter().filter(shown).filter(|point| wanted(point)).collect(), most)?;
    }
    let hidden: u64 = points.iter().filter(|point| !shown(point)).map(|point| point.count).sum();
    if hidden > 0 {
        writeln!(out, "\nAs predicted when the vCPUs were made: {} (--all shows them)", counted(hidden, "register"))?;
    }
    match observed {
        None => Ok(()),
        Some(observed) => {
            witnesses(out, observed, *ept, most)?;
            log(out, observed, if all { 0 } else { guest }, most)
        }
    }
}

/// Prints all of it as one JSON object.
///
/// # Errors
/// The output cannot be written.
pub fn explain_json(out: &mut impl Write, explained: &Explained<'_>) -> io::Result<()> {
    let Explained { cell, about, observed, points, ept } = explained;
    let sptes = observed.map(|observed| sptes::changes(observed, *ept));
    let about: BTreeMap<_, _> = about.iter().filter(|(_, value)| !value.is_empty()).cloned().collect();
    let all = json!({ "cell": cell, "about": about, "points": points, "sptes": sptes, "observed": observed });
    writeln!(out, "{all}")
}

fn section(out: &mut impl Write, title: &str, points: Vec<&Point>, most: usize) -> io::Result<()> {
    if points.is_empty() {
        return Ok(());
    }
    let total = points.iter().map(|point| point.count).sum();
    writeln!(out, "\n{title}: {}", counted(total, "point"))?;
    for point in points.iter().take(most) {
        writeln!(out, "  line {:<6}{}", point.line + 1, point.title())?;
        writeln!(out, "      seen          {}", point.seen)?;
        writeln!(out, "      expected      {}", point.expected)?;
        if let Some(by) = &point.by {
            writeln!(out, "      by            {}: {}: {}", by.policy, by.row, by.rule)?;
            writeln!(out, "      source        {}", by.source)?;
        }
        if let Some(architecture) = &point.architecture {
            writeln!(out, "      architecture  {architecture}")?;
        }
        if let Some(deviation) = &point.deviation {
            writeln!(out, "      deviation     {deviation}")?;
        }
    }
    rest(out, points.len(), most, "more of these")
}

/// The log from line number `first`, counted from 0.
fn log(out: &mut impl Write, observed: &Observed, first: usize, most: usize) -> io::Result<()> {
    writeln!(out, "\nLog: < is the guest's, > is the VMM's own, | is a console's")?;
    for (number, line) in (1..).zip(&observed.log).skip(first).take(most) {
        writeln!(out, "  {number:>4} {line}")?;
    }
    rest(out, observed.log.len(), most, "other lines")?;
    writeln!(out, "  end: {}", observed.end)
}

pub(super) fn rest(out: &mut impl Write, total: usize, most: usize, what: &str) -> io::Result<()> {
    match total.saturating_sub(most) {
        0 => Ok(()),
        left => writeln!(out, "  {left} {what}: --all shows them"),
    }
}
