//! Families `alias` and `order` on /dev/kvm: every combination is walked, what any KVM can decide is decided, and what
//! takes an effective type that nobody predicts is not.

mod common;

use common::{kvm, skip};
use kvm_memtype::config::Set;
use kvm_memtype::guests;
use kvm_memtype::host;
use kvm_memtype::judge::{Deviations, Judge, Judgement, Verdict};
use kvm_memtype::machine::kvm::KvmMachine;
use kvm_memtype::machine::{Job, Limits, Line, Machine};
use kvm_memtype::model::policy::Policies;
use kvm_memtype::plan::vm::VmConfig;
use std::collections::HashSet;
use wire::coherence::{Aliased, Between, Ordered, Side};
use wire::record::Record;
use wire::stream::{Item, Reader};

const RUN: u64 = 0x5eed;
/// Entries of the PAT, one of each type, WB first.
const ENTRIES: [u8; 6] = [0, 1, 2, 3, 4, 6];

/// What came of a test on /dev/kvm, or a skip.
fn judged(machine: &KvmMachine, family: &str, name: &str) -> Option<(Judgement, Vec<Record>)> {
    let (set, vm) = (Set::load(None).unwrap(), VmConfig::default());
    let test = guests::tests().unwrap().into_iter().find(|test| test.family == family && test.name == name).unwrap();
    if let Some(reason) = machine.lacks(test.needs, &vm) {
        skip(&reason);
        return None;
    }
    let elf = guests::find(family).unwrap().elf;
    let job = Job {
        elf,
        run: RUN,
        test: name,
        needs: test.needs,
        vm: &vm,
        limits: Limits::default(),
        module: &[],
        watch: None,
    };
    let observed = machine.run(&job).unwrap();
    let policies = Policies::load(set.sources("policies").map(|(_, source)| source)).unwrap();
    let (deviations, facts) = (Deviations::none(), host::vm_facts(&host::probe().facts("kvm"), &vm));
    let judge = Judge::new(&policies, &deviations);
    let judgement = judge.cell(&test.id(), test.points, &observed, Some(RUN), &facts);
    let mut reader = Reader::new(Some(RUN));
    let lines = observed.log.iter().filter_map(|line| match line {
        Line::Guest(line) => reader.line(line).expect("a good line"),
        Line::Console(_) | Line::Host(_) => None,
    });
    let records = lines.filter_map(|item| if let Item::Record(record) = item { Some(record) } else { None }).collect();
    Some((judgement, records))
}

fn aliased(records: &[Record]) -> Vec<Aliased> {
    records.iter().filter_map(|record| if let Record::Aliased(it) = record { Some(*it) } else { None }).collect()
}

fn ordered(records: &[Record]) -> Vec<Ordered> {
    records.iter().filter_map(|record| if let Record::Ordered(it) = record { Some(*it) } else { None }).collect()
}

/// Who stores and who loads.
type Sides = HashSet<(Side, Side)>;

fn guest(cpu: u8, pat_entry: u8) -> Side {
    Side::Guest { cpu, pat_entry }
}

/// Stores on vCPU 0 and loads on vCPU `reader`, by each two entries that are wanted.
fn pairs(reader: u8, wanted: impl Fn(u8, u8) -> bool) -> Sides {
    let all = ENTRIES.into_iter().flat_map(|store| ENTRIES.map(|load| (store, load)));
    let wanted = all.filter(|&(store, load)| wanted(store, load));
    wanted.map(|(store, load)| (guest(0, store), guest(reader, load))).collect()
}

fn walked(all: &[Aliased]) -> Sides {
    all.iter().map(|it| (it.store, it.load)).collect()
}

#[test]
fn what_is_so_whatever_the_types_are_is_decided_on_any_kvm() {
    let Some(machine) = kvm() else { return };
    let one_type = pairs(0, |store, load| store == load);
    let two_cpus = pairs(1, |store, load| store == 0 || load == 0);
    let host = ENTRIES.iter().flat_map(|&it| [(guest(0, it), Side::Host), (Side::Host, guest(0, it))]).collect();
    for (name, loads, wanted) in [
        ("same-type", 256, one_type.clone()),
        ("flushed", 256, pairs(0, |_, _| true)),
        ("cpus-flushed", 128, two_cpus),
        ("host-flushed", 8, host),
        ("invd", 256, one_type),
    ] {
        let Some((judgement, records)) = judged(&machine, "alias", name) else { continue };
        assert_eq!(judgement.verdict, Verdict::Pass, "{name}: {}", judgement.reason);
        let all = aliased(&records);
        assert!(all.iter().all(|it| it.new == loads && !it.machine_check), "{name}: {all:?}");
        assert_eq!(walked(&all), wanted, "{name}");
    }
}

#[test]
fn what_takes_a_type_is_decided_where_one_is_predicted() {
    let Some(machine) = kvm() else { return };
    let all_pairs = pairs(0, |_, _| true);
    for (name, wanted) in
        [("pairs", Some(all_pairs.clone())), ("slot-pairs", Some(all_pairs)), ("host", None), ("wbinvd", None)]
    {
        let Some((judgement, records)) = judged(&machine, "alias", name) else { continue };
        let all = aliased(&records);
        assert!(all.iter().all(|it| it.other == 0 && it.new > 0), "{name}: {all:?}");
        if let Some(wanted) = wanted {
            assert_eq!(walked(&all), wanted, "{name}");
        }
        // INVD and WBINVD are timed where they are done, and nothing else is.
        let timed = |it: &Aliased| matches!(it.between, Between::Invd | Between::Wbinvd);
        assert!(all.iter().all(|it| (it.ticks > 0) == timed(it)), "{name}");
        // A page that no SPTE witness watches and no step made is a page of unknown type on any KVM.
        let undecided = judgement.verdict == Verdict::Inconclusive && judgement.unpredicted > 0;
        assert!(undecided || judgement.verdict == Verdict::Pass, "{name}: {}", judgement.reason);
    }
}

#[test]
fn message_passing_with_fences_keeps_its_order_where_vcpus_run_at_the_same_time() {
    let Some(machine) = kvm() else { return };
    for name in ["fenced", "slot"] {
        let Some((judgement, records)) = judged(&machine, "order", name) else { continue };
        let all = ordered(&records);
        assert!(all.iter().map(|it| it.pat_entry).eq(ENTRIES), "{name}: {all:?}");
        assert!(all.iter().all(|it| it.samples >= it.moved && it.moved > 0), "{name}: {all:?}");
        if name == "fenced" {
            assert!(all.iter().all(|it| it.fenced && it.reordered == 0), "{all:?}");
            // On a busy host they may have run in turn, and then that is said.
            let in_turn = judgement.reason.contains("hardly ran at the same time");
            assert!(in_turn || judgement.verdict == Verdict::Pass, "{}", judgement.reason);
        } else {
            assert!(matches!(judgement.verdict, Verdict::Pass | Verdict::Inconclusive), "{}", judgement.reason);
        }
    }
}
