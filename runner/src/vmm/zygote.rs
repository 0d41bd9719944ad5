//! The zygote: one thread, which forks a child a VM and says how each ended.

use super::confine::{self, Confinement};
use super::{NAME, child, fds, setup};
use crate::machine::kvm::KvmMachine;
use crate::machine::process::pidfd;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// Bytes of a message to the runner: what it is, a process id, and a wait status.
pub const MESSAGE: usize = 12;
/// Message: this child is the runner's. Its pidfd and its socket come with it.
pub const CHILD: u32 = 1;
/// Message: this child has ended.
pub const ENDED: u32 = 2;
/// Message: there is no child, by this errno.
pub const NONE: u32 = 3;
/// Byte of the runner: it wants a child.
pub const NEXT: u8 = b'n';
/// What the zygote says when it is set up; a text, if it cannot be.
pub const UP: u8 = b'u';

/// Signals that are sent to a whole group or by a service manager to all. The runner decides when its VMs end.
const IGNORED: [libc::c_int; 4] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];

/// How long a child that was killed is waited for at the end, in milliseconds.
const BURIAL: libc::c_int = 1000;

/// A child that lives.
struct Child {
    id: libc::pid_t,
    pidfd: OwnedFd,
}

/// Lives until the runner is gone.
///
/// # Errors
/// In words: nobody set it up.
pub fn run() -> Result<(), String> {
    let runner = standard_input()?;
    // SAFETY: the calls take numbers and a string that is always there; what is closed was opened by whoever started the
    // runner, and is known to nobody here.
    unsafe {
        for signal in IGNORED {
            libc::signal(signal, libc::SIG_IGN);
        }
        libc::prctl(libc::PR_SET_NAME, NAME.as_ptr());
        libc::syscall(libc::SYS_close_range, 3, i32::MAX, 0);
    }
    let made = setup::receive(&runner).and_then(|machine| {
        let confinement = confine::prepare().map_err(|error| crate::execute::chain(&error))?;
        Ok((machine, confinement))
    });
    let (machine, confinement) = match made {
        Ok(made) => made,
        Err(why) => {
            // The runner says it.
            let _ = (&runner).write_all(why.as_bytes());
            return Ok(());
        }
    };
    let _ = (&runner).write_all(&[UP]);
    Zygote { machine, confinement, runner, children: Vec::new() }.serve();
    Ok(())
}

/// Standard input, if it is a socket; standard output becomes something that nobody can write to.
fn standard_input() -> Result<UnixStream, String> {
    let mut domain: libc::c_int = 0;
    let mut size = size_of_val(&domain) as libc::socklen_t;
    // SAFETY: both pointers are to live values, of the size that the second says.
    let asked =
        unsafe { libc::getsockopt(0, libc::SOL_SOCKET, libc::SO_DOMAIN, (&raw mut domain).cast(), &raw mut size) };
    if asked != 0 || domain != libc::AF_UNIX {
        return Err("its standard input is no socket to a runner".to_owned());
    }
    let null = File::open("/dev/null").map_err(|error| format!("cannot open /dev/null: {error}"))?;
    // SAFETY: the call takes numbers; nothing is written to standard output before or after.
    unsafe { libc::dup2(null.as_raw_fd(), 1) };
    // SAFETY: 0 is open, as was just asked, and nobody else uses it.
    Ok(unsafe { UnixStream::from_raw_fd(0) })
}

struct Zygote {
    machine: KvmMachine,
    confinement: Confinement,
    runner: UnixStream,
    children: Vec<Child>,
}

impl Zygote {
    fn serve(mut self) {
        loop {
            let fds = std::iter::once(self.runner.as_fd()).chain(self.children.iter().map(|child| child.pidfd.as_fd()));
            let mut polled: Vec<_> =
                fds.map(|fd| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 }).collect();
            // SAFETY: pointer and count are those of a vector that outlives the call.
            if unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, -1) } < 0 {
                continue;
            }
            for at in (0..self.children.len()).rev().filter(|at| polled[at + 1].revents != 0) {
                if let Some(status) = ended(self.children[at].id) {
                    let child = self.children.swap_remove(at);
                    // The runner may be gone, which is seen next.
                    let _ = self.tell(ENDED, child.id, status, &[]);
                }
            }
            if polled[0].revents != 0 && !self.wish() {
                return self.end();
            }
        }
    }

    /// Takes its children along, so that whoever inherits orphans has none to bury.
    fn end(self) {
        for child in &self.children {
            // SAFETY: the call takes numbers; the child was not waited for, so the id is its own.
            unsafe { libc::kill(child.id, libc::SIGKILL) };
        }
        for child in &self.children {
            let mut polled = libc::pollfd { fd: child.pidfd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // One that the kernel holds is not waited for.
            // SAFETY: the pointer is to one live structure.
            unsafe { libc::poll(&raw mut polled, 1, BURIAL) };
            ended(child.id);
        }
    }

    /// Takes a wish of the runner. Returns whether it is still there.
    fn wish(&mut self) -> bool {
        let mut byte = [0];
        match io::Read::read(&mut &self.runner, &mut byte) {
            Ok(1) if byte[0] == NEXT => {}
            _ => return false,
        }
        let told = match self.fork() {
            Ok((child, socket)) => {
                let files = [child.pidfd.as_fd(), socket.as_fd()];
                let told = self.tell(CHILD, child.id, 0, &files);
                self.children.push(child);
                told
            }
            Err(error) => self.tell(NONE, 0, error.raw_os_error().unwrap_or(0), &[]),
        };
        told.is_ok()
    }

    fn tell(&self, what: u32, id: libc::pid_t, status: i32, files: &[BorrowedFd<'_>]) -> io::Result<()> {
        let words = [what, id as u32, status as u32].map(u32::to_le_bytes);
        fds::send(&self.runner, words.as_flattened(), files)
    }

    /// A child, and the runner's end of its socket.
    fn fork(&self) -> io::Result<(Child, UnixStream)> {
        let (own, theirs) = UnixStream::pair()?;
        // SAFETY: the call takes nothing.
        let zygote = unsafe { libc::getpid() };
        // SAFETY: this process has one thread, so the child finds every lock free.
        match unsafe { libc::fork() } {
            0 => child::live(&self.machine, &self.confinement, own, zygote),
            id if id > 0 => {
                let pidfd = pidfd(id as u32).inspect_err(|_| {
                    // SAFETY: the calls take numbers; the child was not waited for, so the id is its own.
                    unsafe {
                        libc::kill(id, libc::SIGKILL);
                        libc::waitpid(id, std::ptr::null_mut(), 0);
                    }
                })?;
                Ok((Child { id, pidfd }, theirs))
            }
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// The wait status of a child that has ended.
fn ended(id: libc::pid_t) -> Option<i32> {
    let mut status = 0;
    // SAFETY: the pointer is to a live number.
    (unsafe { libc::waitpid(id, &raw mut status, libc::WNOHANG) } == id).then_some(status)
}
