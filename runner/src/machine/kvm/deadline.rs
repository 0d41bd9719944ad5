//! Wakes a thread out of KVM_RUN when its time is up.
//!
//! A POSIX timer sends the thread a signal at the deadline and then every few milliseconds, until it is disarmed. So a
//! signal that comes between the look at the clock and KVM_RUN is followed by one that comes inside. No watchdog thread
//! is needed, and a timer costs four system calls a VM.

use super::sys::thread_id;
use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::time::Duration;

/// Time between two signals after the deadline.
const AGAIN: Duration = Duration::from_millis(5);

/// The signal. Its handler does nothing: that it comes makes KVM_RUN return EINTR.
fn signal() -> libc::c_int {
    libc::SIGRTMIN()
}

/// Installs the handler, once a process.
///
/// # Errors
/// What sigaction says.
pub fn install() -> io::Result<()> {
    extern "C" fn nothing(_: libc::c_int) {}
    // SAFETY: all zeros is a valid sigaction: no flags (so no SA_RESTART), an empty mask.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = nothing as *const () as usize;
    // SAFETY: the handler does nothing, so it is safe to run at any moment; `action` lives through the call.
    match unsafe { libc::sigaction(signal(), &action, ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Lets the signal through to this thread: a mask outlives exec, so whoever started the runner may have blocked it, and
/// a blocked signal wakes nobody.
fn unblock() -> io::Result<()> {
    // SAFETY: all zeros is a valid sigset_t.
    let mut set: libc::sigset_t = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: `set` is a signal set that lives through all three calls, and the signal's number is valid.
    let error = unsafe {
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, signal());
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &set, ptr::null_mut())
    };
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

/// A timer that wakes the thread that made it.
#[derive(Debug)]
pub struct Deadline(libc::timer_t);

// SAFETY: a POSIX timer belongs to the process; any thread may set or delete it.
unsafe impl Send for Deadline {}

impl Deadline {
    /// A timer that goes off after `left`.
    ///
    /// # Errors
    /// What timer_create or timer_settime says.
    pub fn new(left: Duration) -> io::Result<Self> {
        unblock()?;
        // SAFETY: all zeros is a valid sigevent.
        let mut event: libc::sigevent = unsafe { MaybeUninit::zeroed().assume_init() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = signal();
        event.sigev_notify_thread_id = thread_id();
        let mut timer = ptr::null_mut();
        // SAFETY: both pointers are to live values of the right type.
        if unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &mut event, &mut timer) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let deadline = Deadline(timer);
        deadline.set(left)?;
        Ok(deadline)
    }

    /// Lets it go off at once.
    ///
    /// # Errors
    /// What timer_settime says.
    pub fn now(&self) -> io::Result<()> {
        self.set(Duration::from_nanos(1))
    }

    fn set(&self, left: Duration) -> io::Result<()> {
        let spec = |time: Duration| libc::timespec {
            tv_sec: time.as_secs().try_into().unwrap_or(libc::time_t::MAX),
            tv_nsec: time.subsec_nanos().into(),
        };
        // A zero would disarm the timer.
        let left = left.max(Duration::from_nanos(1));
        let spec = libc::itimerspec { it_interval: spec(AGAIN), it_value: spec(left) };
        // SAFETY: the timer is alive until drop; `spec` lives through the call.
        match unsafe { libc::timer_settime(self.0, 0, &spec, ptr::null_mut()) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        // SAFETY: the timer is alive, and nobody uses it after this.
        unsafe { libc::timer_delete(self.0) };
    }
}
