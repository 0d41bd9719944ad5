//! The witnesses by name.

use crate::config::names;
use crate::host::kvm;
use crate::witness::{instance, probes};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// A witness on the host's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The kernel's log, and its taint.
    Log,
    /// KVM's statistics of VM and vCPUs (KVM_GET_STATS_FD).
    Stats,
    /// Changes of SPTEs, by trace events of KVM's MMU.
    Sptes,
    /// Zaps of leaves for memory types, by kprobes.
    Zaps,
    /// The trace event `kvm:kvm_msr`.
    Msr,
    /// The trace event `kvm:kvm_cr`.
    Cr,
    /// The trace event `kvm:kvm_exit`.
    Exits,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 7] = [Kind::Log, Kind::Stats, Kind::Sptes, Kind::Zaps, Kind::Msr, Kind::Cr, Kind::Exits];
    /// Those that watch without being asked for, where the host allows it.
    pub const DEFAULT: [Kind; 3] = [Kind::Log, Kind::Stats, Kind::Sptes];

    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Kind::Log => "log",
            Kind::Stats => "stats",
            Kind::Sptes => "sptes",
            Kind::Zaps => "zaps",
            Kind::Msr => "msr",
            Kind::Cr => "cr",
            Kind::Exits => "exits",
        }
    }

    /// What it shows.
    pub const fn shows(self) -> &'static str {
        match self {
            Kind::Log => "the kernel's log and new taint",
            Kind::Stats => "KVM's statistics",
            Kind::Sptes => "SPTE leaves and zaps",
            Kind::Zaps => "calls that zap for memory types, and their ticks",
            Kind::Msr => "RDMSR and WRMSR as KVM sees them",
            Kind::Cr => "moves to control registers as KVM sees them",
            Kind::Exits => "VM exits",
        }
    }

    /// Whether it reads trace events.
    pub const fn traces(self) -> bool {
        matches!(self, Kind::Sptes | Kind::Zaps | Kind::Msr | Kind::Cr | Kind::Exits)
    }

    /// Whether it hears what everybody on the host does, so that cells must run one at a time for it to tell whose it
    /// was.
    pub const fn hears_all(self) -> bool {
        !matches!(self, Kind::Stats)
    }

    /// Whether it can watch on this host guests of machine `machine`.
    ///
    /// # Errors
    /// Why not, and what to do about it.
    pub fn probe(self, machine: &str) -> Result<(), String> {
        match (self, machine) {
            (_, "kvm") | (Kind::Log, "qemu-kvm") => {}
            (Kind::Log, _) => return Err(format!("no KVM runs guests of machine {machine}")),
            _ => return Err("only the machine kvm tells which threads and VMs are its own".to_owned()),
        }
        match self {
            Kind::Log => match super::kmsg::options().open(super::kmsg::KMSG) {
                Ok(_) => Ok(()),
                Err(error) => Err(format!("{} cannot be read ({error}): run as root", super::kmsg::KMSG)),
            },
            Kind::Stats => match kvm::open() {
                Ok(fd) if super::stats::there(&fd) => Ok(()),
                Ok(_) => Err("this KVM has no KVM_CAP_BINARY_STATS_FD (Linux 5.14 brought it)".to_owned()),
                Err(trouble) => Err(trouble.to_string()),
            },
            Kind::Zaps => instance::find().and_then(|tracefs| probes::there(&tracefs)),
            Kind::Sptes | Kind::Msr | Kind::Cr | Kind::Exits => events(&instance::find()?),
        }
    }
}

/// Whether tracefs has events of KVM.
fn events(tracefs: &Path) -> Result<(), String> {
    if tracefs.join("events/kvmmmu").is_dir() {
        Ok(())
    } else {
        Err(format!("{} has no events of KVM: load its modules, or use a kernel with trace events", tracefs.display()))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let hint = || names::hint(word, Kind::ALL.iter().map(|kind| kind.word()).chain([NONE]));
        let known = Kind::ALL.into_iter().find(|kind| kind.word() == word);
        known.ok_or_else(|| format!("unknown witness `{word}`{}", hint()))
    }
}

/// The list without any.
const NONE: &str = "none";

/// A list as `--witness` takes it: words with commas between, or `none`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kinds(pub BTreeSet<Kind>);

impl FromStr for Kinds {
    type Err = String;

    fn from_str(list: &str) -> Result<Self, String> {
        if list == NONE {
            return Ok(Kinds::default());
        }
        list.split(',').map(str::parse).collect::<Result<_, _>>().map(Kinds)
    }
}

impl fmt::Display for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<&str> = self.0.iter().map(|kind| kind.word()).collect();
        f.write_str(if words.is_empty() { NONE.to_owned() } else { words.join(", ") }.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_reads_back() {
        for kinds in [&Kind::ALL[..], &Kind::DEFAULT, &[]] {
            let kinds = Kinds(kinds.iter().copied().collect());
            assert_eq!(kinds.to_string().replace(", ", ",").parse(), Ok(kinds));
        }
        let said = |list: &str| list.parse::<Kinds>().unwrap_err();
        assert_eq!(said("log,spte"), "unknown witness `spte`, did you mean `sptes`?");
        assert!(said("").starts_with("unknown witness ``, expected one of `log`"), "{}", said(""));
        assert!(said("none,log").contains("unknown witness `none`"));
    }

    #[test]
    fn only_kvm_has_witnesses_of_kvm() {
        for kind in Kind::ALL {
            assert!(kind.probe("qemu-tcg").is_err());
            assert!(kind == Kind::Log || kind.probe("qemu-kvm").is_err());
        }
    }
}
