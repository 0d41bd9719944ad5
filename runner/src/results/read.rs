//! Reading the observations of a run.

use super::format::{self, CellResult, Header};
use super::{ResultsError, observations};
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
        let (path, bytes) = observations::read(dir)?;
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |feed| feed + 1);
        let mut lines = bytes[..whole].split_inclusive(|&byte| byte == b'\n');
        let first = lines.next().ok_or_else(|| headless(&path))?;
        let header = format::header(&path, first)?;
        let mut results = Results::new(&header);
        for (number, line) in (2..).zip(lines) {
            let result = format::value(&path, number, line)?;
            let wrong = |message| ResultsError::Line { path: path.clone(), line: number, message };
            results.add(result, number).map_err(wrong)?;
        }
        let results = results.done;
        Ok(Run { dir: dir.to_owned(), header, results, torn: bytes.len() - whole, whole })
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
    let (path, line) = observations::first_line(dir)?;
    if line.ends_with(b"\n") { format::header(&path, &line) } else { Err(headless(&path)) }
}

fn headless(path: &Path) -> ResultsError {
    let message = "no whole header: the run was killed before it began".to_owned();
    ResultsError::Line { path: path.to_owned(), line: 1, message }
}

/// Results as they are read.
struct Results<'a> {
    planned: HashSet<&'a str>,
    /// Position in `done`, and line, by cell.
    seen: HashMap<String, (usize, usize)>,
    done: Vec<CellResult>,
}

impl<'a> Results<'a> {
    fn new(header: &'a Header) -> Self {
        let planned = header.cells.iter().map(|cell| cell.id.as_str()).collect();
        Results { planned, seen: HashMap::new(), done: Vec::new() }
    }

    /// Takes the result on a line. It replaces an earlier error of the same cell.
    fn add(&mut self, result: CellResult, line: usize) -> Result<(), String> {
        if !self.planned.contains(result.cell.as_str()) {
            return Err(format!("cell `{}` is not in the plan on line 1", result.cell));
        }
        match self.seen.insert(result.cell.clone(), (self.done.len(), line)) {
            None => self.done.push(result),
            Some((at, before)) if self.done[at].outcome.is_final() => {
                return Err(format!("cell `{}` has a result on line {before} already", result.cell));
            }
            Some((at, _)) => {
                self.seen.insert(result.cell.clone(), (at, line));
                self.done[at] = result;
            }
        }
        Ok(())
    }
}
