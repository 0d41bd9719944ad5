//! `diff`: what the second of two runs, or of two directories of runs, has otherwise than the first.

use super::args::{Cli, Diff as Args, Format, Judging};
use super::knowledge::Knowledge;
use super::out::stdout;
use super::{Done, Failure};
use crate::judge::Judge;
use crate::report::{Diff, Side, print_diff, print_diff_json};
use crate::results::{self, Intent, Run};
use std::path::{Path, PathBuf};

/// Judges both anew by the present models, and compares. A regression is a surprise.
pub fn diff(cli: &Cli, args: &Args) -> Done {
    let knowledge = Knowledge::load(cli.config.as_deref())?;
    let (from, to) = (side(cli, &knowledge, &args.from)?, side(cli, &knowledge, &args.to)?);
    let diff = Diff::new(&from, &to);
    match args.format {
        Format::Human => print_diff(&mut stdout(), [&from, &to], &diff, args.all)?,
        Format::Json => print_diff_json(&mut stdout(), [&from, &to], &diff)?,
    }
    Ok(diff.outcome())
}

/// All that somebody means by `named`: a run, or a directory with runs in it, such as that of a boot of the lab.
fn side(cli: &Cli, knowledge: &Knowledge, named: &str) -> Result<Side, Failure> {
    let (policies, deviations) = knowledge.models(Judging { no_deviations: false })?;
    let mut side = Side::default();
    for dir in runs(&cli.results, named)? {
        let (run, left) = (Run::read(&dir)?, Intent::left(&dir)?);
        let policies = policies.asked(run.header.policy.as_deref())?;
        side.add(&Judge::new(&policies, &deviations), &run, &left)?;
    }
    Ok(side)
}

/// The directories of all that somebody means by `named`.
///
/// # Errors
/// There is no such run.
pub fn runs(root: &Path, named: &str) -> Result<Vec<PathBuf>, Failure> {
    let (here, there) = (PathBuf::from(named), root.join(named));
    for dir in [there, here].iter().filter(|dir| dir.is_dir()) {
        let names = results::runs(dir)?;
        // A run that was repeated has the others in it, and is meant itself.
        if !names.is_empty() && results::find(root, named).is_err() {
            return Ok(names.iter().map(|name| dir.join(name)).collect());
        }
    }
    Ok(vec![results::find(root, named)?])
}
