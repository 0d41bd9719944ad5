//! Keeps CPUs and memory busy while cells run: what a quiet machine shows must hold on a loaded one.

mod load;

pub use load::{Load, Loads};

use crate::host::affinity::Pinned;
use std::io::{self, Error};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{fmt, hint, mem};

/// Bytes that a thread takes, writes and gives back, over and over: more than caches hold.
const MEMORY: usize = 64 << 20;
/// Bytes of a page.
const PAGE: usize = 4096;
/// How long a real-time thread runs, and then sleeps. The kernel lets such threads have 95% of a CPU at most
/// (`sched_rt_runtime_us`), so that what is left is no less than without it.
const TAKEN: Duration = Duration::from_millis(5);
/// The priority of a real-time thread: above the kernel's own threads for interrupts, which have 50.
const PRIORITY: i32 = 60;

/// Threads that keep the host busy, each held on a CPU, until this is dropped.
#[derive(Debug)]
pub struct Busy {
    loads: Vec<(Load, Vec<usize>)>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Busy {
    /// One thread of each load on each of the CPUs that it is for. The boot vCPU runs on the first of those that are
    /// `allowed`.
    ///
    /// # Errors
    /// A thread cannot be made, be held on its CPU, or be what it shall be.
    pub fn start(loads: &Loads, allowed: &[usize]) -> io::Result<Busy> {
        let mut busy = Busy { loads: Vec::new(), stop: Arc::default(), threads: Vec::new() };
        for &load in &loads.0 {
            let cpus = load.cpus(allowed);
            for &cpu in cpus {
                busy.spawn(load, cpu)?;
            }
            busy.loads.push((load, cpus.to_owned()));
        }
        Ok(busy)
    }

    fn spawn(&mut self, load: Load, cpu: usize) -> io::Result<()> {
        let (stop, (tell, told)) = (Arc::clone(&self.stop), std::sync::mpsc::channel());
        self.threads.push(thread::Builder::new().name(format!("busy-{load}-{cpu}")).spawn(move || {
            let ready = Pinned::to(cpu).and_then(|pinned| match load {
                Load::Realtime => realtime().map(|()| pinned),
                Load::Cpu | Load::Shared | Load::Memory => Ok(pinned),
            });
            let (pinned, said) = match ready {
                Ok(pinned) => (Some(pinned), Ok(())),
                Err(error) => (None, Err(error)),
            };
            // Whoever started it waits for this word.
            let _ = tell.send(said);
            while pinned.is_some() && !stop.load(Ordering::Relaxed) {
                match load {
                    Load::Cpu | Load::Shared => hint::black_box(()),
                    Load::Memory => fill(&stop),
                    Load::Realtime => take(),
                }
            }
        })?);
        told.recv().map_err(Error::other)?.map_err(|error| match load {
            Load::Realtime if error.kind() == io::ErrorKind::PermissionDenied => Error::other(
                "a real-time thread takes CAP_SYS_NICE or a limit of that priority (ulimit -r): run as root",
            ),
            _ => error,
        })
    }
}

/// Makes the calling thread a real-time one (sched(7), SCHED_FIFO).
fn realtime() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: PRIORITY };
    // SAFETY: the call reads the parameters, which live through it. 0 is the calling thread.
    match unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &parameters) } {
        0 => Ok(()),
        _ => Err(Error::last_os_error()),
    }
}

/// Has all of the CPU for a while, and then nothing of it for as long.
fn take() {
    let started = Instant::now();
    while started.elapsed() < TAKEN {
        hint::spin_loop();
    }
    thread::sleep(TAKEN);
}

/// Takes memory, writes to each page of it, and gives it back, so that caches are lost and the kernel has pages to find.
fn fill(stop: &AtomicBool) {
    let mut memory: Vec<mem::MaybeUninit<u8>> = Vec::with_capacity(MEMORY);
    for page in memory.spare_capacity_mut().chunks_mut(PAGE) {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        page[0].write(mem::MaybeUninit::new(1));
        hint::black_box(&page[0]);
    }
}

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (load, cpus)) in self.loads.iter().enumerate() {
            let list = cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
            write!(f, "{}{} {list}", if number > 0 { "; " } else { "" }, load.does())?;
        }
        Ok(())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic of a thread that only spins would be told by the panic itself.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::affinity::allowed;

    #[test]
    fn each_load_has_its_threads_and_they_end() {
        let allowed = allowed().unwrap();
        for load in Load::ALL {
            let busy = match Busy::start(&Loads([load].into()), &allowed) {
                Err(error) if load == Load::Realtime => {
                    crate::skip::skip(&format!("--busy=realtime: {error}"));
                    continue;
                }
                busy => busy.unwrap(),
            };
            assert_eq!(busy.threads.len(), load.cpus(&allowed).len());
            assert!(busy.threads.iter().all(|thread| !thread.is_finished()));
            assert!(busy.to_string().starts_with(load.does()), "{busy}");
        }
    }

    #[test]
    fn a_cpu_that_is_not_there_is_refused() {
        assert!(Busy::start(&Loads([Load::Cpu].into()), &[0, 1 << 20]).is_err());
    }
}
