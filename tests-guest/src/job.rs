//! A closure on its way to another stack or vCPU, and its result on the way back.

use core::cell::UnsafeCell;

/// A closure and where its result goes. It stays with whoever made it, who waits.
pub(crate) struct Job<F, R> {
    work: UnsafeCell<Option<F>>,
    result: UnsafeCell<Option<R>>,
}

/// What runs a job, as code without types.
pub(crate) type Call = unsafe extern "C" fn(*const u8);

impl<R, F: FnOnce() -> R> Job<F, R> {
    pub(crate) fn new(work: F) -> Self {
        Job { work: UnsafeCell::new(Some(work)), result: UnsafeCell::new(None) }
    }

    /// The function and the argument that run this job, once.
    ///
    /// The function must be called with this argument only, while the job is where it is now and nobody else touches
    /// it.
    pub(crate) fn call(&self) -> (Call, *const u8) {
        (call::<F, R>, (&raw const *self).cast())
    }

    /// The result.
    ///
    /// # Panics
    /// The job has not run.
    pub(crate) fn result(self) -> R {
        let Some(result) = self.result.into_inner() else { panic!("a job was not run") };
        result
    }
}

/// Runs the job at `job`.
///
/// # Safety
/// As [`Job::call`] says.
unsafe extern "C" fn call<F: FnOnce() -> R, R>(job: *const u8) {
    // SAFETY: as the caller promises.
    let job = unsafe { &*job.cast::<Job<F, R>>() };
    // SAFETY: as the caller promises.
    if let Some(work) = unsafe { (*job.work.get()).take() } {
        let result = work();
        // SAFETY: as the caller promises.
        unsafe { *job.result.get() = Some(result) };
    }
}
