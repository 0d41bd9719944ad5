//! Two mappings of one page and the order of stores: what is made of the counts.

use super::support::{DONE, Log, RUN, judge, judge_by, policies, run, with};
use crate::host::facts::{Fact, Facts};
use crate::judge::{Deviations, Judgement, Verdict};
use crate::machine::Observed;
use wire::coherence::{Aliased, Between, Ordered, Side};
use wire::frame::Writer;
use wire::layout::{FIXED_MTRRS, MTRR_DEF_TYPE, MTRR_PHYSBASE0, PAT, START_CR0, WINDOW};
use wire::outcome::Outcome;
use wire::register::{Place, Register};
use wire::step::{SlotApi, SlotMemory, Step};

/// Entry 0 is WB, 1 WC, 2 UC, 3 WT.
const TYPES: u64 = 0x0604_0706_0400_0106;
const WB: u8 = 0;
const WC: u8 = 1;
const UC: u8 = 2;

fn guest(pat_entry: u8) -> Side {
    Side::Guest { cpu: 0, pat_entry }
}

/// Ten loads, of which so many were stale.
fn aliased(store: Side, load: Side, between: Between, stale: u32) -> Aliased {
    let (new, other, machine_check, ticks) = (10 - stale, 0, false, 0);
    Aliased { gpa: 0x20_0000, store, load, between, new, stale, other, machine_check, ticks }
}

fn bare() -> Facts {
    let facts =
        [("machine", Fact::Text("bochs".into())), ("maxphyaddr", Fact::Int(40)), ("cpuid-mtrr", Fact::Bool(true))];
    with(&Facts::default(), &facts)
}

/// Judges a test on a bare machine whose vCPUs 0 and 1 have MTRRs of type WB and [`TYPES`] in the PAT.
fn on_bare(test: impl FnOnce(&mut Writer<Log>)) -> Judgement {
    let log = Log::default();
    let mut out = Writer::begin(log.clone(), RUN, "family", "test");
    for cpu in [0, 1] {
        for index in FIXED_MTRRS.into_iter().chain(MTRR_PHYSBASE0..0x210).chain([MTRR_DEF_TYPE, PAT]) {
            let value = match index {
                MTRR_DEF_TYPE => 0x806,
                PAT => TYPES,
                _ => 0,
            };
            out.reads(Place { cpu, register: Register::Msr(index) }).push(Ok(value));
        }
        out.reads(Place { cpu, register: Register::Cr0 }).push(Ok(START_CR0));
    }
    test(&mut out);
    out.finish();
    let observed = Observed { log: log.lines(), end: DONE, micros: 0, witness: Default::default() };
    judge_by(&policies(), &Deviations::none(), &observed, &bare())
}

fn of_aliases(it: Aliased) -> Verdict {
    on_bare(|out| out.aliased(it)).verdict
}

#[test]
fn a_stale_load_fails_where_types_are_coherent_and_not_elsewhere() {
    use Between::{Clflush, Fence, Nothing};
    for (store, load, between, coherent) in [
        (WB, UC, Nothing, true),
        (UC, WB, Nothing, true),
        (WB, WC, Fence, false),
        (WC, WB, Fence, false),
        (WC, UC, Nothing, false),
        (WC, UC, Fence, true),
        (WC, WC, Nothing, true),
        (WC, WB, Clflush, true),
    ] {
        assert_eq!(of_aliases(aliased(guest(store), guest(load), between, 0)), Verdict::Pass);
        let expected = if coherent { Verdict::Fail } else { Verdict::Pass };
        let stale = aliased(guest(store), guest(load), between, 3);
        assert_eq!(of_aliases(stale), expected, "{store} {load} {between:?}");
    }
}

#[test]
fn what_was_never_stored_and_a_machine_check_always_fail() {
    let may_be_stale = aliased(guest(WC), guest(WB), Between::Fence, 3);
    assert_eq!(of_aliases(Aliased { other: 1, ..may_be_stale }), Verdict::Fail);
    let judgement = on_bare(|out| out.aliased(Aliased { machine_check: true, ..may_be_stale }));
    assert_eq!(judgement.verdict, Verdict::Fail);
    assert_eq!(
        judgement.reason,
        "GPA 0x200000: stores by vCPU 0 through PAT entry 1, a fence, loads by vCPU 0 through PAT entry 0: machine check: \
         happened, where none is predicted"
    );
}

#[test]
fn nothing_passes_where_no_load_was_done() {
    let none = Aliased { new: 0, ..aliased(guest(WB), guest(WB), Between::Nothing, 0) };
    let judgement = on_bare(|out| out.aliased(none));
    assert_eq!(judgement.verdict, Verdict::Inconclusive, "{}", judgement.reason);
}

#[test]
fn invd_may_lose_on_bare_metal_and_must_not_under_kvm() {
    let lost = aliased(guest(WB), guest(WB), Between::Invd, 2);
    assert_eq!(of_aliases(lost), Verdict::Pass);
    assert_eq!(judge(&run(|out, _| out.aliased(lost))).verdict, Verdict::Fail);
    let kept = aliased(guest(WB), guest(WB), Between::Invd, 0);
    assert_eq!(judge(&run(|out, _| out.aliased(kept))).verdict, Verdict::Pass);
}

/// KVM does WBINVD where there is non-coherent DMA.
#[test]
fn wbinvd_makes_the_host_see_where_it_is_done() {
    let stale = aliased(guest(WC), Side::Host, Between::Wbinvd, 1);
    let observed = run(|out, _| out.aliased(stale));
    let dma = with(&super::support::facts(), &[("non-coherent-dma", Fact::Bool(true))]);
    let judged = |facts: &Facts| judge_by(&policies(), &Deviations::none(), &observed, facts).verdict;
    assert_eq!(judged(&dma), Verdict::Fail);
    assert_ne!(judged(&super::support::facts()), Verdict::Fail);
}

/// AMD with nested paging: what is UC or WC by the guest's page tables alone asks the caches.
#[test]
fn on_amd_ram_is_coherent_behind_a_fence() {
    let facts = [("kvm-vendor", Fact::Text("kvm_amd".into())), ("tdp", Fact::Bool(true))];
    let facts = with(&super::support::facts(), &facts);
    for (store, between, coherent) in
        [(UC, Between::Nothing, true), (WC, Between::Nothing, false), (WC, Between::Fence, true)]
    {
        for stale in [0, 1] {
            let observed = run(|out, _| {
                out.write(Place::msr(PAT), TYPES, Outcome::ACCEPTED);
                out.aliased(aliased(guest(store), guest(WB), between, stale));
            });
            let judgement = judge_by(&policies(), &Deviations::none(), &observed, &facts);
            let expected = if stale == 1 && coherent { Verdict::Fail } else { Verdict::Pass };
            assert_eq!(judgement.verdict, expected, "{store} {between:?} {stale}: {}", judgement.reason);
        }
    }
}

/// The guest stores there without a record of each, so what the host reads is not held against its memory.
#[test]
fn what_the_host_reads_of_a_hidden_page_is_not_judged_by_itself() {
    let (slot, api) = (1, SlotApi::V1);
    let made = Step::SetSlot { api, slot, flags: 0, gpa: WINDOW, pages: 1, memory: SlotMemory::Small };
    let peek = Step::Peek { slot, offset: 8, flush: false };
    for (hidden, expected) in [(false, Verdict::Fail), (true, Verdict::Pass)] {
        let observed = run(|out, log| {
            log.reply(made, 0);
            if hidden {
                out.unreported(WINDOW, 0x1000);
            }
            log.reply(peek, 7);
        });
        assert_eq!(judge(&observed).verdict, expected);
    }
}

/// A thousand loads of the flag.
fn ordered(pat_entry: u8, fenced: bool, moved: u32, reordered: u32) -> Ordered {
    Ordered { gpa: 0x20_0000, writer: 1, reader: 0, pat_entry, fenced, samples: 1000, moved, reordered }
}

#[test]
fn only_wc_without_fences_may_come_in_another_order() {
    for (entry, fenced, weak) in [(WB, false, false), (UC, false, false), (WC, false, true), (WC, true, false)] {
        let verdict = |reordered| on_bare(|out| out.ordered(ordered(entry, fenced, 900, reordered))).verdict;
        assert_eq!(verdict(0), Verdict::Pass);
        assert_eq!(verdict(1), if weak { Verdict::Pass } else { Verdict::Fail }, "{entry} {fenced}");
    }
}

#[test]
fn the_right_order_proves_nothing_where_the_vcpus_ran_in_turn() {
    let judgement = on_bare(|out| out.ordered(ordered(WB, false, 3, 0)));
    assert_eq!(judgement.verdict, Verdict::Inconclusive);
    assert!(judgement.reason.ends_with("3 of 1000 loads of the flag saw it move"), "{}", judgement.reason);
    assert_eq!(on_bare(|out| out.ordered(ordered(WB, false, 3, 1))).verdict, Verdict::Fail);
}
