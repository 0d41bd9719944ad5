//! `bench`: what this build costs, in one run, as ratios with their spread.

use super::args::{Bench as Args, Cli};
use super::knowledge::Knowledge;
use super::out::stdout;
use super::{Done, Failure, html};
use crate::bench;
use crate::guests;
use crate::machine::kvm::KvmMachine;
use crate::report::{HtmlSide, Outcome};
use crate::vmm::{self, Confined};
use std::fs;
use std::io::Write;
use std::num::NonZeroUsize;

/// The suite whose cells are counted.
const SUITE: &str = "default";

/// Measures and prints.
pub fn bench(cli: &Cli, args: &Args) -> Done {
    match &args.report {
        Some(run) => of_a_report(cli, args, run),
        None => of_vms(cli),
    }
}

/// What a report of very many cells costs.
fn of_a_report(cli: &Cli, args: &Args, run: &str) -> Done {
    let failed = |what: &str, error: &dyn std::fmt::Display| Failure::Broken(format!("cannot {what}: {error}"));
    let side = html::side(cli, run)?;
    let scratch = std::env::temp_dir().join(format!("kvm-memtype-bench-{}", std::process::id()));
    let dir = args.keep.as_ref().unwrap_or(&scratch);
    fs::create_dir_all(dir).map_err(|error| failed("make a directory", &error))?;
    let recorded = bench::Recorded::read(&side.dirs)?;
    let made = recorded.multiply(args.cells.get(), dir).map_err(|error| failed("write the run", &error));
    let side = HtmlSide { named: dir.display().to_string(), dirs: vec![dir.clone()], ..side };
    let cost = made.and_then(|()| Ok(bench::measure(side, dir)?));
    if args.keep.is_none() {
        fs::remove_dir_all(dir).map_err(|error| failed("remove the run", &error))?;
    }
    let cost = cost?;
    let mega = |bytes: u64| bytes as f64 / 1e6;
    let mut out = stdout();
    writeln!(
        out,
        "A run of {} cells, made of the {} of {run} with at most {} points ({:.0} MB):",
        args.cells,
        recorded.count(),
        bench::MOST_POINTS,
        mega(cost.observations)
    )?;
    writeln!(out, "  plain JSON parser, one thread   {:.1} s", cost.floor)?;
    writeln!(out, "  judged and shown in HTML        {:.1} s", cost.seconds)?;
    match cost.peak {
        Some(peak) => writeln!(out, "  memory meanwhile, at most       {} MiB", peak >> 20)?,
        None => writeln!(out, "  memory meanwhile, at most       not known: the kernel does not count it anew")?,
    }
    writeln!(out, "  size of the HTML                {:.1} MB", mega(cost.html))?;
    Ok(Outcome::AsExpected)
}

/// What VMs and cells cost.
fn of_vms(cli: &Cli) -> Done {
    let mut out = stdout();
    match KvmMachine::open() {
        Ok(machine) => {
            let machine = Confined::new(machine, vmm::PROGRAM)?;
            writeln!(out, "A VM made, run and taken down; medians with quartiles, the three in turns:")?;
            for cost in bench::vms(&machine)? {
                writeln!(out, "  {}", cost.guest)?;
                writeln!(out, "    bare loop of the same ioctls  {:.0} us", cost.bare)?;
                writeln!(out, "    embedded VMM, unconfined      {:.0} us", cost.inside)?;
                writeln!(out, "    embedded VMM                  {:.0} us", cost.full)?;
                writeln!(out, "    confinement, the difference   {:.0} us", cost.confinement)?;
                writeln!(out, "    ratio to the bare loop        {:.2}", cost.ratio)?;
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
