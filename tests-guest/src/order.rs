//! Message passing between two vCPUs at CPL3: whether one sees the stores of the other in the order of its program.

use crate::alias::{self, Page};
use crate::report::Out;
use crate::smp::Cpu;
use crate::{cpu, user};
use core::sync::atomic::{AtomicBool, Ordering};
use wire::coherence::Ordered;

/// Numbers that the writer passes in a round.
const NUMBERS: u64 = 1024;
/// Rounds go on until the reader saw the flag move this often, so that a reordering had as many chances,
const ENOUGH: u32 = 1024;
/// or for this many ticks, half a second or more: vCPUs that share a CPU run in turn until the host parts them.
const PATIENCE: u64 = 1 << 31;
/// Ticks after which one round ends in any case. A vCPU that runs in turn with the other waits for a time slice.
const ROUND: u64 = PATIENCE / 8;

/// Two vCPUs, the one that boots and another, and what the other passes to it.
pub struct Passing<'a> {
    page: Page,
    writer: &'a Cpu,
    /// The round that comes next, of this page. Numbers grow from one round to the next.
    round: u64,
}

impl<'a> Passing<'a> {
    /// By a page in which nobody stored yet.
    pub fn new(page: Page, writer: &'a Cpu) -> Self {
        Passing { page, writer, round: 0 }
    }

    /// Has the writer pass numbers to the vCPU that boots by two lines of the page through an entry of the PAT, without
    /// fences or with MFENCE, and reports what the reader saw.
    pub fn pass(&mut self, out: &mut Out, pat_entry: u8, fenced: bool) {
        let (page, start, mut seen) = (self.page, cpu::cycles(), Seen::default());
        page.flush();
        while seen.moved < ENOUGH && cpu::since(start) < PATIENCE {
            // Each round has other lines, the two never next to each other.
            let lines =
                Lines { data: page.line(pat_entry, 2 * self.round), flag: page.line(pat_entry, 2 * self.round + 33) };
            let first = 1 + self.round * NUMBERS;
            let reading = AtomicBool::new(false);
            let write = || user::run(|| lines.write(first, fenced, &reading));
            let ((), more) = self.writer.beside(write, || user::run(|| lines.read(first, fenced, &reading)));
            seen.add(more);
            self.round += 1;
        }
        let (Seen { samples, moved, reordered }, writer) = (seen, self.writer.index());
        out.ordered(Ordered { gpa: page.gpa(), writer, reader: 0, pat_entry, fenced, samples, moved, reordered });
    }
}

/// What the reader saw.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    samples: u32,
    moved: u32,
    reordered: u32,
}

impl Seen {
    fn add(&mut self, more: Seen) {
        self.samples = self.samples.saturating_add(more.samples);
        self.moved += more.moved;
        self.reordered += more.reordered;
    }
}

/// Linear addresses of the two lines.
#[derive(Debug, Clone, Copy)]
struct Lines {
    data: u64,
    flag: u64,
}

impl Lines {
    /// Stores the numbers from `first` on, once the reader reads.
    fn write(self, first: u64, fenced: bool, reading: &AtomicBool) {
        let start = cpu::cycles();
        while !reading.load(Ordering::Acquire) {
            if cpu::since(start) > ROUND {
                return;
            }
        }
        for number in first..first + NUMBERS {
            // SAFETY: the page belongs to this test.
            unsafe { alias::store(self.data, number) };
            if fenced {
                alias::fence();
            }
            // SAFETY: as above.
            unsafe { alias::store(self.flag, number) };
        }
        // What is combined is not kept back from a reader that waits for it.
        alias::fence();
    }

    /// Loads both lines again and again until the last number of the round comes.
    fn read(self, first: u64, fenced: bool, reading: &AtomicBool) -> Seen {
        let (start, last, mut seen) = (cpu::cycles(), first + NUMBERS - 1, Seen::default());
        let mut before = alias::load(self.flag);
        reading.store(true, Ordering::Release);
        while before != last && cpu::since(start) <= ROUND {
            let flag = alias::load(self.flag);
            if fenced {
                alias::fence();
            }
            let data = alias::load(self.data);
            seen.samples = seen.samples.saturating_add(1);
            seen.moved += u32::from(flag != before);
            seen.reordered += u32::from(data < flag);
            before = flag;
        }
        seen
    }
}
