//! What a boot leaves: a directory with what was booted, the console, and a run of kvm-memtype for each suite.

use crate::apt::Package;
use crate::init::Module;
use crate::patch::Record;
use kvm_memtype::report::{CellVerdict, Repeats};
use kvm_memtype::results::{self, ResultsError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Seek, SeekFrom, Write};
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

/// Name of the file that says what was booted.
const BOOT: &str = "boot.json";

/// Name of the file with what the kernel said on its console.
pub const CONSOLE: &str = "console.log";

/// What was booted.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Booted {
    /// The kernel's name, and how it was started.
    pub variant: String,
    /// The emulated machine.
    pub machine: String,
    /// The program that emulates it.
    pub emulator: Emulator,
    /// The CPU model, in the emulator's words.
    pub cpu: String,
    /// Memory of the machine, in MiB.
    pub memory: u32,
    /// What the kernel was made of; nothing for a local kernel.
    pub packages: Vec<Package>,
    /// What its KVM was built of, where it is not the packages' own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kvm: Option<Record>,
    /// SHA-256 of the kernel, an ELF file.
    pub vmlinux: String,
    /// The kernel's command line.
    pub cmdline: String,
    /// Modules and their parameters, in the order in which they were loaded.
    pub modules: Vec<Module>,
    /// Suites that were to be run, in this order.
    pub suites: Vec<String>,
    /// Further arguments of `kvm-memtype run`, as they were given.
    pub arguments: Vec<String>,
    /// Version of the lab.
    pub version: String,
}

/// An emulator.
#[derive(Debug, Default, Serialize)]
pub struct Emulator {
    /// What it is.
    pub name: &'static str,
    /// Its version, in its own words.
    pub version: String,
    /// The model by which its clock charges accesses to memory, if it has one.
    pub clock: Option<String>,
}

/// The kernel's name, and how it was started, of the boot in `dir`; nothing if no boot is there.
pub fn variant(dir: &Path) -> Option<String> {
    #[derive(Deserialize)]
    struct Known {
        variant: String,
    }
    let text = fs::read(dir.join(BOOT)).ok()?;
    serde_json::from_slice(&text).ok().map(|Known { variant }| variant)
}

/// The directory of a boot.
#[derive(Debug)]
pub struct Directory(PathBuf);

impl Directory {
    /// Makes `<UTC time>-<variant>` under `root`; where there is one, that with `-2` and so on.
    ///
    /// # Errors
    /// The system refuses.
    pub fn make(root: &Path, booted: &Booted) -> io::Result<Directory> {
        fs::create_dir_all(root)?;
        let name = format!("{}-{}", results::utc(SystemTime::now()), booted.variant);
        let names = std::iter::once(name.clone()).chain((2..).map(|number| format!("{name}-{number}")));
        for dir in names.map(|name| root.join(name)) {
            match fs::create_dir(&dir) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                result => {
                    result?;
                    fs::write(dir.join(BOOT), serde_json::to_vec_pretty(booted)?)?;
                    return Ok(Directory(dir));
                }
            }
        }
        Err(io::Error::other("there are too many directories of that name"))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Puts configurations that the run was judged by into `config`, so that it can be judged again.
    ///
    /// # Errors
    /// The system refuses.
    pub fn put_configs(&self, configs: &BTreeMap<String, String>) -> io::Result<()> {
        for (path, text) in configs {
            let path = self.0.join("config").join(path);
            fs::create_dir_all(path.parent().unwrap_or(&self.0))?;
            fs::write(path, text)?;
        }
        Ok(())
    }

    /// Puts a piece of a file where it belongs.
    ///
    /// # Errors
    /// The path leads elsewhere, pieces are missing before this one, or the system refuses.
    pub fn put(&self, path: &str, offset: u64, piece: &[u8]) -> io::Result<()> {
        let strange = |why: &str| Err(io::Error::other(format!("the machine sent {path:?}: {why}")));
        if !Path::new(path).components().all(|part| matches!(part, Component::Normal(_))) {
            return strange("that is no path below the results");
        }
        let path_here = self.0.join(path);
        fs::create_dir_all(path_here.parent().unwrap_or(&self.0))?;
        let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(&path_here)?;
        if file.metadata()?.len() != offset {
            return strange("a piece before it is missing");
        }
        file.seek(SeekFrom::Start(offset))?;
        file.write_all(piece)
    }

    /// What a suite's repetitions came to, from the verdicts that came; nothing where one has none.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn repeats(&self, suite: &str) -> Result<Option<Repeats>, ResultsError> {
        let mut repeats = Repeats::default();
        for dir in results::repetitions(&self.0.join(suite)) {
            let verdicts: Option<Vec<CellVerdict>> = results::read_verdicts(&dir)?;
            let Some(verdicts) = verdicts else { return Ok(None) };
            repeats.add(&verdicts);
        }
        Ok(Some(repeats))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(root: &Path) -> Directory {
        let booted = Booted { variant: "6.1,nosmep".into(), ..Booted::default() };
        Directory::make(root, &booted).unwrap()
    }

    #[test]
    fn pieces_make_a_file_and_a_hole_shows() {
        let root = tempfile::tempdir().unwrap();
        let dir = directory(root.path());
        assert!(dir.path().to_string_lossy().contains("-6.1,nosmep"));
        dir.put("default/x.jsonl", 0, b"one\n").unwrap();
        dir.put("default/x.jsonl", 4, b"two\n").unwrap();
        assert_eq!(fs::read(dir.path().join("default/x.jsonl")).unwrap(), b"one\ntwo\n");
        assert!(dir.put("default/x.jsonl", 9, b"four\n").is_err());
        assert_ne!(directory(root.path()).path(), dir.path());
    }

    #[test]
    fn no_path_leads_out() {
        let root = tempfile::tempdir().unwrap();
        let dir = directory(root.path());
        for path in ["../x", "/tmp/x", "a/../../x"] {
            assert!(dir.put(path, 0, b"x").is_err(), "{path}");
        }
    }
}
