//! What events zap, and what is said where they zap otherwise.

use super::*;

#[test]
fn a_missing_zap_and_one_too_many_are_found() {
    let plugged = |kvm, zap: bool| {
        let mut log = Log::new();
        log.leaf(0, WB_IPAT).step(Step::PlugDma);
        if zap {
            log.spte(0, 0x77, NONE);
        }
        log.mark().surprises(&facts(kvm, &[]))
    };
    let what = "leaf SPTEs after non-coherent DMA plugged in";
    assert_eq!(plugged(Kvm::V6_16, true), QUIET);
    assert_eq!(plugged(Kvm::V6_1, false), QUIET);
    assert_eq!(plugged(Kvm::V6_16, false), [format!("{what}: none of 1 zapped, not all 1 zapped: zaps all leaves")]);
    assert_eq!(plugged(Kvm::V6_1, true), [format!("{what}: all 1 zapped, not none of 1 zapped: zaps no leaf")]);
}

/// Its single SPTEs go without a word, so that none that went proves nothing.
#[test]
fn without_the_tdp_mmu_zaps_are_open() {
    for kvm in [Kvm::V6_1, Kvm::V6_16] {
        let mut log = Log::new();
        log.leaf(0, WB_IPAT).step(Step::PlugDma).mark();
        let said = log.surprises(&facts(kvm, &[("tdp-mmu", Fact::Bool(false))]));
        assert!(said.len() == 1 && said[0].contains("? only KVM's TDP MMU tells"), "{said:?}");
    }
}

/// The order in which the VMM writes a step's record and what the witness saw of it does not matter.
#[test]
fn a_zap_may_stand_before_its_step() {
    let mut log = Log::new();
    log.leaf(0, WB_IPAT).spte(0, 0x77, NONE).step(Step::PlugDma).mark();
    assert_eq!(log.surprises(&facts(Kvm::V6_16, &[])), QUIET);
}

#[test]
fn a_range_mtrr_zaps_what_it_covers_now() {
    let mut log = Log::new();
    log.mtrr(WINDOW | 6, MASK_4K).mark().leaf(0, WB).leaf(1, WB);
    log.msr(MTRR_PHYSBASE0, WINDOW).spte(0, 0x37, 0).mark().leaf(0, UC);
    assert_eq!(log.surprises(&facts(Kvm::V6_1, &[DMA])), QUIET);
    // Moved to page 1: that one's leaf goes, that of page 0 stays.
    log.msr(MTRR_PHYSBASE0, WINDOW + 0x1000).spte(1, 0x37, 0).mark().leaf(1, UC);
    assert_eq!(log.surprises(&facts(Kvm::V6_1, &[DMA])), QUIET);
}

/// KVM warns of the empty range, which is for the witness of its log.
#[test]
fn a_restored_state_zaps_as_writes_do() {
    let dma = facts(Kvm::V6_1, &[DMA]);
    let restored = |zapped: bool| {
        let mut log = Log::new();
        log.msr(MTRR_DEF_TYPE, 0x806).mark().leaf(0, 0x30);
        if zapped {
            log.spte(0, 0x600_0001_0a2b_3937, NONE);
        }
        log.step(Step::CopyState { from: 0, to: 0 }).mark();
        log.surprises(&dma)
    };
    assert_eq!(restored(true), QUIET);
    // By IA32_MTRR_DEF_TYPE, and by masks that were never written before.
    assert_eq!(restored(false).len(), 2, "{:?}", restored(false));
}

#[test]
fn a_base_whose_mask_was_never_written_zaps_nothing() {
    let mut log = Log::new();
    log.msr(MTRR_DEF_TYPE, 0x806).mark().leaf(0, WB).msr(MTRR_PHYSBASE0, WINDOW).mark();
    assert_eq!(log.surprises(&facts(Kvm::V6_1, &[DMA])), QUIET);
    log.msr(MTRR_PHYSBASE0 + 1, MASK_4K).mark();
    assert_eq!(
        log.surprises(&facts(Kvm::V6_1, &[DMA])),
        ["leaf SPTEs after a range MTRR written: none of 1 zapped, not all 1 zapped: zaps the leaves of the range"]
    );
}

#[test]
fn what_the_host_zaps_for_itself_is_no_point() {
    let mut log = Log::new();
    log.leaf(0, WB_IPAT).spte(0, 0x77, 0).mark().leaf(0, WB_IPAT);
    assert_eq!(log.surprises(&facts(Kvm::V6_1, &[])), QUIET);
}

#[test]
fn a_range_that_zaps_another_page_s_leaf_too_is_found() {
    let mut log = Log::new();
    log.mtrr(WINDOW | 6, MASK_4K).mark().leaf(0, WB).leaf(1, WB);
    log.msr(MTRR_PHYSBASE0, WINDOW).spte(0, 0x37, 0).spte(1, 0x37, 0).mark();
    assert_eq!(
        log.surprises(&facts(Kvm::V6_1, &[DMA])),
        ["leaf SPTEs after a range MTRR written: all 1 zapped, not none of 1 zapped: zaps the leaves of the range"]
    );
}

#[test]
fn beside_an_event_that_is_open_all_zaps_are() {
    // With shadow paging the policy says nothing of a device.
    let shadow = facts(Kvm::V6_11, &[("tdp", Fact::Bool(false))]);
    let mut log = Log::new();
    log.leaf(0, 0x60).step(Step::PlugDma).msr(PAT, 6).spte(0, 0x67, 0).mark();
    let said = log.surprises(&shadow);
    assert!(said.len() == 2 && said.iter().all(|said| said.contains("? the policy predicts nothing")), "{said:?}");
}

#[test]
fn a_fixed_range_mtrr_zaps_the_leaves_of_the_whole_register() {
    // The last 64 KiB of the first register, the first of it that tests may use, and the first of the next register.
    let pages = [0x7_0000, 0x1_0000, 0x8_0000];
    let log = |zapped: &[u64], def_type| {
        let mut log = Log::new();
        log.msr(MTRR_DEF_TYPE, def_type);
        for gpa in pages {
            let leaf = if def_type & 0x400 == 0 { WB } else { UC };
            log.touch_at(gpa).spte_at(gpa >> 12, 1, NONE, 0x600_0001_0a2b_3907 | leaf).mark();
        }
        log.msr(FIXED_MTRRS[0], 0x0600_0000_0000_0000);
        for gpa in zapped {
            log.spte_at(gpa >> 12, 1, 0x37, 0);
        }
        log.mark().surprises(&facts(Kvm::V6_1, &[DMA]))
    };
    assert_eq!(log(&pages[..2], 0xc06), QUIET);
    assert_eq!(
        log(&pages[..1], 0xc06),
        ["leaf SPTEs after a range MTRR written: 1 of 2 zapped, not all 2 zapped: zaps the leaves of the range"]
    );
    // Fixed ranges are off.
    assert_eq!(log(&[], 0x806), QUIET);
}
