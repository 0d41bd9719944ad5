//! QEMU's emulation of an AMD CPU with SVM and nested paging. It has no memory types.

use super::{Boot, Ending, MEMORY, Watch};
use crate::init::QEMU_EXIT;
use crate::mailbox;
use kvm_memtype::machine::process::{self, Event, Open, Stream};
use kvm_memtype::machine::{MachineError, memfd, qemu};
use std::io;
use std::ops::ControlFlow;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::time::Duration;

/// The CPU model of the emulated machine, unless another is asked for.
pub const CPU: &str = "EPYC,+svm";
/// The most that is kept of what QEMU says.
const SAID: usize = 16 << 10;

/// Boots a kernel and watches it to its end.
///
/// # Errors
/// There is no QEMU, or it cannot be run.
pub fn run(boot: &Boot<'_>, mut watch: Watch<'_>) -> Result<Ending, MachineError> {
    let failed =
        |error: io::Error| MachineError { what: "QEMU cannot be run".to_owned(), source: Some(Box::new(error)) };
    let [kernel, initrd] = [memfd::with(boot.vmlinux).map_err(failed)?, memfd::with(boot.initrd).map_err(failed)?];
    let (console, console_end) = io::pipe().map_err(failed)?;
    let path = |file: i32| format!("/proc/self/fd/{file}");
    let mut command = Command::new(qemu::find()?);
    command
        .args(["-accel", "tcg", "-machine", "pc", "-nodefaults", "-display", "none", "-no-reboot"])
        .args(["-cpu", boot.cpu, "-m", &MEMORY.to_string()])
        .args(["-chardev", "stdio,id=mailbox,signal=off"])
        .args(["-device", &format!("isa-debugcon,iobase={:#x},chardev=mailbox", mailbox::PORT)])
        .args(["-device", &format!("isa-debug-exit,iobase={QEMU_EXIT:#x},iosize=1")])
        .args(["-device", "VGA"])
        .args(["-serial", &format!("file:{}", path(console_end.as_raw_fd()))])
        .args(["-kernel", &path(kernel.as_raw_fd()), "-initrd", &path(initrd.as_raw_fd()), "-append", boot.cmdline]);
    let open = Open { files: vec![&kernel, &initrd], pipe: Some((console, console_end)) };
    let mut said = Vec::new();
    let cause = process::run(&mut command, open, Duration::MAX, |event| match event {
        Event::Output(Stream::Stdout, bytes) => watch.mailbox(bytes),
        Event::Output(Stream::Pipe, bytes) => watch.console(bytes),
        Event::Silence => watch.silence(),
        Event::Output(Stream::Stderr, bytes) => {
            said.extend_from_slice(&bytes[..bytes.len().min(SAID - said.len())]);
            ControlFlow::Continue(())
        }
    });
    watch.end(cause.map_err(failed)?, &String::from_utf8_lossy(&said)).map_err(failed)
}
