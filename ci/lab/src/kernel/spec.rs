//! The file of a kernel: where its packages are and what they are called.

use kvm_memtype::config::{self, ConfigError, Source};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use toml::Spanned;

/// What stands for the release in the names of packages.
const RELEASE: &str = "{release}";
/// What stands for the release up to its `*` in the names of packages: without the flavour.
const VERSION: &str = "{version}";

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
    /// What its KVM is built anew of; nothing where that is not known.
    pub build: Option<Build>,
    /// What decides about the packages: another text is another kernel.
    pub text: String,
}

/// What kvm.ko and the modules of the vendors are built of.
#[derive(Debug, Clone)]
pub struct Build {
    /// The policy by which the KVM is judged when it is built without a patch.
    pub policy: String,
    /// The package with the source.
    pub source: String,
    /// The packages with the headers and the programs of the build, with `{release}` or `{version}` in them.
    pub headers: Vec<String>,
    /// The packages with the shared libraries that these programs want; they are used from a directory of the cache.
    pub libraries: Vec<String>,
    /// Variables for make, such as `CONFIG_X=`.
    pub make: Vec<String>,
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
    build: Option<BuildTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BuildTable {
    policy: String,
    source: Spanned<String>,
    headers: Spanned<Vec<Spanned<String>>>,
    #[serde(default)]
    libraries: Vec<Spanned<String>>,
    #[serde(default)]
    make: Vec<Spanned<String>>,
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
        let suites = words(source, "suite", file.suites)?;
        let packages: Vec<String> =
            filled(source, "package", file.packages)?.into_iter().map(with_release).collect::<Result<_, _>>()?;
        let text = [suites.join(" "), release.with("*"), packages.join(" ")].join("\n");
        Ok(Spec {
            id: source.id().to_owned(),
            summary: file.summary,
            suites,
            release,
            packages,
            modules: modules(source, file.modules)?,
            modules_amd: modules(source, file.modules_amd)?,
            build: file.build.map(|table| build(source, table)).transpose()?,
            text,
        })
    }

    /// The packages of that release.
    pub fn packages(&self, release: &str) -> Vec<String> {
        self.packages.iter().map(|name| name.replace(RELEASE, release)).collect()
    }

    /// The packages of that release of which its KVM is built: the source, the headers, and the libraries.
    pub fn build_packages(&self, build: &Build, release: &str) -> [Vec<String>; 3] {
        let version = release.strip_suffix(self.release.after.as_str()).unwrap_or(release);
        let name = |name: &String| name.replace(RELEASE, release).replace(VERSION, version);
        [vec![name(&build.source)], build.headers.iter().map(name).collect(), build.libraries.clone()]
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

/// What a table says of building.
fn build(source: &Source, table: BuildTable) -> Result<Build, ConfigError> {
    let package = |name: Spanned<String>| {
        let plain = name.get_ref().replace(RELEASE, "").replace(VERSION, "");
        match !name.get_ref().is_empty() && is_word(&plain) {
            true => Ok(name.into_inner()),
            false => {
                let message = format!("`{}` cannot be the name of a package", name.get_ref());
                Err(ConfigError::at(source, name.span(), message))
            }
        }
    };
    let variable = |word: Spanned<String>| match word.get_ref().split_once('=') {
        Some((name, _)) if !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') => {
            Ok(word.into_inner())
        }
        _ => Err(ConfigError::at(source, word.span(), "a variable for make is `NAME=VALUE`")),
    };
    Ok(Build {
        policy: table.policy,
        source: package(table.source)?,
        headers: filled(source, "package", table.headers)?.into_iter().map(package).collect::<Result<_, _>>()?,
        libraries: table.libraries.into_iter().map(package).collect::<Result<_, _>>()?,
        make: table.make.into_iter().map(variable).collect::<Result<_, _>>()?,
    })
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
        modules = ['kvm']\nmodules-amd = ['kvm']\n\
        [build]\npolicy = 'kvm-6.11'\nsource = 'linux-source-6.12'\nheaders = ['linux-headers-{version}-common']\n\
        make = ['CONFIG_X=']\n";

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
        let [source, headers, libraries] = spec.build_packages(spec.build.as_ref().unwrap(), &release);
        assert_eq!((source[0].as_str(), libraries.len()), ("linux-source-6.12", 0));
        assert_eq!(headers, ["linux-headers-6.12.117+deb13-common"]);
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
            ("linux-source-6.12", "linux source", ":9:10: `linux source` cannot be the name of a package"),
            ("['CONFIG_X=']", "['X']", ":11:9: a variable for make is `NAME=VALUE`"),
        ] {
            let error = read(&GOOD.replacen(from, to, 1)).unwrap_err();
            assert!(error.starts_with(&format!("ci/kernels/6.12.toml{said}")), "{error}");
        }
    }
}
