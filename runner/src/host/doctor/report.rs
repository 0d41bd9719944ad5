//! The doctor's report: answers first, then what limits them, then the facts.

use super::answer::{Answer, answers};
use super::sections::sections;
use super::warning::{Warning, warnings};
use crate::host::facts::Facts;
use crate::host::{Host, probe};
use crate::machine::qemu::{Accel, Qemu};
use serde::Serialize;

/// What was found of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// What the host can tell.
    pub answers: Vec<Answer>,
    /// What limits it, each with advice.
    pub warnings: Vec<Warning>,
    /// What was probed, for people.
    pub sections: Vec<Section>,
    /// The facts on which policies are keyed, for machine `kvm`.
    pub facts: Facts,
}

/// Facts of one kind, in lines of a name and a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Section {
    /// Its title.
    pub title: &'static str,
    /// Its lines.
    pub rows: Vec<(String, String)>,
}

/// For each QEMU machine what it is (program, version, CPU model), or why it cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Qemus {
    /// Machine qemu-kvm.
    pub kvm: Result<String, String>,
    /// Machine qemu-tcg.
    pub tcg: Result<String, String>,
}

impl Qemus {
    /// Tries both. Takes about a quarter of a second.
    pub fn probe() -> Qemus {
        let probe = |accel| match Qemu::new(accel) {
            Ok(qemu) => Ok(format!("{} {}, -cpu {}", qemu.path().display(), qemu.version(), qemu.cpu_model())),
            Err(error) => Err(match error.source {
                Some(ref source) => format!("{error}: {source}"),
                None => error.to_string(),
            }),
        };
        Qemus { kvm: probe(Accel::Kvm), tcg: probe(Accel::Tcg) }
    }
}

/// Examines this host.
pub fn examine() -> Report {
    Report::new(&probe(), &Qemus::probe())
}

impl Report {
    /// What follows from what was probed.
    pub fn new(host: &Host, qemus: &Qemus) -> Report {
        Report {
            answers: answers(host, qemus),
            warnings: warnings(host, qemus),
            sections: sections(host, qemus),
            facts: host.facts("kvm"),
        }
    }
}
