//! The CPUs on which this process may run, and threads that are held on one of them.

use std::io;
use std::mem::{MaybeUninit, size_of};

/// The CPUs on which the calling thread may run, by number.
///
/// # Errors
/// What sched_getaffinity says: a machine can have more CPUs than its set holds.
pub fn allowed() -> io::Result<Vec<usize>> {
    let set = get()?;
    // SAFETY: each number is within the set.
    Ok((0..8 * size_of::<libc::cpu_set_t>()).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect())
}

/// The calling thread, held on one CPU until this is dropped.
#[derive(Debug)]
pub struct Pinned {
    before: libc::cpu_set_t,
}

impl Pinned {
    /// Holds the calling thread on a CPU.
    ///
    /// # Errors
    /// What the system says: the CPU is not among those that are [`allowed`].
    pub fn to(cpu: usize) -> io::Result<Pinned> {
        let before = get()?;
        if cpu >= 8 * size_of::<libc::cpu_set_t>() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // SAFETY: all zeros is the empty set.
        let mut one: libc::cpu_set_t = unsafe { MaybeUninit::zeroed().assume_init() };
        // SAFETY: the number is within the set, as was just seen.
        unsafe { libc::CPU_SET(cpu, &mut one) };
        set(&one).map(|()| Pinned { before })
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // It worked before; where it does not now, nothing is left to hold on to.
        let _ = set(&self.before);
    }
}

fn get() -> io::Result<libc::cpu_set_t> {
    // SAFETY: all zeros is the empty set.
    let mut set: libc::cpu_set_t = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: the call writes at most the size that it is given, and `set` has that size. 0 is the calling thread.
    match unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) } {
        0 => Ok(set),
        _ => Err(io::Error::last_os_error()),
    }
}

fn set(set: &libc::cpu_set_t) -> io::Result<()> {
    // SAFETY: the call reads the size that it is given, and `set` has that size. 0 is the calling thread.
    match unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), set) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_held_and_let_go() {
        let before = allowed().unwrap();
        let last = *before.last().unwrap();
        let pinned = Pinned::to(last).unwrap();
        assert_eq!(allowed().unwrap(), [last]);
        // SAFETY: the call takes nothing.
        assert_eq!(unsafe { libc::sched_getcpu() }, last as i32);
        drop(pinned);
        assert_eq!(allowed().unwrap(), before);
    }

    #[test]
    fn a_cpu_that_is_not_there_is_refused() {
        let before = allowed().unwrap();
        for cpu in [8 * size_of::<libc::cpu_set_t>() - 1, 1 << 20] {
            assert_eq!(Pinned::to(cpu).unwrap_err().kind(), io::ErrorKind::InvalidInput);
            assert_eq!(allowed().unwrap(), before);
        }
    }
}
