//! What accesses to one page by two ways saw of each other: coherence of aliases, and the order of stores.

use crate::text::{self, TextError};
use core::str::FromStr;

/// Who accesses a page, and by which mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// A vCPU at CPL 3, by a leaf of the guest's page tables that selects this entry of the PAT, 0 to 7.
    Guest {
        /// The vCPU.
        cpu: u8,
        /// The entry.
        pat_entry: u8,
    },
    /// The VMM by its own mapping, the HVA.
    Host,
}

/// What is done between a store and a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Between {
    /// Nothing.
    Nothing,
    /// MFENCE by the vCPU that stored, or, where the host has a part, what it takes to get there or back.
    Fence,
    /// MFENCE, CLFLUSH of the line and MFENCE by the guest.
    Clflush,
    /// The same by the host.
    HostClflush,
    /// MFENCE, and WBINVD at CPL 0.
    Wbinvd,
    /// MFENCE, and INVD at CPL 0.
    Invd,
}

impl Between {
    /// All of them.
    pub const ALL: [Between; 6] =
        [Between::Nothing, Between::Fence, Between::Clflush, Between::HostClflush, Between::Wbinvd, Between::Invd];

    pub(crate) const fn word(self) -> &'static str {
        match self {
            Between::Nothing => "-",
            Between::Fence => "fence",
            Between::Clflush => "clflush",
            Between::HostClflush => "host-clflush",
            Between::Wbinvd => "wbinvd",
            Between::Invd => "invd",
        }
    }
}

/// Stores to the lines of a page of RAM by one mapping, and after each a load of the same eight bytes by the same or
/// another one. Each store stores another value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aliased {
    /// Guest-physical address of the page.
    pub gpa: u64,
    /// Who stores.
    pub store: Side,
    /// Who loads.
    pub load: Side,
    /// What is done in between.
    pub between: Between,
    /// Loads that gave the value stored right before.
    pub new: u32,
    /// Loads that gave a value that the same bytes held earlier.
    pub stale: u32,
    /// Loads that gave something that was never stored there.
    pub other: u32,
    /// Whether a #MC came meanwhile.
    pub machine_check: bool,
    /// Time-stamp counter ticks of all WBINVD or INVD among them; 0 where there is none.
    pub ticks: u64,
}

/// A vCPU stores a number to one line of a page and then to another, and so on with the next number, while another
/// vCPU loads the second and then the first: message passing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ordered {
    /// Guest-physical address of the page.
    pub gpa: u64,
    /// The vCPU that stores.
    pub writer: u8,
    /// The vCPU that loads.
    pub reader: u8,
    /// The entry of the PAT, 0 to 7, by which both map the page.
    pub pat_entry: u8,
    /// MFENCE stands between the stores, and between the loads.
    pub fenced: bool,
    /// Pairs of loads.
    pub samples: u32,
    /// Of these, the ones whose first load gave another number than that of the pair before: so often the vCPUs were
    /// seen to run at the same time, or nearly.
    pub moved: u32,
    /// Of these, the ones whose second load gave an older number than the first.
    pub reordered: u32,
}

/// `0:6` is vCPU 0 by entry 6.
impl FromStr for Side {
    type Err = TextError;

    fn from_str(s: &str) -> Result<Self, TextError> {
        if s == "host" {
            return Ok(Side::Host);
        }
        let (cpu, entry) = s.split_once(':').ok_or_else(|| TextError::new("who accesses", s))?;
        Ok(Side::Guest { cpu: text::hex(cpu, "a vCPU index")?, pat_entry: pat_entry(entry)? })
    }
}

/// The number of an entry of the PAT.
pub(crate) fn pat_entry(word: &str) -> Result<u8, TextError> {
    match text::hex(word, "an entry of the PAT")? {
        entry @ 0..=7 => Ok(entry),
        _ => Err(TextError::new("an entry of the PAT", word)),
    }
}
