//! The QEMU program on this host: where it is, which version, and with what it works.

use super::Accel;
use super::command::{Guest, Platform, arguments};
use super::ending;
use super::ending::{Ended, Why};
use crate::machine::log::Log;
use crate::machine::memfd;
use crate::machine::process::{self, Event, Open, Stream};
use crate::machine::program::{is_program, on_path};
use crate::machine::smallest;
use crate::machine::{End, Limits, MachineError};
use crate::plan::vm::VmConfig;
use std::env;
use std::ops::ControlFlow;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;

/// CPUID.1:EDX.MTRR as a guest sees it, written to the exit port: [`SHOWS_NO_MTRR`] or [`SHOWS_MTRR`].
const MTRR_BIT: [u8; 19] = [
    0xb8, 1, 0, 0, 0, // mov eax, 1
    0x0f, 0xa2, // cpuid
    0xc1, 0xea, 12, // shr edx, 12
    0x83, 0xe2, 1, // and edx, 1
    0x8d, 0x42, 0x20, // lea eax, [edx + 0x20]
    0xe7, 0xf4, // out 0xf4, eax
    0xf4, // hlt
];
/// Exit value of a guest that sees no MTRR.
const SHOWS_NO_MTRR: u32 = 0x20;
/// Exit value of a guest that sees MTRR.
const SHOWS_MTRR: u32 = 0x21;

/// Environment variable that names the program to use.
pub const VARIABLE: &str = "KVM_MEMTYPE_QEMU";
const NAME: &str = "qemu-system-x86_64";
/// Bytes of standard error that are kept; what comes after them is dropped.
const STDERR: usize = 64 << 10;

/// Where QEMU is: what the variable says, else the first on PATH.
///
/// # Errors
/// It is not there.
pub fn find() -> Result<PathBuf, MachineError> {
    if let Some(path) = env::var_os(VARIABLE).map(PathBuf::from) {
        let wrong =
            || MachineError { what: format!("{VARIABLE} names {}: no program is there", path.display()), source: None };
        return if is_program(&path) { Ok(path) } else { Err(wrong()) };
    }
    on_path(NAME).ok_or_else(|| MachineError {
        what: format!("{NAME} is not on PATH; install qemu-system-x86, or name the program in {VARIABLE}"),
        source: None,
    })
}

/// What the program says of its version: `7.2.22 (Debian ...)`.
///
/// # Errors
/// It does not run, or says something else.
pub fn version(path: &Path) -> Result<String, MachineError> {
    let output = Command::new(path).arg("--version").output().map_err(|e| cannot_run(path, e))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.lines().next().and_then(|line| line.split_once("version "));
    version.map(|(_, version)| version.to_owned()).ok_or_else(|| MachineError {
        what: format!("{} --version does not say what QEMU says: {:?}", path.display(), text.trim_end()),
        source: None,
    })
}

/// What of QEMU's command line works here, and how far CPUID can be set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setup {
    /// CPU model and firmware.
    pub platform: Platform,
    /// Whether the guest sees CPUID.1:EDX.MTRR though it was told to be away, as a KVM can have it.
    pub forces_mtrr: bool,
}

/// Tries CPU models and firmware on a guest of a few bytes; the first pair that runs it is taken.
///
/// CPU model `host` shows what the CPU has, but QEMU aborts on it where KVM refuses an MSR that QEMU thinks is there.
/// The small build of SeaBIOS has few drivers to wait for, but not every distribution ships it.
///
/// # Errors
/// No pair works; the error is that of the last, which is QEMU's own default.
pub fn setup(accel: Accel, path: &Path) -> Result<Setup, MachineError> {
    let models: &[_] = match accel {
        Accel::Kvm => &["host", "qemu64"],
        Accel::Tcg => &["max"],
    };
    let pairs = [Some("bios-microvm.bin"), None]
        .into_iter()
        .flat_map(|firmware| models.iter().map(move |&cpu| (cpu, firmware)));
    let mut result = Err(failed(accel, path, "no CPU model was tried"));
    for (cpu, firmware) in pairs {
        result = attempt(accel, path, Platform { cpu, firmware });
        if result.is_ok() {
            break;
        }
    }
    result
}

fn attempt(accel: Accel, path: &Path, platform: Platform) -> Result<Setup, MachineError> {
    let vm = VmConfig { cpuid_mtrr: false, ..VmConfig::default() };
    let guest = Guest { append: "", cpus: 1, vm: &vm };
    let ended = boot(accel, path, platform, &smallest::elf(&MTRR_BIT), &guest, Limits::default())?;
    match ending::end(&ended).map_err(|why| failed(accel, path, &why))? {
        End::Exit(SHOWS_NO_MTRR) => Ok(Setup { platform, forces_mtrr: false }),
        End::Exit(SHOWS_MTRR) => Ok(Setup { platform, forces_mtrr: true }),
        other => Err(failed(accel, path, &format!("a guest of a few instructions ended with {other:?}"))),
    }
}

/// Boots an ELF in QEMU, and waits for its end.
///
/// # Errors
/// QEMU cannot be run.
pub fn boot(
    accel: Accel,
    path: &Path,
    platform: Platform,
    elf: &[u8],
    guest: &Guest<'_>,
    limits: Limits,
) -> Result<Ended, MachineError> {
    let file = memfd::with(elf).map_err(|e| MachineError {
        what: "a memory file for the guest cannot be made".to_owned(),
        source: Some(Box::new(e)),
    })?;
    let kernel = format!("/proc/self/fd/{}", file.as_raw_fd());
    let arguments = arguments(accel, platform, &kernel, guest);
    let (mut log, mut errors) = (Log::new(limits.output), Vec::new());
    let open = Open { files: vec![&file], pipe: None };
    let on_event = |event: Event<'_>| match event {
        Event::Silence => ControlFlow::Continue(()),
        Event::Output(Stream::Stdout, bytes) => {
            log.serial(bytes).map_or(ControlFlow::Break(Why::Flood), ControlFlow::Continue)
        }
        Event::Output(Stream::Stderr | Stream::Pipe, bytes) => {
            errors.extend_from_slice(&bytes[..bytes.len().min(STDERR - errors.len())]);
            match ending::gave_up(&String::from_utf8_lossy(&errors)) {
                true => ControlFlow::Break(Why::Hopeless),
                false => ControlFlow::Continue(()),
            }
        }
    };
    let cause = process::run(Command::new(path).args(arguments), open, limits.timeout, on_event);
    let cause = cause.map_err(|e| cannot_run(path, e))?;
    Ok(Ended { log: log.finish(), stderr: String::from_utf8_lossy(&errors).into_owned(), cause })
}

fn cannot_run(path: &Path, error: std::io::Error) -> MachineError {
    MachineError { what: format!("{} cannot be run", path.display()), source: Some(Box::new(error)) }
}

/// The error of a QEMU that failed, with what it said.
pub fn failed(accel: Accel, path: &Path, why: &str) -> MachineError {
    MachineError { what: format!("{} ({}) failed: {why}", path.display(), accel.machine()), source: None }
}
