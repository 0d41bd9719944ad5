//! The KVM interfaces that kvm-ioctls lacks, each by its name in `include/uapi/linux/kvm.h`.

use kvm_bindings::{
    KVM_CAP_DISABLE_QUIRKS2, KVM_EXIT_INTERNAL_ERROR, KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES,
    kvm_enable_cap, kvm_x86_mce,
};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use vmm_sys_util::ioctl::{ioctl, ioctl_with_mut_ref, ioctl_with_ref};

/// The ioctl numbers.
mod number {
    use super::kvm_x86_mce;
    use vmm_sys_util::{ioctl_io_nr, ioctl_ior_nr, ioctl_iow_nr};

    const KVMIO: u32 = 0xae;
    ioctl_iow_nr!(KVM_X86_SETUP_MCE, KVMIO, 0x9c, u64);
    ioctl_ior_nr!(KVM_X86_GET_MCE_CAP_SUPPORTED, KVMIO, 0x9d, u64);
    ioctl_iow_nr!(KVM_X86_SET_MCE, KVMIO, 0x9e, kvm_x86_mce);
    ioctl_io_nr!(KVM_GET_STATS_FD, KVMIO, 0xce);
}

use number::{KVM_GET_STATS_FD, KVM_X86_GET_MCE_CAP_SUPPORTED, KVM_X86_SET_MCE, KVM_X86_SETUP_MCE};

/// MCG_CAP bits that KVM_X86_SETUP_MCE takes besides the number of banks (`arch/x86/kvm/x86.c`,
/// `kvm_caps.supported_mce_cap`).
///
/// # Errors
/// What the ioctl says.
pub fn mce_cap_supported(kvm: &Kvm) -> io::Result<u64> {
    let mut cap = 0u64;
    // SAFETY: the ioctl writes one u64 to the address that it is given, and `cap` is one.
    done(unsafe { ioctl_with_mut_ref(kvm, KVM_X86_GET_MCE_CAP_SUPPORTED(), &mut cap) }).map(|()| cap)
}

/// KVM_ENABLE_CAP of KVM_CAP_DISABLE_QUIRKS2 with these quirks.
///
/// # Errors
/// EINVAL for a quirk that KVM does not have or does not let go of.
pub fn disable_quirks(vm: &VmFd, quirks: u32) -> Result<(), kvm_ioctls::Error> {
    let args = [quirks.into(), 0, 0, 0];
    vm.enable_cap(&kvm_enable_cap { cap: KVM_CAP_DISABLE_QUIRKS2, args, ..Default::default() })
}

/// KVM_X86_SETUP_MCE: sets MCG_CAP, and MCG_CTL and each MCi_CTL to all ones.
///
/// # Errors
/// EINVAL for a number of banks or a capability that KVM does not have.
pub fn setup_mce(vcpu: &VcpuFd, mcg_cap: u64) -> io::Result<()> {
    // SAFETY: the ioctl reads one u64 from the address that it is given.
    done(unsafe { ioctl_with_ref(vcpu, KVM_X86_SETUP_MCE(), &mcg_cap) })
}

/// KVM_X86_SET_MCE: fills a bank and, for an uncorrected error, queues #MC.
///
/// # Errors
/// EINVAL for a bank that is not there or a status that is not valid.
pub fn set_mce(vcpu: &VcpuFd, mce: &kvm_x86_mce) -> io::Result<()> {
    // SAFETY: the ioctl reads one `struct kvm_x86_mce` from the address that it is given.
    done(unsafe { ioctl_with_ref(vcpu, KVM_X86_SET_MCE(), mce) })
}

/// KVM_GET_STATS_FD: the file with the statistics of a VM or a vCPU.
///
/// # Errors
/// ENOTTY where KVM has none.
pub fn stats_fd(of: &impl AsRawFd) -> io::Result<File> {
    // SAFETY: the ioctl takes no argument.
    let fd = unsafe { ioctl(&of.as_raw_fd(), KVM_GET_STATS_FD()) };
    // SAFETY: the ioctl has just made this file descriptor, and nobody else knows it.
    done(fd).map(|()| unsafe { File::from_raw_fd(fd) })
}

fn done(returned: i32) -> io::Result<()> {
    if returned < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Id of an MSR for KVM_GET_ONE_REG and KVM_SET_ONE_REG (`KVM_X86_REG_MSR`, `arch/x86/include/uapi/asm/kvm.h`): x86, 64
/// bits wide, of the type MSR.
pub const fn one_reg_msr(index: u32) -> u64 {
    const KVM_REG_X86: u64 = 0x2000_0000_0000_0000;
    const KVM_REG_SIZE_U64: u64 = 0x0030_0000_0000_0000;
    const KVM_X86_REG_TYPE_MSR: u64 = 2;
    KVM_REG_X86 | KVM_REG_SIZE_U64 | KVM_X86_REG_TYPE_MSR << 32 | index as u64
}

/// What KVM_EXIT_INTERNAL_ERROR says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InternalError {
    /// `KVM_INTERNAL_ERROR_*`.
    pub suberror: u32,
    /// The instruction bytes, where KVM gives them (up to 15); else empty.
    pub bytes: Vec<u8>,
}

/// Details of the KVM_EXIT_INTERNAL_ERROR that the last KVM_RUN returned with, if it did.
pub fn internal_error(vcpu: &mut VcpuFd) -> Option<InternalError> {
    let run = vcpu.get_kvm_run();
    if run.exit_reason != KVM_EXIT_INTERNAL_ERROR {
        return None;
    }
    // SAFETY: the exit reason says which member of the union KVM filled in, and every bit pattern of it is valid.
    let failure = unsafe { run.__bindgen_anon_1.emulation_failure };
    let mut bytes = Vec::new();
    // `ndata` counts the u64s after it: the flags, then one byte of length and 15 of instruction.
    let carries = failure.suberror == kvm_bindings::KVM_INTERNAL_ERROR_EMULATION && failure.ndata >= 3;
    if carries && failure.flags & u64::from(KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES) != 0 {
        // SAFETY: the union has one member, of plain bytes; the flag says that KVM filled it in.
        let insn = unsafe { failure.__bindgen_anon_1.__bindgen_anon_1 };
        bytes.extend(insn.insn_bytes.iter().take(insn.insn_size.into()));
    }
    Some(InternalError { suberror: failure.suberror, bytes })
}

/// Thread id of the caller, as timers and signals name it.
pub fn thread_id() -> libc::pid_t {
    // SAFETY: gettid takes nothing and cannot fail.
    unsafe { libc::gettid() }
}

/// The errno of a failed kvm-ioctls call, for a reply to the guest.
pub fn errno(error: &kvm_ioctls::Error) -> u32 {
    error.errno().unsigned_abs()
}
