//! `report --format html`: one file for a browser.

use super::args::{Cli, Judging};
use super::knowledge::Knowledge;
use super::{Done, Failure, diff};
use crate::guests;
use crate::report::{self, HtmlError, HtmlSide};
use std::io::Write;

/// Writes the report of what is named: each a run, or a directory with runs in it, such as that of a boot of the lab. A
/// patched kernel's rules are beside its runs, where no others are asked for.
pub fn html(cli: &Cli, named: &[String], out: &mut dyn Write) -> Done {
    let sides = named.iter().map(|named| side(cli, named)).collect::<Result<Vec<_>, _>>()?;
    Ok(report::html(out, &guests::tests()?, &sides)?)
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
