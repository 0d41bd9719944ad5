//! Whatever is written reads back, and whatever is done to a stream is noticed.

use super::*;
use crate::coherence::{Aliased, Between, Ordered, Side};
use crate::frame::{Sink, Writer};
use crate::insn::Insn;
use crate::memtype::{EptType, MemType};
use crate::outcome::{After, Fault, Outcome};
use crate::probe::{Probe, Sample, Times};
use crate::record::{Access, CpuidLeaf, Run, Series, Start, Timed, Trap};
use crate::register::{Place, Register};
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;
use proptest::prelude::*;

struct Memory<'a>(&'a mut Vec<u8>);

impl Sink for Memory<'_> {
    fn put(&mut self, byte: u8) {
        self.0.push(byte);
    }
}

fn emit(writer: &mut Writer<Memory<'_>>, record: &Record) {
    match record {
        Record::Write { at, value, outcome } => writer.write(*at, *value, *outcome),
        Record::Writes { at, series, runs } => {
            let mut out = writer.writes(*at, *series);
            runs.iter().for_each(|run| out.push_equal(run.outcome, run.count));
        }
        Record::Reads { first, runs } => {
            let mut out = writer.reads(*first);
            runs.iter().for_each(|run| (0..run.count).for_each(|_| out.push(run.outcome)));
        }
        Record::Exec { insn, cpl, fault } => writer.exec(*insn, *cpl, *fault),
        Record::Access(access) => writer.access(*access),
        Record::Ring { cpu, cpl } => writer.ring(*cpu, *cpl),
        Record::Trap { cpu, trap } => writer.trap(*cpu, *trap),
        Record::Dead { cpu, trap, rip, cr2 } => writer.dead(*cpu, *trap, *rip, *cr2),
        Record::Cpuid(leaf) => writer.cpuid(*leaf),
        Record::Init { cpu } => writer.init(*cpu),
        Record::Timed(timed) => writer.timed(*timed),
        Record::Reference(timed) => writer.reference(*timed),
        Record::Aliased(aliased) => writer.aliased(*aliased),
        Record::Ordered(ordered) => writer.ordered(*ordered),
        Record::Unreported { gpa, bytes } => writer.unreported(*gpa, *bytes),
        Record::Up { cpu, how } => writer.up(*cpu, *how),
        Record::Skip { reason } => writer.skip(reason),
        Record::Panic { reason } => writer.panic(reason),
    }
}

fn stream(run: u64, records: &[Record]) -> String {
    let mut bytes = Vec::new();
    let mut writer = Writer::begin(Memory(&mut bytes), run, "family", "test");
    records.iter().for_each(|record| emit(&mut writer, record));
    writer.finish();
    String::from_utf8(bytes).unwrap()
}

fn read(text: &str, run: u64) -> Result<Vec<Record>, StreamError> {
    let mut reader = Reader::new(Some(run));
    let mut records = Vec::new();
    for line in text.lines() {
        if let Some(Item::Record(record)) = reader.line(line)? {
            records.push(record);
        }
    }
    reader.finish().map(|()| records)
}

fn register() -> impl Strategy<Value = Register> {
    prop_oneof![
        any::<u32>().prop_map(Register::Msr),
        Just(Register::Cr0),
        Just(Register::Lmsw),
        Just(Register::Clts),
        Just(Register::Cr4)
    ]
}

fn place() -> impl Strategy<Value = Place> {
    (any::<u8>(), register()).prop_map(|(cpu, register)| Place { cpu, register })
}

fn fault() -> impl Strategy<Value = Fault> {
    (0u8..32, any::<u32>()).prop_map(|(vector, error)| Fault { vector, error })
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let after =
        prop_oneof![Just(After::AsWritten), any::<u64>().prop_map(After::Value), (0u8..32).prop_map(After::Unreadable)];
    (proptest::option::of(fault()), after).prop_map(|(fault, after)| Outcome { fault, after })
}

/// Runs as a writer makes them: neighbours differ.
fn runs<T: Copy + PartialEq + fmt::Debug>(
    token: impl Strategy<Value = T>,
    most: u64,
) -> impl Strategy<Value = Vec<Run<T>>> {
    proptest::collection::vec((1..=most, token), 1..6).prop_map(|runs| {
        let mut out: Vec<Run<T>> = Vec::new();
        for (count, outcome) in runs {
            if out.last().is_none_or(|last| last.outcome != outcome) {
                out.push(Run { count, outcome });
            }
        }
        out
    })
}

fn series() -> impl Strategy<Value = Series> {
    let field = (any::<u64>(), 0u8..64, 1u8..64, any::<u64>()).prop_filter_map("fits", |(base, lsb, width, first)| {
        (lsb + width <= 64).then_some(Series::Field { base, lsb, width, first })
    });
    prop_oneof![field, (any::<u64>(), 0u8..32).prop_map(|(base, first)| Series::Flip { base, first })]
}

fn timed() -> impl Strategy<Value = Timed> {
    let nested = (proptest::sample::select(&MemType::OF_MTRR[..]), any::<bool>())
        .prop_map(|(memtype, ignore_pat)| EptType { memtype, ignore_pat });
    let what = (proptest::option::of(0u8..8), proptest::option::of(nested));
    let sample = || any::<(u32, u32)>().prop_map(|(median, spread)| Sample { median, spread });
    let others = proptest::collection::vec(proptest::option::of(sample()), Probe::ALL.len() - 1);
    let times = (sample(), others).prop_map(|(load, others)| {
        let mut times = Times::NONE;
        for (probe, sample) in Probe::ALL.into_iter().zip(core::iter::once(Some(load)).chain(others)) {
            sample.into_iter().for_each(|sample| times.set(probe, sample));
        }
        times
    });
    (any::<u8>(), prop_oneof![Just(0u8), Just(3u8)], any::<u64>(), what, times)
        .prop_map(|(cpu, cpl, gpa, (pat_entry, nested), times)| Timed { cpu, cpl, gpa, pat_entry, nested, times })
}

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::Host), (any::<u8>(), 0u8..8).prop_map(|(cpu, pat_entry)| Side::Guest { cpu, pat_entry })]
}

fn aliased() -> impl Strategy<Value = Aliased> {
    let way = (any::<u64>(), side(), side(), proptest::sample::select(&Between::ALL[..]));
    (way, any::<(u32, u32, u32, bool, u64)>()).prop_map(|((gpa, store, load, between), counts)| {
        let (new, stale, other, machine_check, ticks) = counts;
        Aliased { gpa, store, load, between, new, stale, other, machine_check, ticks }
    })
}

fn ordered() -> impl Strategy<Value = Ordered> {
    (any::<(u64, u8, u8, bool)>(), 0u8..8, any::<(u32, u32, u32)>()).prop_map(
        |((gpa, writer, reader, fenced), pat_entry, (samples, moved, reordered))| Ordered {
            gpa,
            writer,
            reader,
            pat_entry,
            fenced,
            samples,
            moved,
            reordered,
        },
    )
}

fn record() -> impl Strategy<Value = Record> {
    let cpl = || prop_oneof![Just(0u8), Just(3u8)];
    let trap = || (0u8..32, any::<u32>(), cpl()).prop_map(|(vector, error, cpl)| Trap { vector, error, cpl });
    let maybe = || proptest::option::of(fault());
    prop_oneof![
        (place(), any::<u64>(), outcome()).prop_map(|(at, value, outcome)| Record::Write { at, value, outcome }),
        (place(), series(), runs(outcome(), 6)).prop_map(|(at, series, runs)| Record::Writes { at, series, runs }),
        (place(), runs(prop_oneof![any::<u64>().prop_map(Ok), fault().prop_map(Err)], 9))
            .prop_map(|(first, runs)| Record::Reads { first, runs }),
        (proptest::sample::select(&Insn::ALL[..]), cpl(), maybe()).prop_map(|(insn, cpl, fault)| Record::Exec {
            insn,
            cpl,
            fault
        }),
        (any::<u8>(), any::<bool>(), 0u8..4, cpl(), any::<u64>(), any::<u64>(), maybe()).prop_map(
            |(cpu, write, log2, cpl, gpa, value, fault)| {
                Record::Access(Access { cpu, write, width: 1 << log2, cpl, gpa, value, fault })
            }
        ),
        (any::<u8>(), cpl()).prop_map(|(cpu, cpl)| Record::Ring { cpu, cpl }),
        (any::<u8>(), trap()).prop_map(|(cpu, trap)| Record::Trap { cpu, trap }),
        (any::<u8>(), trap(), any::<u64>(), any::<u64>()).prop_map(|(cpu, trap, rip, cr2)| Record::Dead {
            cpu,
            trap,
            rip,
            cr2
        }),
        any::<(u32, u32, [u32; 4])>().prop_map(|(leaf, subleaf, registers)| Record::Cpuid(CpuidLeaf {
            leaf,
            subleaf,
            registers
        })),
        any::<u8>().prop_map(|cpu| Record::Init { cpu }),
        timed().prop_map(Record::Timed),
        timed().prop_map(Record::Reference),
        aliased().prop_map(Record::Aliased),
        ordered().prop_map(Record::Ordered),
        any::<(u64, u64)>().prop_map(|(gpa, bytes)| Record::Unreported { gpa, bytes }),
        (any::<u8>(), any::<bool>())
            .prop_map(|(cpu, sipi)| Record::Up { cpu, how: if sipi { Start::Sipi } else { Start::Direct } }),
        "[ -)+-~]{1,60}".prop_map(|reason| Record::Skip { reason }),
        "[ -)+-~]{1,60}".prop_map(|reason| Record::Panic { reason }),
    ]
}

proptest! {
    #[test]
    fn what_is_written_reads_back(run: u64, records in proptest::collection::vec(record(), 0..12)) {
        let text = stream(run, &records);
        prop_assert_eq!(read(&text, run), Ok(records));
    }

    #[test]
    fn firmware_text_before_the_start_is_passed_over(text in "[ -~\r\n]{0,200}", run: u64) {
        prop_assume!(!text.contains(VERSION));
        prop_assert_eq!(read(&(text + &stream(run, &[])), run), Ok(Vec::new()));
    }

    /// A changed byte is noticed wherever it is, but for one that makes the start line firmware text: then it all is.
    #[test]
    fn a_changed_byte_is_noticed(records in proptest::collection::vec(record(), 1..6), at: prop::sample::Index, byte in b' '..=b'~') {
        let text = stream(5, &records);
        let mut bytes = text.clone().into_bytes();
        let at = 1 + at.index(bytes.len() - 1);
        prop_assume!(bytes[at] != b'\n' && bytes[at] != byte);
        bytes[at] = byte;
        prop_assert!(read(core::str::from_utf8(&bytes).unwrap(), 5).is_err());
    }

    #[test]
    fn a_missing_or_repeated_line_is_noticed(records in proptest::collection::vec(record(), 1..6), at: prop::sample::Index, again: bool) {
        let text = stream(5, &records);
        let mut lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
        let at = at.index(lines.len());
        if again { lines.insert(at, lines[at]) } else { lines.remove(at); }
        prop_assert!(read(&lines.join("\n"), 5).is_err());
    }

    #[test]
    fn no_input_panics(text in "\\PC{0,300}", run in proptest::option::of(any::<u64>())) {
        let mut reader = Reader::new(run);
        for line in text.lines() {
            let _ = reader.line(line);
        }
        let _ = Record::parse(&text);
    }
}

#[test]
fn each_kind_of_damage_has_its_name() {
    let text = stream(5, &[Record::Init { cpu: 1 }, Record::Init { cpu: 2 }]);
    let lines: Vec<&str> = text.lines().skip(1).collect();
    let said = |lines: &[&str]| read(&lines.join("\n"), 5).unwrap_err();
    assert_eq!(said(&["SeaBIOS"]), StreamError::Empty);
    assert_eq!(said(&lines[..2]), StreamError::Truncated(2));
    assert_eq!(said(&[lines[0], lines[1], lines[1]]), StreamError::Duplicate(1));
    assert_eq!(said(&[lines[0], lines[2]]), StreamError::Lost { wanted: 1, found: 2 });
    assert_eq!(said(&[&lines[..], &["more"]].concat()), StreamError::Trailing("more".to_string()));
    assert_eq!(read(&text, 6), Err(StreamError::Stale { wanted: 6, found: 5 }));
    let other = stream(6, &[Record::Init { cpu: 1 }]);
    let foreign = other.lines().nth(2).unwrap();
    assert!(matches!(said(&[lines[0], foreign]), StreamError::Checksum { .. }));
}

/// The protocol does not change unnoticed: these are the lines in the documentation of `frame`, and what a guest sends.
#[test]
fn the_documented_example_is_what_a_writer_writes() {
    let read = Record::Reads {
        first: Place::msr(crate::layout::PAT),
        runs: vec![Run { count: 1, outcome: Ok(0x0007_0406_0007_0406) }],
    };
    let mut bytes = Vec::new();
    let mut writer = Writer::begin(Memory(&mut bytes), 0x5eed, "pat-msr", "reset");
    emit(&mut writer, &read);
    writer.finish();
    let example = "\n0 kmt2 5eed pat-msr/reset*8bf5\n1 r 277 1=7040600070406*c04d\n2 end 1*2101\n";
    assert_eq!(core::str::from_utf8(&bytes), Ok(example));
}

#[test]
fn a_long_line_is_not_quoted_in_full() {
    let garbled = |line: &str| StreamError::Checksum { wanted: 1, line: line.into() }.to_string();
    let shown =
        |n| "garbled, or a line of another run: checksum should be 0001 in \"".to_string() + &"A".repeat(n) + "\"";
    assert_eq!(garbled(&"A".repeat(160)), shown(160));
    assert_eq!(garbled(&"A".repeat(65536)), shown(160) + " and 65376 bytes more");
    // No letter is cut in two.
    let long = "\u{20ac}".repeat(60);
    assert!(garbled(&long).ends_with(" and 21 bytes more"), "{}", garbled(&long));
    assert!(StreamError::Trailing(long.clone()).to_string().ends_with(" and 21 bytes more"));
    let unknown = TextError { wanted: "a word", found: long };
    assert!(StreamError::Text(unknown).to_string().ends_with(" and 21 bytes more is not a word"));
}
