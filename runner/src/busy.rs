//! Keeps CPUs busy while cells run: what a quiet machine shows must hold on a loaded one.

use crate::host::affinity::Pinned;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::{fmt, io, thread};

/// Threads that do nothing but run, each held on a CPU, until this is dropped.
#[derive(Debug)]
pub struct Busy {
    cpus: Vec<usize>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Busy {
    /// One thread at normal priority for each CPU of `allowed` but the first, on which the boot vCPU runs. Where that
    /// is the only one, one thread shares it with the vCPU.
    ///
    /// # Errors
    /// A thread cannot be made, or not be held on its CPU.
    pub fn start(allowed: &[usize]) -> io::Result<Busy> {
        let cpus = if allowed.len() > 1 { &allowed[1..] } else { allowed };
        let mut busy = Busy { cpus: cpus.to_owned(), stop: Arc::default(), threads: Vec::new() };
        for &cpu in cpus {
            let (stop, (tell, told)) = (Arc::clone(&busy.stop), std::sync::mpsc::channel());
            busy.threads.push(thread::Builder::new().name(format!("busy-{cpu}")).spawn(move || {
                let (pinned, said) = match Pinned::to(cpu) {
                    Ok(pinned) => (Some(pinned), Ok(())),
                    Err(error) => (None, Err(error)),
                };
                // Whoever started it waits for this word.
                let _ = tell.send(said);
                while pinned.is_some() && !stop.load(Ordering::Relaxed) {
                    std::hint::black_box(());
                }
            })?);
            told.recv().map_err(io::Error::other)??;
        }
        Ok(busy)
    }
}

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = self.cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
        write!(f, "a thread spins on CPU {list}")
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
    fn threads_spin_on_the_other_cpus_and_end() {
        let allowed = allowed().unwrap();
        let busy = Busy::start(&allowed).unwrap();
        assert_eq!(busy.threads.len(), (allowed.len() - 1).max(1));
        assert!(busy.threads.iter().all(|thread| !thread.is_finished()));
        assert!(busy.to_string().starts_with("a thread spins on CPU "));
    }

    #[test]
    fn a_cpu_that_is_not_there_is_refused() {
        assert!(Busy::start(&[0, 1 << 20]).is_err());
    }
}
