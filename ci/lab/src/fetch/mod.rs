//! From the name of a kernel to its vmlinux and modules in the cache.

mod keep;

use crate::apt::{self, Apt, AptError, Archive, NoArchive, Package, Resolved};
use crate::cache::{self, Draft};
use crate::kernel::{Build, Local, MODULES, MODULES_AMD, Spec, module_name};
use crate::patch::PatchError;
use crate::unpack::deb::{self, DebError};
use crate::unpack::module;
use keep::{Keep, KeepError};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Changes when what is kept of a kernel changes.
const KEPT: &str = "1";

/// A kernel in the cache.
#[derive(Debug, Clone)]
pub struct Ready {
    /// Where it is: `vmlinux`, and the modules under `modules`.
    pub dir: PathBuf,
    /// What it was made of; nothing for a local kernel.
    pub resolved: Option<Resolved>,
}

impl Ready {
    /// The kernel, an ELF file.
    pub fn vmlinux(&self) -> PathBuf {
        self.dir.join(keep::VMLINUX)
    }

    /// The file of a module. What is not there is built into the kernel.
    pub fn module(&self, name: &str) -> Option<PathBuf> {
        Some(keep::module_path(&self.dir, name)).filter(|path| path.is_file())
    }
}

/// Why a kernel cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Its packages cannot be had.
    #[error(transparent)]
    Apt(#[from] AptError),
    /// Nobody says where they are.
    #[error(transparent)]
    Archive(#[from] NoArchive),
    /// Its files are not what they should be.
    #[error(transparent)]
    Keep(#[from] KeepError),
    /// What was fetched is not what the archive's lists say.
    #[error("{package}: the file that was fetched has SHA-256 {found}, but the archive's list says {wanted}")]
    Digest {
        /// The package.
        package: String,
        /// What it has.
        found: String,
        /// What it should have.
        wanted: String,
    },
    /// A file of a local kernel cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A package cannot be taken apart.
    #[error(transparent)]
    Deb(#[from] DebError),
    /// The cache cannot be read or written.
    #[error("the cache: {0}")]
    Cache(#[from] io::Error),
}

/// What a kernel's name stood for when it was looked up.
#[derive(Serialize, Deserialize)]
struct Record {
    /// Digest of the kernel's file: when that changes, it is looked up anew.
    spec: String,
    resolved: Resolved,
}

/// Where kernels come from.
pub struct Fetch<'a> {
    /// The cache.
    pub root: &'a Path,
    /// Whether to look for newer packages although some are known.
    pub newest: bool,
    /// Is told what takes time.
    pub say: &'a (dyn Fn(&str) + Sync),
}

impl Fetch<'_> {
    /// A kernel of Debian. What is in the cache is taken from there, without asking the network.
    ///
    /// # Errors
    /// Its packages cannot be had, or hold no such kernel.
    pub fn debian(&self, spec: &Spec) -> Result<Ready, FetchError> {
        let _lock = self.lock(spec)?;
        if let Some(resolved) = self.known(spec).filter(|_| !self.newest) {
            match self.unpacked(spec, resolved) {
                // Debian drops old versions: what was known may be gone before all of it was fetched.
                Err(FetchError::Apt(AptError::Failed { .. } | AptError::Nothing(_))) => {}
                ready => return ready,
            }
        }
        let apt = self.apt(spec)?;
        (self.say)(&format!("looking for packages in {}", spec.suites.join(", ")));
        apt.update()?;
        let record = Record { spec: digest(spec), resolved: apt::newest(&apt, spec)? };
        let text = serde_json::to_vec_pretty(&record).map_err(io::Error::from)?;
        cache::write(&self.record(spec), &text)?;
        self.unpacked(spec, record.resolved)
    }

    /// Keeps others, threads and processes, from these suites until it is dropped: apt serves one at a time, and what one
    /// fetches the next one finds.
    fn lock(&self, spec: &Spec) -> io::Result<File> {
        let dir = self.root.join("locks");
        fs::create_dir_all(&dir)?;
        let name = &cache::digest(spec.suites.iter().map(String::as_str))[..16];
        cache::locked(&dir.join(name))
    }

    /// What is known of a kernel without asking the network.
    pub fn known(&self, spec: &Spec) -> Option<Resolved> {
        let record: Record = serde_json::from_slice(&fs::read(self.record(spec)).ok()?).ok()?;
        (record.spec == digest(spec)).then_some(record.resolved)
    }

    /// Whether a kernel can be booted without asking the network.
    pub fn is_cached(&self, resolved: &Resolved, spec: &Spec) -> bool {
        self.dir(&identity(spec, resolved)).is_dir()
    }

    /// A kernel of one's own, with the modules that make /dev/kvm on Intel or on AMD.
    ///
    /// # Errors
    /// Its files cannot be read, or are no kernel.
    pub fn local(&self, local: &Local, amd: bool) -> Result<Ready, FetchError> {
        let wanted = local_modules(local, amd)?;
        let files: Vec<&PathBuf> = local.files.iter().filter(|path| keep::wants(path, &wanted)).collect();
        let digest = |path: &&PathBuf| {
            cache::digest_of_file(path).map_err(|source| FetchError::Read { path: (*path).clone(), source })
        };
        let mut parts = [&local.image].iter().chain(&files).map(digest).collect::<Result<Vec<_>, _>>()?;
        parts.extend(wanted.iter().map(|&name| name.to_owned()));
        let dir = self.dir(&parts);
        cache::make(&dir, |draft| -> Result<(), FetchError> {
            let mut keep = Keep::new(draft, &wanted);
            keep.image(&local.image, &read(&local.image)?)?;
            files.iter().try_for_each(|path| Ok::<_, FetchError>(keep.take(path, &read(path)?)?))?;
            Ok(keep.finish(&local.image.display().to_string())?)
        })?;
        Ok(Ready { dir, resolved: None })
    }

    /// The packages that the KVM of a release is built of: the source, the headers, and the libraries. They are looked up
    /// once for each release.
    ///
    /// # Errors
    /// The archive cannot be asked, or no longer has them.
    pub fn build_packages(&self, spec: &Spec, build: &Build, release: &str) -> Result<[Vec<Package>; 3], PatchError> {
        let parts = spec.build_packages(build, release);
        let names: Vec<String> = parts.iter().flatten().cloned().collect();
        let key = cache::digest([spec.text.as_str()].into_iter().chain(names.iter().map(String::as_str)));
        let record = self.root.join("resolved").join(format!("{}-build-{}.json", spec.id, &key[..8]));
        let _lock = self.lock(spec)?;
        let known = fs::read(&record).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let packages: Vec<Package> = match known {
            Some(packages) if !self.newest => packages,
            _ => {
                let apt = self.apt(spec)?;
                if !apt.has_lists() {
                    apt.update().map_err(FetchError::from)?;
                }
                let packages = apt::named(&apt, &names).map_err(PatchError::Gone)?;
                cache::write(&record, &serde_json::to_vec_pretty(&packages).map_err(io::Error::from)?)?;
                packages
            }
        };
        let mut packages = packages.into_iter();
        Ok(parts.map(|part| packages.by_ref().take(part.len()).collect()))
    }

    /// The file of a package, from the cache or the archive.
    ///
    /// # Errors
    /// It cannot be had.
    pub fn deb(&self, spec: &Spec, package: &Package) -> Result<PathBuf, FetchError> {
        let debs = self.root.join("debs");
        let path = debs.join(format!("{}.deb", package.sha256));
        if path.is_file() {
            return Ok(path);
        }
        let apt = self.apt(spec)?;
        if !apt.has_lists() {
            apt.update()?;
        }
        (self.say)(&format!("fetching {} {}", package.name, package.version));
        let draft = Draft::new(&debs)?;
        apt.download(&package.name, &package.version, &draft.path())?;
        let fetched =
            fs::read_dir(draft.path())?.next().ok_or_else(|| io::Error::other("apt-get fetched nothing"))??;
        let (found, wanted) = (cache::digest_of_file(&fetched.path())?, package.sha256.clone());
        if found != wanted {
            return Err(FetchError::Digest { package: package.name.clone(), found, wanted });
        }
        fs::rename(fetched.path(), &path)?;
        Ok(path)
    }

    /// The private apt for a kernel's suites.
    ///
    /// # Errors
    /// It cannot be set up.
    pub fn apt(&self, spec: &Spec) -> Result<Apt, FetchError> {
        Ok(Apt::new(self.root, &Archive::of_this_machine()?, &spec.suites)?)
    }

    fn unpacked(&self, spec: &Spec, resolved: Resolved) -> Result<Ready, FetchError> {
        let dir = self.dir(&identity(spec, &resolved));
        cache::make(&dir, |draft| -> Result<(), FetchError> {
            let debs: Vec<PathBuf> =
                resolved.packages.iter().map(|package| self.deb(spec, package)).collect::<Result<_, _>>()?;
            (self.say)(&format!("unpacking {}", resolved.release));
            let wanted = wanted(spec);
            let mut keep = Keep::new(draft, &wanted);
            for deb in &debs {
                deb::files(
                    deb,
                    |path| keep::wants(path, &wanted),
                    |path, content| Ok::<_, FetchError>(keep.take(path, content)?),
                )?;
            }
            Ok(keep.finish(&spec.packages(&resolved.release).join(", "))?)
        })?;
        Ok(Ready { dir, resolved: Some(resolved) })
    }

    fn record(&self, spec: &Spec) -> PathBuf {
        // Checkouts that have other files of the kernel look up their own.
        self.root.join("resolved").join(format!("{}-{}.json", spec.id, &digest(spec)[..8]))
    }

    fn dir(&self, parts: &[String]) -> PathBuf {
        let digest = cache::digest([KEPT].into_iter().chain(parts.iter().map(String::as_str)));
        self.root.join("kernels").join(&digest[..16])
    }
}

/// The modules of a local kernel. `ccp` is one of them where kvm-amd wants it: without CONFIG_KVM_AMD_SEV it does not,
/// and a module that is there does no harm.
fn local_modules(local: &Local, amd: bool) -> Result<Vec<&'static str>, FetchError> {
    if !amd {
        return Ok(MODULES.to_vec());
    }
    let file = |name| local.files.iter().find(|path| module_name(path).as_deref() == Some(name));
    let wants_ccp = match file("kvm-amd") {
        _ if file("ccp").is_some() => true,
        Some(path) => module::depends(&read(path)?)
            .map_err(|source| KeepError::Module { path: path.clone(), source })?
            .contains(&"ccp".to_owned()),
        None => false,
    };
    Ok(MODULES_AMD.into_iter().filter(|&name| name != "ccp" || wants_ccp).collect())
}

fn read(path: &Path) -> Result<Vec<u8>, FetchError> {
    fs::read(path).map_err(|source| FetchError::Read { path: path.to_owned(), source })
}

fn digest(spec: &Spec) -> String {
    cache::digest([spec.text.as_str()])
}

/// What a kernel in the cache is made of.
fn identity(spec: &Spec, resolved: &Resolved) -> Vec<String> {
    let packages = resolved.packages.iter().map(|package| package.sha256.clone());
    packages.chain(wanted(spec).into_iter().map(str::to_owned)).collect()
}

/// The modules that are kept, for Intel and for AMD.
fn wanted(spec: &Spec) -> Vec<&str> {
    let mut wanted: Vec<&str> = spec.modules.iter().chain(&spec.modules_amd).map(String::as_str).collect();
    wanted.sort_unstable();
    wanted.dedup();
    wanted
}
