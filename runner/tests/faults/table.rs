//! The table of faults, and the document that is made of it.

use std::fmt::Write;

/// What a row is about; the parts of the document, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    Hang,
    Death,
    Flood,
    Report,
    Device,
    Ioctl,
    Run,
    Host,
    Qemu,
    Killed,
}

impl Group {
    pub const ALL: [Group; 10] = [
        Group::Hang,
        Group::Death,
        Group::Flood,
        Group::Report,
        Group::Device,
        Group::Ioctl,
        Group::Run,
        Group::Host,
        Group::Qemu,
        Group::Killed,
    ];

    fn title(self) -> &'static str {
        match self {
            Group::Hang => "The guest hangs",
            Group::Death => "The guest dies",
            Group::Flood => "The guest floods",
            Group::Report => "The guest's report is none",
            Group::Device => "The guest touches what is not there",
            Group::Ioctl => "An ioctl of KVM fails",
            Group::Run => "KVM_RUN ends otherwise than it should",
            Group::Host => "The host fails",
            Group::Qemu => "QEMU fails",
            Group::Killed => "The run is killed",
        }
    }
}

/// Why a row did not hold.
#[derive(Debug)]
pub enum Miss {
    /// This host cannot inject it, for this reason.
    Skip(String),
    /// The fault was injected, and this is what came of it.
    Wrong(String),
}

/// What injects a fault and looks at what comes of it; gives what was seen.
pub type Check = Box<dyn Fn() -> Result<String, Miss> + Send + Sync>;

/// A fault.
pub struct Row {
    /// Its name, unique.
    pub id: String,
    pub group: Group,
    /// What goes wrong.
    pub fault: String,
    /// How it is made to.
    pub how: String,
    /// What must be seen.
    pub seen: String,
    pub check: Check,
}

impl Row {
    pub fn new(
        group: Group,
        id: &str,
        [fault, how, seen]: [&str; 3],
        check: impl Fn() -> Result<String, Miss> + Send + Sync + 'static,
    ) -> Row {
        let (id, fault, how, seen) = (id.to_owned(), fault.to_owned(), how.to_owned(), seen.to_owned());
        Row { id, group, fault, how, seen, check: Box::new(check) }
    }
}

/// docs/robustness.md.
pub fn page(rows: &[Row]) -> String {
    let mut out = format!("{INTRODUCTION}\nThere are {} rows.\n", rows.len());
    for group in Group::ALL {
        let rows = rows.iter().filter(|row| row.group == group);
        let _ = write!(out, "\n## {}\n\n| | fault | injected by | seen |\n|---|---|---|---|\n", group.title());
        for Row { id, fault, how, seen, .. } in rows {
            let cell = |text: &str| text.replace('|', "\\|");
            let _ = writeln!(out, "| {id} | {} | {} | {} |", cell(fault), cell(how), cell(seen));
        }
    }
    out + "\nThis page is made of the table in `runner/tests/faults`: `SNAPSHOTS=overwrite cargo test --test faults`.\n"
}

const INTRODUCTION: &str = "\
# Faults, and what they cost

A run boots software that may do anything, on a kernel that is under test, on a host that may break. Each fault below is
injected by a test, and each costs its own cell at most, is called by its name, and loses nothing that was measured.

`cargo test --test faults` injects all of them and prints a line for each with what it saw. A fault that a host cannot inject
(no seccomp, no mount namespaces, not root) is a skip with its reason, and is counted. No fault needs a hook in the program:
guests are those of suite `hostile`; system calls are answered by the test in the kernel's place (seccomp with
SECCOMP_RET_USER_NOTIF, over all processes of a run); the rest is done by limits, mounts, signals and programs that are not what
they seem.

Where a cell is an `error` because the host or KVM failed, nothing was measured in it: `run --resume` runs it again. The
test does that for each ioctl, and the run is then equal to one without the fault.
";
