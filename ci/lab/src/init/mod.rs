//! /init of the lab's machine: makes /dev/kvm, runs the suites, and sends what came of them through the mailbox.

mod devices;
mod job;
mod kmsg;
mod modules;
mod mounts;
mod parameters;
mod port;
mod suites;

pub use job::{Job, Module, Parameter};
pub use port::{Power, QEMU_EXIT};

use crate::mailbox::Event;
use kvm_memtype::execute::chain;
use port::Port;
use std::error::Error;
use std::fs;
use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

/// Where the image holds the job.
pub const JOB: &str = "/job.json";

/// The kernel's log among the results.
const KERNEL_LOG: &str = "kernel.log";

/// What can fail in init: whatever it is, it is told in words.
type Fallible<T> = Result<T, Box<dyn Error>>;

/// Runs as process 1, and turns the machine off at the end.
pub fn main() -> ExitCode {
    // Without its port init can tell nobody anything, but the kernel says on its console that init has gone.
    let mut port = match Port::open() {
        Ok(port) => port,
        Err(error) => {
            eprintln!("init: cannot use the mailbox's port: {error}");
            return ExitCode::FAILURE;
        }
    };
    let done = mounts::mount().map_err(Into::into).and_then(|without| work(&mut port, without));
    let (event, power) = match done {
        Ok(power) => (Event::Done, Some(power)),
        Err(error) => (Event::Failed { what: chain(error.as_ref()) }, None),
    };
    let log = kmsg::lines().join("\n") + "\n";
    let _ = port.send(&Event::Piece { path: KERNEL_LOG.to_owned(), offset: 0 }, log.as_bytes());
    // Where even that fails, the lab sees that the machine has ended without a word.
    let _ = port.send(&event, &[]);
    port.power_off(power)
}

/// Does the job. `without` is what could not be mounted.
fn work(port: &mut Port, mut without: Vec<String>) -> Fallible<Power> {
    let text = fs::read(JOB).map_err(|error| format!("cannot read {JOB}: {error}"))?;
    let mut job: Job = serde_json::from_slice(&text).map_err(|error| format!("{JOB}: {error}"))?;
    mounts::set_clock(UNIX_EPOCH + Duration::from_secs(job.time))?;
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned();
    port.send(&Event::Up { release, uptime: uptime()? }, &[])?;
    for module in &job.modules {
        if let Err(error) = modules::load(module) {
            if !module.optional {
                return Err(error);
            }
            without.push(error.to_string());
        }
    }
    parameters::check(&job.parameters)?;
    let devices = devices::arguments(&job.arguments, &mut without)?;
    job.arguments.splice(0..0, devices);
    for what in without {
        port.send(&Event::Without { what }, &[])?;
    }
    port.send(&Event::Ready { uptime: uptime()? }, &[])?;
    for suite in &job.suites {
        suites::run(port, &job, suite)?;
    }
    Ok(job.power)
}

/// Seconds since the kernel began.
fn uptime() -> Fallible<String> {
    let text = fs::read_to_string("/proc/uptime")?;
    Ok(text.split(' ').next().unwrap_or_default().to_owned())
}
