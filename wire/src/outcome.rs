//! What came of a write or a read: the exception, if any, and what the register held afterwards.

use crate::text::{self, TextError};
use core::fmt;

/// An exception, SDM Vol. 3A "Exception and Interrupt Reference".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fault {
    /// Vector, 0 to 31.
    pub vector: u8,
    /// Error code; 0 for a vector that pushes none.
    pub error: u32,
}

impl Fault {
    /// #GP(0), the answer to a reserved bit.
    pub const GP0: Fault = Fault { vector: 13, error: 0 };
    /// #UD, the answer to an instruction that the CPU does not have.
    pub const UD: Fault = Fault { vector: 6, error: 0 };
}

/// What a register held after a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum After {
    /// As a reader expects: the value just written, or, after a fault, the value from before it.
    AsWritten,
    /// This value instead.
    Value(u64),
    /// Reading it back raised the exception with this vector.
    Unreadable(u8),
}

/// What came of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Outcome {
    /// The exception that the write raised.
    pub fault: Option<Fault>,
    /// What the register held then.
    pub after: After,
}

impl Outcome {
    /// Accepted, and read back as written.
    pub const ACCEPTED: Outcome = Outcome { fault: None, after: After::AsWritten };
    /// #GP(0), register unchanged.
    pub const REFUSED: Outcome = Outcome { fault: Some(Fault::GP0), after: After::AsWritten };
}

/// What came of a read: a value or an exception.
pub type ReadOutcome = Result<u64, Fault>;

/// The letter that stands for no fault.
pub(crate) const NO_FAULT: u8 = b'.';
/// The letter that stands for #GP(0).
pub(crate) const GP0: u8 = b'g';
/// The letter before any other vector: `x<vector>,<error>`.
pub(crate) const OTHER_FAULT: u8 = b'x';

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Fault::GP0 { f.write_str("g") } else { write!(f, "x{:x},{:x}", self.vector, self.error) }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fault {
            None => f.write_str(".")?,
            Some(fault) => fault.fmt(f)?,
        }
        match self.after {
            After::AsWritten => Ok(()),
            After::Value(value) => write!(f, "={value:x}"),
            After::Unreadable(vector) => write!(f, "?{vector:x}"),
        }
    }
}

impl core::str::FromStr for Fault {
    type Err = TextError;

    fn from_str(s: &str) -> Result<Self, TextError> {
        if s == "g" {
            return Ok(Fault::GP0);
        }
        let wrong = || TextError::new("an exception", s);
        let (vector, error) = s.strip_prefix('x').and_then(|s| s.split_once(',')).ok_or_else(wrong)?;
        let fault = Fault { vector: text::hex(vector, "a vector")?, error: text::hex(error, "an error code")? };
        if fault == Fault::GP0 || fault.vector > 31 { Err(wrong()) } else { Ok(fault) }
    }
}

impl core::str::FromStr for Outcome {
    type Err = TextError;

    fn from_str(s: &str) -> Result<Self, TextError> {
        let (fault, after) = match s.find(['=', '?']) {
            None => (s, After::AsWritten),
            Some(at) if s.as_bytes()[at] == b'=' => (&s[..at], After::Value(text::hex(&s[at + 1..], "a value")?)),
            Some(at) => (&s[..at], After::Unreadable(text::hex(&s[at + 1..], "a vector")?)),
        };
        Ok(Outcome { fault: maybe_fault(fault)?, after })
    }
}

/// `.` for none, else a [`Fault`].
pub(crate) fn maybe_fault(s: &str) -> Result<Option<Fault>, TextError> {
    if s == "." { Ok(None) } else { s.parse().map(Some) }
}

/// `=<value>`, or a [`Fault`].
pub(crate) fn read_outcome(s: &str) -> Result<ReadOutcome, TextError> {
    match s.strip_prefix('=') {
        Some(value) => text::hex(value, "a value").map(Ok),
        None => s.parse().map(Err),
    }
}
