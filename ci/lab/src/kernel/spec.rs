//! The file of a kernel: where its packages are and what they are called.

use kvm_memtype::config::{self, ConfigError, Source};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use toml::Spanned;

/// What stands for the release in the names of packages.
const RELEASE: &str = "{release}";

/// A kernel, a file under `ci/kernels`; its id is the file's name.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Its id.
    pub id: String,
    /// One line that says where it is from.
    pub summary: String,
    /// Suites of the Debian archive that may have it.
    pub suites: Vec<String>,
    /// What its `uname -r` looks like; `*` is anything without `-`.
    pub release: Pattern,
    /// Names of the packages that hold the kernel and its modules, with `{release}` in each.
    pub packages: Vec<String>,
    /// Modules that make /dev/kvm on Intel, in the order in which they are loaded.
    pub modules: Vec<String>,
    /// Modules that make /dev/kvm on AMD.
    pub modules_amd: Vec<String>,
    /// The file's text: another text is another kernel.
    pub text: String,
}

/// What is in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    summary: String,
    suites: Spanned<Vec<Spanned<String>>>,
    release: Spanned<String>,
    packages: Spanned<Vec<Spanned<String>>>,
    modules: Spanned<Vec<Spanned<String>>>,
    modules_amd: Spanned<Vec<Spanned<String>>>,
}

impl Spec {
    /// Reads the file of a kernel.
    ///
    /// # Errors
    /// The first mistake in it.
    pub fn read(source: &Source) -> Result<Spec, ConfigError> {
        let file: File = config::parse(source)?;
        let release = Pattern::new(file.release.get_ref()).ok_or_else(|| {
            let message = "a release has one `*`, as in `6.12.*-amd64`, and otherwise letters, digits and `-+.~`";
            ConfigError::at(source, file.release.span(), message)
        })?;
        let with_release = |name: Spanned<String>| match name.get_ref().contains(RELEASE) {
            true if is_word(&name.get_ref().replace(RELEASE, "")) => Ok(name.into_inner()),
            _ => {
                let message = "a package's name has `{release}` in it, as in `linux-image-{release}-unsigned`";
                Err(ConfigError::at(source, name.span(), message))
            }
        };
        Ok(Spec {
            id: source.id().to_owned(),
            summary: file.summary,
            suites: words(source, "suite", file.suites)?,
            release,
            packages: filled(source, "package", file.packages)?
                .into_iter()
                .map(with_release)
                .collect::<Result<_, _>>()?,
            modules: modules(source, file.modules)?,
            modules_amd: modules(source, file.modules_amd)?,
            text: source.text.clone(),
        })
    }

    /// The packages of that release.
    pub fn packages(&self, release: &str) -> Vec<String> {
        self.packages.iter().map(|name| name.replace(RELEASE, release)).collect()
    }

    /// What the name of the package that decides about the version looks like.
    pub fn image(&self) -> Pattern {
        let (before, after) = self.packages[0].split_once(RELEASE).unwrap_or((&self.packages[0], ""));
        Pattern { before: format!("{before}{}", self.release.before), after: format!("{}{after}", self.release.after) }
    }
}

/// A text with one `*`, which is anything without `-`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// What is before the `*`.
    pub before: String,
    after: String,
}

impl Pattern {
    fn new(text: &str) -> Option<Pattern> {
        let (before, after) = text.split_once('*')?;
        (is_word(before) && is_word(after)).then(|| Pattern { before: before.to_owned(), after: after.to_owned() })
    }

    /// What `*` is in a text that fits.
    pub fn star<'a>(&self, text: &'a str) -> Option<&'a str> {
        let star = text.strip_prefix(self.before.as_str())?.strip_suffix(self.after.as_str())?;
        (!star.is_empty() && !star.contains('-')).then_some(star)
    }

    /// The text with something in the place of `*`.
    pub fn with(&self, star: &str) -> String {
        format!("{}{star}{}", self.before, self.after)
    }
}

/// Whether a text can be a part of a package's name, of a suite or of a module.
fn is_word(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-+._~".contains(&byte))
}

fn filled(
    source: &Source,
    noun: &str,
    list: Spanned<Vec<Spanned<String>>>,
) -> Result<Vec<Spanned<String>>, ConfigError> {
    if list.get_ref().is_empty() {
        return Err(ConfigError::at(source, list.span(), format!("at least one {noun} is needed")));
    }
    Ok(list.into_inner())
}

fn words(source: &Source, noun: &str, list: Spanned<Vec<Spanned<String>>>) -> Result<Vec<String>, ConfigError> {
    let word = |word: Spanned<String>| match word.get_ref() {
        text if !text.is_empty() && is_word(text) => Ok(word.into_inner()),
        text => Err(ConfigError::at(source, word.span(), format!("`{text}` cannot be the name of a {noun}"))),
    };
    filled(source, noun, list)?.into_iter().map(word).collect()
}

/// Names of modules as `-` spells them; the kernel does not tell `_` from it.
fn modules(source: &Source, list: Spanned<Vec<Spanned<String>>>) -> Result<Vec<String>, ConfigError> {
    Ok(words(source, "module", list)?.into_iter().map(|name| name.replace('_', "-")).collect())
}

/// All kernels that have a file.
#[derive(Debug)]
pub struct Kernels(BTreeMap<String, Spec>);

impl Kernels {
    /// The kernels of the checkout, and those of a directory laid over them.
    ///
    /// # Errors
    /// A directory or a file cannot be read, or a mistake in one.
    pub fn load(dir: Option<&Path>) -> Result<Kernels, ConfigError> {
        let mut kernels = BTreeMap::new();
        for dir in checkout().iter().map(PathBuf::as_path).chain(dir) {
            let read = |source| ConfigError::Read { path: dir.to_owned(), source };
            for entry in fs::read_dir(dir).map_err(read)? {
                let path = entry.map_err(read)?.path();
                if path.extension().is_some_and(|extension| extension == "toml") {
                    let text =
                        fs::read_to_string(&path).map_err(|source| ConfigError::Read { path: path.clone(), source })?;
                    let spec = Spec::read(&Source { name: path.display().to_string(), text })?;
                    kernels.insert(spec.id.clone(), spec);
                }
            }
        }
        Ok(Kernels(kernels))
    }

    /// The kernel of that id.
    ///
    /// # Errors
    /// There is none; the nearest id is named.
    pub fn get(&self, id: &str) -> Result<&Spec, ConfigError> {
        self.0.get(id).ok_or_else(|| ConfigError::no_such("kernel", id, self.0.keys().map(String::as_str)))
    }

    /// All, sorted by id.
    pub fn all(&self) -> impl Iterator<Item = &Spec> {
        self.0.values()
    }
}

/// `ci/kernels` of the checkout around the working directory, or of the one from which the lab was built.
fn checkout() -> Option<PathBuf> {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kernels");
    [PathBuf::from("ci/kernels"), built].into_iter().find(|dir| dir.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "summary = 's'\nsuites = ['trixie']\nrelease = '6.12.*-amd64'\n\
        packages = ['linux-image-{release}-unsigned']\n\
        modules = ['kvm']\nmodules-amd = ['kvm']\n";

    fn read(text: &str) -> Result<Spec, String> {
        let source = Source { name: "ci/kernels/6.12.toml".to_owned(), text: text.to_owned() };
        Spec::read(&source).map_err(|error| error.to_string())
    }

    #[test]
    fn the_kernels_of_the_checkout_are_right() {
        let kernels = Kernels::load(None).unwrap();
        for id in ["6.1", "6.12", "7.2"] {
            assert_eq!(kernels.get(id).unwrap().modules.last().unwrap(), "kvm-intel");
        }
        let error = kernels.get("6.13").unwrap_err().to_string();
        assert!(error.starts_with("unknown kernel `6.13`, did you mean `6.1"), "{error}");
    }

    #[test]
    fn the_star_of_a_release_is_found_in_the_name_of_the_image() {
        let spec = read(GOOD).unwrap();
        let image = spec.image();
        assert_eq!(image.star("linux-image-6.12.117+deb13-amd64-unsigned"), Some("117+deb13"));
        for other in ["linux-image-6.12.117+deb13-cloud-amd64-unsigned", "linux-image-6.12.117+deb13-amd64", "x"] {
            assert_eq!(image.star(other), None, "{other}");
        }
        let release = spec.release.with("117+deb13");
        assert_eq!(release, "6.12.117+deb13-amd64");
        assert_eq!(spec.packages(&release), ["linux-image-6.12.117+deb13-amd64-unsigned"]);
    }

    #[test]
    fn a_module_may_be_spelt_either_way() {
        let spec = read(&GOOD.replace("['kvm']", "['kvm', 'kvm_intel']")).unwrap();
        assert_eq!((&spec.modules, spec.modules[1].as_str()), (&spec.modules_amd, "kvm-intel"));
    }

    #[test]
    fn mistakes_are_shown_with_their_place() {
        for (from, to, said) in [
            ("suites", "suits", ":2:1: unknown field `suits`, did you mean `suites`?"),
            ("['trixie']", "[]", ":2:10: at least one suite is needed"),
            ("'trixie'", "'tri xie'", ":2:11: `tri xie` cannot be the name of a suite"),
            ("6.12.*-", "6.12-", ":3:11: a release has one `*`, as in `6.12.*-amd64`"),
            ("image-{release}", "image", ":4:13: a package's name has `{release}` in it"),
            ("['kvm']\nmodules-amd", "[]\nmodules-amd", ":5:11: at least one module is needed"),
        ] {
            let error = read(&GOOD.replacen(from, to, 1)).unwrap_err();
            assert!(error.starts_with(&format!("ci/kernels/6.12.toml{said}")), "{error}");
        }
    }
}
