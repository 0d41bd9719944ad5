//! Effective memory types: what the times of a page say, and what is predicted of it.

use super::leaf::{LeafType, frame};
use super::memtype::{Caching, CpuKind, Lookup, Mtrrs, NoType, apm, combine, under_ept, without_ept};
use super::point::{Effect, Prediction, Rule, Why};
use super::policy::{EffectiveRow, EffectiveRule};
use super::replay::Replay;
use super::state::Cpu;
use super::timing::{Scale, TypeSet};
use crate::host::facts::Fact;
use wire::layout::{CR0_CD, CR0_NW, PAT};
use wire::memtype::MemType;
use wire::probe::Probe;
use wire::record::Timed;

/// By what the times of a vCPU are read, and whether another type than WB was seen.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    scale: Scale,
    /// Some page of this VM was no WB, by its times.
    shown: bool,
    /// Ticks of a load from the page whose PAT type is UC.
    uc: u32,
}

/// What decides the memory type of a timed page, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// The type that the vCPU's MTRRs give it, by the SDM.
    pub mtrr: Option<MemType>,
    /// The type that the guest's page tables give it.
    pub pat: Option<MemType>,
    /// The vCPU's CR0.CD.
    pub cd: bool,
    /// The leaf SPTE that maps it, if it was seen.
    pub leaf: Option<LeafType>,
    /// The memory behind it is a PCI BAR of the host.
    pub device: bool,
    /// The guest cannot write it.
    pub readonly: bool,
}

impl<'p> Replay<'p> {
    /// What decides the memory type of a timed page.
    pub fn setting(&self, timed: &Timed) -> Setting {
        let (cpu, backing) = (self.state.cpu_if(timed.cpu), self.state.slots.at(timed.gpa));
        let leaf = self.leaves.of(frame(timed.gpa)).filter(|(_, seen)| *seen);
        Setting {
            mtrr: cpu.and_then(|cpu| self.guest_mtrr(cpu, timed.gpa, Lookup::Sdm).ok()),
            pat: pat_type(cpu, timed).ok(),
            cd: cpu.is_some_and(|cpu| caching_off(cpu) == Ok(true)),
            leaf: leaf.and_then(|(leaf, _)| leaf.ok()),
            device: backing.is_some_and(|backing| backing.device),
            readonly: backing.is_some_and(|backing| backing.readonly),
        }
    }

    /// A page by which the times of its vCPU are read: first one that is WB, then one that the PAT makes UC; the same of page
    /// tables, for reads of those.
    pub(super) fn reference(&mut self, timed: &Timed) {
        if self.is_emulated(timed) {
            return;
        }
        let walks = timed.times.get(Probe::Walk).is_some();
        let reading = match (self.state.readings.get(&timed.cpu), pat_type(self.state.cpu_if(timed.cpu), timed)) {
            (Some(Ok(reading)), Ok(MemType::Uc)) => {
                let shown = reading.scale.classify(&timed.times).is_ok_and(|fits| !fits.has(MemType::Wb));
                let uc = reading.scale.load(&timed.times).unwrap_or(reading.uc);
                Ok(Reading { shown: reading.shown || shown, uc, ..*reading })
            }
            (Some(Ok(reading)), Ok(MemType::Wb)) if walks => {
                Ok(Reading { scale: reading.scale.with_walks(&timed.times), ..*reading })
            }
            (_, Ok(MemType::Wb)) => Scale::of(&timed.times).map(|scale| Reading { scale, shown: false, uc: 0 }),
            (Some(Err(why)), _) => Err(*why),
            _ => Err(Why::NoScale),
        };
        self.state.readings.insert(timed.cpu, reading);
    }

    /// What the times of a page show, and what is predicted of it. Where times cannot be read, nothing is.
    pub(super) fn timed(&mut self, timed: &Timed) -> (Effect, Result<Prediction<'p>, Why>) {
        match self.classify(timed) {
            Err(why) => (Effect::Times, Err(why)),
            Ok(fits) => {
                let predicted = self.effective(timed);
                let open = predicted.is_ok_and(|by| matches!(by.expected, Effect::Type(it) if fits.has(it)));
                // Times that fit the type that is predicted, and another one as well, prove neither; but a page that can
                // only be loaded from shows no more than whether it is cached and combined.
                let ambiguous = open && fits.single().is_none() && !fits.is_all_that_loads_tell(&timed.times);
                (Effect::Types(fits), if ambiguous { Err(Why::Fits(fits)) } else { predicted })
            }
        }
    }

    /// The types that the times of a page fit, if this machine's times can be believed.
    fn classify(&mut self, timed: &Timed) -> Result<TypeSet, Why> {
        if self.is_emulated(timed) {
            return Err(Why::Emulated);
        }
        let hardware = self.runs_on_hardware();
        // A host that is a guest itself may have all its memory made WB by what is below.
        let trusted = hardware == Some(true) && self.facts.bool("host-hypervisor") == Some(false);
        let reading = self.state.readings.get_mut(&timed.cpu).ok_or(Why::NoScale)?.as_mut().map_err(|why| *why)?;
        let fits = reading.scale.classify(&timed.times);
        reading.shown |= fits.is_ok_and(|fits| !fits.has(MemType::Wb));
        let (hit, miss) = reading.scale.loads();
        if reading.shown || trusted { fits } else { Err(Why::NotShown { uc: reading.uc, hit, miss }) }
    }

    /// Whether the accesses that were timed may have been done by KVM itself.
    fn is_emulated(&self, timed: &Timed) -> bool {
        timed.cpl == 0 && self.runs_on_hardware() == Some(false)
    }

    /// Whether this KVM runs guests by VMX or SVM, so that the CPU itself does their accesses; nothing on a machine
    /// without KVM, whatever KVM the host has.
    fn runs_on_hardware(&self) -> Option<bool> {
        let text = |name| match self.facts.get(name) {
            Some(Fact::Text(text)) => Some(text.as_str()),
            _ => None,
        };
        text("machine").filter(|machine| matches!(*machine, "kvm" | "qemu-kvm"))?;
        Some(matches!(text("kvm-vendor"), Some("kvm_intel" | "kvm_amd")))
    }

    /// The effective type that is predicted of a timed page.
    pub(super) fn effective(&self, timed: &Timed) -> Result<Prediction<'p>, Why> {
        let speaks = |row: &&'p EffectiveRow| row.nested == timed.nested.is_some() && row.when.holds(&self.facts);
        let row = self.policy.effective.iter().find(speaks).ok_or(Why::NoRow)?;
        let cpu = self.state.cpu_if(timed.cpu);
        let (memtype, rule) = match row.by {
            EffectiveRule::Unpredicted => return Err(Why::Unpredicted),
            EffectiveRule::MtrrPat(lookup) => {
                let cpu = cpu.ok_or(Why::TypeState)?;
                let cd = caching_off(cpu)?;
                let in_cpuid = self.state.cpuid.get(&(1, 0)).map(|leaf| leaf[3] >> 12 & 1 == 1);
                let in_cpuid = in_cpuid.or(self.facts.bool("cpuid-mtrr")).ok_or(Why::Cpuid)?;
                let maxphyaddr = cpu.maxphyaddr.ok_or(Why::Maxphyaddr)?;
                let mtrr = Mtrrs { msrs: &cpu.msrs, maxphyaddr, in_cpuid }.memtype(timed.gpa, lookup);
                let mtrr = mtrr.map_err(|why| match why {
                    NoType::Unknown(_) => Why::TypeState,
                    NoType::Overlap(..) | NoType::Reserved(_) => Why::TypeUndefined,
                })?;
                let pat = pat_type(Some(cpu), timed)?;
                (without_ept(mtrr, pat, cd), Rule::PageType { mtrr, pat, cd })
            }
            EffectiveRule::NestedEpt => {
                let (ept, cd) = (timed.nested.ok_or(Why::NoRow)?, caching_off(cpu.ok_or(Why::TypeState)?)?);
                let pat = pat_type(cpu, timed)?;
                (under_ept(ept, pat, cd), Rule::EptPageType { ept, pat, cd })
            }
            EffectiveRule::Ept => {
                let (leaf, seen) = self.leaves.of(frame(timed.gpa)).ok_or(Why::NoLeaf)?;
                let LeafType::Ept(ept) = leaf? else { return Err(Why::LeafFormat) };
                let pat = pat_type(cpu, timed)?;
                // KVM keeps the guest's CD out of the CPU's own CR0.
                (under_ept(ept, pat, false), Rule::LeafPageType { ept, pat, seen })
            }
            EffectiveRule::Npt | EffectiveRule::HostPat0 if self.no_fill(cpu)? => return Err(Why::NoFill),
            EffectiveRule::Npt => {
                let (pat, mtrr) = (pat_type(cpu, timed)?, self.host_mtrr(timed.gpa)?);
                let apm = apm::npt(pat, mtrr);
                (apm.looks_like(), Rule::NptPageType { pat, mtrr, apm })
            }
            EffectiveRule::GuestPat0 => {
                let pat = pat_of(cpu, 0)?;
                (combine(self.host_mtrr(timed.gpa)?, pat), Rule::GuestPat0 { pat })
            }
            EffectiveRule::HostPat0 => (self.host_mtrr(timed.gpa)?, Rule::HostPat0),
        };
        Ok(Prediction { expected: Effect::Type(memtype), row: &row.name, rule, source: &row.source })
    }

    /// Whether the CPU itself fills no line, but serves those that it has, because CR0.CD of the guest is its own:
    /// `svm/svm.c:svm_set_cr0` strips it while the quirk is on.
    fn no_fill(&self, cpu: Option<&Cpu>) -> Result<bool, Why> {
        let svm = self.facts.get("kvm-vendor") == Some(&Fact::Text("kvm_amd".into()));
        Ok(svm && !self.facts.is("cd-nw-cleared") && caching(cpu, CpuKind::Amd)? == Caching::NoFill)
    }

    /// The type of the host's memory behind a page, as its firmware sets it up: RAM is WB, a BAR is UC.
    fn host_mtrr(&self, gpa: u64) -> Result<MemType, Why> {
        let backing = self.state.slots.at(gpa).ok_or(Why::LeafState)?;
        Ok(if backing.device { MemType::Uc } else { MemType::Wb })
    }
}

/// What a CPU of that kind does with its caches, by the CR0 that this vCPU has.
fn caching(cpu: Option<&Cpu>, kind: CpuKind) -> Result<Caching, Why> {
    let cr0 = cpu.and_then(|cpu| cpu.cr0).ok_or(Why::TypeState)?;
    Caching::of(kind, cr0 & CR0_CD != 0, cr0 & CR0_NW != 0).ok_or(Why::TypeState)
}

/// Whether a page that was flushed stays uncached. Which kind of CPU it is does not matter for that.
fn caching_off(cpu: &Cpu) -> Result<bool, Why> {
    Ok(caching(Some(cpu), CpuKind::Intel)?.is_uncached_once_flushed())
}

/// The type that the guest's page tables give a timed page. With paging off it is WB.
fn pat_type(cpu: Option<&Cpu>, timed: &Timed) -> Result<MemType, Why> {
    timed.pat_entry.map_or(Ok(MemType::Wb), |entry| pat_of(cpu, entry))
}

/// The type in an entry of a vCPU's PAT.
fn pat_of(cpu: Option<&Cpu>, entry: u8) -> Result<MemType, Why> {
    let pat = cpu.and_then(|cpu| cpu.msrs.get(PAT)).ok_or(Why::TypeState)?;
    MemType::from_bits(pat.to_le_bytes()[usize::from(entry & 7)]).ok_or(Why::TypeUndefined)
}
