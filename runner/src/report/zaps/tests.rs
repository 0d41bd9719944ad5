//! The table of what boots cost, from logs as guests and VMMs write them.

use super::*;
use crate::host::facts::Fact;
use crate::machine::End;
use crate::plan::vm::VmConfig;
use crate::results::{CellResult, Header, PlannedCell};
use crate::witness::Witnessed;
use proptest::prelude::*;
use snapbox::{assert_data_eq, str};
use wire::register::{Place, Register};
use wire::step::SlotApi;

/// A leaf of type WB+IPAT, and none.
const LEAF: u64 = 0x0600_0001_0a2b_3977;
const GONE: u64 = 0x5a0;

fn step(step: Step, value: u64) -> HostRecord {
    HostRecord::Step { step, status: Status::Done, value }
}

fn spte(gfn: u64, old: u64, new: u64) -> HostRecord {
    HostRecord::Spte { gfn, level: 1, old, new }
}

/// A guest of two vCPUs with 8 MiB of memory behind its RAM, whose boot is that.
fn observed(boot: &[HostRecord], watched: &[Kind]) -> Observed {
    let reset = |cpu| HostRecord::Reset { at: Place { cpu, register: Register::Cr0 }, value: 0 };
    let (api, memory) = (SlotApi::V1, SlotMemory::Sparse);
    let before = [
        reset(0),
        reset(1),
        step(Step::SetSlot { api, slot: 2, flags: 0, gpa: RAM, pages: 2048, memory }, 0),
        spte(0x800, 0, LEAF),
        HostRecord::Zap { start: 0, end: 1, ticks: 9 },
        step(Step::Clock { ticks: 1_000_000 }, 5_000_000),
    ];
    let after = [step(Step::Clock { ticks: 3_500_000 }, 6_250_000), spte(0x800, LEAF, GONE)];
    let log = [&before, boot, &after].concat().into_iter().map(Line::Host).collect();
    let witness = Witnessed { watched: watched.iter().copied().collect(), ..Witnessed::default() };
    Observed { log, end: End::Exit(16), micros: 0, witness }
}

fn run(dir: &str, watched: &[Kind], cells: &[(&str, CellOutcome)]) -> Run {
    let facts = [("kvm-vendor", Fact::Text("kvm_intel".into())), ("tdp", Fact::Bool(true))];
    let planned =
        cells.iter().map(|(id, _)| PlannedCell { id: (*id).into(), points: 1, vm: VmConfig::default(), run: None });
    Run {
        dir: dir.into(),
        header: Header {
            run: 1,
            started: "2026-11-21T09:00:00Z".into(),
            version: "0".into(),
            machine: "kvm".into(),
            suite: "zaps".into(),
            facts: facts.into_iter().collect(),
            host: [("kernel".to_owned(), "Linux 6.1.0 #1".to_owned())].into(),
            witnesses: watched.iter().copied().collect(),
            cells: planned.collect(),
            ..Header::default()
        },
        results: cells
            .iter()
            .map(|(cell, outcome)| CellResult { cell: (*cell).into(), outcome: outcome.clone() })
            .collect(),
        torn: 0,
        whole: 0,
    }
}

#[test]
fn runs_stand_side_by_side() {
    let zap = HostRecord::Zap { start: 0, end: 1 << 40, ticks: 400_000 };
    // A page of the memory that is zapped and made again, one that is new, and one of the guest itself.
    let boot = [
        zap,
        spte(0x800, LEAF, GONE),
        spte(0x100, LEAF, GONE),
        spte(0x800, 0, LEAF),
        spte(0x801, 0, LEAF),
        zap,
        spte(0x800, LEAF, GONE),
        spte(0x801, LEAF, GONE),
        spte(0x100, 0, LEAF),
    ];
    let (both, one) = ([Kind::Sptes, Kind::Zaps], [Kind::Sptes]);
    let cell = |boot: &[HostRecord], watched: &[Kind]| CellOutcome::Observed(observed(boot, watched));
    let mut lost = observed(&boot, &both);
    lost.witness.gaps.push("3 trace events were lost".into());
    let skip = CellOutcome::Skip("it needs non-coherent DMA".into());
    let stock = [
        ("zaps/seabios-2@dma", cell(&boot, &both)),
        ("zaps/linux-2@dma", CellOutcome::Observed(lost)),
        ("zaps/ovmf-2@dma", cell(&[], &both)),
    ];
    let patched = [
        ("zaps/seabios-2@dma", cell(&boot[..4], &one)),
        ("zaps/linux-2@dma", cell(&boot[1..2], &one)),
        ("zaps/ovmf-2@dma", skip),
    ];
    let runs = [run("results/1-6.1/zaps", &both, &stock), run("results/2-6.1+a/zaps", &one, &patched)];
    let mut boots = Boots::default();
    runs.iter().for_each(|run| boots.add(run));
    let mut out = Vec::new();
    boots.print(&mut out, &["6.1".to_owned(), "6.1+a".to_owned()]).unwrap();
    assert_data_eq!(
        String::from_utf8(out).unwrap(),
        str![[r#"
## Zaps

| boot | VM | memory | vCPUs | 6.1 | 6.1+a |
|---|---|---|---|---|---|
| linux | dma | 16 MiB | 2 | -[^1] | -[^2] |
| ovmf | dma | 16 MiB | 2 | 0 | -[^3] |
| seabios | dma | 16 MiB | 2 | 2 | -[^2] |

## SPTEs zapped

| boot | VM | memory | vCPUs | 6.1 | 6.1+a |
|---|---|---|---|---|---|
| linux | dma | 16 MiB | 2 | -[^1] | 1 |
| ovmf | dma | 16 MiB | 2 | 0 | -[^3] |
| seabios | dma | 16 MiB | 2 | 3 | 1 |

## Refaults

| boot | VM | memory | vCPUs | 6.1 | 6.1+a |
|---|---|---|---|---|---|
| linux | dma | 16 MiB | 2 | -[^1] | 0 |
| ovmf | dma | 16 MiB | 2 | 0 | -[^3] |
| seabios | dma | 16 MiB | 2 | 1 | 1 |

## Ticks in zaps

| boot | VM | memory | vCPUs | 6.1 | 6.1+a |
|---|---|---|---|---|---|
| linux | dma | 16 MiB | 2 | -[^1] | -[^2] |
| ovmf | dma | 16 MiB | 2 | 0.00M | -[^3] |
| seabios | dma | 16 MiB | 2 | 0.80M | -[^2] |

## Ticks and time of the boot

| boot | VM | memory | vCPUs | 6.1 | 6.1+a |
|---|---|---|---|---|---|
| linux | dma | 16 MiB | 2 | -[^1] | 2.50M (1.2 ms) |
| ovmf | dma | 16 MiB | 2 | 2.50M (1.2 ms) | -[^3] |
| seabios | dma | 16 MiB | 2 | 2.50M (1.2 ms) | 2.50M (1.2 ms) |

[^1]: 3 trace events were lost
[^2]: the witness of zaps did not watch
[^3]: it needs non-coherent DMA

## Runs

- 6.1: Linux 6.1.0 #1; suite zaps, 2026-11-21T09:00:00Z
- 6.1+a: Linux 6.1.0 #1; suite zaps, 2026-11-21T09:00:00Z

"#]]
    );
}

#[test]
fn a_kernel_has_all_of_its_memory() {
    let mut kernel =
        observed(&[spte(0x100, LEAF, GONE), spte(0x8000, LEAF, GONE), spte(0x100, 0, LEAF)], &[Kind::Sptes]);
    kernel.log[2] = Line::Host(HostRecord::Kernel { entry: 0x100_0000, memory: 128 << 20 });
    let run = run("results/1", &[Kind::Sptes], &[("linux/boot-2@dma", CellOutcome::Observed(kernel))]);
    let mut boots = Boots::default();
    boots.add(&run);
    let (row, (costs, _)) = boots.rows.first_key_value().unwrap();
    assert_eq!((row.boot.as_str(), row.memory, row.vcpus), ("linux, a real boot", 128 << 20, 2));
    assert_eq!(costs[&0].leaves, Some(Leaves { zapped: 1, refaults: 1 }));
}

#[test]
fn a_cell_without_a_boot_is_left_out() {
    let half = Observed { log: observed(&[], &[]).log[..6].to_vec(), ..observed(&[], &[]) };
    let none = Observed { log: Vec::new(), ..half.clone() };
    let cells = [("zaps/a", CellOutcome::Observed(half)), ("zaps/b", CellOutcome::Observed(none))];
    let run = run("results/1", &[], &cells);
    let mut boots = Boots::default();
    boots.add(&run);
    assert!(boots.is_empty());
}

proptest! {
    #[test]
    fn no_page_comes_again_that_had_not_gone(changes: Vec<(u8, bool)>) {
        let records: Vec<HostRecord> = changes
            .iter()
            .map(|&(page, made)| {
                let (old, new) = if made { (0, LEAF) } else { (LEAF, GONE) };
                spte(u64::from(page), old, new)
            })
            .collect();
        let memory = Memory { frames: vec![0..64, 64..128], kernel: false };
        let seen = leaves(&records, Format::Ept, &memory);
        prop_assert_eq!(seen.zapped, changes.iter().filter(|&&(page, made)| !made && page < 128).count() as u64);
        prop_assert!(seen.refaults <= seen.zapped);
        prop_assert_eq!(leaves(&records, Format::Ept, &Memory::default()), Leaves::default());
    }
}
