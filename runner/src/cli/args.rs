//! The command line: verbs and options, from which help, man pages and completions are made.

mod told;

use crate::busy::Loads;
use crate::host::device::Named;
use crate::machine::choose::Wanted;
use crate::plan::shard::Part;
use crate::witness::Kinds;
use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;
use std::num::NonZeroUsize;
use std::path::PathBuf;

pub use told::{Diff, Explain, History, Identify, Judge, Merge, Report, ReportFormat};

/// Which memory type does a KVM guest really get, and is it right?
///
/// Boots tiny guests that program MTRRs, PAT and CR0.CD, and compares what they and the host see with the architecture
/// and with the policy of this host's KVM.
#[derive(Debug, Parser)]
#[command(name = "kvm-memtype", version, after_help = EXIT_CODES, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
    /// Read configurations from this directory too; a file there replaces the built-in one of the same name.
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub config: Option<PathBuf>,
    /// Where the results of runs are.
    #[arg(long, global = true, value_name = "DIR", default_value = "results", value_hint = ValueHint::DirPath)]
    pub results: PathBuf,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  all is as expected
  1  something is not
  2  wrong usage or a wrong configuration
  3  the host or the harness is broken, or the run was interrupted";

const FILTERS: &str = "\
Filters:
  A filter is a cell's id, a pattern with `*`, or a part of ids; several are a union.
    kvm-memtype run pat-msr               every cell whose id has `pat-msr` in it
    kvm-memtype run 'mtrr-msr/*@maxphyaddr-*'
    kvm-memtype run cr0-cache/clwb        exactly that cell

Exit codes:
  0 all is as expected, 1 something is not, 2 wrong usage, 3 the host or the harness is broken";

const FOUND: &str = "\
Each cause is told once, with the shortest history that shows it, as a file and as a cell:
  unknown difference             not as KVM's policy says, and nobody knows why
  known deviation                not as it says, for a known reason
  departure from the architecture  as it says; the SDM, or a fresh leaf, would have it otherwise

Exit codes:
  0  no unknown difference
  1  there is one
  2  wrong usage or a wrong configuration
  3  the host or the harness is broken";

const IDENTIFIED: &str = "\
Every cell is replayed against every policy, whether it governs here or not. What a known deviation
of this host excuses counts as explained, and is named.

Exit codes:
  0  at least one policy explains all
  1  none does, or nothing was decided
  2  wrong usage or a wrong configuration
  3  the run cannot be read";

const COMPARED: &str = "\
A side is a run, or a directory with runs in it, such as that of a boot of the lab. Both are judged
anew, each by the policy that governs it; what was seen is compared whatever the policies say.
  kvm-memtype diff lab-results/20261120T154515Z-6.1 lab-results/20261120T154515Z-6.12

Exit codes:
  0  no cell is newly failing
  1  one is: it is not as expected on the second side, and was on the first
  2  wrong usage or a wrong configuration
  3  a run cannot be read";

const REMEMBERED: &str = "\
Runs are found at any depth, and are the truth: the index is brought up to date each time, and can be
deleted. A cell is held against itself on the same CPU, machine, KVM module and kernel series. It is
slower if its last VM took more than one and a half times the median of at least four runs before with
the same verdict, and lies far beyond their quartiles.

Exit codes:
  0 always, but 2 for wrong usage and 3 for an index or results that cannot be read";

const MERGED: &str = "\
The merged run is a new one in the results directory, like any other, and the shards stay. Shards of
another plan, kernel, CPU, version or way to run are refused. Cells of a shard that is missing were
not run, which is no pass.
  kvm-memtype run --shard 1/2        on one host
  kvm-memtype run --shard 2/2        on another of its kind
  kvm-memtype merge RUN RUN

Exit codes:
  0 all is as expected, 1 something is not, 2 wrong usage, or runs that do not belong together,
  3 a shard is missing or was interrupted, or a run cannot be read";

const PLANTED: &str = "\
Each fault is planted in a cell that passes without it: in the models, in a guest's ELF file, in
what KVM tells it, or in a log, of a boot just made or of one that was recorded on another machine
and is in this program. It is caught if the cell has the verdict that the fault deserves, for that
reason. Without /dev/kvm, faults in recorded cells are planted all the same, and the others are
skipped and counted.

Exit codes:
  0  all faults that could be planted were caught
  1  one was not
  3  the harness is broken";

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run cells, judge them as they come, and keep the results.
    #[command(after_help = FILTERS)]
    Run(Box<Run>),
    /// Run random histories of operations, hold them against the model, and shrink what is not as it says.
    #[command(after_help = FOUND)]
    Fuzz(Box<Fuzz>),
    /// List the cells of a suite, without booting anything.
    #[command(after_help = FILTERS)]
    List(List),
    /// Say what this host is and which tests it can decide.
    Doctor(Doctor),
    /// Show the verdicts of a run again, or the leaf SPTEs or the costs of boots of several.
    Report(Report),
    /// Show one cell of a run in full: what was done, seen and expected, by which model and why.
    Explain(Explain),
    /// Say which known policies explain all that a run saw, and what rules the others out.
    #[command(after_help = IDENTIFIED)]
    Identify(Identify),
    /// Compare two runs: newly failing cells first, then what guests saw otherwise, by what it has in common.
    #[command(after_help = COMPARED)]
    Diff(Diff),
    /// Say since when, how often and how long, over all runs under the results directory.
    #[command(after_help = REMEMBERED)]
    History(History),
    /// Put the runs of the shards of a plan together, and judge them as one run.
    #[command(after_help = MERGED)]
    Merge(Merge),
    /// Judge a run again with the present models, or judge a serial log on standard input.
    Judge(Judge),
    /// Plan the work of a lab of many machines.
    Fleet(Fleet),
    /// Plant faults of model, guest, VMM and witnesses one by one, and show that each is noticed.
    #[command(after_help = PLANTED)]
    Selftest(Selftest),
    /// Measure this build: VMs against bare ioctls, cells a second, sizes.
    Bench(Bench),
    /// Write the guests' ELF files to a directory, to run them by hand.
    Extract(Extract),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Be a process that makes VMMs, of which the runner starts one itself.
    #[command(hide = true, name = crate::vmm::VERB)]
    Vmm,
    /// Write the man pages to a directory.
    Man {
        /// The directory; it is made if it is not there.
        #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
        dir: PathBuf,
    },
}

/// Which cells.
#[derive(Debug, Args)]
pub struct Cells {
    /// Only cells that one of these picks.
    #[arg(value_name = "FILTER")]
    pub filters: Vec<String>,
    /// The suite.
    #[arg(long, default_value = "default", value_name = "NAME")]
    pub suite: String,
    /// Only this part of the cells: 2/4 is the second of four. `merge` puts the runs of all parts together.
    #[arg(long, value_name = "N/OF")]
    pub shard: Option<Part>,
    /// Make parts that take the same time by what their cells took in this run, which must be the same for all parts.
    /// Without it cells count by their points.
    #[arg(long, value_name = "RUN", requires = "shard")]
    pub balance: Option<String>,
}

/// How to judge.
#[derive(Debug, Clone, Copy, Args)]
pub struct Judging {
    /// Excuse no known deviation: what would be `xfail` is `fail`.
    #[arg(long)]
    pub no_deviations: bool,
}

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Which cells.
    #[command(flatten)]
    pub cells: Cells,
    /// The machine. Without it: /dev/kvm, or QEMU TCG where no KVM runs a guest.
    #[arg(long, value_enum)]
    pub machine: Option<Wanted>,
    /// How to judge.
    #[command(flatten)]
    pub judging: Judging,
    /// Judge by this policy in place of the one that is selected by what is probed, now and whenever the run is judged
    /// again: for a KVM that is not as released.
    #[arg(long, value_name = "NAME", conflicts_with = "resume")]
    pub policy: Option<String>,
    /// End the run at the first cell that is not as expected. Cells that have begun are finished.
    #[arg(long, conflicts_with_all = ["resume", "repeat"])]
    pub fail_fast: bool,
    /// Cells at a time.
    #[arg(short, long, value_name = "N", default_value = "1")]
    pub jobs: NonZeroUsize,
    /// Witnesses on the host's side: a list of log, stats, sptes, zaps, msr, cr and exits, or `none`. Without it: log,
    /// stats and sptes, and those that the suite names, as far as the host allows.
    #[arg(long, value_name = "LIST")]
    pub witness: Option<Kinds>,
    /// Seconds after which a guest is given up, and 20 ms more for each point that its test makes, 600 s more for a kernel.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub timeout: u64,
    /// How to print.
    #[arg(long, value_enum, default_value = "human")]
    pub format: Format,
    /// Go on with this run (a directory, its name, or `latest`): only cells without a result are run.
    #[arg(long, value_name = "RUN", conflicts_with_all = ["filters", "suite", "shard"])]
    pub resume: Option<String>,
    /// Run all cells so many times, and say which had another verdict, or saw something else, from one time to the next.
    /// Such a cell is no pass.
    #[arg(long, value_name = "N", default_value = "1", conflicts_with_all = ["resume", "shard"])]
    pub repeat: NonZeroUsize,
    /// Keep the host busy meanwhile. Without a list, or with `cpu`: a thread spins on each CPU that the boot vCPU does not
    /// use; where there is one CPU only, on that one. `shared`: one spins on the boot vCPU's CPU. `memory`: one on each
    /// other CPU takes memory, writes to it and gives it back. `realtime`: a real-time thread takes the boot vCPU's CPU
    /// away half of the time; takes CAP_SYS_NICE.
    #[arg(long, value_name = "LIST", num_args = 0..=1, require_equals = true, default_missing_value = "cpu")]
    pub busy: Option<Loads>,
    /// The host's devices that VMs may be given.
    #[command(flatten)]
    pub devices: Named,
}

/// Arguments of `fuzz`.
#[derive(Debug, Args)]
pub struct Fuzz {
    /// Only in the VMs of suite `fuzz` that one of these picks, such as `*@non-coherent-dma`.
    #[arg(value_name = "FILTER", conflicts_with = "replay")]
    pub filters: Vec<String>,
    /// What histories are drawn by: the same number draws the same ones on the same KVM. Without it another each time,
    /// which is said.
    #[arg(long, value_name = "N", conflicts_with = "replay")]
    pub seed: Option<u64>,
    /// Seconds after which no history is drawn any more.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = clap::value_parser!(u64).range(1..=604_800))]
    pub time: u64,
    /// The most histories.
    #[arg(long, value_name = "N")]
    pub histories: Option<u64>,
    /// The most vCPUs of a history.
    #[arg(long, value_name = "N", default_value = "2", value_parser = clap::value_parser!(u8).range(1..=8))]
    pub vcpus: u8,
    /// End at the first history that shows an unknown difference, and shrink none: for who only asks whether there is one.
    #[arg(long, conflicts_with = "replay")]
    pub fail_fast: bool,
    /// Run the history in this file, and no other.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub replay: Option<PathBuf>,
    /// Judge by this policy, not by the one that what was probed selects.
    #[arg(long, value_name = "NAME")]
    pub policy: Option<String>,
    /// How to judge.
    #[command(flatten)]
    pub judging: Judging,
    /// Witnesses on the host's side, as for `run`.
    #[arg(long, value_name = "LIST")]
    pub witness: Option<Kinds>,
    /// Seconds after which a guest is given up.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub timeout: u64,
    /// How to print.
    #[arg(long, value_enum, default_value = "human")]
    pub format: Format,
    /// The host's devices that VMs may be given.
    #[command(flatten)]
    pub devices: Named,
}

/// Arguments of `list`.
#[derive(Debug, Args)]
pub struct List {
    /// Which cells.
    #[command(flatten)]
    pub cells: Cells,
    /// How to print.
    #[arg(long, value_enum, default_value = "human")]
    pub format: Format,
}

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    /// How to print.
    #[arg(long, value_enum, default_value = "human")]
    pub format: Format,
}

/// Arguments of `selftest`.
#[derive(Debug, Args)]
pub struct Selftest {
    /// How to print. JSON has a line for each fault.
    #[arg(long, value_enum, default_value = "human")]
    pub format: Format,
}

/// Arguments of `bench`.
#[derive(Debug, Args)]
pub struct Bench {
    /// Measure no VMs, but what it costs to read, judge and show a run of very many cells: those of RUN (a run, or a directory
    /// of runs of one host) under new ids, next to a plain JSON parser on the same file.
    #[arg(long, value_name = "RUN")]
    pub report: Option<String>,
    /// How many cells that run has.
    #[arg(long, value_name = "N", default_value = "200000", requires = "report")]
    pub cells: NonZeroUsize,
    /// Where the run and its report are left. Without it they are removed.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, requires = "report")]
    pub keep: Option<PathBuf>,
}

/// Arguments of `extract`.
#[derive(Debug, Args)]
pub struct Extract {
    /// The directory; it is made if it is not there.
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub dir: PathBuf,
}

/// Arguments of `fleet`.
#[derive(Debug, Args)]
pub struct Fleet {
    /// What to do.
    #[command(subcommand)]
    pub verb: FleetVerb,
}

/// The verbs of `fleet`.
#[derive(Debug, Subcommand)]
pub enum FleetVerb {
    /// Write a LAVA job for each host, kernel and shard of a fleet.
    Plan {
        /// The fleet: a TOML file of hosts, kernels and suites.
        #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
        file: PathBuf,
        /// Where the jobs go, HOST-KERNEL.yaml each; it is made if it is not there.
        #[arg(long, value_name = "DIR", default_value = "jobs", value_hint = ValueHint::DirPath)]
        output: PathBuf,
    },
}
