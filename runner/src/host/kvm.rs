//! KVM itself: whether /dev/kvm can be used, and what it says of itself on a scratch VM.

use super::slot_type;
use crate::machine::kvm::sys;
use crate::machine::kvm::vfio::KVM_DEV_TYPE_VIRTIO;
use kvm_bindings::{
    CpuId, KVM_CAP_DISABLE_QUIRKS2, KVM_CAP_GUEST_MEMFD, KVM_CAP_MCE, KVM_CAP_READONLY_MEM, KVM_CAP_USER_MEMORY2,
    KVM_CAP_X86_APIC_BUS_CYCLES_NS, KVM_MAX_CPUID_ENTRIES, kvm_create_device, kvm_device_type_KVM_DEV_TYPE_VFIO,
};
use kvm_ioctls::{Error, Kvm as Fd, VcpuFd, VmFd};
use serde::Serialize;
use std::ffi::{CStr, c_ulong};
use std::os::unix::fs::MetadataExt;
use std::{fmt, fs};
use wire::step::SlotType;

/// The API version that all KVMs since Linux 2.6.22 have (`Documentation/virt/kvm/api.rst`, KVM_GET_API_VERSION).
const API_VERSION: i32 = 12;
/// CPUID.1:EDX.MTRR.
const CPUID_MTRR: u32 = 1 << 12;
/// MAXPHYADDR where CPUID has no leaf 0x80000008 (`arch/x86/kvm/cpuid.c`, `cpuid_query_maxphyaddr`).
const MAXPHYADDR_WITHOUT_LEAF: u8 = 36;

/// What a KVM that works says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Kvm {
    /// KVM_CAP_DISABLE_QUIRKS2: the quirks that can be disabled.
    pub quirks: u32,
    /// KVM_CAP_X86_APIC_BUS_CYCLES_NS.
    pub apic_bus_cycles: bool,
    /// KVM_CAP_USER_MEMORY2.
    pub memslots_v2: bool,
    /// KVM_CAP_GUEST_MEMFD of a default VM.
    pub guest_memfd: bool,
    /// KVM_CAP_READONLY_MEM.
    pub readonly_memslots: bool,
    /// KVM_GET_ONE_REG reads IA32_PAT of a vCPU.
    pub one_reg: bool,
    /// KVM_CREATE_DEVICE makes KVM_DEV_TYPE_VFIO, which makes DMA non-coherent.
    pub vfio_device: bool,
    /// KVM_CAP_MCE: the most MC banks.
    pub mce_banks: u32,
    /// KVM_X86_GET_MCE_CAP_SUPPORTED: bits that KVM_X86_SETUP_MCE takes in IA32_MCG_CAP.
    pub mce_caps: u64,
    /// MAXPHYADDR in KVM_GET_SUPPORTED_CPUID, in bits.
    pub maxphyaddr: u8,
    /// CPUID.1:EDX.MTRR is shown to a guest although KVM_SET_CPUID2 took it away.
    pub cpuid_mtrr_forced: bool,
    /// The types of which KVM has the memslot flag.
    #[serde(serialize_with = "in_words")]
    pub slot_types: Vec<SlotType>,
    /// KVM_CREATE_DEVICE makes KVM_DEV_TYPE_VIRTIO, by which user space itself makes DMA non-coherent.
    pub virtio_device: bool,
}

fn in_words<S: serde::Serializer>(types: &[SlotType], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(types.iter().map(SlotType::to_string))
}

/// Why KVM cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum KvmTrouble {
    /// There is no /dev/kvm.
    NoDevice,
    /// /dev/kvm is not for this user.
    NoPermission {
        /// The group whose members may use it, if it has one and that is not root's.
        group: Option<String>,
    },
    /// KVM_GET_API_VERSION says something else than 12.
    ApiVersion(i32),
    /// Something that every KVM can do failed.
    Failed {
        /// What was tried.
        what: String,
        /// What the system said.
        error: String,
    },
}

impl KvmTrouble {
    /// What to do about it, where the CPU shows VMX or SVM (`hardware`) and where it does not.
    pub fn advice(&self, hardware: bool) -> String {
        match self {
            KvmTrouble::NoDevice if hardware => "Load the module: modprobe kvm_intel, or kvm_amd.".to_owned(),
            KvmTrouble::NoDevice => {
                "The CPU shows neither VMX nor SVM: switch virtualization on in the firmware or, in a VM, \
                 nesting in the hypervisor. Or run stock kernels in the lab, which needs neither: \
                 cargo run --release -p lab -- run."
                    .to_owned()
            }
            KvmTrouble::NoPermission { group: Some(group) } => {
                format!("Join its group, and log in again: sudo usermod -aG {group} $USER.")
            }
            KvmTrouble::NoPermission { group: None } => {
                "It is root's alone: run as root, or give it a group (chgrp kvm /dev/kvm; chmod g+rw /dev/kvm)."
                    .to_owned()
            }
            KvmTrouble::ApiVersion(_) => {
                "Whatever it is, it is not the KVM of a kernel since 2.6.22; use another host.".to_owned()
            }
            KvmTrouble::Failed { .. } => "See dmesg for its reason.".to_owned(),
        }
    }
}

impl fmt::Display for KvmTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KvmTrouble::NoDevice => f.write_str("there is no /dev/kvm"),
            KvmTrouble::NoPermission { .. } => f.write_str("no permission to open /dev/kvm"),
            KvmTrouble::ApiVersion(found) => write!(f, "KVM has API version {found}, not {API_VERSION}"),
            KvmTrouble::Failed { what, error } => write!(f, "{what} failed: {error}"),
        }
    }
}

impl Kvm {
    /// Opens /dev/kvm and tries what it can do, on a VM that is gone afterwards.
    ///
    /// # Errors
    /// It cannot be used.
    pub fn probe() -> Result<Kvm, KvmTrouble> {
        Kvm::of(&open()?)
    }

    /// Tries what an open KVM can do, on a VM that is gone afterwards.
    ///
    /// # Errors
    /// Something that every KVM can do failed.
    pub fn of(fd: &Fd) -> Result<Kvm, KvmTrouble> {
        let vm = fd.create_vm().map_err(|e| failed("KVM_CREATE_VM", e))?;
        let vcpu = vm.create_vcpu(0).map_err(|e| failed("KVM_CREATE_VCPU", e))?;
        let cpuid = fd.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(|e| failed("KVM_GET_SUPPORTED_CPUID", e))?;
        let number = |cap: u32| extension(&vm, cap).map_err(|e| failed("KVM_CHECK_EXTENSION", e));
        let device = |type_| match vm.create_device(&mut kvm_create_device { type_, fd: 0, flags: 0 }) {
            Ok(_) => Ok(true),
            Err(error) if error.errno() == libc::ENODEV || is_unknown(error.errno()) => Ok(false),
            Err(error) => Err(failed("KVM_CREATE_DEVICE", error)),
        };
        Ok(Kvm {
            quirks: number(KVM_CAP_DISABLE_QUIRKS2)?,
            apic_bus_cycles: number(KVM_CAP_X86_APIC_BUS_CYCLES_NS)? != 0,
            memslots_v2: number(KVM_CAP_USER_MEMORY2)? != 0,
            guest_memfd: number(KVM_CAP_GUEST_MEMFD)? != 0,
            readonly_memslots: number(KVM_CAP_READONLY_MEM)? != 0,
            one_reg: reads_one_reg(&vcpu).map_err(|e| failed("KVM_GET_ONE_REG", e))?,
            // KVM_CREATE_DEVICE_TEST would do, but kvm-ioctls takes the file descriptor that it does not give for one.
            vfio_device: device(kvm_device_type_KVM_DEV_TYPE_VFIO)?,
            virtio_device: device(KVM_DEV_TYPE_VIRTIO)?,
            slot_types: slot_type::probe(&vm).map_err(|e| failed("KVM_CHECK_EXTENSION", e))?,
            mce_banks: number(KVM_CAP_MCE)?,
            // A KVM without machine checks does not know the ioctl.
            mce_caps: match sys::mce_cap_supported(fd) {
                Err(error) if is_unknown(error.raw_os_error().unwrap_or(0)) => 0,
                caps => caps.map_err(|e| failed("KVM_X86_GET_MCE_CAP_SUPPORTED", e))?,
            },
            maxphyaddr: maxphyaddr(&cpuid),
            cpuid_mtrr_forced: forces_mtrr(&vcpu, cpuid).map_err(|e| failed("hiding MTRR by KVM_SET_CPUID2", e))?,
        })
    }
}

/// Whether an errno says that a KVM does not know what it is asked, and not that it failed at it: a KVM that failed must not be
/// taken for an older one.
fn is_unknown(errno: i32) -> bool {
    matches!(errno, libc::EINVAL | libc::ENOTTY | libc::ENOENT)
}

/// KVM_CHECK_EXTENSION of a VM: 0 for a capability that it does not know.
///
/// # Errors
/// What the ioctl says.
pub(super) fn extension(vm: &VmFd, capability: u32) -> Result<u32, Error> {
    match vm.check_extension_raw(c_ulong::from(capability)) {
        // The call has just failed, and nothing has come between.
        ..0 => Some(Error::last()).filter(|error| !is_unknown(error.errno())).map_or(Ok(0), Err),
        answer => Ok(answer.unsigned_abs()),
    }
}

/// Opens /dev/kvm.
///
/// # Errors
/// It cannot be opened, or speaks another API.
pub fn open() -> Result<Fd, KvmTrouble> {
    open_at(c"/dev/kvm")
}

fn open_at(path: &CStr) -> Result<Fd, KvmTrouble> {
    let fd = Fd::new_with_path(path).map_err(|e| cannot_open(path, e))?;
    match fd.get_api_version() {
        API_VERSION => Ok(fd),
        version => Err(KvmTrouble::ApiVersion(version)),
    }
}

fn cannot_open(path: &CStr, error: Error) -> KvmTrouble {
    match error.errno() {
        libc::ENOENT | libc::ENODEV | libc::ENXIO => KvmTrouble::NoDevice,
        libc::EACCES | libc::EPERM => KvmTrouble::NoPermission { group: group(path) },
        _ => failed(&format!("opening {}", path.to_string_lossy()), error),
    }
}

fn failed(what: &str, error: impl fmt::Display) -> KvmTrouble {
    KvmTrouble::Failed { what: what.to_owned(), error: error.to_string() }
}

/// Name of the group that a file belongs to, unless it is root's.
fn group(path: &CStr) -> Option<String> {
    let gid = fs::metadata(path.to_str().ok()?).ok()?.gid();
    group_name(&fs::read_to_string("/etc/group").ok()?, gid)
}

fn group_name(groups: &str, gid: u32) -> Option<String> {
    let fields = |line: &str| {
        let mut fields = line.split(':');
        Some((fields.next()?.to_owned(), fields.nth(1)?.parse::<u32>().ok()?))
    };
    groups.lines().filter_map(fields).find(|&(_, id)| id == gid && gid != 0).map(|(name, _)| name)
}

/// Whether KVM_GET_ONE_REG reads IA32_PAT. On x86 it is new, and only trying it tells.
fn reads_one_reg(vcpu: &VcpuFd) -> Result<bool, Error> {
    let id = sys::one_reg_msr(wire::layout::PAT);
    match vcpu.get_one_reg(id, &mut [0; 8]) {
        Ok(_) => Ok(true),
        Err(error) if is_unknown(error.errno()) => Ok(false),
        Err(error) => Err(error),
    }
}

fn maxphyaddr(cpuid: &CpuId) -> u8 {
    let leaf = cpuid.as_slice().iter().find(|entry| entry.function == 0x8000_0008);
    leaf.map_or(MAXPHYADDR_WITHOUT_LEAF, |entry| entry.eax as u8)
}

/// Takes CPUID.1:EDX.MTRR away from a vCPU, and says whether it is there all the same.
fn forces_mtrr(vcpu: &VcpuFd, mut cpuid: CpuId) -> Result<bool, Error> {
    for entry in cpuid.as_mut_slice() {
        if entry.function == 1 {
            entry.edx &= !CPUID_MTRR;
        }
    }
    vcpu.set_cpuid2(&cpuid)?;
    let shown = vcpu.get_cpuid2(KVM_MAX_CPUID_ENTRIES)?;
    Ok(shown.as_slice().iter().any(|entry| entry.function == 1 && entry.edx & CPUID_MTRR != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_is_not_there_is_named_so() {
        assert_eq!(open_at(c"/nowhere/kvm").err(), Some(KvmTrouble::NoDevice));
    }

    #[test]
    fn a_file_that_is_no_kvm_has_another_version() {
        assert_eq!(open_at(c"/dev/null").err(), Some(KvmTrouble::ApiVersion(-1)));
    }

    #[test]
    fn groups_are_found_by_number() {
        let groups = "root:x:0:\nbroken\nkvm:x:104:me,you\n";
        assert_eq!(group_name(groups, 104).as_deref(), Some("kvm"));
        assert_eq!(group_name(groups, 0), None);
        assert_eq!(group_name(groups, 5), None);
    }

    #[test]
    fn this_hosts_kvm_answers() {
        match Kvm::probe() {
            Ok(kvm) => assert!(kvm.mce_banks > 0 && (32..=52).contains(&kvm.maxphyaddr), "{kvm:?}"),
            Err(trouble @ (KvmTrouble::NoDevice | KvmTrouble::NoPermission { .. })) => {
                crate::skip::skip(&trouble.to_string());
            }
            Err(trouble) => panic!("{trouble}"),
        }
    }
}
