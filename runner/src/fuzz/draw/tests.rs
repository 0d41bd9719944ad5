//! What is drawn, and that it can be done.

use super::*;
use proptest::prelude::*;
use wire::layout::in_window;

const ALL: Means = Means {
    cpus: 4,
    dma: true,
    quirks: !0,
    readonly: true,
    slots_v2: true,
    thp: true,
    non_coherent_slots: true,
    wc_slots: true,
    mmio: true,
};
const LITTLE: Means = Means {
    cpus: 1,
    dma: false,
    quirks: 0,
    readonly: false,
    slots_v2: false,
    thp: false,
    non_coherent_slots: false,
    wc_slots: false,
    mmio: false,
};

fn of(seed: u64, means: &Means) -> History {
    draw(&mut fastrand::Rng::with_seed(seed), means, "default", 40, false)
}

#[test]
fn each_kind_of_operation_is_drawn() {
    let kinds: std::collections::BTreeSet<String> = (0..300)
        .flat_map(|seed| of(seed, &ALL).ops)
        .map(|op| op.to_string().split(' ').next().unwrap_or_default().to_owned())
        .collect();
    let wanted = [
        "copy-state",
        "delete-slot",
        "disable-quirks",
        "get-msr",
        "load",
        "mov-cr0",
        "plug-dma",
        "set-cr0",
        "set-mmio-slot",
        "set-msr",
        "set-slot",
        "set-typed-slot",
        "store",
        "unplug-dma",
        "wrmsr",
    ];
    assert!(kinds.iter().eq(&wanted), "{kinds:?}");
}

proptest! {
    #[test]
    fn a_seed_draws_the_same_history_again(seed: u64) {
        prop_assert_eq!(of(seed, &ALL), of(seed, &ALL));
        prop_assert_ne!(of(seed, &ALL), of(seed.wrapping_add(1), &ALL));
    }

    /// The guest panics of an access outside its windows and of a vCPU that is not there.
    #[test]
    fn a_history_can_be_done(seed: u64) {
        for means in [ALL, LITTLE] {
            let history = of(seed, &means);
            prop_assert!((1..=means.cpus).contains(&history.cpus));
            for op in history.ops {
                prop_assert!(op.cpu() < history.cpus);
                match op {
                    // What a store does to a device nobody knows.
                    Op::Store { gpa, .. } => prop_assert!(in_window(gpa, 8) && gpa & !(PAGE - 1) != MMIO_AT),
                    Op::Load { gpa, .. } => prop_assert!(in_window(gpa, 8)),
                    Op::Host(Step::SetMmioSlot { .. }) => prop_assert!(means.mmio),
                    Op::Host(Step::PlugDma | Step::UnplugDma) => prop_assert!(means.dma),
                    Op::Host(Step::DisableQuirks { quirks }) => prop_assert_eq!(quirks & !means.quirks, 0),
                    Op::Host(Step::SetSlot { memory, flags, .. }) => {
                        prop_assert!(means.thp || memory == SlotMemory::Small);
                        prop_assert!(means.readonly || flags & READONLY == 0);
                    }
                    _ => {}
                }
            }
        }
    }
}
