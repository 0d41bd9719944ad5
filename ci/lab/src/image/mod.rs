//! The initial RAM disk: this program as init and as kvm-memtype, the modules, and the job.

mod executable;
mod stub;

pub use stub::{NAME as STUB, module as stub};

use crate::init::{JOB, Job};
use kvm_memtype::machine::cpio::Cpio;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;

/// Where configurations are in the image that are laid over the built-in ones.
pub const CONFIG: &str = "/config";

/// Where a kernel is in the image that VMs boot, if any suite has such.
pub const LINUX: &str = "/vmlinux";

/// Where a module is in the image.
pub fn module_path(name: &str) -> String {
    format!("/modules/{name}.ko")
}

/// Makes the image. `modules` are those that the job names, by their names without directory and ending; `configs` are
/// the paths below [`CONFIG`] and texts of configurations; `linux` is the kernel at [`LINUX`].
///
/// # Errors
/// This program's file cannot be read.
pub fn initrd(
    job: &Job,
    modules: &[(String, Vec<u8>)],
    configs: &BTreeMap<String, String>,
    linux: Option<&[u8]>,
) -> io::Result<Vec<u8>> {
    let program = executable::loaded_part(&fs::read("/proc/self/exe")?);
    let mut cpio = Cpio::default();
    for dir in ["bin", "dev", "modules", "proc", "sys", "tmp"] {
        cpio.directory(dir);
    }
    // What the kernel opens as standard output of init, before init can mount /dev.
    cpio.console("dev/console");
    cpio.file("bin/kvm-memtype", 0o755, &program);
    cpio.link("init", "bin/kvm-memtype");
    for (name, content) in modules {
        cpio.file(&module_path(name)[1..], 0o644, content);
    }
    let dirs: BTreeSet<&str> = configs.keys().filter_map(|path| Some(path.split_once('/')?.0)).collect();
    if !dirs.is_empty() {
        cpio.directory(&CONFIG[1..]);
    }
    dirs.iter().for_each(|dir| cpio.directory(&format!("{}/{dir}", &CONFIG[1..])));
    for (path, text) in configs {
        cpio.file(&format!("{}/{path}", &CONFIG[1..]), 0o644, text.as_bytes());
    }
    if let Some(linux) = linux {
        cpio.file(&LINUX[1..], 0o644, &executable::loaded_part(linux));
    }
    cpio.file(&JOB[1..], 0o644, &serde_json::to_vec(job)?);
    Ok(cpio.finish())
}
