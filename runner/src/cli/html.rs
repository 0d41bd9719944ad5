//! `report --format html`: one file for a browser.

use super::args::{Cli, Judging};
use super::knowledge::Knowledge;
use super::{Done, Failure, diff, history};
use crate::guests;
use crate::history::{Entry, Streak};
use crate::report::{self, HtmlError, HtmlPast, HtmlSide, PastStreak};
use std::io::Write;

/// Writes the report of what is named: each a run, or a directory with runs in it, such as that of a boot of the lab. A
/// patched kernel's rules are beside its runs, where no others are asked for. With `history`, cells have theirs on their pages.
pub fn html(cli: &Cli, named: &[String], history: bool, out: &mut dyn Write) -> Done {
    let sides = named.iter().map(|named| side(cli, named)).collect::<Result<Vec<_>, _>>()?;
    let past = if history { past(cli)? } else { Vec::new() };
    Ok(report::html(out, &guests::tests()?, &sides, &past)?)
}

/// What became of all cells in all runs under the results directory.
fn past(cli: &Cli) -> Result<Vec<HtmlPast>, Failure> {
    let (index, _) = history::open(cli, None, false)?;
    let groups = index.groups()?;
    let mut all = Vec::new();
    let end = |entry: &Entry| (entry.started.clone(), entry.kernel.clone());
    index.timelines(
        |_| true,
        |timeline| -> Result<(), Failure> {
            let streak = |streak: Streak<'_>| PastStreak {
                verdict: streak.verdict,
                reason: streak.to.reason.clone(),
                runs: streak.runs,
                ends: [end(streak.from), end(streak.to)],
                first: streak.from.run.clone(),
            };
            all.push(HtmlPast {
                cell: timeline.cell.clone(),
                place: timeline.group.words(&groups),
                hosts: history::hosts(timeline).join(", "),
                streaks: timeline.streaks().into_iter().map(streak).collect(),
            });
            Ok(())
        },
    )?;
    Ok(all)
}

/// What is named, and by what it is judged.
pub fn side(cli: &Cli, named: &str) -> Result<HtmlSide, Failure> {
    let mut dirs = diff::runs(&cli.results, named)?;
    dirs.sort();
    let beside = dirs.first().and_then(|dir| Some(dir.parent()?.join("config"))).filter(|dir| dir.is_dir());
    let knowledge = Knowledge::load(cli.config.clone().or(beside).as_deref())?;
    let (policies, deviations) = knowledge.models(Judging { no_deviations: false })?;
    Ok(HtmlSide { named: named.to_owned(), dirs, policies, deviations })
}

impl From<HtmlError> for Failure {
    fn from(error: HtmlError) -> Self {
        match error {
            HtmlError::Results(error) => error.into(),
            HtmlError::Policy(error) => error.into(),
            HtmlError::Verdicts(_) => Failure::Usage(error.to_string()),
            HtmlError::Io(error) => error.into(),
        }
    }
}
