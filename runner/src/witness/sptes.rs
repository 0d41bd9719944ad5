//! From events of KVM's MMU to changes of the SPTEs of one VM, each of them once.

use super::line::Event;
use std::collections::{BTreeSet, HashMap};
use wire::host::HostRecord;

/// TDP MMU: an SPTE changed, with its value before and after (`arch/x86/kvm/mmu/tdp_mmu.c`).
pub const SPTE_CHANGED: &str = "kvm_tdp_mmu_spte_changed";
/// Both MMUs: a fault set an SPTE; its value before is not told (`arch/x86/kvm/mmu/mmu.c`, `mmu_set_spte`).
pub const SET_SPTE: &str = "kvm_mmu_set_spte";
/// Both MMUs: a page of SPTEs goes (`arch/x86/kvm/mmu/mmu.c`, `__kvm_mmu_prepare_zap_page`).
pub const PREPARE_ZAP_PAGE: &str = "kvm_mmu_prepare_zap_page";

/// SPTEs in a page of them.
const SPTES_PER_PAGE: u64 = 512;

/// Whether an entry maps a page, points to a table or catches MMIO. One that does none of it has its low three bits
/// clear under EPT, and its present bit under NPT and shadow paging.
pub const fn is_used(spte: u64) -> bool {
    spte & 7 != 0
}

/// What is known of an SPTE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    value: u64,
    /// The TDP MMU told: it tells of every change.
    tdp: bool,
}

/// The SPTEs of one VM, as its events tell them.
#[derive(Debug, Default)]
pub struct Sptes {
    known: HashMap<(u64, u8), Known>,
}

impl Sptes {
    /// Takes an event, and pushes the changes that it tells. `own` are the threads of the VM. Of other threads, those
    /// changes count whose old value is one of this VM: Linux 6.1 zaps in a kernel thread, and a value holds the frame
    /// of a page that is this VM's.
    pub fn take(&mut self, event: &Event<'_>, own: &BTreeSet<i32>, changes: &mut Vec<HostRecord>) {
        let level = || event.number("level", 10).and_then(|level| u8::try_from(level).ok());
        let mine = own.contains(&event.tid);
        match event.name {
            SPTE_CHANGED => {
                let (gfn, level) = (event.number("gfn", 16), level());
                let (old, new) = (event.number("old_spte", 16), event.number("new_spte", 16));
                if let (Some(gfn), Some(level), Some(old), Some(new)) = (gfn, level, old, new) {
                    let known = self.known.get(&(gfn, level)).is_some_and(|known| is_used(old) && known.value == old);
                    if mine || known {
                        self.known.insert((gfn, level), Known { value: new, tdp: true });
                        push(changes, gfn, level, old, new);
                    }
                }
            }
            SET_SPTE if mine => {
                if let (Some(gfn), Some(level), Some(new)) =
                    (event.number("gfn", 16), level(), event.number("spte", 16))
                {
                    self.set(gfn, level, new, changes);
                }
            }
            PREPARE_ZAP_PAGE if mine => {
                // "sp gen 0 gfn 0 l1 8-byte ..."; a guest's own tables under shadow paging are no page of SPTEs by GFN.
                let level = event.text.split_whitespace().find_map(|word| word.strip_prefix('l')?.parse().ok());
                let direct = event.text.split_whitespace().any(|word| word == "direct");
                if let (Some(gfn), Some(level), true) = (event.number("gfn", 16), level, direct) {
                    self.zap_page(gfn, level, changes);
                }
            }
            _ => {}
        }
    }

    /// A fault set an SPTE. The TDP MMU has told of it just before, or it was as it should be. The shadow MMU tells of a
    /// change only; where the value is the same, it was zapped without a word.
    fn set(&mut self, gfn: u64, level: u8, new: u64, changes: &mut Vec<HostRecord>) {
        let known = self.known.get(&(gfn, level)).copied();
        if known == Some(Known { value: new, tdp: true }) {
            return;
        }
        self.known.insert((gfn, level), Known { value: new, tdp: false });
        let old = known.map(|known| known.value).filter(|&old| old != new);
        push(changes, gfn, level, old.unwrap_or(0), new);
    }

    /// A page of SPTEs of this level goes, of which the TDP MMU tells one by one.
    fn zap_page(&mut self, gfn: u64, level: u8, changes: &mut Vec<HostRecord>) {
        let Some(each) = SPTES_PER_PAGE.checked_pow(u32::from(level.saturating_sub(1))) else { return };
        let gone = gfn..gfn.saturating_add(each.saturating_mul(SPTES_PER_PAGE));
        let mut zapped: Vec<(u64, u64)> = Vec::new();
        for (&(gfn, of), known) in &mut self.known {
            if of == level && !known.tdp && gone.contains(&gfn) && is_used(known.value) {
                zapped.push((gfn, known.value));
                known.value = 0;
            }
        }
        zapped.sort_unstable();
        zapped.into_iter().for_each(|(gfn, old)| push(changes, gfn, level, old, 0));
    }
}

/// KVM marks unused entries too, when it takes a table away: those are no news.
fn push(changes: &mut Vec<HostRecord>, gfn: u64, level: u8, old: u64, new: u64) {
    if old != new && (is_used(old) || is_used(new)) {
        changes.push(HostRecord::Spte { gfn, level, old, new });
    }
}

#[cfg(test)]
mod tests {
    use super::super::line::Line;
    use super::*;
    use proptest::prelude::*;

    const OWN: i32 = 137;

    /// The changes that a trace tells, as `GFN LEVEL OLD NEW`.
    fn changes(lines: &[&str]) -> Vec<String> {
        let (mut sptes, own, mut changes) = (Sptes::default(), BTreeSet::from([OWN]), Vec::new());
        for line in lines {
            let Line::Event(event) = Line::parse(line) else { panic!("{line}") };
            sptes.take(&event, &own, &mut changes);
        }
        changes.iter().map(|change| change.to_string().replace("spte ", "")).collect()
    }

    #[test]
    fn a_change_that_two_events_tell_is_one() {
        // Linux 7.2: a fault, another at a page that is mapped already, and a zap.
        let told = changes(&[
            " kvm-memtype-137 [000] .B.1. 53.42: kvm_tdp_mmu_spte_changed: as id 0 gfn 0 level 2 old_spte 8000000000000000 new_spte 8000000008293d07",
            " kvm-memtype-137 [000] .B.1. 53.42: kvm_tdp_mmu_spte_changed: as id 0 gfn 1 level 1 old_spte 8000000000000000 new_spte 80a000000402df77",
            " kvm-memtype-137 [000] .B.1. 53.42: kvm_mmu_set_spte: gfn 1 spte 80a000000402df77 (rwxu) level 1 at 8293008",
            " kvm-memtype-137 [000] .B.1. 53.43: kvm_mmu_set_spte: gfn 1 spte 80a000000402df77 (rwxu) level 1 at 8293008",
            " kvm-memtype-137 [000] ...1. 53.43: kvm_mmu_zap_all_fast: kvm-mmu-valid-gen 0 used_pages 0",
            " kvm-memtype-137 [000] ...1. 53.44: kvm_tdp_mmu_spte_changed: as id 0 gfn 1 level 1 old_spte 80a000000402df77 new_spte 8000000000000000",
            " kvm-memtype-137 [000] ...1. 53.44: kvm_mmu_prepare_zap_page: sp gen 0 gfn 0 l1 8-byte q0 direct rwux nxe ad root 0 sync",
        ]);
        let wanted = [
            "0 2 8000000000000000 8000000008293d07",
            "1 1 8000000000000000 80a000000402df77",
            "1 1 80a000000402df77 8000000000000000",
        ];
        assert_eq!(told, wanted);
    }

    #[test]
    fn a_kernel_threads_zap_counts_and_a_strangers_does_not() {
        // Linux 6.1 marks unused entries, too, when a table goes.
        let told = changes(&[
            " kvm-memtype-137 [000] ...1. 16.86: kvm_tdp_mmu_spte_changed: as id 0 gfn 1 level 1 old_spte 0 new_spte 60000000295bb77",
            " qemu-kvm-55      [001] ...1. 16.87: kvm_tdp_mmu_spte_changed: as id 0 gfn 1 level 1 old_spte 0 new_spte 600000001111b77",
            " qemu-kvm-55      [001] ...1. 16.87: kvm_mmu_set_spte: gfn 1 spte 600000001111b77 (rwxu) level 1 at 827d008",
            " qemu-kvm-55      [001] ...1. 16.87: kvm_tdp_mmu_spte_changed: as id 0 gfn 1 level 1 old_spte 600000001111b77 new_spte 5a0",
            " kworker/0:1-9    [000] ...1. 16.88: kvm_tdp_mmu_spte_changed: as id 0 gfn 0 level 1 old_spte 0 new_spte 5a0",
            " kworker/0:1-9    [000] ...1. 16.88: kvm_tdp_mmu_spte_changed: as id 0 gfn 1 level 1 old_spte 60000000295bb77 new_spte 5a0",
        ]);
        assert_eq!(told, ["1 1 0 60000000295bb77", "1 1 60000000295bb77 5a0"]);
    }

    #[test]
    fn the_shadow_mmu_tells_half_and_the_rest_follows() {
        let set = " kvm-memtype-137 [000] ...1. 16.86: kvm_mmu_set_spte: gfn 1 spte 60000000295bb77 (rwxu) level 1 at 827d008";
        let told = changes(&[
            set,
            " kvm-memtype-137 [000] ...1. 16.86: kvm_mmu_set_spte: gfn 200 spte 60000000295cb77 (rwxu) level 1 at 827e000",
            " kvm-memtype-137 [000] ...1. 16.87: kvm_mmu_set_spte: gfn 1 spte 60000000295bb05 (r-xu) level 1 at 827d008",
            " kvm-memtype-137 [000] ...1. 16.88: kvm_mmu_prepare_zap_page: sp gen 0 gfn 0 l1 8-byte q0 direct wux nxe ad root 0 sync",
            " kvm-memtype-137 [000] ...1. 16.88: kvm_mmu_prepare_zap_page: sp gen 0 gfn 200 l1 8-byte q0 wux nxe ad root 0 sync",
            set,
            // It says so of a change only, so the entry went without a word.
            set,
        ]);
        let wanted = [
            "1 1 0 60000000295bb77",
            "200 1 0 60000000295cb77",
            "1 1 60000000295bb77 60000000295bb05",
            "1 1 60000000295bb05 0",
            "1 1 0 60000000295bb77",
            "1 1 0 60000000295bb77",
        ];
        assert_eq!(told, wanted);
    }

    proptest! {
        #[test]
        fn any_events_are_taken(events: Vec<(u8, bool, u64, u8, u64, u64)>) {
            let (mut sptes, own, mut changes) = (Sptes::default(), BTreeSet::from([OWN]), Vec::new());
            for (kind, mine, gfn, level, old, new) in events {
                let (name, text) = match kind % 3 {
                    0 => (SPTE_CHANGED, format!("as id 0 gfn {gfn:x} level {level} old_spte {old:x} new_spte {new:x}")),
                    1 => (SET_SPTE, format!("gfn {gfn:x} spte {new:x} (rwxu) level {level} at {old:x}")),
                    _ => (PREPARE_ZAP_PAGE, format!("sp gen 0 gfn {gfn:x} l{level} 8-byte q0 direct wux")),
                };
                sptes.take(&Event { tid: if mine { OWN } else { 1 }, time: "1.0", name, text: &text }, &own, &mut changes);
            }
            for change in changes {
                let HostRecord::Spte { old, new, .. } = change else { panic!("{change}") };
                prop_assert!(old != new && (is_used(old) || is_used(new)));
            }
        }

        #[test]
        fn any_words_are_an_event(text in "[a-z0-9 ]{0,60}", kind in 0..3usize) {
            let name = [SPTE_CHANGED, SET_SPTE, PREPARE_ZAP_PAGE][kind];
            Sptes::default().take(&Event { tid: OWN, time: "1.0", name, text: &text }, &BTreeSet::from([OWN]), &mut Vec::new());
        }
    }
}
