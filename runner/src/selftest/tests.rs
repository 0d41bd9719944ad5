//! Tests of the faults themselves.

use super::*;
use std::collections::BTreeSet;

#[test]
fn recorded_cells_are_those_of_reference_results() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../results/reference");
    for (run, dir) in ground::recorded_runs().unwrap().into_iter().zip(["bochs-vmx/6.12.117-1/memtype", "bochs/bare"]) {
        let reference = crate::results::Run::read(&root.join(dir)).unwrap();
        for result in &run.results {
            assert!(reference.results.contains(result), "{} is not that of {dir}", result.cell);
        }
        assert_eq!(run.header.facts, reference.header.facts);
    }
}

#[test]
fn faults_of_each_place_are_planted_in_each_ground() {
    let places: BTreeSet<String> = faults::FAULTS.iter().map(|fault| fault.place.to_string()).collect();
    assert_eq!(places.len(), 4);
    let words: BTreeSet<&str> = faults::FAULTS.iter().map(|fault| fault.what).collect();
    assert_eq!(words.len(), faults::FAULTS.len());
}

#[test]
fn without_kvm_recorded_faults_are_caught_and_others_are_skipped() {
    let mut grounds = Grounds::new(Err("no KVM in this test".to_owned())).unwrap();
    let rows = run(&mut grounds, |_| Ok::<(), ()>(())).unwrap();
    for row in &rows {
        let wanted = if row.ground == Ground::Here { Outcome::Skipped } else { Outcome::Caught };
        assert_eq!(row.outcome, wanted, "{row:?}");
    }
}

#[test]
fn a_fault_that_changes_nothing_or_is_taken_for_another_is_missed() {
    let mut grounds = Grounds::new(Err("no KVM in this test".to_owned())).unwrap();
    let fault = *faults::FAULTS.iter().find(|fault| fault.cell == "memtype/plug").unwrap();
    let idle = Fault { plant: Plant::Policies { from: "no such words", to: "" }, ..fault };
    let misnamed = Fault { word: "no such reason", ..fault };
    let harmless = Fault { plant: Plant::Log(|_, _| true), ..fault };
    for fault in [idle, misnamed, harmless] {
        assert_eq!(row(&mut grounds, &fault).outcome, Outcome::Missed, "{fault:?}");
    }
}
