//! The system calls that a VMM makes once it is confined, with the ioctls among them.

use kvm_bindings::{
    kvm_cpuid2, kvm_create_device, kvm_device_attr, kvm_enable_cap, kvm_msr_filter, kvm_msrs, kvm_one_reg, kvm_regs,
    kvm_sregs, kvm_userspace_memory_region, kvm_userspace_memory_region2, kvm_x86_mce,
};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use std::collections::BTreeMap;
use std::mem::size_of;
use vmm_sys_util::ioctl::{_IOC_NONE, _IOC_READ, _IOC_WRITE, ioctl_expr};

const READ_WRITE: u32 = _IOC_READ | _IOC_WRITE;

/// Of type KVMIO, by direction, number and size of the argument (`include/uapi/linux/kvm.h`).
const IOCTLS: [(u32, u32, usize); 25] = [
    (_IOC_NONE, 0x01, 0),                                          // KVM_CREATE_VM
    (_IOC_NONE, 0x04, 0),                                          // KVM_GET_VCPU_MMAP_SIZE
    (_IOC_NONE, 0x41, 0),                                          // KVM_CREATE_VCPU
    (_IOC_WRITE, 0x46, size_of::<kvm_userspace_memory_region>()),  // KVM_SET_USER_MEMORY_REGION
    (_IOC_NONE, 0x47, 0),                                          // KVM_SET_TSS_ADDR
    (_IOC_WRITE, 0x49, size_of::<kvm_userspace_memory_region2>()), // KVM_SET_USER_MEMORY_REGION2
    (_IOC_NONE, 0x80, 0),                                          // KVM_RUN
    (_IOC_READ, 0x81, size_of::<kvm_regs>()),                      // KVM_GET_REGS
    (_IOC_WRITE, 0x82, size_of::<kvm_regs>()),                     // KVM_SET_REGS
    (_IOC_READ, 0x83, size_of::<kvm_sregs>()),                     // KVM_GET_SREGS
    (_IOC_WRITE, 0x84, size_of::<kvm_sregs>()),                    // KVM_SET_SREGS
    (READ_WRITE, 0x88, size_of::<kvm_msrs>()),                     // KVM_GET_MSRS
    (_IOC_WRITE, 0x89, size_of::<kvm_msrs>()),                     // KVM_SET_MSRS
    (_IOC_WRITE, 0x90, size_of::<kvm_cpuid2>()),                   // KVM_SET_CPUID2
    (_IOC_WRITE, 0x9c, size_of::<u64>()),                          // KVM_X86_SETUP_MCE
    (_IOC_WRITE, 0x9e, size_of::<kvm_x86_mce>()),                  // KVM_X86_SET_MCE
    (_IOC_WRITE, 0xa3, size_of::<kvm_enable_cap>()),               // KVM_ENABLE_CAP
    (_IOC_WRITE, 0xab, size_of::<kvm_one_reg>()),                  // KVM_GET_ONE_REG
    (_IOC_WRITE, 0xac, size_of::<kvm_one_reg>()),                  // KVM_SET_ONE_REG
    (_IOC_WRITE, 0xc6, size_of::<kvm_msr_filter>()),               // KVM_X86_SET_MSR_FILTER
    (_IOC_NONE, 0xce, 0),                                          // KVM_GET_STATS_FD
    (READ_WRITE, 0xe0, size_of::<kvm_create_device>()),            // KVM_CREATE_DEVICE
    (_IOC_WRITE, 0xe1, size_of::<kvm_device_attr>()),              // KVM_SET_DEVICE_ATTR
    (_IOC_NONE, 0x03, 0),                                          // KVM_CHECK_EXTENSION
    (_IOC_NONE, 0x00, 0),                                          // KVM_GET_API_VERSION
];
const KVMIO: u32 = 0xae;

/// Allowed with any arguments: they take descriptors and memory that the process has, or change nothing but itself.
const CALLS: [libc::c_long; 33] = [
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_close,
    libc::SYS_lseek,
    libc::SYS_munmap,
    libc::SYS_brk,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_pread64,
    libc::SYS_sched_yield,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_getpid,
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_exit,
    libc::SYS_ftruncate,
    libc::SYS_sigaltstack,
    libc::SYS_mlock,
    libc::SYS_gettid,
    libc::SYS_futex,
    libc::SYS_timer_create,
    libc::SYS_timer_settime,
    libc::SYS_timer_delete,
    libc::SYS_clock_gettime,
    libc::SYS_exit_group,
    libc::SYS_mbind,
    libc::SYS_set_robust_list,
    libc::SYS_getrandom,
    libc::SYS_memfd_create,
    libc::SYS_rseq,
    libc::SYS_restart_syscall,
    libc::SYS_sched_getaffinity,
];

/// What a new thread must have in common with its maker, and what it must not be.
const THREAD: libc::c_int = libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SIGHAND | libc::CLONE_FILES;
const NAMESPACES: libc::c_int = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;

/// The filters, to be set in this order. What the second, of VMMs, does not allow ends in SIGSYS. The first, which leaves all
/// else as it is, answers clone3, whose flags no filter can see, as a kernel without it, so that threads are made by clone.
///
/// # Errors
/// None, unless the list above is not one.
pub fn filters() -> Result<[BpfProgram; 2], BackendError> {
    let no_clone3 = SeccompFilter::new(
        BTreeMap::from([(libc::SYS_clone3, Vec::new())]),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::ENOSYS as u32),
        TargetArch::x86_64,
    )?;
    let mut calls: BTreeMap<_, Vec<_>> = CALLS.into_iter().map(|call| (call, Vec::new())).collect();
    calls.insert(libc::SYS_clone3, Vec::new());
    let ioctl = |(direction, number, size): (u32, u32, usize)| {
        SeccompRule::new(vec![equal(1, ioctl_expr(direction, KVMIO, number, size as u32))?])
    };
    calls.insert(libc::SYS_ioctl, IOCTLS.into_iter().map(ioctl).collect::<Result<_, _>>()?);
    // No page that can be written becomes code.
    let no_code = || masked(2, libc::PROT_EXEC, 0);
    calls.insert(libc::SYS_mmap, vec![SeccompRule::new(vec![no_code()?])?]);
    calls.insert(libc::SYS_mprotect, vec![SeccompRule::new(vec![no_code()?])?]);
    calls.insert(libc::SYS_clone, vec![SeccompRule::new(vec![masked(0, THREAD | NAMESPACES, THREAD)?])?]);
    // The C library handles one when it makes its first thread. What tells of a refused call stays.
    let other = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, libc::SIGSYS as u64)?;
    calls.insert(libc::SYS_rt_sigaction, vec![SeccompRule::new(vec![other])?]);
    // The thread itself: what its vCPU is pinned to.
    calls.insert(libc::SYS_sched_setaffinity, vec![SeccompRule::new(vec![equal(0, 0)?])?]);
    // Less time of the CPU, when the job is known.
    calls.insert(libc::SYS_prlimit64, vec![SeccompRule::new(vec![equal(0, 0)?, equal(1, libc::RLIMIT_CPU.into())?])?]);
    let duplicate = [libc::F_DUPFD_CLOEXEC, libc::F_GETFD];
    let duplicate = duplicate.map(|command| SeccompRule::new(vec![equal(1, command as u64)?]));
    calls.insert(libc::SYS_fcntl, duplicate.into_iter().collect::<Result<_, _>>()?);
    let rest = SeccompFilter::new(calls, SeccompAction::Trap, SeccompAction::Allow, TargetArch::x86_64)?;
    Ok([no_clone3.try_into()?, rest.try_into()?])
}

/// An argument of 32 bits that has this value.
fn equal(argument: u8, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
}

/// An argument of which these bits have this value.
fn masked(argument: u8, bits: libc::c_int, value: libc::c_int) -> Result<SeccompCondition, BackendError> {
    let (bits, value) = (bits as u32, value as u32);
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(bits.into()), value.into())
}

/// Name of a system call, of those that somebody who has taken a VMM over would try first.
pub fn name(number: u64) -> &'static str {
    let names = [
        (libc::SYS_open, "open"),
        (libc::SYS_openat, "openat"),
        (libc::SYS_execve, "execve"),
        (libc::SYS_execveat, "execveat"),
        (libc::SYS_fork, "fork"),
        (libc::SYS_vfork, "vfork"),
        (libc::SYS_clone, "clone"),
        (libc::SYS_socket, "socket"),
        (libc::SYS_connect, "connect"),
        (libc::SYS_ptrace, "ptrace"),
        (libc::SYS_process_vm_writev, "process_vm_writev"),
        (libc::SYS_kill, "kill"),
        (libc::SYS_tgkill, "tgkill"),
        (libc::SYS_ioctl, "ioctl"),
        (libc::SYS_mmap, "mmap"),
        (libc::SYS_mprotect, "mprotect"),
        (libc::SYS_prctl, "prctl"),
        (libc::SYS_rt_sigaction, "rt_sigaction"),
        (libc::SYS_fcntl, "fcntl"),
        (libc::SYS_prlimit64, "prlimit64"),
    ];
    names.into_iter().find(|&(known, _)| known as u64 == number).map_or("see asm/unistd_64.h", |(_, name)| name)
}
