//! Mutants: KVMs that are wrong on purpose, a diff each, whose head says what is wrong and who should notice.

use super::catalog::{DIFF, names};
use super::{Diff, PatchError};
use crate::kernel::Kernels;
use kvm_memtype::config::ConfigError;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What a head says, by the words at the beginnings of its lines; a line that begins with a space goes on.
const KEYS: [&str; 5] = ["Wrong", "Rule", "Suites", "Cells", "Survives"];

/// A mutant, a file `NAME.KERNEL.diff` under `ci/kernels/mutants`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mutant {
    /// Its name.
    pub name: String,
    /// Id of the kernel that it is for.
    pub kernel: String,
    /// What is wrong.
    pub wrong: String,
    /// The rule that it breaks, which the suites claim to check.
    pub rule: String,
    /// The suites that should kill it, the first one first.
    pub suites: Vec<String>,
    /// Cells of the first suite that should kill it: they are run before the suites.
    pub cells: Vec<String>,
    /// Why no guest can tell it from the right one.
    pub survives: Option<String>,
    /// The diff.
    pub diff: Diff,
}

impl Mutant {
    /// Reads a mutant of that name, for that kernel.
    fn new(name: &str, kernel: &str, path: &Path) -> Result<Mutant, PatchError> {
        let id = format!("{name}.{kernel}");
        let diff = Diff::read(&id, path).map_err(|source| PatchError::Read { path: path.to_owned(), source })?;
        let wrong = |what: String| PatchError::Mutant { path: path.to_owned(), what };
        let mut said = fields(diff.head()).map_err(wrong)?;
        let mut need = |key: &str| {
            said.remove(key).ok_or_else(|| PatchError::Mutant {
                path: path.to_owned(),
                what: format!("its head has no line `{key}: ...`"),
            })
        };
        let (wrong, rule, suites) = (need("Wrong")?, need("Rule")?, need("Suites")?);
        let words = |text: &str| text.split([',', ' ']).filter(|word| !word.is_empty()).map(str::to_owned).collect();
        Ok(Mutant {
            name: name.to_owned(),
            kernel: kernel.to_owned(),
            wrong,
            rule,
            suites: words(&suites),
            cells: words(&said.remove("Cells").unwrap_or_default()),
            survives: said.remove("Survives"),
            diff,
        })
    }

    /// Its name and its kernel's.
    pub fn id(&self) -> &str {
        &self.diff.name
    }
}

/// What a head says, by key.
fn fields(head: &str) -> Result<BTreeMap<&str, String>, String> {
    let mut fields: BTreeMap<&str, String> = BTreeMap::new();
    let mut last = None;
    for line in head.lines().filter(|line| !line.trim().is_empty()) {
        match (line.split_once(':'), last) {
            (_, Some(last)) if line.starts_with(' ') => {
                let text: &mut String = fields.entry(last).or_default();
                text.push(' ');
                text.push_str(line.trim());
            }
            (Some((key, text)), _) if KEYS.contains(&key) => {
                if fields.insert(key, text.trim().to_owned()).is_some() {
                    return Err(format!("its head has two lines `{key}: ...`"));
                }
                last = Some(key);
            }
            _ => return Err(format!("its head has a line `{line}`, which begins with none of {}", KEYS.join(", "))),
        }
    }
    Ok(fields)
}

/// All mutants.
#[derive(Debug)]
pub struct Mutants(Vec<Mutant>);

impl Mutants {
    /// The mutants of the checkout, or those of a directory in their place.
    ///
    /// # Errors
    /// A directory or a file cannot be read, a mistake in a head, or a kernel that has no file.
    pub fn load(dir: Option<&Path>, kernels: &Kernels) -> Result<Mutants, PatchError> {
        let dir = dir.map(Path::to_owned).or_else(|| super::checkout("mutants"));
        let mut mutants = Vec::new();
        for dir in dir.iter() {
            for file in names(dir)? {
                let Some(id) = file.strip_suffix(DIFF) else { continue };
                let path: PathBuf = dir.join(&file);
                let (name, kernel) = id.split_once('.').ok_or_else(|| PatchError::Mutant {
                    path: path.clone(),
                    what: "a mutant's file is called NAME.KERNEL.diff, as in `no-zap.6.1.diff`".to_owned(),
                })?;
                kernels.get(kernel)?;
                mutants.push(Mutant::new(name, kernel, &path)?);
            }
        }
        Ok(Mutants(mutants))
    }

    /// Those of these names, each for all kernels or, with the kernel behind it, for one; without names all.
    ///
    /// # Errors
    /// There is none of a name; the nearest is named.
    pub fn named(&self, names: &[String]) -> Result<Vec<&Mutant>, ConfigError> {
        let fits = |mutant: &Mutant, name: &str| mutant.name == name || mutant.id() == name;
        if let Some(name) = names.iter().find(|name| !self.0.iter().any(|mutant| fits(mutant, name))) {
            return Err(ConfigError::no_such("mutant", name, self.0.iter().map(Mutant::id)));
        }
        let wanted = |mutant: &&Mutant| names.is_empty() || names.iter().any(|name| fits(mutant, name));
        Ok(self.0.iter().filter(wanted).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvm_memtype::config::Set;

    const TEXT: &str = "Wrong: the zap\n  is missing.\nRule: zaps.\nSuites: memtype, default\nCells: memtype/x\n\n\
        --- a/arch/x86/kvm/a.c\n+++ b/arch/x86/kvm/a.c\n@@ -1 +1 @@\n-a\n+b\n";

    fn load(file: &str, text: &str) -> Result<Mutants, String> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(file), text).unwrap();
        Mutants::load(Some(dir.path()), &Kernels::load(None).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_mutants_of_the_checkout_are_right() {
        let (mutants, set) = (Mutants::load(None, &Kernels::load(None).unwrap()).unwrap(), Set::load(None).unwrap());
        for mutant in mutants.named(&[]).unwrap() {
            assert!(!mutant.diff.files().is_empty() && mutant.diff.stray().is_none(), "{}", mutant.id());
            for suite in &mutant.suites {
                set.source("suites", "suite", suite).unwrap_or_else(|error| panic!("{}: {error}", mutant.id()));
            }
        }
    }

    #[test]
    fn a_head_is_read_and_mutants_are_found_by_name() {
        let mutants = load("no-zap.6.12.diff", TEXT).unwrap();
        let [mutant] = &mutants.0[..] else { panic!("{mutants:?}") };
        assert_eq!((mutant.id(), mutant.kernel.as_str()), ("no-zap.6.12", "6.12"));
        assert_eq!((mutant.wrong.as_str(), mutant.rule.as_str()), ("the zap is missing.", "zaps."));
        assert_eq!((mutant.suites.len(), mutant.cells.len(), &mutant.survives), (2, 1, &None));
        for name in ["no-zap", "no-zap.6.12"] {
            assert_eq!(mutants.named(&[name.to_owned()]).unwrap().len(), 1);
        }
        let error = mutants.named(&["no-zip".to_owned()]).unwrap_err().to_string();
        assert!(error.starts_with("unknown mutant `no-zip`, expected `no-zap.6.12`"), "{error}");
    }

    #[test]
    fn mistakes_are_told() {
        for (file, text, said) in [
            ("no-zap.diff", TEXT.to_owned(), "a mutant's file is called NAME.KERNEL.diff"),
            ("no-zap.6.0.diff", TEXT.to_owned(), "unknown kernel `6.0`"),
            ("x.6.1.diff", TEXT.replace("Rule:", "Rul:"), "a line `Rul: zaps.`, which begins with none of Wrong, Rule"),
            ("x.6.1.diff", TEXT.replace("Rule: zaps.\n", ""), "its head has no line `Rule: ...`"),
            ("x.6.1.diff", TEXT.replace("Cells:", "Rule:"), "its head has two lines `Rule: ...`"),
        ] {
            let error = load(file, &text).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
