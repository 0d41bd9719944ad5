//! How a VM ended, in words and as a kind.

use crate::machine::End;
use serde::{Deserialize, Serialize};
use wire::layout::{EXIT_DONE, EXIT_PANIC};

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

/// An ending as a sentence, without full stop.
pub fn words(end: &End) -> String {
    match end {
        End::Exit(EXIT_DONE) => "the guest ended".into(),
        End::Exit(EXIT_PANIC) => "the guest gave up without saying why".into(),
        End::Exit(value) => format!("the guest wrote {value:#x} to the exit port, which means nothing"),
        End::Shutdown => "the VM shut down on a triple fault (KVM_EXIT_SHUTDOWN)".into(),
        End::Halt => "the guest halted and nothing could wake it (KVM_EXIT_HLT)".into(),
        End::Timeout { rip: Some(rip) } => format!("the time was up; the boot vCPU was at RIP {rip:#x}"),
        End::Timeout { rip: None } => "the time was up".into(),
        End::Flood => "flood: the serial line carried more than allowed".into(),
        End::InternalError { suberror, rip, bytes } => {
            let bytes: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let bytes = if bytes.is_empty() { "not known".into() } else { bytes.join(" ") };
            let name = suberror_name(*suberror);
            format!("KVM gave up (KVM_EXIT_INTERNAL_ERROR, {name}) at RIP {rip:#x}, instruction bytes {bytes}")
        }
        End::FailEntry { reason } => {
            format!("the CPU refused the guest's state (KVM_EXIT_FAIL_ENTRY, hardware reason {reason:#x})")
        }
        End::Unexpected(what) => format!("the VM ended with an exit that no guest of ours makes: {what}"),
    }
}

/// `KVM_INTERNAL_ERROR_*` of include/uapi/linux/kvm.h.
fn suberror_name(suberror: u32) -> String {
    match suberror {
        1 => "emulation failed".into(),
        2 => "simultaneous exceptions".into(),
        3 => "while delivering an event".into(),
        4 => "unexpected exit reason".into(),
        other => format!("suberror {other}"),
    }
}
