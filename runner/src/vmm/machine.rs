//! The machine `kvm` as the runner uses it: the embedded VMM, each VM in a confined process of its own.

use super::in_force::InForce;
use super::serve::{self, Failed};
use super::zygotes::{Vmm, Zygote};
use crate::machine::kvm::{Failed as _, KvmMachine};
use crate::machine::{Job, Machine, MachineError, Observed};
use crate::plan::vm::VmConfig;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use wire::needs::Needs;

/// How long a VMM that was killed may take to be gone: a large VM takes a while, and one that is stuck in the kernel never is.
const DYING: Duration = Duration::from_secs(5);

/// The embedded VMM in confined processes.
#[derive(Debug)]
pub struct Confined {
    machine: KvmMachine,
    program: PathBuf,
    /// Zygotes that nobody uses now: one for each cell that runs at a time.
    idle: Mutex<Vec<Zygote>>,
    in_force: InForce,
}

impl Confined {
    /// Confines a machine. `program` is kvm-memtype itself; in its own processes that is /proc/self/exe.
    ///
    /// # Errors
    /// The processes cannot be made, or not be confined.
    pub fn new(machine: KvmMachine, program: impl Into<PathBuf>) -> Result<Confined, MachineError> {
        let program = program.into();
        let mut zygote = Zygote::start(&program, &machine)?;
        let vmm = zygote.next().failed("cannot make a VMM")?;
        let in_force = serve::ready(&vmm.socket).map_err(|failed| blame(&mut zygote, &vmm, failed))?;
        Ok(Confined { machine, program, idle: Mutex::new(vec![zygote]), in_force })
    }

    /// The machine that is confined.
    pub fn machine(&self) -> &KvmMachine {
        &self.machine
    }

    /// What of the confinement is in force.
    pub fn in_force(&self) -> &InForce {
        &self.in_force
    }

    /// Hands the process id of a VMM that is confined and waits for a job to `f`.
    ///
    /// # Errors
    /// None can be had.
    pub fn shown<T>(&self, f: impl FnOnce(libc::pid_t) -> T) -> Result<T, MachineError> {
        let (mut zygote, vmm) = self.vmm()?;
        let shown = match serve::ready(&vmm.socket) {
            Ok(_) => Ok(f(vmm.id)),
            Err(failed) => Err(blame(&mut zygote, &vmm, failed)),
        };
        drop(vmm);
        self.put(zygote);
        shown
    }

    /// A VMM, and its zygote, which nobody else has meanwhile.
    fn vmm(&self) -> Result<(Zygote, Vmm), MachineError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(mut zygote) = idle
            && let Ok(vmm) = zygote.next()
        {
            return Ok((zygote, vmm));
        }
        // There is none, or somebody has killed it.
        let mut zygote = Zygote::start(&self.program, &self.machine)?;
        let vmm = zygote.next().failed("cannot make a VMM")?;
        Ok((zygote, vmm))
    }

    fn put(&self, zygote: Zygote) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(zygote);
    }
}

/// Kills a VMM that gave no answer, and says what became of it.
fn blame(zygote: &mut Zygote, vmm: &Vmm, failed: Failed) -> MachineError {
    if !matches!(failed, Failed::Died) {
        vmm.kill();
    }
    // A closed socket is mostly that of a process that ends; if not, it is killed behind the words.
    let fate = zygote.end_of(vmm.id, DYING);
    vmm.kill();
    serve::words(failed, vmm.id, fate)
}

impl Machine for Confined {
    fn name(&self) -> &'static str {
        self.machine.name()
    }

    fn description(&self) -> String {
        let missing = self.in_force.missing();
        let missing = if missing.is_empty() { String::new() } else { format!("; without {}", missing.join(", ")) };
        self.machine.description() + &missing
    }

    fn lacks(&self, needs: Needs, vm: &VmConfig) -> Option<String> {
        self.machine.lacks(needs, vm)
    }

    fn run(&self, job: &Job<'_>) -> Result<Observed, MachineError> {
        let (mut zygote, vmm) = self.vmm()?;
        let observed = serve::serve(&vmm.socket, vmm.id, job).map_err(|failed| blame(&mut zygote, &vmm, failed));
        drop(vmm);
        self.put(zygote);
        observed
    }
}
