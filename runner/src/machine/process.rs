//! A child process under watch: its output as it comes, its time limited, and no trace of it left behind.

use crate::host::limits::limit;
use std::fs::File;
use std::io::{self, ErrorKind, PipeReader, PipeWriter, Read};
use std::ops::ControlFlow;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Buffer of a pipe from the child. A UART in QEMU may lose bytes where the reader lags behind by more than this.
const PIPE: libc::c_int = 1 << 20;

/// The most descriptors of a child: an emulator has some tens.
const MOST_FILES: u64 = 1024;

/// After how much time without output a child is silent.
const SILENCE: Duration = Duration::from_millis(200);

/// What the child has open besides its standard streams.
#[derive(Debug, Default)]
pub struct Open<'a> {
    /// Files that are left open for it, under the numbers that they have here.
    pub files: Vec<&'a File>,
    /// A pipe that it writes to as well. The write end is left open for it and closed here.
    pub pipe: Option<(PipeReader, PipeWriter)>,
}

/// Where bytes came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// The pipe of [`Open`].
    Pipe,
}

/// What the watch tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// The child wrote these bytes. None at all are the end of the stream.
    Output(Stream, &'a [u8]),
    /// It has written nothing for a fifth of a second.
    Silence,
}

/// Why the watch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause<S> {
    /// The child ended by itself.
    Exited(ExitStatus),
    /// The time was up, so the child was killed.
    Timeout,
    /// Whoever was told of the events wanted no more of them, and it was killed.
    Stopped(S),
}

/// Runs `command` to its end, but no longer than `timeout`. `on_event` is handed all that it writes as it comes, and is
/// told when nothing comes; it says when that is enough.
///
/// The child is in a process group of its own, which is killed as a whole, and dies with the thread that called this.
///
/// # Errors
/// The program cannot be run, or the system refuses to watch it.
pub fn run<S>(
    command: &mut Command,
    open: Open<'_>,
    timeout: Duration,
    mut on_event: impl FnMut(Event<'_>) -> ControlFlow<S>,
) -> io::Result<Cause<S>> {
    // None for one that no clock will reach.
    let deadline = Instant::now().checked_add(timeout);
    let left = || deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
    let (pipe, write_end) = open.pipe.unzip();
    let files = open.files.iter().map(|file| file.as_raw_fd());
    let inherited: Vec<_> = files.chain(write_end.as_ref().map(|end| end.as_raw_fd())).collect();
    let parent = std::process::id();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    // SAFETY: the closure runs in the child between fork and exec; it makes system calls only and allocates nothing.
    unsafe {
        command.pre_exec(move || in_child(parent, &inherited));
    }
    let mut group = Group(command.spawn()?);
    drop(write_end);
    let (Some(stdout), Some(stderr)) = (group.0.stdout.take(), group.0.stderr.take()) else {
        return Err(io::Error::other("a pipe to the child is missing"));
    };
    let exit = pidfd(group.0.id())?;
    let mut streams: Vec<(Stream, File)> =
        vec![(Stream::Stdout, OwnedFd::from(stdout).into()), (Stream::Stderr, OwnedFd::from(stderr).into())];
    streams.extend(pipe.map(|pipe| (Stream::Pipe, OwnedFd::from(pipe).into())));
    for (_, stream) in &streams {
        // SAFETY: the descriptor is open, and the call takes no pointer. A smaller pipe, where the system allows no
        // more, works too.
        unsafe { libc::fcntl(stream.as_raw_fd(), libc::F_SETPIPE_SZ, PIPE) };
    }

    let mut fds: Vec<_> = streams.iter().map(|(_, stream)| stream.as_raw_fd()).chain([exit.as_raw_fd()]).collect();
    let mut buffer = vec![0; 64 << 10];
    let killed = 'watch: loop {
        let ready = poll(&fds, SILENCE.min(left()))?;
        if !ready.contains(&true)
            && let ControlFlow::Break(why) = on_event(Event::Silence)
        {
            break Some(Cause::Stopped(why));
        }
        for (n, (stream, file)) in streams.iter_mut().enumerate().filter(|&(n, _)| ready[n]) {
            let read = read(file, &mut buffer)?;
            if let ControlFlow::Break(why) = on_event(Event::Output(*stream, &buffer[..read])) {
                break 'watch Some(Cause::Stopped(why));
            }
            fds[n] = if read == 0 { -1 } else { fds[n] };
        }
        if ready[streams.len()] {
            fds[streams.len()] = -1;
        }
        if fds.iter().all(|&fd| fd < 0) {
            break None;
        }
        if left().is_zero() {
            break Some(Cause::Timeout);
        }
    };
    let status = group.end()?;
    Ok(killed.unwrap_or(Cause::Exited(status)))
}

/// What the child does before it becomes the program.
fn in_child(parent: u32, inherited: &[i32]) -> io::Result<()> {
    limit(libc::RLIMIT_CORE, 0)?;
    limit(libc::RLIMIT_NOFILE, MOST_FILES)?;
    // SAFETY: the calls take no pointers, and the descriptors were open in the parent when it forked.
    unsafe {
        if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 {
            return Err(io::Error::last_os_error());
        }
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

/// A descriptor that becomes readable when the child of that id ends, pidfd_open(2).
///
/// # Errors
/// There is no such process, or no descriptor is left.
pub(crate) fn pidfd(child: u32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes no pointer.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, child, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: pidfd_open just gave this descriptor, so it is open and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Waits until one of the descriptors has something to read or has ended, and says which. A negative one is left out.
fn poll(fds: &[i32], patience: Duration) -> io::Result<Vec<bool>> {
    let mut asked: Vec<_> = fds.iter().map(|&fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 }).collect();
    // One millisecond more, so that a rest below one does not become a busy wait.
    let millis = patience.as_millis().saturating_add(1).try_into().unwrap_or(libc::c_int::MAX);
    // SAFETY: the pointer and the count are those of a vector that outlives the call.
    let found = unsafe { libc::poll(asked.as_mut_ptr(), asked.len() as libc::nfds_t, millis) };
    match found {
        0.. => Ok(asked.iter().map(|fd| fd.revents != 0).collect()),
        _ if io::Error::last_os_error().kind() == ErrorKind::Interrupted => Ok(vec![false; fds.len()]),
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

    /// A shell's output, by stream, and its end. It is hopeless when it says so on standard error.
    fn shell(script: &str, millis: u64) -> ([String; 3], Cause<()>) {
        let mut output: [String; 3] = Default::default();
        let (reader, writer) = io::pipe().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", script]).env("PIPE", writer.as_raw_fd().to_string());
        let open = Open { files: Vec::new(), pipe: Some((reader, writer)) };
        let cause = run(&mut command, open, Duration::from_millis(millis), |event| {
            if let Event::Output(stream, bytes) = event {
                output[stream as usize].push_str(&String::from_utf8_lossy(bytes));
            }
            if output[1].contains("hopeless") { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        (output, cause.unwrap())
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
        let (output, cause) = shell("echo out; echo err >&2; echo more > /proc/self/fd/$PIPE; exit 3", 60_000);
        assert_eq!(output, ["out\n", "err\n", "more\n"]);
        assert!(matches!(cause, Cause::Exited(status) if status.code() == Some(3)));
    }

    #[test]
    fn a_child_gains_no_privileges_and_dumps_no_core() {
        let (output, _) = shell("grep NoNewPrivs /proc/self/status; ulimit -c; ulimit -n >&2", 60_000);
        assert_eq!(output, ["NoNewPrivs:\t1\n0\n", "1024\n", ""]);
    }

    #[test]
    fn a_child_that_does_not_end_is_killed() {
        assert_eq!(shell("exec sleep 1000", 100).1, Cause::Timeout);
    }

    #[test]
    fn silence_is_told_of() {
        let (mut heard, mut sleep) = (0, Command::new("sleep"));
        let cause = run(sleep.arg("1000"), Open::default(), Duration::from_secs(60), |event| {
            heard += usize::from(event == Event::Silence);
            if heard == 2 { ControlFlow::Break(7) } else { ControlFlow::Continue(()) }
        });
        assert_eq!(cause.unwrap(), Cause::Stopped(7));
    }

    #[test]
    fn a_hopeless_child_is_not_waited_for_and_its_children_die_too() {
        let ([pid, ..], cause) = shell("sleep 1000 & echo $!; echo hopeless >&2; wait", 60_000);
        assert_eq!(cause, Cause::Stopped(()));
        assert!(!pid.is_empty());
        assert!(in_time(|| is_gone(pid.trim())));
    }

    /// Variable that makes [`a_runner_that_waits`] a runner, and names the file for its child's id.
    const RUNNER: &str = "KVM_MEMTYPE_TEST_RUNNER";

    #[test]
    fn a_runner_that_waits() {
        if let Some(file) = std::env::var_os(RUNNER) {
            shell(&format!("echo $$ > {}; exec sleep 1000", file.display()), 60_000);
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
    fn a_program_that_is_not_there_is_an_error() {
        let error = run(&mut Command::new("/nowhere/qemu"), Open::default(), Duration::ZERO, |_| {
            ControlFlow::<()>::Continue(())
        })
        .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
}
