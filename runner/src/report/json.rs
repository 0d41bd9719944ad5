//! The format `json`: one object a line: what is run, a cell each, and the sum as the last. The schema of these lines is
//! docs/schema/report.schema.json.

use super::{CellVerdict, Outcome, Reporter, Tally};
use crate::host::facts::Facts;
use crate::results::Header;
use crate::witness::Kind;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

/// Version of the format. It goes up when a line of the version before would be read wrongly; a reader takes no notice of
/// members and lines that it does not know.
const FORMAT: u32 = 1;

/// Prints JSON Lines.
#[derive(Debug)]
pub struct Json<W>(pub W);

/// The first line: what was run, on what.
#[derive(Serialize)]
struct First<'a> {
    format: u32,
    run: About<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct About<'a> {
    id: String,
    started: &'a str,
    version: &'a str,
    machine: &'a str,
    suite: &'a str,
    filters: &'a [String],
    host: &'a BTreeMap<String, String>,
    facts: &'a Facts,
    witnesses: &'a BTreeSet<Kind>,
    policy: Option<&'a str>,
    busy: bool,
    planned: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Sum<'a> {
    summary: &'a Tally,
    as_expected: bool,
}

impl<W: Write> Json<W> {
    fn line(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.0, value)?;
        self.0.write_all(b"\n")?;
        self.0.flush()
    }
}

impl<W: Write> Reporter for Json<W> {
    fn begin(&mut self, header: &Header) -> io::Result<()> {
        let Header { started, version, machine, suite, filters, host, facts, witnesses, policy, busy, .. } = header;
        let (id, policy, planned) = (format!("{:x}", header.run), policy.as_deref(), header.cells.len());
        let (busy, machine) = (!busy.is_none(), machine.as_str());
        let run =
            About { id, started, version, machine, suite, filters, host, facts, witnesses, policy, busy, planned };
        self.line(&First { format: FORMAT, run })
    }

    fn cell(&mut self, cell: &CellVerdict) -> io::Result<()> {
        self.line(cell)
    }

    fn end(&mut self, tally: &Tally) -> io::Result<()> {
        self.line(&Sum { summary: tally, as_expected: tally.outcome() == Outcome::AsExpected })
    }
}
