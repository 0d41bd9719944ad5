//! Witnesses of the host's side, end to end: what they say of a cell, and that nothing of them stays.

mod common;

use common::skip;
use kvm_memtype::witness::Kind;
use snapbox::cmd::cargo_bin;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A cell whose guest has memslots made and deleted at 0xd0000000.
const CELL: &str = "mmio/delete";

fn kvm_memtype(results: &Path) -> Command {
    let mut command = Command::new(cargo_bin!("kvm-memtype"));
    command.arg("--results").arg(results);
    command
}

/// Whether a witness can watch here, or a skip.
fn has(kind: Kind) -> bool {
    kind.probe("kvm").map_err(|why| skip(&format!("witness {kind}: {why}"))).is_ok()
}

/// What `explain` has to say of the cell after a run with these witnesses.
fn explained(witness: &str) -> serde_json::Value {
    let results = tempfile::tempdir().unwrap();
    let run = kvm_memtype(results.path()).args(["run", "--witness", witness, CELL]).output().unwrap();
    assert!(run.status.success(), "{run:?}");
    let explain = kvm_memtype(results.path()).args(["explain", CELL, "--format", "json"]).output().unwrap();
    assert!(explain.status.success(), "{explain:?}");
    serde_json::from_slice(&explain.stdout).unwrap()
}

#[test]
fn a_witness_that_is_none_is_refused() {
    let results = tempfile::tempdir().unwrap();
    let run = kvm_memtype(results.path()).args(["run", "--witness", "log,spte"]).output().unwrap();
    assert_eq!(run.status.code(), Some(2));
    let said = String::from_utf8(run.stderr).unwrap();
    assert!(said.contains("unknown witness `spte`, did you mean `sptes`?"), "{said}");
}

#[test]
fn kvm_counts_what_its_guest_does() {
    if has(Kind::Stats) {
        let witness = &explained("stats")["observed"]["witness"];
        assert_eq!(witness["watched"], serde_json::json!(["stats"]));
        assert!(witness["stats"]["exits"].as_u64().is_some_and(|exits| exits > 10), "{witness}");
    }
}

#[test]
fn sptes_come_and_go_with_their_memslot() {
    if !has(Kind::Sptes) {
        return;
    }
    let explained = explained("sptes");
    let of_the_slot = |change: &&serde_json::Value| change["gfn"] == "d0000" && change["table"] == false;
    let changes: Vec<_> = explained["sptes"].as_array().unwrap().iter().filter(of_the_slot).collect();
    assert!(changes.iter().any(|change| change["old"] == "nothing" && change["zapped"] == false), "{changes:?}");
    assert!(changes.iter().any(|change| change["zapped"] == true), "{changes:?}");
}

#[test]
fn a_killed_run_leaves_no_instance() {
    if !has(Kind::Sptes) {
        return;
    }
    let results = tempfile::tempdir().unwrap();
    let args = ["run", "--witness", "sptes"];
    let mut run = kvm_memtype(results.path()).args(args).stdout(Stdio::null()).spawn().unwrap();
    let instance = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"]
        .map(|tracefs| Path::new(tracefs).join(format!("instances/kvm-memtype-{}", run.id())));
    let there = || instance.iter().any(|path| path.exists());
    // Once a result is written, the run is in the midst of it.
    wait(|| written(results.path()), &mut run);
    assert!(there());
    run.kill().unwrap();
    run.wait().unwrap();
    wait(|| !there(), &mut run);
}

/// Whether a run has written a result.
fn written(results: &Path) -> bool {
    let runs = fs::read_dir(results).into_iter().flatten().flatten();
    let lines = runs.map(|run| fs::read(run.path().join("observations.jsonl")).unwrap_or_default());
    lines.into_iter().any(|file| file.iter().filter(|&&byte| byte == b'\n').count() > 1)
}

/// Waits until something holds, and kills the run if it never does.
fn wait(holds: impl Fn() -> bool, run: &mut Child) {
    let late = Instant::now() + Duration::from_secs(60);
    while !holds() {
        if Instant::now() > late {
            let _ = run.kill();
            panic!("it has not come in a minute");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
