//! Host steps: what KVM's ioctls reply.

use super::leaf_rules::LeafRules;
use super::mce::{self, Mce};
use super::memslot::{self, EEXIST, EINVAL, ENOENT, READONLY, Slot};
use super::point::{Effect, Prediction, Rule, Why};
use super::policy::{FlagRule, QuirkRule, ZapEvent};
use super::register::{Fate, View};
use super::replay::Replay;
use super::sptes::Cause;
use super::state::Cpu;
use crate::host::facts::Fact;
use crate::host::probe::set_quirks;
use crate::host::quirks::Quirks;
use crate::host::slot_type;
use wire::layout::{FIXED_MTRRS, MTRR_DEF_TYPE, MTRR_PHYSBASE0, PAT, START_CR0, VARIABLE_MTRRS};
use wire::step::{SlotApi, Status, Step};

/// The step succeeds.
const DONE: Effect = reply(Status::Done, 0);
const INVALID: Effect = reply(Status::Errno(EINVAL), 0);

const fn reply(status: Status, value: u64) -> Effect {
    Effect::Reply { status, value }
}

/// A read as KVM_GET_MSRS and the like reply to it; `refused` is how they refuse.
fn read_reply(view: View, refused: Status) -> Effect {
    match view {
        View::Value(value) => reply(Status::Done, value),
        View::Unknown => Effect::AnyReply,
        View::Fault => reply(refused, 0),
    }
}

fn write_reply(fate: Fate, refused: Status) -> Effect {
    if fate == Fate::Refused { reply(refused, 0) } else { DONE }
}

impl<'p> Replay<'p> {
    /// What is predicted of a step.
    pub(super) fn predict_step(&mut self, step: Step) -> Result<Prediction<'p>, Why> {
        let by = |row, rule, source, expected| Ok(Prediction { expected, row, rule, source });
        match step {
            Step::SetMsr { cpu, index, value } => self.set_msr(cpu, index, value, Status::Refused),
            Step::SetOneReg { cpu, index, value } => self.set_msr(cpu, index, value, Status::Errno(EINVAL)),
            Step::GetMsr { cpu, index } => self.get_msr(cpu, index, Status::Refused),
            Step::GetOneReg { cpu, index } => self.get_msr(cpu, index, Status::Errno(EINVAL)),
            Step::SetCr0 { cpu, value } => {
                let rules = self.policy.cr0.as_ref().ok_or(Why::NoRow)?;
                let source = rules.set_sregs_source.as_deref().ok_or(Why::NoRow)?;
                let (fate, rule) = rules.set_sregs(value, self.state.cpu(cpu).long_mode);
                by("CR0", rule, source, write_reply(fate, Status::Errno(EINVAL)))
            }
            Step::GetCr0 { cpu } => {
                let rules = self.policy.cr0.as_ref().ok_or(Why::NoRow)?;
                let source = rules.set_sregs_source.as_deref().ok_or(Why::NoRow)?;
                let (view, rule) = self.cr0_view(cpu);
                by("CR0", rule, source, read_reply(view, Status::Errno(EINVAL)))
            }
            Step::ListsMsr { index } => {
                let row = self.row(index).ok_or(Why::NoRow)?;
                let listed = row.listed.ok_or(Why::NoRow)?;
                by(
                    &row.name,
                    Rule::Listed,
                    "x86.c:msrs_to_save_base (6.1: msrs_to_save_all)",
                    reply(Status::Done, listed.into()),
                )
            }
            Step::SetMaxphyaddr { .. } => by("CPUID", Rule::Always, "cpuid.c:kvm_vcpu_ioctl_set_cpuid2", DONE),
            Step::CopyState { from, to } => {
                let mut refused = false;
                for index in copied_msrs() {
                    let value = self.msr_view(from, index, true).ok().and_then(|(view, ..)| view.value());
                    let Some(value) = value else { continue };
                    let mut refuses =
                        |cpu| self.msr_fate(cpu, index, value, true).is_ok_and(|(fate, ..)| fate == Fate::Refused);
                    if refuses(from) {
                        return Err(Why::Held);
                    }
                    refused |= refuses(to);
                }
                let expected = reply(if refused { Status::Refused } else { Status::Done }, 0);
                by(
                    "save and restore",
                    Rule::Always,
                    "regs.c:__set_sregs_common (6.1: x86.c); x86.c:kvm_set_msr_common",
                    expected,
                )
            }
            Step::SetupMce { cpu, mcg_cap } => {
                let rules = self.policy.mce.as_ref().ok_or(Why::NoRow)?;
                let caps = self.facts.int("mce-caps").ok_or(Why::MceCaps)?;
                let taken = Mce::new(rules, self.state.cpu(cpu)).takes_cap(mcg_cap, caps);
                by("KVM_X86_SETUP_MCE", Rule::McgCap, mce::SETUP_SOURCE, if taken { DONE } else { INVALID })
            }
            Step::InjectMce { cpu, event } => {
                let rules = self.policy.mce.as_ref().ok_or(Why::NoRow)?;
                let taken = Mce::new(rules, self.state.cpu(cpu)).takes(event)?;
                let (rule, expected) = if taken { (Rule::Always, DONE) } else { (Rule::MceInvalid, INVALID) };
                by("KVM_X86_SET_MCE", rule, mce::INJECT_SOURCE, expected)
            }
            Step::SetTypedSlot { typed, slot, readonly, gpa, pages } => {
                let flags = slot_type::flag(typed) | if readonly { READONLY } else { 0 };
                self.predict_slot(SlotApi::V1, slot, Slot::new(gpa, pages, flags))
            }
            Step::SetSlot { api, slot, flags, gpa, pages, .. } => {
                self.predict_slot(api, slot, Slot::new(gpa, pages, flags | self.slot_flag()))
            }
            Step::DeleteSlot { slot, .. } => {
                let there = self.state.slots.has(slot);
                let (rule, expected) = if there { (Rule::Slot, DONE) } else { (Rule::SlotAbsent, INVALID) };
                by("memslot", rule, memslot::SOURCE, expected)
            }
            Step::Poke { .. } => by("memslot's memory", Rule::Always, "mmap of the VMM", DONE),
            Step::Peek { slot, offset, .. } => {
                let value = self.state.slots.load(slot, offset.into(), 8);
                let expected = value.map_or(Effect::AnyReply, |value| reply(Status::Done, value));
                by("memslot's memory", Rule::Kept, "mmap of the VMM", expected)
            }
            Step::StartCpu { .. } => {
                by("vCPU", Rule::Always, "regs.c:kvm_arch_vcpu_ioctl_set_sregs (6.1: x86.c)", DONE)
            }
            Step::Mark => by("mark", Rule::Always, "the VMM", DONE),
            Step::PlugDma => {
                let expected = if self.state.plugged { reply(Status::Errno(EEXIST), 0) } else { DONE };
                by("non-coherent DMA", Rule::Always, "virt/kvm/vfio.c:kvm_vfio_file_add", expected)
            }
            Step::UnplugDma => {
                let expected = if self.state.plugged { DONE } else { reply(Status::Errno(ENOENT), 0) };
                by("non-coherent DMA", Rule::Always, "virt/kvm/vfio.c:kvm_vfio_file_del", expected)
            }
            Step::SetMmioSlot { slot, gpa } => {
                self.predict_slot(SlotApi::V1, slot, Slot::new(gpa, 1, self.slot_flag()))
            }
            Step::SetTypedMmioSlot { typed, slot, gpa } => {
                self.predict_slot(SlotApi::V1, slot, Slot::new(gpa, 1, slot_type::flag(typed)))
            }
            Step::SetHazardSlot { slot, gpa, .. } => {
                let (expected, rule) = self.state.slots.reply(slot, Slot::new(gpa, 1, 0));
                by("memslot", rule, memslot::SOURCE, expected)
            }
            Step::DisableQuirks { quirks } => {
                let offered = self.facts.int("quirks").ok_or(Why::Unknown)?;
                let expected = if u64::from(quirks) & !offered == 0 { DONE } else { INVALID };
                by("quirks", Rule::Quirks, "x86.c:kvm_vm_ioctl_enable_cap", expected)
            }
            Step::Clock { .. } => by("clock", Rule::Always, "the VMM", Effect::AnyReply),
        }
    }

    /// The flag that the VM configuration has memslots get.
    fn slot_flag(&self) -> u32 {
        match self.facts.get("slot-type") {
            Some(Fact::Text(typed)) => typed.parse().map_or(0, slot_type::flag),
            _ => 0,
        }
    }

    /// What KVM replies to setting a memslot by that ioctl.
    fn predict_slot(&self, api: SlotApi, slot: u8, wanted: Slot) -> Result<Prediction<'p>, Why> {
        let by = |row, rule, source, expected| Ok(Prediction { expected, row, rule, source });
        let row = memslot::flags(&self.policy.memslot_flags, api, wanted.flags, &self.facts)?;
        let refused = row.and_then(|row| match row.reply {
            FlagRule::Accepted => None,
            FlagRule::Einval => Some((row, INVALID)),
            FlagRule::Refused => Some((row, Effect::AnyErrno)),
        });
        if let Some((row, expected)) = refused {
            return by(&row.name, Rule::Flag, &row.source, expected);
        }
        match (self.state.slots.reply(slot, wanted), row) {
            ((DONE, _), Some(row)) => by(&row.name, Rule::Flag, &row.source, DONE),
            ((expected, rule), _) => by("memslot", rule, memslot::SOURCE, expected),
        }
    }

    fn get_msr(&mut self, cpu: u8, index: u32, refused: Status) -> Result<Prediction<'p>, Why> {
        let (view, row, rule, source) = self.msr_view(cpu, index, true)?;
        Ok(Prediction { expected: read_reply(view, refused), row, rule, source })
    }

    fn set_msr(&mut self, cpu: u8, index: u32, value: u64, refused: Status) -> Result<Prediction<'p>, Why> {
        let (fate, row, rule, source) = self.msr_fate(cpu, index, value, true)?;
        Ok(Prediction { expected: write_reply(fate, refused), row, rule, source })
    }

    /// Takes a step that was done into the state.
    pub(super) fn step_done(&mut self, step: Step, value: u64) {
        match step {
            Step::SetMsr { cpu, index, value } | Step::SetOneReg { cpu, index, value } => {
                self.store_msr(cpu, index, value);
                self.msr_written(cpu, index);
            }
            Step::GetMsr { cpu, index } | Step::GetOneReg { cpu, index } => self.adopt_msr(cpu, index, value),
            Step::SetCr0 { cpu, value } => {
                let before = self.state.cpu(cpu).cr0;
                self.set_cr0(cpu, value);
                self.cr0_written(ZapEvent::SetSregsCd, cpu, before);
            }
            Step::GetCr0 { cpu } => self.set_cr0(cpu, value),
            Step::ListsMsr { .. } => {}
            Step::SetMaxphyaddr { cpu, bits } => self.state.cpu(cpu).maxphyaddr = Some(bits),
            Step::CopyState { from, to } => self.copy(from, to),
            Step::SetupMce { cpu, mcg_cap } => {
                if let Some(rules) = &self.policy.mce {
                    Mce::new(rules, self.state.cpu(cpu)).set_up(mcg_cap);
                }
            }
            Step::InjectMce { cpu, event } => {
                // It is queued, and delivered before the next instruction after the doorbell's.
                let cpl = self.state.rung.filter(|&(by, _)| by == cpu).map(|(_, cpl)| cpl);
                if let Some(rules) = &self.policy.mce {
                    Mce::new(rules, self.state.cpu(cpu)).inject(event, cpl);
                }
            }
            Step::SetSlot { slot, flags, gpa, pages, .. } => {
                self.slot_goes(slot);
                self.state.slots.set(slot, Slot::new(gpa, pages, flags | self.slot_flag()));
            }
            Step::SetTypedSlot { typed, slot, readonly, gpa, pages } => {
                let flags = slot_type::flag(typed) | if readonly { READONLY } else { 0 };
                let wanted = Slot::new(gpa, pages, flags);
                if self.state.slots.is_retyped(slot, wanted) {
                    self.state.slots.set(slot, wanted);
                    self.happened(ZapEvent::SlotType, Cause::Slot(wanted));
                } else if !self.state.slots.is(slot, wanted) {
                    self.slot_goes(slot);
                    self.state.slots.set(slot, wanted);
                }
            }
            Step::DeleteSlot { slot, .. } => {
                self.slot_goes(slot);
                self.state.slots.delete(slot);
            }
            Step::Poke { slot, offset, value, .. } => self.state.slots.store(slot, offset.into(), 8, value),
            Step::Peek { slot, offset, .. } => self.state.slots.store(slot, offset.into(), 8, value),
            Step::StartCpu { cpu, .. } => {
                let cpu = self.state.cpu(cpu);
                (cpu.cr0, cpu.cr4) = (Some(START_CR0), Some(super::state::START_CR4));
                (cpu.long_mode, cpu.after_init) = (true, false);
            }
            Step::SetMmioSlot { slot, gpa } => {
                self.slot_goes(slot);
                self.state.slots.set_device(slot, Slot::new(gpa, 1, self.slot_flag()));
            }
            Step::SetTypedMmioSlot { typed, slot, gpa } => {
                self.slot_goes(slot);
                self.state.slots.set_device(slot, Slot::new(gpa, 1, slot_type::flag(typed)));
            }
            Step::SetHazardSlot { slot, gpa, .. } => {
                self.slot_goes(slot);
                self.state.slots.set_hazard(slot, Slot::new(gpa, 1, 0));
            }
            Step::PlugDma | Step::UnplugDma => {
                self.state.plugged = step == Step::PlugDma;
                let event = if self.state.plugged { ZapEvent::PlugDma } else { ZapEvent::UnplugDma };
                self.happened(event, Cause::Vm);
            }
            Step::Mark | Step::Clock { .. } => {}
            Step::DisableQuirks { quirks } => {
                let before = self.facts.int("disabled-quirks").map(|before| before as u32);
                let after = before.and_then(|before| match self.policy.disabled_quirks {
                    Some(QuirkRule::Kept) => Some(before | quirks),
                    Some(QuirkRule::OnAgain) => Some(quirks),
                    None => (before & !quirks == 0).then_some(quirks),
                });
                set_quirks(&mut self.facts, after.map(Quirks));
                self.leaf_rules = LeafRules::of(self.policy, &self.facts);
                self.happened(ZapEvent::DisableQuirks, Cause::Vm);
            }
        }
    }

    /// A memslot is changed, moved or deleted, if it is there: KVM may zap any leaf for that.
    fn slot_goes(&mut self, slot: u8) {
        if self.state.slots.has(slot) {
            self.leaves.forget();
        }
    }

    /// The special registers, then all MTRRs and the PAT of one vCPU were set on another. To KVM each is a write.
    fn copy(&mut self, from: u8, to: u8) {
        let saved: Vec<(u32, Option<u64>)> = copied_msrs()
            .map(|index| (index, self.msr_view(from, index, true).ok().and_then(|(view, ..)| view.value())))
            .collect();
        let Cpu { cr0, cr4, long_mode, .. } = *self.state.cpu(from);
        let cpu = self.state.cpu(to);
        let before = cpu.cr0;
        (cpu.cr0, cpu.cr4, cpu.long_mode, cpu.after_init) = (cr0, cr4, long_mode, false);
        self.cr0_written(ZapEvent::SetSregsCd, to, before);
        for (index, value) in saved {
            match value {
                Some(value) => self.store_msr(to, index, value),
                None => self.forget_msr(to, index),
            }
            self.msr_written(to, index);
        }
    }
}

/// The MSRs that [`Step::CopyState`] carries, in its order.
fn copied_msrs() -> impl Iterator<Item = u32> {
    let variable = MTRR_PHYSBASE0..MTRR_PHYSBASE0 + 2 * VARIABLE_MTRRS;
    [PAT, MTRR_DEF_TYPE].into_iter().chain(FIXED_MTRRS).chain(variable)
}
