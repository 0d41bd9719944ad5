//! Timed accesses on a bare machine: what their times are judged as.

use super::support::{DONE, Log, RUN, policies, with};
use crate::host::facts::{Fact, Facts};
use crate::judge::{Deviations, Judge, Judgement, Verdict};
use crate::machine::Observed;
use wire::frame::Writer;
use wire::layout::{CR0_CD, FIXED_MTRRS, MTRR_DEF_TYPE, MTRR_PHYSBASE0, PAT, START_CR0};
use wire::memtype::MemType;
use wire::record::Timed;
use wire::register::{Place, Register};

/// Types in the entries of the PAT: WP, then those of a reset.
const ENTRIES: u64 = 0x0007_0406_0007_0405;
/// MTRRs enabled, and the default type WT.
const DEF_TYPE: u64 = 0x804;

/// The facts of a bare machine whose clock is known.
fn bare() -> Facts {
    let text = |text: &str| Fact::Text(text.into());
    with(
        &Facts::default(),
        &[
            ("machine", text("bochs")),
            ("clock", text("memtime")),
            ("maxphyaddr", Fact::Int(40)),
            ("cpuid-mtrr", Fact::Bool(true)),
        ],
    )
}

/// Ticks of 100 accesses of each kind, by type.
fn ticks(memtype: MemType) -> (u64, u64) {
    match memtype {
        MemType::Uc | MemType::UcMinus => (20_300, 20_300),
        MemType::Wc => (15_300, 2_300),
        MemType::Wt => (300, 6_300),
        MemType::Wp => (300, 8_300),
        MemType::Wb => (300, 300),
    }
}

fn timed(entry: u8, seen: MemType) -> Timed {
    let (loads, stores) = ticks(seen);
    Timed { cpu: 0, cpl: 3, gpa: 0x20_0000, pat_entry: Some(entry), nested: None, count: 100, loads, stores }
}

/// A test that reads the state that decides memory types, but for the registers in `hidden`, and does `test`.
fn observed(cr0: u64, hidden: &[u32], test: impl FnOnce(&mut Writer<Log>)) -> Observed {
    let log = Log::default();
    let mut writer = Writer::begin(log.clone(), RUN, "family", "test");
    for index in FIXED_MTRRS.into_iter().chain(MTRR_PHYSBASE0..0x210).chain([MTRR_DEF_TYPE, PAT]) {
        let value = match index {
            MTRR_DEF_TYPE => DEF_TYPE,
            PAT => ENTRIES,
            _ => 0,
        };
        if !hidden.contains(&index) {
            writer.reads(Place::msr(index)).push(Ok(value));
        }
    }
    writer.reads(Place::boot(Register::Cr0)).push(Ok(cr0));
    test(&mut writer);
    writer.finish();
    Observed { log: log.lines(), end: DONE, micros: 0, witness: Default::default() }
}

fn judge_where(facts: &Facts, clocks: &Clocks, observed: &Observed) -> Judgement {
    Judge::new(&policies(), &Deviations::none(), clocks).cell("family/test", 0, observed, Some(RUN), facts)
}

fn verdict(cr0: u64, hidden: &[u32], timed: Timed) -> (Verdict, String) {
    let judgement = judge_where(&bare(), &clocks(), &observed(cr0, hidden, |out| out.timed(timed)));
    (judgement.verdict, judgement.reason)
}

#[test]
fn the_type_of_the_times_must_be_the_predicted_one() {
    assert_eq!(verdict(START_CR0, &[], timed(0, MemType::Wp)), (Verdict::Pass, String::new()));
    let (verdict, reason) = verdict(START_CR0, &[], timed(0, MemType::Wt));
    assert_eq!(verdict, Verdict::Fail, "a machine that makes WT of WT x WP");
    assert_eq!(
        reason,
        "vCPU 0: 100 loads and stores of GPA 0x200000 at CPL 3, PAT entry 0, 3.0 and 63.0 ticks each: \
         WT, where WP is predicted"
    );
}

#[test]
fn cr0_cd_makes_everything_uc() {
    assert_eq!(verdict(START_CR0 | CR0_CD, &[], timed(1, MemType::Uc)).0, Verdict::Pass);
    assert_eq!(verdict(START_CR0 | CR0_CD, &[], timed(1, MemType::Wt)).0, Verdict::Fail);
}

#[test]
fn under_ept_the_leaf_stands_for_the_mtrrs() {
    let nested = |ept: &str, pat_entry, seen| Timed { nested: Some(ept.parse().unwrap()), pat_entry, ..timed(0, seen) };
    for (ept, pat_entry, memtype) in [
        ("WB", Some(0), MemType::Wp),
        ("WB+IPAT", Some(0), MemType::Wb),
        ("WC", Some(0), MemType::Uc),
        ("UC", Some(1), MemType::Uc),
        ("WP", None, MemType::Wp),
    ] {
        for seen in MemType::OF_MTRR {
            let expected = if seen == memtype { Verdict::Pass } else { Verdict::Fail };
            assert_eq!(verdict(START_CR0, &[], nested(ept, pat_entry, seen)).0, expected, "{ept} {pat_entry:?} {seen}");
        }
    }
    // What MTRRs hold does not matter there.
    assert_eq!(verdict(START_CR0, &[MTRR_DEF_TYPE], nested("WB", Some(0), MemType::Wp)).0, Verdict::Pass);
}

#[test]
fn nothing_passes_of_which_too_little_is_known() {
    let good = timed(0, MemType::Wp);
    for (hidden, why) in [(PAT, "what MTRRs, PAT or CR0 hold is not known"), (MTRR_DEF_TYPE, "what MTRRs")] {
        let (verdict, reason) = verdict(START_CR0, &[hidden], good);
        assert!(verdict == Verdict::Inconclusive && reason.contains(why), "{verdict:?} {reason}");
    }
    let (verdict, reason) = verdict(START_CR0, &[], Timed { stores: 7_300, ..good });
    assert!(verdict == Verdict::Inconclusive && reason.contains("no memory type takes such times"), "{reason}");
}

#[test]
fn without_a_clock_model_times_are_not_judged() {
    let whole = observed(START_CR0, &[], |out| out.timed(timed(0, MemType::Wp)));
    let mut silicon = bare();
    silicon.0.remove("clock");
    for (facts, clocks) in [(silicon, clocks()), (bare(), Clocks::default())] {
        let judgement = judge_where(&facts, &clocks, &whole);
        assert_eq!(judgement.verdict, Verdict::Inconclusive);
        assert!(judgement.reason.ends_with("no clock model of this machine: timings are kept, not judged"));
    }
}
