//! `zaps`: what MTRRs cost kernels while a guest boots, side by side.

use super::args::{Lab, Zaps as Args};
use super::{Failure, Outcome, table};
use kvm_memtype::execute::chain;
use kvm_memtype::report::Boots;
use kvm_memtype::results::Run;
use std::path::PathBuf;

/// The suite whose cells boot.
const SUITE: &str = "zaps";

/// Prints the tables, of boots that are there or of kernels, which are booted then.
pub fn zaps(lab: &Lab, args: &Args) -> Result<Outcome, Failure> {
    if !args.dirs.is_empty() {
        print(&args.dirs)?;
        return Ok(Outcome::AsExpected);
    }
    let (outcome, boots) =
        table::boot(lab, args.kernel.clone(), (SUITE, &args.arguments), args.jobs, &args.booting, SUITE)?;
    print(&boots)?;
    Ok(outcome)
}

fn print(boots: &[PathBuf]) -> Result<(), Failure> {
    let names: Vec<String> = boots.iter().map(|boot| table::name(boot)).collect();
    let runs = boots.iter().map(|boot| Run::read(&boot.join(SUITE))).collect::<Result<Vec<_>, _>>();
    let runs = runs.map_err(|error| Failure::Broken(chain(&error)))?;
    let mut table = Boots::default();
    runs.iter().for_each(|run| table.add(run));
    let printed = table.print(&mut anstream::stdout().lock(), &names);
    printed.map_err(|error| Failure::Broken(format!("cannot print: {error}")))
}
