//! The runner's side of the serial line: lines in, records out, and every way in which a stream can be wrong.

use crate::frame::{VERSION, checksum};
use crate::record::Record;
use crate::text::{Quoted, TextError, Words, hex};
use alloc::string::String;
use core::fmt;

/// What a line that belongs to the stream says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// The stream starts.
    Begin {
        /// The run to which it belongs.
        run: u64,
        /// `family/test`.
        test: String,
    },
    /// A record.
    Record(Record),
    /// The stream is at its end and whole.
    End,
}

/// Why a stream cannot be believed from a line on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamError {
    /// It never started: firmware text at most.
    Empty,
    /// It stopped without an end; holds the number of the next line that should have come.
    Truncated(u32),
    /// The checksum does not fit: garbled, or from another run.
    Checksum {
        /// What the checksum should be.
        wanted: u16,
        /// The line.
        line: String,
    },
    /// A line came again.
    Duplicate(u32),
    /// Lines are missing before the one with this number.
    Lost {
        /// The number that should have come.
        wanted: u32,
        /// The number that came.
        found: u32,
    },
    /// The stream is whole in itself but belongs to another run.
    Stale {
        /// The run that was started.
        wanted: u64,
        /// The run that the stream names.
        found: u64,
    },
    /// The end counts other than the lines that came.
    Count {
        /// Records that came.
        came: u32,
        /// Records that the end counts.
        counted: u32,
    },
    /// Something follows the end.
    Trailing(String),
    /// A line with a right checksum that says nothing that this version knows.
    Text(TextError),
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StreamError::Empty => f.write_str("the guest reported nothing: no start line came"),
            StreamError::Truncated(next) => write!(f, "the report stops before line {next:x}, without an end"),
            StreamError::Checksum { wanted, line } => {
                write!(f, "garbled, or a line of another run: checksum should be {wanted:04x} in {}", Quoted(line))
            }
            StreamError::Duplicate(number) => write!(f, "line {number:x} came again"),
            StreamError::Lost { wanted, found } => write!(f, "line {found:x} came where line {wanted:x} was due"),
            StreamError::Stale { wanted, found } => write!(f, "a report of run {found:x}, not of run {wanted:x}"),
            StreamError::Count { came, counted } => write!(f, "the end counts {counted} records, {came} came"),
            StreamError::Trailing(line) => write!(f, "something follows the end: {}", Quoted(line)),
            StreamError::Text(error) => write!(f, "{error}"),
        }
    }
}

impl core::error::Error for StreamError {}

/// Reads a stream line by line.
///
/// Lines before the start are firmware's and are passed over. From the start on every line must fit.
#[derive(Debug, Clone)]
pub struct Reader {
    expected_run: Option<u64>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Before,
    Inside { run: u64, next: u32 },
    Ended,
}

impl Reader {
    /// Reads the stream of run `expected_run`, or of any run if there is none, as for a log that somebody kept.
    pub fn new(expected_run: Option<u64>) -> Self {
        Reader { expected_run, state: State::Before }
    }

    /// Takes a line without its line feed. `None` for a line outside the stream.
    ///
    /// # Errors
    /// The first way in which the line does not fit; the stream cannot be believed from there on.
    pub fn line(&mut self, line: &str) -> Result<Option<Item>, StreamError> {
        let line = line.trim_end_matches('\r');
        match self.state {
            State::Before => self.start(line),
            State::Inside { run, next } => self.inside(line, run, next).map(Some),
            State::Ended if line.is_empty() => Ok(None),
            State::Ended => Err(StreamError::Trailing(line.into())),
        }
    }

    /// Says that no more lines come.
    ///
    /// # Errors
    /// The stream did not start, or did not end.
    pub fn finish(&self) -> Result<(), StreamError> {
        match self.state {
            State::Before => Err(StreamError::Empty),
            State::Inside { next, .. } => Err(StreamError::Truncated(next)),
            State::Ended => Ok(()),
        }
    }

    fn start(&mut self, line: &str) -> Result<Option<Item>, StreamError> {
        let Some(body) = line.strip_prefix("0 ").filter(|body| body.starts_with(VERSION)) else {
            return Ok(None);
        };
        let (body, _) = body.rsplit_once('*').ok_or_else(|| StreamError::Checksum { wanted: 0, line: line.into() })?;
        let mut words = Words::new(body);
        words.word("the protocol").map_err(StreamError::Text)?;
        let found = words.hex("a run id").map_err(StreamError::Text)?;
        let test = words.word("a test's name").map_err(StreamError::Text)?.into();
        words.end().map_err(StreamError::Text)?;
        verified(line, found)?;
        match self.expected_run {
            Some(wanted) if wanted != found => Err(StreamError::Stale { wanted, found }),
            _ => {
                self.state = State::Inside { run: found, next: 1 };
                Ok(Some(Item::Begin { run: found, test }))
            }
        }
    }

    fn inside(&mut self, line: &str, run: u64, wanted: u32) -> Result<Item, StreamError> {
        let (number, body) = verified(line, run)?.split_once(' ').unwrap_or((line, ""));
        let found = hex(number, "a line number").map_err(StreamError::Text)?;
        match found {
            _ if found < wanted => return Err(StreamError::Duplicate(found)),
            _ if found > wanted => return Err(StreamError::Lost { wanted, found }),
            _ => {}
        }
        if let Some(count) = body.strip_prefix("end ") {
            let counted = hex(count, "a number of records").map_err(StreamError::Text)?;
            let came = wanted - 1;
            self.state = State::Ended;
            return if counted == came { Ok(Item::End) } else { Err(StreamError::Count { came, counted }) };
        }
        let record = Record::parse(body).map_err(StreamError::Text)?;
        self.state = State::Inside { run, next: wanted + 1 };
        Ok(Item::Record(record))
    }
}

/// The line up to its checksum, if that fits.
fn verified(line: &str, run: u64) -> Result<&str, StreamError> {
    let (text, sum) = line.rsplit_once('*').unwrap_or((line, ""));
    let wanted = checksum(run, text);
    let digits = [12, 8, 4, 0].map(|shift| b"0123456789abcdef"[usize::from(wanted >> shift & 15)]);
    if sum.as_bytes() == digits { Ok(text) } else { Err(StreamError::Checksum { wanted, line: line.into() }) }
}

#[cfg(test)]
mod tests;
