//! The arguments of the verbs that tell of runs that there are.

use super::{Format, Judging};
use crate::machine::choose::Wanted;
use crate::report::export::kcidb::{Id, Origin};
use clap::{Args, ValueEnum, ValueHint};
use std::path::PathBuf;

/// How `report` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
    /// The kernel's test protocol, with nested subtests.
    Ktap,
    /// XML that Jenkins, GitLab and others read.
    Junit,
    /// A summary for a mail or a pull request.
    Markdown,
    /// A submission to KCIDB, the database of kernel test results.
    Kcidb,
    /// What a test shell of LAVA reads off the console.
    Lava,
    /// Metrics for the textfile collector of Prometheus' node_exporter.
    Prometheus,
    /// One file for a browser, of one or more runs side by side: what is new comes last.
    Html,
}

/// Arguments of `report`.
#[derive(Debug, Args)]
pub struct Report {
    /// A run: a directory, its name under the results directory, or `latest`. `human` and `json` take one; `html` takes
    /// directories with runs in them as well, such as that of a boot of the lab.
    #[arg(value_name = "RUN", default_value = "latest")]
    pub runs: Vec<String>,
    /// Print no verdicts, but tables in Markdown of the memory types that were seen in leaf SPTEs, and of what was
    /// zapped, with a column for each run.
    #[arg(long, conflicts_with = "format")]
    pub leaves: bool,
    /// Print no verdicts, but the memory type of each page that was timed: what the guest asked for, what it got by
    /// times and by SPTEs, what the architecture gives, and what KVM's policy gives. As tables in Markdown or, with
    /// `--format json`, a line for each page.
    #[arg(long, conflicts_with = "leaves")]
    pub types: bool,
    /// Print no verdicts, but the types that the pages got that were timed, as a small table for each VM configuration: a row
    /// for each MTRR type, a column for each type of the PAT, with marks where they are not as they should be.
    #[arg(long, conflicts_with_all = ["leaves", "types", "zaps", "format"])]
    pub matrix: bool,
    /// Print no verdicts, but tables in Markdown of what boots cost (suite zaps), with a column for each run: how often KVM
    /// zapped, how many SPTEs it zapped and made again, ticks in zaps, and time.
    #[arg(long, conflicts_with_all = ["leaves", "types", "format"])]
    pub zaps: bool,
    /// How to print.
    #[arg(long, value_enum, default_value = "human")]
    pub format: ReportFormat,
    /// Write it to this file, and not to standard output. A file that is there is replaced when the new one is whole.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,
    /// For html: show on the page of each cell what became of it in all runs under the results directory, as `history` does.
    #[arg(long)]
    pub history: bool,
    /// For kcidb: who submits, as KCIDB knows it.
    #[arg(long, value_name = "NAME", required_if_eq("format", "kcidb"))]
    pub kcidb_origin: Option<Origin>,
    /// For kcidb: the build that was tested, as it was submitted. Without it a checkout and a build are submitted of which
    /// no more is said than `uname` tells.
    #[arg(long, value_name = "ID")]
    pub kcidb_build: Option<Id>,
}

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub struct Explain {
    /// The cell's id, as `run` and `list` print it.
    #[arg(value_name = "CELL")]
    pub cell: String,
    /// A run: a directory, its name under the results directory, or `latest`.
    #[arg(long, value_name = "RUN", default_value = "latest")]
    pub run: String,
    /// Show every point and line, not only those that are not as expected and a sample of the rest.
    #[arg(long)]
    pub all: bool,
    /// How to print. JSON has all of it.
    #[arg(long, value_enum, default_value = "human")]
    pub format: Format,
}

/// Arguments of `identify`.
#[derive(Debug, Args)]
pub struct Identify {
    /// A run: a directory, its name under the results directory, or `latest`.
    #[arg(value_name = "RUN", default_value = "latest")]
    pub run: String,
    /// How to print. JSON has all cells that rule a policy out.
    #[arg(long, value_enum, default_value = "human")]
    pub format: Format,
}

/// Arguments of `history`.
#[derive(Debug, Args)]
pub struct History {
    /// Only these cells, each with all that became of it: ids, patterns with `*`, or parts of ids. Without any, what
    /// deserves a look.
    #[arg(value_name = "FILTER")]
    pub filters: Vec<String>,
    /// The index. Without it `history.sqlite` in the results directory.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub index: Option<PathBuf>,
    /// Make the index anew from the runs.
    #[arg(long)]
    pub rebuild: bool,
    /// How to print. JSON has a line for each cell on each kind of host.
    #[arg(long, value_enum, default_value = "human")]
    pub format: Format,
}

/// Arguments of `merge`.
#[derive(Debug, Args)]
pub struct Merge {
    /// Runs of shards: directories, or names under the results directory. They may be given in any order.
    #[arg(value_name = "RUN", required = true)]
    pub runs: Vec<String>,
    /// How to judge.
    #[command(flatten)]
    pub judging: Judging,
    /// How to print.
    #[arg(long, value_enum, default_value = "human")]
    pub format: Format,
}

/// Arguments of `diff`.
#[derive(Debug, Args)]
pub struct Diff {
    /// The first side, that the second is held against.
    #[arg(value_name = "FROM")]
    pub from: String,
    /// The second side.
    #[arg(value_name = "TO")]
    pub to: String,
    /// Show all cells, values and differences.
    #[arg(long)]
    pub all: bool,
    /// How to print. JSON has all of it.
    #[arg(long, value_enum, default_value = "human")]
    pub format: Format,
}

/// Arguments of `judge`.
#[derive(Debug, Args)]
pub struct Judge {
    /// A run (a directory, its name, or `latest`), or `-` for a guest's serial log on standard input.
    #[arg(value_name = "RUN")]
    pub run: String,
    /// The machine that a log on standard input came from. Without it: QEMU TCG, of which nothing is known.
    #[arg(long, value_enum)]
    pub machine: Option<Wanted>,
    /// How to judge.
    #[command(flatten)]
    pub judging: Judging,
    /// How to print.
    #[arg(long, value_enum, default_value = "human")]
    pub format: Format,
}
