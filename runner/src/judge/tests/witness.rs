//! What the witnesses of the host's side do to a verdict.

use super::support::{deviations, facts, judge_by, policies, run, run_to, with};
use crate::host::facts::Fact;
use crate::judge::{Deviations, Judgement, Verdict};
use crate::machine::{End, Observed};
use crate::witness::{Kind, Witnessed};
use wire::host::HostRecord;
use wire::layout::WINDOW;
use wire::outcome::Outcome;
use wire::record::Access;
use wire::register::Place;
use wire::step::{SlotApi, SlotMemory, Status, Step};

const WARNING: &str = "WARNING: CPU: 0 PID: 97 at arch/x86/kvm/mmu/mmu.c:6090 kvm_zap_gfn_range+0x2c9/0x2d0 [kvm]";
const VALID: u64 = 0x0007_0406_0007_0406;

fn known(more: &str) -> Deviations {
    deviations(&format!(
        "[[deviation]]\nid = \"zap-warns\"\nreason = \"r\"\nsource = \"s\"\nwhen = [{{ machine = \"kvm\" }}]\n\
         tests = [\"family/test\"]\nkernel-log = [\"WARNING: *mmu/mmu.c:* kvm_zap_gfn_range\"]\n{more}"
    ))
}

fn witnessed(lines: &[&str], taint: &[&str]) -> Witnessed {
    let owned = |lines: &[&str]| lines.iter().map(|&line| line.to_owned()).collect();
    Witnessed { watched: [Kind::Log].into(), kernel_log: owned(lines), taint: owned(taint), ..Witnessed::default() }
}

fn judge(witness: Witnessed, deviations: &Deviations) -> Judgement {
    let observed = run(|out, _| out.write(Place::msr(0x277), VALID, Outcome::ACCEPTED));
    judge_by(&policies(), deviations, &Observed { witness, ..observed }, &facts())
}

fn verdict(witness: Witnessed, deviations: &Deviations) -> (Verdict, String) {
    let judgement = judge(witness, deviations);
    (judgement.verdict, judgement.reason)
}

#[test]
fn a_warning_fails_a_good_cell() {
    let none = Deviations::none();
    assert_eq!(verdict(witnessed(&["kvm: a word"], &["O (an out-of-tree module was loaded)"]), &none).0, Verdict::Pass);
    let warned =
        verdict(witnessed(&["cut here", WARNING, "BUG: unable to handle page fault"], &["W (a warning)"]), &none);
    assert_eq!(warned, (Verdict::Fail, format!("the kernel's log: {WARNING} (2 lines in all)")));
    let tainted = verdict(witnessed(&[], &["W (a warning)"]), &none);
    assert_eq!(tainted, (Verdict::Fail, "the kernel's log: newly tainted: W (a warning)".to_owned()));
}

#[test]
fn a_warning_explains_a_bad_end() {
    let observed = run_to(End::Timeout { rip: None }, |_, _| {});
    let observed = Observed { witness: witnessed(&[WARNING], &[]), ..observed };
    let judgement = judge_by(&policies(), &Deviations::none(), &observed, &facts());
    let reason = format!("the time was up; the kernel's log: {WARNING}");
    assert_eq!((judgement.verdict, judgement.reason), (Verdict::Timeout, reason));
}

#[test]
fn a_known_warning_is_excused_and_another_is_not() {
    let judgement = judge(witnessed(&[WARNING], &["W (a warning)"]), &known(""));
    assert_eq!((judgement.verdict, judgement.reason.as_str()), (Verdict::Xfail, "zap-warns: r"));
    assert_eq!(judgement.deviations, ["zap-warns"]);
    let other = "WARNING: CPU: 0 PID: 97 at arch/x86/kvm/x86.c:1 kvm_zap_gfn_range+0x2c9/0x2d0 [kvm]";
    assert_eq!(
        verdict(witnessed(&[WARNING, other], &[]), &known("")),
        (Verdict::Fail, format!("the kernel's log: {other}"))
    );
}

#[test]
fn a_known_warning_excuses_no_taint_but_its_own() {
    let taint = ["W (a warning)", "M (a machine check)"];
    let reason = "the kernel's log: newly tainted: M (a machine check)".to_owned();
    assert_eq!(verdict(witnessed(&[WARNING], &taint), &known("")), (Verdict::Fail, reason));
}

#[test]
fn a_known_warning_must_show_where_somebody_would_see_it() {
    assert_eq!(verdict(witnessed(&[], &[]), &known("")).0, Verdict::Xpass);
    assert_eq!(verdict(Witnessed::default(), &known("")).0, Verdict::Pass);
    // A WARN_ON_ONCE that showed in an earlier cell does not again.
    assert_eq!(verdict(witnessed(&[], &[]), &known("once-a-boot = true\n")).0, Verdict::Pass);
    assert_eq!(verdict(witnessed(&[WARNING], &[]), &known("once-a-boot = true\n")).0, Verdict::Xfail);
}

#[test]
fn a_witness_that_missed_something_proves_nothing() {
    let gap = Witnessed { gaps: vec!["7 trace events were lost".to_owned()], ..witnessed(&[], &[]) };
    let reason = "a witness did not see all: 7 trace events were lost".to_owned();
    assert_eq!(verdict(gap.clone(), &Deviations::none()), (Verdict::Inconclusive, reason));
    let warned = Witnessed { kernel_log: vec![WARNING.to_owned()], ..gap };
    assert_eq!(verdict(warned, &Deviations::none()).0, Verdict::Fail);
}

#[test]
fn a_gap_makes_sptes_doubtful_and_nothing_else() {
    let facts = with(&facts(), &[("tdp", Fact::Bool(true)), ("non-coherent-dma", Fact::Bool(false))]);
    let judged = |gaps: &[&str], pat: u64| {
        let observed = run(|out, log| {
            let slot =
                Step::SetSlot { api: SlotApi::V1, slot: 1, flags: 0, gpa: WINDOW, pages: 1, memory: SlotMemory::Small };
            log.step(slot, Status::Done);
            out.access(Access { cpu: 0, write: true, width: 8, cpl: 0, gpa: WINDOW, value: 1, fault: None });
            // A UC leaf, which this KVM does not make without non-coherent DMA.
            log.host(HostRecord::Spte { gfn: WINDOW >> 12, level: 1, old: 1 << 63, new: 0x600_0001_0a2b_3907 });
            log.step(Step::Mark, Status::Done);
            out.write(Place::msr(0x277), pat, Outcome::ACCEPTED);
        });
        let gaps = gaps.iter().map(|&gap| gap.to_owned()).collect();
        let witness = Witnessed { gaps, ..Witnessed::default() };
        judge_by(&policies(), &Deviations::none(), &Observed { witness, ..observed }, &facts)
    };
    let whole = judged(&[], VALID);
    assert_eq!((whole.verdict, whole.disagreements_total), (Verdict::Fail, 1), "{whole:?}");
    let gap = judged(&["7 trace events were lost"], VALID);
    let reason = "a witness did not see all: 7 trace events were lost";
    assert_eq!((gap.verdict, gap.reason.as_str()), (Verdict::Inconclusive, reason));
    assert_eq!(gap.disagreements, whole.disagreements);
    // Type 2 is none, and PAT does not take it.
    let other = judged(&["7 trace events were lost"], 2);
    assert_eq!((other.verdict, other.disagreements_total), (Verdict::Fail, 2));
    assert!(other.reason.contains("IA32_PAT") && !other.reason.contains("points in all"), "{}", other.reason);
}
