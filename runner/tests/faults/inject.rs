//! The injector: a program runs, and a thread of the test answers some of its system calls, or those of its children, in the
//! kernel's place. Nothing in the program knows.
//!
//! It is a seccomp filter with SECCOMP_RET_USER_NOTIF (Documentation/userspace-api/seccomp_filter.rst), which a process
//! inherits from the one that made it.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// After how long a program that does not end is killed.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// A system call that the supervisor is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trap {
    /// Any with this number.
    Call(i64),
    /// An ioctl of KVM with this number, the low byte of its request.
    Kvm(u8),
}

/// One that came, and waits for its answer.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    /// What it is.
    pub trap: Trap,
    /// Its arguments.
    pub args: [u64; 6],
    /// The thread that makes it.
    pub thread: u32,
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The kernel does it.
    GoOn,
    /// It is not done, and fails with this errno.
    Errno(i32),
    /// It is not done, and returns 0.
    Done,
    /// It does not return, and no signal wakes it but one that kills.
    Never,
}

const KVMIO: u64 = 0xae;
/// Where `struct seccomp_data` has the number of the call, and the low half of its second argument.
const NUMBER: u32 = 0;
const REQUEST: u32 = 24;
// The ioctls of a listener, include/uapi/linux/seccomp.h.
const NOTIF_RECV: libc::c_ulong = 0xc050_2100;
const NOTIF_SEND: libc::c_ulong = 0xc018_2101;

impl Call {
    /// The file that the first argument is, or the path that an openat names.
    pub fn path(&self) -> String {
        match self.trap {
            Trap::Call(libc::SYS_openat) => {
                let mut bytes = [0; 256];
                let file = File::open(format!("/proc/{}/mem", self.thread));
                let read = file.and_then(|file| file.read_at(&mut bytes, self.args[1])).unwrap_or(0);
                let len = bytes[..read].iter().position(|&byte| byte == 0).unwrap_or(read);
                String::from_utf8_lossy(&bytes[..len]).into_owned()
            }
            _ => {
                let link = fs::read_link(format!("/proc/{}/fd/{}", self.thread, self.args[0]));
                link.map(|path| path.display().to_string()).unwrap_or_default()
            }
        }
    }

    /// Writes to the memory that the caller has mapped of a file of this name, at an offset in there.
    pub fn write(&self, file: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let maps = fs::read_to_string(format!("/proc/{}/maps", self.thread))?;
        let start = maps.lines().find(|line| line.ends_with(file)).and_then(|line| line.split('-').next());
        let start = start.and_then(|hex| u64::from_str_radix(hex, 16).ok());
        let start = start.ok_or_else(|| io::Error::other(format!("no mapping of {file}")))?;
        File::options().write(true).open(format!("/proc/{}/mem", self.thread))?.write_all_at(bytes, start + offset)
    }
}

/// Runs a program to its end, and has `decide` answer the trapped calls of it and its children.
///
/// # Errors
/// It cannot be run so; or it, or a process that it has left behind with its output, did not end in time and was killed: that is
/// an error of the kind [`io::ErrorKind::TimedOut`], which names them.
pub fn run(
    mut command: Command,
    traps: &[Trap],
    decide: impl FnMut(&Call) -> Answer + Send + 'static,
) -> io::Result<Output> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let (ours, theirs) = UnixDatagram::pair()?;
    let program = filter(traps);
    if !traps.is_empty() {
        // SAFETY: between fork and exec the closure makes system calls alone; what it points to was made before.
        unsafe { command.pre_exec(move || listen(&program, theirs.as_raw_fd())) };
    }
    let child = command.spawn()?;
    let group = -(child.id() as libc::pid_t);
    let listener = if traps.is_empty() { None } else { Some(take(&ours)?) };
    let (done, over) = std::sync::mpsc::channel::<()>();
    let traps = traps.to_vec();
    let supervisor = std::thread::spawn(move || {
        let killed = Instant::now() + PATIENCE;
        if let Some(listener) = listener {
            supervise(&listener, &traps, decide, || {
                over.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) && Instant::now() < killed
            });
        }
        let _ = over.recv_timeout(killed.saturating_duration_since(Instant::now()));
        let late = if Instant::now() < killed { String::new() } else { members(-group) };
        // SAFETY: no pointer; the group is the child's, which is waited for after this thread, or is gone.
        unsafe { libc::kill(group, libc::SIGKILL) };
        late
    });
    let output = child.wait_with_output();
    drop(done);
    let late = supervisor.join().map_err(|_| io::Error::other("the supervisor panicked"))?;
    match late.as_str() {
        "" => output,
        late => Err(io::Error::new(io::ErrorKind::TimedOut, format!("still there after {PATIENCE:?}: {late}"))),
    }
}

/// The processes of a group, with their arguments.
fn members(group: libc::pid_t) -> String {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let read = |name: &str| fs::read_to_string(entry.path().join(name)).unwrap_or_default();
        // Behind the name, which is in brackets: state, parent, group.
        let stat = read("stat");
        let own = stat.rsplit(')').next().and_then(|rest| rest.split(' ').nth(3)?.parse().ok());
        if own == Some(group) {
            let id = entry.file_name().to_string_lossy().into_owned();
            found.push(format!("{id} {}", read("cmdline").replace('\0', " ")));
        }
    }
    found.join("; ")
}

/// The filter that asks about these calls and lets the others through.
fn filter(traps: &[Trap]) -> Vec<libc::sock_filter> {
    let load =
        |at| libc::sock_filter { code: (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, jt: 0, jf: 0, k: at };
    let and = |k| libc::sock_filter { code: (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16, jt: 0, jf: 0, k };
    let equal = |k, else_over| libc::sock_filter {
        code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
        jt: 0,
        jf: else_over,
        k,
    };
    let give = |k| libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k };
    let ask = give(libc::SECCOMP_RET_USER_NOTIF);
    let one = |trap: &Trap| match *trap {
        Trap::Call(number) => vec![load(NUMBER), equal(number as u32, 1), ask],
        Trap::Kvm(number) => vec![
            load(NUMBER),
            equal(libc::SYS_ioctl as u32, 4),
            load(REQUEST),
            and(0xffff),
            equal((KVMIO as u32) << 8 | u32::from(number), 1),
            ask,
        ],
    };
    traps.iter().flat_map(one).chain([give(libc::SECCOMP_RET_ALLOW)]).collect()
}

/// In the child: puts the filter into force and sends its listener through a socket.
fn listen(program: &[libc::sock_filter], socket: i32) -> io::Result<()> {
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    // SAFETY: the program lives through the calls, and the message's parts live in this function.
    unsafe {
        if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 {
            return Err(io::Error::last_os_error());
        }
        let set = libc::SECCOMP_SET_MODE_FILTER;
        let listener = libc::syscall(libc::SYS_seccomp, set, flags, &raw const program) as i32;
        if listener < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut byte = 0u8;
        let mut part = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
        let mut control = [0u64; 4];
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(4) as usize;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(4) as usize;
        libc::CMSG_DATA(header).cast::<i32>().write_unaligned(listener);
        if libc::sendmsg(socket, &raw const message, 0) != 1 {
            return Err(io::Error::last_os_error());
        }
        libc::close(listener);
    }
    Ok(())
}

/// Takes the listener that the child has sent.
fn take(socket: &UnixDatagram) -> io::Result<OwnedFd> {
    let (mut byte, mut control) = (0u8, [0u64; 4]);
    let mut part = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    // SAFETY: the message's parts live in this function; the kernel fills them, and the header is looked at if it is there.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control);
        if libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) != 1 {
            return Err(io::Error::last_os_error());
        }
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        if header.is_null() {
            return Err(io::Error::other("the child sent no listener"));
        }
        Ok(OwnedFd::from_raw_fd(libc::CMSG_DATA(header).cast::<i32>().read_unaligned()))
    }
}

/// Answers calls until all processes with the filter are gone, or `goes_on` says no.
fn supervise(listener: &OwnedFd, traps: &[Trap], mut decide: impl FnMut(&Call) -> Answer, goes_on: impl Fn() -> bool) {
    while goes_on() {
        let mut poll = libc::pollfd { fd: listener.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one structure, which lives through the call.
        if unsafe { libc::poll(&raw mut poll, 1, 20) } <= 0 {
            continue;
        }
        if poll.revents & libc::POLLIN == 0 {
            return;
        }
        // SAFETY: plain numbers, for which zero is a value; the kernel wants it zeroed.
        let mut asked: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        // SAFETY: the structure is the one that the ioctl fills.
        if unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_RECV, &raw mut asked) } != 0 {
            // The caller is gone already.
            continue;
        }
        let number = i64::from(asked.data.nr);
        let trap = if number == libc::SYS_ioctl { Trap::Kvm(asked.data.args[1] as u8) } else { Trap::Call(number) };
        debug_assert!(traps.contains(&trap));
        let (error, flags) = match decide(&Call { trap, args: asked.data.args, thread: asked.pid }) {
            Answer::GoOn => (0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32),
            Answer::Errno(errno) => (-errno, 0),
            Answer::Done => (0, 0),
            Answer::Never => continue,
        };
        let mut answer = libc::seccomp_notif_resp { id: asked.id, val: 0, error, flags };
        // SAFETY: the structure is the one that the ioctl reads. It fails where the caller is gone.
        unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_SEND, &raw mut answer) };
    }
}
