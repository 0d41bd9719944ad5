//! Reading the words of a line: hexadecimal numbers and what went wrong with them.

use alloc::string::{String, ToString};
use core::fmt;

/// A word of a line that is not what should stand there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextError {
    /// What should stand there, with its article: "a register".
    pub wanted: &'static str,
    /// What does stand there; empty at the end of the line.
    pub found: String,
}

impl TextError {
    pub(crate) fn new(wanted: &'static str, found: &str) -> Self {
        TextError { wanted, found: found.to_string() }
    }
}

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.found.as_str() {
            "" => write!(f, "{} is missing", self.wanted),
            found => write!(f, "{found:?} is not {}", self.wanted),
        }
    }
}

impl core::error::Error for TextError {}

/// A number in lower-case hexadecimal without prefix, in the range of `T`. One spelling a number: no sign, no zeros in
/// front.
pub(crate) fn hex<T: TryFrom<u64>>(word: &str, wanted: &'static str) -> Result<T, TextError> {
    let digits = word.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let canonical = word == "0" || !word.starts_with('0');
    (digits && canonical)
        .then(|| u64::from_str_radix(word, 16).ok())
        .flatten()
        .and_then(|value| T::try_from(value).ok())
        .ok_or_else(|| TextError::new(wanted, word))
}

/// The words of a line, taken from the front; each knows what it should be.
pub(crate) struct Words<'a>(core::str::Split<'a, char>);

impl<'a> Words<'a> {
    pub(crate) fn new(line: &'a str) -> Self {
        Words(line.split(' '))
    }

    pub(crate) fn word(&mut self, wanted: &'static str) -> Result<&'a str, TextError> {
        self.0.next().filter(|w| !w.is_empty()).ok_or_else(|| TextError::new(wanted, ""))
    }

    /// The next word, left where it is.
    pub(crate) fn peek(&self) -> Option<&'a str> {
        self.0.clone().next()
    }

    pub(crate) fn hex<T: TryFrom<u64>>(&mut self, wanted: &'static str) -> Result<T, TextError> {
        hex(self.word(wanted)?, wanted)
    }

    pub(crate) fn parse<T: core::str::FromStr<Err = TextError>>(
        &mut self,
        wanted: &'static str,
    ) -> Result<T, TextError> {
        self.word(wanted)?.parse()
    }

    pub(crate) fn rest(self) -> impl Iterator<Item = &'a str> {
        self.0
    }

    pub(crate) fn end(mut self) -> Result<(), TextError> {
        match self.0.next() {
            None => Ok(()),
            Some(word) => Err(TextError::new("the end of the line", word)),
        }
    }
}
