//! Leaf SPTEs in logs as guests and VMMs write them, replayed against the policies that the runner carries.

use crate::config::Set;
use crate::host::facts::{Fact, Facts};
use crate::model::policy::Policies;
use crate::model::{EffectOf, Event, Replay};
use wire::host::HostRecord;
use wire::layout::{FIXED_MTRRS, MTRR_DEF_TYPE, MTRR_PHYSBASE0, PAT, WINDOW};
use wire::outcome::Outcome;
use wire::record::{Access, Record};
use wire::register::{Place, Register};
use wire::step::{SlotApi, SlotMemory, Status, Step};

/// A KVM with EPT: up to 6.7, 6.11 to 6.15, or from 6.16 on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kvm {
    V6_1,
    V6_11,
    V6_16,
}

fn facts(kvm: Kvm, more: &[(&str, Fact)]) -> Facts {
    let known = [
        ("machine", Fact::Text("kvm".into())),
        ("kvm-vendor", Fact::Text("kvm_intel".into())),
        ("tdp", Fact::Bool(true)),
        ("tdp-mmu", Fact::Bool(true)),
        ("apic-bus-cycles", Fact::Bool(kvm != Kvm::V6_1)),
        ("memslots-v2", Fact::Bool(kvm != Kvm::V6_1)),
        ("offers-ignore-guest-pat", Fact::Bool(kvm == Kvm::V6_16)),
        ("quirks", Fact::Int(if kvm == Kvm::V6_1 { 0x7f } else { 0x7ff })),
        ("disabled-quirks", Fact::Int(0)),
        ("ignore-guest-pat", Fact::Bool(true)),
        ("cd-nw-cleared", Fact::Bool(true)),
        ("non-coherent-dma", Fact::Bool(false)),
        ("ignore-msrs", Fact::Bool(false)),
        ("cpuid-mtrr", Fact::Bool(true)),
        ("maxphyaddr", Fact::Int(39)),
    ];
    let all = known.into_iter().chain(more.iter().cloned());
    all.collect()
}

const DMA: (&str, Fact) = ("non-coherent-dma", Fact::Bool(true));
/// Not present, as KVM writes it since 6.12.
const NONE: u64 = 1 << 63;
/// MAXPHYADDR is 39 in these logs.
const MASK_4K: u64 = 0x7f_ffff_f800;

/// A log of one vCPU in a VM with 16 pages of RAM in the test window.
struct Log(Vec<Entry>);

enum Entry {
    Begin,
    Host(HostRecord),
    Write(Register, u64),
    Guest(Record),
}

impl Log {
    fn new() -> Log {
        let mut log = Log(Vec::new());
        let reset = |register, value| Entry::Host(HostRecord::Reset { at: Place::boot(register), value });
        log.0.push(reset(Register::Cr0, 0x6000_0010));
        log.0.push(reset(Register::Msr(PAT), 0x0007_0406_0007_0406));
        let mtrrs = FIXED_MTRRS.into_iter().chain(MTRR_PHYSBASE0..0x210).chain([MTRR_DEF_TYPE]);
        log.0.extend(mtrrs.map(|index| reset(Register::Msr(index), 0)));
        log.0.push(Entry::Begin);
        log.step(Step::SetSlot {
            api: SlotApi::V1,
            slot: 1,
            flags: 0,
            gpa: WINDOW,
            pages: 16,
            memory: SlotMemory::Small,
        });
        log
    }

    fn step(&mut self, step: Step) -> &mut Log {
        self.0.push(Entry::Host(HostRecord::Step { step, status: Status::Done, value: 0 }));
        self
    }

    fn mark(&mut self) -> &mut Log {
        self.step(Step::Mark)
    }

    fn msr(&mut self, index: u32, value: u64) -> &mut Log {
        self.0.push(Entry::Write(Register::Msr(index), value));
        self
    }

    fn cr0(&mut self, value: u64) -> &mut Log {
        self.0.push(Entry::Write(Register::Cr0, value));
        self
    }

    fn spte(&mut self, page: u64, old: u64, new: u64) -> &mut Log {
        self.spte_at((WINDOW >> 12) + page, 1, old, new)
    }

    fn spte_at(&mut self, gfn: u64, level: u8, old: u64, new: u64) -> &mut Log {
        self.0.push(Entry::Host(HostRecord::Spte { gfn, level, old, new }));
        self
    }

    /// Stores to a page, for which KVM makes an EPT leaf with these bits 6:3, and a mark.
    fn leaf(&mut self, page: u64, bits: u64) -> &mut Log {
        self.touch(page).spte(page, NONE, 0x600_0001_0a2b_3907 | bits).mark()
    }

    fn touch(&mut self, page: u64) -> &mut Log {
        self.touch_at(WINDOW + 0x1000 * page)
    }

    fn touch_at(&mut self, gpa: u64) -> &mut Log {
        let access = Access { cpu: 0, write: true, width: 8, cpl: 0, gpa, value: 1, fault: None };
        self.0.push(Entry::Guest(Record::Access(access)));
        self
    }

    /// MTRRs enabled with default type WB, and pair 0 with this base and mask.
    fn mtrr(&mut self, base: u64, mask: u64) -> &mut Log {
        self.msr(MTRR_PHYSBASE0, base).msr(MTRR_PHYSBASE0 + 1, mask).msr(MTRR_DEF_TYPE, 0x806)
    }

    /// The points that are not as predicted, in words, `?` for one without a prediction.
    fn surprises(&self, facts: &Facts) -> Vec<String> {
        self.surprises_by(None, facts)
    }

    /// By the policy of that id, or the one that governs.
    fn surprises_by(&self, policy: Option<&str>, facts: &Facts) -> Vec<String> {
        self.surprises_in(&Set::load(None).unwrap(), policy, facts)
    }

    fn surprises_in(&self, set: &Set, policy: Option<&str>, facts: &Facts) -> Vec<String> {
        let policies = Policies::load(set.sources("policies").map(|(_, source)| source)).unwrap();
        let policy = policy.map_or_else(|| policies.governing(facts), |id| policies.get(id)).unwrap();
        let mut replay = Replay::new(policy, facts, true);
        let mut decisions = Vec::new();
        for entry in &self.0 {
            let event = match entry {
                Entry::Begin => Event::Begin,
                Entry::Host(record) => Event::Host(record),
                Entry::Guest(record) => Event::Guest(record),
                Entry::Write(register, value) => {
                    Event::Write { at: Place::boot(*register), value: *value, outcome: Outcome::ACCEPTED }
                }
            };
            replay.take(event, &mut decisions);
        }
        replay.take(Event::End, &mut decisions);
        let surprises = decisions.iter().filter(|decision| decision.agrees() != Some(true));
        let words = surprises.map(|decision| {
            let effect = |effect| EffectOf(effect, decision.action);
            let by = decision.predicted.map(|by| format!("{}: {}", effect(by.expected), by.rule));
            let by = by.unwrap_or_else(|why| format!("? {why}"));
            format!("{}: {}, not {by}", decision.action, effect(decision.seen))
        });
        words.collect()
    }
}

const UC: u64 = 0;
const WP: u64 = 0x28;
const WB: u64 = 0x30;
const WB_IPAT: u64 = 0x70;
const QUIET: [&str; 0] = [];

#[test]
fn without_non_coherent_dma_every_leaf_is_wb_and_ignores_the_pat() {
    for kvm in [Kvm::V6_1, Kvm::V6_11, Kvm::V6_16] {
        let mut log = Log::new();
        log.leaf(0, WB_IPAT).mtrr(WINDOW, MASK_4K).mark().leaf(1, WB_IPAT);
        assert_eq!(log.surprises(&facts(kvm, &[])), QUIET);
        log.leaf(2, WB);
        assert_eq!(
            log.surprises(&facts(kvm, &[])),
            ["leaf SPTE of GPA 0xd0002000 (4K): WB, not WB+IPAT: whatever type the guest's MTRRs say"]
        );
    }
}

#[test]
fn with_it_old_kvms_take_the_type_of_the_guests_mtrrs() {
    let mut log = Log::new();
    log.mtrr(WINDOW | 1, MASK_4K).mark().leaf(0, 0x08).leaf(1, WB);
    assert_eq!(log.surprises(&facts(Kvm::V6_1, &[DMA])), QUIET);
    log.leaf(2, UC);
    assert_eq!(
        log.surprises(&facts(Kvm::V6_1, &[DMA])),
        ["leaf SPTE of GPA 0xd0002000 (4K): UC, not WB: guest MTRR type WB"]
    );
    // Later ones honour the PAT alone.
    let new = log.surprises(&facts(Kvm::V6_11, &[DMA]));
    assert!(new.len() == 2 && new[0].contains("WC, not WB: whatever"), "{new:?}");
}

#[test]
fn where_its_own_lookup_errs_that_is_said() {
    let mut log = Log::new();
    // 32 bits of mask where MAXPHYADDR is 39: KVM takes the range to end far above.
    log.mtrr(WINDOW, 0xffff_f800).mark().leaf(1, UC);
    assert_eq!(
        log.surprises(&facts(Kvm::V6_1, &[DMA])),
        ["leaf SPTE of GPA 0xd0001000 (4K): UC, not WB: guest MTRR type WB by the SDM; KVM's own lookup gives UC"]
    );
}

#[test]
fn where_the_sdm_leaves_an_overlap_undefined_kvms_lookup_is_predicted() {
    // Pair 1 is WC, and lies in pair 0, which is WP: either alone is not WB.
    let mut log = Log::new();
    log.msr(MTRR_PHYSBASE0 + 2, WINDOW | 1).msr(MTRR_PHYSBASE0 + 3, MASK_4K);
    log.mtrr(WINDOW | 5, MASK_4K - 0x1000).mark().leaf(0, WB).leaf(1, WP);
    assert_eq!(log.surprises(&facts(Kvm::V6_1, &[DMA])), QUIET);
    let why = "guest MTRR types WP and WC, undefined by the SDM; KVM's own lookup gives WB";
    assert_eq!(
        log.msr(MTRR_DEF_TYPE, 0x806)
            .spte(0, 0x37, 0)
            .spte(1, 0x2f, 0)
            .mark()
            .leaf(0, WP)
            .surprises(&facts(Kvm::V6_1, &[DMA])),
        [format!("leaf SPTE of GPA 0xd0000000 (4K): WP, not WB: {why}")]
    );
}

#[test]
fn a_disabled_quirk_lets_the_pat_in() {
    let disabled = facts(Kvm::V6_16, &[("ignore-guest-pat", Fact::Bool(false))]);
    assert_eq!(Log::new().leaf(0, WB).surprises(&disabled), QUIET);
    assert_eq!(Log::new().leaf(0, WB_IPAT).surprises(&disabled).len(), 1);
}

#[test]
fn cd_decides_on_old_kvms_by_the_quirk() {
    let (on, off) = (("cd-nw-cleared", Fact::Bool(true)), ("cd-nw-cleared", Fact::Bool(false)));
    let cd = 0xc001_0033;
    let mut log = Log::new();
    log.cr0(cd).mark().leaf(0, 0x40);
    assert_eq!(log.surprises(&facts(Kvm::V6_1, &[DMA, off.clone()])), QUIET);
    assert_eq!(Log::new().cr0(cd).mark().leaf(0, WB_IPAT).surprises(&facts(Kvm::V6_1, &[DMA, on.clone()])), QUIET);
    // Clearing CD again must zap the leaf, and does not.
    log.cr0(cd & !wire::layout::CR0_CD).mark();
    assert_eq!(
        log.surprises(&facts(Kvm::V6_1, &[DMA, off])),
        ["leaf SPTEs after CR0.CD toggled by MOV CR0: none of 1 zapped, not all 1 zapped: zaps all leaves"]
    );
}

#[test]
fn a_page_that_was_used_has_a_leaf() {
    let mut log = Log::new();
    log.touch(0).mark();
    let lost = "leaf SPTE of GPA 0xd0000000 (4K): none, not ? the page was accessed, but no SPTE that maps it was seen";
    assert_eq!(log.surprises(&facts(Kvm::V6_16, &[])), [lost]);
    // Not where no memslot is.
    log.0.clear();
    log.touch(0).mark();
    let said = log.surprises(&facts(Kvm::V6_16, &[]));
    assert!(said.iter().all(|said| !said.starts_with("leaf")), "{said:?}");
}

/// The 4K leaf of a 2M-aligned page maps none of those that follow it.
#[test]
fn a_neighbour_s_leaf_is_not_the_page_s() {
    let lost = "leaf SPTE of GPA 0xd0001000 (4K): none, not ? the page was accessed, but no SPTE that maps it was seen";
    assert_eq!(Log::new().leaf(0, WB_IPAT).touch(1).mark().surprises(&facts(Kvm::V6_16, &[])), [lost]);
    let mut log = Log::new();
    let large = HostRecord::Spte { gfn: WINDOW >> 12, level: 2, old: NONE, new: 0xf7 };
    log.0.push(Entry::Host(large));
    assert_eq!(log.touch(1).mark().touch(2).mark().surprises(&facts(Kvm::V6_16, &[])), QUIET);
    // A slot that goes before the mark does not hide it.
    let mut log = Log::new();
    log.mark().touch(1).step(Step::DeleteSlot { api: SlotApi::V1, slot: 1 }).mark();
    assert_eq!(log.surprises(&facts(Kvm::V6_16, &[])), [lost]);
}

#[test]
fn what_no_mark_follows_is_open() {
    let mut log = Log::new();
    log.leaf(0, WB_IPAT).step(Step::PlugDma).touch(0);
    let why = "? no mark follows, so that it is not certain which came first";
    let zap = format!("leaf SPTEs after non-coherent DMA plugged in: none, not {why}");
    let touch = format!("leaf SPTE of GPA 0xd0000000 (4K): none, not {why}");
    assert_eq!(log.surprises(&facts(Kvm::V6_1, &[])), [zap, touch]);
    // Other families have no marks, and say nothing of leaves.
    assert_eq!(Log::new().step(Step::PlugDma).touch(0).surprises(&facts(Kvm::V6_1, &[])), QUIET);
}

#[test]
fn what_a_foreign_kernel_does_to_memory_is_not_judged() {
    let stray = HostRecord::MmioRead { cpu: 0, width: 4, gpa: 0xe000_0000, value: 0 };
    let mut log = Log::new();
    log.spte(0, NONE, 0x600_0001_0a2b_3907 | UC).0.push(Entry::Host(stray));
    assert_eq!(log.surprises(&facts(Kvm::V6_16, &[])).len(), 2);
    log.0.insert(0, Entry::Host(HostRecord::Kernel { entry: 0x100_0000, memory: 128 << 20 }));
    assert_eq!(log.surprises(&facts(Kvm::V6_16, &[])), QUIET);
}

/// KVM up to 6.10 leaves what a range covered before with its type.
#[test]
fn a_stale_leaf_departs_from_the_architecture_where_it_is_used() {
    let mut log = Log::new();
    log.mtrr(WINDOW, MASK_4K).mark().leaf(0, UC);
    log.msr(MTRR_PHYSBASE0, WINDOW + 0x1000).mark();
    let departures = |log: &Log| {
        let all = log.surprises_by(Some("architecture"), &facts(Kvm::V6_1, &[DMA]));
        all.into_iter().filter(|said| !said.contains(", not ?")).collect::<Vec<_>>()
    };
    assert_eq!(departures(&log), QUIET);
    log.touch(0).mark();
    assert_eq!(log.surprises(&facts(Kvm::V6_1, &[DMA])), QUIET);
    assert_eq!(departures(&log), ["leaf SPTE of GPA 0xd0000000 (4K) at an access: UC, not WB: guest MTRR type WB"]);
}

#[test]
fn a_slot_that_is_deleted_takes_its_leaves_along() {
    let mut log = Log::new();
    log.leaf(0, WB_IPAT).step(Step::DeleteSlot { api: SlotApi::V1, slot: 1 }).spte(0, 0x77, 0);
    log.step(Step::SetSlot { api: SlotApi::V1, slot: 1, flags: 0, gpa: WINDOW, pages: 16, memory: SlotMemory::Small })
        .leaf(0, WB_IPAT);
    assert_eq!(log.surprises(&facts(Kvm::V6_16, &[])), QUIET);
}

#[test]
fn a_quirk_that_is_disabled_in_the_run_changes_new_leaves_alone() {
    let disable = Step::DisableQuirks { quirks: 1 << 9 };
    let mut log = Log::new();
    log.leaf(0, WB_IPAT).step(disable).mark().touch(0).mark().leaf(1, WB);
    assert_eq!(log.surprises(&facts(Kvm::V6_16, &[])), QUIET);
    let mut log = Log::new();
    log.leaf(0, WB_IPAT).step(disable).spte(0, 0x77, 0).mark();
    let said = log.surprises(&facts(Kvm::V6_16, &[]));
    assert_eq!(said, ["leaf SPTEs after quirks disabled: all 1 zapped, not none of 1 zapped: zaps no leaf"]);
}

/// KVM takes the set of one call instead of the sets before, up to 6.10, and adds it to them later.
#[test]
fn quirks_disabled_before_are_on_again_or_not() {
    let quirks = |kvm, first, then, more: &[_]| {
        let mut log = Log::new();
        log.step(Step::DisableQuirks { quirks: first }).step(Step::DisableQuirks { quirks: 1 }).mark();
        log.cr0(0xc001_0033).mark().leaf(0, then);
        log.surprises(&facts(kvm, more))
    };
    assert_eq!(quirks(Kvm::V6_1, 1 << 1, WB_IPAT, &[DMA]), QUIET);
    assert_eq!(quirks(Kvm::V6_1, 1 << 1, 0x40, &[DMA]).len(), 1);
    assert_eq!(quirks(Kvm::V6_16, 1 << 9, WB, &[]), QUIET);
}

/// A leaf of 2 MiB in the second half of which a range starts.
#[test]
fn a_leaf_whose_pages_have_different_types_is_too_large() {
    let large = |log: &mut Log| {
        log.touch(1)
            .spte_at(WINDOW >> 12, 2, NONE, 0x600_0001_0a20_0987 | WB)
            .mark()
            .surprises(&facts(Kvm::V6_1, &[DMA]))
    };
    assert_eq!(large(Log::new().mtrr(WINDOW + 0x20_0000, MASK_4K)), QUIET);
    assert_eq!(
        large(Log::new().mtrr(WINDOW + 0x10_0000, MASK_4K)),
        ["leaf SPTE of GPA 0xd0000000 (2M): WB, not none: MTRRs give its pages different types"]
    );
}

#[test]
fn host_mmio_is_uc_whatever_the_guest_says() {
    let mmio = Step::SetMmioSlot { slot: 2, gpa: WINDOW + 0x10_0000 };
    let mut log = Log::new();
    log.step(mmio).mark().leaf(0x100, UC);
    for kvm in [Kvm::V6_1, Kvm::V6_11, Kvm::V6_16] {
        for more in [&[][..], &[DMA]] {
            assert_eq!(log.surprises(&facts(kvm, more)), QUIET);
        }
    }
}

#[test]
fn other_formats_have_other_bits() {
    let amd = facts(Kvm::V6_16, &[("kvm-vendor", Fact::Text("kvm_amd".into()))]);
    // Accessed and dirty, bits 5 and 6, are no type there.
    assert_eq!(Log::new().leaf(0, 0x60).surprises(&amd), QUIET);
    assert_eq!(Log::new().leaf(0, 0x10).surprises(&amd).len(), 1);
    let shadow = facts(Kvm::V6_1, &[("tdp", Fact::Bool(false)), DMA]);
    assert_eq!(Log::new().leaf(0, 0x60).surprises(&shadow), QUIET);
    let unknown = facts(Kvm::V6_16, &[("kvm-vendor", Fact::Text("kvm_pvm".into()))]);
    let said = Log::new().leaf(0, 0x60).surprises(&unknown);
    assert!(said[0].contains("? the format of SPTEs is not known"), "{said:?}");
}

/// An SPTE of kvm_amd on Linux 6.12 for a page without memslot.
#[test]
fn emulated_mmio_is_no_leaf() {
    let amd = facts(Kvm::V6_16, &[("kvm-vendor", Fact::Text("kvm_amd".into()))]);
    assert_eq!(Log::new().spte(0, NONE, 0x0008_0000_d000_0017).mark().surprises(&amd), QUIET);
    let intel = facts(Kvm::V6_16, &[]);
    assert_eq!(Log::new().spte(0, NONE, 0x0f80_d000_0046).mark().surprises(&intel), QUIET);
}

mod patches;
mod zaps;
