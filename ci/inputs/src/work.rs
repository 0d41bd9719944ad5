//! The executions of one kind of input.

use crate::changes::draw;
use crate::corpus::Corpus;
use crate::memory;
use kvm_memtype::inputs::Input;
use std::fmt;
use std::io::Write;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// The longest that an execution may take.
const LONGEST: Duration = Duration::from_secs(10);
/// The most memory that an execution may take besides what there is.
const MOST: usize = 256 << 20;
/// What may be kept of all executions: tables that are made once.
const KEPT: usize = 4 << 20;
/// Seconds that a thousand executions may take before a signal ends them: one of them hangs.
const HUNG: u32 = 600;

/// The execution that is going on, for the signal handler.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// One kind of input.
#[derive(Debug, Clone, Copy)]
pub struct Work<'a> {
    /// The kind.
    pub input: Input,
    /// From what inputs are made.
    pub corpus: &'a Corpus,
    /// What they are drawn by.
    pub seed: u64,
}

/// Something that no input may bring about.
#[derive(Debug)]
enum Wrong {
    Panicked,
    Slow(Duration),
    Greedy(usize),
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wrong::Panicked => write!(f, "a panic"),
            Wrong::Slow(took) => write!(f, "{:.1} s", took.as_secs_f64()),
            Wrong::Greedy(bytes) => write!(f, "{} MiB of memory", bytes >> 20),
        }
    }
}

/// What executions took.
#[derive(Debug, Default)]
struct Taken {
    right: u64,
    longest: Duration,
    most: usize,
}

impl Work<'_> {
    /// Runs the corpus, and then so many inputs made of it, or as many as the time allows. Prints a line, and says whether
    /// nothing was found.
    pub fn all(&self, executions: u64, time: Duration) -> bool {
        on_signals();
        let (mut taken, mut input, mut done) = (Taken::default(), Vec::with_capacity(256 << 10), 0);
        for (name, input) in self.corpus.inputs.iter().chain(&self.corpus.slow) {
            if let Err(wrong) = self.one(input, &mut taken) {
                println!("{}: {wrong} on {name} of the corpus", self.input.name);
                return false;
            }
        }
        let right = taken.right;
        // Once more: what the first execution makes once and for all is no leak.
        let (started, kept) = (Instant::now(), memory::mark());
        while done < executions && started.elapsed() < time {
            NUMBER.store(done, Relaxed);
            if done.is_multiple_of(1024) {
                // SAFETY: it only sets a clock.
                unsafe { libc::alarm(HUNG) };
            }
            draw(self.corpus, self.seed, done, &mut input);
            if let Err(wrong) = self.one(&input, &mut taken) {
                let again = format!("inputs {} --seed {} --only {done}", self.input.name, self.seed);
                println!("{}: {wrong} in execution {done}; again: {again}", self.input.name);
                return false;
            }
            done += 1;
        }
        let seconds = started.elapsed().as_secs_f64();
        let kept = memory::seen().0.saturating_sub(kept);
        println!(
            "{:<14}{done:>12} {:>9.1}% {:>10.0} {:>6.1} ms {:>6} KiB {:>6} KiB",
            self.input.name,
            (taken.right - right) as f64 * 100.0 / done.max(1) as f64,
            done as f64 / seconds,
            taken.longest.as_secs_f64() * 1e3,
            taken.most >> 10,
            kept >> 10
        );
        let good = right > 0 && kept < KEPT;
        if right == 0 {
            println!("{}: no input of the corpus is right", self.input.name);
        }
        if kept >= KEPT {
            println!("{}: {kept} bytes are kept", self.input.name);
        }
        good
    }

    /// Writes one of the inputs to standard output, and runs it.
    pub fn only(&self, number: u64) -> Result<(), String> {
        let mut input = Vec::new();
        draw(self.corpus, self.seed, number, &mut input);
        std::io::stdout().write_all(&input).map_err(|error| error.to_string())?;
        self.one(&input, &mut Taken::default()).map_err(|wrong| format!("{wrong}"))
    }

    fn one(&self, input: &[u8], taken: &mut Taken) -> Result<(), Wrong> {
        let before = memory::mark();
        let started = Instant::now();
        let read = self.input.read;
        let right = catch_unwind(move || read(input)).map_err(|_| Wrong::Panicked)?;
        let (took, most) = (started.elapsed(), memory::seen().1.saturating_sub(before));
        taken.right += u64::from(right);
        taken.longest = taken.longest.max(took);
        taken.most = taken.most.max(most);
        match (took > LONGEST, most > MOST) {
            (true, _) => Err(Wrong::Slow(took)),
            (_, true) => Err(Wrong::Greedy(most)),
            _ => Ok(()),
        }
    }
}

/// Has a signal handler name the execution that aborts the process, as a stack that overflows or memory that is refused does,
/// or that hangs.
fn on_signals() {
    extern "C" fn named(signal: libc::c_int) {
        let mut said = *b"inputs: signal    in execution                     \n";
        let digits = |said: &mut [u8], mut number: u64| {
            for digit in said.iter_mut().rev() {
                *digit = if number == 0 { b' ' } else { b'0' + (number % 10) as u8 };
                number /= 10;
            }
        };
        digits(&mut said[15..17], signal as u64);
        digits(&mut said[31..51], NUMBER.load(Relaxed));
        // SAFETY: write and _exit may be called in a signal handler, and the bytes live through the call.
        unsafe {
            libc::write(2, said.as_ptr().cast(), said.len());
            libc::_exit(134);
        }
    }
    // SAFETY: the handler does what handlers may.
    unsafe {
        libc::signal(libc::SIGABRT, named as *const () as libc::sighandler_t);
        libc::signal(libc::SIGALRM, named as *const () as libc::sighandler_t);
    }
}
