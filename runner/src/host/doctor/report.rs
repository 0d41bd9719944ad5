//! The doctor's report: answers first, then what limits them, then the facts.

use super::answer::{Answer, answers};
use super::sections::sections;
use super::warning::{Warning, warnings};
use crate::execute::chain;
use crate::host::facts::Facts;
use crate::host::{Host, probe};
use crate::machine::Machine;
use crate::machine::bochs::BochsMachine;
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

/// For each machine that is another program what it is (program, version, CPU model), or why it cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Emulators {
    /// Machine qemu-kvm.
    pub kvm: Result<String, String>,
    /// Machine qemu-tcg.
    pub tcg: Result<String, String>,
    /// Machine bochs.
    pub bochs: Result<String, String>,
}

impl Emulators {
    /// Tries each. Takes about a third of a second.
    pub fn probe() -> Emulators {
        let qemu = |accel| match Qemu::new(accel) {
            Ok(qemu) => Ok(format!("{} {}, -cpu {}", qemu.path().display(), qemu.version(), qemu.cpu_model())),
            Err(error) => Err(chain(&error)),
        };
        let bochs = match BochsMachine::new() {
            Ok(machine) => Ok(format!("{} {}", machine.bochs().path.display(), machine.description())),
            Err(error) => Err(chain(&error)),
        };
        Emulators { kvm: qemu(Accel::Kvm), tcg: qemu(Accel::Tcg), bochs }
    }
}

/// Examines this host.
pub fn examine() -> Report {
    Report::new(&probe(), &Emulators::probe())
}

impl Report {
    /// What follows from what was probed.
    pub fn new(host: &Host, emulators: &Emulators) -> Report {
        Report {
            answers: answers(host, emulators),
            warnings: warnings(host, emulators),
            sections: sections(host, emulators),
            facts: host.facts("kvm"),
        }
    }
}
