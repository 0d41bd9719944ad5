//! The embedded VMM: runs guests on /dev/kvm with as few ioctls as it takes.

pub(crate) mod boot;
mod deadline;
mod log;
mod slots;
pub(crate) mod steps;
pub mod sys;
mod vm;

pub use boot::RAM;

use super::{Job, Machine, MachineError, Observed};
use crate::plan::vm::VmConfig;
use kvm_bindings::{CpuId, KVM_CAP_READONLY_MEM, KVM_CAP_USER_MEMORY2, KVM_MAX_CPUID_ENTRIES, kvm_cpuid_entry2};
use kvm_ioctls::{Cap, Kvm};
use std::collections::HashSet;
use wire::needs::Needs;

/// CPUID leaf with the feature bits of old: EDX bit 12 is MTRR, EBX bits 31:24 the initial APIC id.
const LEAF_FEATURES: u32 = 1;
/// CPUID leaves with the x2APIC id in EDX.
const LEAVES_TOPOLOGY: [u32; 2] = [0xb, 0x1f];
/// CPUID leaf with MAXPHYADDR in EAX bits 7:0.
const LEAF_ADDRESS_SIZES: u32 = 0x8000_0008;
const EDX_MTRR: u32 = 1 << 12;

/// Why there is no KVM to use, each with what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum NoKvm {
    /// /dev/kvm does not exist.
    #[error("/dev/kvm does not exist: load the KVM module of this CPU's vendor, and enable VMX or SVM in the firmware")]
    Absent,
    /// /dev/kvm exists, but not for this user.
    #[error(
        "no permission to open /dev/kvm: join its group (usually `usermod -aG kvm USER`, then log in again) or run as root"
    )]
    Permission,
    /// Another failure.
    #[error("cannot use /dev/kvm: {0}")]
    Other(String),
}

/// What a call that belongs to the host or the harness failed at.
pub(crate) trait Failed<T> {
    fn failed(self, what: &str) -> Result<T, MachineError>;
}

impl<T, E: Into<Box<dyn std::error::Error + Send + Sync>>> Failed<T> for Result<T, E> {
    fn failed(self, what: &str) -> Result<T, MachineError> {
        self.map_err(|source| MachineError { what: what.to_owned(), source: Some(source.into()) })
    }
}

/// The machine `kvm`.
#[derive(Debug)]
pub struct KvmMachine {
    kvm: Kvm,
    /// KVM_GET_SUPPORTED_CPUID, asked once.
    cpuid: CpuId,
    /// KVM_GET_MSR_INDEX_LIST, asked once.
    listed_msrs: HashSet<u32>,
    /// Whether a vCPU takes KVM_GET_ONE_REG for an MSR.
    one_reg: bool,
}

impl KvmMachine {
    /// Opens /dev/kvm.
    ///
    /// # Errors
    /// There is none, it may not be opened, or it speaks another API than version 12.
    pub fn open() -> Result<Self, NoKvm> {
        let kvm = Kvm::new().map_err(|error| match error.errno() {
            libc::ENOENT | libc::ENODEV | libc::ENXIO => NoKvm::Absent,
            libc::EACCES | libc::EPERM => NoKvm::Permission,
            _ => NoKvm::Other(error.to_string()),
        })?;
        match kvm.get_api_version() {
            12 => {}
            version => return Err(NoKvm::Other(format!("its API version is {version}, not 12"))),
        }
        deadline::install().map_err(|e| NoKvm::Other(format!("cannot install a signal handler: {e}")))?;
        let other = |what: &str, e: kvm_ioctls::Error| NoKvm::Other(format!("{what}: {e}"));
        let cpuid = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(|e| other("KVM_GET_SUPPORTED_CPUID", e))?;
        let listed = kvm.get_msr_index_list().map_err(|e| other("KVM_GET_MSR_INDEX_LIST", e))?;
        let one_reg = takes_one_reg(&kvm).map_err(|e| other("a first vCPU", e))?;
        Ok(KvmMachine { cpuid, listed_msrs: listed.as_slice().iter().copied().collect(), one_reg, kvm })
    }

    /// The KVM behind it.
    pub fn kvm(&self) -> &Kvm {
        &self.kvm
    }

    /// MAXPHYADDR of this host as KVM shows it to guests, in bits.
    pub fn maxphyaddr(&self) -> u8 {
        let leaf = self.cpuid.as_slice().iter().find(|entry| entry.function == LEAF_ADDRESS_SIZES);
        leaf.map_or(36, |entry| entry.eax as u8)
    }

    /// KVM_GET_SUPPORTED_CPUID with what the VM's configuration and the vCPU's index change in it.
    pub(crate) fn cpuid(&self, vm: &VmConfig, index: u8) -> CpuId {
        let mut cpuid = self.cpuid.clone();
        for entry in cpuid.as_mut_slice() {
            adapt(entry, vm, index);
        }
        cpuid
    }
}

fn adapt(entry: &mut kvm_cpuid_entry2, vm: &VmConfig, index: u8) {
    match entry.function {
        LEAF_FEATURES => {
            entry.ebx = entry.ebx & 0x00ff_ffff | u32::from(index) << 24;
            if !vm.cpuid_mtrr {
                entry.edx &= !EDX_MTRR;
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

/// Tries KVM_GET_ONE_REG of IA32_PAT on a vCPU made for it: no capability says whether x86 has it.
fn takes_one_reg(kvm: &Kvm) -> Result<bool, kvm_ioctls::Error> {
    let vcpu = kvm.create_vm()?.create_vcpu(0)?;
    Ok(vcpu.get_one_reg(sys::one_reg_msr(wire::layout::PAT), &mut [0; 8]).is_ok())
}

impl Machine for KvmMachine {
    fn name(&self) -> &'static str {
        "kvm"
    }

    fn lacks(&self, needs: Needs, vm: &VmConfig) -> Option<String> {
        let has = |cap| self.kvm.check_extension_raw(cap) > 0;
        let most = self.kvm.get_max_vcpus();
        let host_bits = self.maxphyaddr();
        if usize::from(needs.cpu_count()) > most {
            Some(format!("it needs {} vCPUs, this KVM has {most}", needs.cpu_count()))
        } else if let Some(bits) = vm.maxphyaddr.filter(|&bits| bits > host_bits) {
            Some(format!("MAXPHYADDR {bits} is more than this host's {host_bits}"))
        } else if needs.has(Needs::ONE_REG) && !self.one_reg {
            Some("this KVM has no KVM_GET_ONE_REG for MSRs (Linux 6.18 brought it)".to_owned())
        } else if needs.has(Needs::MCE) && !has(Cap::Mce as _) {
            Some("this KVM has no KVM_CAP_MCE".to_owned())
        } else if needs.has(Needs::READONLY_SLOTS) && !has(KVM_CAP_READONLY_MEM.into()) {
            Some("this KVM has no KVM_CAP_READONLY_MEM".to_owned())
        } else if needs.has(Needs::SLOTS_V2) && !has(KVM_CAP_USER_MEMORY2.into()) {
            Some("this KVM has no KVM_SET_USER_MEMORY_REGION2 (Linux 6.8 brought it)".to_owned())
        } else {
            None
        }
    }

    fn run(&self, job: &Job<'_>) -> Result<Observed, MachineError> {
        vm::run(self, job)
    }
}
