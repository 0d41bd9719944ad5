//! A run's observations, a line at a time: a run of many cells need not be in memory as a whole.

use super::format::{self, CellResult, Header};
use super::{ResultsError, observations};
use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};

/// A run that is read.
pub struct Stream {
    path: PathBuf,
    lines: Box<dyn BufRead + Send>,
    /// Number of the line that was read last.
    number: usize,
    /// Bytes of the whole lines so far.
    pub(super) whole: usize,
    /// Bytes of a last line that was not written whole, once it was met.
    pub(super) torn: usize,
}

/// A whole line of a run's file, and where it stands.
#[derive(Debug)]
pub struct RawLine {
    /// Its number in the file, from 1.
    pub number: usize,
    bytes: Vec<u8>,
}

impl Stream {
    /// Opens the run in `dir` and reads its header: what was run, on what.
    ///
    /// # Errors
    /// The file cannot be read, or its header is not what it should be.
    pub fn open(dir: &Path) -> Result<(Header, Stream), ResultsError> {
        let (path, lines) = observations::open(dir)?;
        Stream::of(path, lines)
    }

    /// The run whose file, at `path` as people are told, has these lines.
    ///
    /// # Errors
    /// As those of [`open`](Stream::open).
    pub fn of(path: PathBuf, mut lines: Box<dyn BufRead + Send>) -> Result<(Header, Stream), ResultsError> {
        let mut first = Vec::new();
        lines.read_until(b'\n', &mut first).map_err(ResultsError::io("read", &path))?;
        if first.last() != Some(&b'\n') {
            let message = "no whole header: the run was killed before it began".to_owned();
            return Err(ResultsError::Line { path, line: 1, message });
        }
        let header = format::header(&path, &first)?;
        Ok((header, Stream { path, lines, number: 1, whole: first.len(), torn: 0 }))
    }

    /// The next line; nothing at the end of the file, or of its whole lines.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn line(&mut self) -> Result<Option<RawLine>, ResultsError> {
        let mut bytes = Vec::new();
        let read = self.lines.by_ref().read_until(b'\n', &mut bytes).map_err(ResultsError::io("read", &self.path))?;
        if bytes.last() != Some(&b'\n') {
            self.torn += read;
            return Ok(None);
        }
        (self.number, self.whole) = (self.number + 1, self.whole + read);
        Ok(Some(RawLine { number: self.number, bytes }))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl RawLine {
    /// The result on a line of the file at `path`.
    ///
    /// # Errors
    /// It is none.
    pub fn result(&self, path: &Path) -> Result<CellResult, ResultsError> {
        format::value(path, self.number, &self.bytes)
    }

    /// An error at this line of the file at `path`.
    pub fn wrong(&self, path: &Path, message: String) -> ResultsError {
        ResultsError::Line { path: path.to_owned(), line: self.number, message }
    }
}
