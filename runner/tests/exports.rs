//! Exports of runs, each read by somebody else's reader (ci/readers): the kernel's kunit_parser, the schema of Jenkins' xUnit
//! plugin, the published JSON schema, a CommonMark reader, kcidb-io, and promtool with Prometheus' Python client. So is the bill of
//! materials of a release, by CycloneDX's library.

mod common;

use common::{kvm, skip};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// What a reader made of a text in `format`, or why it refuses it; nothing where the reader is not there, which is a skip.
fn read(format: &str, text: &str) -> Option<Result<Value, String>> {
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), text).expect("a text");
    let python = repository().join("target/readers/python/bin/python");
    let check = repository().join("ci/readers/check.py");
    let lacking = |what: &str| skip(&format!("{what}: ci/readers/setup fetches what reads {format}"));
    let Ok(output) = Command::new(&python).arg(check).arg(format).arg(file.path()).output() else {
        lacking(&format!("no {}", python.display()));
        return None;
    };
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    match output.status.code() {
        Some(0) => Some(Ok(serde_json::from_slice(&output.stdout).expect("what a reader counted"))),
        // An exception that nobody expected ends Python so as well, and is no refusal.
        Some(1) if !said.starts_with("Traceback") => Some(Err(said)),
        Some(2) => {
            lacking(&said);
            None
        }
        _ => panic!("{format}: {output:?}"),
    }
}

/// The reference results of stock Linux 6.1, which have known deviations and skips, exported.
fn exported(format: &str) -> String {
    let kernels = fs::read_dir(repository().join("results/reference/bochs-vmx")).expect("the lab's results");
    let mut kernels = kernels.map(|entry| entry.expect("a directory entry").path());
    let kernel = kernels.find(|path| path.display().to_string().contains("/6.1.")).expect("Linux 6.1");
    let output = Command::new(env!("CARGO_BIN_EXE_kvm-memtype"))
        .args(["report", "--format", format, "--kcidb-origin", "my_lab"])
        .arg(kernel.join("memtype"))
        .output()
        .expect("report");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// What a run of one cell on this host's KVM prints as it goes, twice.
fn repeated() -> Option<String> {
    kvm()?;
    let results = tempfile::tempdir().expect("a directory");
    let output = Command::new(env!("CARGO_BIN_EXE_kvm-memtype"))
        .args(["run", "--machine", "kvm", "--suite", "smoke", "boot/hello", "--repeat", "2", "--format", "json"])
        .arg("--results")
        .arg(results.path())
        .output()
        .expect("run");
    Some(String::from_utf8(output.stdout).expect("UTF-8"))
}

/// The cells of the reference run by verdict, as its own JSON has them.
fn verdicts() -> BTreeMap<String, u64> {
    let text = exported("json");
    let sum: Value = serde_json::from_str(text.lines().last().expect("a sum")).expect("JSON");
    let verdicts: BTreeMap<String, u64> = serde_json::from_value(sum["summary"]["verdicts"].clone()).expect("counts");
    assert!(verdicts["pass"] > 50 && verdicts["xfail"] > 0 && verdicts["skip"] > 0, "{verdicts:?}");
    verdicts
}

/// An export of a run with one cell of each verdict, by the unit tests' golden file.
fn every_verdict(ending: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/report/export/golden/every-verdict");
    fs::read_to_string(path.with_extension(ending)).expect("a golden file")
}

/// Each of these replacements damages a text so that the reader refuses it; else it would take anything.
fn refuses(format: &str, text: &str, damages: &[(&str, &str)]) {
    for (from, to) in damages {
        assert!(text.contains(from), "{format}: nothing to damage: {from}");
        let damaged = text.replacen(from, to, 1);
        let Some(read) = read(format, &damaged) else { return };
        assert!(read.is_err(), "{format}: {from} -> {to} is read as {}", read.unwrap_or_default());
    }
    let cut = &text[..text.len() * 2 / 3];
    assert!(read(format, cut).is_none_or(|read| read.is_err()), "{format}: a text that is cut is read");
}

#[test]
fn ktap_is_read_by_the_kernels_parser() {
    let text = exported("ktap");
    let Some(read_as) = read("ktap", &text) else { return };
    let (read_as, cells) = (read_as.unwrap_or_else(|error| panic!("{error}")), verdicts());
    // It knows no XFAIL, so that a known deviation is what stands before it: ok.
    assert_eq!(read_as["passed"], cells["pass"] + cells["xfail"]);
    assert_eq!((&read_as["skipped"], &read_as["failed"]), (&cells["skip"].into(), &0.into()));
    assert_eq!(read_as["depth"], 3, "a run, its families, their cells");
    let every = read("ktap", &every_verdict("ktap")).expect("a reader").unwrap_or_else(|error| panic!("{error}"));
    let of = |status: &str| -> Vec<String> {
        let cells = every["cells"].as_object().expect("cells").iter();
        let named = cells.filter(|(_, is)| *is == status);
        named.map(|(cell, _)| cell.split(['/', '@']).nth(1).expect("a test").to_owned()).collect()
    };
    let sorted = |status| {
        let mut cells = of(status);
        cells.sort();
        cells
    };
    assert_eq!(sorted("SUCCESS"), ["pass", "xfail"]);
    assert_eq!(sorted("SKIPPED"), ["inconclusive", "skip"]);
    assert_eq!(sorted("FAILURE"), ["crash", "error", "fail", "not-run", "timeout", "xpass"]);
    let damages = [
        ("1..1\n", "1..2\n"),
        ("    ok 2 ", "    ok 3 "),
        ("KTAP version 1", "KTAP version 9"),
        ("    ok 1 ", "    OK 1 "),
    ];
    refuses("ktap", &text, &damages);
}

#[test]
fn junit_is_valid_by_the_schema_of_jenkins() {
    let text = exported("junit");
    let Some(read_as) = read("junit", &text) else { return };
    let cells = verdicts();
    let all: u64 = cells.values().sum();
    let expected = json!({ "tests": all, "failures": 0, "errors": 0, "skipped": cells["skip"] + cells["xfail"] });
    assert_eq!(read_as, Ok(expected));
    let every = read("junit", &every_verdict("xml"));
    assert_eq!(every, Some(Ok(json!({ "tests": 10, "failures": 4, "errors": 2, "skipped": 3 }))));
    refuses(
        "junit",
        &every_verdict("xml"),
        &[
            ("</testsuite>", ""),
            ("<testcase name=", "<testcase id="),
            ("failures=\"1\"", "failures=\"7\""),
            ("&amp;", "&"),
            ("time=\"0.002\"", "seconds=\"0.002\""),
            ("<failure", "<wrong"),
        ],
    );
}

#[test]
fn json_is_as_its_schema_says() {
    let text = exported("json");
    let Some(read_as) = read("json", &text) else { return };
    let (read_as, cells) = (read_as.unwrap_or_else(|error| panic!("{error}")), verdicts());
    assert_eq!(read_as["verdicts"], json!(cells));
    assert_eq!(read_as["lines"], json!({ "format": 1, "cell": cells.values().sum::<u64>(), "summary": 1 }));
    if let Some(text) = repeated() {
        let read_as = read("json", &text).expect("a reader").unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(read_as["lines"], json!({ "format": 2, "cell": 2, "summary": 2, "repetitions": 1 }));
    }
    refuses(
        "json",
        &text,
        &[
            ("\"verdict\":\"xfail\"", "\"verdict\":\"passed\""),
            ("\"verdict\":\"xfail\"", "\"verdict\":\"pass\""),
            ("\"micros\":null,", ""),
            ("\"format\":1", "\"format\":2"),
            ("\"points\":", "\"more\":1,\"points\":"),
            ("\"as-expected\":true", "\"as-expected\":1"),
        ],
    );
}

#[test]
fn markdown_is_read_as_tables_and_plain_text() {
    let text = exported("markdown");
    let Some(read_as) = read("markdown", &text) else { return };
    let (read_as, cells) = (read_as.unwrap_or_else(|error| panic!("{error}")), verdicts());
    let table = read_as["tables"][0].as_array().expect("a table");
    let (head, all) = (&table[0], table.last().expect("a row"));
    let column = |name: &str| head.as_array().and_then(|head| head.iter().position(|it| it == name)).expect("a column");
    for (verdict, count) in &cells {
        assert_eq!(all[column(verdict)], count.to_string(), "{verdict}");
    }
    assert!(matches!(read("markdown", &every_verdict("md")), Some(Ok(_))));
    refuses(
        "markdown",
        &every_verdict("md"),
        &[("|---|", "|"), ("</details>", ""), ("&lt;i7&gt;", "<i7>"), (r"\`x\`", "*x*")],
    );
}

#[test]
fn a_submission_is_valid_by_kcidb_io() {
    let text = exported("kcidb");
    let Some(read_as) = read("kcidb", &text) else { return };
    let (read_as, cells) = (read_as.unwrap_or_else(|error| panic!("{error}")), verdicts());
    assert_eq!(read_as["statuses"], json!({ "PASS": cells["pass"], "SKIP": cells["skip"], "FAIL": cells["xfail"] }));
    let objects = &read_as["objects"];
    assert_eq!((&objects["tests"], &objects["builds"]), (&cells.values().sum::<u64>().into(), &1.into()));
    assert_eq!(objects["incidents"], cells["xfail"], "each known deviation is an incident of an issue");
    let every =
        read("kcidb", &every_verdict("kcidb.json")).expect("a reader").unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(every["statuses"], json!({ "PASS": 1, "FAIL": 4, "SKIP": 1, "DONE": 1, "ERROR": 2, "MISS": 1 }));
    refuses(
        "kcidb",
        &text,
        &[
            ("\"status\": \"PASS\"", "\"status\": \"OK\""),
            ("\"build_id\": \"my_lab:", "\"build_id\": \"my_lab:other"),
            ("\"path\": \"kvm-memtype.", "\"path\": \"kvm-memtype/"),
            ("\"origin\": \"my_lab\"", "\"origin\": \"My Lab\""),
            ("\"minor\": 3", "\"minor\": 9"),
        ],
    );
}

#[test]
fn metrics_are_as_promtool_and_the_client_want_them() {
    let text = exported("prometheus");
    let Some(read_as) = read("prometheus", &text) else { return };
    let (read_as, cells) = (read_as.unwrap_or_else(|error| panic!("{error}")), verdicts());
    for (verdict, count) in read_as["verdicts"].as_object().expect("counts") {
        assert_eq!(*count, cells.get(verdict).copied().unwrap_or(0), "{verdict}");
    }
    let series: u64 = read_as["series"].as_object().expect("series").values().filter_map(Value::as_u64).sum();
    assert!(series < 50, "{series} series");
    let every = every_verdict("prom");
    assert_eq!(
        read("prometheus", &every).expect("a reader").expect("metrics")["series"]["kvm_memtype_cell_unexpected_info"],
        6
    );
    refuses(
        "prometheus",
        &every,
        &[
            ("# HELP kvm_memtype_run_cells", "# kvm_memtype_run_cells"),
            ("\\\"Core\\\"", "\"Core\""),
            ("verdict=\"pass\"} 1", "verdict=\"pass\"} one"),
            ("kernel=", "2kernel="),
            ("_timestamp_seconds gauge", "_timestamp_seconds number"),
        ],
    );
}

#[test]
fn the_bill_of_materials_names_what_is_linked_in() {
    let Ok(output) = Command::new(repository().join("ci/sbom")).env("SOURCE_DATE_EPOCH", "1").output() else {
        return skip("there is no python3 to make the bill of materials with");
    };
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let Some(made) = read("cyclonedx", &text) else { return };
    let made = made.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(made["of"], "kvm-memtype");
    // Of the runner, of the guests, and of both; and none that only tests or builds use.
    for linked in ["kvm-ioctls", "x86", "wire", "guest", "rom", "rusqlite"] {
        assert!(made["components"][linked].is_string(), "{linked} is missing: {made}");
    }
    for other in ["proptest", "snapbox", "tempfile", "cc", "serde_derive"] {
        assert!(made["components"][other].is_null(), "{other} is not linked in: {made}");
    }
    for (from, to) in
        [("\"specVersion\"", "\"version-of-spec\""), ("\"dependsOn\": [\n    \"pkg", "\"dependsOn\": [\n    \"none")]
    {
        let damaged = text.replacen(from, to, 1);
        assert!(damaged != text && read("cyclonedx", &damaged).expect("the reader").is_err(), "{from}");
    }
}
