//! Runs with their verdicts: those that were written or, where none were, by the present models.

use super::args::{Cli, Judging};
use super::knowledge::Knowledge;
use super::{Failure, judge};
use crate::judge::{Judge, Verdict};
use crate::report::export::Judged;
use crate::report::{CellVerdict, Cells};
use crate::results::{self, Intent, Run};
use std::collections::HashSet;
use std::path::Path;

/// The run that somebody means by `run`, and its repetitions.
///
/// # Errors
/// There is no such run, it cannot be read, or its verdicts are not those of its results.
pub fn named(cli: &Cli, run: &str) -> Result<Vec<Judged>, Failure> {
    let dir = results::find(&cli.results, run)?;
    (1..).zip(results::repetitions(&dir)).map(|(number, dir)| judged(cli, &dir, number)).collect()
}

/// The run in `dir`, of that repetition. A planned cell without a verdict was not run; a verdict without a result is no verdict.
fn judged(cli: &Cli, dir: &Path, repetition: usize) -> Result<Judged, Failure> {
    let written: Option<Vec<CellVerdict>> = results::read_verdicts(dir)?;
    let (run, left) = (Run::read(dir)?, Intent::left(dir)?);
    let Some(verdicts) = written else {
        let (policies, deviations) =
            Knowledge::load(cli.config.as_deref())?.models(Judging { no_deviations: false })?;
        let policies = policies.asked(run.header.policy.as_deref())?;
        let verdicts = judge::run(&Judge::new(&policies, &deviations), &run, &left);
        return Ok(Judged { run, repetition, verdicts });
    };
    let done: HashSet<&str> = run.results.iter().map(|result| result.cell.as_str()).collect();
    let known: HashSet<&str> = verdicts.iter().map(|verdict| verdict.cell.as_str()).collect();
    let of_a_result = |verdict: &CellVerdict| {
        done.contains(verdict.cell.as_str()) == (verdict.judgement.verdict != Verdict::NotRun)
            || left.iter().any(|intent| intent.cell == verdict.cell)
    };
    if !verdicts.iter().all(of_a_result) || !done.is_subset(&known) {
        let said = "has verdicts that do not fit its results: kvm-memtype judge";
        return Err(Failure::Usage(format!("{} {said} {0}", dir.display())));
    }
    let missing = Cells::new(&run.header).not_run(&verdicts, &left);
    let verdicts = verdicts.into_iter().chain(missing).collect();
    Ok(Judged { run, repetition, verdicts })
}
