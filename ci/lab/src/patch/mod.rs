//! Patched KVMs: kvm.ko and the modules of the vendors, built of a kernel's source with diffs applied.

mod build;
mod catalog;
mod diff;
mod make;
mod mutant;
mod tree;

pub use build::{Builder, Built, Record};
pub use catalog::Patches;
pub use diff::Diff;
pub use make::TOOLS;
pub use mutant::{Mutant, Mutants};

use crate::apt::AptError;
use crate::fetch::FetchError;
use crate::unpack::deb::DebError;
use kvm_memtype::config::ConfigError;
use std::io;
use std::path::{Path, PathBuf};

/// Why there is no patched KVM.
#[derive(Debug, thiserror::Error)]
pub enum PatchError {
    /// A file cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A mistake in a file, or no such patch.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A mistake in the head of a mutant.
    #[error("{}: {what}", path.display())]
    Mutant {
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Nobody says what the kernel's KVM is built of.
    #[error("the file of kernel {0} has no table `build`, so its KVM cannot be built anew")]
    NoBuild(String),
    /// The patch is not for this kernel.
    #[error("patch {patch} has no diff for kernel {kernel}, only for {known}")]
    NoDiff {
        /// The patch.
        patch: String,
        /// The kernel.
        kernel: String,
        /// Those that it has one for.
        known: String,
    },
    /// The diff changes what is not built.
    #[error("{diff} changes {file}; only arch/x86/kvm, virt/kvm, include and arch/x86/include are built")]
    Stray {
        /// The diff.
        diff: String,
        /// The file.
        file: String,
    },
    /// The diff changes nothing.
    #[error("{0} is no diff: no line of it begins with `+++`")]
    Empty(String),
    /// Programs are missing.
    #[error("KVM cannot be built: {0} not found; on Debian: apt-get install {1}")]
    Tools(String, String),
    /// A program cannot be run.
    #[error("KVM cannot be built: {program} cannot be run")]
    Program {
        /// Which.
        program: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The diff does not fit.
    #[error("{diff} does not apply to {source_of}: {said}")]
    Apply {
        /// The diff.
        diff: String,
        /// Name and version of the source's package.
        source_of: String,
        /// Where it does not.
        said: String,
    },
    /// It does not compile.
    #[error("{what} does not build; the log is {}: {error}", log.display())]
    Make {
        /// What.
        what: String,
        /// Everything that make said.
        log: PathBuf,
        /// The first error.
        error: String,
    },
    /// The packages cannot be had.
    #[error("KVM cannot be built: {0}; the archive may have gone on: `lab fetch --newest` fetches what it has now")]
    Gone(AptError),
    /// The packages cannot be had.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// A package cannot be taken apart.
    #[error(transparent)]
    Deb(#[from] DebError),
    /// The cache cannot be read or written.
    #[error("the cache: {0}")]
    Cache(#[from] io::Error),
}

/// A directory of `ci/kernels` in the checkout around the working directory, or in the one from which the lab was built.
pub fn checkout(name: &str) -> Option<PathBuf> {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kernels");
    [PathBuf::from("ci/kernels"), built].into_iter().map(|dir| dir.join(name)).find(|dir| dir.is_dir())
}
