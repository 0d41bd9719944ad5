//! `kvm-memtype selftest`: each planted fault is caught, and its page tells of each.

mod common;

use common::skip;
use kvm_memtype::judge::Verdict;
use kvm_memtype::machine::kvm::KvmMachine;
use kvm_memtype::selftest::{Ground, Grounds, Outcome, faults, run};
use serde_json::Value;
use snapbox::cmd::cargo_bin;
use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn each_fault_is_caught() {
    let mut grounds = Grounds::new(KvmMachine::open().map_err(|reason| reason.to_string())).unwrap();
    let rows = run(&mut grounds, |_| Ok::<(), ()>(())).unwrap();
    assert_eq!(rows.len(), faults().len());
    for row in rows {
        match row.outcome {
            Outcome::Caught => assert_ne!(row.verdict, Some(Verdict::Pass), "{row:?}"),
            Outcome::Skipped => skip(&format!("selftest, {}: {}", row.fault, row.said)),
            Outcome::Missed => panic!("{row:?}"),
        }
    }
}

#[test]
fn the_program_says_so() {
    let selftest = |format| {
        let output = Command::new(cargo_bin!("kvm-memtype")).args(["selftest", "--format", format]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let said = selftest("human");
    let sum = format!("\n{} faults: ", faults().len());
    assert!(said.contains(&sum) && said.ends_with(" skipped, 0 not caught\n"), "{said}");
    let lines: Vec<Value> = selftest("json").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), faults().len());
    for (line, fault) in lines.iter().zip(faults()) {
        assert_eq!((line["fault"].as_str(), line["cell"].as_str()), (Some(fault.what), Some(fault.cell)));
        assert_eq!(line["place"].as_str(), Some(fault.place.to_string().to_lowercase().as_str()));
        assert!(line["outcome"] == "caught" || line["outcome"] == "skipped", "{line}");
    }
}

#[test]
fn the_page_has_a_row_for_each_fault() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/selftest.md");
    let page = fs::read_to_string(page).unwrap();
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    let wanted = faults().iter().map(|fault| {
        let ground = if Grounds::ground(fault.cell) == Ground::Here { "here" } else { "recorded" };
        format!("| {} | {} | `{}`, {ground} | `{}` |", fault.place, fault.what, fault.cell, fault.verdict)
    });
    let wanted: Vec<String> = wanted.collect();
    assert_eq!(rows, wanted, "docs/selftest.md shall have these rows:\n{}", wanted.join("\n"));
}
