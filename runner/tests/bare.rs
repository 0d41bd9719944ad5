//! The suite `bare` on Bochs: every combination of memory types is walked and right, and a wrong one would be noticed.

mod common;

use common::skip;
use kvm_memtype::config::{Set, Source};
use kvm_memtype::guests;
use kvm_memtype::host;
use kvm_memtype::host::facts::Facts;
use kvm_memtype::judge::{Deviations, Judge, Judgement, Verdict};
use kvm_memtype::machine::bochs::BochsMachine;
use kvm_memtype::machine::{Job, Limits, Line, Machine, Observed};
use kvm_memtype::model::policy::Policies;
use kvm_memtype::model::{Action, Decision, Event, Replay, Rule, events};
use kvm_memtype::plan::TestRef;
use kvm_memtype::plan::vm::VmConfig;
use std::collections::BTreeSet;
use wire::memtype::{EptType, MemType};
use wire::record::{Record, Timed};
use wire::stream::{Item, Reader};

const RUN: u64 = 0x5eed;

/// A Bochs whose clock shows memory types, or a skip.
fn bare() -> Option<Bare> {
    let machine = BochsMachine::new().map_err(|error| skip(&error.to_string())).ok()?;
    if machine.bochs().clock.is_none() {
        skip("Bochs is there, but not the build of ci/bochs: its clock shows no memory types");
        return None;
    }
    let mut facts = host::probe().facts(machine.name());
    facts.add(&machine.facts());
    let facts = host::vm_facts(&facts, &VmConfig::default());
    Some(Bare { machine, facts })
}

struct Bare {
    machine: BochsMachine,
    facts: Facts,
}

/// Sources of configurations, with `change` made in the text of each.
fn sources(kind: &str, change: impl Fn(&str) -> String) -> Vec<Source> {
    let set = Set::load(None).expect("the embedded configurations");
    set.sources(kind).map(|(_, source)| Source { text: change(&source.text), ..source.clone() }).collect()
}

fn policies() -> Policies {
    Policies::load(&sources("policies", str::to_owned)).expect("the policies")
}

fn test(id: &str) -> TestRef {
    guests::tests().expect("the tests").into_iter().find(|test| test.id() == id).expect("the test")
}

impl Bare {
    fn run(&self, test: &TestRef) -> Observed {
        let (vm, elf) = (VmConfig::default(), guests::find(&test.family).expect("an embedded guest").elf);
        assert_eq!(self.machine.lacks(test.needs, &vm), None);
        let limits = Limits::default();
        let job = Job { elf, run: RUN, test: &test.name, needs: test.needs, vm: &vm, limits, module: &[], watch: None };
        self.machine.run(&job).expect("Bochs runs the guest")
    }

    fn judge(&self, policies: &Policies, test: &TestRef, observed: &Observed) -> Judgement {
        let deviations = Deviations::none();
        Judge::new(policies, &deviations).cell(&test.id(), test.points, observed, Some(RUN), &self.facts)
    }

    /// Runs the test, demands that it passes with as many points as it says, and gives all records of it.
    fn passes(&self, test: &TestRef) -> Vec<Record> {
        let observed = self.run(test);
        let judgement = self.judge(&policies(), test, &observed);
        assert_eq!(judgement.verdict, Verdict::Pass, "{}: {}", test.id(), judgement.reason);
        assert_eq!(judgement.points, test.points, "{} makes other points than it says", test.id());
        records(&observed)
    }

    /// What the model makes of the timed accesses among these records.
    fn timed(&self, records: &[Record]) -> Vec<(Timed, Combination, bool)> {
        let policies = policies();
        let policy = policies.governing(&self.facts).expect("a policy");
        let mut replay = Replay::new(policy, &self.facts, false);
        let mut decisions = Vec::new();
        replay.take(Event::Begin, &mut decisions);
        records.iter().flat_map(events).for_each(|event| replay.take(event, &mut decisions));
        decisions.iter().filter_map(combination).collect()
    }
}

fn records(observed: &Observed) -> Vec<Record> {
    let mut reader = Reader::new(Some(RUN));
    let guest = observed.log.iter().filter_map(|line| match line {
        Line::Guest(line) => reader.line(line).expect("a good line"),
        Line::Console(_) | Line::Host(_) => None,
    });
    guest.filter_map(|item| if let Item::Record(record) = item { Some(record) } else { None }).collect()
}

/// What decides an effective memory type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Below {
    Mtrr(MemType),
    Ept(EptType),
}
type Combination = (Below, MemType, bool);

/// A timed access with the combination under which the model sees it, and whether it is as predicted.
fn combination(decision: &Decision<'_>) -> Option<(Timed, Combination, bool)> {
    let Action::Timed(timed) = decision.action else { return None };
    let combination = match decision.predicted.expect("a prediction").rule {
        Rule::PageType { mtrr, pat, cd } => (Below::Mtrr(mtrr), pat, cd),
        Rule::EptPageType { ept, pat, cd } => (Below::Ept(ept), pat, cd),
        other => panic!("timed accesses by the rule `{other}`"),
    };
    Some((timed, combination, decision.agrees().expect("a prediction")))
}

/// Every combination of these, with CR0.CD clear and set.
fn product(below: &[Below], pats: &[MemType]) -> Vec<Combination> {
    let with_pats = below.iter().flat_map(|&below| pats.iter().map(move |&pat| (below, pat)));
    with_pats.flat_map(|(below, pat)| [false, true].map(|cd| (below, pat, cd))).collect()
}

fn all_right(timed: &[(Timed, Combination, bool)]) -> bool {
    timed.iter().all(|&(_, _, agrees)| agrees)
}

#[test]
fn every_combination_of_mtrr_pat_and_cd_is_walked_and_right() {
    let Some(bare) = bare() else { return };
    let (each, uc) = (MemType::OF_MTRR.map(Below::Mtrr), [Below::Mtrr(MemType::Uc)]);
    for (name, below, places) in [
        ("types/variable", &each[..], 2),
        ("types/default", &each, 2),
        ("types/fixed", &each, 3),
        ("types/disabled", &uc, 2),
    ] {
        let timed = bare.timed(&bare.passes(&test(name)));
        assert!(all_right(&timed), "{name}");
        let product = product(below, &MemType::ALL);
        let came: BTreeSet<_> = timed.iter().map(|&(timed, it, _)| (timed.gpa, timed.pat_entry, it)).collect();
        let gpas: BTreeSet<u64> = timed.iter().map(|(timed, ..)| timed.gpa).collect();
        assert_eq!(gpas.len(), places, "{name}");
        for gpa in gpas {
            for entry in 0..8 {
                for &it in &product {
                    assert!(came.contains(&(gpa, Some(entry), it)), "{name}: {it:?} by entry {entry} at {gpa:#x}");
                }
            }
        }
        assert_eq!(came.len(), places * 8 * product.len(), "{name}");
    }
    let overlaps = bare.timed(&bare.passes(&test("types/overlaps")));
    assert!(overlaps.len() > 50 && all_right(&overlaps));
}

#[test]
fn every_combination_of_ept_leaf_pat_and_cd_is_walked_and_right() {
    let Some(bare) = bare() else { return };
    let leaves: Vec<_> = [false, true]
        .into_iter()
        .flat_map(|ignore_pat| MemType::OF_MTRR.map(|memtype| Below::Ept(EptType { memtype, ignore_pat })))
        .collect();
    // With paging off the PAT's type is WB.
    for (name, pats) in
        [("ept/small", &MemType::ALL[..]), ("ept/large", &MemType::ALL), ("ept/unpaged", &[MemType::Wb])]
    {
        let timed = bare.timed(&bare.passes(&test(name)));
        assert!(all_right(&timed), "{name}");
        let came: BTreeSet<_> = timed.iter().map(|&(_, it, _)| it).collect();
        assert_eq!(came, product(&leaves, pats).into_iter().collect(), "{name}");
        assert!(timed.iter().all(|(timed, ..)| timed.pat_entry.is_none() == (name == "ept/unpaged")));
    }
}

/// Bochs has no caches, so that nothing is stale in it; what is shown is that every combination has a prediction.
#[test]
fn every_two_mappings_and_the_order_of_stores_are_decided() {
    let Some(bare) = bare() else { return };
    for (name, combinations) in [
        ("alias/same-type", 12),
        ("alias/flushed", 36),
        ("alias/pairs", 72),
        ("alias/cpus-flushed", 11),
        ("alias/cpus", 11),
        ("alias/invd", 6),
        ("order/fenced", 6),
        ("order/plain", 6),
    ] {
        let test = test(name);
        let observed = bare.run(&test);
        let judgement = bare.judge(&policies(), &test, &observed);
        assert_eq!((judgement.verdict, judgement.unpredicted), (Verdict::Pass, 0), "{name}: {}", judgement.reason);
        let counted = |record: &Record| matches!(record, Record::Aliased(_) | Record::Ordered(_));
        assert_eq!(records(&observed).iter().filter(|record| counted(record)).count(), combinations, "{name}");
    }
}

/// Bochs as distributed makes WT of WT x WP.
#[test]
fn a_wrong_cell_of_the_table_is_noticed() {
    let Some(bare) = bare() else { return };
    let records = bare.passes(&test("types/variable"));
    let right = bare.timed(&records);
    let stock = (Below::Mtrr(MemType::Wt), MemType::Wp, false);
    let wt = right.iter().find(|&&(_, it, _)| it == (Below::Mtrr(MemType::Wt), MemType::Wt, false)).expect("WT").0;
    let mut planted = 0;
    let mut all = right.iter();
    let changed: Vec<Record> = records
        .into_iter()
        .map(|record| match record {
            Record::Timed(timed) if all.next().expect("its decision").1 == stock => {
                planted += 1;
                Record::Timed(Timed { times: wt.times, ..timed })
            }
            other => other,
        })
        .collect();
    assert_eq!(planted, 16, "two pages by each of eight entries");
    for (_, it, agrees) in bare.timed(&changed) {
        assert_eq!(agrees, it != stock, "{it:?}");
    }
}

#[test]
fn a_wrong_model_is_noticed() {
    let Some(bare) = bare() else { return };
    let overlaps = test("types/overlaps");
    let observed = bare.run(&overlaps);
    assert_eq!(bare.judge(&policies(), &overlaps, &observed).verdict, Verdict::Pass);
    // The lookup of KVM up to 6.10, by which the higher of two ranges can hide UC.
    let kvm = sources("policies", |text| text.replace("mtrr-pat = \"sdm\"", "mtrr-pat = \"kvm-pre-6.11\""));
    let judgement = bare.judge(&Policies::load(&kvm).expect("the policies"), &overlaps, &observed);
    assert_eq!(judgement.verdict, Verdict::Fail, "{}", judgement.reason);
    assert!(judgement.reason.contains("UC, where WB is predicted"), "{}", judgement.reason);
}

/// Without the pages by which times are read the same run is no pass.
#[test]
fn times_alone_are_no_pass() {
    let Some(bare) = bare() else { return };
    let records = bare.passes(&test("types/overlaps"));
    let policies = policies();
    let mut replay = Replay::new(policies.governing(&bare.facts).expect("a policy"), &bare.facts, false);
    let mut decisions = Vec::new();
    replay.take(Event::Begin, &mut decisions);
    let blind = records.iter().filter(|record| !matches!(record, Record::Reference(_)));
    blind.flat_map(events).for_each(|event| replay.take(event, &mut decisions));
    let timed: Vec<_> = decisions.iter().filter(|decision| matches!(decision.action, Action::Timed(_))).collect();
    assert!(!timed.is_empty() && timed.iter().all(|decision| decision.agrees().is_none()));
}
