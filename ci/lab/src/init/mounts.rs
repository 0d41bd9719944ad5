//! The file systems and settings that kvm-memtype expects of a host.

use std::ffi::CString;
use std::fs;
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

/// File system and where it goes.
const MOUNTS: [(&str, &str); 6] = [
    ("devtmpfs", "/dev"),
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("tracefs", "/sys/kernel/tracing"),
    ("debugfs", "/sys/kernel/debug"),
    ("tmpfs", "/tmp"),
];

/// Transparent huge pages: the kernel turns them off in a machine with less than 512 MiB, and then no fault maps a huge
/// page.
const THP: &str = "/sys/kernel/mm/transparent_hugepage/enabled";

/// How many hugetlb pages of 2 MiB there are to be for memslots: half of the test window for each of two VMs. A machine
/// that has less memory to spare gives less, and tests that find none are skipped.
const HUGETLB: (&str, &str) = ("/proc/sys/vm/nr_hugepages", "8");

/// Mounts all and sets what has to be set. What the suites can do without and is not there comes back in words.
///
/// # Errors
/// A file system that is needed cannot be mounted.
pub fn mount() -> io::Result<Vec<String>> {
    let mut without = Vec::new();
    for (kind, dir) in MOUNTS {
        fs::create_dir_all(dir)?;
        let names = [CString::new(kind)?, CString::new(dir)?];
        // SAFETY: the names are C strings that outlive the call; these file systems take no data.
        let result =
            unsafe { libc::mount(names[0].as_ptr(), names[1].as_ptr(), names[0].as_ptr(), 0, std::ptr::null()) };
        let error = io::Error::last_os_error();
        // A kernel of one's own may have mounted /dev by itself.
        if result == 0 || error.raw_os_error() == Some(libc::EBUSY) {
            continue;
        }
        let what = format!("cannot mount {kind} on {dir}: {error}");
        // Only witnesses use these.
        if !matches!(kind, "tracefs" | "debugfs") {
            return Err(io::Error::new(error.kind(), what));
        }
        without.push(what);
    }
    for (file, value) in [(THP, "always"), HUGETLB] {
        match fs::write(file, value) {
            // A kernel without them has no such file.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(without)
}

/// Sets the clock, so that results bear the time of the host.
///
/// # Errors
/// The system refuses.
pub fn set_clock(time: SystemTime) -> io::Result<()> {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let time = libc::timespec { tv_sec: seconds as libc::time_t, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec that outlives the call.
    match unsafe { libc::clock_settime(libc::CLOCK_REALTIME, &time) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
