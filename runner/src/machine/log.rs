//! The log of a run while it grows: guest lines and host records in one order, up to a bound.

use crate::machine::Line;
use crate::machine::lines::LineSplitter;
use wire::host::HostRecord;

/// What a host record counts for against the bound, in bytes.
const RECORD_COST: usize = 40;

/// A growing log.
#[derive(Debug)]
pub struct Log {
    lines: Vec<Line>,
    splitter: LineSplitter,
    console: LineSplitter,
    left: usize,
}

/// More came than a run may say.
#[derive(Debug)]
pub struct Full;

impl Log {
    /// A log for `bytes` bytes.
    pub fn new(bytes: usize) -> Self {
        // A console ends its lines as a terminal wants them.
        let console = LineSplitter::of(|line| Line::Console(line.trim_end_matches('\r').to_owned()));
        let splitter = LineSplitter::default();
        Log { lines: Vec::new(), splitter, console, left: bytes }
    }

    /// Takes bytes of the serial line.
    ///
    /// # Errors
    /// The bound is reached; the bytes are dropped.
    pub fn serial(&mut self, bytes: &[u8]) -> Result<(), Full> {
        self.left = self.left.checked_sub(bytes.len()).ok_or(Full)?;
        self.splitter.push(bytes, &mut self.lines);
        Ok(())
    }

    /// Takes bytes that a Linux guest prints on its console.
    ///
    /// # Errors
    /// The bound is reached; the bytes are dropped.
    pub fn console(&mut self, bytes: &[u8]) -> Result<(), Full> {
        self.left = self.left.checked_sub(bytes.len()).ok_or(Full)?;
        self.console.push(bytes, &mut self.lines);
        Ok(())
    }

    /// How many bytes more it takes.
    pub fn room(&self) -> usize {
        self.left
    }

    /// Takes a record of the VMM. Guests end their line before they do what makes one, so it stands after that line.
    ///
    /// # Errors
    /// The bound is reached; the record is dropped.
    pub fn host(&mut self, record: HostRecord) -> Result<(), Full> {
        self.left = self.left.checked_sub(RECORD_COST).ok_or(Full)?;
        self.lines.push(Line::Host(record));
        Ok(())
    }

    /// All of it.
    pub fn finish(mut self) -> Vec<Line> {
        self.splitter.finish(&mut self.lines);
        self.console.finish(&mut self.lines);
        self.lines
    }
}
