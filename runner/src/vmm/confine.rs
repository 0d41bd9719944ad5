//! The confinement: what the zygote does once, and what each child does after its fork.

use super::{InForce, allowed};
use crate::host::limits::{lift, limit};
use crate::machine::MachineError;
use crate::machine::kvm::Failed;
use landlock::{
    ABI, Access, AccessFs, AccessNet, LandlockStatus, Ruleset, RulesetAttr, RulesetCreated, RulesetStatus, Scope,
};
use seccompiler::BpfProgram;
use std::io;
use wire::layout::WINDOW_SIZE;

/// User and group `nobody`.
const NOBODY: libc::uid_t = 65534;
/// Bytes of address space: the largest memslots have 16 GiB.
const MOST_MEMORY: u64 = 64 << 30;
/// Bytes of a file, of which a VMM has only memory files: memslots in the test window.
const MOST_FILE: u64 = WINDOW_SIZE;
/// Descriptors: two a vCPU, and a few.
const MOST_FILES: u64 = 256;
/// Threads of user `nobody`, whoever else may use that.
const MOST_THREADS: u64 = 4096;

/// What is made once, and used by each child.
#[derive(Debug)]
pub struct Confinement {
    /// The filter of a child; why there is none, where the kernel knows no filters.
    filter: Result<BpfProgram, String>,
}

/// Confines the zygote as far as children can go on from there: no new privileges, no capability to gain, no core dumps.
/// The limit of locked memory is raised, since afterwards nobody could.
///
/// # Errors
/// The kernel refuses what every kernel has.
pub fn prepare() -> Result<Confinement, MachineError> {
    // SAFETY: these requests take numbers only.
    done(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }).failed("cannot set no_new_privs")?;
    for capability in 0..64 {
        // Without CAP_SETPCAP there is nothing to drop; behind the last capability there is none.
        // SAFETY: as above.
        unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
    }
    // SAFETY: as above.
    unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
    // Without CAP_SYS_RESOURCE memslots are held as far as it goes.
    lift(libc::RLIMIT_MEMLOCK).failed("cannot set a limit (setrlimit)")?;
    limit(libc::RLIMIT_CORE, 0).failed("cannot forbid core dumps")?;
    let [first, filter] = allowed::filters().failed("cannot make the filter of system calls")?;
    // Of the two the first holds for the zygote too, so that each child has one less to set, which is what takes long.
    let filter = seccompiler::apply_filter(&first).map(|()| filter).map_err(|error| error.to_string());
    Ok(Confinement { filter })
}

/// A ruleset without rules, of all that this kernel's Landlock can forbid.
fn ruleset() -> Result<RulesetCreated, String> {
    let abi = ABI::V9;
    let made = Ruleset::default()
        .handle_access(AccessFs::from_all(abi))
        .and_then(|rules| rules.handle_access(AccessNet::from_all(abi)))
        .and_then(|rules| rules.scope(Scope::from_all(abi)))
        .and_then(Ruleset::create);
    made.map_err(|error| error.to_string())
}

impl Confinement {
    /// Confines the calling process, a child of `parent`, for good. After it, the process has what it had open, memory,
    /// time, and threads.
    ///
    /// # Errors
    /// The kernel refuses what every kernel has.
    pub fn enter(&self, parent: libc::pid_t) -> Result<InForce, MachineError> {
        let limits =
            [(libc::RLIMIT_AS, MOST_MEMORY), (libc::RLIMIT_FSIZE, MOST_FILE), (libc::RLIMIT_NOFILE, MOST_FILES)];
        for (resource, most) in limits {
            limit(resource, most).failed("cannot set a limit (setrlimit)")?;
        }
        let user = another_user();
        if user.is_ok() {
            limit(libc::RLIMIT_NPROC, MOST_THREADS).failed("cannot set a limit (setrlimit)")?;
        }
        no_capabilities().failed("cannot drop capabilities (capset)")?;
        // SAFETY: these requests take numbers only. The one for the signal comes after the change of user, which resets it.
        unsafe {
            done(libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0)).failed("cannot be undumpable")?;
            done(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0)).failed("cannot die with its parent")?;
        }
        // SAFETY: the call takes nothing.
        if unsafe { libc::getppid() } != parent {
            return Err("it is gone already").failed("cannot die with its parent");
        }
        let landlock = ruleset().and_then(|rules| {
            let status = rules.restrict_self().map_err(|error| error.to_string())?;
            match (status.ruleset, status.landlock) {
                (RulesetStatus::NotEnforced, _) | (_, LandlockStatus::NotEnabled | LandlockStatus::NotImplemented) => {
                    Err("this kernel has none, or it is not among the security modules that it was booted with"
                        .to_owned())
                }
                (_, LandlockStatus::Available { effective_abi, .. }) => Ok(effective_abi as i32),
            }
        });
        let seccomp = self.filter.as_ref().map_err(Clone::clone);
        let seccomp = seccomp.and_then(|filter| seccompiler::apply_filter(filter).map_err(|error| error.to_string()));
        Ok(InForce { landlock, seccomp, user })
    }
}

/// Becomes `nobody`, where the process is root.
fn another_user() -> Result<(), String> {
    // SAFETY: the calls take numbers only, and setgroups no pointer that it reads where there are no groups.
    unsafe {
        if libc::geteuid() != 0 {
            return Err("only root can become another".to_owned());
        }
        done(libc::setgroups(0, std::ptr::null()))
            .and_then(|()| done(libc::setresgid(NOBODY, NOBODY, NOBODY)))
            .and_then(|()| done(libc::setresuid(NOBODY, NOBODY, NOBODY)))
            .map_err(|error| error.to_string())
    }
}

/// Drops what the change of user may have left.
fn no_capabilities() -> io::Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3, 0];
    let none = [0u32; 6];
    // SAFETY: both point to live arrays of the size that this version of the call reads; 0 is the calling thread.
    done(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) as libc::c_int })
}

fn done(returned: libc::c_int) -> io::Result<()> {
    if returned == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How a system call went in a process that had confined itself.
    #[derive(Debug, PartialEq, Eq)]
    enum Tried {
        /// It ended the process.
        Refused,
        /// It returned; errno, if that was an error.
        Returned(i32),
        /// It could not be tried.
        Broken(i32),
    }

    /// Has a child confine itself, with a filter or without, and make a system call.
    fn tried(filtered: bool, number: libc::c_long, [a, b, c, d]: [u64; 4]) -> Tried {
        const BROKEN: i32 = 255;
        // SAFETY: the child has one thread, this one, and makes system calls and memory, whose locks the C library leaves
        // free. Where an argument is a pointer, it is to a constant string, or null, and the call is refused before it is used.
        let status = unsafe {
            let parent = libc::getpid();
            let child = libc::fork();
            if child == 0 {
                let prepared = if filtered { prepare() } else { Ok(Confinement { filter: Err("none".to_owned()) }) };
                if prepared.and_then(|confinement| confinement.enter(parent)).is_err() {
                    libc::_exit(BROKEN);
                }
                let returned = libc::syscall(number, a, b, c, d, 0, 0);
                libc::_exit(if returned < 0 { io::Error::last_os_error().raw_os_error().unwrap_or(BROKEN) } else { 0 });
            }
            let mut status = 0;
            assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
            status
        };
        match status {
            _ if libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGSYS => Tried::Refused,
            _ if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) != BROKEN => {
                Tried::Returned(libc::WEXITSTATUS(status))
            }
            _ => Tried::Broken(status),
        }
    }

    fn path() -> u64 {
        c"/proc/self/status".as_ptr().expose_provenance() as u64
    }

    #[test]
    fn a_confined_process_can_do_nothing_else() {
        let here = libc::AT_FDCWD as u64;
        let writable_code = (libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC) as u64;
        let attempts: [(&str, libc::c_long, [u64; 4]); 27] = [
            ("open a file", libc::SYS_open, [path(), 0, 0, 0]),
            ("open a file at a directory", libc::SYS_openat, [here, path(), 0, 0]),
            ("make a file", libc::SYS_creat, [0; 4]),
            ("remove a file", libc::SYS_unlink, [0; 4]),
            ("rename a file", libc::SYS_rename, [0; 4]),
            ("see a file", libc::SYS_stat, [path(), 0, 0, 0]),
            ("execute", libc::SYS_execve, [0; 4]),
            ("execute a descriptor", libc::SYS_execveat, [0; 4]),
            ("fork", libc::SYS_fork, [0; 4]),
            ("fork by vfork", libc::SYS_vfork, [0; 4]),
            ("fork by clone", libc::SYS_clone, [libc::SIGCHLD as u64, 0, 0, 0]),
            ("a thread in a new namespace", libc::SYS_clone, [(THREAD_FLAGS | libc::CLONE_NEWUSER) as u64, 0, 0, 0]),
            ("a new namespace", libc::SYS_unshare, [libc::CLONE_NEWUSER as u64, 0, 0, 0]),
            ("a socket", libc::SYS_socket, [libc::AF_INET as u64, libc::SOCK_STREAM as u64, 0, 0]),
            ("take descriptors from its socket", libc::SYS_recvmsg, [0; 4]),
            ("trace its parent", libc::SYS_ptrace, [libc::PTRACE_ATTACH as u64, 1, 0, 0]),
            ("write its parent's memory", libc::SYS_process_vm_writev, [1, 0, 0, 0]),
            ("signal its parent", libc::SYS_kill, [1, 0, 0, 0]),
            ("signal a thread", libc::SYS_tgkill, [1, 1, 0, 0]),
            ("a higher limit", libc::SYS_prlimit64, [0, libc::RLIMIT_NOFILE.into(), 0, 0]),
            ("a limit of its parent", libc::SYS_prlimit64, [1, libc::RLIMIT_CPU.into(), 0, 0]),
            ("be root", libc::SYS_setresuid, [0; 4]),
            ("be dumpable", libc::SYS_prctl, [libc::PR_SET_DUMPABLE as u64, 1, 0, 0]),
            ("memory to write and execute", libc::SYS_mmap, [0, 4096, writable_code, 0]),
            ("an ioctl of another device", libc::SYS_ioctl, [0, libc::TIOCGWINSZ, 0, 0]),
            ("an ioctl that no VMM makes (KVM_CREATE_IRQCHIP)", libc::SYS_ioctl, [0, 0xae60, 0, 0]),
            ("not to end on a refusal", libc::SYS_rt_sigaction, [libc::SIGSYS as u64, 0, 0, 8]),
        ];
        for (what, number, arguments) in attempts {
            assert_eq!(tried(true, number, arguments), Tried::Refused, "{what}");
        }
        // Of clone3 no filter sees the flags: it is not there.
        assert_eq!(tried(true, libc::SYS_clone3, [0; 4]), Tried::Returned(libc::ENOSYS));
        // What a VMM does is not refused, and comes to the kernel's own answer.
        let run = 0xae80;
        assert_eq!(tried(true, libc::SYS_ioctl, [9999, run, 0, 0]), Tried::Returned(libc::EBADF));
        assert_eq!(tried(true, libc::SYS_getpid, [0; 4]), Tried::Returned(0));
        println!("a confined process: {} attempts, all refused", attempts.len() + 1);
    }

    const THREAD_FLAGS: i32 = libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SIGHAND | libc::CLONE_FILES;

    /// Behind the filter of system calls stands Landlock.
    #[test]
    fn without_the_filter_no_file_can_be_opened_either() {
        if let Err(why) = ruleset() {
            return crate::skip::skip(&why);
        }
        match tried(false, libc::SYS_open, [path(), 0, 0, 0]) {
            Tried::Returned(0) => crate::skip::skip("no Landlock in this kernel"),
            other => assert_eq!(other, Tried::Returned(libc::EACCES)),
        }
    }
}
