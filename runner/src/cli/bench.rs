//! `bench`: what this build costs, in one run, as ratios with their spread.

use super::{Done, Failure};
use crate::bench;
use crate::guests;
use crate::machine::kvm::KvmMachine;
use std::io::Write;

/// Measures and prints.
pub fn bench() -> Done {
    let mut out = anstream::stdout().lock();
    match KvmMachine::open() {
        Ok(machine) => {
            writeln!(out, "One VM that runs the smallest guest, on one core, medians of alternating rounds:")?;
            writeln!(out, "{}", bench::vms(&machine)?)?;
        }
        Err(reason) => writeln!(out, "VMs: not measured: {reason}")?,
    }
    writeln!(out, "\nSizes in bytes:")?;
    for guest in guests::all() {
        writeln!(out, "  guest {:<24}{:>10}", guest.family, guest.elf.len())?;
    }
    let runner = std::env::current_exe().and_then(std::fs::metadata);
    let runner = runner.map_err(|error| Failure::Broken(format!("cannot find the runner's own file: {error}")))?;
    writeln!(out, "  {:<30}{:>10}", "runner", runner.len())?;
    Ok(true)
}
