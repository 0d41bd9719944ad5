//! Reading the observations of a run.

use super::format::{CellResult, Header};
use super::{ResultsError, Stream};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

/// A run, as far as it got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Its directory.
    pub dir: PathBuf,
    /// What was run, on what.
    pub header: Header,
    /// What came of each cell, in the order in which they were done.
    pub results: Vec<CellResult>,
    /// Bytes of a last line that was not written whole: the run was killed then, or goes on just now. That cell counts
    /// as not done.
    pub torn: usize,
    /// Bytes of the whole lines.
    pub(crate) whole: usize,
}

impl Run {
    /// Reads a run.
    ///
    /// # Errors
    /// The file cannot be read, or a line other than a torn last one is not what it should be.
    pub fn read(dir: &Path) -> Result<Run, ResultsError> {
        let (header, stream) = Stream::open(dir)?;
        Run::of(dir, header, stream)
    }

    /// The run in `dir` of which a stream gives the lines.
    ///
    /// # Errors
    /// As those of [`read`](Run::read).
    pub fn of(dir: &Path, header: Header, mut stream: Stream) -> Result<Run, ResultsError> {
        let (mut plan, mut results) = (Planned::new(&header), Vec::new());
        while let Some(line) = stream.line()? {
            let result = line.result(stream.path())?;
            let place = plan.take(&result.cell, result.outcome.is_final(), line.number);
            match place.map_err(|message| line.wrong(stream.path(), message))? {
                place if place == results.len() => results.push(result),
                place => results[place] = result,
            }
        }
        let Stream { whole, torn, .. } = stream;
        Ok(Run { dir: dir.to_owned(), header, results, torn, whole })
    }

    /// Ids of the cells that need not be run again: all that have a result other than
    /// [`Error`](super::CellOutcome::Error).
    pub fn done(&self) -> HashSet<String> {
        self.results.iter().filter(|result| result.outcome.is_final()).map(|result| result.cell.clone()).collect()
    }
}

/// Reads what was run, on what, and nothing of what came of it.
///
/// # Errors
/// The file cannot be read, or its first line is not what it should be.
pub fn read_header(dir: &Path) -> Result<Header, ResultsError> {
    Stream::open(dir).map(|(header, _)| header)
}

/// The places of results as they are read, in the order in which cells were first done.
#[derive(Debug)]
pub struct Planned {
    /// By id, what there is of each cell of the plan.
    cells: HashMap<String, Option<Place>>,
    /// How many have a result.
    count: usize,
}

/// Where the result of a cell is.
#[derive(Debug, Clone, Copy)]
struct Place {
    at: usize,
    line: usize,
    is_final: bool,
}

impl Planned {
    /// The cells that the header plans.
    pub fn new(header: &Header) -> Self {
        Planned { cells: header.cells.iter().map(|cell| (cell.id.clone(), None)).collect(), count: 0 }
    }

    /// The place of the result on a line, from 0. It replaces an earlier error of the same cell, in its place.
    ///
    /// # Errors
    /// The cell is not planned, or has a result.
    pub fn take(&mut self, cell: &str, is_final: bool, line: usize) -> Result<usize, String> {
        let Some(place) = self.cells.get_mut(cell) else {
            return Err(format!("cell `{cell}` is not in the plan on line 1"));
        };
        let at = match *place {
            Some(Place { line, is_final: true, .. }) => {
                return Err(format!("cell `{cell}` has a result on line {line} already"));
            }
            Some(Place { at, .. }) => at,
            None => {
                self.count += 1;
                self.count - 1
            }
        };
        *place = Some(Place { at, line, is_final });
        Ok(at)
    }

    /// The place of the result of a cell; nothing if it has none.
    pub fn at(&self, cell: &str) -> Option<usize> {
        self.cells.get(cell).and_then(|place| Some(place.as_ref()?.at))
    }
}
