//! `explain`: one cell of a run in full.

use super::args::{Cli, Explain, Format, Judging};
use super::knowledge::Knowledge;
use super::out::stdout;
use super::{Done, Failure};
use crate::config::names;
use crate::fuzz::TEST;
use crate::judge::Judge;
use crate::report::{self, CellVerdict, Cells, Explained, Outcome};
use crate::results::{self, CellOutcome, Intent, Run};

/// Prints what is known of a cell.
pub fn explain(cli: &Cli, args: &Explain) -> Done {
    let knowledge = Knowledge::load(cli.config.as_deref())?;
    let (policies, deviations) = knowledge.models(Judging { no_deviations: false })?;
    let run = Run::read(&results::find(&cli.results, &args.run)?)?;
    let policies = policies.asked(run.header.policy.as_deref())?;
    let judge = Judge::new(&policies, &deviations);
    let cells = Cells::new(&run.header);
    let planned = run.header.cells.iter().find(|cell| cell.id == args.cell).ok_or_else(|| {
        let hint = names::hint(&args.cell, run.header.cells.iter().map(|cell| cell.id.as_str()));
        Failure::Usage(format!("run {} has no cell `{}`{hint}", run.dir.display(), args.cell))
    })?;
    let result = run.results.iter().find(|result| result.cell == args.cell);
    let left = Intent::left(&run.dir)?;
    let verdict = match result {
        Some(result) => cells.verdict(&judge, result),
        None => {
            let known: Vec<CellVerdict> = run.results.iter().map(|result| cells.verdict(&judge, result)).collect();
            let missing = cells.not_run(&known, &left).into_iter().find(|missing| missing.cell == args.cell);
            missing.ok_or_else(|| Failure::Broken(format!("run {} has lost `{}`", run.dir.display(), args.cell)))?
        }
    };
    let observed = result.and_then(|result| match &result.outcome {
        CellOutcome::Observed(observed) => Some(observed),
        CellOutcome::Skip(_) | CellOutcome::Died(_) | CellOutcome::Error(_) => None,
    });
    let test = report::test(&args.cell);
    let points =
        observed.map(|observed| judge.points(test, observed, cells.run_id(&args.cell), &cells.facts(&args.cell)));
    let points = points.transpose().map_err(|error| Failure::Broken(error.to_string()))?.unwrap_or_default();
    let summary = knowledge.tests.iter().find(|known| known.id() == test);
    let host: Vec<&str> = run.header.host.values().map(String::as_str).collect();
    let asked = if run.header.policy.is_some() { ", as asked" } else { "" };
    let policy = verdict.judgement.policy.as_ref().map(|policy| format!("{policy}{asked}"));
    let about = vec![
        ("does", summary.map(|known| known.summary.clone()).unwrap_or_default()),
        ("VM", planned.vm.summary.clone()),
        ("on", host.join("; ")),
        ("policy", policy.unwrap_or_default()),
        ("run", run.dir.display().to_string()),
        (
            "again",
            match args.cell.strip_prefix(TEST).and_then(|id| id.strip_prefix('@')) {
                Some(id) => report::replay(&run.header, &run.dir) + id + ".toml",
                None => report::again(&run.header) + &args.cell,
            },
        ),
    ];
    let ept = cells.has_ept(&args.cell);
    let explained = Explained { cell: &verdict, about, observed, points, ept };
    match args.format {
        Format::Human => report::explain(&mut stdout(), &explained, args.all)?,
        Format::Json => report::explain_json(&mut stdout(), &explained)?,
    }
    Ok(Outcome::AsExpected)
}
