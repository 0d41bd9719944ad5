//! `bench`: what this build costs, in one run, as ratios with their spread.

use super::args::Cli;
use super::knowledge::Knowledge;
use super::out::stdout;
use super::{Done, Failure};
use crate::bench;
use crate::guests;
use crate::machine::kvm::KvmMachine;
use crate::report::Outcome;
use std::io::Write;
use std::num::NonZeroUsize;

/// The suite whose cells are counted.
const SUITE: &str = "default";

/// Measures and prints.
pub fn bench(cli: &Cli) -> Done {
    let mut out = stdout();
    match KvmMachine::open() {
        Ok(machine) => {
            writeln!(out, "A VM made, run and taken down; medians with quartiles, bare and embedded in turns:")?;
            for cost in bench::vms(&machine)? {
                writeln!(out, "  {}", cost.guest)?;
                writeln!(out, "    bare loop of the same ioctls  {:.0} us", cost.bare)?;
                writeln!(out, "    embedded VMM                  {:.0} us", cost.full)?;
                writeln!(out, "    ratio                         {:.2}", cost.ratio)?;
            }
            let (_, plan) = Knowledge::load(cli.config.as_deref())?.plan(SUITE, &[])?;
            writeln!(out, "\nCells of suite {SUITE}, neither kept nor judged:")?;
            let cpus = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
            for jobs in if cpus == NonZeroUsize::MIN { vec![cpus] } else { vec![NonZeroUsize::MIN, cpus] } {
                let cost = bench::plan(&machine, &plan, jobs)?;
                let rate = cost.cells as f64 / cost.seconds;
                writeln!(out, "  {jobs} at a time: {} cells in {:.1} s, {rate:.1} a second", cost.cells, cost.seconds)?;
            }
            let (bench::TimedCost { pages, seconds }, (family, test)) = (bench::timed(&machine)?, bench::MATRIX);
            let rate = pages as f64 / seconds;
            writeln!(out, "\nPages timed in one VM, each in a setting of its own:")?;
            writeln!(out, "  {family}/{test}: {pages} pages in {seconds:.1} s, {rate:.1} a second")?;
        }
        Err(reason) => writeln!(out, "VMs and cells: not measured: {reason}")?,
    }
    writeln!(out, "\nSizes in bytes:")?;
    for guest in guests::all() {
        writeln!(out, "  guest {:<12}{:>10}", guest.family, guest.elf.len())?;
    }
    let runner = std::env::current_exe().and_then(std::fs::metadata);
    let runner = runner.map_err(|error| Failure::Broken(format!("cannot find the runner's own file: {error}")))?;
    writeln!(out, "  {:<18}{:>10}", "runner", runner.len())?;
    Ok(Outcome::AsExpected)
}
