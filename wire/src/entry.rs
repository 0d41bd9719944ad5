//! How a guest lists its tests: fixed-size entries in an ELF section, read without booting anything.

use crate::needs::Needs;
use core::mem::{offset_of, size_of};

/// ELF section that holds the entries, back to back.
pub const SECTION: &str = ".kmt_tests";
/// Start of each entry; also the version of this layout.
pub const MAGIC: [u8; 8] = *b"kmttest2";

/// One test as it lies in the section. `F` is the guest's function pointer, 8 bytes that mean nothing to the runner.
#[derive(Debug)]
#[repr(C)]
pub struct TestEntry<F> {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// Name within the family, ASCII, zero-padded.
    pub name: [u8; 32],
    /// One line that says what the test does, ASCII, zero-padded.
    pub summary: [u8; 128],
    /// A [`Needs`].
    pub needs: u64,
    /// The least number of points that the test makes when it runs to its end, or to where it has the VM shut down:
    /// what it does to registers and memory, with instructions and by host steps, each value and each access.
    pub points: u64,
    /// The guest's entry to the test.
    pub run: F,
}

impl<F> TestEntry<F> {
    /// An entry for the section. A name or summary that does not fit fails the build of the guest.
    pub const fn new(name: &str, summary: &str, needs: Needs, points: u64, run: F) -> Self {
        TestEntry { magic: MAGIC, name: padded(name), summary: padded(summary), needs: needs.0, points, run }
    }
}

const fn padded<const N: usize>(text: &str) -> [u8; N] {
    assert!(text.len() <= N, "too long for the test entry");
    let (mut out, mut i) = ([0; N], 0);
    while i < text.len() {
        out[i] = text.as_bytes()[i];
        i += 1;
    }
    out
}

/// Bytes of one entry in the section.
pub const ENTRY_SIZE: usize = size_of::<TestEntry<u64>>();

/// What an entry says, borrowed from the section's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TestInfo<'a> {
    /// Name within the family.
    pub name: &'a str,
    /// One line that says what the test does.
    pub summary: &'a str,
    /// What it needs.
    pub needs: Needs,
    /// The least number of points that it makes.
    pub points: u64,
}

/// Why a section is not a list of tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryError {
    /// The section's size in bytes is not a multiple of [`ENTRY_SIZE`].
    Size(usize),
    /// The entry with this number does not start with [`MAGIC`]: it is from another version.
    Magic(usize),
    /// A name or a summary of the entry with this number is not text.
    Text(usize),
}

impl core::fmt::Display for EntryError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            EntryError::Size(size) => {
                write!(f, "section {SECTION} has {size} bytes, no multiple of the entry size {ENTRY_SIZE}")
            }
            EntryError::Magic(n) => write!(f, "entry {n} of section {SECTION} is of another version"),
            EntryError::Text(n) => write!(f, "entry {n} of section {SECTION} has a name or summary that is not text"),
        }
    }
}

impl core::error::Error for EntryError {}

/// The entries in the bytes of a section.
///
/// # Errors
/// Each entry that cannot be read is an error of its own; a size that does not fit is the only one.
pub fn entries(section: &[u8]) -> impl Iterator<Item = Result<TestInfo<'_>, EntryError>> {
    let odd = (!section.len().is_multiple_of(ENTRY_SIZE)).then_some(Err(EntryError::Size(section.len())));
    let whole = if odd.is_some() { &[] } else { section };
    odd.into_iter().chain(whole.chunks_exact(ENTRY_SIZE).enumerate().map(|(n, bytes)| entry(n, bytes)))
}

fn entry(n: usize, bytes: &[u8]) -> Result<TestInfo<'_>, EntryError> {
    type Entry = TestEntry<u64>;
    if !bytes.starts_with(&MAGIC) {
        return Err(EntryError::Magic(n));
    }
    let text = |from: usize, len: usize| {
        let field = &bytes[from..from + len];
        let end = field.iter().position(|&b| b == 0).unwrap_or(len);
        core::str::from_utf8(&field[..end]).map_err(|_| EntryError::Text(n))
    };
    let number = |from: usize| {
        let mut number = [0; 8];
        number.copy_from_slice(&bytes[from..][..8]);
        u64::from_le_bytes(number)
    };
    Ok(TestInfo {
        name: text(offset_of!(Entry, name), 32)?,
        summary: text(offset_of!(Entry, summary), 128)?,
        needs: Needs(number(offset_of!(Entry, needs))),
        points: number(offset_of!(Entry, points)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn bytes(entry: &TestEntry<u64>) -> Vec<u8> {
        let numbers = [entry.needs, entry.points, entry.run].map(u64::to_le_bytes);
        [&entry.magic[..], &entry.name, &entry.summary, numbers.as_flattened()].concat()
    }

    #[test]
    fn an_entry_reads_back() {
        let entry = TestEntry::new("types", "every type", Needs::STEPS, 256, 7u64);
        let bytes = bytes(&entry);
        assert_eq!(bytes.len(), ENTRY_SIZE);
        let all: Vec<_> = entries(&bytes).collect();
        assert_eq!(all, [Ok(TestInfo { name: "types", summary: "every type", needs: Needs::STEPS, points: 256 })]);
    }

    #[test]
    fn a_wrong_size_or_version_is_named() {
        let mut bytes = bytes(&TestEntry::new("a", "b", Needs::NONE, 1, 0));
        assert_eq!(entries(&bytes[1..]).next(), Some(Err(EntryError::Size(ENTRY_SIZE - 1))));
        bytes[7] = b'9';
        assert_eq!(entries(&bytes).next(), Some(Err(EntryError::Magic(0))));
    }
}
