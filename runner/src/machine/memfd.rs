//! A file that has no name and is gone with the last process that holds it, however that one ends.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::FromRawFd;

/// A memory file that holds `bytes`. It is closed on exec.
///
/// # Errors
/// Those of memfd_create and write.
pub fn with(bytes: &[u8]) -> io::Result<File> {
    // SAFETY: the name is a NUL-terminated string that outlives the call, which keeps no pointer to it.
    let fd = unsafe { libc::memfd_create(c"guest".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: memfd_create just gave this descriptor, so it is open and nobody else's.
    let mut file = unsafe { File::from_raw_fd(fd) };
    file.write_all(bytes)?;
    Ok(file)
}
