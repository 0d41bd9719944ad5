//! Each VM in a process of its own, which may do next to nothing besides.
//!
//! The runner starts a *zygote* for each cell that runs at a time: itself again, by a hidden verb. The zygote has one
//! thread, /dev/kvm and the devices that were named. It forks one child a VM, ahead of time. The child gives up all rights,
//! takes a job from its socket, runs the VM, and answers by the same socket. docs/security.md says what holds against what.

mod allowed;
mod child;
mod confine;
mod fds;
mod frame;
mod in_force;
mod job;
mod machine;
mod remote;
mod serve;
mod setup;
pub mod shown;
mod zygote;
mod zygotes;

pub use in_force::InForce;
pub use machine::Confined;

use std::process::ExitCode;

/// The verb by which the runner starts itself as a zygote. It is none for people.
pub const VERB: &str = "vmm";

/// This program, also where its file was replaced meanwhile.
pub const PROGRAM: &str = "/proc/self/exe";

/// What such a process is called in `ps`, in the kernel's log and in traces.
const NAME: &std::ffi::CStr = c"kvm-memtype-vmm";

/// The life of a zygote, whose standard input is the socket to its runner.
pub fn main() -> ExitCode {
    match zygote::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            anstream::eprintln!("kvm-memtype: the verb {VERB} is for kvm-memtype itself: {why}");
            ExitCode::from(2)
        }
    }
}
