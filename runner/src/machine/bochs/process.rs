//! A Bochs while it runs: a child process whose files have no names and leave nothing behind.

use super::config::{Config, Paths};
use super::program::{Bochs, cannot_run};
use crate::machine::process::{self, Cause, Event, Open, Stream};
use crate::machine::{MachineError, memfd};
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

/// The code behind the reset vector, see the crate `rom`.
static ROM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/rom.bin"));
/// Size of the image that Bochs loads below 4 GiB.
const ROM_SIZE: usize = 64 << 10;
/// Bytes of standard error that are kept.
const KEPT: usize = 64 << 10;

/// What is heard of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard<'a> {
    /// Bytes of the serial line, COM1.
    Serial(&'a [u8]),
    /// Bytes of port 0xe9. Bochs' own banner stands there first, and then a [`START_LINE`](wire::layout::START_LINE).
    Debug(&'a [u8]),
    /// Nothing for a fifth of a second.
    Silence,
}

/// What came of a Bochs.
#[derive(Debug)]
pub struct Ended {
    /// Why the watch ended.
    pub cause: Cause<()>,
    /// What Bochs said on standard error: the reason of its end is in it.
    pub message: String,
}

impl Ended {
    /// The reason that Bochs gave for its end: `[UNMAP ] Shutdown port: shutdown requested`.
    pub fn reason(&self) -> Option<&str> {
        let (_, rest) = self.message.split_once("Bochs is exiting with the following message:\n")?;
        rest.lines().next().map(str::trim)
    }

    /// The error of a Bochs that did not come as far as its first instruction.
    pub fn did_not_boot(&self, bochs: &Bochs) -> MachineError {
        let reason = self.reason().unwrap_or(self.message.trim());
        let what = format!("Bochs {} ({}) does not boot: {reason}", bochs.version, bochs.path.display());
        MachineError { what, source: None }
    }
}

impl Bochs {
    /// Boots `disk`, a file with a boot disk's image, and runs it to its end, but no longer than `timeout`. `on_event`
    /// is handed what the guest writes as it comes, and is told when nothing comes; it says when that is enough.
    ///
    /// # Errors
    /// Bochs cannot be run.
    pub fn run(
        &self,
        config: &Config,
        disk: &File,
        timeout: Duration,
        mut on_event: impl FnMut(Heard<'_>) -> ControlFlow<()>,
    ) -> Result<Ended, MachineError> {
        let failed = |e| cannot_run(&self.path, e);
        let mut rom = vec![0xff; ROM_SIZE - ROM.len()];
        rom.extend(ROM);
        let rom = memfd::with(&rom).map_err(failed)?;
        let (serial, serial_end) = io::pipe().map_err(failed)?;
        let path = |file: i32| format!("/proc/self/fd/{file}");
        let paths =
            Paths { rom: path(rom.as_raw_fd()), disk: path(disk.as_raw_fd()), serial: path(serial_end.as_raw_fd()) };
        let text = memfd::with(config.text(&paths, self.display).as_bytes()).map_err(failed)?;
        // The debugger stops at the start and after a reset, of which the ROM allows one.
        let go_on = memfd::with(b"c\nc\n").map_err(failed)?;
        let mut command = Command::new(&self.path);
        command.args(["-q", "-f", &path(text.as_raw_fd())]);
        if self.debugger {
            command.args(["-rc", &path(go_on.as_raw_fd())]);
        }
        // SAFETY: the closure runs in the child between fork and exec, makes system calls only and allocates nothing.
        unsafe { command.pre_exec(without_alarms) };
        let open = Open { files: vec![&rom, disk, &text, &go_on], pipe: Some((serial, serial_end)) };
        let mut errors = Vec::new();
        let cause = process::run(&mut command, open, timeout, |event| match event {
            Event::Silence => on_event(Heard::Silence),
            Event::Output(Stream::Stdout, bytes) => on_event(Heard::Debug(bytes)),
            Event::Output(Stream::Pipe, bytes) => on_event(Heard::Serial(bytes)),
            Event::Output(Stream::Stderr, bytes) => {
                errors.extend_from_slice(&bytes[..bytes.len().min(KEPT - errors.len())]);
                ControlFlow::Continue(())
            }
        });
        let cause = cause.map_err(failed)?;
        Ok(Ended { cause, message: String::from_utf8_lossy(&errors).into_owned() })
    }
}

/// Blocks SIGALRM for the program to come. A Bochs built to show its speed, as Debian's is, sets an alarm each second,
/// whose handler writes to the log: where the alarm comes upon a write to the log, it waits for ever for the lock that
/// it interrupted.
fn without_alarms() -> io::Result<()> {
    // SAFETY: the set is initialised before it is used, and both pointers are to it alone.
    let blocked = unsafe {
        let mut alarm = std::mem::zeroed();
        libc::sigemptyset(&mut alarm);
        libc::sigaddset(&mut alarm, libc::SIGALRM);
        libc::sigprocmask(libc::SIG_BLOCK, &alarm, std::ptr::null_mut())
    };
    if blocked == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
