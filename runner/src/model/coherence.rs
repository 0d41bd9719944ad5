//! Two mappings of one page: whether a load by the one sees a store by the other.

use super::memtype::apm::Apm;
use super::point::{Action, Effect, Prediction, Rule, Why};
use super::replay::{Decide, Replay};
use std::fmt;
use wire::coherence::{Aliased, Between, Side};
use wire::memtype::MemType::{self, *};
use wire::probe::Times;
use wire::record::Timed;

/// How a page is accessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mapping {
    /// The effective memory type.
    pub memtype: MemType,
    /// Accesses check the CPU's own caches: they are cached themselves, UC by page tables alone, or AMD's CD or WC+.
    snoops: bool,
}

/// What is looked at of two mappings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aspect {
    /// Whether a #MC comes of them.
    MachineCheck,
    /// Whether loads give values that were stored, old or new.
    Values,
    /// Whether loads give the new value.
    Coherence,
}

/// What is promised of two mappings, or of the order of stores, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words below say what they are")]
pub enum Promise {
    NoMachineCheck,
    StoredValues,
    Flushed,
    WrittenBack,
    OneMapping,
    Coherent { store: MemType, load: MemType },
    MayBeStale { store: MemType, load: MemType, self_snoop: bool },
    InvdMayLose,
    Fenced,
    StrongOrder { memtype: MemType },
    WeakOrder { memtype: MemType },
}

impl Promise {
    fn expected(self) -> Effect {
        match self {
            Promise::NoMachineCheck => Effect::Nothing,
            Promise::StoredValues | Promise::MayBeStale { .. } | Promise::InvdMayLose => Effect::StoredValues,
            Promise::Flushed | Promise::WrittenBack | Promise::OneMapping | Promise::Coherent { .. } => {
                Effect::NewValues
            }
            Promise::Fenced | Promise::StrongOrder { .. } => Effect::InOrder,
            Promise::WeakOrder { .. } => Effect::AnyOrder,
        }
    }

    fn source(self) -> &'static str {
        match self {
            Promise::NoMachineCheck => {
                "SDM Vol. 3B 'Machine-Check Architecture': it reports errors of the hardware; KVM has guests use types of \
                 their own beside the host's WB: vmx/vmx.c:vmx_get_mt_mask"
            }
            Promise::StoredValues => "SDM Vol. 3A 'Guaranteed Atomic Operations'",
            Promise::Flushed => {
                "SDM Vol. 2 CLFLUSH: from every cache of the coherence domain, whatever the memory type"
            }
            Promise::WrittenBack => "SDM Vol. 2 WBINVD; x86.c:kvm_emulate_wbinvd_noskip",
            Promise::OneMapping => "SDM Vol. 3A 'Memory Ordering in P6 and More Recent Processor Families'",
            Promise::Coherent { .. } => {
                "SDM Vol. 3A 'Cache Control Protocol', and 'Selecting Memory Types for Pentium III and More Recent Processor \
                 Families': the note on UC from page tables; APM Vol. 2, 7.8: CD and WC+ ask the caches"
            }
            Promise::MayBeStale { .. } => {
                "SDM Vol. 3A 'Programming the PAT': WC writes may not check the caches; 'Selecting Memory Types for Pentium \
                 III and More Recent Processor Families': the note on UC from MTRRs"
            }
            Promise::InvdMayLose => "SDM Vol. 2 INVD: data held internally is lost",
            Promise::Fenced => "SDM Vol. 2 MFENCE",
            Promise::StrongOrder { .. } => "SDM Vol. 3A 'Memory Ordering in P6 and More Recent Processor Families'",
            Promise::WeakOrder { .. } => {
                "SDM Vol. 3A 'Methods of Caching Available' and 'Buffering of Write Combining Memory Locations'"
            }
        }
    }

    /// The prediction that is made of it.
    pub(super) fn predicts<'p>(self, row: &'p str) -> Prediction<'p> {
        Prediction { expected: self.expected(), row, rule: Rule::Promise(self), source: self.source() }
    }
}

impl<'p> Replay<'p> {
    /// Decides what came of stores and loads by two mappings. Where no load was done, nothing was seen.
    pub(super) fn aliased(&mut self, it: Aliased, decide: &mut impl Decide<'p>) {
        let Aliased { new, stale, other, .. } = it;
        let loads = Effect::Loads { new, stale, other };
        let seen = if (new, stale, other) == (0, 0, 0) { Err(Why::NoLoads) } else { Ok(()) };
        let came = if it.machine_check { Effect::Happened } else { Effect::Nothing };
        let of = |aspect| Action::Aliased(it, aspect);
        let by = |promise: Promise| seen.map(|()| promise.predicts("aliases"));
        decide(of(Aspect::MachineCheck), came, by(Promise::NoMachineCheck));
        decide(of(Aspect::Values), loads, by(Promise::StoredValues));
        decide(of(Aspect::Coherence), loads, self.coherence(&it).and_then(by));
    }

    fn coherence(&mut self, it: &Aliased) -> Result<Promise, Why> {
        let kvm = self.policy.host;
        match it.between {
            Between::Clflush | Between::HostClflush => return Ok(Promise::Flushed),
            // KVM does it if the VM has non-coherent DMA, and else it does nothing.
            Between::Wbinvd if !kvm || self.state.plugged => return Ok(Promise::WrittenBack),
            Between::Invd if !kvm => return Ok(Promise::InvdMayLose),
            // x86.c:kvm_emulate_invd does nothing.
            Between::Invd | Between::Wbinvd | Between::Nothing | Between::Fence => {}
        }
        if it.store == it.load {
            return Ok(Promise::OneMapping);
        }
        let (store, load) = (self.mapping_of(it.gpa, it.store)?, self.mapping_of(it.gpa, it.load)?);
        let fenced = it.between != Between::Nothing;
        let (one, other) = (store.memtype, load.memtype);
        Ok(if may_be_stale(store, load, fenced, cpu(it.store) == cpu(it.load)) {
            Promise::MayBeStale { store: one, load: other, self_snoop: self.facts.is("self-snoop") }
        } else {
            Promise::Coherent { store: one, load: other }
        })
    }

    /// How vCPU `cpu` accesses the page of `gpa` through an entry of the PAT.
    pub(super) fn mapping(&self, cpu: u8, gpa: u64, pat_entry: u8) -> Result<Mapping, Why> {
        let nothing = Times::default();
        let page = Timed { cpu, cpl: 3, gpa, pat_entry: Some(pat_entry), nested: None, times: nothing };
        let Prediction { expected: Effect::Type(memtype), rule, .. } = self.effective(&page)? else {
            return Err(Why::TypeUndefined);
        };
        // SDM Vol. 3A, table of effective types, the notes on UC: what the MTRRs or the leaf make UC need not check.
        let by_page_tables = |below| memtype == Uc && below != Uc;
        let snoops = matches!(memtype, Wb | Wt | Wp)
            || match rule {
                Rule::PageType { mtrr, pat: Uc | UcMinus, cd: false } => by_page_tables(mtrr),
                Rule::LeafPageType { ept, pat: Uc | UcMinus, .. } => !ept.ignore_pat && by_page_tables(ept.memtype),
                Rule::NptPageType { apm, .. } => matches!(apm, Apm::Cd | Apm::WcPlus),
                _ => false,
            };
        Ok(Mapping { memtype, snoops })
    }

    /// How one accesses the page. The host's own mapping of a memslot is WB.
    fn mapping_of(&mut self, gpa: u64, side: Side) -> Result<Mapping, Why> {
        match side {
            Side::Guest { cpu, pat_entry } => self.mapping(cpu, gpa, pat_entry),
            Side::Host => Ok(Mapping { memtype: Wb, snoops: true }),
        }
    }
}

fn cpu(side: Side) -> Option<u8> {
    match side {
        Side::Guest { cpu, .. } => Some(cpu),
        Side::Host => None,
    }
}

/// Whether a load may give an old value. Caches are coherent among themselves and with what checks them; what is in a
/// buffer for combining is seen by its own CPU's accesses of that type alone, until a fence.
fn may_be_stale(store: Mapping, load: Mapping, fenced: bool, one_cpu: bool) -> bool {
    let cached = |mapping: Mapping| matches!(mapping.memtype, Wb | Wt | Wp);
    let combined = |mapping: Mapping| mapping.memtype == Wc;
    let unchecked = cached(store) != cached(load) && !(store.snoops && load.snoops);
    let alike = combined(store) == combined(load) && (one_cpu || !combined(store));
    unchecked || !fenced && !alike
}

impl fmt::Display for Aspect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Aspect::MachineCheck => "machine check",
            Aspect::Values => "values",
            Aspect::Coherence => "coherence",
        })
    }
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Promise::NoMachineCheck => f.write_str("RAM raises no #MC, whatever it is mapped as"),
            Promise::StoredValues => f.write_str("a load gives what was stored once"),
            Promise::Flushed => f.write_str("CLFLUSH between fences makes mappings of any types coherent"),
            Promise::WrittenBack => f.write_str("WBINVD writes back and empties the caches"),
            Promise::OneMapping => f.write_str("a CPU sees its own stores"),
            Promise::Coherent { store, load } => {
                write!(f, "stores of type {store} and loads of type {load} are coherent")
            }
            Promise::MayBeStale { store, load, self_snoop } => {
                write!(f, "with stores of type {store}, loads of type {load} may be stale")?;
                f.write_str(if self_snoop { "; Linux takes a CPU with self-snoop for coherent" } else { "" })
            }
            Promise::InvdMayLose => f.write_str("INVD may lose what caches hold"),
            Promise::Fenced => f.write_str("MFENCE keeps the order"),
            Promise::StrongOrder { memtype } => {
                write!(f, "stores and loads of type {memtype} keep the program's order")
            }
            Promise::WeakOrder { memtype } => write!(f, "stores and loads of type {memtype} may come in any order"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::select;

    /// Every way to access a page. Only UC can be either.
    const MAPPINGS: [Mapping; 6] = [
        Mapping { memtype: Wb, snoops: true },
        Mapping { memtype: Wt, snoops: true },
        Mapping { memtype: Wp, snoops: true },
        Mapping { memtype: Uc, snoops: true },
        Mapping { memtype: Uc, snoops: false },
        Mapping { memtype: Wc, snoops: false },
    ];

    /// Behind a fence, whichever CPUs: stores a line, loads a column, x where a load may be stale.
    const FENCED: &str = "
        WB  . . . . x x
        WT  . . . . x x
        WP  . . . . x x
        UC  . . . . . .
        UC  x x x . . .
        WC  x x x . . .";

    #[test]
    fn behind_a_fence_only_a_cache_that_is_not_checked_is_stale() {
        let lines = FENCED.lines().filter(|line| !line.trim().is_empty());
        for (line, store) in lines.zip(MAPPINGS) {
            for (cell, load) in line.split_whitespace().skip(1).zip(MAPPINGS) {
                for one_cpu in [false, true] {
                    assert_eq!(may_be_stale(store, load, true, one_cpu), cell == "x", "{store:?} {load:?}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn a_fence_never_hurts_and_one_cpu_sees_no_less(
            store in select(&MAPPINGS), load in select(&MAPPINGS), fenced: bool, one_cpu: bool,
        ) {
            let stale = |fenced, one_cpu| may_be_stale(store, load, fenced, one_cpu);
            prop_assert!(!stale(true, one_cpu) || stale(false, one_cpu));
            prop_assert!(!stale(fenced, true) || stale(fenced, false));
        }

        /// Without a fence, what is combined may be seen late, but by its own CPU and type.
        #[test]
        fn combined_stores_are_seen_late(load in select(&MAPPINGS)) {
            let wc = MAPPINGS[5];
            prop_assert!(may_be_stale(wc, load, false, false));
            prop_assert_eq!(may_be_stale(wc, load, false, true), load != wc);
        }
    }
}
