//! The command line: one file a verb. Verbs return whether all was as expected, or why they could not tell.

pub mod args;
mod bench;
mod diff;
mod doctor;
mod explain;
mod files;
mod fleet;
mod fuzz;
mod history;
mod html;
mod identify;
mod judge;
mod judged;
mod knowledge;
mod list;
mod merge;
mod out;
mod report;
mod run;
mod selftest;
mod shown;

use crate::config::ConfigError;
use crate::execute::chain;
use crate::guests::GuestError;
use crate::machine::MachineError;
use crate::model::policy::PolicyError;
use crate::report::Outcome;
use crate::results::{MergeError, ResultsError};
use crate::vmm;
use args::{Cli, Verb};
use std::io;
use std::process::ExitCode;

/// Why a verb could not do its work.
#[derive(Debug)]
pub enum Failure {
    /// What was asked for is wrong: exit code 2.
    Usage(String),
    /// The host or the harness is broken, or a run was interrupted: exit code 3.
    Broken(String),
}

/// What a verb returns.
pub type Done = Result<Outcome, Failure>;

/// Does what the command line says.
pub fn main(cli: &Cli) -> ExitCode {
    let done = match &cli.verb {
        Verb::Run(args) => run::run(cli, args),
        Verb::Fuzz(args) => fuzz::fuzz(cli, args),
        Verb::List(args) => list::list(cli, args),
        Verb::Doctor(args) => doctor::doctor(cli, args),
        Verb::Report(args) => report::report(cli, args),
        Verb::Explain(args) => explain::explain(cli, args),
        Verb::Identify(args) => identify::identify(cli, args),
        Verb::Diff(args) => diff::diff(cli, args),
        Verb::History(args) => history::history(cli, args),
        Verb::Merge(args) => merge::merge(cli, args),
        Verb::Judge(args) => judge::judge(cli, args),
        Verb::Fleet(args) => fleet::fleet(cli, args),
        Verb::Bench(args) => bench::bench(cli, args),
        Verb::Selftest(args) => selftest::selftest(args),
        Verb::Extract(args) => files::extract(args),
        Verb::Completions { shell } => files::completions(*shell),
        Verb::Vmm => return vmm::main(),
        Verb::Man { dir } => files::man(dir),
    };
    let (code, said) = match done {
        Ok(Outcome::AsExpected) => return ExitCode::SUCCESS,
        Ok(Outcome::Surprise) => return ExitCode::from(1),
        Ok(Outcome::Broken) => return ExitCode::from(3),
        Err(Failure::Usage(said)) => (2, said),
        Err(Failure::Broken(said)) => (3, said),
    };
    anstream::eprintln!("kvm-memtype: {said}");
    ExitCode::from(code)
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Failure::Usage(chain(&error))
    }
}

impl From<GuestError> for Failure {
    fn from(error: GuestError) -> Self {
        Failure::Broken(chain(&error))
    }
}

impl From<MachineError> for Failure {
    fn from(error: MachineError) -> Self {
        Failure::Broken(chain(&error))
    }
}

impl From<ResultsError> for Failure {
    fn from(error: ResultsError) -> Self {
        match error {
            ResultsError::NoRun(said) => Failure::Usage(said),
            error => Failure::Broken(chain(&error)),
        }
    }
}

impl From<MergeError> for Failure {
    fn from(error: MergeError) -> Self {
        Failure::Usage(error.to_string())
    }
}

/// For a policy that is not there.
impl From<PolicyError> for Failure {
    fn from(error: PolicyError) -> Self {
        match error {
            PolicyError::Unknown(..) => Failure::Usage(error.to_string()),
            PolicyError::None { .. } | PolicyError::Two { .. } => Failure::Broken(error.to_string()),
        }
    }
}

/// For output that cannot be written.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Broken(format!("cannot write the output: {error}"))
    }
}
