//! What guests do to registers.

use super::support::{Log, facts, judge, judge_by, policies, policies_with, run, with};
use crate::host::facts::Fact;
use crate::judge::{Deviations, Judgement, Point, Verdict};
use crate::machine::Observed;
use wire::frame::Writer;
use wire::host::HostRecord;
use wire::layout::{CR0_CD, CR0_NW, FIXED_MTRRS, MTRR_CAP, MTRR_DEF_TYPE, PAT, START_CR0};
use wire::outcome::{After, Fault, Outcome};
use wire::record::{CpuidLeaf, Series, Start};
use wire::register::{Place, Register};
use wire::step::{Status, Step};

const DISTINCT: u64 = 0x0106_0504_0106_0504;
const CR0: Place = Place::boot(Register::Cr0);

/// All values of all bytes of all fixed-range MTRRs, as a CPU with types `types` answers.
fn fixed(types: &[u8]) -> Observed {
    run(|out, _| {
        for index in FIXED_MTRRS {
            for byte in 0..8 {
                let mut runs = out.writes(Place::msr(index), Series::byte(DISTINCT, byte));
                (0..=255).for_each(|value| {
                    runs.push(if types.contains(&value) { Outcome::ACCEPTED } else { Outcome::REFUSED })
                });
            }
        }
    })
}

fn by(policy: &str, change: impl Fn(&str) -> String, observed: &Observed) -> Judgement {
    judge_by(&policies_with(policy, change), &Deviations::none(), observed, &facts())
}

#[test]
fn every_value_of_every_byte_is_a_point() {
    let judgement = judge(&fixed(&[0, 1, 4, 5, 6]));
    assert_eq!((judgement.verdict, judgement.points), (Verdict::Pass, 11 * 8 * 256));
}

#[test]
fn a_wrong_kvm_is_noticed() {
    let judgement = judge(&fixed(&[0, 1, 4, 5, 6, 7]));
    assert_eq!((judgement.verdict, judgement.disagreements_total), (Verdict::Fail, 11 * 8));
    let rule = |point: &Point| point.by.as_ref().unwrap().rule.clone();
    assert_eq!(judgement.disagreements[1].title(), "vCPU 0: WRMSR 0x250 IA32_MTRR_FIX64K_00000 <- 0x0106050401060704");
    assert_eq!(rule(&judgement.disagreements[1]), "byte 1 holds 0x07, no memory type");
    let lies = run(|out, _| {
        out.write(Place::msr(PAT), 0x0406, Outcome { fault: None, after: After::Value(0x0606) });
    });
    assert_eq!(judge(&lies).disagreements[0].seen, "accepted, reads back 0x606");
}

#[test]
fn what_is_said_of_points_that_are_shown_as_one_is_true_of_each() {
    let found = judge(&fixed(&[0, 1, 2, 3, 4, 5, 6, 7])).disagreements;
    let rule = |point: &Point| point.by.as_ref().unwrap().rule.clone();
    // Bytes apart, values of a byte together.
    assert_eq!(found[0].title(), "vCPU 0: WRMSR 0x250 IA32_MTRR_FIX64K_00000 <- 0x0106050401060502 (and 2 more)");
    assert_eq!(rule(&found[0]), "byte 0 holds no memory type");
    assert_eq!((found[1].count, rule(&found[1]).as_str()), (3, "byte 1 holds no memory type"));
    let bits = run(|out, _| {
        let mut runs = out.writes(Place::msr(0x201), Series::Flip { base: 0, first: 60 });
        (60..64).for_each(|_| runs.push(Outcome::ACCEPTED));
    });
    let found = judge(&bits).disagreements;
    assert_eq!((found.len(), found[0].count, rule(&found[0]).as_str()), (1, 4, "reserved bits are set"));
}

#[test]
fn a_wrong_model_is_noticed() {
    let good = fixed(&[0, 1, 4, 5, 6]);
    let types = "bytes = [0, 1, 2, 3, 4, 5, 6, 7], types = [0, 1, 4, 5, 6] ";
    let less =
        by("kvm-6.11", |text| text.replace(types, "bytes = [0, 1, 2, 3, 4, 5, 6, 7], types = [0, 1, 4, 6] "), &good);
    // Every accepted value has a 5 in another byte.
    assert_eq!((less.verdict, less.disagreements_total), (Verdict::Fail, 11 * 8 * 5));
    let bytes = by("kvm-6.11", |text| text.replace(types, "bytes = [0, 1, 2, 3], types = [0, 1, 4, 5, 6] "), &good);
    assert_eq!(bytes.verdict, Verdict::Fail);
    let row = by("kvm-6.11", |text| text.replace("\"0x268-0x26f\"", "\"0x268-0x26e\""), &good);
    assert_eq!((row.verdict, row.unpredicted), (Verdict::Inconclusive, 8 * 256 + 1));
    let reset = by("kvm-6.11", |text| text.replace("reset = 0\n", "reset = 6\n"), &good);
    assert_eq!(reset.verdict, Verdict::Fail);
}

#[test]
fn one_wrong_point_does_not_make_those_after_it_wrong() {
    let judgement = judge(&run(|out, _| {
        out.write(Place::msr(PAT), 2, Outcome::ACCEPTED);
        out.write(Place::msr(PAT), 3, Outcome::REFUSED);
        out.reads(Place::msr(PAT)).push(Ok(2));
        out.reads(Place::msr(PAT)).push(Ok(7));
        out.reads(Place::msr(PAT)).push(Ok(7));
        // After a fault, the value from before: said as such, and as a value that is another one.
        out.write(Place::msr(PAT), 3, Outcome { fault: Some(Fault::GP0), after: After::Value(7) });
        out.write(Place::msr(PAT), 3, Outcome { fault: Some(Fault::GP0), after: After::Value(3) });
    }));
    let seen: Vec<&str> = judgement.disagreements.iter().map(|point| point.seen.as_str()).collect();
    assert_eq!(seen, ["accepted, reads back as written", "0x7", "#GP(0), reads back 0x3"]);
}

#[test]
fn reserved_bits_depend_on_maxphyaddr() {
    let mask = |top: u8, observed: Outcome| {
        let log = run(|out, _| out.write(Place::msr(0x201), 1 << top | 0x800, observed));
        judge(&log)
    };
    assert_eq!(mask(39, Outcome::ACCEPTED).verdict, Verdict::Pass);
    assert_eq!(mask(40, Outcome::REFUSED).verdict, Verdict::Pass);
    let wrong = mask(40, Outcome::ACCEPTED);
    assert_eq!(wrong.disagreements[0].by.as_ref().unwrap().rule, "reserved bits 40 are set");
    let mut unknown = facts();
    unknown.forget("maxphyaddr");
    let log = run(|out, _| out.write(Place::msr(0x201), 1 << 39, Outcome::ACCEPTED));
    let judgement = judge_by(&policies(), &Deviations::none(), &log, &unknown);
    assert_eq!(judgement.verdict, Verdict::Inconclusive);
    assert!(judgement.reason.ends_with("MAXPHYADDR is not known"), "{}", judgement.reason);
}

#[test]
fn a_guest_must_be_shown_the_cpuid_that_was_configured() {
    let shown = |bits: u32| {
        judge(&run(|out, _| {
            out.cpuid(CpuidLeaf { leaf: 0x8000_0008, subleaf: 0, registers: [0x3000 | bits, 0, 0, 0] })
        }))
    };
    assert_eq!(shown(40).verdict, Verdict::Pass);
    assert_eq!(shown(39).reason, "CPUID 0x80000008.0: EAX[7:0], MAXPHYADDR: 0x27, where 0x28 is predicted");
}

#[test]
fn registers_that_are_not_there_cannot_be_read() {
    let unreadable = Outcome { fault: Some(Fault::GP0), after: After::Unreadable(13) };
    let judgement = judge(&run(|out, _| {
        out.write(Place::msr(0x210), 0, unreadable);
        let mut reads = out.reads(Place::msr(0x210));
        (0x210..0x250).for_each(|_| reads.push(Err(Fault::GP0)));
    }));
    assert_eq!((judgement.verdict, judgement.points), (Verdict::Pass, 65));
    let there = judge(&run(|out, _| out.write(Place::msr(0x210), 0, Outcome::REFUSED)));
    assert_eq!(there.disagreements[0].expected, "#GP(0), and #GP on reading it");
}

#[test]
fn unknown_msrs_may_be_ignored() {
    let ignores = with(&facts(), &[("ignore-msrs", Fact::Bool(true))]);
    let swallowed = Outcome { fault: None, after: After::Value(0x508) };
    let log = run(|out, _| {
        out.write(Place::msr(MTRR_CAP), 1, swallowed);
        out.write(Place::msr(0x270), 5, Outcome { fault: None, after: After::Value(0) });
        // Not this one: it is refused, not unknown.
        out.reads(Place::msr(0x251)).push(Err(Fault::GP0));
    });
    assert_eq!(judge_by(&policies(), &Deviations::none(), &log, &ignores).verdict, Verdict::Pass);
    assert_eq!(judge(&log).disagreements_total, 2);
}

#[test]
fn the_architecture_stands_beside_kvm() {
    let none = with(&facts(), &[("cpuid-mtrr", Fact::Bool(false))]);
    let log = run(|out, _| out.write(Place::msr(MTRR_DEF_TYPE), 0xc06, Outcome::ACCEPTED));
    let judgement = judge_by(&policies(), &Deviations::none(), &log, &none);
    assert_eq!((judgement.verdict, judgement.architecture.count), (Verdict::Pass, 1));
    let example = &judgement.architecture.examples[0];
    assert_eq!(example.architecture.as_deref(), Some("#GP(0), and #GP on reading it"));
    assert_eq!(judge(&log).architecture.count, 0);
}

#[test]
fn qemu_tcg_is_judged_by_the_architecture() {
    let tcg = with(&facts(), &[("machine", Fact::Text("qemu-tcg".into()))]);
    let judgement =
        judge_by(&policies(), &Deviations::none(), &fixed(&std::array::from_fn::<u8, 256, _>(|n| n as u8)), &tcg);
    assert_eq!(judgement.policy.as_deref(), Some("architecture"));
    assert_eq!((judgement.verdict, judgement.disagreements_total), (Verdict::Fail, 11 * 8 * 251));
}

#[test]
fn before_6_11_a_mask_keeps_the_bits_above_maxphyaddr() {
    let old = with(&facts(), &[("apic-bus-cycles", Fact::Bool(false))]);
    let place = Place { cpu: 1, register: Register::Msr(0x201) };
    let log = |grown: u64| {
        run(|_, log: &Log| {
            log.created(1);
            log.step(Step::SetMaxphyaddr { cpu: 1, bits: 36 }, Status::Done);
            log.step(Step::SetMsr { cpu: 1, index: 0x201, value: 0xf_f000_0800 }, Status::Done);
            log.reply(Step::GetMsr { cpu: 1, index: 0x201 }, 0xf_f000_0800);
            log.step(Step::SetMaxphyaddr { cpu: 1, bits: 46 }, Status::Done);
            log.reply(Step::GetMsr { cpu: place.cpu, index: 0x201 }, grown);
        })
    };
    let judged = |grown, facts| judge_by(&policies(), &Deviations::none(), &log(grown), facts).verdict;
    assert_eq!(judged(0x3fff_f000_0800, &old), Verdict::Pass);
    assert_eq!(judged(0xf_f000_0800, &old), Verdict::Fail);
    assert_eq!(judged(0xf_f000_0800, &facts()), Verdict::Pass);
}

#[test]
fn cr0_drops_some_bits_and_refuses_others() {
    let with = |bits: u64| START_CR0 | bits;
    let judgement = judge(&run(|out: &mut Writer<Log>, _| {
        out.reads(CR0).push(Ok(START_CR0));
        out.write(CR0, with(CR0_NW), Outcome::REFUSED);
        out.write(CR0, with(CR0_CD | CR0_NW), Outcome::ACCEPTED);
        out.write(CR0, with(1 << 40), Outcome::REFUSED);
        out.write(CR0, with(1 << 6), Outcome { fault: None, after: After::Value(START_CR0) });
        out.write(CR0, with(0) & !0x10, Outcome { fault: None, after: After::Value(START_CR0) });
        out.write(CR0, with(0) & !(1 << 31), Outcome::REFUSED);
        out.write(Place::boot(Register::Lmsw), 0xfffe, Outcome { fault: None, after: After::Value(with(0xe)) });
        out.write(Place::boot(Register::Clts), 0, Outcome { fault: None, after: After::Value(with(6)) });
    }));
    assert_eq!((judgement.verdict, judgement.reason.as_str()), (Verdict::Pass, ""));
    let kept = judge(&run(|out, _| out.write(CR0, with(1 << 6), Outcome::ACCEPTED)));
    assert_eq!(kept.disagreements[0].expected, "accepted, reads back 0x80010033");
}

#[test]
fn init_keeps_cd_and_nw_and_all_msrs() {
    let cr0 = Place { cpu: 1, register: Register::Cr0 };
    let pat = Place { cpu: 1, register: Register::Msr(PAT) };
    let after_init = |found: u64, kept: u64| {
        judge(&run(|out, log| {
            log.created(1);
            out.init(1);
            out.reads(cr0).push(Ok(0x6000_0010));
            out.up(1, Start::Sipi);
            out.reads(cr0).push(Ok(START_CR0 | CR0_CD | CR0_NW));
            out.write(cr0, START_CR0 | CR0_CD, Outcome::ACCEPTED);
            out.write(pat, 6, Outcome::ACCEPTED);
            out.init(1);
            out.reads(cr0).push(Ok(found));
            out.up(1, Start::Sipi);
            out.reads(pat).push(Ok(kept));
        }))
    };
    assert_eq!(after_init(0x4000_0010, 6).verdict, Verdict::Pass);
    let reset = after_init(0x6000_0010, 0x0007_0406_0007_0406);
    let expected: Vec<&str> = reset.disagreements.iter().map(|point| point.expected.as_str()).collect();
    assert_eq!(expected, ["0x40000010", "0x6"]);
}

#[test]
fn each_vcpu_has_its_own_state() {
    let other = Place { cpu: 1, register: Register::Msr(PAT) };
    let shared = judge(&run(|out, log| {
        log.created(1);
        out.write(Place::msr(PAT), 6, Outcome::ACCEPTED);
        out.reads(other).push(Ok(6));
    }));
    assert_eq!(shared.reason, "vCPU 1: RDMSR 0x277 IA32_PAT: 0x6, where 0x7040600070406 is predicted");
}

#[test]
fn what_is_not_known_is_taken_from_the_first_read() {
    let mut log = run(|out, _| {
        out.reads(Place::msr(PAT)).push(Ok(0x0606));
        out.write(Place::msr(PAT), 2, Outcome::REFUSED);
        out.reads(Place::msr(PAT)).push(Ok(0x0606));
    });
    log.log.retain(|line| !matches!(line, crate::machine::Line::Host(HostRecord::Reset { .. })));
    let judgement = judge(&log);
    assert_eq!((judgement.verdict, judgement.points), (Verdict::Pass, 3));
}
