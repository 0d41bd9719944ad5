//! Zygotes as the runner has them: started, asked for children, and asked how those ended.

use super::zygote::{CHILD, ENDED, MESSAGE, NEXT, NONE, UP};
use super::{VERB, fds, setup};
use crate::machine::MachineError;
use crate::machine::kvm::{Failed, KvmMachine};
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long a zygote may take to set itself up or to answer: an emulated host is slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a zygote may take to end.
const DYING: Duration = Duration::from_secs(2);

/// A VMM that waits for a job. It is killed when this is dropped.
#[derive(Debug)]
pub struct Vmm {
    /// Its process id.
    pub id: libc::pid_t,
    /// What is said to it, and what it says.
    pub socket: UnixStream,
    pidfd: OwnedFd,
}

impl Vmm {
    /// Ends it, whatever it is doing, unless it has ended.
    pub fn kill(&self) {
        // It fails where it has ended, and does not matter then.
        // SAFETY: the descriptor is open; no information goes with the signal.
        unsafe {
            let none = std::ptr::null::<libc::siginfo_t>();
            libc::syscall(libc::SYS_pidfd_send_signal, self.pidfd.as_raw_fd(), libc::SIGKILL, none, 0);
        }
    }
}

impl Drop for Vmm {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What became of a VMM.
#[derive(Debug, Clone, Copy)]
pub enum Fate {
    /// It ended so.
    Ended(ExitStatus),
    /// It lives, although it was waited for.
    Lives,
    /// Nobody knows: the process that made it is gone, and it with that.
    Orphan,
}

/// A zygote. It ends when this is dropped, and its children with it.
#[derive(Debug)]
pub struct Zygote {
    process: Child,
    control: UnixStream,
    /// The VMM that was asked for, if it has come.
    ahead: Option<io::Result<Vmm>>,
    /// How children ended that nobody has asked for yet.
    ended: HashMap<libc::pid_t, ExitStatus>,
}

impl Zygote {
    /// Starts `program`, which is this one, as a zygote of such a machine.
    ///
    /// # Errors
    /// It cannot be started, or cannot set itself up.
    pub fn start(program: &Path, machine: &KvmMachine) -> Result<Zygote, MachineError> {
        let cannot = format!("cannot start the process that makes VMMs ({} {VERB})", program.display());
        let start = || -> io::Result<Zygote> {
            let (control, theirs) = UnixStream::pair()?;
            control.set_read_timeout(Some(PATIENCE))?;
            control.set_write_timeout(Some(PATIENCE))?;
            let mut command = Command::new(program);
            command.arg0("kvm-memtype").arg(VERB).process_group(0);
            let process = command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).spawn()?;
            let mut zygote = Zygote { process, control, ahead: None, ended: HashMap::new() };
            setup::send(&zygote.control, machine)?;
            let mut said = vec![0; 4096];
            let length = zygote.control.read(&mut said)?;
            match &said[..length] {
                [UP] => zygote.ask().map(|()| zygote),
                [] => {
                    let status = zygote.process.wait()?;
                    Err(io::Error::other(format!("it ended with {status}")))
                }
                why => Err(io::Error::other(String::from_utf8_lossy(why))),
            }
        };
        start().failed(&cannot)
    }

    /// Asks for the next VMM.
    fn ask(&self) -> io::Result<()> {
        (&self.control).write_all(&[NEXT])
    }

    /// A VMM for one job. It was asked for when the one before it was taken, and has confined itself meanwhile.
    ///
    /// # Errors
    /// The zygote is gone, or cannot make one.
    pub fn next(&mut self) -> io::Result<Vmm> {
        loop {
            if let Some(made) = self.ahead.take() {
                return self.ask().and(made);
            }
            self.hear()?;
        }
    }

    /// How a child ended, which is waited for as long as that.
    pub fn end_of(&mut self, id: libc::pid_t, patience: Duration) -> Fate {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.ended.remove(&id) {
                return Fate::Ended(status);
            }
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            let heard = self.control.set_read_timeout(Some(left)).and_then(|()| self.hear());
            match heard.and(self.control.set_read_timeout(Some(PATIENCE))) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Fate::Lives,
                Err(_) => return Fate::Orphan,
            }
        }
    }

    /// Takes a message.
    fn hear(&mut self) -> io::Result<()> {
        let (bytes, files) = fds::receive::<MESSAGE>(&self.control)?;
        let [what, id, status] =
            std::array::from_fn(|at| u32::from_le_bytes(std::array::from_fn(|byte| bytes[4 * at + byte])));
        let (id, status) = (id as libc::pid_t, status as i32);
        match (what, <[OwnedFd; 2]>::try_from(files)) {
            (CHILD, Ok([pidfd, socket])) => self.ahead = Some(Ok(Vmm { id, socket: socket.into(), pidfd })),
            (NONE, _) => self.ahead = Some(Err(io::Error::from_raw_os_error(status))),
            (ENDED, _) => self.note(id, status),
            _ => return Err(io::Error::other("the process that makes VMMs says what it never does")),
        }
        Ok(())
    }

    /// Keeps how a child ended, of the last few: hardly any is asked for.
    fn note(&mut self, id: libc::pid_t, status: i32) {
        if self.ended.len() >= 16 {
            self.ended.clear();
        }
        self.ended.insert(id, ExitStatus::from_raw(status));
    }
}

impl Drop for Zygote {
    fn drop(&mut self) {
        // By itself it buries its children before it ends.
        let _ = self.control.shutdown(Shutdown::Both);
        let deadline = Instant::now() + DYING;
        while matches!(self.process.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        // It fails where it has ended already, which wait then says.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
