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
            found => write!(f, "{} is not {}", Quoted(found), self.wanted),
        }
    }
}

impl core::error::Error for TextError {}

/// What a guest sent, for people: quoted, and of a long text the beginning alone.
pub(crate) struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// In bytes.
        const MOST: usize = 160;
        let shown = &self.0[..self.0.floor_char_boundary(MOST)];
        match self.0.len() - shown.len() {
            0 => write!(f, "{shown:?}"),
            more => write!(f, "{shown:?} and {more} bytes more"),
        }
    }
}

/// A number in lower-case hexadecimal without prefix, in the range of `T`. One spelling a number: no sign, no zeros in
/// front.
pub(crate) fn hex<T: TryFrom<u64>>(word: &str, wanted: &'static str) -> Result<T, TextError> {
    let digits = word.as_bytes();
    let canonical = matches!(digits, [b'0'] | [b'1'..=b'9' | b'a'..=b'f', ..]) && digits.len() <= 16;
    let value = digits.iter().filter(|_| canonical).try_fold(0, |value: u64, &digit| match digit {
        b'0'..=b'9' => Some(value << 4 | u64::from(digit - b'0')),
        b'a'..=b'f' => Some(value << 4 | u64::from(digit - b'a' + 10)),
        _ => None,
    });
    let value = value.filter(|_| canonical).and_then(|value| T::try_from(value).ok());
    value.ok_or_else(|| TextError::new(wanted, word))
}

/// The words of a line, taken from the front; each knows what it should be. Holds what is left of the line, if anything is.
pub(crate) struct Words<'a>(Option<&'a str>);

impl<'a> Words<'a> {
    pub(crate) fn new(line: &'a str) -> Self {
        Words(Some(line))
    }

    /// The next word and what follows it.
    fn split(&self) -> Option<(&'a str, Option<&'a str>)> {
        let line = self.0?;
        Some(match line.bytes().position(|byte| byte == b' ') {
            Some(at) => (&line[..at], Some(&line[at + 1..])),
            None => (line, None),
        })
    }

    fn take(&mut self) -> Option<&'a str> {
        let (word, rest) = self.split()?;
        self.0 = rest;
        Some(word)
    }

    pub(crate) fn word(&mut self, wanted: &'static str) -> Result<&'a str, TextError> {
        self.take().filter(|w| !w.is_empty()).ok_or_else(|| TextError::new(wanted, ""))
    }

    /// The next word, left where it is.
    pub(crate) fn peek(&self) -> Option<&'a str> {
        self.split().map(|(word, _)| word)
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

    pub(crate) fn rest(mut self) -> impl Iterator<Item = &'a str> {
        core::iter::from_fn(move || self.take())
    }

    pub(crate) fn end(mut self) -> Result<(), TextError> {
        match self.take() {
            None => Ok(()),
            Some(word) => Err(TextError::new("the end of the line", word)),
        }
    }
}
