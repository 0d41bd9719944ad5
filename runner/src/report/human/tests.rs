//! What people see, for each verdict.

use super::*;
use crate::judge::{By, Departures, Judgement};
use snapbox::assert_data_eq;
use snapbox::str;

#[test]
fn thousands_stand_apart() {
    assert_eq!(["0", "999", "1,000", "12,345,678"], [0, 999, 1000, 12_345_678].map(grouped));
    assert_eq!((counted(1, "cell"), counted(1000, "cell")), ("1 cell".into(), "1,000 cells".into()));
}

fn point(deviation: Option<&str>) -> Point {
    Point {
        did: "vCPU 0: WRMSR 0x277 IA32_PAT <- 0x0007040600070402".into(),
        count: 3,
        line: 7,
        seen: "accepted, reads back as written".into(),
        expected: "#GP(0), unchanged".into(),
        by: Some(By {
            policy: "kvm-6.11".into(),
            row: "IA32_PAT".into(),
            rule: "byte 0 holds 0x02, no memory type".into(),
            source: "x86.h:kvm_pat_valid".into(),
        }),
        agrees: Some(false),
        architecture: None,
        deviation: deviation.map(str::to_owned),
    }
}

fn cell(name: &str, verdict: Verdict, reason: &str) -> CellVerdict {
    let points = if verdict == Verdict::Pass { 5 } else { 0 };
    let policy = Some("kvm-6.11".to_owned());
    let judgement = Judgement { points, policy, ..Judgement::new(verdict, reason.into()) };
    CellVerdict { cell: format!("family/{name}"), micros: Some(1), broken: false, judgement }
}

fn printed(cells: &[CellVerdict]) -> String {
    let mut bytes = Vec::new();
    let mut human = Human::new(anstream::StripStream::new(&mut bytes));
    let mut tally = Tally::default();
    for cell in cells {
        tally.add(cell);
        human.cell(cell).unwrap();
    }
    human.end(&tally).unwrap();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn each_verdict_has_its_place() {
    let mut fail = cell("fail", Verdict::Fail, "what the first point says");
    fail.judgement.points = 1234;
    fail.judgement.disagreements_total = 5;
    fail.judgement.disagreements = vec![point(None), point(Some("known"))];
    fail.judgement.architecture = Departures { count: 1, examples: Vec::new() };
    let mut xfail = cell("xfail", Verdict::Xfail, "known: it is so");
    xfail.judgement.points = 2;
    xfail.judgement.disagreements_total = 1;
    xfail.judgement.deviations = vec!["known".into()];
    let cells = [
        cell("pass", Verdict::Pass, ""),
        fail,
        xfail,
        cell("xpass", Verdict::Xpass, "known to deviate, but did not: known"),
        cell("skip", Verdict::Skip, "no such thing here"),
        cell("skip-too", Verdict::Skip, "no such thing here"),
        cell("inconclusive", Verdict::Inconclusive, "no row speaks of it"),
        cell("error", Verdict::Error, "line 3 of the log: line 2 came again"),
        cell("timeout", Verdict::Timeout, "the time was up; RIP was 0x100000"),
        cell("crash", Verdict::Crash, "triple fault (KVM_EXIT_SHUTDOWN)"),
        CellVerdict { broken: true, ..cell("not-run", Verdict::NotRun, "the run was interrupted before") },
    ];
    assert_data_eq!(
        printed(&cells),
        str![[r#"
        FAIL  family/fail  5 of 1,234 points not as predicted
              vCPU 0: WRMSR 0x277 IA32_PAT <- 0x0007040600070402 (and 2 more)
                seen      accepted, reads back as written
                expected  #GP(0), unchanged
                by        kvm-6.11: IA32_PAT: byte 0 holds 0x02, no memory type
                source    x86.h:kvm_pat_valid
              in full: kvm-memtype explain family/fail
       XFAIL  family/xfail  1 of 2 points: known
       XPASS  family/xpass  known to deviate, but did not: known
              in full: kvm-memtype explain family/xpass
       ERROR  family/error  line 3 of the log: line 2 came again
              in full: kvm-memtype explain family/error
     TIMEOUT  family/timeout  the time was up; RIP was 0x100000
              in full: kvm-memtype explain family/timeout
       CRASH  family/crash  triple fault (KVM_EXIT_SHUTDOWN)
              in full: kvm-memtype explain family/crash

Known deviations:
  known: it is so
    1 cell: family/xfail

Inconclusive:
  no row speaks of it
    1 cell: family/inconclusive

Skipped:
  no such thing here
    2 cells: family/skip, family/skip-too

Not run:
  the run was interrupted before
    1 cell: family/not-run

11 cells: 1 pass, 1 fail, 1 xfail, 1 xpass, 2 skip, 1 inconclusive, 1 error, 1 timeout, 1 crash, 1 not-run
1,241 points decided by policy kvm-6.11
1 point otherwise than the architecture has it (explain shows them)
Not all cells were run.

"#]]
    );
}

#[test]
fn a_run_that_decided_nothing_says_so() {
    let text = printed(&[cell("skip", Verdict::Skip, "no such thing here")]);
    assert!(text.ends_with("Nothing was decided.\n"), "{text}");
}
