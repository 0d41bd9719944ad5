//! CR0: MOV CR0, LMSW, CLTS, INIT and KVM_SET_SREGS.

use super::point::{Rule, Why};
use super::policy::Cr0Rules;
use super::register::Fate;
use wire::register::Register;

/// CR0.PG, paging.
const PG: u64 = 1 << 31;
/// CR0.TS, task switched.
const TS: u64 = 1 << 3;
/// What LMSW loads: TS, EM, MP and PE.
const MSW: u64 = 0xf;
/// CR0.PE, which LMSW can set but not clear.
const PE: u64 = 1;

impl Cr0Rules {
    /// What becomes of a guest's write in 64-bit mode by `register` (CR0, LMSW or CLTS) while CR0 is `before`.
    ///
    /// # Errors
    /// Why nothing is predicted.
    pub fn write(&self, register: Register, value: u64, before: Option<u64>) -> Result<(Fate, Rule), Why> {
        let value = match register {
            Register::Lmsw => {
                let before = before.ok_or(Why::Unknown)?;
                before & !MSW | before & PE | value & MSW
            }
            Register::Clts => before.ok_or(Why::Unknown)? & !TS,
            _ => value,
        };
        if let Some(rule) = self.broken(value, true) {
            return Ok((Fate::Refused, rule));
        }
        let taken = value & self.defined | self.ones;
        let rule = if taken == value { Rule::Accepted } else { Rule::Cr0Undefined };
        Ok((Fate::Taken(taken), rule))
    }

    /// What becomes of KVM_SET_SREGS with `value`, on a vCPU that is in 64-bit mode or not.
    pub fn set_sregs(&self, value: u64, long_mode: bool) -> (Fate, Rule) {
        match self.broken(value, long_mode) {
            Some(rule) => (Fate::Refused, rule),
            None => (Fate::Taken(value), Rule::Accepted),
        }
    }

    /// CR0 after an INIT that came while it was `before`.
    pub fn after_init(&self, before: u64) -> u64 {
        self.reset & !self.init_keeps | before & self.init_keeps
    }

    /// The condition for #GP(0) that `value` meets, if there is one.
    fn broken(&self, value: u64, long_mode: bool) -> Option<Rule> {
        let bits = value & self.gp.mask(None).unwrap_or(0);
        if bits != 0 {
            return Some(Rule::Reserved { bits });
        }
        let set = |bit: u8| value >> bit & 1 == 1;
        let broken = self.implies.iter().find(|implies| set(implies.bit) && !set(implies.needs));
        match broken {
            Some(implies) => Some(Rule::Cr0Combination { bit: implies.bit, needs: implies.needs }),
            None if long_mode && value & PG == 0 => Some(Rule::Cr0Paging),
            None => None,
        }
    }
}
