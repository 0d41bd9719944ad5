//! `kvm-memtype bench`: what a VM costs against the bare ioctls, cells per second, and sizes.

mod bare;

use crate::guests;
use crate::machine::kvm::KvmMachine;
use crate::machine::{Job, Limits, Machine, MachineError};
use crate::plan::vm::VmConfig;
use bare::Bare;
use std::fmt;
use std::time::{Duration, Instant};
use wire::needs::Needs;

/// Rounds of one bare VM and one VM of the embedded VMM each, so that a busy host slows both.
const ROUNDS: usize = 400;

/// Median and spread of a series.
#[derive(Debug, Clone, Copy)]
pub struct Series {
    median: Duration,
    /// Quartiles.
    low: Duration,
    high: Duration,
}

impl Series {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort();
        let at = |quarter| times[(times.len() - 1) * quarter / 4];
        Series { median: at(2), low: at(1), high: at(3) }
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        write!(f, "{:.0} us (quartiles {:.0} to {:.0})", micros(self.median), micros(self.low), micros(self.high))
    }
}

/// What was measured of VMs.
#[derive(Debug)]
pub struct Vms {
    /// The bare ioctls.
    pub bare: Series,
    /// The embedded VMM.
    pub full: Series,
    /// Ratio of each round; its median, in per cent.
    ratios: [f64; 3],
}

impl fmt::Display for Vms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [low, median, high] = self.ratios;
        writeln!(f, "  bare loop of the same ioctls  {}", self.bare)?;
        writeln!(f, "  embedded VMM                  {}", self.full)?;
        write!(f, "  ratio                         {median:.2} (quartiles {low:.2} to {high:.2})")
    }
}

/// Measures VMs that run the smallest guest, on one core, `ROUNDS` times.
///
/// # Errors
/// A VM could not be made or run.
pub fn vms(machine: &KvmMachine) -> Result<Vms, MachineError> {
    let guest = guests::find("boot").ok_or_else(|| MachineError { what: "no boot guest".into(), source: None })?;
    let (run, test) = (1, "hello");
    let yardstick = Bare::new(machine, guest.elf, &format!("run={run:x} test={test}"))?;
    let vm = VmConfig::default();
    let job = Job { elf: guest.elf, run, test, needs: Needs::NONE, vm: &vm, limits: Limits::default() };
    let (mut bare, mut full) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let start = Instant::now();
        yardstick.run(machine)?;
        let middle = Instant::now();
        machine.run(&job)?;
        // The first rounds fill caches.
        if round >= ROUNDS / 10 {
            bare.push(middle - start);
            full.push(middle.elapsed());
        }
    }
    let mut ratios: Vec<f64> =
        bare.iter().zip(&full).map(|(bare, full)| full.as_secs_f64() / bare.as_secs_f64()).collect();
    ratios.sort_by(f64::total_cmp);
    let at = |quarter| ratios[(ratios.len() - 1) * quarter / 4];
    Ok(Vms { bare: Series::of(bare), full: Series::of(full), ratios: [at(1), at(2), at(3)] })
}
