//! Registers in a replay: what is predicted of an access, and what becomes known by it.

use super::mce::{self, Mce};
use super::point::{Effect, Prediction, Rule, Why};
use super::policy::{RegisterRow, ZapEvent};
use super::register::{self, Fate, View};
use super::replay::Replay;
use wire::outcome::{Outcome, ReadOutcome};
use wire::register::{Place, Register};

/// What is said of an access, with row, rule and source.
pub(super) type Said<'p, T> = Result<(T, &'p str, Rule, &'p str), Why>;

impl<'p> Replay<'p> {
    /// A guest's read: what was seen and what is predicted.
    pub(super) fn read(&mut self, at: Place, outcome: ReadOutcome) -> (Effect, Result<Prediction<'p>, Why>) {
        let seen = outcome.map_or_else(Effect::Fault, Effect::Value);
        let said = match at.register {
            Register::Msr(index) => self.msr_view(at.cpu, index, false),
            Register::Cr4 => Ok(self.cr4_view(at.cpu)),
            _ => self.cr0_read(at.cpu, outcome),
        };
        let predicted = said.map(|(view, row, rule, source)| Prediction { expected: view.effect(), row, rule, source });
        match (outcome, at.register) {
            (Ok(value), Register::Msr(index)) => self.adopt_msr(at.cpu, index, value),
            (Ok(value), Register::Cr4) => self.state.cpu(at.cpu).cr4 = Some(value),
            (Ok(value), _) => self.state.cpu(at.cpu).cr0 = Some(value),
            (Err(_), _) => {}
        }
        (seen, predicted)
    }

    /// A guest's write: what was seen and what is predicted.
    pub(super) fn write(&mut self, at: Place, value: u64, outcome: Outcome) -> (Effect, Result<Prediction<'p>, Why>) {
        let (said, before) = match at.register {
            Register::Msr(index) => {
                // A register that may hold anything is unchanged if the guest says so.
                let before = self.msr_view(at.cpu, index, false).map_or(View::Unknown, |(view, ..)| view);
                (self.msr_fate(at.cpu, index, value, false), before)
            }
            Register::Cr4 => (self.cr4_fate(at.cpu, value), self.cr4_view(at.cpu).0),
            register => (self.cr0_fate(at.cpu, register, value), self.cr0_view(at.cpu).0),
        };
        let seen = register::seen(value, outcome, before.value());
        let predicted = said.map(|(fate, row, rule, source)| Prediction {
            expected: fate.effect(value, before),
            row,
            rule,
            source,
        });
        let cr0 = self.state.cpu(at.cpu).cr0;
        if let Some(now) = register::now(value, seen) {
            match at.register {
                Register::Msr(index) if outcome.fault.is_none() => self.store_msr(at.cpu, index, now),
                Register::Msr(index) => self.adopt_msr(at.cpu, index, now),
                Register::Cr4 => self.state.cpu(at.cpu).cr4 = Some(now),
                _ => self.set_cr0(at.cpu, now),
            }
        }
        if outcome.fault.is_none() {
            match at.register {
                Register::Msr(index) => self.msr_written(at.cpu, index),
                _ => self.cr0_written(ZapEvent::MovCd, at.cpu, cr0),
            }
        }
        (seen, predicted)
    }

    /// The first row that speaks of an MSR here.
    pub(super) fn row(&self, index: u32) -> Option<&'p RegisterRow> {
        let speaks = |row: &&RegisterRow| row.msrs.iter().any(|msrs| msrs.has(index)) && row.when.holds(&self.facts);
        self.policy.registers.iter().find(speaks)
    }

    /// What a read of an MSR gives, by the guest or by the host.
    pub(super) fn msr_view(&mut self, cpu: u8, index: u32, host: bool) -> Said<'p, View> {
        let cpu = self.state.cpu(cpu);
        if let Some(rules) = self.policy.mce.as_ref().filter(|_| mce::is_msr(index)) {
            let (view, rule) = Mce::new(rules, cpu).view(index, host)?;
            return Ok((view, "MC banks", rule, mce::MSR_SOURCE));
        }
        let (stored, maxphyaddr) = (cpu.msrs.get(index), cpu.maxphyaddr);
        let row = self.row(index).ok_or(Why::NoRow)?;
        let (view, rule) = row.view(stored, maxphyaddr)?;
        Ok((view, &row.name, rule, &row.source))
    }

    /// What becomes of a write to an MSR, by the guest or by the host.
    pub(super) fn msr_fate(&mut self, cpu: u8, index: u32, value: u64, host: bool) -> Said<'p, Fate> {
        let cpu = self.state.cpu(cpu);
        if let Some(rules) = self.policy.mce.as_ref().filter(|_| mce::is_msr(index)) {
            if index == mce::MCG_CAP && self.facts.bool("ignore-msrs") != Some(false) {
                return Err(Why::IgnoreMsrs);
            }
            let (fate, rule) = Mce::new(rules, cpu).fate(index, value, host)?;
            return Ok((fate, "MC banks", rule, mce::MSR_SOURCE));
        }
        let maxphyaddr = cpu.maxphyaddr;
        let row = self.row(index).ok_or(Why::NoRow)?;
        let (fate, rule) = row.fate(value, maxphyaddr)?;
        Ok((fate, &row.name, rule, &row.source))
    }

    /// An MSR was set to `value`.
    pub(super) fn store_msr(&mut self, cpu: u8, index: u32, value: u64) {
        let row = self.row(index);
        let cpu = self.state.cpu(cpu);
        let stored = row.map_or(value, |row| row.stored(value, cpu.maxphyaddr));
        cpu.msrs.set(index, stored);
    }

    /// An MSR reads as `value`. What is stored stays, if that is how it reads.
    pub(super) fn adopt_msr(&mut self, cpu: u8, index: u32, value: u64) {
        let known = self.msr_view(cpu, index, false).ok().and_then(|(view, ..)| view.value());
        if known != Some(value) {
            self.state.cpu(cpu).msrs.set(index, value);
        }
    }

    /// What an MSR holds is not known any more.
    pub(super) fn forget_msr(&mut self, cpu: u8, index: u32) {
        self.state.cpu(cpu).msrs.forget(index);
    }

    /// CR0 was set.
    pub(super) fn set_cr0(&mut self, cpu: u8, value: u64) {
        let cpu = self.state.cpu(cpu);
        (cpu.cr0, cpu.after_init) = (Some(value), false);
    }

    /// What is known of CR0.
    pub(super) fn cr0_view(&mut self, cpu: u8) -> (View, Rule) {
        let cpu = self.state.cpu(cpu);
        let view = cpu.cr0.map_or(View::Unknown, View::Value);
        match view {
            _ if cpu.after_init => (view, Rule::Init),
            View::Unknown => (view, Rule::Readable),
            _ => (view, Rule::Kept),
        }
    }

    /// A guest's read of CR0. Where INIT keeps bits of which nothing is known, the others are compared all the same.
    fn cr0_read(&mut self, cpu: u8, outcome: ReadOutcome) -> Said<'p, View> {
        let rules = self.policy.cr0.as_ref().ok_or(Why::NoRow)?;
        let (view, rule) = match (self.cr0_view(cpu), outcome) {
            ((View::Unknown, Rule::Init), Ok(found)) => (View::Value(rules.after_init(found)), Rule::Init),
            (view, _) => view,
        };
        Ok((view, "CR0", rule, &rules.source))
    }

    fn cr0_fate(&mut self, cpu: u8, register: Register, value: u64) -> Said<'p, Fate> {
        let rules = self.policy.cr0.as_ref().ok_or(Why::NoRow)?;
        let (fate, rule) = rules.write(register, value, self.state.cpu(cpu).cr0)?;
        Ok((fate, "CR0", rule, &rules.source))
    }

    fn cr4_view(&mut self, cpu: u8) -> (View, &'p str, Rule, &'p str) {
        let cr4 = self.state.cpu(cpu).cr4;
        (cr4.map_or(View::Unknown, View::Value), "CR4", Rule::Kept, "SDM Vol. 3A 'Control Registers'")
    }

    /// Only CR4.MCE matters here, and it can always be written.
    fn cr4_fate(&mut self, cpu: u8, value: u64) -> Said<'p, Fate> {
        let before = self.state.cpu(cpu).cr4.ok_or(Why::Unknown)?;
        if (value ^ before) & !mce::CR4_MCE != 0 {
            return Err(Why::NoRow);
        }
        Ok((Fate::Taken(value), "CR4", Rule::Accepted, "SDM Vol. 3A 'Control Registers', CR4.MCE"))
    }
}
