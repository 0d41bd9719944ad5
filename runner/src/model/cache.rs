//! Cache-control instructions: #UD where there is none, #GP(0) outside CPL 0.

use super::point::{Effect, Rule, Why};
use super::policy::{Absent, CpuidBit, CpuidRegister, InstructionRow};
use std::collections::BTreeMap;
use wire::outcome::Fault;

impl InstructionRow {
    /// What comes of it at privilege level `cpl`, where CPUID shows `cpuid`.
    ///
    /// # Errors
    /// Why nothing is predicted.
    pub fn outcome(&self, cpl: u8, cpuid: &BTreeMap<(u32, u32), [u32; 4]>) -> Result<(Effect, Rule), Why> {
        let announced = self.cpuid.map(|bit| bit.shown(cpuid).ok_or(Why::Cpuid)).transpose()?;
        match (announced, self.absent) {
            (Some(false), Absent::Unpredicted) => Err(Why::Unpredicted),
            (Some(false), Absent::Ud) => Ok((Effect::Fault(Fault::UD), Rule::NotAnnounced)),
            _ if self.privileged && cpl != 0 => Ok((Effect::Fault(Fault::GP0), Rule::Privileged)),
            (Some(true), _) => Ok((Effect::Ran, Rule::Announced)),
            (None, _) => Ok((Effect::Ran, Rule::Always)),
        }
    }
}

impl CpuidBit {
    /// Whether it is set, if its leaf is known.
    fn shown(self, cpuid: &BTreeMap<(u32, u32), [u32; 4]>) -> Option<bool> {
        let register = match self.register {
            CpuidRegister::Eax => 0,
            CpuidRegister::Ebx => 1,
            CpuidRegister::Ecx => 2,
            CpuidRegister::Edx => 3,
        };
        cpuid
            .get(&(self.leaf, self.subleaf))
            .map(|registers| registers[register].checked_shr(self.bit.into()).unwrap_or(0) & 1 == 1)
    }
}
