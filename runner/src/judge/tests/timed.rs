//! Timed accesses on a bare machine: what their times are judged as.

use super::support::{DONE, Log, RUN, policies_with, with};
use crate::host::facts::{Fact, Facts};
use crate::judge::{Deviations, Judge, Judgement, Verdict};
use crate::machine::Observed;
use crate::model::timing::tests::Cpu;
use wire::frame::Writer;
use wire::layout::{CR0_CD, FIXED_MTRRS, MTRR_DEF_TYPE, MTRR_PHYSBASE0, PAT, START_CR0};
use wire::memtype::MemType;
use wire::record::Timed;
use wire::register::{Place, Register};

/// Types in the entries of the PAT: WP in the first, WB in the last, else those of a reset.
const ENTRIES: u64 = 0x0607_0406_0007_0405;
/// MTRRs enabled, and the default type WT.
const DEF_TYPE: u64 = 0x804;

/// The facts of a bare machine.
fn bare() -> Facts {
    let text = |text: &str| Fact::Text(text.into());
    with(
        &Facts::default(),
        &[("machine", text("bochs")), ("maxphyaddr", Fact::Int(40)), ("cpuid-mtrr", Fact::Bool(true))],
    )
}

fn timed(entry: u8, seen: MemType) -> Timed {
    let times = Cpu::USUAL.times(seen);
    Timed { cpu: 0, cpl: 3, gpa: 0x20_0000, pat_entry: Some(entry), nested: None, times }
}

/// The pages by which times are read: of entry 7, which is WB, and of entry 3, which is UC, as they look by their times.
fn calibrate(out: &mut Writer<Log>, cpu: Cpu, seen: [MemType; 2]) {
    for (pat_entry, memtype) in [(Some(7), seen[0]), (Some(3), seen[1])] {
        out.reference(Timed { pat_entry, times: cpu.times(memtype), ..timed(0, memtype) });
    }
}

/// Those of a VM of the KVM of that vendor module.
fn kvm(vendor: &str) -> Facts {
    let text = |text: &str| Fact::Text(text.into());
    with(&bare(), &[("machine", text("kvm")), ("kvm-vendor", text(vendor))])
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

/// By the policy of bare metal, on KVM too.
fn judge_where(facts: &Facts, observed: &Observed) -> Judgement {
    let bochs = "{ machine = \"bochs\" }";
    let policies =
        policies_with("architecture", |text| text.replace(bochs, &format!("{bochs}, {{ machine = \"kvm\" }}")));
    Judge::new(&policies, &Deviations::none()).cell("family/test", 0, observed, Some(RUN), facts)
}

fn verdict(cr0: u64, hidden: &[u32], timed: Timed) -> (Verdict, String) {
    let observed = observed(cr0, hidden, |out| {
        calibrate(out, Cpu::USUAL, [MemType::Wb, MemType::Uc]);
        out.timed(timed);
    });
    let judgement = judge_where(&bare(), &observed);
    (judgement.verdict, judgement.reason)
}

#[test]
fn the_type_of_the_times_must_be_the_predicted_one() {
    assert_eq!(verdict(START_CR0, &[], timed(0, MemType::Wp)), (Verdict::Pass, String::new()));
    let (verdict, reason) = verdict(START_CR0, &[], timed(0, MemType::Wt));
    assert_eq!(verdict, Verdict::Fail, "a machine that makes WT of WT x WP");
    assert_eq!(reason, "vCPU 0: timed GPA 0x200000 at CPL 3, PAT entry 0: WT, where WP is predicted");
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
    let (verdict_of, reason) = verdict(START_CR0, &[MTRR_DEF_TYPE], timed(0, MemType::Wp));
    assert!(verdict_of == Verdict::Inconclusive && reason.contains("what MTRRs, PAT or CR0 hold"), "{reason}");
    let (verdict_of, reason) = verdict(START_CR0, &[PAT], timed(0, MemType::Wp));
    assert!(verdict_of == Verdict::Inconclusive && reason.contains("no page of this vCPU was timed"), "{reason}");
    let between = Timed { times: Cpu { to_memory: 50, ..Cpu::USUAL }.times(MemType::Wt), ..timed(1, MemType::Wt) };
    let (verdict_of, reason) = verdict(START_CR0, &[], between);
    assert!(verdict_of == Verdict::Inconclusive && reason.contains("could be those of WT or WB"), "{reason}");
}

#[test]
fn a_page_that_was_not_calibrated_for_is_no_pass() {
    let judgement = judge_where(&bare(), &observed(START_CR0, &[], |out| out.timed(timed(0, MemType::Wp))));
    assert_eq!(judgement.verdict, Verdict::Inconclusive);
    assert!(judgement.reason.ends_with("no page of this vCPU was timed by which these times could be read"));
}

/// What times say of WB where nothing else was ever seen: something on silicon, nothing in a guest of somebody else's.
#[test]
fn wb_is_believed_where_something_else_could_have_been() {
    let wb = |facts: &Facts, seen| {
        let whole = observed(START_CR0, &[], |out| {
            calibrate(out, Cpu::USUAL, [MemType::Wb, seen]);
            out.timed(timed(7, MemType::Wb));
        });
        // The page is expected to be WT: this asks only whether its times are read at all.
        judge_where(facts, &whole)
    };
    let vendor = |name: &str, hypervisor| with(&kvm(name), &[("host-hypervisor", Fact::Bool(hypervisor))]);
    for (facts, seen, read) in [
        (bare(), MemType::Uc, true),
        (bare(), MemType::Wb, false),
        (vendor("kvm_intel", false), MemType::Wb, true),
        (vendor("kvm_intel", true), MemType::Wb, false),
        (vendor("kvm_intel", true), MemType::Uc, true),
        (vendor("kvm_pvm", false), MemType::Wb, false),
    ] {
        let judgement = wb(&facts, seen);
        let said = judgement.reason.contains("this host cannot tell UC from WB: a load takes 4 ticks");
        assert_eq!((judgement.verdict == Verdict::Fail, said), (read, !read), "{facts:?}: {}", judgement.reason);
    }
}

/// An emulator takes about as long for an access as memory does.
#[test]
fn times_at_cpl_0_are_not_believed_where_it_may_be_emulated() {
    let at_0 = |vendor: &str| {
        let whole = observed(START_CR0, &[], |out| {
            calibrate(out, Cpu::USUAL, [MemType::Wb, MemType::Uc]);
            out.timed(Timed { cpl: 0, ..timed(3, MemType::Uc) });
        });
        judge_where(&kvm(vendor), &whole)
    };
    assert_eq!(at_0("kvm_intel").verdict, Verdict::Pass);
    // On a machine without KVM it does not matter which one the host has.
    let whole = observed(START_CR0, &[], |out| {
        calibrate(out, Cpu::USUAL, [MemType::Wb, MemType::Uc]);
        out.timed(Timed { cpl: 0, ..timed(3, MemType::Uc) });
    });
    let host = with(&bare(), &[("kvm-vendor", Fact::Text("kvm_pvm".into()))]);
    assert_eq!(judge_where(&host, &whole).verdict, Verdict::Pass);
    let judgement = at_0("kvm_pvm");
    assert!(judgement.verdict == Verdict::Inconclusive && judgement.reason.contains("CPL 0"), "{}", judgement.reason);
}

/// Page tables of types by which the CPU's reads of them are held against a WB one.
#[test]
fn reads_of_page_tables_are_judged_where_the_cpu_does_them() {
    let walks = |entry: u8, seen| Timed { cpl: 0, times: Cpu::USUAL.walks(seen), ..timed(entry, seen) };
    let judged = |facts: &Facts, calibrated: bool, entry, seen| {
        let whole = observed(START_CR0, &[], |out| {
            calibrate(out, Cpu::USUAL, [MemType::Wb, MemType::Wb]);
            if calibrated {
                out.reference(walks(7, MemType::Wb));
                out.reference(walks(3, MemType::Uc));
            }
            out.timed(walks(entry, seen));
        });
        judge_where(facts, &whole)
    };
    let verdict = |calibrated, entry, seen| judged(&bare(), calibrated, entry, seen).verdict;
    assert_eq!(verdict(true, 3, MemType::Uc), Verdict::Pass);
    assert_eq!(verdict(true, 7, MemType::Wb), Verdict::Pass);
    assert_eq!(verdict(true, 7, MemType::Uc), Verdict::Fail);
    assert_eq!(verdict(true, 3, MemType::Wb), Verdict::Fail);
    assert_eq!(verdict(false, 3, MemType::Uc), Verdict::Inconclusive);
    // What an emulator takes shows no type, not even of the reference.
    let judgement = judged(&kvm("kvm_pvm"), true, 3, MemType::Uc);
    assert!(judgement.verdict == Verdict::Inconclusive && judgement.reason.contains("CPL 0"), "{}", judgement.reason);
}

#[test]
fn a_machine_whose_time_shows_no_cache_is_inconclusive() {
    let flat = Cpu { hit: 30, miss: 31, store: 30, to_memory: 30, ..Cpu::USUAL };
    let whole = observed(START_CR0, &[], |out| {
        calibrate(out, flat, [MemType::Wb, MemType::Uc]);
        out.timed(Timed { times: flat.times(MemType::Wp), ..timed(0, MemType::Wp) });
    });
    let judgement = judge_where(&bare(), &whole);
    assert_eq!(judgement.verdict, Verdict::Inconclusive);
    assert!(judgement.reason.contains("a load takes 30 ticks, and 31 after"), "{}", judgement.reason);
}
