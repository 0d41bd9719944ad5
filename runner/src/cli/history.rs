//! `history`: since when, how often and how long, over all runs under the results directory.

use super::args::{Cli, Format, History as Args};
use super::out::stdout;
use super::{Done, Failure};
use crate::config::names;
use crate::execute::chain;
use crate::history::{Group, Index, IndexError, Slower, Streak, Synced, Timeline};
use crate::plan::picked;
use crate::report::{Outcome, counted};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::Path;

/// Name of the index in the results directory.
const INDEX: &str = "history.sqlite";
/// How often a cell must have turned between as expected and not for it to be called unsteady.
const TURNS: usize = 2;

/// Brings the index up to date and answers from it.
pub fn history(cli: &Cli, args: &Args) -> Done {
    let path = args.index.clone().unwrap_or_else(|| cli.results.join(INDEX));
    let (index, synced) = open(cli, Some(&path), args.rebuild)?;
    let cells = index.cells()?;
    let mut wanted: BTreeSet<&str> = BTreeSet::new();
    for filter in &args.filters {
        let ids = picked(filter, cells.iter().map(String::as_str));
        if ids.is_empty() {
            let hint = names::hint(filter, cells.iter().map(String::as_str));
            let runs = counted(synced.runs as u64, "run");
            return Err(Failure::Usage(format!("no cell of {runs} fits the filter `{filter}`{hint}")));
        }
        wanted.extend(ids);
    }
    let wanted = |cell: &str| args.filters.is_empty() || wanted.contains(cell);
    match (args.format, args.filters.is_empty()) {
        (Format::Json, _) => index
            .timelines(wanted, |timeline| -> Result<(), Failure> { Ok(writeln!(stdout(), "{}", line(timeline))?) })?,
        (Format::Human, false) => {
            let groups = index.groups()?;
            index
                .timelines(wanted, |timeline| -> Result<(), Failure> { Ok(print(&mut stdout(), timeline, &groups)?) })?
        }
        (Format::Human, true) => {
            let mut overview = Overview { groups: index.groups()?, ..Overview::default() };
            index.timelines(wanted, |timeline| -> Result<(), Failure> {
                overview.add(timeline);
                Ok(())
            })?;
            overview.print(&mut stdout(), &synced)?;
            writeln!(stdout(), "the index is {}; kvm-memtype history CELL tells more", path.display())?;
        }
    }
    Ok(Outcome::AsExpected)
}

/// Opens the index, or the one in the results directory, and brings it up to date.
pub(super) fn open(cli: &Cli, path: Option<&Path>, rebuild: bool) -> Result<(Index, Synced), Failure> {
    if !cli.results.is_dir() {
        return Err(Failure::Usage(format!("{} is no directory of results", cli.results.display())));
    }
    let mut index = Index::open(path.unwrap_or(&cli.results.join(INDEX)), rebuild)?;
    let synced = index.sync(&cli.results)?;
    for why in &synced.left_out {
        anstream::eprintln!("kvm-memtype: left out: {why}");
    }
    Ok((index, synced))
}

/// The hosts on which a cell was run, in words.
pub(super) fn hosts(timeline: &Timeline) -> Vec<String> {
    let words = |(host, runs): (&str, usize)| format!("{host} ({})", counted(runs as u64, "run"));
    timeline.hosts().into_iter().map(words).collect()
}

/// A timeline as a line of JSON.
fn line(timeline: &Timeline) -> serde_json::Value {
    let slower = timeline.slower().map(|Slower { now, before, runs }| {
        json!({ "now-micros": now, "median-micros": before.median, "quartiles-micros": [before.low, before.high], "runs": runs })
    });
    json!({
        "cell": timeline.cell, "where": timeline.group, "as-expected": timeline.is_expected(),
        "hosts": timeline.hosts(), "runs": timeline.entries.len(), "surprises": timeline.surprises(), "turns": timeline.turns(),
        "streaks": timeline.streaks(), "slower": slower,
    })
}

/// Prints one timeline: a line for each streak.
fn print(out: &mut impl Write, timeline: &Timeline, groups: &[Group]) -> io::Result<()> {
    writeln!(out, "{}", timeline.cell)?;
    writeln!(out, "  {}", timeline.group.words(groups))?;
    let hosts = hosts(timeline);
    if !hosts.is_empty() {
        writeln!(out, "    {:<13}{}", "hosts", hosts.join(", "))?;
    }
    for Streak { verdict, runs, from, to } in timeline.streaks() {
        let (runs, began) = (counted(runs as u64, "run"), day(&from.started));
        let span = if from == to { began } else { format!("{began} to {}", day(&to.started)) };
        let kernels =
            if from.kernel == to.kernel { from.kernel.clone() } else { format!("{} to {}", from.kernel, to.kernel) };
        writeln!(out, "    {verdict:<13}{runs}, {span}, {kernels}; first in {}", from.run)?;
        if !to.reason.is_empty() {
            writeln!(out, "    {:<13}{}", "", to.reason)?;
        }
    }
    match timeline.slower() {
        Some(slower) => writeln!(out, "    slower       {}", times(&slower)),
        None => Ok(()),
    }
}

/// `2026-11-21` of a time as runs have it.
fn day(started: &str) -> String {
    match (started.get(..4), started.get(4..6), started.get(6..8)) {
        (Some(year), Some(month), Some(day)) => format!("{year}-{month}-{day}"),
        _ => started.to_owned(),
    }
}

/// Times in milliseconds.
fn times(Slower { now, before, runs }: &Slower) -> String {
    let millis = |micros: f64| micros / 1000.0;
    format!(
        "{:.1} ms in the last run; median of the {runs} before {:.1} ms (quartiles {:.1} to {:.1})",
        millis(*now),
        millis(before.median),
        millis(before.low),
        millis(before.high)
    )
}

/// What deserves a look, over all cells.
#[derive(Debug, Default)]
struct Overview {
    groups: Vec<Group>,
    cells: BTreeSet<String>,
    /// Runs in which any cell is, by where.
    places: BTreeMap<String, BTreeSet<String>>,
    /// Cells that are not as expected in their last run.
    surprises: Vec<String>,
    unsteady: Vec<String>,
    slower: Vec<String>,
}

impl Overview {
    fn add(&mut self, timeline: &Timeline) {
        self.cells.insert(timeline.cell.clone());
        let place = timeline.group.words(&self.groups);
        let runs = timeline.entries.iter().map(|entry| entry.run.clone());
        let (cell, of) = (&timeline.cell, timeline.entries.len());
        if let (false, Some(streak)) = (timeline.is_expected(), timeline.streaks().last()) {
            let since = format!("since {} ({}, {})", day(&streak.from.started), streak.from.kernel, streak.from.run);
            let before = if streak.runs == of { "; never seen otherwise" } else { "" };
            let words = format!(
                "{:<13}{cell}\n               {place}\n               {since}, in {} of {of} runs{before}",
                streak.verdict.to_string(),
                timeline.surprises()
            );
            self.surprises.push(words);
        }
        if timeline.turns() >= TURNS {
            let words = format!(
                "{cell}\n               {place}\n               turned {} times in {of} runs",
                timeline.turns()
            );
            self.unsteady.push(words);
        }
        if let Some(slower) = timeline.slower() {
            self.slower.push(format!("{cell}\n               {place}\n               {}", times(&slower)));
        }
        self.places.entry(place).or_default().extend(runs);
    }

    fn print(&self, out: &mut impl Write, synced: &Synced) -> io::Result<()> {
        let (runs, cells) = (counted(synced.runs as u64, "run"), counted(self.cells.len() as u64, "cell"));
        writeln!(out, "{runs} with {cells}; {} read now, {} gone", synced.read, synced.gone)?;
        for (place, runs) in &self.places {
            writeln!(out, "  {:>5}  {place}", runs.len())?;
        }
        for (title, list) in [
            ("not as expected in the last run", &self.surprises),
            ("unsteady", &self.unsteady),
            ("slower than before", &self.slower),
        ] {
            writeln!(out, "\n{title}: {}", if list.is_empty() { "none".to_owned() } else { list.len().to_string() })?;
            list.iter().try_for_each(|words| writeln!(out, "  {words}"))?;
        }
        writeln!(out)
    }
}

impl From<IndexError> for Failure {
    fn from(error: IndexError) -> Self {
        Failure::Broken(chain(&error))
    }
}
