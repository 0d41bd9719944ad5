//! Timed accesses: the memory type that their times show, and the one that is predicted.

use super::memtype::{Mtrrs, NoType, under_ept, without_ept};
use super::point::{Effect, Prediction, Rule, Why};
use super::replay::Replay;
use super::state::Cpu;
use wire::layout::{CR0_CD, PAT};
use wire::memtype::MemType;
use wire::record::Timed;

impl<'p> Replay<'p> {
    /// What timed accesses show, and what is predicted of them. Where their times cannot be read, nothing is.
    pub(super) fn timed(&mut self, timed: &Timed) -> (Effect, Result<Prediction<'p>, Why>) {
        match self.clock.ok_or(Why::NoClock).and_then(|clock| clock.classify(timed)) {
            Ok(memtype) => (Effect::Type(memtype), self.effective(timed)),
            Err(why) => (Effect::Times, Err(why)),
        }
    }

    fn effective(&mut self, timed: &Timed) -> Result<Prediction<'p>, Why> {
        let rules = self.policy.memory.as_ref().ok_or(Why::NoRow)?;
        let in_cpuid = self.state.cpuid.get(&(1, 0)).map(|leaf| leaf[3] >> 12 & 1 == 1);
        let in_cpuid = in_cpuid.or(self.facts.bool("cpuid-mtrr")).ok_or(Why::Cpuid)?;
        let cpu = self.state.cpu(timed.cpu);
        let cd = cpu.cr0.ok_or(Why::TypeState)? & CR0_CD != 0;
        let pat = pat_type(cpu, timed.pat_entry)?;
        let (memtype, rule, source) = match timed.nested {
            Some(ept) => (under_ept(ept, pat, cd), Rule::EptPageType { ept, pat, cd }, &rules.nested_source),
            None => {
                let maxphyaddr = cpu.maxphyaddr.ok_or(Why::Maxphyaddr)?;
                let mtrr = Mtrrs { msrs: &cpu.msrs, maxphyaddr, in_cpuid }.memtype(timed.gpa, rules.mtrrs);
                let mtrr = mtrr.map_err(|why| match why {
                    NoType::Unknown(_) => Why::TypeState,
                    NoType::Overlap(..) | NoType::Reserved(_) => Why::TypeUndefined,
                })?;
                (without_ept(mtrr, pat, cd), Rule::PageType { mtrr, pat, cd }, &rules.source)
            }
        };
        Ok(Prediction { expected: Effect::Type(memtype), row: "effective memory type", rule, source })
    }
}

/// The type that page tables give by this entry of the PAT. With paging off it is WB.
fn pat_type(cpu: &Cpu, entry: Option<u8>) -> Result<MemType, Why> {
    let Some(entry) = entry else { return Ok(MemType::Wb) };
    let pat = cpu.msrs.get(&PAT).ok_or(Why::TypeState)?;
    MemType::from_bits(pat.to_le_bytes()[usize::from(entry & 7)]).ok_or(Why::TypeUndefined)
}
