//! The embedded guests and the tests that they list.

use crate::plan::TestRef;
use crc::{CRC_64_XZ, Crc};
use object::{Object, ObjectSection};
use wire::entry;

/// A guest binary.
#[derive(Debug, Clone, Copy)]
pub struct Guest {
    /// The test family, which is the binary's name.
    pub family: &'static str,
    /// The ELF file.
    pub elf: &'static [u8],
}

impl Guest {
    /// CRC-64/XZ of the ELF file in hexadecimal: tells builds apart, proves nothing.
    pub fn digest(&self) -> String {
        format!("{:016x}", CRC.checksum(self.elf))
    }
}

static CRC: Crc<u64> = Crc::<u64>::new(&CRC_64_XZ);

/// A guest's ELF file does not list tests as it should.
#[derive(Debug, thiserror::Error)]
#[error("guest {family}: {what}")]
pub struct GuestError {
    family: &'static str,
    what: String,
}

static GUESTS: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/guests.rs"));

/// All guests, by family.
pub fn all() -> impl Iterator<Item = Guest> {
    GUESTS.iter().map(|&(family, elf)| Guest { family, elf })
}

/// The guest of that family.
pub fn find(family: &str) -> Option<Guest> {
    all().find(|guest| guest.family == family)
}

/// The tests of all guests, read from their ELF sections without booting anything.
///
/// # Errors
/// A guest without the section, or with one of another version.
pub fn tests() -> Result<Vec<TestRef>, GuestError> {
    all().map(|guest| listed(guest.family, guest.elf)).collect::<Result<Vec<_>, _>>().map(|lists| lists.concat())
}

/// The tests of a family that an ELF file lists.
///
/// # Errors
/// It is none, is without the section, or has one of another version.
pub fn listed(family: &'static str, elf: &[u8]) -> Result<Vec<TestRef>, GuestError> {
    let wrong = |what: String| GuestError { family, what };
    let file = object::File::parse(elf).map_err(|error| wrong(error.to_string()))?;
    let section = file.section_by_name(entry::SECTION);
    let section = section.ok_or_else(|| wrong(format!("it has no section {}", entry::SECTION)))?;
    let bytes = section.data().map_err(|error| wrong(error.to_string()))?;
    let test = |info: Result<entry::TestInfo<'_>, entry::EntryError>| {
        let info = info.map_err(|error| wrong(error.to_string()))?;
        let entry::TestInfo { name, summary, needs, points } = info;
        let (name, summary) = (name.to_owned(), summary.to_owned());
        Ok(TestRef { family: family.to_owned(), name, summary, needs, points })
    };
    entry::entries(bytes).map(test).collect()
}
