//! Leaf SPTEs in a replay: what is predicted of one that KVM makes, and of those that an event should zap.

use super::leaf::{Entry, LeafType, PAGE_SHIFT, frame, frames, window_gpa};
use super::leaves::{Interval, Pending, Scope, Touched, Zapped};
use super::memslot::{Backing, Slot};
use super::memtype::{Lookup, Msrs, Mtrrs, NoType, covered_by_fixed};
use super::point::{Action, Effect, Prediction, Rule, Why};
use super::policy::{LeafRow, LeafRule, ZapEvent, ZapRule};
use super::replay::{Decide, Replay};
use super::state::Cpu;
use wire::layout::{CR0_CD, FIXED_MTRRS, MTRR_DEF_TYPE, MTRR_PHYSBASE0, PAT, VARIABLE_MTRRS};
use wire::memtype::{EptType, MemType};
use wire::record::Access;
use wire::step::SlotType;

/// IA32_MTRR_DEF_TYPE.E.
const MTRRS_ENABLED: u64 = 1 << 11;
/// IA32_MTRR_DEF_TYPE.FE.
const FIXED_ENABLED: u64 = 1 << 10;
const PAGE: u64 = !0xfff;

/// All that decides about the leaf of a page of the test window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Situation {
    /// The memslot's memory is a PCI BAR of the host.
    pub host_mmio: bool,
    /// The guest cannot write it.
    pub readonly: bool,
    /// What a flag of the memslot says of memory types.
    pub typed: SlotType,
    /// The VM has non-coherent DMA.
    pub dma: bool,
    /// CR0.CD of the vCPU that faults.
    pub cd: bool,
    /// The type that its MTRRs give the page, by the SDM.
    pub mtrr: MemType,
    /// That type as KVM up to 6.10 looks it up.
    pub kvm_mtrr: MemType,
}

/// Where something happens that may zap leaves.
#[derive(Debug, Clone, Copy)]
pub(super) enum Cause {
    /// To the VM as a whole.
    Vm,
    /// On this vCPU.
    Cpu(u8),
    /// On this vCPU, by this MSR.
    Msr { cpu: u8, index: u32 },
    /// To this memslot.
    Slot(Slot),
}

/// Whether a condition of a row holds; nothing if that is not known.
fn holds(wanted: Option<bool>, found: Option<bool>) -> Option<bool> {
    wanted.map_or(Some(true), |wanted| found.map(|found| found == wanted))
}

/// The first row whose conditions hold.
fn first<'a, R>(rows: impl Iterator<Item = (&'a R, [Option<bool>; 5])>) -> Result<&'a R, Why> {
    for (row, conditions) in rows {
        if conditions.contains(&Some(false)) {
            continue;
        }
        return if conditions.contains(&None) { Err(Why::LeafState) } else { Ok(row) };
    }
    Err(Why::NoRow)
}

impl<'p> Replay<'p> {
    /// KVM changed an SPTE.
    pub(super) fn spte(&mut self, gfn: u64, level: u8, old: u64, new: u64, decide: &mut impl Decide<'p>) {
        let Some(gpa) = window_gpa(gfn) else { return };
        let Some(format) = self.leaf_rules.format else {
            return decide(Action::Leaf { gpa, level }, Effect::Happened, Err(Why::LeafFormat));
        };
        let maps = |spte| format.entry(spte, level) == Entry::Leaf;
        match (maps(old), maps(new)) {
            (true, false) => self.leaves.zap(gfn, level),
            (false, false) => {}
            (had, true) => {
                let leaf = format.leaf(new, level);
                self.leaves.set(gfn, level, leaf);
                // A change of other bits than the type's is no new choice of a type.
                if !had || format.leaf(old, level) != leaf {
                    decide(
                        Action::Leaf { gpa, level },
                        Effect::Leaf(leaf),
                        self.predict_leaf(gpa, level, self.leaves.toucher(gfn, level)),
                    );
                }
            }
        }
    }

    /// The guest accessed memory.
    pub(super) fn touch(&mut self, access: &Access) {
        let last = access.gpa.saturating_add(u64::from(access.width.max(1)) - 1);
        for gfn in [frame(access.gpa), frame(last)] {
            let Some(gpa) = window_gpa(gfn) else { continue };
            let backing = self.state.slots.at(gpa);
            if access.fault.is_none() && backing.is_some_and(|backing| !(access.write && backing.readonly)) {
                self.leaves.touch(gfn, access.cpu, self.predict_leaf(gpa, 1, Some(access.cpu)));
            }
        }
    }

    /// The situation of a page now, if all of it is known and one vCPU alone runs.
    pub fn situation(&self, gpa: u64) -> Option<Situation> {
        let backing = self.state.slots.at(gpa)?;
        let mut running = self.state.running();
        let cpu = running.next().filter(|_| running.next().is_none())?;
        Some(Situation {
            host_mmio: backing.device,
            readonly: backing.readonly,
            typed: backing.typed,
            dma: self.state.plugged,
            cd: cpu.cr0? & CR0_CD != 0,
            mtrr: self.guest_mtrr(cpu, gpa, Lookup::Sdm).ok()?,
            kvm_mtrr: self.guest_mtrr(cpu, gpa, Lookup::KvmPre611).ok()?,
        })
    }

    /// The leaf at `level` that KVM would make now for a fault of vCPU `cpu`.
    ///
    /// # Errors
    /// Why nothing is predicted.
    pub fn fresh(&self, gpa: u64, level: u8, cpu: u8) -> Result<Prediction<'p>, Why> {
        self.predict_leaf(gpa, level, Some(cpu))
    }

    /// What of the VM's state decides about leaves besides MTRRs: whether it has non-coherent DMA, the quirks that are
    /// disabled, and CR0.CD of vCPU `cpu`, as far as they are known.
    pub fn switches(&self, cpu: u8) -> (bool, Option<u64>, Option<bool>) {
        let cd = self.state.cpu_if(cpu).and_then(|cpu| cpu.cr0).map(|cr0| cr0 & CR0_CD != 0);
        (self.state.plugged, self.facts.int("disabled-quirks"), cd)
    }

    /// The leaf at `level` that KVM makes now, for a fault of vCPU `cpu`, or of one of which that is not known.
    fn predict_leaf(&self, gpa: u64, level: u8, cpu: Option<u8>) -> Result<Prediction<'p>, Why> {
        let backing = self.state.slots.at(gpa).ok_or(Why::LeafState)?;
        if backing.hazard {
            return Err(Why::Hazard);
        }
        if let Some(cpu) = cpu {
            return self.leaf_by(gpa, level, backing, self.state.cpu_if(cpu).ok_or(Why::LeafCpu)?);
        }
        let mut predictions = self.state.running().map(|cpu| self.leaf_by(gpa, level, backing, cpu));
        let one = predictions.next().ok_or(Why::LeafCpu)?;
        let same = |other: Result<Prediction<'p>, Why>| {
            other.map(|other| other.expected) == one.map(|one: Prediction<'p>| one.expected)
        };
        if predictions.all(same) { one } else { Err(Why::LeafCpu) }
    }

    /// The leaf at `level` that `cpu` gets if it faults.
    fn leaf_by(&self, gpa: u64, level: u8, backing: Backing, cpu: &Cpu) -> Result<Prediction<'p>, Why> {
        let of_vm = self.policy.vcpu_0_mtrrs == Some(true);
        let mtrrs = if of_vm { self.state.cpu_if(0).ok_or(Why::LeafCpu)? } else { cpu };
        let cd = cpu.cr0.map(|cr0| cr0 & CR0_CD != 0);
        let row: &'p LeafRow = first(self.leaf_rules.leaves().map(|row| {
            let conditions = [
                holds(row.host_mmio, Some(backing.device)),
                row.slot_type.map_or(Some(true), |typed| Some(typed == backing.typed)),
                holds(row.non_coherent_dma, Some(self.state.plugged)),
                holds(row.cd, cd),
                holds(row.mtrrs_enabled, mtrrs_enabled(&mtrrs.msrs)),
            ];
            (row, conditions)
        }))?;
        let by = |expected, rule| Ok(Prediction { expected, row: &row.name, rule, source: &row.source });
        let (leaf, rule) = match row.leaf {
            LeafRule::Unpredicted => return Err(Why::Unpredicted),
            LeafRule::Always(leaf) => (leaf, Rule::LeafAlways),
            LeafRule::GuestMtrr => {
                let (memtype, rule) = self.by_guest_mtrrs(mtrrs, gpa)?;
                let rest = if self.is_uniform(mtrrs, gpa, level)? { 1..1 } else { 1..frames(level) };
                for frame in rest {
                    if self.by_guest_mtrrs(mtrrs, gpa + (frame << PAGE_SHIFT))?.0 != memtype {
                        return by(Effect::Nothing, Rule::LeafTooLarge);
                    }
                }
                (LeafType::Ept(EptType { memtype, ignore_pat: false }), rule)
            }
        };
        by(Effect::Leaf(leaf), rule)
    }

    /// The type that a leaf takes from the MTRRs of `cpu` for the page at `gpa`: the SDM's, and where the SDM leaves it
    /// undefined, that of KVM's own lookup.
    fn by_guest_mtrrs(&self, cpu: &Cpu, gpa: u64) -> Result<(MemType, Rule), Why> {
        let kvm = self.guest_mtrr(cpu, gpa, Lookup::KvmPre611).ok().filter(|_| self.policy.host);
        match (self.guest_mtrr(cpu, gpa, Lookup::Sdm), kvm) {
            (Err(Why::Overlap(one, other)), Some(memtype)) => {
                Ok((memtype, Rule::GuestMtrrUndefined { memtype, one, other }))
            }
            (memtype, kvm) => {
                let memtype = memtype?;
                let kvm = kvm.filter(|&kvm| kvm != memtype);
                let kvm = kvm.map(|kvm| Ok((kvm, self.lookup(cpu, |mtrrs| mtrrs.fault(gpa))?))).transpose()?;
                Ok((memtype, Rule::GuestMtrr { memtype, kvm }))
            }
        }
    }

    /// The type that the MTRRs of `cpu` give the page at `gpa`.
    pub(super) fn guest_mtrr(&self, cpu: &Cpu, gpa: u64, rules: Lookup) -> Result<MemType, Why> {
        self.lookup(cpu, |mtrrs| mtrrs.memtype(gpa, rules))
    }

    /// Whether the MTRRs of `cpu` are sure to give all pages of a leaf one type.
    fn is_uniform(&self, cpu: &Cpu, gpa: u64, level: u8) -> Result<bool, Why> {
        self.lookup(cpu, |mtrrs| mtrrs.is_uniform(gpa, frames(level) << PAGE_SHIFT))
    }

    /// Asks the MTRRs of `cpu`.
    fn lookup<T>(&self, cpu: &Cpu, ask: impl FnOnce(Mtrrs<'_>) -> Result<T, NoType>) -> Result<T, Why> {
        let maxphyaddr = cpu.maxphyaddr.ok_or(Why::Maxphyaddr)?;
        let in_cpuid = self.leaf_rules.mtrrs_in_cpuid.ok_or(Why::Cpuid)?;
        ask(Mtrrs { msrs: &cpu.msrs, maxphyaddr, in_cpuid }).map_err(|error| match error {
            NoType::Overlap(one, other) => Why::Overlap(one, other),
            NoType::Unknown(_) | NoType::Reserved(_) => Why::Unknown,
        })
    }

    /// An MSR of vCPU `cpu` was written.
    pub(super) fn msr_written(&mut self, cpu: u8, index: u32) {
        let event = match index {
            MTRR_DEF_TYPE => ZapEvent::DefType,
            PAT => ZapEvent::Pat,
            _ if FIXED_MTRRS.contains(&index) || is_variable(index) => ZapEvent::RangeMtrr,
            _ => return,
        };
        self.happened(event, Cause::Msr { cpu, index });
    }

    /// CR0 of vCPU `cpu` was written, and was `before`.
    pub(super) fn cr0_written(&mut self, event: ZapEvent, cpu: u8, before: Option<u64>) {
        let after = self.state.cpu(cpu).cr0;
        if let (Some(before), Some(after)) = (before, after)
            && (before ^ after) & CR0_CD != 0
        {
            self.happened(event, Cause::Cpu(cpu));
        }
    }

    /// Something happened.
    pub(super) fn happened(&mut self, event: ZapEvent, cause: Cause) {
        if !self.policy.host {
            return;
        }
        let cpu = match cause {
            Cause::Vm | Cause::Slot(_) => None,
            Cause::Cpu(cpu) | Cause::Msr { cpu, .. } => Some(cpu),
        };
        let nothing = Msrs::default();
        let msrs = cpu.and_then(|cpu| self.state.cpu_if(cpu)).map_or(&nothing, |cpu| &cpu.msrs);
        let row = first(self.leaf_rules.zaps(event).map(|row| {
            let dma = holds(row.non_coherent_dma, Some(self.state.plugged));
            let on_vcpu_0 = holds(row.on_vcpu_0, cpu.map(|cpu| cpu == 0));
            (row, [dma, on_vcpu_0, holds(row.mtrrs_enabled, mtrrs_enabled(msrs)), Some(true), Some(true)])
        }));
        let scope = row.and_then(|row| match row.zaps {
            ZapRule::All => Ok(Scope::All),
            ZapRule::None => Ok(Scope::Nothing),
            ZapRule::Unpredicted => Err(Why::Unpredicted),
            ZapRule::Range => match cause {
                Cause::Slot(slot) => Ok(Scope::Frames(frame(slot.gpa), frame(slot.gpa + slot.size - 1))),
                Cause::Msr { index, .. } if is_variable(index) => {
                    let value = |index| msrs.get(index).ok_or(Why::Unknown);
                    Ok(covered(value(index & !1)?, value(index | 1)?))
                }
                Cause::Msr { index, .. } => fixed(index, msrs.get(MTRR_DEF_TYPE)),
                Cause::Vm | Cause::Cpu(_) => Err(Why::Unpredicted),
            },
        });
        self.leaves.assume_zapped(scope);
        let seen = if self.leaf_rules.zaps_are_seen { scope } else { Err(Why::ZapUnseen) };
        let (row, scope) = seen.map_or_else(|why| (Err(why), Scope::Nothing), |scope| (row, scope));
        self.leaves.push(Pending { event, row, scope });
    }

    /// A mark: what the events since the last one zapped is certain now, and by which leaves pages were accessed.
    pub(super) fn mark(&mut self, decide: &mut impl Decide<'p>) {
        let settled = self.leaves.mark();
        for Zapped { event, row, leaves, of, due } in settled.zapped {
            let predicted = row.map(|row| {
                let rule = match row.zaps {
                    ZapRule::None => Rule::NoZap,
                    ZapRule::Range => Rule::ZapRange,
                    ZapRule::All | ZapRule::Unpredicted => Rule::ZapAll,
                };
                Prediction { expected: Effect::Zapped { leaves: due, of }, row: &row.name, rule, source: &row.source }
            });
            decide(Action::Zap(event), Effect::Zapped { leaves, of }, predicted);
        }
        for touched in settled.touched {
            self.touched(touched, decide);
        }
    }

    /// A page was accessed by a leaf from before, or although no SPTE that maps it was seen.
    fn touched(&self, touched: Touched<'p>, decide: &mut impl Decide<'p>) {
        let Some(gpa) = window_gpa(touched.gfn) else { return };
        match touched.held {
            Some((level, leaf)) => {
                let (expected, row, rule) = (Effect::Leaf(leaf), "leaf in use", Rule::LeafHeld);
                let held = Prediction { expected, row, rule, source: "mmu/spte.c:make_spte" };
                let predicted = if self.policy.host { Ok(held) } else { touched.fresh };
                decide(Action::Held { gpa, level }, expected, predicted);
            }
            None if self.policy.host && self.leaves.are_seen() => {
                decide(Action::Leaf { gpa, level: 1 }, Effect::Nothing, Err(Why::NoLeaf))
            }
            None => {}
        }
    }

    /// The end: what came after the last mark stays open.
    pub(super) fn no_more_marks(&mut self, decide: &mut impl Decide<'p>) {
        let (events, touched) = self.leaves.end();
        for event in events {
            decide(Action::Zap(event), Effect::Nothing, Err(Why::NoMark));
        }
        for gpa in touched
            .into_iter()
            .filter_map(|touched| window_gpa(touched.gfn))
            .filter(|_| self.policy.host && self.leaves.are_seen())
        {
            decide(Action::Leaf { gpa, level: 1 }, Effect::Nothing, Err(Why::NoMark));
        }
    }

    /// What came of the leaves between the last two marks.
    pub fn interval(&self) -> &Interval {
        &self.leaves.interval
    }
}

/// IA32_MTRR_DEF_TYPE.E among these, if it is known.
fn mtrrs_enabled(msrs: &Msrs) -> Option<bool> {
    msrs.get(MTRR_DEF_TYPE).map(|def_type| def_type & MTRRS_ENABLED != 0)
}

/// Whether an MSR is one of a variable pair.
fn is_variable(index: u32) -> bool {
    (MTRR_PHYSBASE0..MTRR_PHYSBASE0 + 2 * VARIABLE_MTRRS).contains(&index)
}

/// The frames that KVM zaps for a write to a fixed-range MTRR: those of the whole register, while fixed ranges are enabled
/// (`mtrr.c:update_mtrr, fixed_msr_to_range`).
fn fixed(index: u32, def_type: Option<u64>) -> Result<Scope, Why> {
    let on = def_type.ok_or(Why::Unknown)? & FIXED_ENABLED != 0;
    let range = covered_by_fixed(index).filter(|_| on);
    Ok(range.map_or(Scope::Nothing, |(first, last)| Scope::Frames(frame(first), frame(last))))
}

/// The frames that KVM takes a variable pair to cover, whether V is set or not (`mtrr.c:var_mtrr_range`): one run, from
/// the base up. A mask that was never written lacks the bits from MAXPHYADDR on, and the range is empty.
fn covered(base: u64, mask: u64) -> Scope {
    let start = base & PAGE;
    match (start | !(mask & PAGE)).wrapping_add(1) {
        end if end > start => Scope::Frames(frame(start), frame(end - 1)),
        _ => Scope::Nothing,
    }
}

#[cfg(test)]
mod tests;
