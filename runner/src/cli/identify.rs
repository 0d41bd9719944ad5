//! `identify`: which policies explain all observations of a run, and what rules the others out.

use super::Done;
use super::args::{Cli, Format, Identify, Judging};
use super::knowledge::Knowledge;
use super::out::stdout;
use crate::host::facts::Facts;
use crate::judge::{CellLog, Judge, Standing};
use crate::report::{self, Cells, Outcome};
use crate::results::{self, CellOutcome, Header, Run};

/// Replays a run against every policy and prints how each stands. As expected is that one explains all.
pub fn identify(cli: &Cli, args: &Identify) -> Done {
    let knowledge = Knowledge::load(cli.config.as_deref())?;
    let (policies, deviations) = knowledge.models(Judging { no_deviations: false })?;
    let run = Run::read(&results::find(&cli.results, &args.run)?)?;
    let judge = Judge::new(&policies, &deviations);
    let cells = Cells::new(&run.header);
    let facts: Vec<Facts> = run.results.iter().map(|result| cells.facts(&result.cell)).collect();
    let logs = run.results.iter().zip(&facts).filter_map(|(result, facts)| match &result.outcome {
        CellOutcome::Observed(observed) => {
            let (cell, run) = (result.cell.as_str(), cells.run_id(&result.cell));
            Some(CellLog { cell, test: report::test(cell), observed, run, facts })
        }
        CellOutcome::Skip(_) | CellOutcome::Died(_) | CellOutcome::Error(_) => None,
    });
    let candidates = judge.candidates(&logs.collect::<Vec<_>>());
    match args.format {
        Format::Human => report::identify(&mut stdout(), &about(&run.header), &candidates)?,
        Format::Json => report::identify_json(&mut stdout(), &candidates)?,
    }
    let explained = candidates.standing(Standing::Explains).next().is_some();
    Ok(if explained { Outcome::AsExpected } else { Outcome::Surprise })
}

/// What run it is.
fn about(header: &Header) -> String {
    let host: Vec<&str> = header.host.values().map(String::as_str).collect();
    let asked = header.policy.as_ref().map(|policy| format!("; judged by policy {policy}, as asked"));
    format!("{}; suite {}, {}{}", host.join("; "), header.suite, header.started, asked.unwrap_or_default())
}
