//! The Bochs program on this host: where it is, which version, and whether it is the one that is built here.

use crate::machine::MachineError;
use crate::machine::program::{is_program, on_path};
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Environment variable that names the program to use.
pub const VARIABLE: &str = "KVM_MEMTYPE_BOCHS";
const NAME: &str = "bochs";

/// What a build of `ci/bochs` prints with its version: the name of the clock model follows.
const MARK: &str = "kvm-memtype clock: ";

/// Environment variable that names the directory of what the lab builds and fetches.
pub const CACHE: &str = "KVM_MEMTYPE_CACHE";

/// The cache: what `KVM_MEMTYPE_CACHE` says, or `kvm-memtype` in the user's cache; nothing without a home.
pub fn cache() -> Option<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set(CACHE)
        .or_else(|| set("XDG_CACHE_HOME").map(|dir| dir.join("kvm-memtype")))
        .or_else(|| set("HOME").map(|dir| dir.join(".cache/kvm-memtype")))
}

/// Where the lab leaves a link to the Bochs that it built last.
pub fn built(cache: &Path) -> PathBuf {
    cache.join("bochs/current")
}

/// A Bochs program and what it said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bochs {
    /// Where it is.
    pub path: PathBuf,
    /// Its version: `3.0`.
    pub version: String,
    /// The model by which its clock charges accesses to memory, if it is a build of `ci/bochs`. Bochs as distributed
    /// has none: its time stamp counter counts instructions.
    pub clock: Option<String>,
    /// Whether it can leave out CPU features: since 3.0.
    pub(super) excludes_features: bool,
    /// Value of `display_library` for no display.
    pub(super) display: &'static str,
    /// It stops for a debugger before the first instruction, and must be told to go on.
    pub(super) debugger: bool,
}

impl Bochs {
    /// Finds Bochs: what `KVM_MEMTYPE_BOCHS` says, else the lab's, else the first on PATH.
    ///
    /// # Errors
    /// It is not there, or does not say what Bochs says.
    pub fn find() -> Result<Bochs, MachineError> {
        Bochs::first(cache().map(|cache| built(&cache)))
    }

    /// Finds the Bochs of a distribution: what `KVM_MEMTYPE_BOCHS` says, else the first on PATH.
    ///
    /// # Errors
    /// It is not there, or does not say what Bochs says.
    pub fn distributed() -> Result<Bochs, MachineError> {
        Bochs::first(None)
    }

    /// What the variable says, else the one at `built`, else the first on PATH.
    fn first(built: Option<PathBuf>) -> Result<Bochs, MachineError> {
        let wrong = |what| MachineError { what, source: None };
        if let Some(path) = env::var_os(VARIABLE).map(PathBuf::from) {
            return match is_program(&path) {
                true => Bochs::at(&path),
                false => Err(wrong(format!("{VARIABLE} names {}: no program is there", path.display()))),
            };
        }
        let found = built.filter(|path| is_program(path)).or_else(|| on_path(NAME));
        let advice = "build it by `lab bochs`, install the package bochs, or name the program in";
        Bochs::at(&found.ok_or_else(|| wrong(format!("there is no {NAME}; {advice} {VARIABLE}")))?)
    }

    /// The Bochs at `path`.
    ///
    /// # Errors
    /// It cannot be run, or does not say what Bochs says.
    pub fn at(path: &Path) -> Result<Bochs, MachineError> {
        let help = said(path, &["--help"])?;
        read(path, &help).ok_or_else(|| MachineError {
            what: format!("{} --help does not say what Bochs says: {:?}", path.display(), help.trim()),
            source: None,
        })
    }
}

/// Reads what a Bochs says of itself.
fn read(path: &Path, help: &str) -> Option<Bochs> {
    let after = |key| help.lines().find_map(|line| line.split_once(key)).map(|(_, rest)| rest.trim().to_owned());
    let debugger = help.lines().any(|line| line.trim_start().starts_with("-rc "));
    let version = after("Bochs x86 Emulator ")?;
    let major: Option<u32> = version.split('.').next().and_then(|major| major.parse().ok());
    Some(Bochs {
        path: path.to_owned(),
        excludes_features: major.is_some_and(|major| major >= 3),
        version,
        clock: after(MARK),
        // Debian's build has the debugger and no display library that displays nothing; VNC without a client does. Its
        // server listens on all interfaces, and no option of Bochs says otherwise.
        display: if debugger { "rfb, options=\"timeout=0\"" } else { "nogui" },
        debugger,
    })
}

/// What it writes to standard output and standard error.
fn said(path: &Path, arguments: &[&str]) -> Result<String, MachineError> {
    let output = Command::new(path).args(arguments).output().map_err(|e| cannot_run(path, e))?;
    Ok([output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat())
}

/// The error of a program that the system does not run.
pub(super) fn cannot_run(path: &Path, error: std::io::Error) -> MachineError {
    MachineError { what: format!("{} cannot be run", path.display()), source: Some(Box::new(error)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_is_known_by_what_it_says() {
        let banner = "====\n    Bochs x86 Emulator 3.0\n  Built from GitHub\n";
        let own = read(Path::new("/b"), &format!("{banner}kvm-memtype clock: memtime\n")).unwrap();
        assert_eq!((own.version.as_str(), own.clock.as_deref(), own.display), ("3.0", Some("memtime"), "nogui"));
        assert!(!own.debugger && own.excludes_features);
        let banner = banner.replace("3.0", "2.7");
        let stock = read(Path::new("/b"), &format!("{banner}  -rc filename     execute\n")).unwrap();
        assert_eq!((stock.clock, stock.debugger, stock.excludes_features), (None, true, false));
        assert!(stock.display.starts_with("rfb"));
        assert_eq!(read(Path::new("/b"), "usage: true\n"), None);
    }
}
