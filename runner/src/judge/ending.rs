//! How a VM ended, as a kind: what deviations speak of.

use crate::machine::End;
use serde::{Deserialize, Serialize};
use wire::layout::EXIT_DONE;

/// A kind of ending that no guest asks for. Deviations speak of kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndKind {
    /// The guest met an exception that it did not ask for, or gave up.
    Dead,
    /// The guest wrote another value than that for a good end.
    Exit,
    /// KVM_EXIT_SHUTDOWN.
    Shutdown,
    /// KVM_EXIT_HLT.
    Halt,
    /// KVM_EXIT_INTERNAL_ERROR.
    InternalError,
    /// KVM_EXIT_FAIL_ENTRY.
    FailEntry,
    /// Another exit.
    Unexpected,
}

/// Why KVM gave up: `KVM_INTERNAL_ERROR_*` of include/uapi/linux/kvm.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Suberror {
    /// An instruction that its emulator does not know.
    Emulation = 1,
    /// Two exceptions at once that it could not merge.
    SimultaneousExceptions = 2,
    /// An exit while an event was delivered.
    EventDelivery = 3,
    /// An exit reason that it does not know.
    UnexpectedExitReason = 4,
}

/// The kind of an ending; nothing for one that the guest asked for, and for those that the judge times or counts out.
pub fn kind(end: &End) -> Option<EndKind> {
    match end {
        End::Exit(EXIT_DONE) | End::Timeout { .. } | End::Flood => None,
        End::Exit(_) => Some(EndKind::Exit),
        End::Shutdown => Some(EndKind::Shutdown),
        End::Halt => Some(EndKind::Halt),
        End::InternalError { .. } => Some(EndKind::InternalError),
        End::FailEntry { .. } => Some(EndKind::FailEntry),
        End::Unexpected(_) => Some(EndKind::Unexpected),
    }
}
