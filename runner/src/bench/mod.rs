//! `kvm-memtype bench`: what a VM costs against the bare ioctls, and cells a second.

mod bare;
mod spread;
mod synthetic;

pub use spread::Spread;
pub use synthetic::{MOST_POINTS, Recorded, ReportCost, measure};

use crate::execute::Execution;
use crate::guests;
use crate::machine::kvm::{Failed, boot};
use crate::machine::{Job, Limits, Line, Machine, MachineError, smallest};
use crate::plan::Plan;
use crate::plan::vm::VmConfig;
use crate::results::CellOutcome;
use crate::vmm::Confined;
use crate::witness::Choice;
use bare::Bare;
use std::num::NonZeroUsize;
use std::time::Instant;
use wire::needs::Needs;
use wire::record::Record;
use wire::stream::{Item, Reader};

/// mov eax, EXIT_DONE; out EXIT_PORT, eax; hlt
const EXITS: [u8; 8] = [0xb8, 0x10, 0, 0, 0, 0xe7, 0xf4, 0xf4];

/// Family and test of the largest matrix of guest settings.
pub const MATRIX: (&str, &str) = ("matrix", "fresh");

/// A guest in a bare loop, in the embedded VMM, and in that confined to a process of its own.
#[derive(Debug)]
pub struct VmCost {
    /// What the guest does.
    pub guest: &'static str,
    /// The bare ioctls, in microseconds a VM.
    pub bare: Spread,
    /// The embedded VMM in this process, in microseconds a VM.
    pub inside: Spread,
    /// The embedded VMM in a confined process, as runs have it, in microseconds a VM.
    pub full: Spread,
    /// The third without the second, round by round: what confinement costs.
    pub confinement: Spread,
    /// The third by the first, round by round.
    pub ratio: Spread,
}

/// Measures VMs on one core: one that exits at its second instruction, which leaves nothing but the VMM, and one that
/// reports as tests do. They take turns, so that a busy host slows both.
///
/// # Errors
/// A VM could not be made or run.
pub fn vms(machine: &Confined) -> Result<[VmCost; 2], MachineError> {
    let boot = guests::find("boot").ok_or("it is not embedded").failed("cannot find the boot guest")?;
    Ok([
        vm_cost(machine, "a guest that exits at once", &smallest::elf(&EXITS), 500)?,
        vm_cost(machine, "boot/hello, which reports", boot.elf, 100)?,
    ])
}

fn vm_cost(confined: &Confined, guest: &'static str, elf: &[u8], rounds: usize) -> Result<VmCost, MachineError> {
    let (run, test, machine) = (1, "hello", confined.machine());
    let yardstick = Bare::new(machine, elf, &boot::command_line(run, test))?;
    let vm = VmConfig::default();
    let job = Job { elf, run, test, needs: Needs::NONE, vm: &vm, limits: Limits::default(), module: &[], watch: None };
    let (mut bare, mut inside, mut full) = (Vec::new(), Vec::new(), Vec::new());
    // The first rounds fill caches.
    for round in 0..rounds + rounds / 10 {
        let start = Instant::now();
        yardstick.run(machine)?;
        let first = Instant::now();
        machine.run(&job)?;
        let second = Instant::now();
        confined.run(&job)?;
        if round >= rounds / 10 {
            bare.push((first - start).as_secs_f64() * 1e6);
            inside.push((second - first).as_secs_f64() * 1e6);
            full.push(second.elapsed().as_secs_f64() * 1e6);
        }
    }
    let ratio = bare.iter().zip(&full).map(|(bare, full)| full / bare).collect();
    let confinement = inside.iter().zip(&full).map(|(inside, full)| full - inside).collect();
    let [bare, inside, full, confinement, ratio] = [bare, inside, full, confinement, ratio].map(Spread::of);
    Ok(VmCost { guest, bare, inside, full, confinement, ratio })
}

/// What a boot of a guest took that times pages.
#[derive(Debug)]
pub struct TimedCost {
    /// Pages that it timed.
    pub pages: usize,
    /// Wall-clock time in seconds, from the making of the VM to its end.
    pub seconds: f64,
}

/// Runs the test that times most pages, [`MATRIX`], in one VM.
///
/// # Errors
/// The VM could not be made or run.
pub fn timed(machine: &Confined) -> Result<TimedCost, MachineError> {
    let (family, test) = MATRIX;
    let guest = guests::find(family).ok_or("it is not embedded").failed("cannot find the guest of the matrix")?;
    let (run, vm) = (1, VmConfig::default());
    let needs = Needs::STEPS.and(Needs::SLOTS);
    let job = Job { elf: guest.elf, run, test, needs, vm: &vm, limits: Limits::default(), module: &[], watch: None };
    let observed = machine.run(&job)?;
    let mut reader = Reader::new(Some(run));
    let is_timed = |line: &&Line| match line {
        Line::Guest(line) => matches!(reader.line(line), Ok(Some(Item::Record(Record::Timed(_))))),
        Line::Console(_) | Line::Host(_) => false,
    };
    let pages = observed.log.iter().filter(is_timed).count();
    Ok(TimedCost { pages, seconds: observed.micros as f64 / 1e6 })
}

/// What a plan took.
#[derive(Debug)]
pub struct PlanCost {
    /// Cells that ran; skips cost nothing and are not counted.
    pub cells: usize,
    /// Wall-clock time in seconds.
    pub seconds: f64,
}

/// Runs a plan's cells without keeping or judging what comes of them.
///
/// # Errors
/// A cell's VM could not be run.
pub fn plan(machine: &Confined, plan: &Plan, jobs: NonZeroUsize) -> Result<PlanCost, MachineError> {
    let witness = Choice::default();
    let (limits, before) = (Limits::default(), |_: &_, _| Ok(()));
    let execution = Execution { machine, limits, witness: &witness, jobs, before: &before, stop: &|| false };
    let cells: Vec<_> = plan.cells.iter().zip(1..).collect();
    let mut ran = 0;
    let start = Instant::now();
    execution.cells(&cells, |cell, result| match result.outcome {
        CellOutcome::Observed(_) => {
            ran += 1;
            Ok(())
        }
        CellOutcome::Skip(_) => Ok(()),
        CellOutcome::Died(what) | CellOutcome::Error(what) => Err(what).failed(&format!("cannot run cell {}", cell.id)),
    })?;
    Ok(PlanCost { cells: ran, seconds: start.elapsed().as_secs_f64() })
}
