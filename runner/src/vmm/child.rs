//! A child of the zygote: confines itself, runs one VM, and is gone.

use super::confine::Confinement;
use super::frame::{self, Kind};
use super::job::{Answer, Received};
use super::remote::Remote;
use crate::host::limits::limit;
use crate::machine::kvm::memory::mappings;
use crate::machine::kvm::{Failed, KvmMachine};
use crate::machine::{Job, Machine, MachineError, Observed};
use crate::witness::Watching;
use std::any::Any;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::panic::{self, AssertUnwindSafe};
use std::ptr;

/// Time that the limit of CPU time leaves on top of the guest's own, in seconds. The runner is there before it.
const MORE_SECONDS: u64 = 60;

/// Lives the child's life on a socket. `parent` is the zygote.
pub fn live(machine: &KvmMachine, confinement: &Confinement, socket: UnixStream, parent: libc::pid_t) -> ! {
    let code = match socket_only(machine, socket) {
        Ok(socket) => {
            let answer = Answer::from(work(machine, confinement, &socket, parent));
            let told = serde_json::to_vec(&answer).map(|json| frame::write(&socket, Kind::Done, &json));
            i32::from(!matches!(told, Ok(Ok(()))))
        }
        Err(_) => 1,
    };
    // SAFETY: the call ends the process at once: nothing that the zygote left to it is run or closed twice.
    unsafe { libc::_exit(code) }
}

/// Makes the socket descriptor 0 and closes all others but those that a VM is made of. 1 and 2 are taken by something that
/// cannot be written to.
fn socket_only(machine: &KvmMachine, socket: UnixStream) -> std::io::Result<UnixStream> {
    // Opened here, where a file still can be, for it is the process's own.
    let mappings = mappings()?.lock().map_or(-1, |file| file.as_raw_fd());
    // SAFETY: the calls take numbers. What they replace and close is used no more: the zygote's own socket, and its
    // standard error.
    unsafe {
        libc::dup2(socket.as_raw_fd(), 0);
        libc::dup2(1, 2);
    }
    let mut kept: Vec<RawFd> = machine.descriptors().chain([2, mappings]).collect();
    kept.sort_unstable();
    kept.push(RawFd::MAX);
    for pair in kept.windows(2) {
        if pair[0] + 1 < pair[1] {
            // SAFETY: the call takes numbers, and what it closes is used no more.
            unsafe { libc::syscall(libc::SYS_close_range, pair[0] + 1, pair[1] - 1, 0) };
        }
    }
    // It was closed just now, under its old number.
    std::mem::forget(socket);
    // SAFETY: 0 is the socket, as was just made, and nobody else's.
    Ok(unsafe { UnixStream::from_raw_fd(0) })
}

fn work(
    machine: &KvmMachine,
    confinement: &Confinement,
    socket: &UnixStream,
    parent: libc::pid_t,
) -> Result<Observed, MachineError> {
    const CANNOT: &str = "cannot confine the VMM";
    map_code();
    panic::set_hook(Box::new(|_| {}));
    tell_of_refusals().failed(CANNOT)?;
    let in_force = confinement.enter(parent)?;
    let json = serde_json::to_vec(&in_force).failed(CANNOT)?;
    frame::write(socket, Kind::Ready, &json).failed("cannot answer the runner")?;
    let Some(received) = Received::wait(socket).failed("the VMM was started for nothing")? else {
        // SAFETY: as at the end of every child.
        unsafe { libc::_exit(0) }
    };
    let job = received.job();
    let seconds = job.limits.timeout.as_secs().saturating_add(MORE_SECONDS);
    let seconds = seconds.saturating_mul(job.needs.cpu_count().into());
    limit(libc::RLIMIT_CPU, seconds).failed(CANNOT)?;
    let remote = received.head.wants.map(|wants| socket.try_clone().map(|socket| Remote::new(socket, wants)));
    let remote = remote.transpose().failed("cannot reach the witnesses")?;
    let job = Job { watch: remote.as_ref().map(|remote| remote as &dyn Watching), ..job };
    panic::catch_unwind(AssertUnwindSafe(|| machine.run(&job)))
        .unwrap_or_else(|panic| Err(said(panic.as_ref())).failed("the VMM panicked, which is a bug of its own"))
}

unsafe extern "C" {
    /// Where the linker puts the first byte of the program, and the first behind its code.
    static __executable_start: u8;
    static etext: u8;
}

/// Has the code mapped before the job comes: a fork leaves that to faults, some hundred of them in the time of a VM.
fn map_code() {
    const PAGE: usize = 0x1000;
    let start = (&raw const __executable_start).addr() & !(PAGE - 1);
    let size = ((&raw const etext).addr() - start).next_multiple_of(PAGE);
    // Where it fails, on a kernel before 5.14, faults do it.
    // SAFETY: the pages are the program's own, and reading them changes nothing.
    unsafe { libc::madvise(ptr::without_provenance_mut(start), size, libc::MADV_POPULATE_READ) };
}

/// What a panic says.
fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a word".to_owned())
}

/// Has SIGSYS, which comes in place of a system call that is not allowed, told to the runner before the process ends.
fn tell_of_refusals() -> std::io::Result<()> {
    // SAFETY: all zeros is a valid sigaction: an empty mask.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = refused as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: the handler makes system calls only, which are safe at any moment; `action` lives through the call.
    match unsafe { libc::sigaction(libc::SIGSYS, &action, ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

extern "C" fn refused(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel hands a handler with SA_SIGINFO the context of the thread, with the registers of the system call:
    // RAX has its number (seccomp restores it), RSI its second argument.
    let registers = unsafe { &(*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    let mut frame = [0; 21];
    frame[0] = 16;
    frame[4] = Kind::Refused as u8;
    frame[5..13].copy_from_slice(&registers[libc::REG_RAX as usize].to_le_bytes());
    frame[13..].copy_from_slice(&registers[libc::REG_RSI as usize].to_le_bytes());
    // SAFETY: the buffer has that many bytes; the second call ends the process.
    unsafe {
        libc::write(0, frame.as_ptr().cast(), frame.len());
        libc::_exit(1);
    }
}
