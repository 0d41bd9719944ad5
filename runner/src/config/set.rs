//! The files that configure a run: those embedded in the runner, and a directory's laid over them.

use super::{ConfigError, Source};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

static CONFIGS: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/configs.rs"));

/// The kinds of configuration, each a directory: `suites`, `vm` (VM configurations), `policies`, `deviations`.
pub const KINDS: [&str; 4] = ["deviations", "policies", "suites", "vm"];

/// All files of configs/ as they were when the runner was built: path under configs/ and text, sorted by path.
pub fn embedded() -> &'static [(&'static str, &'static str)] {
    CONFIGS
}

/// All configuration files of a run, by kind and id: `suites/default`.
#[derive(Debug, Clone)]
pub struct Set(BTreeMap<String, Source>);

impl Set {
    /// The embedded files. With a directory, its files are laid over them: one with the path of an embedded file
    /// replaces it, others are added. Hidden files in it are passed over.
    ///
    /// # Errors
    /// The directory or a file in it cannot be read, is not UTF-8, or is not where a configuration belongs.
    pub fn load(dir: Option<&Path>) -> Result<Set, ConfigError> {
        let embedded = embedded()
            .iter()
            .map(|&(path, text)| (key(path), Source { name: format!("configs/{path}"), text: text.to_owned() }));
        let mut set = Set(embedded.collect());
        if let Some(dir) = dir {
            for path in list(dir)? {
                set.lay_over(path)?;
            }
        }
        Ok(set)
    }

    /// The files of one of the [`KINDS`], each with its id, sorted by id.
    pub fn sources(&self, kind: &str) -> impl Iterator<Item = (&str, &Source)> {
        let prefix = format!("{kind}/");
        self.0.iter().filter(move |(path, _)| path.starts_with(&prefix)).map(|(_, source)| (source.id(), source))
    }

    /// The file of that kind and id, which somebody named on the command line. `noun` is what people call such a thing.
    ///
    /// # Errors
    /// There is none; the nearest id is named.
    pub fn source(&self, kind: &str, noun: &str, id: &str) -> Result<&Source, ConfigError> {
        let found = self.sources(kind).find(|&(known, _)| known == id);
        found
            .map(|(_, source)| source)
            .ok_or_else(|| ConfigError::no_such(noun, id, self.sources(kind).map(|(known, _)| known)))
    }

    /// Takes the directory of one kind.
    fn lay_over(&mut self, dir: PathBuf) -> Result<(), ConfigError> {
        let kind = name(&dir)?;
        if !KINDS.contains(&kind) {
            let hint = super::names::hint(kind, KINDS.into_iter());
            return Err(ConfigError::Stray { message: format!("no kind of configuration{hint}"), path: dir });
        }
        if !dir.is_dir() {
            return Err(ConfigError::Stray { message: "not a directory".to_owned(), path: dir });
        }
        for path in list(&dir)? {
            let file = name(&path)?;
            let message = match file.strip_suffix(".toml").filter(|_| !path.is_dir()) {
                None => Some("not a configuration: these are files with a name that ends in .toml"),
                Some(id) if !is_id(id) => Some("its name has other characters than a-z, 0-9, `-` and `.`"),
                Some(_) => None,
            };
            if let Some(message) = message {
                return Err(ConfigError::Stray { message: message.to_owned(), path });
            }
            let bytes = fs::read(&path).map_err(|source| ConfigError::Read { path: path.clone(), source })?;
            let source = Source { name: path.display().to_string(), text: text(&path, bytes)? };
            self.0.insert(key(&format!("{kind}/{file}")), source);
        }
        Ok(())
    }
}

/// The path of a file under configs/ without its ending.
fn key(path: &str) -> String {
    path.strip_suffix(".toml").unwrap_or(path).to_owned()
}

/// Whether a file's name without ending can be an id: it becomes part of the ids of cells and of directory names.
fn is_id(id: &str) -> bool {
    !id.is_empty() && id.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'))
}

/// What is in a directory and not hidden, sorted.
fn list(dir: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let error = |source| ConfigError::Read { path: dir.to_owned(), source };
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).map_err(error)? {
        let entry = entry.map_err(error)?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

/// The last part of a path.
fn name(path: &Path) -> Result<&str, ConfigError> {
    path.file_name()
        .and_then(|name| name.to_str())
        .ok_or_else(|| ConfigError::Stray { path: path.to_owned(), message: "its name is not UTF-8".to_owned() })
}

/// The text of a file, if it is UTF-8.
fn text(path: &Path, bytes: Vec<u8>) -> Result<String, ConfigError> {
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let row = error.as_bytes()[..good].iter().filter(|&&byte| byte == b'\n').count() + 1;
        ConfigError::Stray { path: path.to_owned(), message: format!("line {row} is not UTF-8") }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory with these files.
    fn directory(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, bytes) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        dir
    }

    /// What is said about a directory with these files, without the path of the directory.
    fn complaint(files: &[(&str, &[u8])]) -> String {
        let dir = directory(files);
        let error = Set::load(Some(dir.path())).unwrap_err();
        error.to_string().replace(&format!("{}/", dir.path().display()), "")
    }

    #[test]
    fn the_embedded_files_are_those_of_the_repository() {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
        let (embedded, laid_over) = (Set::load(None).unwrap(), Set::load(Some(&repository)).unwrap());
        assert!(embedded.0.contains_key("vm/default"));
        assert_eq!(embedded.0.keys().collect::<Vec<_>>(), laid_over.0.keys().collect::<Vec<_>>());
        for (key, source) in &embedded.0 {
            assert_eq!(source.text, laid_over.0[key].text, "{key}");
            assert_eq!(source.name, format!("configs/{key}.toml"));
        }
    }

    #[test]
    fn a_directory_replaces_and_adds_file_by_file() {
        let dir =
            directory(&[("vm/default.toml", b"mine"), ("vm/a-new.toml", b"new"), (".git/x", b""), ("vm/.x", b"")]);
        let (plain, set) = (Set::load(None).unwrap(), Set::load(Some(dir.path())).unwrap());
        assert_eq!(set.source("vm", "VM configuration", "default").unwrap().text, "mine");
        assert_eq!(set.0["vm/a-new"].name, dir.path().join("vm/a-new.toml").display().to_string());
        assert_eq!(set.0.len(), plain.0.len() + 1);
        assert_eq!(set.sources("vm").next().map(|(id, source)| (id, source.text.as_str())), Some(("a-new", "new")));
        assert!(set.sources("vm").map(|(id, _)| id).is_sorted());
    }

    #[test]
    fn a_file_that_has_no_place_is_named() {
        let ending = "not a configuration: these are files with a name that ends in .toml";
        assert_eq!(complaint(&[("vm/default.yaml", b"")]), format!("vm/default.yaml: {ending}"));
        assert_eq!(complaint(&[("vm/x.toml/y", b"")]), format!("vm/x.toml: {ending}"));
        assert_eq!(
            complaint(&[("vm/a@b.toml", b"")]),
            "vm/a@b.toml: its name has other characters than a-z, 0-9, `-` and `.`"
        );
        assert_eq!(complaint(&[("suite/a.toml", b"")]), "suite: no kind of configuration, did you mean `suites`?");
        assert_eq!(
            complaint(&[("README", b"")]),
            "README: no kind of configuration, expected one of `deviations`, `policies`, `suites`, `vm`"
        );
        assert_eq!(complaint(&[("vm", b"")]), "vm: not a directory");
        assert_eq!(complaint(&[("vm/a.toml", b"a = 1\nb = \"\xff\"\n")]), "vm/a.toml: line 2 is not UTF-8");
    }

    #[test]
    fn a_directory_that_is_not_there_is_named() {
        let error = Set::load(Some(Path::new("/nowhere"))).unwrap_err();
        assert_eq!(error.to_string(), "/nowhere: cannot read it");
        assert!(std::error::Error::source(&error).is_some());
    }

    #[test]
    fn a_name_that_is_not_there_gets_the_nearest() {
        let set = Set::load(None).unwrap();
        let error = set.source("vm", "VM configuration", "defualt").unwrap_err();
        assert_eq!(error.to_string(), "unknown VM configuration `defualt`, did you mean `default`?");
    }
}
