//! Loading modules, and what the kernel said when it refused one.

use super::{Fallible, Module, kmsg};
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Lines of the kernel log that go with a refusal.
const TAIL: usize = 8;

/// Loads a module.
///
/// # Errors
/// The kernel refuses; the error ends with what it said last.
pub fn load(module: &Module) -> Fallible<()> {
    let refused = match insert(module) {
        Ok(()) => return Ok(()),
        Err(error) => format!("cannot load the module {}: {error}", module.path),
    };
    Err(format!("{refused}; the kernel's last words: {}", kmsg::last(TAIL).join(" | ")).into())
}

fn insert(module: &Module) -> io::Result<()> {
    let file = File::open(&module.path)?;
    let parameters = CString::new(module.parameters.as_str())?;
    // SAFETY: the descriptor is open, and the parameters are a C string that outlives the call.
    match unsafe { libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), parameters.as_ptr(), 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
