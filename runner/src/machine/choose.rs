//! Which machine to use: the one asked for, or KVM, or, said aloud, QEMU TCG where there is no KVM that runs a guest.

use super::bochs::BochsMachine;
use super::kvm::{Failed, KvmMachine};
use super::qemu::{Accel, Qemu};
use super::{End, Job, Limits, Machine, MachineError};
use crate::guests;
use crate::host::cpu::Cpu;
use crate::host::device::Devices;
use crate::plan::vm::VmConfig;
use crate::vmm::{self, Confined};
use std::fmt;
use wire::layout::EXIT_DONE;
use wire::needs::Needs;

/// A machine by the name that `--machine` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Wanted {
    /// The embedded VMM on /dev/kvm.
    Kvm,
    /// QEMU on /dev/kvm.
    QemuKvm,
    /// QEMU's emulation: a negative control, because it checks next to nothing.
    QemuTcg,
    /// Bochs, without KVM: a model of bare metal.
    Bochs,
}

/// The machine, and what had to be said about the choice.
pub struct Chosen {
    /// The machine.
    pub machine: Box<dyn Machine>,
    /// Why it is not the embedded VMM, where nobody asked for another.
    pub fallback: Option<String>,
}

impl fmt::Debug for Chosen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chosen").field("machine", &self.machine.name()).field("fallback", &self.fallback).finish()
    }
}

/// Makes the machine that is wanted, and boots a first guest on it. The embedded VMM pins vCPUs to the CPUs `pins`. Only the embedded VMM gives VMs devices of the host,
/// so with any of them there is no falling back.
///
/// # Errors
/// The machine that was asked for cannot be had or cannot run a guest; or none was asked for and QEMU cannot be had
/// either.
pub fn choose(wanted: Option<Wanted>, devices: Devices, pins: &[usize]) -> Result<Chosen, MachineError> {
    let chosen = |machine| Ok(Chosen { machine, fallback: None });
    let alone = !devices.is_empty();
    match wanted {
        Some(Wanted::QemuKvm | Wanted::QemuTcg | Wanted::Bochs) if alone => Err(MachineError {
            what: "--dma, --host-mmio, --destructive and --linux are for machine kvm".to_owned(),
            source: None,
        }),
        Some(Wanted::Kvm) => chosen(kvm(devices, pins)?),
        Some(Wanted::QemuKvm) => chosen(qemu(Accel::Kvm)?),
        Some(Wanted::QemuTcg) => chosen(qemu(Accel::Tcg)?),
        Some(Wanted::Bochs) => chosen(bochs()?),
        None => match kvm(devices, pins) {
            Ok(machine) => chosen(machine),
            Err(no_kvm) if alone => Err(no_kvm),
            Err(no_kvm) => {
                let machine = qemu(Accel::Tcg).map_err(|error| MachineError {
                    what: format!("no machine to run guests on: {no_kvm} And there is no QEMU to fall back to"),
                    source: Some(Box::new(error)),
                })?;
                Ok(Chosen { machine, fallback: Some(no_kvm.to_string()) })
            }
        },
    }
}

fn kvm(devices: Devices, pins: &[usize]) -> Result<Box<dyn Machine>, MachineError> {
    let cpu = Cpu::probe();
    let machine = KvmMachine::open().map_err(|trouble| {
        let advice = trouble.advice(cpu.vmx || cpu.svm);
        MachineError { what: format!("{trouble}. {advice}"), source: None }
    })?;
    let machine = machine.with_devices(devices).failed("a device that was named cannot be used")?.pinned(pins);
    let machine = Confined::new(machine, vmm::PROGRAM)?;
    preflight(&machine)?;
    Ok(Box::new(machine))
}

fn qemu(accel: Accel) -> Result<Box<dyn Machine>, MachineError> {
    let machine = Qemu::new(accel)?;
    preflight(&machine)?;
    Ok(Box::new(machine))
}

fn bochs() -> Result<Box<dyn Machine>, MachineError> {
    let machine = BochsMachine::new()?;
    preflight(&machine)?;
    Ok(Box::new(machine))
}

/// Boots the smallest guest: a machine that cannot do that can do nothing.
fn preflight(machine: &dyn Machine) -> Result<(), MachineError> {
    let refuse = |what: String| Err(MachineError { what, source: None });
    let Some(guest) = guests::find("boot") else { return refuse("the runner was built without its boot guest".into()) };
    let vm = VmConfig::default();
    let job = Job {
        elf: guest.elf,
        run: 1,
        test: "hello",
        needs: Needs::NONE,
        vm: &vm,
        limits: Limits::default(),
        module: &[],
        watch: None,
    };
    match machine.run(&job)?.end {
        End::Exit(EXIT_DONE) => Ok(()),
        end => refuse(format!("the machine {} cannot run the smallest guest: {end}", machine.name())),
    }
}
