//! The command line of the lab.

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// Runs kvm-memtype on stock and local kernels, each with its own KVM, in an emulated VMX or SVM machine.
#[derive(Debug, Parser)]
#[command(name = "lab", version, after_help = EXIT_CODES, max_term_width = 100)]
pub struct Lab {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
    /// Read files of kernels from this directory too; one of the name of another replaces it.
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub kernels: Option<PathBuf>,
    /// Read patches from this directory too; one of the name of another replaces it.
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub patches: Option<PathBuf>,
}

const EXIT_CODES: &str = "\
Exit codes; of several kernels the highest that applies in the order 3, 4, 1:
  0  all is as expected
  1  something in a suite is not
  2  wrong usage or a wrong configuration
  3  the host or the harness is broken, packages cannot be had, or the run was interrupted
  4  a kernel did not come to its end: it panicked, hung or was reset";

const NAMES: &str = "\
A kernel is the name of a file in ci/kernels, and words for this boot after commas:
  lab run 6.1 6.12 7.2
  lab run 7.2,clearcpuid=ss               a word for the kernel's command line
  lab run 6.12,kvm_intel.ept=0            a parameter of a module of KVM
  lab run 6.12,cpu=corei7_skylake_x       a CPU model of the emulator
  lab run 6.1+PATCH                       its KVM with a patch of ci/kernels/patches
  lab run --tree ~/linux --suite memtype  what `make` left in a tree
  lab run 6.1 -- pat-msr --jobs 2         what is behind -- goes to `kvm-memtype run`";

const SURVIVED: &str = "\
Exit codes:
  0  each mutant was killed or has a reason to survive, and each stock KVM is as expected
  1  one survived without a reason, or one with a reason was killed, or a stock KVM is not as expected
  2  wrong usage, or a mistake in a mutant's file
  3  the host or the harness is broken, or a mutant does not apply or build";

const PROPOSED: &str = "\
  honoured  what the proposal says, and kernels without it do not
  ignored   what kernels without it do
  refused   this KVM has nothing by which it could be asked for
  wrong     something else
Each with the number of cells behind it; cells that tell nothing are not counted.

Exit codes: those of `lab run` where kernels are booted, else 0.";

const BISECTED: &str = "\
  git bisect run lab bisect . -- memtype/default-type

Exit codes, as git bisect has them:
  0    good: all is as expected
  1    bad: something is not, or the kernel died in a suite
  125  it cannot be told: the tree does not build, does not boot, or its KVM does not load
  128  stop: wrong usage, or the host or the harness is broken";

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Boot kernels, run suites in each, and bring the results back.
    #[command(after_help = NAMES)]
    Run(Box<Run>),
    /// Fetch and unpack kernels, so that `run` needs no network.
    Fetch(FetchArgs),
    /// Build Bochs, so that `run` and `kvm-memtype run --machine bochs` find it.
    Bochs(BochsArgs),
    /// Build KVMs that are wrong on purpose, run suites on each, and say which notices it: the mutants of
    /// ci/kernels/mutants.
    #[command(after_help = SURVIVED)]
    Mutants(Mutants),
    /// Tell what stock and patched kernels do of each proposal for KVM in ci/kernels/proposals, in a table in Markdown.
    #[command(after_help = PROPOSED)]
    Proposals(Proposals),
    /// Tell what MTRRs cost kernels while a guest boots: zaps, SPTEs, ticks and time side by side, as tables in Markdown.
    Zaps(Zaps),
    /// Build a kernel's tree and run suites on it, for `git bisect run`.
    #[command(after_help = BISECTED)]
    Bisect(Bisect),
    /// List the kernels, what is cached of them, and the patches.
    List,
    /// Say what this host lacks for the lab.
    Doctor,
}

/// An emulated machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Machine {
    /// Bochs, built here: VMX with memory types and a model of their timing.
    Bochs,
    /// Bochs as Debian ships it: VMX without timing, and slower.
    StockBochs,
    /// QEMU's SVM with nested paging: AMD, without memory types.
    QemuSvm,
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Machine::Bochs => "bochs",
            Machine::StockBochs => "stock-bochs",
            Machine::QemuSvm => "qemu-svm",
        })
    }
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Kernels, each with words for its variant.
    #[arg(value_name = "KERNEL")]
    pub names: Vec<String>,
    /// A kernel of one's own, a bzImage or vmlinux.
    #[arg(long, value_name = "FILE", requires = "modules", value_hint = ValueHint::FilePath)]
    pub bzimage: Option<PathBuf>,
    /// Where its modules are, at any depth.
    #[arg(long, value_name = "DIR", requires = "bzimage", value_hint = ValueHint::DirPath)]
    pub modules: Option<PathBuf>,
    /// A source tree in which `make` was run.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub tree: Vec<PathBuf>,
    /// A word for the command line of each kernel.
    #[arg(long, value_name = "WORD")]
    pub cmdline: Vec<String>,
    /// A parameter of a module for each kernel, such as `kvm_intel.ept=0`.
    #[arg(long, value_name = "MODULE.NAME=VALUE")]
    pub module_param: Vec<String>,
    /// The CPU model, in the emulator's words.
    #[arg(long, value_name = "MODEL")]
    pub cpu: Option<String>,
    /// How they are booted.
    #[command(flatten)]
    pub booting: Booting,
    /// Kernels at a time; without it two per CPU of this host. Each takes half a GiB.
    #[arg(short, long, value_name = "N")]
    pub jobs: Option<NonZeroUsize>,
    /// Suites, run one after the other in one boot.
    #[arg(long, value_name = "NAME", value_delimiter = ',', default_value = "default,memtype")]
    pub suite: Vec<String>,
    /// Run each suite so many times in the machine, and say which cells were not the same each time. Such a cell is no
    /// pass.
    #[arg(long, value_name = "N", default_value = "1")]
    pub repeat: NonZeroUsize,
    /// Keep the machine's CPUs busy meanwhile: those that the boot vCPU does not use or, where there is one, that one.
    #[arg(long)]
    pub busy: bool,
    /// Run the destructive cells of this target in the machine, which is an emulated one: vga-hole, apic-page or the
    /// address of a PCI device.
    #[arg(long, value_name = "TARGET")]
    pub destructive: Vec<String>,
    /// Arguments for `kvm-memtype run` in the machine.
    #[arg(last = true, value_name = "ARGUMENT")]
    pub arguments: Vec<String>,
}

impl Run {
    /// These kernels with this suite and these arguments, and nothing else.
    pub fn of(
        names: Vec<String>,
        suite: &str,
        arguments: &[String],
        jobs: Option<NonZeroUsize>,
        booting: Booting,
    ) -> Run {
        Run {
            names,
            bzimage: None,
            modules: None,
            tree: Vec::new(),
            cmdline: Vec::new(),
            module_param: Vec::new(),
            cpu: None,
            booting,
            jobs,
            suite: vec![suite.to_owned()],
            repeat: NonZeroUsize::MIN,
            busy: false,
            destructive: Vec::new(),
            arguments: arguments.to_vec(),
        }
    }

    /// All arguments for `kvm-memtype run` in the machine.
    pub fn inner(&self) -> Vec<String> {
        let repeat = (self.repeat.get() > 1).then(|| ["--repeat".to_owned(), self.repeat.to_string()]);
        let busy = self.busy.then(|| "--busy".to_owned());
        let destructive = self.destructive.iter().flat_map(|target| ["--destructive".to_owned(), target.clone()]);
        repeat.into_iter().flatten().chain(busy).chain(destructive).chain(self.arguments.iter().cloned()).collect()
    }
}

/// How a kernel is booted, and for how long.
#[derive(Debug, Clone, Args)]
pub struct Booting {
    /// The machine.
    #[arg(long, value_enum, default_value = "bochs")]
    machine: Machine,
    /// How to come by Bochs.
    #[command(flatten)]
    pub bochs: BochsArgs,
    /// Run on AMD: the same as `--machine qemu-svm`.
    #[arg(long, conflicts_with = "machine")]
    amd: bool,
    /// Where results go.
    #[arg(long, value_name = "DIR", default_value = "lab-results", value_hint = ValueHint::DirPath)]
    pub results: PathBuf,
    /// Look for newer packages although some are cached.
    #[arg(long)]
    pub newest: bool,
    /// Seconds without a sign of life after which a kernel counts as hung: a cell that ends, or before the first suite
    /// something on the console.
    #[arg(long, value_name = "SECONDS", default_value = "120", value_parser = clap::value_parser!(u64).range(1..))]
    pub silence: u64,
    /// Seconds after which a kernel that is not done counts as hung, whatever it does.
    #[arg(long, value_name = "SECONDS", default_value = "1800", value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: u64,
}

impl Booting {
    /// The machine that is asked for.
    pub fn machine(&self) -> Machine {
        if self.amd { Machine::QemuSvm } else { self.machine }
    }
}

/// Arguments of `mutants`.
#[derive(Debug, Args)]
pub struct Mutants {
    /// Mutants by name, as `no-zap` or, of one kernel, `no-zap.6.1`; without any all.
    #[arg(value_name = "MUTANT")]
    pub names: Vec<String>,
    /// Read mutants from this directory instead.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub mutants: Option<PathBuf>,
    /// Leave out the stock KVM of each kernel, which is built and run in the same way and must be as expected.
    #[arg(long)]
    pub no_control: bool,
    /// Run all cells of the suites on each mutant, not only up to the first that kills it.
    #[arg(long)]
    pub all: bool,
    /// Run no suite, but so many seconds of random histories (`kvm-memtype fuzz`) on each, by the machine's clock, up to the
    /// first that shows what no policy and no deviation explains.
    #[arg(long, value_name = "SECONDS", conflicts_with = "all", value_parser = clap::value_parser!(u64).range(1..=604_800))]
    pub fuzz: Option<u64>,
    /// What histories are drawn by.
    #[arg(long, value_name = "N", default_value = "1", requires = "fuzz")]
    pub seed: u64,
    /// Mutants at a time; without it one per CPU of this host. Each takes half a GiB.
    #[arg(short, long, value_name = "N")]
    pub jobs: Option<NonZeroUsize>,
    /// How to print the sum.
    #[arg(long, value_enum, default_value = "human")]
    pub format: MutantsFormat,
    /// How they are booted.
    #[command(flatten)]
    pub booting: Booting,
}

/// How to print the sum of mutants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MutantsFormat {
    /// For people.
    Human,
    /// A table in Markdown.
    Markdown,
}

/// Arguments of `proposals`.
#[derive(Debug, Args)]
pub struct Proposals {
    /// Boots of the lab with suite memtype, a column each. Without any, all kernels and those that show a proposal are booted.
    #[arg(value_name = "BOOT", value_hint = ValueHint::DirPath)]
    pub dirs: Vec<PathBuf>,
    /// Read proposals from this directory instead.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub proposals: Option<PathBuf>,
    /// Kernels at a time; without it two per CPU of this host. Each takes half a GiB.
    #[arg(short, long, value_name = "N")]
    pub jobs: Option<NonZeroUsize>,
    /// How they are booted.
    #[command(flatten)]
    pub booting: Booting,
}

/// Arguments of `zaps`.
#[derive(Debug, Args)]
pub struct Zaps {
    /// Boots of the lab with suite zaps, a column each. Without any, kernels are booted.
    #[arg(value_name = "BOOT", value_hint = ValueHint::DirPath)]
    pub dirs: Vec<PathBuf>,
    /// Kernels to boot, as `lab run` has them.
    #[arg(
        long,
        value_name = "KERNEL",
        default_values = ["6.1", "6.1+per-vm-mtrr", "6.12", "7.2"],
        conflicts_with = "dirs"
    )]
    pub kernel: Vec<String>,
    /// Kernels at a time; without it two per CPU of this host. Each takes half a GiB.
    #[arg(short, long, value_name = "N")]
    pub jobs: Option<NonZeroUsize>,
    /// How they are booted.
    #[command(flatten)]
    pub booting: Booting,
    /// Arguments for `kvm-memtype run` in the machine: `zaps/` leaves out the real boots, which take minutes each.
    #[arg(last = true, value_name = "ARGUMENT", conflicts_with = "dirs")]
    pub arguments: Vec<String>,
}

/// Arguments of `bisect`.
#[derive(Debug, Args)]
pub struct Bisect {
    /// The tree. Its configuration is `.config`, as for `lab run --tree`.
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub tree: PathBuf,
    /// What to give `make` there; it is run without it first as `make olddefconfig`.
    #[arg(long, value_name = "WORDS", default_value = "bzImage modules")]
    pub make: String,
    /// Suites, run one after the other in one boot.
    #[arg(long, value_name = "NAME", value_delimiter = ',', default_value = "memtype")]
    pub suite: Vec<String>,
    /// How it is booted.
    #[command(flatten)]
    pub booting: Booting,
    /// Arguments for `kvm-memtype run` in the machine.
    #[arg(last = true, value_name = "ARGUMENT")]
    pub arguments: Vec<String>,
}

/// How to come by Bochs.
#[derive(Debug, Clone, Args)]
pub struct BochsArgs {
    /// The source's tarball, in place of the one that is fetched from the machine's own Debian mirror.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub bochs_source: Option<PathBuf>,
}

/// Arguments of `fetch`.
#[derive(Debug, Args)]
pub struct FetchArgs {
    /// Kernels; without any all that have a file.
    #[arg(value_name = "KERNEL")]
    pub names: Vec<String>,
    /// Look for newer packages although some are cached.
    #[arg(long)]
    pub newest: bool,
}
