//! A child process under watch: its output as it comes, its time and output limited, and no trace of it left behind.

use crate::machine::lines::LineSplitter;
use crate::machine::{Limits, Line};
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Bytes of standard error that are kept; what comes after them is dropped.
const STDERR: usize = 64 << 10;
/// Buffer of the pipe from the child. A UART in QEMU may lose bytes where the reader lags behind by more than this.
const PIPE: libc::c_int = 1 << 20;

/// Why the watch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The child ended by itself.
    Exited(ExitStatus),
    /// The time was up, so the child was killed.
    Timeout,
    /// It wrote more bytes to standard output than allowed, and was killed.
    Flood,
    /// Its standard error said that it is done for, and it was killed.
    Hopeless,
}

/// What came of a child.
#[derive(Debug)]
pub struct Ended {
    /// Standard output.
    pub log: Vec<Line>,
    /// Standard error, as far as kept.
    pub stderr: String,
    /// Why the watch ended.
    pub cause: Cause,
}

/// Runs `command` to its end or to a limit. `files` are left open for it. `hopeless` looks at standard error whenever
/// more of it came, and says whether waiting has no use any more.
///
/// The child is in a process group of its own, which is killed as a whole, and dies with the thread that called this.
///
/// # Errors
/// The program cannot be run, or the system refuses to watch it.
pub fn run(command: &mut Command, files: &[&File], limits: Limits, hopeless: fn(&str) -> bool) -> io::Result<Ended> {
    let deadline = Instant::now() + limits.timeout;
    let inherited: Vec<_> = files.iter().map(|file| file.as_raw_fd()).collect();
    let parent = std::process::id();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    // SAFETY: the closure runs in the child between fork and exec; it makes system calls only and allocates nothing.
    unsafe {
        command.pre_exec(move || in_child(parent, &inherited));
    }
    let mut group = Group(command.spawn()?);
    let (Some(mut stdout), Some(mut stderr)) = (group.0.stdout.take(), group.0.stderr.take()) else {
        return Err(io::Error::other("a pipe to the child is missing"));
    };
    // SAFETY: the descriptor is open, and the call takes no pointer. A smaller pipe, where the system allows no more,
    // works too.
    unsafe { libc::fcntl(stdout.as_raw_fd(), libc::F_SETPIPE_SZ, PIPE) };
    let exit = pidfd(&group.0)?;

    let (mut splitter, mut log, mut bytes, mut errors) = (LineSplitter::default(), Vec::new(), 0, Vec::new());
    let mut fds = [stdout.as_raw_fd(), stderr.as_raw_fd(), exit.as_raw_fd()];
    let mut buffer = vec![0; 64 << 10];
    let killed = loop {
        let ready = poll(&fds, deadline.saturating_duration_since(Instant::now()))?;
        if ready[0] {
            let read = read(&mut stdout, &mut buffer)?;
            splitter.push(&buffer[..read.min(limits.output - bytes)], &mut log);
            bytes += read;
            if bytes > limits.output {
                break Some(Cause::Flood);
            }
            fds[0] = if read == 0 { -1 } else { fds[0] };
        }
        if ready[1] {
            let read = read(&mut stderr, &mut buffer)?;
            errors.extend_from_slice(&buffer[..read.min(STDERR - errors.len())]);
            if hopeless(&String::from_utf8_lossy(&errors)) {
                break Some(Cause::Hopeless);
            }
            fds[1] = if read == 0 { -1 } else { fds[1] };
        }
        if ready[2] {
            fds[2] = -1;
        }
        if fds == [-1; 3] {
            break None;
        }
        if Instant::now() >= deadline {
            break Some(Cause::Timeout);
        }
    };
    splitter.finish(&mut log);
    let status = group.end()?;
    let cause = killed.unwrap_or(Cause::Exited(status));
    Ok(Ended { log, stderr: String::from_utf8_lossy(&errors).into_owned(), cause })
}

/// What the child does before it becomes the program.
fn in_child(parent: u32, inherited: &[i32]) -> io::Result<()> {
    // SAFETY: the calls take no pointers, and the descriptors were open in the parent when it forked.
    unsafe {
        if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
            return Err(io::Error::last_os_error());
        }
        // The parent may have died before the request was made.
        if libc::getppid() as u32 != parent {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        for &fd in inherited {
            if libc::fcntl(fd, libc::F_SETFD, 0) != 0 {
                return Err(io::Error::last_os_error());
            }
        }
    }
    Ok(())
}

/// A child that leads a process group; nothing of it stays when this is dropped.
struct Group(Child);

impl Group {
    /// Kills whatever is left of the group and takes the leader's status.
    fn end(&mut self) -> io::Result<ExitStatus> {
        // SAFETY: the call takes no pointer. The leader was not waited for yet, so its id still is this group's; a
        // leader that has ended already keeps its status.
        unsafe { libc::kill(-(self.0.id() as libc::pid_t), libc::SIGKILL) };
        self.0.wait()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // After `end` the leader's id may be another process's. `try_wait` then gives the status that is already known.
        if !matches!(self.0.try_wait(), Ok(Some(_))) {
            let _ = self.end();
        }
    }
}

/// A descriptor that becomes readable when the child ends, pidfd_open(2).
fn pidfd(child: &Child) -> io::Result<OwnedFd> {
    // SAFETY: the call takes no pointer.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, child.id(), 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: pidfd_open just gave this descriptor, so it is open and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Waits until one of the descriptors has something to read or has ended, and says which. A negative one is left out.
fn poll(fds: &[i32; 3], patience: Duration) -> io::Result<[bool; 3]> {
    let mut asked = fds.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
    // One millisecond more, so that a rest below one does not become a busy wait.
    let millis = patience.as_millis().saturating_add(1).try_into().unwrap_or(libc::c_int::MAX);
    // SAFETY: the pointer and the count are those of an array that outlives the call.
    let found = unsafe { libc::poll(asked.as_mut_ptr(), asked.len() as libc::nfds_t, millis) };
    match found {
        0.. => Ok(asked.map(|fd| fd.revents != 0)),
        _ if io::Error::last_os_error().kind() == ErrorKind::Interrupted => Ok([false; 3]),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Reads what is there; 0 at the end.
fn read(stream: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match stream.read(buffer) {
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limits: Limits) -> Ended {
        run(Command::new("sh").args(["-c", script]), &[], limits, |errors| errors.contains("hopeless")).unwrap()
    }

    fn limits(millis: u64, output: usize) -> Limits {
        Limits { timeout: Duration::from_millis(millis), output }
    }

    /// Whether a process is no more; one that its new parent has yet to take note of counts as such.
    fn is_gone(pid: &str) -> bool {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |state| state.contains(") Z"))
    }

    /// Waits for what must come soon on any host.
    fn in_time(what: impl Fn() -> bool) -> bool {
        (0..3000).any(|_| {
            what() || {
                std::thread::sleep(Duration::from_millis(10));
                false
            }
        })
    }

    #[test]
    fn output_errors_and_status_come_back() {
        let ended = shell("echo out; echo err >&2; exit 3", Limits::default());
        assert_eq!(ended.log, [Line::Guest("out".into())]);
        assert_eq!(ended.stderr, "err\n");
        assert!(matches!(ended.cause, Cause::Exited(status) if status.code() == Some(3)));
    }

    #[test]
    fn a_child_that_does_not_end_is_killed() {
        assert_eq!(shell("exec sleep 1000", limits(100, 1000)).cause, Cause::Timeout);
    }

    #[test]
    fn a_hopeless_child_is_not_waited_for_and_its_children_die_too() {
        let ended = shell("sleep 1000 & echo $!; echo hopeless >&2; wait", limits(60_000, 1000));
        assert_eq!(ended.cause, Cause::Hopeless);
        let [Line::Guest(pid)] = &ended.log[..] else { panic!("{:?}", ended.log) };
        assert!(in_time(|| is_gone(pid)));
    }

    /// Variable that makes [`a_runner_that_waits`] a runner, and names the file for its child's id.
    const RUNNER: &str = "KVM_MEMTYPE_TEST_RUNNER";

    #[test]
    fn a_runner_that_waits() {
        if let Some(file) = std::env::var_os(RUNNER) {
            shell(&format!("echo $$ > {}; exec sleep 1000", file.display()), limits(60_000, 1000));
        }
    }

    #[test]
    fn a_child_dies_with_its_runner() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let name =
            std::thread::current().name().unwrap().replace("a_child_dies_with_its_runner", "a_runner_that_waits");
        let mut runner = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &name])
            .env(RUNNER, file.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let pid = || std::fs::read_to_string(file.path()).unwrap().trim().to_owned();
        assert!(in_time(|| !pid().is_empty()));
        assert!(!is_gone(&pid()));
        runner.kill().unwrap();
        runner.wait().unwrap();
        assert!(in_time(|| is_gone(&pid())));
    }

    #[test]
    fn a_flood_is_cut_at_the_limit() {
        let ended = shell("while :; do echo 12345678901234567890; done", limits(10_000, 1000));
        assert_eq!(ended.cause, Cause::Flood);
        let bytes: usize = ended.log.iter().map(|line| line.to_string().len() - 1).sum();
        assert!((900..=1000).contains(&bytes), "{bytes}");
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error() {
        let error = run(&mut Command::new("/nowhere/qemu"), &[], Limits::default(), |_| false).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
}
