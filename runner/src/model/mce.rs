//! Machine checks: KVM_X86_SETUP_MCE, KVM_X86_SET_MCE and the MSRs of the MC banks, as KVM's x86.c emulates them.
//!
//! The same from 6.1 to 7.2.

use super::point::{Rule, Why};
use super::policy::MceRules;
use super::register::{Fate, View};
use super::state::{Cpu, Due};
use wire::step::MceEvent;

/// Where KVM does what is said here of MSRs.
pub const MSR_SOURCE: &str = "x86.c:get_msr_mce, set_msr_mce";
/// Where KVM does what is said here of KVM_X86_SETUP_MCE.
pub const SETUP_SOURCE: &str = "x86.c:kvm_vcpu_ioctl_x86_setup_mce";
/// Where KVM does what is said here of KVM_X86_SET_MCE.
pub const INJECT_SOURCE: &str = "x86.c:kvm_vcpu_ioctl_x86_set_mce";
/// Vector of #MC.
pub const VECTOR: u8 = 18;
/// CR4.MCE, machine-check enable.
pub const CR4_MCE: u64 = 1 << 6;

/// IA32_MCG_CAP. KVM's x86.c:kvm_set_msr_common has no case for it, so that kvm.ignore_msrs swallows a write.
pub const MCG_CAP: u32 = 0x179;

const MCG_STATUS: u32 = 0x17a;
const MCG_CTL: u32 = 0x17b;
const MC0_CTL2: u32 = 0x280;
const MC0_CTL: u32 = 0x400;
/// KVM_MAX_MCE_BANKS: how far KVM's cases for the banks' MSRs reach.
const MOST_BANKS: u32 = 32;

/// MCG_CAP.MCG_CTL_P: there is an MCG_CTL.
const CTL_P: u64 = 1 << 8;
/// MCG_CAP.MCG_CMCI_P: there are MCi_CTL2.
const CMCI_P: u64 = 1 << 10;
/// MCG_STATUS.MCIP: a machine check is in progress.
const MCIP: u64 = 1 << 2;
/// MCi_STATUS.VAL.
const VAL: u64 = 1 << 63;
/// MCi_STATUS.OVER.
const OVER: u64 = 1 << 62;
/// MCi_STATUS.UC, uncorrected.
const UC: u64 = 1 << 61;
/// MCi_STATUS: PCC, S and AR. An uncorrected error with none of them needs no action (UCNA).
const PCC_S_AR: u64 = 1 << 57 | 1 << 56 | 1 << 55;
/// MCi_CTL2: CMCI_EN and the threshold.
const CTL2_BITS: u64 = 1 << 30 | 0x7fff;

/// An MSR of the machine-check architecture.
#[derive(Debug, Clone, Copy)]
enum Msr {
    Cap,
    Status,
    Ctl,
    BankCtl(u32),
    BankStatus(u32),
    BankData(u32),
    BankCtl2(u32),
}

impl Msr {
    fn new(index: u32) -> Option<Msr> {
        match index {
            MCG_CAP => Some(Msr::Cap),
            MCG_STATUS => Some(Msr::Status),
            MCG_CTL => Some(Msr::Ctl),
            _ if (MC0_CTL2..MC0_CTL2 + MOST_BANKS).contains(&index) => Some(Msr::BankCtl2(index - MC0_CTL2)),
            _ if (MC0_CTL..MC0_CTL + 4 * MOST_BANKS).contains(&index) => {
                let (bank, which) = ((index - MC0_CTL) / 4, (index - MC0_CTL) % 4);
                Some(match which {
                    0 => Msr::BankCtl(bank),
                    1 => Msr::BankStatus(bank),
                    _ => Msr::BankData(bank),
                })
            }
            _ => None,
        }
    }
}

/// The first MSR of a bank.
fn bank_msr(bank: u8) -> u32 {
    MC0_CTL + 4 * u32::from(bank)
}

/// Whether an MSR belongs to the machine-check architecture.
pub fn is_msr(index: u32) -> bool {
    Msr::new(index).is_some()
}

/// The machine-check side of a vCPU.
pub struct Mce<'a> {
    rules: &'a MceRules,
    cpu: &'a mut Cpu,
}

impl<'a> Mce<'a> {
    /// Of this vCPU.
    pub fn new(rules: &'a MceRules, cpu: &'a mut Cpu) -> Self {
        Mce { rules, cpu }
    }

    fn cap(&self) -> Result<u64, Why> {
        self.cpu.mcg_cap.or(self.cpu.fresh.then_some(self.rules.default_cap)).ok_or(Why::MceState)
    }

    fn value(&self, index: u32) -> Option<u64> {
        self.cpu.msrs.get(index).or(self.cpu.fresh.then_some(0))
    }

    /// What a read gives; by the guest, or by the host.
    ///
    /// # Errors
    /// Why nothing is predicted.
    pub fn view(&self, index: u32, host: bool) -> Result<(View, Rule), Why> {
        let cap = self.cap()?;
        let there = |bank: u32| u64::from(bank) < cap & 0xff;
        let readable = match Msr::new(index).ok_or(Why::NoRow)? {
            Msr::Cap => return Ok((View::Value(cap), Rule::McgCap)),
            Msr::Status => true,
            Msr::Ctl => cap & CTL_P != 0 || host,
            Msr::BankCtl(bank) | Msr::BankStatus(bank) | Msr::BankData(bank) => there(bank),
            Msr::BankCtl2(bank) => there(bank) && (cap & CMCI_P != 0 || host),
        };
        let view = if readable { self.value(index).map_or(View::Unknown, View::Value) } else { View::Fault };
        Ok((view, Rule::MceRegister))
    }

    /// What becomes of a write; by the guest, or by the host. HWCR.McStatusWrEn is taken to be clear.
    ///
    /// # Errors
    /// Why nothing is predicted.
    pub fn fate(&self, index: u32, value: u64, host: bool) -> Result<(Fate, Rule), Why> {
        let cap = self.cap()?;
        let there = |bank: u32| u64::from(bank) < cap & 0xff;
        let taken = match Msr::new(index).ok_or(Why::NoRow)? {
            Msr::Cap => false,
            Msr::Status => true,
            Msr::Ctl => (cap & CTL_P != 0 || host && value == 0) && (value == 0 || value == u64::MAX),
            // Some systems clear bit 10 of MC4_CTL or bit 0 of MC1_CTL; KVM lets them.
            Msr::BankCtl(bank) => there(bank) && (value == 0 || value | 1 << 10 | 1 == u64::MAX),
            Msr::BankStatus(bank) => there(bank) && (host || value == 0),
            Msr::BankData(bank) => there(bank),
            Msr::BankCtl2(bank) => there(bank) && (cap & CMCI_P != 0 || host && value == 0) && value & !CTL2_BITS == 0,
        };
        Ok((if taken { Fate::Taken(value) } else { Fate::Refused }, Rule::MceRegister))
    }

    /// Whether KVM_X86_SETUP_MCE takes this MCG_CAP, where KVM supports the bits `caps`.
    pub fn takes_cap(&self, mcg_cap: u64, caps: u64) -> bool {
        let banks = mcg_cap & 0xff;
        (1..=u64::from(self.rules.banks)).contains(&banks) && mcg_cap & !(caps | self.rules.free_caps) == 0
    }

    /// KVM_X86_SETUP_MCE was done.
    pub fn set_up(&mut self, mcg_cap: u64) {
        self.cpu.mcg_cap = Some(mcg_cap);
        if mcg_cap & CTL_P != 0 {
            self.cpu.msrs.set(MCG_CTL, u64::MAX);
        }
        for bank in 0..(mcg_cap & 0xff) as u8 {
            self.cpu.msrs.set(bank_msr(bank), u64::MAX);
            if mcg_cap & CMCI_P != 0 {
                self.cpu.msrs.set(MC0_CTL2 + u32::from(bank), 0);
            }
        }
    }

    /// Whether KVM_X86_SET_MCE takes this event.
    ///
    /// # Errors
    /// Why nothing is predicted.
    pub fn takes(&self, event: MceEvent) -> Result<bool, Why> {
        Ok(u64::from(event.bank) < self.cap()? & 0xff && event.status & VAL != 0)
    }

    /// KVM_X86_SET_MCE was done, upon code at `cpl`: fills the bank, and says what is due.
    pub fn inject(&mut self, event: MceEvent, cpl: Option<u8>) -> Rule {
        let (bank, uncorrected) = (bank_msr(event.bank), event.status & UC != 0);
        if uncorrected && event.mcg_status == 0 && event.status & PCC_S_AR == 0 {
            self.fill(bank, event, event.status);
            self.cpu.msrs.set(MCG_STATUS, event.mcg_status);
            return Rule::MceBank;
        }
        if uncorrected {
            let has_ctl = self.cap().map(|cap| cap & CTL_P != 0);
            let off = |value: Option<u64>| value.map(|value| value != u64::MAX);
            let dropped = match has_ctl {
                Ok(false) => off(self.value(bank)),
                Ok(true) => off(self.value(MCG_CTL)).zip(off(self.value(bank))).map(|(all, one)| all || one),
                Err(_) => None,
            };
            let fatal = self.value(MCG_STATUS).map(|status| status & MCIP != 0);
            let fatal = fatal.zip(self.cpu.cr4).map(|(in_progress, cr4)| in_progress || cr4 & CR4_MCE == 0);
            match (dropped, fatal) {
                (Some(true), _) => Rule::MceDropped,
                (Some(false), Some(true)) => {
                    self.cpu.due = Due::TripleFault;
                    Rule::MceTripleFault
                }
                (Some(false), Some(false)) => {
                    self.fill_over(bank, event);
                    self.cpu.msrs.set(MCG_STATUS, event.mcg_status);
                    self.cpu.due = Due::MachineCheck { cpl };
                    Rule::MceDelivered
                }
                _ => {
                    self.forget(bank);
                    self.cpu.due = Due::Either;
                    Rule::MceDelivered
                }
            }
        } else {
            match self.value(bank + 1) {
                Some(status) if status & VAL != 0 && status & UC != 0 => {
                    self.cpu.msrs.set(bank + 1, status | OVER);
                }
                Some(_) => self.fill_over(bank, event),
                None => self.forget(bank),
            }
            Rule::MceBank
        }
    }

    fn fill(&mut self, bank: u32, event: MceEvent, status: u64) {
        for (msr, value) in [(1, status), (2, event.addr), (3, event.misc)] {
            self.cpu.msrs.set(bank + msr, value);
        }
    }

    /// Fills a bank, with OVER if it was full.
    fn fill_over(&mut self, bank: u32, event: MceEvent) {
        let full = self.value(bank + 1).is_some_and(|status| status & VAL != 0);
        self.fill(bank, event, event.status | if full { OVER } else { 0 });
    }

    /// A bank and MCG_STATUS are not known any more.
    fn forget(&mut self, bank: u32) {
        self.cpu.fresh = false;
        for msr in [bank + 1, bank + 2, bank + 3, MCG_STATUS] {
            self.cpu.msrs.forget(msr);
        }
    }
}
