//! What is known of a VM at one moment of its run.

use super::memory::Reading;
use super::memslot::Slots;
use super::memtype::Msrs;
use super::point::{Exit, Why};
use std::collections::{BTreeMap, VecDeque};

pub use wire::layout::START_CR4;

/// What an injected machine check has yet to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Due {
    /// Nothing.
    #[default]
    Nothing,
    /// Raise #MC upon code of this privilege level, if that is known.
    MachineCheck {
        /// 0 or 3.
        cpl: Option<u8>,
    },
    /// Shut the VM down.
    TripleFault,
    /// One of them; it is not known which.
    Either,
}

/// What is known of a vCPU.
#[derive(Debug, Clone, Default)]
pub struct Cpu {
    /// MSRs as they are stored.
    pub msrs: Msrs,
    /// CR0.
    pub cr0: Option<u64>,
    /// CR4.
    pub cr4: Option<u64>,
    /// MAXPHYADDR that it sees, in bits.
    pub maxphyaddr: Option<u8>,
    /// It is in 64-bit mode.
    pub long_mode: bool,
    /// INIT reset it, and it did not come up since.
    pub after_init: bool,
    /// Its creation was reported, so that what nobody set is as KVM makes it.
    pub fresh: bool,
    /// MCG_CAP that KVM_X86_SETUP_MCE set.
    pub mcg_cap: Option<u64>,
    /// What is due on it.
    pub due: Due,
}

/// What is known of a VM.
#[derive(Debug, Clone, Default)]
pub struct State {
    maxphyaddr: Option<u8>,
    /// By index.
    cpus: Vec<Option<Cpu>>,
    /// CPUID as the guest reported it, by leaf and subleaf.
    pub cpuid: BTreeMap<(u32, u32), [u32; 4]>,
    /// A kernel runs in it that tells nothing of what it does.
    pub foreign: bool,
    /// KVM has the file that makes DMA non-coherent.
    pub plugged: bool,
    /// The VM's RAM, and the memslots that steps made.
    pub slots: Slots,
    /// The vCPU that rings the doorbell next, and its privilege level.
    pub rung: Option<(u8, u8)>,
    /// By what the times of each vCPU are read, or why they cannot be.
    pub readings: BTreeMap<u8, Result<Reading, Why>>,
    /// MMIO exits that belong to no access yet.
    pub exits: VecDeque<Exit>,
}

impl State {
    /// Nothing is known but MAXPHYADDR, in bits, of all vCPUs.
    pub fn new(maxphyaddr: Option<u8>) -> Self {
        State { maxphyaddr, ..State::default() }
    }

    /// The vCPU of that index.
    pub fn cpu(&mut self, index: u8) -> &mut Cpu {
        let maxphyaddr = self.maxphyaddr;
        let index = usize::from(index);
        if self.cpus.len() <= index {
            self.cpus.resize_with(index + 1, || None);
        }
        self.cpus[index].get_or_insert_with(|| Cpu { maxphyaddr, ..Cpu::default() })
    }

    /// The vCPU of that index, if anything is known of it.
    pub fn cpu_if(&self, index: u8) -> Option<&Cpu> {
        self.cpus.get(usize::from(index))?.as_ref()
    }

    /// The vCPUs that run, and so can fault.
    pub fn running(&self) -> impl Iterator<Item = &Cpu> {
        self.cpus.iter().flatten().filter(|cpu| cpu.long_mode)
    }

    /// All vCPUs of which something is known, by index.
    pub fn cpus(&self) -> Vec<u8> {
        (0..=u8::MAX).zip(&self.cpus).filter(|(_, cpu)| cpu.is_some()).map(|(index, _)| index).collect()
    }
}
