//! The format `json`: one object a line, a cell each, and the sum as the last.

use super::{CellVerdict, Outcome, Reporter, Tally};
use serde::Serialize;
use std::io::{self, Write};

/// Prints JSON Lines.
#[derive(Debug)]
pub struct Json<W>(pub W);

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
    fn cell(&mut self, cell: &CellVerdict) -> io::Result<()> {
        self.line(cell)
    }

    fn end(&mut self, tally: &Tally) -> io::Result<()> {
        self.line(&Sum { summary: tally, as_expected: tally.outcome() == Outcome::AsExpected })
    }
}
