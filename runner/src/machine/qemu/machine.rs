//! QEMU behind the interface that all machines have.

use super::Accel;
use super::command::{Guest, TCG_MAXPHYADDR};
use super::ending;
use super::program::{self, Setup};
use crate::host::cpu::Cpu;
use crate::machine::{Job, Machine, MachineError, Observed, foreign, not_parallel};
use crate::plan::vm::VmConfig;
use crate::witness::Witnessed;
use std::path::{Path, PathBuf};
use std::time::Instant;
use wire::needs::Needs;

/// What QEMU offers of what tests need. The rest takes a VMM that does host steps.
const OFFERED: Needs = Needs::APIC.and(Needs::PARALLEL);

/// A QEMU that was found to work.
#[derive(Debug)]
pub struct Qemu {
    accel: Accel,
    path: PathBuf,
    version: String,
    setup: Setup,
    maxphyaddr: u8,
}

impl Qemu {
    /// Finds QEMU (`KVM_MEMTYPE_QEMU`, else PATH), and the CPU model and firmware with which it runs a guest of a few
    /// bytes here. Takes about a tenth of a second.
    ///
    /// # Errors
    /// There is no QEMU, or it does not run such a guest; says what to do or what QEMU said.
    pub fn new(accel: Accel) -> Result<Qemu, MachineError> {
        let path = program::find()?;
        let version = program::version(&path)?;
        let setup = program::setup(accel, &path)?;
        let maxphyaddr = match accel {
            Accel::Kvm => Cpu::probe().maxphyaddr,
            Accel::Tcg => TCG_MAXPHYADDR,
        };
        Ok(Qemu { accel, path, version, setup, maxphyaddr })
    }

    /// The program.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its version, as it gives it: `7.2.22 (Debian ...)`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The CPU model that works: `host`, or QEMU's default where that one does not; `max` for TCG.
    pub fn cpu_model(&self) -> &'static str {
        self.setup.platform.cpu
    }

    /// MAXPHYADDR of a VM whose configuration sets none, in bits: with KVM the host's.
    pub fn maxphyaddr(&self) -> u8 {
        self.maxphyaddr
    }
}

impl Machine for Qemu {
    fn name(&self) -> &'static str {
        self.accel.machine()
    }

    fn description(&self) -> String {
        format!("QEMU {}, -cpu {}", self.version, self.setup.platform.cpu)
    }

    fn lacks(&self, needs: Needs, vm: &VmConfig) -> Option<String> {
        if let Some(reason) = foreign::lacks(OFFERED, needs, vm).or_else(|| not_parallel(needs)) {
            return Some(reason);
        }
        if let (Accel::Kvm, Some(bits)) = (self.accel, vm.maxphyaddr.filter(|&bits| bits > self.maxphyaddr)) {
            return Some(format!("MAXPHYADDR {bits} is more than this host's {}", self.maxphyaddr));
        }
        (!vm.cpuid_mtrr && self.setup.forces_mtrr)
            .then(|| "CPUID.1:EDX.MTRR cannot be hidden: this KVM shows it whatever the VMM sets".to_owned())
    }

    fn run(&self, job: &Job<'_>) -> Result<Observed, MachineError> {
        let start = Instant::now();
        let append = format!("run={:x} test={}", job.run, job.test);
        let guest = Guest { append: &append, cpus: job.needs.cpu_count(), vm: job.vm };
        let ended = program::boot(self.accel, &self.path, self.setup.platform, job.elf, &guest, job.limits)?;
        let end = ending::end(&ended).map_err(|why| program::failed(self.accel, &self.path, &why))?;
        let micros = start.elapsed().as_micros().try_into().unwrap_or(u64::MAX);
        Ok(Observed { log: ended.log, end, micros, witness: Witnessed::default() })
    }
}
