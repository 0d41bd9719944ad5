//! What a planted fault is: where it is, how it gets there, and what it deserves.

use crate::judge::Verdict;
use crate::machine::Observed;
use crate::machine::kvm::Lie;
use serde::Serialize;
use std::fmt;

/// What is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// What the suite expects: policies and deviations.
    Model,
    /// The guest, or its report.
    Guest,
    /// The VMM or the KVM below it.
    Vmm,
    /// A witness on the host's side, or the times that the guest took.
    Witness,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Place::Model => "model",
            Place::Guest => "guest",
            Place::Vmm => "VMM",
            Place::Witness => "witness",
        })
    }
}

/// How a fault gets to its place. Those that change something say whether they found it.
#[derive(Debug, Clone, Copy)]
pub enum Plant {
    /// In the text of all policies.
    Policies {
        /// What stands there.
        from: &'static str,
        /// What shall stand there.
        to: &'static str,
    },
    /// Another policy governs.
    Governs(&'static str),
    /// One more deviation, as TOML.
    Deviation(&'static str),
    /// In the guest's ELF file, before it boots.
    Elf(fn(&mut [u8]) -> bool),
    /// In what KVM tells the guest.
    Kvm(Lie),
    /// In what was observed. The guest's run id is what its checksums are over.
    Log(fn(&mut Observed, u64) -> bool),
}

/// A fault, in one cell.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    /// In words.
    pub what: &'static str,
    /// What is at fault.
    pub place: Place,
    /// The cell; one that was recorded, or any other for the KVM here.
    pub cell: &'static str,
    /// How it gets there.
    pub plant: Plant,
    /// The verdict that it deserves.
    pub verdict: Verdict,
    /// What the reason must say: a fault that is noticed as another one is not found.
    pub word: &'static str,
}
