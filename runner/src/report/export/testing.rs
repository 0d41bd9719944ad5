//! Runs for the unit tests of exporters.

use super::Judged;
use crate::host::facts::Fact;
use crate::judge::{By, Judgement, Point, Verdict};
use crate::plan::vm::VmConfig;
use crate::report::CellVerdict;
use crate::results::{Header, PlannedCell, Run};
use std::io;

/// A run with one cell of each verdict, whose texts hold what each format has to escape.
pub fn every_verdict() -> Judged {
    run(&Verdict::ALL)
}

/// A run with a cell of each of these verdicts, in two families.
pub fn run(verdicts: &[Verdict]) -> Judged {
    let verdicts: Vec<CellVerdict> = verdicts.iter().enumerate().map(|(at, &verdict)| cell(at, verdict)).collect();
    let vm = VmConfig::default;
    let cells = verdicts.iter().map(|verdict| PlannedCell { id: verdict.cell.clone(), vm: vm(), points: 1, run: None });
    let header = Header {
        run: 0x5eed,
        started: "20261121T180614Z".into(),
        version: "0.1.0".into(),
        machine: "kvm".into(),
        suite: "smoke".into(),
        facts: [("kvm-vendor", Fact::Text("kvm_intel".into()))].into_iter().collect(),
        host: [
            ("CPU", "A \"Core\" <i7> & more"),
            ("KVM", "kvm_intel"),
            ("kernel", "Linux 6.1.0-56-amd64 #1 SMP"),
            ("machine", "kvm: the embedded VMM"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into(),
        cells: cells.collect(),
        ..Header::default()
    };
    let run = Run { dir: "results/run".into(), header, results: Vec::new(), torn: 0, whole: 0 };
    Judged { run, repetition: 1, verdicts }
}

/// What an exporter writes.
pub fn text(write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
    let mut bytes = Vec::new();
    write(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// The cell at that place.
fn cell(at: usize, verdict: Verdict) -> CellVerdict {
    let family = if at.is_multiple_of(2) { "pat-msr" } else { "mmio" };
    let reason = match verdict {
        Verdict::Pass => String::new(),
        Verdict::Xfail => "no-pat: it is known & harmless".into(),
        _ => format!("why it is {verdict}: \"0x02\" <- #GP(0) | \\ & \u{1b}[1m`x`\nand on"),
    };
    let judged = !matches!(verdict, Verdict::Skip | Verdict::NotRun);
    let wrong = matches!(verdict, Verdict::Fail | Verdict::Xfail);
    let deviation = (verdict == Verdict::Xfail).then(|| "no-pat".to_owned());
    let point = Point {
        did: "vCPU 0: WRMSR 0x277 IA32_PAT <- 0x02".into(),
        count: 3,
        line: 7,
        seen: "accepted".into(),
        expected: "#GP(0), unchanged".into(),
        by: Some(By {
            policy: "kvm-6.11".into(),
            row: "IA32_PAT".into(),
            rule: "byte 0 holds 0x02, no memory type".into(),
            source: "x86.h:kvm_pat_valid".into(),
        }),
        agrees: Some(false),
        architecture: None,
        deviation: deviation.clone(),
    };
    let judgement = Judgement {
        policy: judged.then(|| "kvm-6.11".to_owned()),
        points: if judged { 5 } else { 0 },
        disagreements: if wrong { vec![point] } else { Vec::new() },
        disagreements_total: if wrong { 3 } else { 0 },
        deviations: deviation.into_iter().collect(),
        ..Judgement::new(verdict, reason)
    };
    let vm = if at == 0 { "" } else { "@default" };
    let micros = judged.then_some(1_500 + at as u64);
    CellVerdict { cell: format!("{family}/{verdict}{vm}"), micros, broken: verdict == Verdict::NotRun, judgement }
}
