//! What a host can tell, one line for each group of tests.

use super::report::Emulators;
use crate::host::Host;
use crate::host::kvm::Kvm;
use crate::host::quirks::IGNORE_GUEST_PAT;
use crate::witness::Kind;
use serde::Serialize;

/// How far a group of tests can be decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Can {
    /// All of it.
    Yes,
    /// Some of it.
    Partly,
    /// Nothing that says anything about KVM.
    No,
}

impl Can {
    /// As a table shows it.
    pub const fn word(self) -> &'static str {
        match self {
            Can::Yes => "yes",
            Can::Partly => "partly",
            Can::No => "no",
        }
    }
}

/// A group of tests and whether this host can decide it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Answer {
    /// The group of tests.
    pub what: &'static str,
    /// Whether.
    pub can: Can,
    /// The test families in it, or what limits them.
    pub why: String,
}

impl Answer {
    fn new(what: &'static str, can: Can, why: impl Into<String>) -> Answer {
        Answer { what, can, why: why.into() }
    }
}

/// How guest memory is translated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Paging {
    Ept,
    Npt,
    Shadow,
    /// A vendor module that runs guests in software.
    Software,
    Unknown,
}

/// How this host's KVM translates guest memory, by its vendor module and that one's parameters.
pub(super) fn paging(host: &Host) -> Paging {
    let hardware = |parameter, kind| match host.modules.is_on(parameter) {
        Some(true) => kind,
        Some(false) => Paging::Shadow,
        None => Paging::Unknown,
    };
    match host.modules.vendor.as_deref() {
        Some("kvm_intel") => hardware("kvm_intel.ept", Paging::Ept),
        Some("kvm_amd") => hardware("kvm_amd.npt", Paging::Npt),
        Some("kvm_pvm") => Paging::Software,
        _ => Paging::Unknown,
    }
}

/// What the host can tell, the most telling first.
pub(super) fn answers(host: &Host, emulators: &Emulators) -> Vec<Answer> {
    let Ok(kvm) = &host.kvm else { return without_kvm(emulators) };
    vec![
        memory_types(host, kvm),
        Answer::new("registers", Can::Yes, "mtrr-msr, pat-msr, cr0-cache, smp; msr-host through KVM's ioctls"),
        Answer::new("machine checks", Can::Yes, format!("mc, up to {} banks", kvm.mce_banks)),
        if kvm.readonly_memslots {
            Answer::new("MMIO and memslots", Can::Yes, "mmio")
        } else {
            Answer::new("MMIO and memslots", Can::Partly, "mmio, without read-only memslots")
        },
        match (paging(host), host.rights.blind.get(&Kind::Sptes)) {
            (Paging::Software | Paging::Shadow, _) => {
                Answer::new("SPTE leaves", Can::No, "this paging keeps no memory type in its SPTEs")
            }
            (Paging::Npt, _) => Answer::new("SPTE leaves", Can::No, "NPT leaves hold no memory type"),
            (Paging::Unknown, _) => Answer::new("SPTE leaves", Can::No, "whether they hold a memory type is not known"),
            (Paging::Ept, None) => Answer::new("SPTE leaves", Can::Yes, "a second witness, by trace events"),
            (Paging::Ept, Some(_)) => {
                Answer::new("SPTE leaves", Can::No, "tracefs is out of reach, so timing is the only witness")
            }
        },
    ]
}

fn memory_types(host: &Host, kvm: &Kvm) -> Answer {
    let what = "effective types";
    match paging(host) {
        Paging::Ept if kvm.quirks & IGNORE_GUEST_PAT != 0 => {
            Answer::new(what, Can::Yes, "EPT; guest PAT counts once quirk IGNORE_GUEST_PAT is disabled")
        }
        Paging::Ept => Answer::new(what, Can::Partly, "EPT; guest settings count only with non-coherent DMA"),
        Paging::Npt => Answer::new(what, Can::Yes, "NPT; guest PAT always counts"),
        Paging::Shadow => Answer::new(what, Can::Partly, "shadow paging; guest PAT and MTRRs do not count"),
        Paging::Software => Answer::new(what, Can::No, "software paging; guest memory types have no effect"),
        Paging::Unknown => Answer::new(what, Can::Partly, "how this KVM translates guest memory is not known"),
    }
}

fn without_kvm(emulators: &Emulators) -> Vec<Answer> {
    let mut answers = vec![Answer::new("KVM", Can::No, "it cannot be used here")];
    if emulators.tcg.is_ok() {
        answers.push(Answer::new(
            "QEMU's emulation",
            Can::Partly,
            "registers on qemu-tcg: a negative control, not KVM",
        ));
    }
    answers
}
