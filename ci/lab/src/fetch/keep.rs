//! What is kept of a kernel's files: vmlinux, and the modules that are wanted, made light.

use crate::kernel::{is_builtin_list, module_name};
use crate::unpack::bzimage::{ImageError, vmlinux};
use crate::unpack::module;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Name of the kernel in its directory.
pub const VMLINUX: &str = "vmlinux";

/// Where a module is in a kernel's directory.
pub fn module_path(dir: &Path, name: &str) -> PathBuf {
    dir.join("modules").join(format!("{name}.ko"))
}

/// Why a kernel's files are no kernel.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// The image is none.
    #[error("{}", path.display())]
    Image {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ImageError,
    },
    /// A module is none.
    #[error("{}", path.display())]
    Module {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// Something is missing.
    #[error("no {what} belongs to {origin}")]
    Missing {
        /// What.
        what: String,
        /// Where it was looked for.
        origin: String,
    },
    /// The cache cannot be written.
    #[error("the cache: {0}")]
    Cache(#[from] io::Error),
}

/// Whether a file is one to keep.
pub fn wants(path: &Path, wanted: &[&str]) -> bool {
    let is_image = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"vmlinuz"));
    is_image || is_builtin_list(path) || module_name(path).is_some_and(|name| wanted.contains(&name.as_str()))
}

/// Keeps a kernel's files in a directory.
pub struct Keep<'a> {
    dir: &'a Path,
    wanted: &'a [&'a str],
    has_image: bool,
    builtin: String,
}

impl<'a> Keep<'a> {
    /// Begins with nothing.
    pub fn new(dir: &'a Path, wanted: &'a [&'a str]) -> Self {
        Keep { dir, wanted, has_image: false, builtin: String::new() }
    }

    /// Keeps what is needed of a file that [`wants`] picked.
    ///
    /// # Errors
    /// It is not what its name says, or the cache cannot be written.
    pub fn take(&mut self, path: &Path, content: &[u8]) -> Result<(), KeepError> {
        match module_name(path) {
            Some(name) => {
                let light =
                    module::light(content).map_err(|source| KeepError::Module { path: path.to_owned(), source })?;
                let kept = module_path(self.dir, &name);
                fs::create_dir_all(kept.parent().unwrap_or(self.dir))?;
                Ok(fs::write(kept, light)?)
            }
            None if is_builtin_list(path) => {
                self.builtin.push_str(&String::from_utf8_lossy(content));
                Ok(())
            }
            None => self.image(path, content),
        }
    }

    /// Keeps the kernel itself.
    ///
    /// # Errors
    /// It is none, or the cache cannot be written.
    pub fn image(&mut self, path: &Path, content: &[u8]) -> Result<(), KeepError> {
        let kernel = vmlinux(content).map_err(|source| KeepError::Image { path: path.to_owned(), source })?;
        self.has_image = true;
        Ok(fs::write(self.dir.join(VMLINUX), kernel)?)
    }

    /// Sees whether all is there.
    ///
    /// # Errors
    /// The kernel is missing, or a module that is not built in. `origin` says where it was looked for.
    pub fn finish(self, origin: &str) -> Result<(), KeepError> {
        let missing = |what: String| Err(KeepError::Missing { what, origin: origin.to_owned() });
        let is_there = |name: &&&str| {
            let builtin = || self.builtin.lines().any(|line| module_name(Path::new(line)).as_deref() == Some(**name));
            module_path(self.dir, name).is_file() || builtin()
        };
        match self.wanted.iter().find(|name| !is_there(name)) {
            _ if !self.has_image => missing("vmlinuz".to_owned()),
            Some(name) => missing(format!("module {name}")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_in_needs_no_file_and_what_is_missing_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let wanted = ["irqbypass", "kvm"];
        let keep = |builtin: &str| {
            let mut keep = Keep::new(dir.path(), &wanted);
            keep.take(Path::new("boot/vmlinuz-6.1"), b"\x7fELF").unwrap();
            keep.take(Path::new("lib/modules/x/modules.builtin"), builtin.as_bytes()).unwrap();
            keep.finish("a package").map_err(|error| error.to_string())
        };
        assert_eq!(keep("kernel/virt/lib/irqbypass.ko\nkernel/arch/x86/kvm/kvm.ko\n"), Ok(()));
        assert_eq!(keep("kernel/virt/lib/irqbypass.ko\n"), Err("no module kvm belongs to a package".to_owned()));
        let error = Keep::new(dir.path(), &wanted).finish("a package").unwrap_err().to_string();
        assert_eq!(error, "no vmlinuz belongs to a package");
        let error = Keep::new(dir.path(), &wanted).take(Path::new("kvm.ko.xz"), b"no module").unwrap_err();
        assert!(matches!(error, KeepError::Module { .. }));
    }
}
