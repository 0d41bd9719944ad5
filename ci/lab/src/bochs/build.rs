//! The build itself: unpack, patch, instrument, configure, make.

use super::recipe::{CLOCK, INSTRUMENTATION, PATCH, Recipe};
use crate::apt::NoArchive;
use crate::child;
use liblzma::read::XzDecoder;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

/// Why there is no Bochs.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Programs are missing.
    #[error("Bochs cannot be built: {0} not found; on Debian: apt-get install {1}")]
    Tools(String, String),
    /// Nobody says where the source is.
    #[error("{0}; or name the source's tarball by --bochs-source")]
    Archive(#[from] NoArchive),
    /// The source cannot be fetched.
    #[error("{url} cannot be fetched: {said}; fetch it elsewhere and name the file by --bochs-source")]
    Fetch {
        /// From where.
        url: String,
        /// What apt said.
        said: String,
    },
    /// The source cannot be read.
    #[error("{}", path.display())]
    Source {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The source is another.
    #[error("{} has SHA-256 {found}, but the recipe wants {wanted}", path.display())]
    Digest {
        /// The file.
        path: PathBuf,
        /// What it has.
        found: String,
        /// What it should have.
        wanted: String,
    },
    /// A step failed.
    #[error("Bochs cannot be built: {step} failed; the log is {}, and ends with: {tail}", log.display())]
    Step {
        /// Which.
        step: &'static str,
        /// Everything that the build said.
        log: PathBuf,
        /// The end of it.
        tail: String,
    },
    /// The program of a step cannot be run.
    #[error("Bochs cannot be built: {step} cannot be run")]
    Program {
        /// Which.
        step: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A file cannot be read or written.
    #[error("the cache: {0}")]
    Cache(#[from] io::Error),
}

/// Builds in the empty directory `dir`. All that the tools say goes to `log`.
///
/// # Errors
/// The step that failed.
pub fn build(recipe: &Recipe, tarball: &Path, dir: &Path, log: &Path) -> Result<(), BuildError> {
    File::create(log)?;
    let tree = unpack(tarball, dir).map_err(|source| BuildError::Source { path: tarball.to_owned(), source })?;
    fs::rename(tree, source(dir))?;
    let patch = dir.join("patch");
    fs::write(&patch, PATCH)?;
    step("patch", Command::new("patch").args(["-p1", "--fuzz=0", "--force", "-i"]).arg(&patch), dir, log)?;
    let instrument = source(dir).join("instrument").join(CLOCK);
    fs::create_dir(&instrument)?;
    for (name, text) in INSTRUMENTATION {
        fs::write(instrument.join(name), text)?;
    }
    fs::copy(source(dir).join("instrument/stubs/Makefile.in"), instrument.join("Makefile.in"))?;
    let flags = &recipe.build.flags;
    let mut configure = Command::new("./configure");
    configure.args(&recipe.build.configure).args([format!("CFLAGS={flags}"), format!("CXXFLAGS={flags}")]);
    step("configure", &mut configure, dir, log)?;
    let jobs = thread::available_parallelism().map_or(1, usize::from);
    step("make", Command::new("make").args([&format!("-j{jobs}"), "bochs"]), dir, log)
}

/// The program that [`build`] makes in `dir`.
pub fn program(dir: &Path) -> PathBuf {
    source(dir).join("bochs")
}

fn source(dir: &Path) -> PathBuf {
    dir.join("source")
}

/// Unpacks the tarball and gives the one directory that is in it.
fn unpack(tarball: &Path, dir: &Path) -> io::Result<PathBuf> {
    let to = dir.join("unpacked");
    tar::Archive::new(XzDecoder::new(File::open(tarball)?)).unpack(&to)?;
    let mut entries = fs::read_dir(&to)?.collect::<io::Result<Vec<_>>>()?;
    match (entries.pop(), entries.is_empty()) {
        (Some(entry), true) => Ok(entry.path()),
        _ => Err(io::Error::other("a source tarball holds one directory")),
    }
}

/// Runs a step in the source's directory.
fn step(step: &'static str, command: &mut Command, dir: &Path, log: &Path) -> Result<(), BuildError> {
    let mut output = File::options().append(true).open(log)?;
    writeln!(output, "== {step}")?;
    command.current_dir(source(dir)).env("LC_ALL", "C");
    let mut written = Ok(());
    let status = child::each(command, |_, bytes| {
        if written.is_ok() {
            written = output.write_all(bytes);
        }
    })
    .map_err(|source| BuildError::Program { step, source })?;
    written?;
    if status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&fs::read(log)?).into_owned();
    let mut tail: Vec<&str> = text.lines().rev().filter(|line| !line.is_empty()).take(5).collect();
    tail.reverse();
    Err(BuildError::Step { step, log: log.to_owned(), tail: tail.join("; ") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use liblzma::write::XzEncoder;

    /// A tarball of a directory with one file.
    fn tarball(path: &Path, name: &str, text: &str) {
        let mut builder = tar::Builder::new(XzEncoder::new(File::create(path).unwrap(), 1));
        let mut header = tar::Header::new_ustar();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, format!("bochs-3.0/{name}"), text.as_bytes()).unwrap();
        builder.into_inner().unwrap().finish().unwrap();
    }

    #[test]
    fn a_step_that_fails_leaves_its_words() {
        let dir = tempfile::tempdir().unwrap();
        let [path, log, draft] = ["source.tar.xz", "build.log", "draft"].map(|name| dir.path().join(name));
        tarball(&path, "main.cc", "int main() {}\n");
        fs::create_dir(&draft).unwrap();
        let error = build(&Recipe::load(), &path, &draft, &log).unwrap_err();
        let BuildError::Step { step, log: named, tail } = &error else { panic!("{error:?}") };
        assert_eq!((*step, named), ("patch", &log));
        assert!(!tail.is_empty() && fs::read_to_string(&log).unwrap().starts_with("== patch\n"), "{error}");
    }

    #[test]
    fn what_is_no_tarball_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("source.tar.xz");
        fs::write(&path, "no tarball").unwrap();
        let error = build(&Recipe::load(), &path, dir.path(), &dir.path().join("log")).unwrap_err();
        assert!(error.to_string().ends_with("source.tar.xz"), "{error}");
    }
}
