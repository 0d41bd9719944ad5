//! Tests of results: any run reads back, and one that was killed at any byte goes on.

use super::*;
use crate::busy::{Load, Loads};
use crate::host::device::Named;
use crate::host::facts::Fact;
use crate::host::module::Modules;
use crate::host::quirks::Quirks;
use crate::machine::{End, Line, Observed};
use crate::plan::vm::VmConfig;
use crate::witness::Kind;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::Path;
use wire::host::HostRecord;
use wire::register::{Place, Register};
use wire::step::{Status, Step};

pub(super) fn header(cells: &[&str]) -> Header {
    let vm = VmConfig {
        summary: "plain".to_owned(),
        maxphyaddr: Some(36),
        cpuid_mtrr: false,
        cpuid_self_snoop: false,
        disable_quirks: Quirks(1 << 9),
        non_coherent_dma: true,
        slot_type: wire::step::SlotType::Wc,
    };
    let facts = [
        ("machine", Fact::Text("kvm".to_owned())),
        ("quirks", Fact::Int(u64::MAX)),
        ("offers-ignore-guest-pat", Fact::Bool(true)),
        ("one-reg", Fact::Bool(true)),
    ];
    Header {
        run: 0xdead_beef_0123_4567,
        started: "20251120T110000Z".to_owned(),
        version: "0.1.0".to_owned(),
        guests: BTreeMap::from([("boot".to_owned(), "00ff".to_owned())]),
        machine: "kvm".to_owned(),
        suite: "smoke".to_owned(),
        filters: vec!["*".to_owned()],
        facts: facts.into_iter().collect(),
        host: BTreeMap::from([("kernel".to_owned(), "Linux 6.18 \u{e9}\n".to_owned())]),
        witnesses: BTreeSet::from([Kind::Log, Kind::Sptes]),
        devices: Named { dma: Some("stub".parse().unwrap()), ..Named::default() },
        pinned: vec![0, 3],
        busy: Loads([Load::Cpu].into()),
        policy: Some("mine".to_owned()),
        fail_fast: true,
        hostname: "xeon-1".to_owned(),
        modules: Modules { parameters: [("kvm.ignore_msrs".to_owned(), "N".to_owned())].into(), ..Modules::default() },
        shard: None,
        merged: Vec::new(),
        cells: cells
            .iter()
            .map(|&id| PlannedCell { id: id.to_owned(), vm: vm.clone(), points: 3, run: None })
            .collect(),
    }
}

fn result(cell: &str, outcome: CellOutcome) -> CellResult {
    CellResult { cell: cell.to_owned(), outcome }
}

fn skip(cell: &str) -> CellResult {
    result(cell, CellOutcome::Skip("no APIC".to_owned()))
}

/// A run with the cells a, b and c, all done, and its file.
fn run(root: &Path) -> (std::path::PathBuf, Vec<u8>) {
    let mut writer = Writer::create(root, &header(&["a", "b", "c"])).unwrap();
    let log = vec![Line::Guest("0 kmt2 \u{fffd}\u{0}\n".to_owned())];
    let observed = Observed { log, end: End::Exit(0x51), micros: 7, witness: Default::default() };
    writer.append(&result("a", CellOutcome::Observed(observed))).unwrap();
    writer.append(&skip("b")).unwrap();
    writer.append(&skip("c")).unwrap();
    let dir = writer.dir().to_owned();
    let bytes = fs::read(dir.join(OBSERVATIONS)).unwrap();
    (dir, bytes)
}

#[test]
fn a_run_has_a_directory_of_its_own_and_reads_back() {
    let root = tempfile::tempdir().unwrap();
    let header = header(&["a"]);
    let name = |number: &str| root.path().join("deep").join(format!("20251120T110000Z-kvm-smoke{number}"));
    for number in ["", "-2", "-3"] {
        let mut writer = Writer::create(&root.path().join("deep"), &header).unwrap();
        assert_eq!(writer.dir(), name(number));
        writer.append(&skip("a")).unwrap();
        let run = Run::read(writer.dir()).unwrap();
        assert_eq!((&run.header, run.results.as_slice(), run.torn), (&header, &[skip("a")][..], 0));
    }
}

#[test]
fn an_old_header_gets_the_fact_that_follows_from_another() {
    let read = |quirks: Option<u64>| {
        let mut header = header(&["a"]);
        header.facts.forget("offers-ignore-guest-pat");
        header.facts.forget("quirks");
        header.facts.extend(quirks.map(|quirks| ("quirks", Fact::Int(quirks))));
        let read = format::header(Path::new("x"), &format::first_line(&header).unwrap()).unwrap();
        read.facts.get("offers-ignore-guest-pat").cloned()
    };
    assert_eq!(read(Some(0x3ff)), Some(Fact::Bool(true)));
    assert_eq!(read(Some(0x1ff)), Some(Fact::Bool(false)));
    assert_eq!(read(None), None, "no KVM");
}

#[test]
fn a_run_cut_at_any_byte_loses_its_last_line_at_most() {
    let root = tempfile::tempdir().unwrap();
    let (dir, bytes) = run(root.path());
    let whole = Run::read(&dir).unwrap();
    let path = dir.join(OBSERVATIONS);
    for len in 0..bytes.len() {
        fs::write(&path, &bytes[..len]).unwrap();
        let lines = bytes[..len].iter().filter(|&&byte| byte == b'\n').count();
        if lines == 0 {
            let said = Run::read(&dir).unwrap_err().to_string();
            assert_eq!(said, format!("{}:1: no whole header: the run was killed before it began", path.display()));
            assert_eq!(Writer::resume(&dir).unwrap_err().to_string(), said);
            assert_eq!(fs::read(&path).unwrap().len(), len, "what cannot be read is left as it is");
            continue;
        }
        let cut = Run::read(&dir).unwrap();
        assert_eq!(cut.results, whole.results[..lines - 1]);
        assert_eq!(cut.torn, bytes[..len].rsplit(|&byte| byte == b'\n').next().unwrap().len());

        let Resumed { mut writer, header, done } = Writer::resume(&dir).unwrap();
        assert_eq!(header, whole.header);
        assert_eq!(done.len(), lines - 1);
        for result in whole.results.iter().filter(|result| !done.contains(&result.cell)) {
            writer.append(result).unwrap();
        }
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
}

#[test]
fn an_error_is_done_again_and_then_replaced() {
    let root = tempfile::tempdir().unwrap();
    let mut writer = Writer::create(root.path(), &header(&["a", "b"])).unwrap();
    let dir = writer.dir().to_owned();
    for why in ["no /dev/kvm", "still none"] {
        writer.append(&result("a", CellOutcome::Error(why.to_owned()))).unwrap();
    }
    writer.append(&skip("b")).unwrap();
    drop(writer);
    let mut resumed = Writer::resume(&dir).unwrap();
    assert_eq!(resumed.done, ["b".to_owned()].into());
    resumed.writer.append(&skip("a")).unwrap();
    assert_eq!(Run::read(&dir).unwrap().results, [skip("a"), skip("b")]);
}

#[test]
fn a_cell_that_took_the_host_down_is_not_run_again() {
    let at = |host: &str, id: &str| Boot { host: host.to_owned(), id: id.to_owned() };
    for (now, done, refused) in [
        (at("lab", "2"), vec!["a"], false),
        // The runner alone died: the cell is run again.
        (at("lab", "1"), vec![], false),
        (at("desk", "1"), vec![], true),
    ] {
        let root = tempfile::tempdir().unwrap();
        let writer = Writer::create(root.path(), &header(&["a", "b"])).unwrap();
        let dir = writer.dir().to_owned();
        drop(writer);
        let intent = Intent { boot: at("lab", "1"), ..Intent::new("a", "vga-hole") };
        intent.keep(&dir).unwrap();
        match Writer::resume_in(&dir, &now) {
            Err(error) => {
                assert!(refused && error.to_string().ends_with("on host lab; go on with it there"), "{error}");
                assert_eq!(Intent::left(&dir).unwrap(), [intent]);
            }
            Ok(resumed) => {
                assert!(!refused);
                assert_eq!(resumed.done, done.iter().map(|&id| id.to_owned()).collect());
                assert_eq!(Intent::left(&dir).unwrap(), [], "it is told once");
                let died = done.iter().map(|id| result(id, CellOutcome::Died(intent.words(&now)))).collect::<Vec<_>>();
                assert_eq!(Run::read(&dir).unwrap().results, died);
            }
        }
    }
}

#[test]
fn an_intent_of_a_cell_that_has_a_result_says_nothing() {
    let root = tempfile::tempdir().unwrap();
    let mut writer = Writer::create(root.path(), &header(&["a"])).unwrap();
    let dir = writer.dir().to_owned();
    writer.append(&skip("a")).unwrap();
    drop(writer);
    Intent::new("a", "vga-hole").keep(&dir).unwrap();
    let elsewhere = Boot { host: "desk".to_owned(), id: String::new() };
    assert_eq!(Writer::resume_in(&dir, &elsewhere).unwrap().done, ["a".to_owned()].into());
    assert_eq!((Run::read(&dir).unwrap().results, Intent::left(&dir).unwrap()), (vec![skip("a")], vec![]));
}

#[test]
fn one_process_at_a_time_writes_a_run() {
    let root = tempfile::tempdir().unwrap();
    let writer = Writer::create(root.path(), &header(&["a"])).unwrap();
    let dir = writer.dir().to_owned();
    let said = format!("{}: another process is writing this run; wait until it has ended", dir.display());
    assert_eq!(Writer::resume(&dir).unwrap_err().to_string(), said);
    assert!(Run::read(&dir).is_ok(), "reading is always possible");
    drop(writer);
    assert!(Writer::resume(&dir).is_ok());
}

#[test]
fn a_bad_line_is_named() {
    let root = tempfile::tempdir().unwrap();
    let (dir, bytes) = run(root.path());
    let text = String::from_utf8(bytes).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    for (number, line, said) in [
        (1, "", "column 0: EOF while parsing a value"),
        (1, "{}", "column 2: missing field `format`"),
        (1, r#"{"format":2,"title":{}}"#, "a file of format 2, but this kvm-memtype reads format 4"),
        (1, r#"{"format":4,"title":{}}"#, "column 19: unknown field `title`, expected `format` or `header`"),
        (2, "", "column 0: EOF while parsing a value"),
        (2, r#"{"cell":"a","outcome":{"skip":"x"}}}"#, "column 36: trailing characters"),
        (
            2,
            r#"{"cell":"a","outcome":{"skipped":"x"}}"#,
            "column 32: unknown variant `skipped`, expected one of `observed`, `skip`, `died`, `error`",
        ),
        (3, r#"{"cell":"d","outcome":{"skip":"x"}}"#, "cell `d` is not in the plan on line 1"),
        (4, r#"{"cell":"b","outcome":{"skip":"x"}}"#, "cell `b` has a result on line 3 already"),
        (
            4,
            r#"{"cell":"c","outcome":{"observed":{"log":["?"],"end":"shutdown","micros":1}}}"#,
            "column 45: \"?\" is no line of a log: it starts with none of < (guest), > (host) and | (console)",
        ),
    ] {
        let mut bad = lines.clone();
        bad[number - 1] = line;
        fs::write(dir.join(OBSERVATIONS), bad.join("\n") + "\n").unwrap();
        let wanted = format!("{}:{number}: {said}", dir.join(OBSERVATIONS).display());
        assert_eq!(Run::read(&dir).unwrap_err().to_string(), wanted);
        assert_eq!(Writer::resume(&dir).unwrap_err().to_string(), wanted);
    }
}

#[test]
fn a_later_line_in_a_file_that_was_torn_is_not_passed_over() {
    let root = tempfile::tempdir().unwrap();
    let (dir, bytes) = run(root.path());
    let path = dir.join(OBSERVATIONS);
    fs::write(&path, &bytes[..bytes.len() - 5]).unwrap();
    fs::File::options().append(true).open(&path).unwrap().write_all(b"\n").unwrap();
    let said = Run::read(&dir).unwrap_err().to_string();
    assert!(said.starts_with(&format!("{}:4: column ", path.display())), "{said}");
}

fn line() -> impl Strategy<Value = Line> {
    let place = || {
        let register = prop_oneof![any::<u32>().prop_map(Register::Msr), Just(Register::Cr0), Just(Register::Lmsw)];
        (any::<u8>(), register).prop_map(|(cpu, register)| Place { cpu, register })
    };
    prop_oneof![
        any::<String>().prop_map(Line::Guest),
        any::<String>().prop_map(Line::Console),
        proptest::collection::vec(any::<char>(), 0..40).prop_map(|chars| Line::Guest(chars.into_iter().collect())),
        (place(), any::<u64>()).prop_map(|(at, value)| Line::Host(HostRecord::Reset { at, value })),
        any::<(u8, u8, u64, u64)>().prop_map(|(cpu, width, gpa, value)| Line::Host(HostRecord::MmioRead {
            cpu,
            width,
            gpa,
            value
        })),
        any::<(u8, u32, u64, u32)>().prop_map(|(cpu, index, value, errno)| {
            let step = Step::SetMsr { cpu, index, value };
            Line::Host(HostRecord::Step { step, status: Status::Errno(errno), value })
        }),
    ]
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        any::<u32>().prop_map(End::Exit),
        Just(End::Shutdown),
        Just(End::Halt),
        any::<Option<u64>>().prop_map(|rip| End::Timeout { rip }),
        Just(End::Flood),
        any::<(u32, u64, Vec<u8>)>().prop_map(|(suberror, rip, bytes)| End::InternalError { suberror, rip, bytes }),
        any::<u64>().prop_map(|reason| End::FailEntry { reason }),
        any::<String>().prop_map(End::Unexpected),
    ]
}

fn outcome() -> impl Strategy<Value = CellOutcome> {
    let log = proptest::collection::vec(line(), 0..8);
    let observed = (log, end(), any::<u64>()).prop_map(|(log, end, micros)| Observed {
        log,
        end,
        micros,
        witness: Default::default(),
    });
    prop_oneof![
        4 => observed.prop_map(CellOutcome::Observed),
        1 => any::<String>().prop_map(CellOutcome::Skip),
        1 => any::<String>().prop_map(CellOutcome::Error),
    ]
}

proptest! {
    #[test]
    fn any_result_reads_back_from_its_line(cell: String, outcome in outcome()) {
        let result = CellResult { cell, outcome };
        let bytes = format::line(&result).unwrap();
        prop_assert_eq!(bytes.iter().position(|&byte| byte == b'\n'), Some(bytes.len() - 1));
        prop_assert_eq!(format::value::<CellResult>(Path::new("x"), 2, &bytes).unwrap(), result);
    }

    #[test]
    fn any_bytes_are_a_run_or_an_error(bytes: Vec<u8>, keep in 0..1200usize) {
        let dir = tempfile::tempdir().unwrap();
        let mut good = format::first_line(&header(&["a", "b"])).unwrap();
        good.extend(format::line(&skip("a")).unwrap());
        let bytes = [&good[..keep.min(good.len())], &bytes].concat();
        fs::write(dir.path().join(OBSERVATIONS), &bytes).unwrap();
        if let Ok(run) = Run::read(dir.path()) {
            prop_assert!(run.whole + run.torn == bytes.len());
        }
    }
}
