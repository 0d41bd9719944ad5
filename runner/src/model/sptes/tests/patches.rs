//! What the patches of ci/kernels/patches change, by the policies that they bring.

use super::*;
use std::fs;
use std::path::{Path, PathBuf};
use wire::layout::{CR0_CD, START_CR0};
use wire::step::SlotType;

const SLOT_1: Step = Step::SetTypedSlot { typed: SlotType::Plain, slot: 1, readonly: false, gpa: WINDOW, pages: 16 };

fn patches() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../ci/kernels/patches")
}

/// The policy of a patch.
fn policy(patch: &Path) -> String {
    let text = fs::read_to_string(patch.join("patch.toml")).unwrap();
    text.parse::<toml::Table>().unwrap()["policy"].as_str().unwrap().to_owned()
}

/// The configurations under which a patched KVM is judged.
fn set(patch: &Path) -> Set {
    let config = patch.join("config");
    Set::load(config.is_dir().then_some(&*config)).unwrap()
}

/// What is not as the policy of a patch says, and what is not as stock KVM's says, with these facts of 6.1.
fn surprises(patch: &str, log: &Log, more: &[(&str, Fact)]) -> (Vec<String>, Vec<String>) {
    let (patch, facts) = (patches().join(patch), facts(Kvm::V6_1, more));
    (log.surprises_in(&set(&patch), Some(&policy(&patch)), &facts), log.surprises(&facts))
}

fn typed(typed: SlotType) -> Step {
    let Step::SetTypedSlot { slot, readonly, gpa, pages, .. } = SLOT_1 else { unreachable!() };
    Step::SetTypedSlot { typed, slot, readonly, gpa, pages }
}

#[test]
fn each_has_a_policy_that_is_there() {
    let mut seen = 0;
    for entry in fs::read_dir(patches()).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_dir()) {
        let (set, policy) = (set(&entry.path()), policy(&entry.path()));
        let policies = Policies::load(set.sources("policies").map(|(_, source)| source)).unwrap();
        assert!(policies.get(&policy).is_ok(), "{}", entry.path().display());
        seen += 1;
    }
    assert!(seen > 0);
}

#[test]
fn a_flag_is_the_slot_s_own() {
    for (patch, fact, flag, leaf) in [
        ("mem-non-coherent-dma", "slot-non-coherent-dma", SlotType::NonCoherentDma, WB),
        ("mem-wc", "slot-wc", SlotType::Wc, 0x48),
    ] {
        let (gpa, pages, readonly) = (WINDOW + 0x10_0000, 16, false);
        let mut log = Log::new();
        log.step(Step::SetTypedSlot { typed: flag, slot: 2, readonly, gpa, pages }).mark();
        log.mtrr(WINDOW, MASK_4K).mark().leaf(0, WB_IPAT).leaf(0x100, leaf);
        let (patched, stock) = surprises(patch, &log, &[(fact, Fact::Bool(true))]);
        assert_eq!(patched, QUIET, "{patch}");
        assert_eq!(stock.len(), 2, "{patch}: the flag is refused there, and the leaf another one: {stock:?}");
        // With non-coherent DMA too, only the plain slot follows MTRRs.
        let mut log = Log::new();
        log.step(Step::SetTypedSlot { typed: flag, slot: 2, readonly, gpa, pages }).mark();
        log.mtrr(WINDOW, MASK_4K).mark().leaf(0, UC).leaf(0x100, leaf);
        assert_eq!(surprises(patch, &log, &[(fact, Fact::Bool(true)), DMA]).0, QUIET, "{patch}");
        // A BAR stays UC.
        let mut log = Log::new();
        log.step(Step::SetTypedMmioSlot { typed: flag, slot: 2, gpa }).mark().leaf(0x100, UC);
        assert_eq!(surprises(patch, &log, &[(fact, Fact::Bool(true))]).0, QUIET, "{patch}");
    }
}

#[test]
fn a_slot_that_gets_the_flag_loses_its_leaves_and_no_other_does() {
    let flag = typed(SlotType::NonCoherentDma);
    let has = [("slot-non-coherent-dma", Fact::Bool(true))];
    let other =
        Step::SetTypedSlot { typed: SlotType::Plain, slot: 2, readonly: false, gpa: WINDOW + 0x10_0000, pages: 16 };
    let log = |zapped: &[u64]| {
        let mut log = Log::new();
        log.step(SLOT_1).step(other).mark().leaf(0, WB_IPAT).leaf(0x100, WB_IPAT).step(flag);
        zapped.iter().for_each(|&page| {
            log.spte(page, 0x77, 0);
        });
        log.mark().touch(0);
        if zapped.contains(&0) {
            log.spte(0, NONE, 0x600_0001_0a2b_3907 | WB);
        }
        log.mark();
        surprises("mem-non-coherent-dma", &log, &has).0
    };
    assert_eq!(log(&[0]), QUIET);
    // The same type again is no change.
    let mut same = Log::new();
    same.step(SLOT_1).mark().leaf(0, WB_IPAT).step(SLOT_1).mark().touch(0).mark();
    assert_eq!(surprises("mem-non-coherent-dma", &same, &has).0, QUIET);
    assert!(log(&[])[0].contains("none of 1 zapped, not all 1 zapped"), "{:?}", log(&[]));
    assert!(log(&[0, 0x100])[0].contains("all 1 zapped, not none of 1 zapped"), "{:?}", log(&[0, 0x100]));
}

#[test]
fn the_flag_of_the_vm_configuration_is_that_of_each_slot() {
    let has = [("slot-wc", Fact::Bool(true)), ("slot-type", Fact::Text("wc".into()))];
    let mut log = Log::new();
    log.mark().leaf(0, 0x48);
    assert_eq!(surprises("mem-wc", &log, &has).0, QUIET);
}

#[test]
fn the_mtrrs_of_one_vcpu_count_for_all() {
    let of_other = |index, value| Step::SetMsr { cpu: 1, index, value };
    let mut log = Log::new();
    for index in FIXED_MTRRS.into_iter().chain(MTRR_PHYSBASE0..0x210).chain([MTRR_DEF_TYPE]) {
        let at = Place { cpu: 1, register: Register::Msr(index) };
        log.0.insert(0, Entry::Host(HostRecord::Reset { at, value: 0 }));
    }
    log.mtrr(WINDOW | 4, MASK_4K).mark().leaf(0, 0x20).leaf(1, WB);
    log.step(of_other(MTRR_PHYSBASE0, WINDOW)).step(of_other(MTRR_PHYSBASE0 + 1, MASK_4K)).mark();
    log.step(of_other(MTRR_DEF_TYPE, 0x805)).mark();
    let (patched, stock) = surprises("per-vm-mtrr", &log, &[DMA]);
    assert_eq!(patched, QUIET);
    assert_eq!(stock.len(), 1, "all is zapped there: {stock:?}");
    // Who faults does not matter.
    let access = Access { cpu: 1, write: true, width: 8, cpl: 0, gpa: WINDOW + 0x2000, value: 1, fault: None };
    log.step(Step::StartCpu { cpu: 1, entry: 0, stack: 0, argument: 0 }).mark();
    log.0.push(Entry::Guest(Record::Access(access)));
    log.spte(2, NONE, 0x600_0001_0a2b_3907 | WB).mark();
    assert_eq!(surprises("per-vm-mtrr", &log, &[DMA]).0, QUIET);
    assert_eq!(surprises("per-vm-mtrr", &log, &[DMA]).1.len(), 2);
    // vCPU 0's zap as before.
    log.msr(MTRR_DEF_TYPE, 0x805).mark();
    assert_eq!(surprises("per-vm-mtrr", &log, &[DMA]).0.len(), 1);
}

#[test]
fn cd_makes_all_uncached() {
    let mut log = Log::new();
    log.mtrr(WINDOW | 6, MASK_4K).mark().leaf(0, WB);
    log.cr0(START_CR0 | CR0_CD).spte(0, 0x37, 0).mark().leaf(0, 0x40);
    let (patched, stock) = surprises("cd-uc-ipat", &log, &[DMA]);
    assert_eq!(patched, QUIET);
    assert_eq!(stock.len(), 2, "the zap and the leaf: {stock:?}");
}
