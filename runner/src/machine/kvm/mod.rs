//! The embedded VMM: runs guests on /dev/kvm with as few ioctls as it takes.

pub(crate) mod boot;
mod deadline;
mod linux;
pub(crate) mod memory;
mod mptable;
mod slots;
pub(crate) mod steps;
pub mod sys;
pub(crate) mod vfio;
mod vm;

pub use boot::RAM;
pub(crate) use vm::TSS_PAGES;

use super::{Job, Machine, MachineError, Observed, not_parallel};
use crate::host;
use crate::host::affinity::Pinned;
use crate::host::device::{DeviceError, Devices};
use crate::host::dma::Provider;
use crate::host::hazard;
use crate::host::kvm::KvmTrouble;
use crate::host::quirks::Quirks;
use crate::host::slot_type;
use crate::plan::vm::VmConfig;
use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, kvm_cpuid_entry2};
use kvm_ioctls::Kvm;
use memory::Memory;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::os::fd::{AsRawFd, RawFd};
use vfio::Vfio;
use wire::needs::Needs;
use wire::step::{Hazard, SlotType};

/// CPUID leaf with the feature bits of old: EDX bit 12 is MTRR, bit 27 self-snoop, EBX bits 31:24 the initial APIC id.
const LEAF_FEATURES: u32 = 1;
/// CPUID leaves with the x2APIC id in EDX.
const LEAVES_TOPOLOGY: [u32; 2] = [0xb, 0x1f];
/// CPUID leaf with MAXPHYADDR in EAX bits 7:0.
const LEAF_ADDRESS_SIZES: u32 = 0x8000_0008;
const EDX_MTRR: u32 = 1 << 12;
const EDX_SELF_SNOOP: u32 = 1 << 27;

/// Why a test that is a hypervisor itself cannot be done on a machine that has one.
pub(crate) const NOT_BARE: &str = "it needs a machine without a hypervisor under the guest: --machine bochs";

/// What a call that belongs to the host or the harness failed at.
pub(crate) trait Failed<T> {
    fn failed(self, what: &str) -> Result<T, MachineError>;
}

impl<T, E: Into<Box<dyn std::error::Error + Send + Sync>>> Failed<T> for Result<T, E> {
    fn failed(self, what: &str) -> Result<T, MachineError> {
        self.map_err(|source| MachineError { what: what.to_owned(), source: Some(source.into()) })
    }
}

/// A KVM that is wrong on purpose: RDMSR of one MSR gives the guest this value, whatever the MSR holds. Done by
/// KVM_X86_SET_MSR_FILTER, so the guest cannot know.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Lie {
    /// The MSR.
    pub index: u32,
    /// What RDMSR of it gives.
    pub value: u64,
}

/// The machine `kvm`, in the threads of this process. [`Confined`](crate::vmm::Confined) puts it into processes of its own.
#[derive(Debug)]
pub struct KvmMachine {
    kvm: Kvm,
    /// KVM_GET_SUPPORTED_CPUID, asked once.
    cpuid: CpuId,
    /// KVM_GET_MSR_INDEX_LIST, asked once.
    listed_msrs: HashSet<u32>,
    /// What this KVM can do.
    can: host::kvm::Kvm,
    /// What of the host's devices VMs may be given.
    devices: Devices,
    /// The CPUs that vCPUs are pinned to; none, where the host is to place them.
    pins: Vec<usize>,
    /// A planted fault.
    lie: Option<Lie>,
}

impl KvmMachine {
    /// Opens /dev/kvm and finds out what it can do.
    ///
    /// # Errors
    /// It cannot be used.
    pub fn open() -> Result<Self, KvmTrouble> {
        let kvm = host::kvm::open()?;
        let can = host::kvm::Kvm::of(&kvm)?;
        let failed = |what: &str, error: String| KvmTrouble::Failed { what: what.to_owned(), error };
        deadline::install().map_err(|e| failed("sigaction", e.to_string()))?;
        let cpuid = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES);
        let cpuid = cpuid.map_err(|e| failed("KVM_GET_SUPPORTED_CPUID", e.to_string()))?;
        let listed = kvm.get_msr_index_list().map_err(|e| failed("KVM_GET_MSR_INDEX_LIST", e.to_string()))?;
        let listed_msrs = listed.as_slice().iter().copied().collect();
        Ok(KvmMachine { cpuid, listed_msrs, can, devices: Devices::default(), pins: Vec::new(), lie: None, kvm })
    }

    /// Lets VMs be given these devices of the host.
    ///
    /// # Errors
    /// KVM does not take the provider of non-coherent DMA, which is tried on a VM that is gone afterwards.
    pub fn with_devices(self, devices: Devices) -> Result<Self, DeviceError> {
        if let Some(provider) = &devices.dma {
            let refused = |error: kvm_ioctls::Error| {
                let advice = match (error.errno(), provider.file()) {
                    (libc::ENODEV, Some(_)) => "; this KVM has no VFIO device (CONFIG_KVM_VFIO)",
                    (libc::ENODEV, None) => {
                        "; this KVM has no VIRTIO device (no released kernel has; see ci/kernels/patches)"
                    }
                    (libc::EINVAL, Some(_)) => "; to VFIO it is no file of its own",
                    _ => "",
                };
                DeviceError::io(
                    format!("KVM does not take {} (KVM_SET_DEVICE_ATTR){advice}", provider.spec()),
                    error.into(),
                )
            };
            let cannot = |error: kvm_ioctls::Error| DeviceError::io("cannot make a VM (KVM_CREATE_VM)", error.into());
            let vm = self.kvm.create_vm().map_err(cannot)?;
            Vfio::default().add(&vm, provider).map_err(refused)?;
        }
        Ok(KvmMachine { devices, ..self })
    }

    /// Pins the thread of each vCPU to a CPU: that of vCPU n to the n-th of these, from the first on again where there
    /// are more. Times mean little of a vCPU that moves.
    pub fn pinned(self, cpus: &[usize]) -> Self {
        KvmMachine { pins: cpus.to_owned(), ..self }
    }

    /// Pins the calling thread, which runs vCPU `cpu`, for as long as the value lives.
    fn pin(&self, cpu: u8) -> Result<Option<Pinned>, MachineError> {
        let Some(&to) = self.pins.iter().cycle().nth(cpu.into()) else { return Ok(None) };
        Pinned::to(to).failed(&format!("cannot pin vCPU {cpu} to CPU {to}")).map(Some)
    }

    /// The provider of non-coherent DMA.
    fn dma(&self) -> Option<&Provider> {
        self.devices.dma.as_ref()
    }

    /// Plants a fault: guests of this machine see a KVM that lies. For tests of the suite itself; no command line
    /// reaches it.
    pub fn lying(self, lie: Lie) -> Self {
        KvmMachine { lie: Some(lie), ..self }
    }

    /// What makes it another one than [`open`](KvmMachine::open) gives: devices, CPUs, and a planted fault.
    pub fn parts(&self) -> (&Devices, &[usize], Option<Lie>) {
        (&self.devices, &self.pins, self.lie)
    }

    /// With these parts, which were tried elsewhere.
    pub fn of_parts(self, devices: Devices, pins: Vec<usize>, lie: Option<Lie>) -> Self {
        KvmMachine { devices, pins, lie, ..self }
    }

    /// The descriptors that VMs are made of.
    pub fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        let provider = self.dma().and_then(Provider::file).map(AsRawFd::as_raw_fd);
        std::iter::once(self.kvm.as_raw_fd()).chain(provider)
    }

    /// The KVM behind it.
    pub fn kvm(&self) -> &Kvm {
        &self.kvm
    }

    /// KVM_GET_SUPPORTED_CPUID with what the VM's configuration and the vCPU's index change in it.
    pub(crate) fn cpuid(&self, vm: &VmConfig, index: u8) -> CpuId {
        let mut cpuid = self.cpuid.clone();
        for entry in cpuid.as_mut_slice() {
            adapt(entry, vm, index);
        }
        cpuid
    }

    /// MAXPHYADDR that vCPUs of such a VM see.
    fn maxphyaddr(&self, vm: &VmConfig) -> u8 {
        vm.maxphyaddr.unwrap_or(self.can.maxphyaddr)
    }
}

fn adapt(entry: &mut kvm_cpuid_entry2, vm: &VmConfig, index: u8) {
    match entry.function {
        LEAF_FEATURES => {
            entry.ebx = entry.ebx & 0x00ff_ffff | u32::from(index) << 24;
            if !vm.cpuid_mtrr {
                entry.edx &= !EDX_MTRR;
            }
            if !vm.cpuid_self_snoop {
                entry.edx &= !EDX_SELF_SNOOP;
            }
        }
        LEAF_ADDRESS_SIZES => {
            if let Some(bits) = vm.maxphyaddr {
                entry.eax = entry.eax & !0xff | u32::from(bits);
            }
        }
        leaf if LEAVES_TOPOLOGY.contains(&leaf) => entry.edx = index.into(),
        _ => {}
    }
}

impl Machine for KvmMachine {
    fn name(&self) -> &'static str {
        "kvm"
    }

    fn description(&self) -> String {
        let dma = self.dma().map(|provider| format!("; non-coherent DMA by {}", provider.spec()));
        let mmio = self.devices.mmio.as_ref().map(|mmio| format!("; host MMIO at {}", mmio.description()));
        let hazards: String =
            self.devices.hazards.iter().map(|(_, it)| format!("; destructive on {}", it.description())).collect();
        let linux = self.devices.linux.as_ref().map(|linux| format!("; {linux}"));
        let devices: String = [dma, mmio, linux].into_iter().flatten().collect();
        format!("the embedded VMM{devices}{hazards}")
    }

    fn lacks(&self, needs: Needs, vm: &VmConfig) -> Option<String> {
        let most = self.kvm.get_max_vcpus();
        let host::kvm::Kvm { quirks, maxphyaddr, one_reg, mce_banks, readonly_memslots, memslots_v2, .. } = self.can;
        let slot_types = [
            (SlotType::NonCoherentDma, needs.has(Needs::SLOT_NON_COHERENT_DMA)),
            (SlotType::Wc, needs.has(Needs::SLOT_WC)),
        ];
        let wants = |&(typed, needed): &(SlotType, bool)| needed || vm.slot_type == typed;
        let mut wanted = slot_types.into_iter().filter(wants).map(|(typed, _)| typed);
        let unknown_type = wanted.find(|typed| !self.can.slot_types.contains(typed));
        let missing = |need, there: bool| needs.has(need) && !there;
        let unknown_quirks: Vec<_> = Quirks(vm.disable_quirks.0 & !quirks).names().collect();
        if needs.has(Needs::BARE) {
            // Also where KVM shows VMX to its guests: what the guest's own guest got would be KVM's doing.
            Some(NOT_BARE.to_owned())
        } else if usize::from(needs.cpu_count()) > most {
            Some(format!("it needs {} vCPUs, this KVM has {most}", needs.cpu_count()))
        } else if let Some(bits) = vm.maxphyaddr.filter(|&bits| bits > maxphyaddr) {
            Some(format!("MAXPHYADDR {bits} is more than this host's {maxphyaddr}"))
        } else if !vm.cpuid_mtrr && self.can.cpuid_mtrr_forced {
            Some("CPUID.1:EDX.MTRR cannot be hidden: this KVM shows it whatever the VMM sets".to_owned())
        } else if !unknown_quirks.is_empty() {
            let names = unknown_quirks.join(", ");
            Some(format!("this KVM has no quirk {names} (KVM_CAP_DISABLE_QUIRKS2 is {quirks:#x})"))
        } else if let Some(typed) = unknown_type {
            Some(slot_type::lacks(typed))
        } else if (vm.non_coherent_dma || needs.has(Needs::DMA)) && self.devices.dma.is_none() {
            Some("it needs non-coherent DMA: name a provider to --dma (doctor says what this host has)".to_owned())
        } else if needs.has(Needs::HOST_MMIO) && self.devices.mmio.is_none() {
            Some(
                "it needs a page of host MMIO: name a PCI device to --host-mmio (doctor says what this host has)"
                    .to_owned(),
            )
        } else if let Some(hazard) = hazard::of(needs).filter(|&hazard| self.devices.hazard(hazard).is_none()) {
            let name =
                if hazard == Hazard::HostBar { "the address of a PCI device".to_owned() } else { hazard.to_string() };
            Some(format!("it may take the host down: only where --destructive names {name} (docs/destructive.md)"))
        } else if missing(Needs::LINUX, self.devices.linux.is_some()) {
            Some("it boots a Linux kernel: name a vmlinux to --linux".to_owned())
        } else if missing(Needs::ONE_REG, one_reg) {
            Some("this KVM has no KVM_GET_ONE_REG for MSRs (Linux 6.18 brought it)".to_owned())
        } else if missing(Needs::MCE, mce_banks > 0) {
            Some("this KVM has no KVM_CAP_MCE".to_owned())
        } else if missing(Needs::READONLY_SLOTS, readonly_memslots) {
            Some("this KVM has no KVM_CAP_READONLY_MEM".to_owned())
        } else if missing(Needs::SLOTS_V2, memslots_v2) {
            Some("this KVM has no KVM_SET_USER_MEMORY_REGION2 (Linux 6.8 brought it)".to_owned())
        } else {
            Memory::lacks(needs).or_else(|| not_parallel(needs))
        }
    }

    fn run(&self, job: &Job<'_>) -> Result<Observed, MachineError> {
        vm::run(self, job)
    }
}
