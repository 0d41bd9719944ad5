//! Each rule by which a verdict is reached.

use super::support::{DONE, Log, RUN, deviations, facts, judge, judge_by, policies, run, run_to, with};
use crate::host::facts::{Fact, Facts};
use crate::judge::{Deviations, Judge, Judgement, Verdict};
use crate::machine::{End, Line, Observed};
use proptest::prelude::*;
use wire::frame::Writer;
use wire::layout::{CR0_CD, CR0_NW, EXIT_PANIC, PAT, START_CR0};
use wire::outcome::{After, Outcome};
use wire::record::Trap;
use wire::register::{Place, Register};
use wire::step::{Status, Step};

const VALID: u64 = 0x0007_0406_0007_0406;
const INVALID: u64 = 0x0007_0406_0007_0402;

fn good<S: wire::frame::Sink>(out: &mut Writer<S>) {
    out.write(Place::msr(PAT), VALID, Outcome::ACCEPTED);
    out.write(Place::msr(PAT), INVALID, Outcome::REFUSED);
}

fn bad<S: wire::frame::Sink>(out: &mut Writer<S>) {
    out.write(Place::msr(PAT), INVALID, Outcome::ACCEPTED);
}

fn said(observed: &Observed) -> (Verdict, String) {
    let judgement = judge(observed);
    (judgement.verdict, judgement.reason)
}

#[test]
fn all_as_predicted_is_a_pass_and_has_no_reason() {
    let judgement = judge(&run(|out, _| good(out)));
    assert_eq!((judgement.verdict, judgement.reason.as_str()), (Verdict::Pass, ""));
    // Two writes. The registers at creation are judged too, but count for nothing.
    assert_eq!((judgement.points, judgement.unpredicted, judgement.disagreements_total), (2, 0, 0));
    assert_eq!(judgement.policy.as_deref(), Some("kvm-6.11"));
}

#[test]
fn a_wrong_point_fails_and_says_all_about_it() {
    let judgement = judge(&run(|out, _| bad(out)));
    assert_eq!(judgement.verdict, Verdict::Fail);
    assert_eq!(
        judgement.reason,
        "vCPU 0: WRMSR 0x277 IA32_PAT <- 0x0007040600070402: accepted, reads back as written, \
         where #GP(0), unchanged is predicted"
    );
    let point = &judgement.disagreements[0];
    let by = point.by.as_ref().unwrap();
    assert_eq!((by.policy.as_str(), by.row.as_str()), ("kvm-6.11", "IA32_PAT"));
    assert_eq!(by.rule, "byte 0 holds 0x02, no memory type");
    assert!(by.source.contains("kvm_pat_valid"));
    assert_eq!(point.architecture.as_deref(), Some("#GP(0), unchanged"));
    assert_eq!(judgement.architecture.count, 1);
}

#[test]
fn a_skip_is_a_skip_but_hides_no_failure() {
    assert_eq!(said(&run(|out, _| out.skip("no CLWB"))), (Verdict::Skip, "no CLWB".into()));
    let both = run(|out, _| {
        bad(out);
        out.skip("no CLWB");
    });
    assert_eq!(judge(&both).verdict, Verdict::Fail);
}

#[test]
fn a_guest_that_does_not_end_is_a_timeout_and_one_that_babbles_an_error() {
    let timeout = run_to(End::Timeout { rip: Some(0x10_0040) }, |out, _| bad(out));
    assert_eq!(said(&timeout), (Verdict::Timeout, "the time was up; the boot vCPU was at RIP 0x100040".into()));
    let (verdict, reason) = said(&run_to(End::Flood, |out, _| good(out)));
    assert_eq!((verdict, reason.starts_with("flood")), (Verdict::Error, true));
}

#[test]
fn a_log_that_cannot_be_believed_is_an_error_with_its_line() {
    let whole = run(|out, _| good(out));
    let change = |change: &dyn Fn(&mut Vec<Line>)| {
        let mut observed = whole.clone();
        change(&mut observed.log);
        said(&observed)
    };
    let last = whole.log.len();
    let wrong = |says: (Verdict, String), what: &str| {
        assert_eq!(says.0, Verdict::Error);
        assert!(says.1.contains(what), "{}", says.1);
    };
    wrong(change(&|log| drop(log.remove(last - 2))), &format!("line {} of the log: line 3 came where", last - 1));
    wrong(change(&|log| log.push(Line::Guest("x".into()))), "something follows the end");
    wrong(change(&|log| log[last - 2] = Line::Guest("2 w 277 0 .*0000".into())), "garbled");
    wrong(change(&|log| drop(log.pop())), "stops before line 3");
    wrong(change(&|log| log.truncate(30)), "reported nothing");
    let other = Judge::new(&policies(), &Deviations::none()).cell("family/other", 2, &whole, Some(RUN), &facts());
    wrong((other.verdict, other.reason), "the guest runs family/test, not family/other");
    let stale = Judge::new(&policies(), &Deviations::none()).cell("family/test", 2, &whole, Some(1), &facts());
    wrong((stale.verdict, stale.reason), "a report of run 5eed, not of run 1");
    let kept = Judge::new(&policies(), &Deviations::none()).cell("family/test", 2, &whole, None, &facts());
    assert_eq!(kept.verdict, Verdict::Pass);
}

#[test]
fn a_linux_that_dies_is_quoted() {
    let mut dead = run_to(End::Shutdown, |_, _| {});
    dead.log.extend((0..6).map(|n| Line::Console(format!("line {n}"))));
    let (verdict, reason) = said(&dead);
    assert_eq!(verdict, Verdict::Crash);
    assert!(reason.ends_with("; Linux printed last: line 2 | line 3 | line 4 | line 5"), "{reason}");
    // What it prints belongs to no report, wherever it stands.
    let mut whole = run(|out, _| good(out));
    whole.log.insert(whole.log.len() - 1, Line::Console("x".into()));
    assert_eq!(said(&whole), (Verdict::Pass, String::new()));
}

#[test]
fn a_death_is_a_crash() {
    let trap = Trap { vector: 14, error: 2, cpl: 0 };
    let dead = run_to(End::Exit(EXIT_PANIC), |out, _| out.dead(0, trap, 0x10_0f3a, 0xdead));
    let (verdict, reason) = said(&dead);
    assert_eq!(verdict, Verdict::Crash);
    assert_eq!(
        reason,
        "exception 14 with error code 0x2 at CPL 0, RIP 0x100f3a of vCPU 0, CR2 0xdead, which the test did not expect"
    );
    let panic = run(|out, _| out.panic("no memory"));
    assert_eq!(said(&panic), (Verdict::Crash, "the guest gave up: no memory".into()));
    let internal = End::InternalError { suberror: 1, rip: 0x10_0040, bytes: vec![0x66, 0x0f, 0xae, 0x30] };
    for (end, what) in [
        (End::Halt, "KVM_EXIT_HLT"),
        (End::Shutdown, "triple fault"),
        (internal, "KVM could not emulate an instruction at RIP 0x100040: clwb [rax] (66 0f ae 30)"),
        (End::FailEntry { reason: 0x8000_0021 }, "0x80000021"),
        (End::Unexpected("KVM_EXIT_DEBUG".into()), "KVM_EXIT_DEBUG"),
        (End::Exit(7), "0x7"),
        (End::Exit(EXIT_PANIC), "gave up"),
    ] {
        let (verdict, reason) = said(&run_to(end, |out, _| good(out)));
        assert_eq!(verdict, Verdict::Crash);
        assert!(reason.contains(what), "{reason}");
    }
}

#[test]
fn a_test_that_decides_nothing_is_an_error() {
    // The VMM's account of the new vCPU is there, as in every run.
    let empty = run(|_, _| {});
    assert!(empty.log.len() > 30);
    assert_eq!(said(&empty), (Verdict::Error, "decided nothing".into()));
}

#[test]
fn a_test_that_makes_fewer_points_than_it_has_is_an_error() {
    let judged = |least, text: &str, observed: &Observed| {
        let (policies, deviations) = (policies(), deviations(text));
        let judgement = Judge::new(&policies, &deviations).cell("family/test", least, observed, Some(RUN), &facts());
        (judgement.verdict, judgement.reason)
    };
    let none = PAT_TYPES.replace("kvm_intel", "kvm_amd");
    let fewer = |least: &str| (Verdict::Error, format!("the test makes at least {least} points, 2 came"));
    let log = run(|out, _| good(out));
    assert_eq!(judged(2, &none, &log).0, Verdict::Pass);
    assert_eq!(judged(22_528, &none, &log), fewer("22,528"));
    // Wrong or excused points are no excuse, and neither is a shutdown that the model predicts.
    let wrong = run(|out, _| (good(out), bad(out)).0);
    assert_eq!(judged(4, PAT_TYPES, &wrong).0, Verdict::Error);
    assert_eq!(judged(3, PAT_TYPES, &wrong).0, Verdict::Xfail);
    // Host steps count, so that a VMM that loses its records is noticed.
    let mut steps = run(|out, log| {
        good(out);
        log.step(Step::SetMsr { cpu: 0, index: PAT, value: VALID }, Status::Done);
    });
    assert_eq!(judged(3, &none, &steps).0, Verdict::Pass);
    steps.log.retain(|line| !line.to_string().starts_with(">step"));
    assert_eq!(judged(3, &none, &steps), fewer("3"));
    // A skip comes when it comes, and so does an end that is known.
    assert_eq!(judged(9, &none, &run(|out, _| out.skip("no CLWB"))).0, Verdict::Skip);
    let ends = none.replace("kvm_amd", "kvm_intel").replace(
        "points = [{ registers = ['0x277'], expected = 'refused', seen = 'accepted' }]",
        "ends = [{ end = 'halt' }]",
    );
    assert_eq!(judged(9, &ends, &run_to(End::Halt, |out, _| good(out))).0, Verdict::Xfail);
}

#[test]
fn what_no_row_speaks_of_is_inconclusive() {
    let unknown = run(|out, _| {
        good(out);
        out.write(Place::msr(0x1a0), 0, Outcome::ACCEPTED);
    });
    let (verdict, reason) = said(&unknown);
    assert_eq!(verdict, Verdict::Inconclusive);
    assert!(reason.ends_with("WRMSR 0x1a0 <- 0x0000000000000000: no row of the policy speaks of it"), "{reason}");
}

#[test]
fn where_no_policy_governs_or_two_do_nothing_can_be_judged() {
    let nowhere = with(&facts(), &[("machine", Fact::Text("bare-metal".into()))]);
    let judgement = judge_by(&policies(), &Deviations::none(), &run(|out, _| good(out)), &nowhere);
    assert_eq!(judgement.verdict, Verdict::Error);
    assert!(judgement.reason.contains("no policy governs") && judgement.reason.contains("machine = bare-metal"));
}

const PAT_TYPES: &str = "
    [[deviation]]
    id = 'pat-types'
    reason = 'the PAT is not checked'
    source = 'a test'
    when = [{ kvm-vendor = 'kvm_intel' }]
    tests = ['family/*']
    points = [{ registers = ['0x277'], expected = 'refused', seen = 'accepted' }]
";

fn deviating(text: &str, facts: &Facts, observed: &Observed) -> Judgement {
    judge_by(&policies(), &deviations(text), observed, facts)
}

#[test]
fn a_known_difference_is_an_xfail_and_its_absence_an_xpass() {
    let xfail = deviating(PAT_TYPES, &facts(), &run(|out, _| bad(out)));
    assert_eq!((xfail.verdict, xfail.reason.as_str()), (Verdict::Xfail, "pat-types: the PAT is not checked"));
    assert_eq!((xfail.disagreements_total, xfail.deviations), (1, vec!["pat-types".to_owned()]));
    let xpass = deviating(PAT_TYPES, &facts(), &run(|out, _| good(out)));
    assert_eq!((xpass.verdict, xpass.reason.as_str()), (Verdict::Xpass, "known to deviate, but did not: pat-types"));
    // Points that nothing is predicted of hide neither.
    let unsure = |point: fn(&mut Writer<Log>)| {
        let observed = run(|out, _| {
            point(out);
            out.write(Place::msr(0x1a0), 0, Outcome::ACCEPTED);
        });
        deviating(PAT_TYPES, &facts(), &observed).verdict
    };
    assert_eq!((unsure(bad), unsure(good)), (Verdict::Inconclusive, Verdict::Xpass));
}

#[test]
fn a_known_difference_excuses_nothing_else() {
    let elsewhere = with(&facts(), &[("kvm-vendor", Fact::Text("kvm_amd".into()))]);
    assert_eq!(deviating(PAT_TYPES, &elsewhere, &run(|out, _| bad(out))).verdict, Verdict::Fail);
    assert_eq!(deviating(PAT_TYPES, &elsewhere, &run(|out, _| good(out))).verdict, Verdict::Pass);
    let other_test = PAT_TYPES.replace("family/*", "other/*");
    assert_eq!(deviating(&other_test, &facts(), &run(|out, _| bad(out))).verdict, Verdict::Fail);
    // Another register, another class of outcome, and a point beside the known one.
    let more = |more: &dyn Fn(&mut Writer<Log>)| {
        deviating(
            PAT_TYPES,
            &facts(),
            &run(|out, _| {
                bad(out);
                more(out);
            }),
        )
        .verdict
    };
    assert_eq!(more(&|out| out.write(Place::msr(0x250), 2, Outcome::ACCEPTED)), Verdict::Fail);
    assert_eq!(more(&|out| out.write(Place::msr(PAT), VALID, Outcome::REFUSED)), Verdict::Fail);
    assert_eq!(more(&|out| out.write(Place::msr(PAT), VALID, Outcome::ACCEPTED)), Verdict::Xfail);
}

#[test]
fn what_is_kept_is_bounded_and_what_is_not_excused_is_never_lost() {
    let many = run(|out, _| {
        for n in 0..1000 {
            bad(out);
            out.reads(Place::msr(PAT)).push(Ok(n));
        }
        out.write(Place::msr(0x250), 2, Outcome::ACCEPTED);
    });
    let judgement = deviating(PAT_TYPES, &facts(), &many);
    assert_eq!((judgement.verdict, judgement.disagreements_total), (Verdict::Fail, 2001));
    // Equal neighbours of those that are excused are one; of the others each is a point of its own.
    assert_eq!(judgement.disagreements.len(), 1 + 64);
    assert_eq!(judgement.disagreements[0].title(), "vCPU 0: WRMSR 0x277 IA32_PAT <- 0x0007040600070402 (and 999 more)");
    assert!(judgement.reason.ends_with("(1001 points in all)"));
}

#[test]
fn a_known_end_is_an_xfail_if_its_bytes_fit() {
    let text = PAT_TYPES.replace("points = [{ registers = ['0x277'], expected = 'refused', seen = 'accepted' }]", "")
        + "ends = [{ end = 'internal-error', suberror = 'emulation', bytes = '66 0f ae' }]";
    let ended = |suberror, bytes: &[u8], guest: fn(&mut Writer<Log>)| {
        let end = End::InternalError { suberror, rip: 0, bytes: bytes.into() };
        run_to(end, |out, _| guest(out))
    };
    let verdict = |observed: &Observed| deviating(&text, &facts(), observed).verdict;
    let known = ended(1, &[0x66, 0x0f, 0xae, 0x30], good);
    assert_eq!(verdict(&known), Verdict::Xfail);
    assert_eq!(verdict(&ended(1, &[0x66, 0x0f, 0xae], |_| {})), Verdict::Xfail, "the first instruction of the test");
    assert_eq!(verdict(&ended(1, &[0x66, 0x0f], good)), Verdict::Crash);
    assert_eq!(verdict(&ended(1, &[0x0f, 0xae], good)), Verdict::Crash);
    assert_eq!(verdict(&ended(3, &[0x66, 0x0f, 0xae], good)), Verdict::Crash);
    assert_eq!(verdict(&run_to(DONE, |out, _| good(out))), Verdict::Xpass);
    assert_eq!(verdict(&ended(1, &[0x66, 0x0f, 0xae], bad)), Verdict::Fail);
    // Before the test, and with a report that cannot be believed.
    let mut early = known.clone();
    early.log.retain(|line| matches!(line, Line::Host(_)));
    assert_eq!(verdict(&early), Verdict::Crash);
    let mut broken = known;
    broken.log.push(Line::Guest("2 w 277 0 .*0000".into()));
    assert_eq!(verdict(&broken), Verdict::Error);
}

#[test]
fn bits_of_a_write_that_should_be_refused_are_those_written() {
    let text = PAT_TYPES.replace(
        "['0x277'], expected = 'refused', seen = 'accepted'",
        "['cr0'], expected = 'refused', seen = 'value', bits = '32-63'",
    );
    let drops = |written, after| {
        let observed = run(|out, _| {
            let outcome = Outcome { fault: None, after: After::Value(after) };
            out.write(Place::boot(Register::Cr0), written, outcome);
        });
        deviating(&text, &facts(), &observed).verdict
    };
    assert_eq!(drops(START_CR0 | 1 << 40, START_CR0), Verdict::Xfail);
    assert_eq!(drops(START_CR0 | 1 << 40, START_CR0 ^ CR0_CD), Verdict::Fail, "CD changes too");
    assert_eq!(drops(START_CR0 | CR0_NW, START_CR0), Verdict::Fail, "NW without CD");
}

#[test]
fn the_deviations_that_the_runner_carries_are_sound() {
    let set = crate::config::Set::load(None).unwrap();
    let tests: Vec<String> = crate::guests::tests().unwrap().iter().map(crate::plan::TestRef::id).collect();
    let sources = set.sources("deviations").map(|(_, source)| source);
    let all = Deviations::load(sources, &tests).unwrap_or_else(|e| panic!("{e}"));
    assert!(all.iter().count() > 0);
    // None of them excuses anything on stock KVM.
    for vendor in ["kvm_intel", "kvm_amd"] {
        let stock = with(&facts(), &[("kvm-vendor", Fact::Text(vendor.into()))]);
        assert!(!all.iter().any(|deviation| deviation.applies("pat-msr/bytes", &stock)));
    }
}

proptest! {
    #[test]
    fn no_log_breaks_the_judge(lines: Vec<String>, cut: usize, byte: u8) {
        let good = run(|out, _| good(out));
        let mut observed = good.clone();
        let at = 31 + cut % (observed.log.len() - 31);
        let Line::Guest(line) = &mut observed.log[at] else { unreachable!("the guest's lines come last") };
        let n = cut % line.len();
        let changed: Vec<u8> = line.bytes().enumerate().map(|(i, it)| if i == n { it ^ byte } else { it }).collect();
        *line = String::from_utf8_lossy(&changed).into_owned();
        // A checksum may be written in capitals.
        let same = line.eq_ignore_ascii_case(&good.log[at].to_string()[1..]);
        let passed = judge(&observed).verdict == Verdict::Pass;
        prop_assert!(passed || byte != 0);
        prop_assert!(same || !passed);
        observed.log.extend(lines.into_iter().map(Line::Guest));
        judge(&observed);
    }
}
