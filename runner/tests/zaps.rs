//! Boots that program MTRRs, end to end: replayed on /dev/kvm, and what they cost as a table.

mod common;

use common::{kvm, skip};
use kvm_memtype::witness::Kind;
use snapbox::cmd::cargo_bin;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn kvm_memtype(results: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(cargo_bin!("kvm-memtype"));
    command.arg("--results").arg(results).args(arguments).output().unwrap()
}

#[test]
fn a_boot_has_its_row() {
    if kvm().is_none() {
        return;
    }
    let results = tempfile::tempdir().unwrap();
    let run = kvm_memtype(results.path(), &["run", "--machine", "kvm", "--suite", "zaps", "zaps/seabios-2-2g"]);
    assert!(run.status.success(), "{run:?}");
    let report = kvm_memtype(results.path(), &["report", "--zaps"]);
    assert!(report.status.success(), "{report:?}");
    let table = String::from_utf8(report.stdout).unwrap();
    let rows: Vec<&str> =
        table.lines().filter(|line| line.starts_with("| seabios | default | 2048 MiB | 2 | ")).collect();
    // Guest MTRRs zap nothing while DMA is coherent, whichever KVM this is.
    let zaps = rows[0].split('|').nth(5).unwrap().trim();
    assert!(if Kind::Zaps.probe("kvm").is_ok() { zaps == "0" } else { zaps.starts_with("-[^") }, "{table}");
    assert!(rows.last().unwrap().contains(" ms) |"), "{table}");
}

#[test]
fn a_run_without_boots_has_no_table() {
    if kvm().is_none() {
        return;
    }
    let results = tempfile::tempdir().unwrap();
    let run = kvm_memtype(results.path(), &["run", "--machine", "kvm", "boot"]);
    assert!(run.status.success(), "{run:?}");
    let report = kvm_memtype(results.path(), &["report", "--zaps"]);
    assert_eq!(report.status.code(), Some(2));
    let said = String::from_utf8(report.stderr).unwrap();
    assert!(said.contains("kvm-memtype run --suite zaps"), "{said}");
}

#[test]
fn no_kprobe_stays_behind() {
    if let Err(why) = Kind::Zaps.probe("kvm") {
        return skip(&format!("witness zaps: {why}"));
    }
    let results = tempfile::tempdir().unwrap();
    let run = kvm_memtype(results.path(), &["run", "--machine", "kvm", "--witness", "zaps", "boot"]);
    assert!(run.status.success(), "{run:?}");
    let left = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"]
        .map(|tracefs| fs::read_to_string(Path::new(tracefs).join("kprobe_events")).unwrap_or_default());
    assert!(left.iter().all(|list| !list.contains("kvm_memtype_")), "{left:?}");
}
