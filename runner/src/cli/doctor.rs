//! `doctor`: what this host is, what it can decide, and what to do about what it cannot.

use super::args::{Cli, Doctor, Format};
use super::out::stdout;
use super::{Done, Failure};
use crate::host::doctor::{self, Section};
use crate::report::Outcome;
use crate::results::{self, Boot, Intent};
use crate::vmm::shown;
use std::io::Write;
use std::path::Path;

/// Examines the host and prints what was found, and which destructive cells did not end.
pub fn doctor(cli: &Cli, args: &Doctor) -> Done {
    let mut report = doctor::examine();
    report.sections.push(Section { title: "Confinement of VMMs", rows: shown::rows() });
    report.sections.extend(destructive(&cli.results)?);
    let mut out = stdout();
    match args.format {
        Format::Human => write!(out, "{report}")?,
        Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(&report).map_err(std::io::Error::from)?)?,
    }
    Ok(Outcome::AsExpected)
}

/// The destructive cells under `root` of which only the intent is left, if there are any: what became of them.
fn destructive(root: &Path) -> Result<Option<Section>, Failure> {
    let (now, mut rows) = (Boot::now(), Vec::new());
    for run in results::runs(root)? {
        for dir in results::repetitions(&root.join(run)) {
            let left = Intent::left(&dir)?;
            rows.extend(left.iter().map(|it| (it.cell.clone(), format!("{} ({})", it.words(&now), dir.display()))));
        }
    }
    Ok((!rows.is_empty()).then_some(Section { title: "Destructive cells that did not end", rows }))
}
