//! The initial RAM disk: this program as init and as kvm-memtype, the modules, and the job.

mod cpio;
mod executable;

use crate::init::{JOB, Job};
use cpio::Cpio;
use std::fs;
use std::io;
use std::path::Path;

/// Where modules are in the image.
pub const MODULES: &str = "/modules";

/// Makes the image. `modules` are the files that the job names, each by its name under [`MODULES`].
///
/// # Errors
/// This program's file or a module's cannot be read.
pub fn initrd(job: &Job, modules: &[impl AsRef<Path>]) -> io::Result<Vec<u8>> {
    let program = executable::loaded_part(&fs::read("/proc/self/exe")?);
    let mut cpio = Cpio::default();
    for dir in ["bin", "dev", "modules", "proc", "sys", "tmp"] {
        cpio.directory(dir);
    }
    // What the kernel opens as standard output of init, before init can mount /dev.
    cpio.console("dev/console");
    cpio.file("bin/kvm-memtype", 0o755, &program);
    cpio.link("init", "bin/kvm-memtype");
    for path in modules {
        let path = path.as_ref();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        cpio.file(&format!("modules/{name}"), 0o644, &fs::read(path)?);
    }
    cpio.file(JOB.trim_start_matches('/'), 0o644, &serde_json::to_vec(job)?);
    Ok(cpio.finish())
}
