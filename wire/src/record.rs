//! The records of a guest: what it did and what it saw.

use crate::coherence::{Aliased, Between, Ordered, pat_entry as entry};
use crate::insn::Insn;
use crate::memtype::EptType;
use crate::outcome::{self, Fault, Outcome, ReadOutcome};
use crate::probe::{Probe, Sample, Times};
use crate::register::Place;
use crate::text::{TextError, Words};
use alloc::{string::String, vec::Vec};

/// The values of a series of writes; the n-th follows from the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Series {
    /// `base` with a field counted up from `first`: `width` bits from bit `lsb` on.
    Field {
        /// The bits outside the field.
        base: u64,
        /// Lowest bit of the field.
        lsb: u8,
        /// Bits in the field, 1 to 63.
        width: u8,
        /// Its first value.
        first: u64,
    },
    /// `base` with one bit flipped, from bit `first` upwards.
    Flip {
        /// The value whose bits are flipped.
        base: u64,
        /// The first bit.
        first: u8,
    },
}

impl Series {
    /// All 256 values of byte `byte` of `base`.
    pub const fn byte(base: u64, byte: u8) -> Series {
        Series::Field { base, lsb: 8 * byte, width: 8, first: 0 }
    }

    /// The value number `n`, counted from 0; fields and bit numbers wrap.
    pub const fn value(self, n: u64) -> u64 {
        match self {
            Series::Field { base, lsb, width, first } => {
                let mask = (1u64 << (width & 63)) - 1;
                base & !(mask << (lsb & 63)) | (first.wrapping_add(n) & mask) << (lsb & 63)
            }
            Series::Flip { base, first } => base ^ 1 << ((first as u64).wrapping_add(n) & 63),
        }
    }
}

/// An access to memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// The vCPU.
    pub cpu: u8,
    /// A store, else a load.
    pub write: bool,
    /// Bytes: 1, 2, 4 or 8.
    pub width: u8,
    /// Privilege level, 0 or 3.
    pub cpl: u8,
    /// Guest-physical address; guests map it one to one.
    pub gpa: u64,
    /// The value stored, or the value that the load gave (0 if it faulted).
    pub value: u64,
    /// The exception that it raised.
    pub fault: Option<Fault>,
}

/// An exception as its handler found it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trap {
    /// Vector, 0 to 31.
    pub vector: u8,
    /// Error code; 0 for a vector that pushes none.
    pub error: u32,
    /// Privilege level of the code that it came upon.
    pub cpl: u8,
}

/// A page whose accesses were timed, to find out its effective memory type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timed {
    /// The vCPU.
    pub cpu: u8,
    /// Privilege level, 0 or 3.
    pub cpl: u8,
    /// Guest-physical address of the bytes that are accessed. Under `nested` it is where they are in the memory of the
    /// guest that reports.
    pub gpa: u64,
    /// The entry of the PAT, 0 to 7, that the leaf of the guest's page tables selects; none with paging off.
    pub pat_entry: Option<u8>,
    /// The accesses are of a guest of this guest, in VMX non-root operation, by an EPT leaf of this type.
    pub nested: Option<EptType>,
    /// What they took.
    pub times: Times,
}

/// What CPUID shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuidLeaf {
    /// EAX on entry.
    pub leaf: u32,
    /// ECX on entry.
    pub subleaf: u32,
    /// EAX, EBX, ECX and EDX on return.
    pub registers: [u32; 4],
}

/// How an application processor came to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// By INIT and SIPI. From real mode it sets the bits of [`START_CR0`](crate::layout::START_CR0) in CR0, keeps the
    /// others, and loads the CR4 of a direct start.
    Sipi,
    /// The VMM set its registers and ran it.
    Direct,
}

impl Start {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Start::Sipi => "sipi",
            Start::Direct => "direct",
        }
    }
}

/// A run of equal outcomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run<T> {
    /// How many, at least 1.
    pub count: u64,
    /// What came of each.
    pub outcome: T,
}

/// One record, as the runner reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields say what they are")]
pub enum Record {
    /// One write to a register: `w 277 606 .`
    Write { at: Place, value: u64, outcome: Outcome },
    /// A series of writes to one register: `s 250 0 8 8 0 2. 2g 3. f9g`, `b 2ff 0 8 2g 2. 34g`
    Writes { at: Place, series: Series, runs: Vec<Run<Outcome>> },
    /// Reads of consecutive registers: `r 200 10=0 40g`
    Reads { first: Place, runs: Vec<Run<ReadOutcome>> },
    /// A cache-control instruction: `i wbinvd 0 .`
    Exec { insn: Insn, cpl: u8, fault: Option<Fault> },
    /// An access to memory: `mw4 0 3 d0000000 5a .`
    Access(Access),
    /// A vCPU rings the doorbell next, at this privilege level: `d 0 3`. Where it says what comes of the step.
    Ring { cpu: u8, cpl: u8 },
    /// An exception that the test waited for: `t 0 12 0 3`
    Trap { cpu: u8, trap: Trap },
    /// An exception that nobody waited for: `x 0 e 2 0 100f3a deadbeef`
    Dead { cpu: u8, trap: Trap, rip: u64, cr2: u64 },
    /// A page that was timed, median and spread of each probe: `a 0 3 d0000000 6 - load c8 2 drain 25a 10`; with paging
    /// off `-` for the 6, nested `WB+IPAT` for the `-`
    Timed(Timed),
    /// The same of a page by which the vCPU's times are read: `q 0 3 110000 0 - load c8 2 lfence 40 0`
    Reference(Timed),
    /// Stores and loads of one page by two ways, and how many loads gave the new, an old and another value:
    /// `h d0000000 0:1 0:6 clflush 100 0 0 0 0`; the last two words are whether a #MC came, and ticks
    Aliased(Aliased),
    /// Message passing between two vCPUs: `o d0000000 1 0 6 0 1000 3f1 0`
    Ordered(Ordered),
    /// Stores to these bytes are not reported from here on: `v d0000000 1000`
    Unreported { gpa: u64, bytes: u64 },
    /// A CPUID leaf: `c 7 0 ...`
    Cpuid(CpuidLeaf),
    /// INIT was sent to a vCPU: `n 1`. A read of its CR0 between this and its `u` was done in real mode, before
    /// anything else: it shows what INIT left.
    Init { cpu: u8 },
    /// A vCPU came up and is in 64-bit mode: `u 1 sipi`
    Up { cpu: u8, how: Start },
    /// The test cannot be done here: `k CPUID shows no CLWB`
    Skip { reason: String },
    /// The guest gave up: `p reason`
    Panic { reason: String },
}

impl Record {
    /// Reads a line's body.
    ///
    /// # Errors
    /// The word that is not what should stand there.
    pub(crate) fn parse(body: &str) -> Result<Record, TextError> {
        let mut words = Words::new(body);
        let kind = words.word("a record")?;
        let record = match kind {
            "w" => {
                let (at, value) = (words.parse("a register")?, words.hex("a value")?);
                Record::Write { at, value, outcome: words.parse("an outcome")? }
            }
            "s" => {
                let at = words.parse("a register")?;
                let (base, lsb) = (words.hex("a value")?, words.hex("a bit number")?);
                let (width, first) = (words.hex("a width in bits")?, words.hex("a field's value")?);
                return if lsb > 63 || width == 0 || width > 63 || lsb + width > 64 {
                    Err(TextError::new("a field of a 64-bit register", body))
                } else {
                    let series = Series::Field { base, lsb, width, first };
                    Ok(Record::Writes { at, series, runs: runs(words, str::parse)? })
                };
            }
            "b" => {
                let at = words.parse("a register")?;
                let (base, first) = (words.hex("a value")?, words.hex("a bit number")?);
                let runs = runs(words, str::parse)?;
                let count: u64 = runs.iter().map(|run| run.count).sum();
                if u64::from(first) + count > 64 {
                    return Err(TextError::new("a range of bits of a 64-bit register", body));
                }
                return Ok(Record::Writes { at, series: Series::Flip { base, first }, runs });
            }
            "r" => {
                return Ok(Record::Reads {
                    first: words.parse("a register")?,
                    runs: runs(words, outcome::read_outcome)?,
                });
            }
            "i" => {
                let name = words.word("an instruction")?;
                let insn = Insn::ALL.into_iter().find(|insn| insn.name() == name);
                let insn = insn.ok_or_else(|| TextError::new("an instruction", name))?;
                Record::Exec { insn, cpl: cpl(&mut words)?, fault: fault(&mut words)? }
            }
            "mr1" | "mr2" | "mr4" | "mr8" | "mw1" | "mw2" | "mw4" | "mw8" => Record::Access(Access {
                write: kind.as_bytes()[1] == b'w',
                width: kind.as_bytes()[2] - b'0',
                cpu: words.hex("a vCPU index")?,
                cpl: cpl(&mut words)?,
                gpa: words.hex("an address")?,
                value: words.hex("a value")?,
                fault: fault(&mut words)?,
            }),
            "d" => Record::Ring { cpu: words.hex("a vCPU index")?, cpl: cpl(&mut words)? },
            "t" => Record::Trap { cpu: words.hex("a vCPU index")?, trap: trap(&mut words)? },
            "x" => Record::Dead {
                cpu: words.hex("a vCPU index")?,
                trap: trap(&mut words)?,
                rip: words.hex("an address")?,
                cr2: words.hex("an address")?,
            },
            "a" => return timed(words).map(Record::Timed),
            "q" => return timed(words).map(Record::Reference),
            "h" => Record::Aliased(Aliased {
                gpa: words.hex("an address")?,
                store: words.parse("who stores")?,
                load: words.parse("who loads")?,
                between: between(words.word("what is done in between")?)?,
                new: words.hex("a count")?,
                stale: words.hex("a count")?,
                other: words.hex("a count")?,
                machine_check: yes_or_no(&mut words)?,
                ticks: words.hex("a number of ticks")?,
            }),
            "o" => Record::Ordered(Ordered {
                gpa: words.hex("an address")?,
                writer: words.hex("a vCPU index")?,
                reader: words.hex("a vCPU index")?,
                pat_entry: entry(words.word("an entry of the PAT")?)?,
                fenced: yes_or_no(&mut words)?,
                samples: words.hex("a count")?,
                moved: words.hex("a count")?,
                reordered: words.hex("a count")?,
            }),
            "v" => Record::Unreported { gpa: words.hex("an address")?, bytes: words.hex("a number of bytes")? },
            "c" => {
                let (leaf, subleaf) = (words.hex("a CPUID leaf")?, words.hex("a CPUID subleaf")?);
                let mut registers = [0; 4];
                for register in &mut registers {
                    *register = words.hex("a CPUID register")?;
                }
                Record::Cpuid(CpuidLeaf { leaf, subleaf, registers })
            }
            "n" => Record::Init { cpu: words.hex("a vCPU index")? },
            "u" => {
                let (cpu, how) = (words.hex("a vCPU index")?, words.word("a way to start")?);
                let how = [Start::Sipi, Start::Direct].into_iter().find(|start| start.word() == how);
                Record::Up { cpu, how: how.ok_or_else(|| TextError::new("a way to start", body))? }
            }
            "k" => return Ok(Record::Skip { reason: reason(body) }),
            "p" => return Ok(Record::Panic { reason: reason(body) }),
            other => return Err(TextError::new("a kind of record", other)),
        };
        words.end()?;
        Ok(record)
    }
}

/// What follows the first word of `body`.
fn reason(body: &str) -> String {
    body.split_once(' ').map_or("", |(_, text)| text).into()
}

fn cpl(words: &mut Words<'_>) -> Result<u8, TextError> {
    match words.word("a privilege level")? {
        "0" => Ok(0),
        "3" => Ok(3),
        other => Err(TextError::new("a privilege level", other)),
    }
}

fn pat_entry(word: &str) -> Result<Option<u8>, TextError> {
    if word == "-" { Ok(None) } else { entry(word).map(Some) }
}

fn between(word: &str) -> Result<Between, TextError> {
    let found = Between::ALL.into_iter().find(|between| between.word() == word);
    found.ok_or_else(|| TextError::new("what is done in between", word))
}

fn yes_or_no(words: &mut Words<'_>) -> Result<bool, TextError> {
    match words.word("0 or 1")? {
        "0" => Ok(false),
        "1" => Ok(true),
        other => Err(TextError::new("0 or 1", other)),
    }
}

/// The rest of a line of a timed page.
fn timed(mut words: Words<'_>) -> Result<Timed, TextError> {
    let (cpu, cpl, gpa) = (words.hex("a vCPU index")?, cpl(&mut words)?, words.hex("an address")?);
    let pat_entry = pat_entry(words.word("an entry of the PAT")?)?;
    let nested = match words.word("the type of an EPT leaf")? {
        "-" => None,
        ept => Some(ept.parse()?),
    };
    let mut times = Times::NONE;
    let (mut rest, mut after) = (words.rest(), 0);
    while let Some(word) = rest.next() {
        // In the order of the list, so that none comes twice.
        let probe = Probe::ALL.into_iter().skip(after).find(|probe| probe.word() == word);
        let probe = probe.ok_or_else(|| TextError::new("a probe", word))?;
        let mut ticks = || crate::text::hex(rest.next().unwrap_or_default(), "a number of ticks");
        times.set(probe, Sample { median: ticks()?, spread: ticks()? });
        after = probe.index() + 1;
    }
    if after == 0 { Err(TextError::new("a probe", "")) } else { Ok(Timed { cpu, cpl, gpa, pat_entry, nested, times }) }
}

fn fault(words: &mut Words<'_>) -> Result<Option<Fault>, TextError> {
    outcome::maybe_fault(words.word("an exception")?)
}

fn trap(words: &mut Words<'_>) -> Result<Trap, TextError> {
    Ok(Trap { vector: words.hex("a vector")?, error: words.hex("an error code")?, cpl: cpl(words)? })
}

/// The runs at the end of a line: at least one, each a count and an outcome, at most 2^20 outcomes in all, so that a
/// guest cannot make the runner expand a line without bound.
fn runs<T>(words: Words<'_>, outcome: impl Fn(&str) -> Result<T, TextError>) -> Result<Vec<Run<T>>, TextError> {
    const MOST: u64 = 1 << 20;
    let (mut runs, mut total) = (Vec::new(), 0u64);
    for word in words.rest() {
        let digits = word.find(|c: char| !matches!(c, '0'..='9' | 'a'..='f')).unwrap_or(word.len());
        let count: u64 = crate::text::hex(&word[..digits], "a count")?;
        total = total.saturating_add(count);
        if count == 0 || total > MOST {
            return Err(TextError::new("a count", word));
        }
        runs.push(Run { count, outcome: outcome(&word[digits..])? });
    }
    if runs.is_empty() { Err(TextError::new("an outcome", "")) } else { Ok(runs) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn a_series_counts_its_field_or_its_bit() {
        let byte3 = Series::byte(0x0606_0606_0606_0606, 3);
        assert_eq!(byte3.value(0), 0x0606_0606_0006_0606);
        assert_eq!(byte3.value(0x81), 0x0606_0606_8106_0606);
        assert_eq!(Series::Flip { base: 6, first: 1 }.value(0), 4);
        assert_eq!(Series::Flip { base: 6, first: 1 }.value(62), 6 | 1 << 63);
    }

    #[test]
    fn a_wrong_word_is_named() {
        let said = |body| Record::parse(body).unwrap_err().to_string();
        assert_eq!(said("w 277 606 !"), "\"!\" is not an exception");
        assert_eq!(said("w 277"), "a value is missing");
        assert_eq!(said("z 1"), "\"z\" is not a kind of record");
        assert_eq!(said("i wbinvd 1 ."), "\"1\" is not a privilege level");
        assert_eq!(said("h 1000 0:8 0:1 - 1 0 0 0 0"), "\"8\" is not an entry of the PAT");
        assert_eq!(said("h 1000 0 0:1 - 1 0 0 0 0"), "\"0\" is not who accesses");
        assert_eq!(said("h 1000 host 0:1 x 1 0 0 0 0"), "\"x\" is not what is done in between");
        assert_eq!(said("o 1000 1 0 6 2 1 0 0"), "\"2\" is not 0 or 1");
        assert_eq!(said("n 1 2"), "\"2\" is not the end of the line");
        assert_eq!(said("s 250 0 3c 8 0 1."), "\"s 250 0 3c 8 0 1.\" is not a field of a 64-bit register");
        assert_eq!(said("a 0 3 d0000000 8 - load 1 1"), "\"8\" is not an entry of the PAT");
        assert_eq!(said("a 0 3 d0000000 0 -"), "a probe is missing");
        assert_eq!(said("a 0 3 d0000000 0 - load 1"), "a number of ticks is missing");
        assert_eq!(said("a 0 3 d0000000 0 - drain 1 1 load 1 1"), "\"load\" is not a probe");
        assert_eq!(said("r 200 ffffffff."), "\"ffffffff.\" is not a count");
    }
}
