//! `report`: the verdicts of a run again, as they were written; or the leaf SPTEs or the costs of boots of runs side by side.

use super::args::{Cli, Format, Judging, Report};
use super::knowledge::Knowledge;
use super::out::stdout;
use super::{Done, Failure, shown};
use crate::judge::{Judge, Verdict};
use crate::report::{self, Boots, CellVerdict, Cells, Leaves, Outcome};
use crate::results::{self, Intent, Run};
use std::collections::HashSet;
use std::io::Write;
use std::path::Path;

/// Prints the verdicts of a run, and what its repetitions have in common. A planned cell without a verdict was not run; a
/// verdict without a result is no verdict.
pub fn report(cli: &Cli, args: &Report) -> Done {
    if args.leaves {
        return leaves(cli, args);
    }
    if args.zaps {
        return zaps(cli, args);
    }
    let [run] = args.runs.as_slice() else {
        return Err(Failure::Usage("without --leaves or --zaps, one run is reported at a time".into()));
    };
    let dir = results::find(&cli.results, run)?;
    if args.types {
        return types(cli, args.format, &dir);
    }
    let repetitions: Vec<_> = results::repetitions(&dir).iter().map(|dir| verdicts(dir)).collect::<Result<_, _>>()?;
    if let (Format::Human, Some(policy)) = (args.format, Run::read(&dir)?.header.policy) {
        writeln!(stdout(), "by policy {policy}, as asked")?;
    }
    shown::again(args.format, &repetitions)
}

/// The verdicts of the run in `dir`, as they were written.
fn verdicts(dir: &Path) -> Result<Vec<CellVerdict>, Failure> {
    let again = |what: &str| Failure::Usage(format!("{} {what}: kvm-memtype judge {0}", dir.display()));
    let verdicts: Option<Vec<CellVerdict>> = results::read_verdicts(dir)?;
    let verdicts = verdicts.ok_or_else(|| again("has no verdicts yet"))?;
    let (run, left) = (Run::read(dir)?, Intent::left(dir)?);
    let done: HashSet<&str> = run.results.iter().map(|result| result.cell.as_str()).collect();
    let known: HashSet<&str> = verdicts.iter().map(|verdict| verdict.cell.as_str()).collect();
    let judged = |verdict: &CellVerdict| {
        done.contains(verdict.cell.as_str()) == (verdict.judgement.verdict != Verdict::NotRun)
            || left.iter().any(|intent| intent.cell == verdict.cell)
    };
    if !verdicts.iter().all(judged) || !done.is_subset(&known) {
        return Err(again("has verdicts that do not fit its results"));
    }
    let missing = Cells::new(&run.header).not_run(&verdicts, &left);
    Ok(verdicts.into_iter().chain(missing).collect())
}

/// Prints the memory types of the pages that were timed in the run in `dir`.
fn types(cli: &Cli, format: Format, dir: &Path) -> Done {
    let (policies, deviations) = Knowledge::load(cli.config.as_deref())?.models(Judging { no_deviations: false })?;
    let run = Run::read(dir)?;
    let policies = policies.asked(run.header.policy.as_deref())?;
    let pages = report::pages(&Judge::new(&policies, &deviations), &run);
    let pages = pages.map_err(|error| Failure::Broken(error.to_string()))?;
    match format {
        Format::Human => report::print_types(&mut stdout(), &pages)?,
        Format::Json => {
            let mut out = stdout();
            for page in &pages {
                serde_json::to_writer(&mut out, page).map_err(std::io::Error::from)?;
                writeln!(out)?;
            }
        }
    }
    Ok(Outcome::AsExpected)
}

/// Prints the tables of leaf SPTEs.
fn leaves(cli: &Cli, args: &Report) -> Done {
    let (policies, deviations) = Knowledge::load(cli.config.as_deref())?.models(Judging { no_deviations: false })?;
    let runs = runs(cli, args)?;
    let mut leaves = Leaves::default();
    for run in &runs {
        let policies = policies.asked(run.header.policy.as_deref())?;
        leaves.add(&Judge::new(&policies, &deviations), run).map_err(|error| Failure::Broken(error.to_string()))?;
    }
    leaves.print(&mut stdout())?;
    Ok(Outcome::AsExpected)
}

/// Prints the tables of what boots cost.
fn zaps(cli: &Cli, args: &Report) -> Done {
    let runs = runs(cli, args)?;
    let mut boots = Boots::default();
    runs.iter().for_each(|run| boots.add(run));
    if boots.is_empty() {
        let what = "no boot came to its end in these runs: kvm-memtype run --suite zaps makes one that has some";
        return Err(Failure::Usage(what.into()));
    }
    boots.print(&mut stdout(), &report::names(&runs.iter().collect::<Vec<_>>()))?;
    Ok(Outcome::AsExpected)
}

/// The runs that are named.
fn runs(cli: &Cli, args: &Report) -> Result<Vec<Run>, Failure> {
    args.runs.iter().map(|run| Ok(Run::read(&results::find(&cli.results, run)?)?)).collect()
}
