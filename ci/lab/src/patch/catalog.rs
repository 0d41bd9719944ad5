//! Patches that have a directory: the diff for each kernel, a note, and what is expected of the patched KVM.

use super::{Diff, PatchError};
use kvm_memtype::config::{self, ConfigError, Set, Source};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The file of a patch that says what it is.
const NOTE: &str = "patch.toml";
/// What a diff's file ends with; before that stands the id of the kernel that it is for.
pub const DIFF: &str = ".diff";

/// A patch, a directory under `ci/kernels/patches`; its name is the directory's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch {
    /// Its name.
    pub name: String,
    /// What it says of itself.
    pub note: Note,
    /// Where it is.
    dir: PathBuf,
}

/// What a patch says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Note {
    /// What it does, in a line.
    pub summary: String,
    /// Why somebody wants it.
    pub why: String,
    /// Where it is from.
    pub source: String,
    /// The policy that says what is expected of the patched KVM.
    pub policy: String,
    /// Arguments of `kvm-memtype run` without which the suites would not meet what it adds.
    #[serde(default)]
    pub arguments: Vec<String>,
}

impl Patch {
    /// The ids of the kernels that it has a diff for, sorted.
    ///
    /// # Errors
    /// Its directory cannot be read.
    pub fn kernels(&self) -> Result<Vec<String>, PatchError> {
        let mut kernels: Vec<String> = names(&self.dir)?;
        kernels.retain(|name| name.ends_with(DIFF));
        Ok(kernels.into_iter().map(|name| name[..name.len() - DIFF.len()].to_owned()).collect())
    }

    /// The diff for a kernel.
    ///
    /// # Errors
    /// It has none, or the file cannot be read.
    pub fn diff(&self, kernel: &str) -> Result<Diff, PatchError> {
        let kernels = self.kernels()?;
        if !kernels.iter().any(|known| known == kernel) {
            let (patch, kernel, known) = (self.name.clone(), kernel.to_owned(), kernels.join(", "));
            return Err(PatchError::NoDiff { patch, kernel, known });
        }
        let path = self.dir.join(format!("{kernel}{DIFF}"));
        Diff::read(&self.name, &path).map_err(|source| PatchError::Read { path, source })
    }

    /// The directory with configurations of its own, if it has one.
    pub fn config(&self) -> Option<PathBuf> {
        Some(self.dir.join("config")).filter(|dir| dir.is_dir())
    }

    /// The configurations that it has of its own: path, as in `policies/NAME.toml`, and text.
    ///
    /// # Errors
    /// A file cannot be read or is not where a configuration belongs, or its policy is not there.
    pub fn configs(&self) -> Result<BTreeMap<String, String>, PatchError> {
        let dir = self.config();
        let set = Set::load(dir.as_deref())?;
        set.source("policies", "policy", &self.note.policy)?;
        let mut configs = BTreeMap::new();
        for kind in dir.iter().flat_map(|dir| names(dir)).flatten().filter(|name| !name.starts_with('.')) {
            for (id, source) in set.sources(&kind).filter(|(_, source)| Path::new(&source.name).starts_with(&self.dir))
            {
                configs.insert(format!("{kind}/{id}.toml"), source.text.clone());
            }
        }
        Ok(configs)
    }
}

/// All patches.
#[derive(Debug)]
pub struct Patches(BTreeMap<String, Patch>);

impl Patches {
    /// The patches of the checkout, and those of a directory laid over them.
    ///
    /// # Errors
    /// A directory or a file cannot be read, or a mistake in one.
    pub fn load(dir: Option<&Path>) -> Result<Patches, PatchError> {
        let mut patches = BTreeMap::new();
        for dir in super::checkout("patches").iter().map(PathBuf::as_path).chain(dir) {
            for name in names(dir)? {
                let (dir, path) = (dir.join(&name), dir.join(&name).join(NOTE));
                if path.is_file() {
                    let text =
                        fs::read_to_string(&path).map_err(|source| PatchError::Read { path: path.clone(), source })?;
                    let note = config::parse(&Source { name: path.display().to_string(), text })?;
                    patches.insert(name.clone(), Patch { name, note, dir });
                }
            }
        }
        Ok(Patches(patches))
    }

    /// The patch of that name.
    ///
    /// # Errors
    /// There is none; the nearest is named.
    pub fn get(&self, name: &str) -> Result<&Patch, ConfigError> {
        self.0.get(name).ok_or_else(|| ConfigError::no_such("patch", name, self.0.keys().map(String::as_str)))
    }

    /// All, sorted by name.
    pub fn all(&self) -> impl Iterator<Item = &Patch> {
        self.0.values()
    }
}

/// The names of what is in a directory, sorted.
pub fn names(dir: &Path) -> Result<Vec<String>, PatchError> {
    let read = |source| PatchError::Read { path: dir.to_owned(), source };
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(read)? {
        names.push(entry.map_err(read)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "summary = 's'\nwhy = 'w'\nsource = 'x'\npolicy = 'kvm-6.7'\n";

    fn patch(note: &str, files: &[(&str, &str)]) -> (tempfile::TempDir, Result<Patch, String>) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files.iter().chain(&[("patch.toml", note)]) {
            let path = root.path().join("mine").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let patches = Patches::load(Some(root.path())).map_err(|error| error.to_string());
        (root, patches.map(|patches| patches.get("mine").unwrap().clone()))
    }

    #[test]
    fn the_patches_of_the_checkout_are_right() {
        for patch in Patches::load(None).unwrap().all() {
            patch.configs().unwrap_or_else(|error| panic!("{}: {error}", patch.name));
            let kernels = patch.kernels().unwrap();
            assert!(!kernels.is_empty(), "{} has no diff", patch.name);
            for kernel in kernels {
                assert_eq!(patch.diff(&kernel).unwrap().stray(), None, "{} {kernel}", patch.name);
            }
        }
    }

    #[test]
    fn a_kernel_without_a_diff_is_told_with_those_that_have_one() {
        let (_root, patch) = patch(GOOD, &[("6.1.diff", "d"), ("6.12.diff", "d")]);
        let patch = patch.unwrap();
        assert_eq!(patch.diff("6.1").unwrap().text, "d");
        let error = patch.diff("7.2").unwrap_err().to_string();
        assert_eq!(error, "patch mine has no diff for kernel 7.2, only for 6.1, 6.12");
    }

    #[test]
    fn configurations_of_its_own_are_found_and_its_policy_must_be_there() {
        let mine = ("config/policies/mine.toml", "summary = 's'\nbase = 'kvm-6.7'\n");
        let (_root, patch) = patch(&GOOD.replace("kvm-6.7", "mine"), &[mine]);
        let configs = patch.unwrap().configs().unwrap();
        assert_eq!(configs.into_iter().collect::<Vec<_>>(), [("policies/mine.toml".to_owned(), mine.1.to_owned())]);
        let (_root, patch) = self::patch(&GOOD.replace("kvm-6.7", "kvm-6.8"), &[]);
        let error = patch.unwrap().configs().unwrap_err().to_string();
        assert!(error.starts_with("unknown policy `kvm-6.8`, did you mean `kvm-6."), "{error}");
        let (_root, patch) = self::patch("sumary = 's'\n", &[]);
        assert!(patch.unwrap_err().contains("mine/patch.toml:1:1: unknown field `sumary`"));
    }
}
