//! The reference results: what stock kernels were really seen to do is what the present models expect.

use kvm_memtype::config::{Set, Source};
use kvm_memtype::guests;
use kvm_memtype::judge::{Deviations, Judge};
use kvm_memtype::model::policy::Policies;
use kvm_memtype::plan::TestRef;
use kvm_memtype::report::{self, Proposal};
use kvm_memtype::results::Run;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

fn reference() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../results/reference")
}

/// The directories of runs under `dir`, at any depth.
fn runs(dir: &Path, found: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    for path in entries.map(|entry| entry.expect("a directory entry").path()) {
        if path.is_dir() {
            runs(&path, found);
        } else if path.file_name() == Some(OsStr::new("observations.jsonl.gz")) {
            found.push(dir.to_owned());
        }
    }
}

/// Judges a run in a copy, so that the tree stays as it is, and gives the cells by verdict.
fn judge(run: &Path) -> BTreeMap<String, usize> {
    let copy = tempfile::tempdir().expect("a directory");
    fs::copy(run.join("observations.jsonl.gz"), copy.path().join("observations.jsonl.gz")).expect("a copy");
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvm-memtype"));
    // A patched kernel's rules are beside its results.
    let config = run.join("../config");
    if config.is_dir() {
        command.arg("--config").arg(config);
    }
    let output = command.arg("judge").arg(copy.path()).output().expect("judge");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}:\n{said}{}", run.display(), String::from_utf8_lossy(&output.stderr));
    let verdicts = fs::read_to_string(copy.path().join("verdicts.jsonl")).expect("verdicts");
    let mut cells = BTreeMap::new();
    for line in verdicts.lines() {
        let verdict: serde_json::Value = serde_json::from_str(line).expect("a verdict");
        *cells.entry(verdict["judgement"]["verdict"].as_str().expect("a word").to_owned()).or_default() += 1;
    }
    cells
}

#[test]
fn every_reference_run_is_as_the_models_expect() {
    let mut found = Vec::new();
    runs(&reference(), &mut found);
    let mut suites = BTreeMap::<String, usize>::new();
    for run in &found {
        let cells = judge(run);
        assert!(cells.get("pass").is_some_and(|&passed| passed > 0), "{}: nothing passes: {cells:?}", run.display());
        *suites.entry(run.file_name().expect("a name").to_string_lossy().into_owned()).or_default() += 1;
    }
    // Three stock kernels, and each with the suites of the lab; bare metal once.
    assert!(suites["default"] >= 3 && suites["memtype"] >= 3 && suites["bare"] >= 1, "{suites:?}");
}

/// The directory of the stock kernel of a series.
fn kernel(series: &str) -> PathBuf {
    let kernels = fs::read_dir(reference().join("bochs-vmx")).expect("the lab's results");
    let mut dirs = kernels.map(|entry| entry.expect("a directory entry").path());
    dirs.find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(series)))
        .unwrap_or_else(|| panic!("no directory of Linux {series}"))
}

#[test]
fn what_linux_6_1_does_otherwise_is_found_again() {
    let cells = judge(&kernel("6.1.").join("memtype"));
    assert_eq!(cells.get("xfail"), Some(&5), "{cells:?}");
}

/// The policies that explain all of a run, as `identify` has it.
fn explaining(run: &Path) -> Vec<String> {
    let arguments = ["identify", "--format", "json"];
    let output = Command::new(env!("CARGO_BIN_EXE_kvm-memtype")).args(arguments).arg(run).output().expect("identify");
    assert_eq!(output.status.code(), Some(0), "{}: {output:?}", run.display());
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(said["bears-on-memory-types"], true, "{}", run.display());
    let policies = said["policies"].as_array().expect("policies").iter();
    let explaining = policies.filter(|policy| policy["standing"] == "explains");
    let mut names: Vec<String> =
        explaining.map(|policy| policy["policy"].as_str().expect("an id").to_owned()).collect();
    names.sort();
    names
}

#[test]
fn each_kernel_that_can_be_told_is_identified() {
    let kernels = fs::read_dir(reference().join("bochs-vmx")).expect("the lab's results");
    let mut identified = BTreeMap::<&str, usize>::new();
    for dir in kernels.map(|entry| entry.expect("a directory entry").path()) {
        let name = dir.file_name().expect("a name").to_string_lossy().into_owned();
        let (kernel, expected): (_, &[_]) = match name.as_str() {
            // The quirk is not offered there, and with it in force the releases since 6.11 have the same rules.
            name if name.contains("clearcpuid=ss") => ("no self-snoop", &["kvm-6.11", "kvm-6.11-rc", "kvm-6.16"]),
            name if name.starts_with("6.1.") => ("6.1", &["kvm-pre-6.7"]),
            name if name.starts_with("6.12.") => ("6.12", &["kvm-6.16"]),
            name if name.starts_with("7.2.") => ("7.2", &["kvm-6.16"]),
            _ => continue,
        };
        assert_eq!(explaining(&dir.join("memtype")), expected, "{name}");
        *identified.entry(kernel).or_default() += 1;
    }
    assert_eq!(identified.len(), 4, "{identified:?}");
}

/// What `diff` says of two sides, and its exit code.
fn diff(from: &Path, to: &Path) -> (serde_json::Value, Option<i32>) {
    let output = Command::new(env!("CARGO_BIN_EXE_kvm-memtype"))
        .args(["diff", "--format", "json"])
        .args([from, to])
        .output()
        .expect("diff");
    let said = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    (said, output.status.code())
}

#[test]
fn what_a_newer_kernel_does_otherwise_is_no_regression() {
    let (said, code) = diff(&kernel("6.1."), &kernel("6.12."));
    assert_eq!(code, Some(0), "{}", said["changed"]);
    let seen = said["seen"].as_array().expect("differences");
    let has = |what: &str, from: &str, to: &str, at: &str| {
        seen.iter()
            .any(|it| it["what"] == what && it["from"] == from && it["to"] == to && it["axes"].to_string().contains(at))
    };
    assert!(has("effective type", "WC", "WB", "non-coherent-dma"), "guest MTRRs are honoured no more");
    assert!(has("leaves zapped", "none", "all", "non-coherent DMA plugged in"), "a device zaps");
    let (said, code) = diff(&kernel("6.12."), &kernel("6.12."));
    assert_eq!((code, said["seen"].as_array().map(Vec::len)), (Some(0), Some(0)));
}

/// The same observations, held against rules that are not this kernel's, stand for a kernel that broke them.
#[test]
fn a_kernel_that_breaks_its_rules_is_a_regression() {
    let stock = kernel("6.12.").join("memtype");
    let file = fs::File::open(stock.join("observations.jsonl.gz")).expect("observations");
    let mut text = String::new();
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).expect("a compressed text");
    let (header, rest) = text.split_once('\n').expect("a header");
    let mut header: serde_json::Value = serde_json::from_str(header).expect("a header");
    header["header"]["policy"] = "kvm-pre-6.7".into();
    let copy = tempfile::tempdir().expect("a directory");
    fs::write(copy.path().join("observations.jsonl"), format!("{header}\n{rest}")).expect("a copy");
    let (said, code) = diff(&stock, copy.path());
    assert_eq!(code, Some(1));
    assert_eq!(said["seen"].as_array().map(Vec::len), Some(0), "the same was seen");
    let first = &said["changed"][0];
    assert_eq!(
        (&first["kind"], &first["from"], &first["to"]),
        (&"newly-failing".into(), &"pass".into(), &"fail".into())
    );
    let (said, code) = diff(copy.path(), &stock);
    assert_eq!((code, &said["changed"][0]["kind"]), (Some(0), &"mended".into()));
}

/// What the kernel of a series answers to a proposal, in words.
fn answers(series: &str, proposal: &str) -> String {
    let set = Set::load(None).expect("configurations");
    let sources = |kind| set.sources(kind).map(|(_, source)| source);
    let policies = Policies::load(sources("policies")).expect("policies");
    let tests: Vec<String> = guests::tests().expect("tests").iter().map(TestRef::id).collect();
    let deviations = Deviations::load(sources("deviations"), &tests).expect("deviations");
    let run = Run::read(&kernel(series).join("memtype")).expect("a run");
    let cells: Vec<String> = run.header.cells.iter().map(|cell| cell.id.clone()).collect();
    let source = Source { name: "proposal.toml".into(), text: format!("summary = \"a proposal\"\n{proposal}") };
    let proposal = Proposal::read(&source, &policies, &cells).unwrap_or_else(|error| panic!("{error}"));
    let found = report::answers(&Judge::new(&policies, &deviations), &policies, &proposal, &run);
    found.iter().map(|(answer, count)| format!("{answer} {count}")).collect::<Vec<_>>().join(", ")
}

#[test]
fn a_proposal_is_honoured_where_its_policy_holds_and_no_other_does() {
    const CELLS: &str =
        "cells = [\"memtype/mtrr-types@non-coherent-dma\", \"memtype/default-type@non-coherent-dma\"]\n";
    let removed = format!("{CELLS}policy = \"kvm-6.11\"\ninstead-of = [\"kvm-pre-6.7\"]\n");
    assert_eq!(answers("6.1.", &removed), "ignored 2");
    assert_eq!(answers("6.12.", &removed), "honoured 2");
    let kept = format!("{CELLS}policy = \"kvm-pre-6.7\"\ninstead-of = [\"kvm-6.11\"]\n");
    assert_eq!((answers("6.1.", &kept), answers("7.2.", &kept)), ("honoured 2".into(), "ignored 2".into()));
    // Both differ in what CR0.CD does; each kernel has its own way.
    let cd = "cells = [\"memtype/cd@non-coherent-dma\"]\npolicy = \"kvm-pre-6.7\"\ninstead-of = [\"kvm-6.7\"]\n";
    assert_eq!((answers("6.1.", cd), answers("7.2.", cd)), ("honoured 1".into(), "ignored 1".into()));
    // They say the same of it.
    let same = "cells = [\"memtype/mtrr-types\"]\npolicy = \"kvm-6.11\"\ninstead-of = [\"kvm-pre-6.7\"]\n";
    assert_eq!(answers("7.2.", same), "open 1");
    let asked = format!("{CELLS}asks = \"no-such-fact\"\n");
    assert_eq!((answers("6.1.", &asked), answers("6.1.", CELLS)), ("refused 2".into(), "honoured 2".into()));
}
