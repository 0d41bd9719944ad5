//! Tables of leaf SPTEs, from logs as guests and VMMs write them.

use super::*;
use crate::config::Set;
use crate::host::facts::Fact;
use crate::judge::Deviations;
use crate::machine::{End, Line, Observed};
use crate::model::policy::Policies;
use crate::plan::vm::VmConfig;
use crate::results::{CellResult, Header, PlannedCell};
use snapbox::{assert_data_eq, str};
use std::cell::RefCell;
use std::rc::Rc;
use wire::frame::{Sink, Writer};
use wire::layout::{EXIT_DONE, FIXED_MTRRS, MTRR_DEF_TYPE, MTRR_PHYSBASE0, WINDOW};
use wire::outcome::Outcome;
use wire::register::{Place, Register};
use wire::step::{SlotApi, SlotMemory};

const RUN: u64 = 0x5eed;

/// A log that grows.
#[derive(Clone, Default)]
struct Log(Rc<RefCell<(Vec<Line>, Vec<u8>)>>);

impl Sink for Log {
    fn put(&mut self, byte: u8) {
        let (lines, rest) = &mut *self.0.borrow_mut();
        match byte {
            b'\n' => lines.push(Line::Guest(String::from_utf8(std::mem::take(rest)).unwrap())),
            _ => rest.push(byte),
        }
    }
}

impl Log {
    fn host(&self, record: HostRecord) {
        self.0.borrow_mut().0.push(Line::Host(record));
    }

    fn step(&self, step: Step) {
        self.host(HostRecord::Step { step, status: Status::Done, value: 0 });
    }
}

/// A run of one cell on a kernel: default types UC and WB, and each time a page gets a leaf of these bits 6:3; then a
/// device is plugged in, by which so many leaves go.
fn run(kernel: &str, apic_bus_cycles: bool, dma: bool, leaves: [u64; 2], zaps: u64) -> Run {
    let log = Log::default();
    let reset = |register, value| log.host(HostRecord::Reset { at: Place::boot(register), value });
    reset(Register::Cr0, 0x6000_0010);
    for index in FIXED_MTRRS.into_iter().chain(MTRR_PHYSBASE0..0x210).chain([MTRR_DEF_TYPE]) {
        reset(Register::Msr(index), 0);
    }
    let mut guest = Writer::begin(log.clone(), RUN, "memtype", "default-type");
    log.step(Step::SetSlot { api: SlotApi::V1, slot: 1, flags: 0, gpa: WINDOW, pages: 16, memory: SlotMemory::Small });
    let spte = |page, old, new| log.host(HostRecord::Spte { gfn: (WINDOW >> 12) + page, level: 1, old, new });
    for (page, (memtype, bits)) in (0..).zip([0, 6].into_iter().zip(leaves)) {
        guest.write(Place::msr(MTRR_DEF_TYPE), 0x800 | memtype, Outcome::ACCEPTED);
        log.step(Step::Mark);
        spte(page, 0, 7 | bits);
        log.step(Step::Mark);
    }
    log.step(Step::PlugDma);
    (0..zaps).for_each(|page| spte(page, 7, 0));
    log.step(Step::Mark);
    guest.finish();
    let facts = [
        ("machine", Fact::Text("kvm".into())),
        ("kvm-vendor", Fact::Text("kvm_intel".into())),
        ("tdp", Fact::Bool(true)),
        ("tdp-mmu", Fact::Bool(true)),
        ("apic-bus-cycles", Fact::Bool(apic_bus_cycles)),
        ("memslots-v2", Fact::Bool(apic_bus_cycles)),
        ("offers-ignore-guest-pat", Fact::Bool(false)),
        ("maxphyaddr", Fact::Int(39)),
    ];
    let cell = "memtype/default-type";
    let vm = VmConfig { non_coherent_dma: dma, ..VmConfig::default() };
    let header = Header {
        run: RUN,
        started: "20251120T110000Z".into(),
        machine: "kvm".into(),
        suite: "memtype".into(),
        facts: facts.into_iter().collect(),
        host: BTreeMap::from([("kernel".into(), format!("Linux {kernel} #1"))]),
        cells: vec![PlannedCell { id: cell.into(), vm, points: 0, run: None }],
        ..Header::default()
    };
    let lines = log.0.borrow().0.clone();
    let observed = Observed { log: lines, end: End::Exit(EXIT_DONE), micros: 1, witness: Default::default() };
    let results = vec![CellResult { cell: cell.into(), outcome: CellOutcome::Observed(observed) }];
    Run { dir: format!("results/{kernel}-{dma}").into(), header, results, torn: 0, whole: 0 }
}

fn printed(runs: &[Run]) -> String {
    let set = Set::load(None).unwrap();
    let policies = Policies::load(set.sources("policies").map(|(_, source)| source)).unwrap();
    let deviations = Deviations::none();
    let judge = Judge::new(&policies, &deviations);
    let (mut leaves, mut out) = (Leaves::default(), Vec::new());
    runs.iter().for_each(|run| leaves.add(&judge, run).unwrap());
    leaves.print(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn runs_stand_side_by_side() {
    let mut skipped = run("6.12", true, true, [0, 0], 0);
    skipped.results[0].outcome = CellOutcome::Skip("no provider was named".into());
    let runs = [run("6.1", false, false, [0x70, 0x70], 0), run("6.1", false, true, [0, 0x30], 1), skipped];
    assert_data_eq!(
        printed(&runs),
        str![[r#"
## Leaf SPTEs

| state of the VM | 6.1 (6.1-false) | 6.1 (6.1-true) | 6.12 |
|---|---|---|---|
| default | WB+IPAT | - | -[^1] |
| non-coherent DMA | - | guest MTRR type: UC, WB | -[^1] |

## Leaves zapped

| event and state of the VM afterwards | 6.1 (6.1-false) | 6.1 (6.1-true) | 6.12 |
|---|---|---|---|
| non-coherent DMA plugged in: non-coherent DMA, plugged in later | none | 1 of 2 | -[^1] |
| IA32_MTRR_DEF_TYPE written: default | none | - | -[^1] |
| IA32_MTRR_DEF_TYPE written: non-coherent DMA | - | none | -[^1] |

[^1]: no provider was named

## Runs

- 6.1 (6.1-false): Linux 6.1 #1; suite memtype, 20251120T110000Z
- 6.1 (6.1-true): Linux 6.1 #1; suite memtype, 20251120T110000Z
- 6.12: Linux 6.12 #1; suite memtype, 20251120T110000Z

"#]]
    );
}

/// A run whose witness missed something, alone, and beside one that did not.
#[test]
fn what_a_witness_missed_is_no_row() {
    let mut missed = run("6.1", false, false, [0x70, 0x70], 1);
    let CellOutcome::Observed(observed) = &mut missed.results[0].outcome else { unreachable!("it was observed") };
    observed.witness.gaps.push("7 events were lost".into());
    assert!(!printed(&[missed.clone()]).contains("| default |"));
    let both = printed(&[missed, run("6.12", true, false, [0x70, 0x70], 2)]);
    assert!(both.contains("| default | -[^1] | WB+IPAT |"), "{both}");
    assert!(both.contains("later | -[^1] | all |") && both.contains("[^1]: 7 events were lost"), "{both}");
}
