//! Shards, end to end: a plan that is run in four parts and merged has the report of a plan that is run at once.

mod common;

use common::kvm;
use serde_json::Value;
use snapbox::cmd::cargo_bin;
use std::path::Path;
use std::process::{Command, Output};

/// Cells that this host decides, and some that it skips.
const FILTERS: [&str; 3] = ["pat-msr", "mmio", "smp"];

fn kvm_memtype(results: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(cargo_bin!("kvm-memtype"));
    command.arg("--results").arg(results).args(arguments).output().expect("kvm-memtype")
}

/// Runs the cells of a shard, or all.
fn run(results: &Path, shard: Option<&str>) {
    let mut arguments = vec!["run", "--machine", "kvm"];
    arguments.extend(FILTERS);
    arguments.extend(shard.iter().flat_map(|shard| ["--shard", *shard]));
    let output = kvm_memtype(results, &arguments);
    assert!(output.status.success(), "{shard:?}: {output:?}");
}

/// The verdicts of the only run in a directory, and the sum, by cell, without times and the run's id.
fn verdicts(results: &Path) -> Vec<Value> {
    let output = kvm_memtype(results, &["report", "--format", "json"]);
    let said = String::from_utf8(output.stdout).expect("UTF-8");
    let mut lines: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    for line in &mut lines {
        for at in ["/micros", "/summary/micros", "/run/id", "/run/started"] {
            line.pointer_mut(at).into_iter().for_each(|it| *it = Value::Null);
        }
    }
    lines.sort_by_key(|line| line["cell"].to_string());
    assert!(lines.len() > 10, "{said}");
    lines
}

/// Whether two directories have runs of the same report.
fn same(one: &Path, other: &Path) {
    let [one, other] = [one, other].map(verdicts);
    assert_eq!(one.len(), other.len());
    for (one, other) in one.iter().zip(&other) {
        assert_eq!(one, other);
    }
}

#[test]
fn one_run_and_four_shards_have_the_same_report() {
    if kvm().is_none() {
        return;
    }
    let [whole, parts, merged] = [(); 3].map(|()| tempfile::tempdir().expect("a directory"));
    run(whole.path(), None);
    for shard in ["3/4", "1/4", "4/4", "2/4"] {
        run(parts.path(), Some(shard));
    }
    let mut dirs: Vec<String> = std::fs::read_dir(parts.path())
        .expect("runs")
        .map(|entry| entry.expect("an entry").path().display().to_string())
        .collect();
    let merge = |dirs: &[String]| {
        let arguments: Vec<&str> = ["merge"].into_iter().chain(dirs.iter().map(String::as_str)).collect();
        kvm_memtype(merged.path(), &arguments)
    };
    let output = merge(&dirs);
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("4 of 4 shards merged"), "{output:?}");
    same(merged.path(), whole.path());

    // Judging it again keeps it so, and nobody goes on with it.
    assert!(kvm_memtype(merged.path(), &["judge", "latest"]).status.success());
    same(merged.path(), whole.path());
    let resumed = kvm_memtype(merged.path(), &["run", "--resume", "latest"]);
    assert!(String::from_utf8_lossy(&resumed.stderr).contains("merged of shards"), "{resumed:?}");

    // A shard that is missing is no pass.
    std::fs::remove_dir_all(dirs.pop().expect("a shard")).expect("it goes");
    let output = merge(&dirs);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("not-run") && said.contains("its shard is missing"), "{said}");
    assert!(said.contains("3 of 4 shards merged"), "{said}");
    let twice = merge(&[dirs[0].clone(), dirs[0].clone()]);
    assert_eq!(twice.status.code(), Some(2), "{twice:?}");
}

#[test]
fn parts_are_listed_as_they_are_run() {
    let results = tempfile::tempdir().expect("a directory");
    let list = |arguments: &[&str]| {
        let output = kvm_memtype(results.path(), &[&["list", "--format", "json"], arguments].concat());
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("UTF-8").lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let all = list(&[]);
    let mut parts: Vec<String> = ["1/3", "2/3", "3/3"].iter().flat_map(|part| list(&["--shard", part])).collect();
    parts.sort_by_key(|line| all.iter().position(|known| known == line));
    assert_eq!(parts, all);
}
