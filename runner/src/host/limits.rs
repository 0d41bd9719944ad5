//! Limits of resources of the calling process, setrlimit(2). Nothing here allocates, so that it may be used between fork and
//! exec.

use std::io;

/// Sets both limits of a resource, the one that holds and the one to which it may be raised, or leaves them lower.
///
/// # Errors
/// Those of getrlimit and setrlimit: none, for a resource that there is.
pub fn limit(resource: libc::__rlimit_resource_t, most: u64) -> io::Result<()> {
    let most = get(resource)?.rlim_max.min(most);
    set(resource, most)
}

/// Lifts both limits of a resource; without the right to, the one that holds as far as it goes.
///
/// # Errors
/// Those of getrlimit and setrlimit: none, for a resource that there is.
pub fn lift(resource: libc::__rlimit_resource_t) -> io::Result<()> {
    set(resource, libc::RLIM_INFINITY).or_else(|_| set(resource, get(resource)?.rlim_max))
}

fn get(resource: libc::__rlimit_resource_t) -> io::Result<libc::rlimit> {
    let mut limits = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure is the one that the call fills.
    done(unsafe { libc::getrlimit(resource, &raw mut limits) }).map(|()| limits)
}

fn set(resource: libc::__rlimit_resource_t, most: u64) -> io::Result<()> {
    let limits = libc::rlimit { rlim_cur: most, rlim_max: most };
    // SAFETY: the structure outlives the call, which only reads it.
    done(unsafe { libc::setrlimit(resource, &raw const limits) })
}

fn done(returned: libc::c_int) -> io::Result<()> {
    if returned == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
