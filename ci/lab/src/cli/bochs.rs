//! `bochs`: the emulator that the lab builds, and the one that a run takes.

use super::args::{BochsArgs, Machine};
use super::progress::Progress;
use super::{Failure, Outcome};
use crate::bochs;
use crate::cache;
use kvm_memtype::execute::chain;
use kvm_memtype::machine::bochs::{Bochs, VARIABLE};
use std::env;
use std::error::Error;
use std::path::Path;

/// Builds it, unless it is in the cache, and prints where it is.
pub fn build(args: &BochsArgs) -> Result<Outcome, Failure> {
    let root = cache::root().map_err(Failure::Broken)?;
    let progress = Progress::new();
    let line = progress.line("bochs");
    let program = bochs::program(&root, args.bochs_source.as_deref(), &|text| line.say(text));
    line.end(&program.map_err(|error| Failure::Broken(chain(&error)))?.display().to_string());
    Ok(Outcome::AsExpected)
}

/// The Bochs for a machine; none for a machine that is another program.
pub fn of(
    machine: Machine,
    args: &BochsArgs,
    root: &Path,
    say: &dyn Fn(&str),
) -> Result<Option<Bochs>, Box<dyn Error>> {
    Ok(match machine {
        Machine::Bochs if env::var_os(VARIABLE).is_none() => {
            Some(Bochs::at(&bochs::program(root, args.bochs_source.as_deref(), say)?)?)
        }
        Machine::Bochs | Machine::StockBochs => Some(Bochs::distributed()?),
        Machine::QemuSvm => None,
    })
}
