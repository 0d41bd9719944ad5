//! The QEMU program on this host: where it is, which version, and which CPU model works.

use super::Accel;
use super::command::{Guest, arguments};
use super::ending;
use super::memfd;
use super::process::{self, Ended};
use super::smallest::{self, MTRR_BIT, SHOWS_MTRR, SHOWS_NO_MTRR};
use crate::machine::{End, Limits, MachineError};
use crate::plan::vm::VmConfig;
use std::env;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Environment variable that names the program to use.
pub const VARIABLE: &str = "KVM_MEMTYPE_QEMU";
const NAME: &str = "qemu-system-x86_64";

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
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).map(|dir| dir.join(NAME)).find(|path| is_program(path)).ok_or_else(|| MachineError {
        what: format!("{NAME} is not on PATH; install qemu-system-x86, or name the program in {VARIABLE}"),
        source: None,
    })
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
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

/// A CPU model that works, and how far CPUID can be set there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// For `-cpu`.
    pub name: &'static str,
    /// Whether the guest sees CPUID.1:EDX.MTRR though it was told to be away, as a KVM can have it.
    pub forces_mtrr: bool,
}

/// Tries the CPU models on a guest of a few bytes; the first that runs it is taken.
///
/// `host` is the one that shows what the CPU has, but QEMU aborts on it where KVM refuses an MSR that it thinks is there.
///
/// # Errors
/// None works; the error is that of the last, QEMU's own default.
pub fn model(accel: Accel, path: &Path) -> Result<Model, MachineError> {
    match accel {
        Accel::Kvm => attempt(accel, path, "host").or_else(|_| attempt(accel, path, "qemu64")),
        Accel::Tcg => attempt(accel, path, "max"),
    }
}

fn attempt(accel: Accel, path: &Path, name: &'static str) -> Result<Model, MachineError> {
    let vm = VmConfig { summary: String::new(), maxphyaddr: None, cpuid_mtrr: false };
    let elf = smallest::elf(&MTRR_BIT);
    let ended = boot(accel, path, name, &elf, &Guest { append: "", cpus: 1, vm: &vm }, Limits::default())?;
    match ending::end(&ended).map_err(|why| failed(accel, path, &why))? {
        End::Exit(SHOWS_NO_MTRR) => Ok(Model { name, forces_mtrr: false }),
        End::Exit(SHOWS_MTRR) => Ok(Model { name, forces_mtrr: true }),
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
    model: &str,
    elf: &[u8],
    guest: &Guest<'_>,
    limits: Limits,
) -> Result<Ended, MachineError> {
    let file = memfd::with(elf).map_err(|e| MachineError {
        what: "a memory file for the guest cannot be made".to_owned(),
        source: Some(Box::new(e)),
    })?;
    let kernel = format!("/proc/self/fd/{}", file.as_raw_fd());
    let arguments = arguments(accel, model, &kernel, guest);
    process::run(Command::new(path).args(arguments), &[&file], limits, ending::gave_up).map_err(|e| cannot_run(path, e))
}

fn cannot_run(path: &Path, error: std::io::Error) -> MachineError {
    MachineError { what: format!("{} cannot be run", path.display()), source: Some(Box::new(error)) }
}

/// The error of a QEMU that failed, with what it said.
pub fn failed(accel: Accel, path: &Path, why: &str) -> MachineError {
    MachineError { what: format!("{} ({}) failed: {why}", path.display(), accel.machine()), source: None }
}
