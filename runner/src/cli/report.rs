//! `report`: the verdicts of a run again, as they were written.

use super::args::{Cli, Report};
use super::run::reporter;
use super::{Done, Failure};
use crate::report::{CellVerdict, Tally};
use crate::results;

/// Prints the verdicts of a run.
pub fn report(cli: &Cli, args: &Report) -> Done {
    let dir = results::find(&cli.results, &args.run)?;
    let verdicts: Option<Vec<CellVerdict>> = results::read_verdicts(&dir)?;
    let none = || Failure::Usage(format!("{} has no verdicts yet: kvm-memtype judge {0}", dir.display()));
    let mut reporter = reporter(args.format);
    let mut tally = Tally::default();
    for verdict in verdicts.ok_or_else(none)? {
        tally.add(&verdict);
        reporter.cell(&verdict)?;
    }
    reporter.end(&tally)?;
    Ok(tally.as_expected())
}
