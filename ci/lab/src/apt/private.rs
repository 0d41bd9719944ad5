//! An apt with lists and a cache of its own. It needs no root, installs nothing, and trusts Debian's keys alone.

use super::Archive;
use crate::cache;
use crate::child;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Fetches files by apt's own methods, so that its proxies and its authentication hold.
pub const HELPER: &str = "/usr/lib/apt/apt-helper";

/// Why packages cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum AptError {
    /// A program of apt is missing.
    #[error(
        "{program} cannot be run: packages can only be fetched where Debian's apt is; give a kernel by --bzimage instead"
    )]
    Program {
        /// Which.
        program: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The keys of Debian's archive are missing.
    #[error("{}: the keys of Debian's archive are not there; install debian-archive-keyring", .0.display())]
    Keyring(PathBuf),
    /// It failed.
    #[error("{program} failed: {said}")]
    Failed {
        /// Which program.
        program: &'static str,
        /// What it said that matters.
        said: String,
    },
    /// No package fits.
    #[error("{0}")]
    Nothing(String),
    /// A file cannot be read or written.
    #[error("apt's files in the cache")]
    Io(#[from] io::Error),
}

/// A private apt for some suites.
#[derive(Debug)]
pub struct Apt {
    config: PathBuf,
    updated: PathBuf,
}

impl Apt {
    /// The one for these suites; its lists are those of its last update.
    ///
    /// # Errors
    /// The keys are missing, or its files cannot be written.
    pub fn new(root: &Path, archive: &Archive, suites: &[String]) -> Result<Apt, AptError> {
        if !archive.keyring.is_file() {
            return Err(AptError::Keyring(archive.keyring.clone()));
        }
        let list = archive.list(suites);
        let dir = std::path::absolute(root.join("apt").join(&cache::digest([list.as_str()])[..16]))?;
        for part in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(dir.join(part))?;
        }
        // Another process's apt may read them just now.
        cache::write(&dir.join("sources.list"), list.as_bytes())?;
        let config = dir.join("apt.conf");
        cache::write(&config, configuration(&dir).as_bytes())?;
        Ok(Apt { config, updated: dir.join("updated") })
    }

    /// Whether its lists were ever fetched.
    pub fn has_lists(&self) -> bool {
        self.updated.is_file()
    }

    /// Fetches the lists of packages.
    ///
    /// # Errors
    /// apt cannot be run, or the archive cannot be reached or believed.
    pub fn update(&self) -> Result<(), AptError> {
        self.run("apt-get", ["update", "-q"], Path::new("/"))?;
        Ok(fs::write(&self.updated, "")?)
    }

    /// Names of all packages that begin so.
    ///
    /// # Errors
    /// apt-cache cannot be run, or fails.
    pub fn names(&self, prefix: &str) -> Result<Vec<String>, AptError> {
        let text = self.run("apt-cache", ["pkgnames", prefix], Path::new("/"))?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// What the lists say of packages: stanzas of fields.
    ///
    /// # Errors
    /// apt-cache cannot be run, or knows no such package.
    pub fn show(&self, names: &[String]) -> Result<String, AptError> {
        let arguments = ["show", "--no-all-versions"].into_iter().chain(names.iter().map(String::as_str));
        self.run("apt-cache", arguments, Path::new("/"))
    }

    /// Fetches a package into a directory; apt checks it against the signed lists.
    ///
    /// # Errors
    /// apt-get cannot be run, or the package cannot be had.
    pub fn download(&self, name: &str, version: &str, dir: &Path) -> Result<(), AptError> {
        self.run("apt-get", ["download", "-q", &format!("{name}={version}")], dir).map(drop)
    }

    fn run<'a>(
        &self,
        program: &'static str,
        arguments: impl IntoIterator<Item = &'a str>,
        dir: &Path,
    ) -> Result<String, AptError> {
        let mut command = Command::new(program);
        command.args([OsStr::new("-c"), self.config.as_os_str()]).args(arguments);
        let output = child::output(command.current_dir(dir).env("LC_ALL", "C"))
            .map_err(|source| AptError::Program { program, source })?;
        if !output.status.success() {
            return Err(AptError::Failed { program, said: complaint(&output.stderr) });
        }
        Ok(output.stdout)
    }
}

/// What to say of what apt said: its errors, and of many the first few.
fn complaint(stderr: &str) -> String {
    let mut errors: Vec<&str> = stderr.lines().filter_map(|line| line.strip_prefix("E: ")).collect();
    errors.truncate(3);
    if errors.is_empty() { stderr.trim().to_owned() } else { errors.join("; ") }
}

/// apt's settings. Hooks of the machine are cleared: they clean the machine's own cache. `-c` is read after the
/// machine's settings, of which others, such as a proxy, hold.
fn configuration(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        "#clear APT::Update::Post-Invoke;\n#clear APT::Update::Post-Invoke-Success;\n#clear Acquire::IndexTargets;\n\
         #clear Dir::State::status;\n\
         Acquire::IndexTargets::deb::Packages {{\n  MetaKey \"$(COMPONENT)/binary-$(ARCHITECTURE)/Packages\";\n  \
         flatMetaKey \"Packages\";\n  ShortDescription \"Packages\";\n  Description \"Packages\";\n  Optional \"0\";\n}};\n\
         Acquire::Languages \"none\";\n\
         Acquire::Retries \"3\";\n\
         APT::Architecture \"amd64\";\n\
         APT::Sandbox::User \"root\";\n\
         Dir::State \"{dir}\";\nDir::State::lists \"{dir}/lists\";\nDir::State::status \"/dev/null\";\n\
         Dir::Cache \"{dir}/cache\";\nDir::Cache::archives \"{dir}/cache/archives\";\n\
         Dir::Cache::pkgcache \"{dir}/cache/pkgcache.bin\";\nDir::Cache::srcpkgcache \"{dir}/cache/srcpkgcache.bin\";\n\
         Dir::Etc::sourcelist \"{dir}/sources.list\";\nDir::Etc::sourceparts \"-\";\n\
         Dir::Etc::preferences \"/dev/null\";\nDir::Etc::preferencesparts \"/dev/null\";\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apt_s_own_errors_are_picked_out() {
        let said = "W: some warning\nE: The repository 'x' does not have a Release file.\nE: more\n";
        assert_eq!(complaint(said), "The repository 'x' does not have a Release file.; more");
        assert_eq!(complaint("strange\n"), "strange");
    }

    #[test]
    fn without_keys_nothing_is_fetched() {
        let dir = tempfile::tempdir().unwrap();
        let archive = Archive { main: String::new(), security: String::new(), keyring: "/nowhere/keys.gpg".into() };
        let error = Apt::new(dir.path(), &archive, &["sid".to_owned()]).unwrap_err();
        assert!(error.to_string().contains("install debian-archive-keyring"), "{error}");
    }
}
