//! History, end to end: asked of reference results that were judged here.

use snapbox::cmd::cargo_bin;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// A cell that Linux 6.1 has as a known deviation, and 7.2 as it should be.
const CELL: &str = "memtype/overlap-uc-above@non-coherent-dma";

fn kvm_memtype(results: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(cargo_bin!("kvm-memtype"));
    command.arg("--results").arg(results).args(arguments).output().expect("kvm-memtype")
}

fn said(results: &Path, arguments: &[&str]) -> String {
    let output = kvm_memtype(results, arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn all_runs_are_asked_at_once() {
    let results = tempfile::tempdir().expect("a directory");
    let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("../results/reference/bochs-vmx");
    for kernel in fs::read_dir(reference).expect("reference results").map(|entry| entry.expect("an entry").path()) {
        let run = results.path().join(kernel.file_name().expect("a name")).join("memtype");
        fs::create_dir_all(&run).expect("a directory");
        let file = "observations.jsonl.gz";
        fs::copy(kernel.join("memtype").join(file), run.join(file)).expect("a copy");
    }
    // Nobody has judged them yet: each is left out, and named.
    let output = kvm_memtype(results.path(), &["history"]);
    let left_out = String::from_utf8_lossy(&output.stderr).matches("it has no verdicts").count();
    assert_eq!((output.status.code(), left_out), (Some(0), 4), "{output:?}");
    for kernel in fs::read_dir(results.path()).expect("runs").map(|entry| entry.expect("an entry").path()) {
        if kernel.is_dir() {
            said(results.path(), &["judge", &kernel.join("memtype").display().to_string()]);
        }
    }
    let overview = said(results.path(), &["history"]);
    assert!(overview.starts_with("4 runs with "), "{overview}");
    assert!(overview.contains("not as expected in the last run: none"), "{overview}");

    let told = said(results.path(), &["history", CELL]);
    let verdict = |line: &&str| line.starts_with("    xfail ") || line.starts_with("    pass ");
    assert_eq!(
        told.lines().filter(|line| *line == CELL).count(),
        4,
        "one for each kernel's series and variant: {told}"
    );
    let variant = told.lines().filter(|line| line.starts_with("  Linux 7.2") && line.ends_with("self-snoop=false"));
    assert_eq!(variant.count(), 1, "a variant by its command line is named by what it changes: {told}");
    assert_eq!(told.lines().filter(verdict).filter(|line| line.contains("xfail")).count(), 1, "{told}");

    // An id picks its cell alone, whatever other filters pick.
    let cells = |filters: &[&str]| {
        let lines = said(results.path(), &[&["history", "--format", "json"], filters].concat());
        let mut cells: Vec<String> = lines
            .lines()
            .map(|line| {
                let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
                line["cell"].as_str().expect("a cell").to_owned()
            })
            .collect();
        cells.dedup();
        cells
    };
    assert_eq!(cells(&[CELL, "memtype/mov*"]), ["memtype/move", "memtype/move@non-coherent-dma", CELL]);
    let output = kvm_memtype(results.path(), &["history", CELL, "memtype/mvoe"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(error.contains("fits the filter `memtype/mvoe`, did you mean `memtype/move`?"), "{error}");
}
