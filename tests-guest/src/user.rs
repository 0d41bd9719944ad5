//! CPL3: running a closure there, on a stack of its own, and coming back.

use crate::area::Area;
use crate::job::{Call, Job};
use wire::layout::DOORBELL_PORT;

unsafe extern "C" {
    /// See traps.s. Calls `function` with `argument` at CPL3 on `stack`; back at CPL0 through #BP, which KVMs that run
    /// CPL3 natively can do, unlike INT n and SYSCALL.
    fn user_enter(function: Call, argument: *const u8, stack: u64, kernel_rsp: *mut u64);
}

/// Runs `work` at CPL3 on this vCPU. An exception in it is tried or deadly as at CPL0; ports are forbidden.
pub fn run<R>(work: impl FnOnce() -> R) -> R {
    let (area, job) = (Area::current(), Job::new(work));
    let (function, argument) = job.call();
    // SAFETY: the job stays on this stack, which CPL3 may use like all memory, until user_enter returns; the area's
    // stack for CPL3 is free, because nothing at CPL3 calls this.
    unsafe { user_enter(function, argument, area.user_stack_top(), area.kernel_rsp.get()) };
    job.result()
}

/// Runs `work` at CPL3 where the doorbell's port is allowed.
pub fn run_with_doorbell<R>(work: impl FnOnce() -> R) -> R {
    let area = Area::current();
    area.allow_port(DOORBELL_PORT, true);
    let result = run(work);
    area.allow_port(DOORBELL_PORT, false);
    result
}
