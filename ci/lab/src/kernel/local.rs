//! Kernels of one's own: a bzImage with a directory of modules, or a tree in which `make` was run.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A kernel that is in files here.
#[derive(Debug)]
pub struct Local {
    /// The kernel: a bzImage, or a vmlinux.
    pub image: PathBuf,
    /// All files of modules, and the lists of those that are built in.
    pub files: Vec<PathBuf>,
}

/// Why there is no such kernel.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// Something that a built kernel has is missing.
    #[error("{}: {what}", path.display())]
    Missing {
        /// Where it should be.
        path: PathBuf,
        /// What, and what to do.
        what: &'static str,
    },
    /// A directory cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Local {
    /// The kernel `image` with modules from anywhere below `modules`.
    ///
    /// # Errors
    /// The image is not there, or a directory cannot be read.
    pub fn new(image: &Path, modules: &Path) -> Result<Local, LocalError> {
        if !image.is_file() {
            return Err(LocalError::Missing { path: image.to_owned(), what: "no such file" });
        }
        let mut files = Vec::new();
        walk(modules, &mut files)?;
        Ok(Local { image: image.to_owned(), files })
    }

    /// The kernel that `make` left in a tree.
    ///
    /// # Errors
    /// It left none, or a directory cannot be read.
    pub fn tree(tree: &Path) -> Result<Local, LocalError> {
        let images = ["arch/x86/boot/bzImage", "vmlinux"].map(|image| tree.join(image));
        let what = "neither arch/x86/boot/bzImage nor vmlinux is in it: run make there first";
        let missing = || LocalError::Missing { path: tree.to_owned(), what };
        Local::new(images.iter().find(|image| image.is_file()).ok_or_else(missing)?, tree)
    }
}

/// The name of the module in that file, as `-` spells it: `kvm-intel` of `kvm_intel.ko.xz`.
pub fn module_name(path: &Path) -> Option<String> {
    let (name, rest) = path.file_name()?.to_str()?.split_once(".ko")?;
    ["", ".xz", ".zst", ".gz"].contains(&rest).then(|| name.replace('_', "-"))
}

/// Whether the file is the list of what is built into the kernel instead of being a module.
pub fn is_builtin_list(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "modules.builtin")
}

/// All modules and lists of modules below a directory, sorted. Directories that links lead to are left out: in
/// /lib/modules they lead to whole source trees.
fn walk(dir: &Path, files: &mut Vec<PathBuf>) -> Result<(), LocalError> {
    let read = |source| LocalError::Read { path: dir.to_owned(), source };
    let mut entries = fs::read_dir(dir).map_err(read)?.collect::<Result<Vec<_>, _>>().map_err(read)?;
    entries.sort_by_key(fs::DirEntry::path);
    for entry in entries {
        let path = entry.path();
        if entry.file_type().map_err(read)?.is_dir() {
            walk(&path, files)?;
        } else if module_name(&path).is_some() || is_builtin_list(&path) {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for path in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        dir
    }

    #[test]
    fn a_built_tree_has_a_kernel_and_modules() {
        let dir =
            directory(&["arch/x86/boot/bzImage", "arch/x86/kvm/kvm.ko", "x/kvm_intel.ko.zst", "x/kvm.kon", "vmlinux"]);
        let local = Local::tree(dir.path()).unwrap();
        let names: Vec<_> = local.files.iter().filter_map(|path| module_name(path)).collect();
        assert_eq!(names, ["kvm", "kvm-intel"]);
        assert!(local.image.ends_with("bzImage"));
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = Local::tree(directory(&["kvm.ko"]).path()).unwrap_err().to_string();
        assert!(error.ends_with("neither arch/x86/boot/bzImage nor vmlinux is in it: run make there first"), "{error}");
        let error = Local::new(Path::new("/nowhere/bzImage"), Path::new("/")).unwrap_err().to_string();
        assert_eq!(error, "/nowhere/bzImage: no such file");
    }
}
