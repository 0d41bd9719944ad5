//! The lab's command line: one file a verb.

pub mod args;
pub mod bisect;
mod bochs;
mod doctor;
mod fetch;
mod list;
mod mutants;
mod pool;
mod progress;
mod proposals;
mod run;
mod stop;
mod summary;
mod table;
mod task;
mod zaps;

use crate::fetch::FetchError;
use crate::kernel::LocalError;
use crate::patch::PatchError;
use args::{Lab, Verb};
use kvm_memtype::config::ConfigError;
use kvm_memtype::execute::chain;
use std::process::ExitCode;

/// What a verb comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// All is as expected.
    AsExpected,
    /// Something in a suite is not.
    Surprise,
    /// A kernel did not come to its end.
    Kernel,
    /// Host or harness is broken.
    Broken,
}

/// Why a verb could not do its work.
#[derive(Debug)]
pub enum Failure {
    /// What was asked for is wrong: exit code 2.
    Usage(String),
    /// The host or the harness is broken: exit code 3.
    Broken(String),
}

/// Does what the command line says.
pub fn main(lab: &Lab) -> ExitCode {
    let done = match &lab.verb {
        Verb::Run(args) => run::run(lab, args),
        Verb::Fetch(args) => fetch::fetch(lab, args),
        Verb::Bochs(args) => bochs::build(args),
        Verb::Mutants(args) => mutants::mutants(lab, args),
        Verb::Proposals(args) => proposals::proposals(lab, args),
        Verb::Zaps(args) => zaps::zaps(lab, args),
        Verb::Bisect(args) => return bisect::bisect(args),
        Verb::List => list::list(lab),
        Verb::Doctor => doctor::doctor(),
    };
    let (code, said) = match done {
        Ok(Outcome::AsExpected) => return ExitCode::SUCCESS,
        Ok(Outcome::Surprise) => return ExitCode::from(1),
        Ok(Outcome::Kernel) => return ExitCode::from(4),
        Ok(Outcome::Broken) => return ExitCode::from(3),
        Err(Failure::Usage(said)) => (2, said),
        Err(Failure::Broken(said)) => (3, said),
    };
    anstream::eprintln!("lab: {said}");
    ExitCode::from(code)
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Failure::Usage(chain(&error))
    }
}

impl From<PatchError> for Failure {
    fn from(error: PatchError) -> Self {
        match error {
            PatchError::Read { .. }
            | PatchError::Config(_)
            | PatchError::Mutant { .. }
            | PatchError::NoBuild(_)
            | PatchError::NoDiff { .. }
            | PatchError::Stray { .. }
            | PatchError::Empty(_) => Failure::Usage(chain(&error)),
            _ => Failure::Broken(chain(&error)),
        }
    }
}

impl From<LocalError> for Failure {
    fn from(error: LocalError) -> Self {
        Failure::Usage(chain(&error))
    }
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        Failure::Broken(chain(&error))
    }
}
