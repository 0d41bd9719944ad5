//! Lines on the serial line: sequence number, body, checksum; a start that names run and test, an end that counts.
//!
//! ```text
//! 0 kmt2 5eed pat-msr/reset*8bf5
//! 1 r 277 1=7040600070406*c04d
//! 2 end 1*2101
//! ```
//! All numbers are hexadecimal. The checksum is CRC-16/X-25 over the run id (eight bytes, little-endian) and the line
//! up to the `*`, so a line of another run does not fit, even where it was cut out whole.

use crate::coherence::{Aliased, Ordered, Side};
use crate::outcome::{self, After, Fault, Outcome, ReadOutcome};
use crate::record::{Access, CpuidLeaf, Series, Start, Timed, Trap};
use crate::register::{Place, Register};
use crc::{CRC_16_IBM_SDLC, Crc, Digest, Table};

static CRC: Crc<u16> = Crc::<u16>::new(&CRC_16_IBM_SDLC);
/// The same by a table of 8 KiB, for a reader of many lines. No guest has it: the linker leaves it out.
static FAST_CRC: Crc<u16, Table<16>> = Crc::<u16, Table<16>>::new(&CRC_16_IBM_SDLC);

/// First word of a start line's body: the protocol and its version.
pub const VERSION: &str = "kmt2";

/// Where the bytes go.
pub trait Sink {
    /// Takes one byte; does not fail, because a guest could do nothing about it.
    fn put(&mut self, byte: u8);
}

/// Writes records as lines. One a run; it does not allocate and holds no line back.
#[derive(Debug)]
pub struct Writer<S> {
    sink: S,
    run: u64,
    next: u32,
}

impl<S: Sink> Writer<S> {
    /// Starts the stream of run `run`, in which `family` does `test`. A line feed goes first, so that whatever firmware
    /// left on the line is a line of its own.
    pub fn begin(sink: S, run: u64, family: &str, test: &str) -> Self {
        let mut writer = Writer { sink, run, next: 0 };
        writer.sink.put(b'\n');
        writer.line(VERSION).hex(run).word(family).glue("/").glue(test).end();
        writer
    }

    /// Ends the stream, with the number of records in it.
    pub fn finish(mut self) {
        let records = self.next - 1;
        self.line("end").hex(records.into()).end();
    }

    /// One write to a register.
    pub fn write(&mut self, at: Place, value: u64, outcome: Outcome) {
        self.line("w").place(at).hex(value).token(outcome).end();
    }

    /// A series of writes to a register, of which each outcome is pushed.
    pub fn writes(&mut self, at: Place, series: Series) -> Runs<'_, S, Outcome> {
        let line = match series {
            Series::Field { base, lsb, width, first } => {
                self.line("s").place(at).hex(base).hex(lsb.into()).hex(width.into()).hex(first)
            }
            Series::Flip { base, first } => self.line("b").place(at).hex(base).hex(first.into()),
        };
        Runs { line: Some(line), last: None }
    }

    /// Reads of consecutive registers from `first` on, of which each outcome is pushed.
    pub fn reads(&mut self, first: Place) -> Runs<'_, S, ReadOutcome> {
        Runs { line: Some(self.line("r").place(first)), last: None }
    }

    /// One execution of a cache-control instruction.
    pub fn exec(&mut self, insn: crate::insn::Insn, cpl: u8, fault: Option<Fault>) {
        self.line("i").word(insn.name()).hex(cpl.into()).maybe_fault(fault).end();
    }

    /// One access to memory.
    pub fn access(&mut self, access: Access) {
        let width = [b'0' + access.width];
        let width = core::str::from_utf8(&width).unwrap_or("?");
        self.line(if access.write { "mw" } else { "mr" })
            .glue(width)
            .hex(access.cpu.into())
            .hex(access.cpl.into())
            .hex(access.gpa)
            .hex(access.value)
            .maybe_fault(access.fault)
            .end();
    }

    /// vCPU `cpu` rings the doorbell next, at privilege level `cpl`.
    pub fn ring(&mut self, cpu: u8, cpl: u8) {
        self.line("d").hex(cpu.into()).hex(cpl.into()).end();
    }

    /// An exception that the test waited for.
    pub fn trap(&mut self, cpu: u8, trap: Trap) {
        self.line("t").hex(cpu.into()).hex(trap.vector.into()).hex(trap.error.into()).hex(trap.cpl.into()).end();
    }

    /// An exception that nobody waited for; the guest ends after it.
    pub fn dead(&mut self, cpu: u8, trap: Trap, rip: u64, cr2: u64) {
        self.line("x")
            .hex(cpu.into())
            .hex(trap.vector.into())
            .hex(trap.error.into())
            .hex(trap.cpl.into())
            .hex(rip)
            .hex(cr2)
            .end();
    }

    /// A page that was timed.
    pub fn timed(&mut self, timed: Timed) {
        self.times("a", timed);
    }

    /// A page by which the vCPU's times are read.
    pub fn reference(&mut self, timed: Timed) {
        self.times("q", timed);
    }

    fn times(&mut self, kind: &'static str, timed: Timed) {
        const ENTRIES: [&str; 8] = ["0", "1", "2", "3", "4", "5", "6", "7"];
        let Timed { cpu, cpl, gpa, pat_entry, nested, times } = timed;
        let line = self.line(kind).hex(cpu.into()).hex(cpl.into()).hex(gpa);
        let line = line.word(pat_entry.map_or("-", |entry| ENTRIES[usize::from(entry & 7)]));
        let mut line = match nested {
            None => line.word("-"),
            Some(ept) => line.word(ept.memtype.name()).glue(if ept.ignore_pat { "+IPAT" } else { "" }),
        };
        for (probe, sample) in times.iter() {
            line = line.word(probe.word()).hex(sample.median.into()).hex(sample.spread.into());
        }
        line.end();
    }

    /// Stores and loads of one page by two ways.
    pub fn aliased(&mut self, it: Aliased) {
        self.line("h")
            .hex(it.gpa)
            .side(it.store)
            .side(it.load)
            .word(it.between.word())
            .hex(it.new.into())
            .hex(it.stale.into())
            .hex(it.other.into())
            .hex(it.machine_check.into())
            .hex(it.ticks)
            .end();
    }

    /// Message passing between two vCPUs.
    pub fn ordered(&mut self, it: Ordered) {
        self.line("o")
            .hex(it.gpa)
            .hex(it.writer.into())
            .hex(it.reader.into())
            .hex(it.pat_entry.into())
            .hex(it.fenced.into())
            .hex(it.samples.into())
            .hex(it.moved.into())
            .hex(it.reordered.into())
            .end();
    }

    /// Stores to these bytes are not reported from here on.
    pub fn unreported(&mut self, gpa: u64, bytes: u64) {
        self.line("v").hex(gpa).hex(bytes).end();
    }

    /// What CPUID shows in one leaf.
    pub fn cpuid(&mut self, leaf: CpuidLeaf) {
        let mut line = self.line("c").hex(leaf.leaf.into()).hex(leaf.subleaf.into());
        for register in leaf.registers {
            line = line.hex(register.into());
        }
        line.end();
    }

    /// INIT was sent to vCPU `cpu`.
    pub fn init(&mut self, cpu: u8) {
        self.line("n").hex(cpu.into()).end();
    }

    /// vCPU `cpu` runs guest code.
    pub fn up(&mut self, cpu: u8, how: Start) {
        self.line("u").hex(cpu.into()).word(how.word()).end();
    }

    /// The test found that it cannot be done here.
    pub fn skip(&mut self, reason: &str) {
        self.line("k").text(reason).end();
    }

    /// The guest gives up, with the reason.
    pub fn panic(&mut self, reason: &str) {
        self.line("p").text(reason).end();
    }

    fn line(&mut self, kind: &str) -> Line<'_, S> {
        let number = self.next;
        self.next += 1;
        let mut digest = CRC.digest();
        digest.update(&self.run.to_le_bytes());
        let mut line = Line { sink: &mut self.sink, digest };
        line.digits(number.into());
        line.word(kind)
    }
}

/// A line that is being written; each method adds a word.
struct Line<'a, S> {
    sink: &'a mut S,
    digest: Digest<'static, u16, Table<1>>,
}

impl<S: Sink> Line<'_, S> {
    fn put(&mut self, byte: u8) {
        self.digest.update(&[byte]);
        self.sink.put(byte);
    }

    fn digits(&mut self, value: u64) {
        let mut shift = (60 - (value | 1).leading_zeros() / 4 * 4) as i32;
        while shift >= 0 {
            self.put(b"0123456789abcdef"[(value >> shift) as usize & 15]);
            shift -= 4;
        }
    }

    fn glue(mut self, text: &str) -> Self {
        for byte in text.bytes() {
            self.put(byte);
        }
        self
    }

    fn word(mut self, text: &str) -> Self {
        self.put(b' ');
        self.glue(text)
    }

    fn hex(mut self, value: u64) -> Self {
        self.put(b' ');
        self.digits(value);
        self
    }

    /// Free text at the end of a line; a byte that would break the line becomes `?`.
    fn text(mut self, text: &str) -> Self {
        self.put(b' ');
        for byte in text.bytes() {
            self.put(if matches!(byte, b' '..=b'~') && byte != b'*' { byte } else { b'?' });
        }
        self
    }

    fn place(mut self, at: Place) -> Self {
        self.put(b' ');
        if at.cpu != 0 {
            self.digits(at.cpu.into());
            self.put(b':');
        }
        match (at.register, at.register.word()) {
            (Register::Msr(index), _) => self.digits(index.into()),
            (_, word) => return self.glue(word.unwrap_or_default()),
        }
        self
    }

    fn side(self, side: Side) -> Self {
        match side {
            Side::Host => self.word("host"),
            Side::Guest { cpu, pat_entry } => {
                let mut line = self.hex(cpu.into());
                line.put(b':');
                line.digits(pat_entry.into());
                line
            }
        }
    }

    fn token<T: Token>(mut self, token: T) -> Self {
        self.put(b' ');
        token.put(&mut self);
        self
    }

    fn maybe_fault(mut self, fault: Option<Fault>) -> Self {
        self.put(b' ');
        self.fault(fault);
        self
    }

    fn fault(&mut self, fault: Option<Fault>) {
        match fault {
            None => self.put(outcome::NO_FAULT),
            Some(Fault::GP0) => self.put(outcome::GP0),
            Some(Fault { vector, error }) => {
                self.put(outcome::OTHER_FAULT);
                self.digits(vector.into());
                self.put(b',');
                self.digits(error.into());
            }
        }
    }

    fn end(self) {
        let Line { sink, digest } = self;
        sink.put(b'*');
        let sum = digest.finalize();
        for shift in [12, 8, 4, 0] {
            sink.put(b"0123456789abcdef"[(sum >> shift) as usize & 15]);
        }
        sink.put(b'\n');
    }
}

/// An outcome that can stand in a run.
trait Token: Copy + PartialEq {
    fn put<S: Sink>(self, line: &mut Line<'_, S>);
}

impl Token for Outcome {
    fn put<S: Sink>(self, line: &mut Line<'_, S>) {
        line.fault(self.fault);
        match self.after {
            After::AsWritten => {}
            After::Value(value) => {
                line.put(b'=');
                line.digits(value);
            }
            After::Unreadable(vector) => {
                line.put(b'?');
                line.digits(vector.into());
            }
        }
    }
}

impl Token for ReadOutcome {
    fn put<S: Sink>(self, line: &mut Line<'_, S>) {
        match self {
            Err(fault) => line.fault(Some(fault)),
            Ok(value) => {
                line.put(b'=');
                line.digits(value);
            }
        }
    }
}

/// Outcomes of a series, written as runs of equal ones: `5. 3g` is five accepted and three refused. The line ends when
/// this is dropped.
pub struct Runs<'a, S: Sink, T: RunToken> {
    line: Option<Line<'a, S>>,
    last: Option<(T, u64)>,
}

/// An outcome that [`Runs`] can hold: that of a write or of a read.
#[expect(private_bounds, reason = "how a token is written is this module's business")]
pub trait RunToken: Token {}
impl<T: Token> RunToken for T {}

impl<S: Sink, T: RunToken> Runs<'_, S, T> {
    /// Adds the next outcome.
    pub fn push(&mut self, token: T) {
        self.push_equal(token, 1);
    }

    /// Adds the next `more` outcomes, which are equal. None if `more` is 0.
    pub fn push_equal(&mut self, token: T, more: u64) {
        match &mut self.last {
            _ if more == 0 => {}
            Some((last, count)) if *last == token => *count += more,
            _ => {
                self.flush();
                self.last = Some((token, more));
            }
        }
    }

    fn flush(&mut self) {
        if let (Some((token, count)), Some(line)) = (self.last.take(), &mut self.line) {
            line.put(b' ');
            line.digits(count);
            token.put(line);
        }
    }
}

impl<S: Sink, T: RunToken> Drop for Runs<'_, S, T> {
    fn drop(&mut self) {
        self.flush();
        if let Some(line) = self.line.take() {
            line.end();
        }
    }
}

/// The checksum of `text` in run `run`.
pub fn checksum(run: u64, text: &str) -> u16 {
    let mut digest = FAST_CRC.digest();
    digest.update(&run.to_le_bytes());
    digest.update(text.as_bytes());
    digest.finalize()
}
