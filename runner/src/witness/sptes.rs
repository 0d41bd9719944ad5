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
