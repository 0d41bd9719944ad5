//! Machines that run guests, behind one narrow interface: a job goes in, observations come out.
//!
//! Everything that crosses the interface is plain data, so that a machine can live in a process of its own.

pub mod bochs;
pub mod choose;
pub mod cpio;
mod end;
mod foreign;
pub mod kvm;
pub mod lines;
mod log;
pub mod memfd;
pub mod process;
pub mod program;
pub mod qemu;
pub mod smallest;

use crate::host::facts::Facts;
use crate::plan::vm::VmConfig;
use crate::witness::{Watching, Witnessed};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;
use wire::host::HostRecord;
use wire::needs::Needs;

/// What is to be run: one test of one guest in one VM.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    /// The guest, an ELF file.
    pub elf: &'a [u8],
    /// Run id that the guest puts into its report.
    pub run: u64,
    /// The test's name within its family.
    pub test: &'a str,
    /// What the guest finds as its boot module; none where it is empty. Only the embedded VMM hands it over.
    pub module: &'a [u8],
    /// What the test needs; says how many vCPUs the VM has and whether it has local APICs.
    pub needs: Needs,
    /// The VM's configuration.
    pub vm: &'a VmConfig,
    /// When to give up.
    pub limits: Limits,
    /// The witnesses on the host's side, if any.
    pub watch: Option<&'a dyn Watching>,
}

/// When a machine gives up on a guest.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Wall-clock time from the first instruction on.
    pub timeout: Duration,
    /// Bytes of the log: those on the serial line, and a few for each record of the VMM.
    pub output: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { timeout: Duration::from_secs(10), output: 1 << 20 }
    }
}

impl Limits {
    /// The time that a test gets for each point that it makes, on top.
    const A_POINT: Duration = Duration::from_millis(20);
    /// The time and the bytes that a test gets on top which boots a kernel: under a hypervisor that is emulated itself it takes
    /// minutes.
    const A_KERNEL: (Duration, usize) = (Duration::from_secs(600), 32 << 20);

    /// Those of a test that makes that many points and needs this: a long one is no hung one.
    pub fn for_test(self, points: u64, needs: Needs) -> Limits {
        let mut more = Self::A_POINT.saturating_mul(points.try_into().unwrap_or(u32::MAX));
        let mut output = self.output;
        if needs.has(Needs::LINUX) {
            more = more.saturating_add(Self::A_KERNEL.0);
            output = output.saturating_add(Self::A_KERNEL.1);
        }
        Limits { timeout: self.timeout.saturating_add(more), output }
    }
}

/// All that was observed of a job, in the order in which it happened. No judgement is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observed {
    /// What guest and VMM said.
    pub log: Vec<Line>,
    /// How the VM ended.
    pub end: End,
    /// Time from the making of the VM to its end, in microseconds.
    pub micros: u64,
    /// What the witnesses on the host's side have to say, besides the SPTEs in the log.
    #[serde(default, skip_serializing_if = "Witnessed::is_empty")]
    pub witness: Witnessed,
}

/// A line of a log, and who said it. The origin is the machine's word: a guest cannot forge it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub enum Line {
    /// A line that came over the serial line, whatever is in it. In a results file: `<` and the line.
    Guest(String),
    /// What a Linux guest printed on its console. In a results file: `|` and the line.
    Console(String),
    /// The VMM's own account. In a results file: `>` and the record.
    Host(HostRecord),
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Line::Guest(line) => write!(f, "<{line}"),
            Line::Console(line) => write!(f, "|{line}"),
            Line::Host(record) => write!(f, ">{record}"),
        }
    }
}

impl From<Line> for String {
    fn from(line: Line) -> String {
        line.to_string()
    }
}

impl FromStr for Line {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s.split_at_checked(1) {
            Some(("<", line)) => Ok(Line::Guest(line.to_owned())),
            Some(("|", line)) => Ok(Line::Console(line.to_owned())),
            Some((">", record)) => record.parse().map(Line::Host).map_err(|e| format!("host record {record:?}: {e}")),
            _ => Err(format!("{s:?} is no line of a log: it starts with none of < (guest), > (host) and | (console)")),
        }
    }
}

/// Read where it stands: most lines of a log are records, for which no text need be kept.
impl<'de> Deserialize<'de> for Line {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Line;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a line of a log")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Line, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Text)
    }
}

/// How a VM ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum End {
    /// The guest wrote this value to the exit port.
    Exit(u32),
    /// KVM_EXIT_SHUTDOWN: a triple fault.
    Shutdown,
    /// KVM_EXIT_HLT: the guest halted, and nothing could wake it.
    Halt,
    /// The time was up.
    Timeout {
        /// RIP of the vCPU that boots at that moment, as far as the machine can tell.
        rip: Option<u64>,
    },
    /// The log grew beyond its limit, by the serial line or by host records.
    Flood,
    /// KVM_EXIT_INTERNAL_ERROR: KVM gave up.
    InternalError {
        /// `KVM_INTERNAL_ERROR_*`.
        suberror: u32,
        /// RIP at that moment.
        rip: u64,
        /// The instruction bytes at RIP, as KVM gave them or as read from guest memory; up to 15.
        bytes: Vec<u8>,
    },
    /// KVM_EXIT_FAIL_ENTRY: the CPU refused the guest state.
    FailEntry {
        /// `hardware_entry_failure_reason`.
        reason: u64,
    },
    /// Another exit that no guest of ours makes, in words.
    Unexpected(String),
}

/// A machine could not run a job, through no fault of the guest: the host or the harness is broken.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct MachineError {
    /// What was tried and, where known, what to do about it.
    pub what: String,
    /// What the system said.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Something that runs guests.
pub trait Machine: Sync {
    /// Its name, as given to `--machine`.
    fn name(&self) -> &'static str;

    /// What it is, in words, with its version: results name it.
    fn description(&self) -> String;

    /// Why a test with these needs cannot be done in such a VM here, if so: the reason of a skip.
    fn lacks(&self, needs: Needs, vm: &VmConfig) -> Option<String>;

    /// The facts that are not the host's but this machine's own; they stand over those of the host.
    fn facts(&self) -> Facts {
        Facts::default()
    }

    /// Runs a job to its end, which comes in about `limits.timeout` at the latest.
    ///
    /// # Errors
    /// Only what is the host's or the harness's fault. Whatever the guest does is an [`End`].
    fn run(&self, job: &Job<'_>) -> Result<Observed, MachineError>;
}

/// Why a test whose vCPUs must run at the same time cannot be done by threads of this process and its children, if so.
fn not_parallel(needs: Needs) -> Option<String> {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (needs.has(Needs::PARALLEL) && cpus < needs.cpu_count().into()).then(|| {
        format!(
            "it needs {} vCPUs that run at the same time, and this process may use {cpus} of the host's CPUs",
            needs.cpu_count()
        )
    })
}
