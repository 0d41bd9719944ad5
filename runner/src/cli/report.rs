//! `report`: the verdicts of a run again, as they were written.

use super::args::{Cli, Report};
use super::run::reporter;
use super::{Done, Failure};
use crate::judge::Verdict;
use crate::report::{CellVerdict, Cells, Tally};
use crate::results::{self, Run};
use std::collections::HashSet;

/// Prints the verdicts of a run. A planned cell without one was not run; a verdict without a result is no verdict.
pub fn report(cli: &Cli, args: &Report) -> Done {
    let dir = results::find(&cli.results, &args.run)?;
    let again = |what: &str| Failure::Usage(format!("{} {what}: kvm-memtype judge {0}", dir.display()));
    let verdicts: Option<Vec<CellVerdict>> = results::read_verdicts(&dir)?;
    let verdicts = verdicts.ok_or_else(|| again("has no verdicts yet"))?;
    let run = Run::read(&dir)?;
    let done: HashSet<&str> = run.results.iter().map(|result| result.cell.as_str()).collect();
    let known: HashSet<&str> = verdicts.iter().map(|verdict| verdict.cell.as_str()).collect();
    let judged =
        |verdict: &CellVerdict| done.contains(verdict.cell.as_str()) == (verdict.judgement.verdict != Verdict::NotRun);
    if !verdicts.iter().all(judged) || !done.is_subset(&known) {
        return Err(again("has verdicts that do not fit its results"));
    }
    let missing = run.header.cells.iter().filter(|cell| !known.contains(cell.id.as_str()));
    let missing: Vec<CellVerdict> = missing.map(|cell| Cells::not_run(&cell.id)).collect();
    let mut reporter = reporter(args.format);
    let mut tally = Tally::default();
    for verdict in verdicts.iter().chain(&missing) {
        tally.add(verdict);
        reporter.cell(verdict)?;
    }
    reporter.end(&tally)?;
    Ok(tally.outcome())
}
