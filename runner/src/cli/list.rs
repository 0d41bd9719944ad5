//! `list`: the cells of a suite, from the guests' ELF sections and the configurations, without booting anything.

use super::Done;
use super::args::{Cli, Format, List};
use super::knowledge::Knowledge;
use super::out::stdout;
use crate::plan::Cell;
use crate::report::Outcome;
use serde::Serialize;
use std::io::Write;

/// A cell as `--format json` prints it.
#[derive(Serialize)]
struct Row<'a> {
    cell: &'a str,
    summary: &'a str,
    vcpus: u8,
    needs: Vec<&'static str>,
    vm: &'a str,
}

/// Prints the cells.
pub fn list(cli: &Cli, args: &List) -> Done {
    let knowledge = Knowledge::load(cli.config.as_deref())?;
    let (suite, plan) = knowledge.plan(&args.cells.suite, &args.cells.filters)?;
    let plan = knowledge.part(&cli.results, &args.cells, &plan)?.map_or(plan, |(_, part)| part);
    let mut out = stdout();
    match args.format {
        Format::Json => {
            for cell in &plan.cells {
                let Cell { id, summary, needs, vm, .. } = cell;
                let needs = (needs.cpu_count(), needs.words().collect());
                let row = Row { cell: id, summary, vcpus: needs.0, needs: needs.1, vm };
                writeln!(out, "{}", serde_json::to_string(&row).map_err(std::io::Error::from)?)?;
            }
        }
        Format::Human => {
            let width = plan.cells.iter().map(|cell| cell.id.len()).max().unwrap_or(0);
            for cell in &plan.cells {
                let needs: Vec<_> = cell.needs.words().collect();
                let needs = if needs.is_empty() { String::new() } else { format!(" [{}]", needs.join(", ")) };
                writeln!(out, "{:width$}  {}{needs}", cell.id, cell.summary)?;
            }
            writeln!(out, "\n{} cells of suite {}: {}", plan.cells.len(), suite.id, suite.summary)?;
        }
    }
    Ok(Outcome::AsExpected)
}
