//! What a test needs of the machine that it runs on.

use crate::step::SlotMemory;

/// A set of needs and a number of vCPUs, as stored in a guest's ELF section.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Needs(pub u64);

impl Needs {
    /// One vCPU and nothing else.
    pub const NONE: Needs = Needs(0);
    /// A VMM that answers the doorbell with host steps.
    pub const STEPS: Needs = Needs(1 << 8);
    /// Local APICs, so that INIT and SIPI reach another vCPU.
    pub const APIC: Needs = Needs(1 << 9);
    /// KVM_SET_ONE_REG and KVM_GET_ONE_REG for MSRs.
    pub const ONE_REG: Needs = Needs(1 << 10);
    /// KVM_X86_SETUP_MCE and KVM_X86_SET_MCE.
    pub const MCE: Needs = Needs(1 << 11);
    /// Memslots that can be made and deleted, and an account of every MMIO exit.
    pub const SLOTS: Needs = Needs(1 << 12);
    /// KVM_CAP_READONLY_MEM.
    pub const READONLY_SLOTS: Needs = Needs(1 << 13);
    /// KVM_SET_USER_MEMORY_REGION2.
    pub const SLOTS_V2: Needs = Needs(1 << 14);
    /// A provider of non-coherent DMA that the VMM can plug in and out.
    pub const DMA: Needs = Needs(1 << 15);
    /// A BAR of a PCI device of the host, for a memslot.
    pub const HOST_MMIO: Needs = Needs(1 << 16);
    /// No hypervisor between the guest and the (modelled) CPU, so that it can itself be one.
    pub const BARE: Needs = Needs(1 << 18);
    /// Transparent huge pages of 2 MiB for a memslot.
    pub const THP: Needs = Needs(1 << 19);
    /// hugetlb pages of 2 MiB for a memslot.
    pub const HUGETLB_2M: Needs = Needs(1 << 20);
    /// A hugetlb page of 1 GiB for a memslot.
    pub const HUGETLB_1G: Needs = Needs(1 << 21);
    /// vCPUs that run at the same time, not in turn on one CPU.
    pub const PARALLEL: Needs = Needs(1 << 22);

    /// It may take the host down: run only where its target was named.
    pub const DESTRUCTIVE: Needs = Needs(1 << 24);
    /// [`Hazard::HostBar`](crate::step::Hazard::HostBar), for a destructive test.
    pub const HAZARD_BAR: Needs = Needs(1 << 25);
    /// [`Hazard::VgaHole`](crate::step::Hazard::VgaHole).
    pub const HAZARD_VGA: Needs = Needs(1 << 26);
    /// [`Hazard::ApicPage`](crate::step::Hazard::ApicPage).
    pub const HAZARD_APIC: Needs = Needs(1 << 27);

    /// Memslots with the flag of [`SlotType::NonCoherentDma`](crate::step::SlotType::NonCoherentDma).
    pub const SLOT_NON_COHERENT_DMA: Needs = Needs(1 << 28);
    /// Memslots with the flag of [`SlotType::Wc`](crate::step::SlotType::Wc).
    pub const SLOT_WC: Needs = Needs(1 << 29);

    /// A Linux kernel that the user names, whose init the guest is.
    pub const LINUX: Needs = Needs(1 << 30);

    /// Each flag with the word that stands for it in lists and in skip reasons.
    pub const WORDS: [(Needs, &'static str); 21] = [
        (Needs::STEPS, "host-steps"),
        (Needs::APIC, "apic"),
        (Needs::ONE_REG, "one-reg"),
        (Needs::MCE, "mce"),
        (Needs::SLOTS, "memslots"),
        (Needs::READONLY_SLOTS, "readonly-slots"),
        (Needs::SLOTS_V2, "memslots-v2"),
        (Needs::DMA, "non-coherent-dma"),
        (Needs::HOST_MMIO, "host-mmio"),
        (Needs::BARE, "bare-metal"),
        (Needs::THP, "thp"),
        (Needs::HUGETLB_2M, "hugetlb-2m"),
        (Needs::HUGETLB_1G, "hugetlb-1g"),
        (Needs::PARALLEL, "parallel-cpus"),
        (Needs::DESTRUCTIVE, "destructive"),
        (Needs::HAZARD_BAR, "hazard-bar"),
        (Needs::HAZARD_VGA, "hazard-vga"),
        (Needs::HAZARD_APIC, "hazard-apic"),
        (Needs::SLOT_NON_COHERENT_DMA, "slot-non-coherent-dma"),
        (Needs::SLOT_WC, "slot-wc"),
        (Needs::LINUX, "linux-kernel"),
    ];

    /// What a memslot with that kind of memory needs of the host, besides memslots.
    pub const fn memory(kind: SlotMemory) -> Needs {
        match kind {
            SlotMemory::Small | SlotMemory::Memfd | SlotMemory::Sparse => Needs::NONE,
            SlotMemory::Thp => Needs::THP,
            SlotMemory::Hugetlb2M => Needs::HUGETLB_2M,
            SlotMemory::Hugetlb1G => Needs::HUGETLB_1G,
        }
    }

    /// `count` vCPUs, 1 to 255.
    pub const fn cpus(count: u8) -> Needs {
        Needs(count as u64)
    }

    /// Both sets; of two numbers of vCPUs the larger.
    pub const fn and(self, other: Needs) -> Needs {
        let cpus = if self.0 & 0xff > other.0 & 0xff { self.0 & 0xff } else { other.0 & 0xff };
        Needs((self.0 | other.0) & !0xff | cpus)
    }

    /// Number of vCPUs, at least 1.
    pub const fn cpu_count(self) -> u8 {
        let cpus = (self.0 & 0xff) as u8;
        if cpus == 0 { 1 } else { cpus }
    }

    /// Whether all flags of `other` are in here; numbers of vCPUs are not compared.
    pub const fn has(self, other: Needs) -> bool {
        self.0 & other.0 & !0xff == other.0 & !0xff
    }

    /// The words of the flags in here.
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        Needs::WORDS.into_iter().filter(move |&(flag, _)| self.has(flag)).map(|(_, word)| word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_larger_number_of_cpus_wins() {
        let needs = Needs::cpus(4).and(Needs::APIC).and(Needs::cpus(2));
        assert_eq!(needs.cpu_count(), 4);
        assert!(needs.has(Needs::APIC) && !needs.has(Needs::STEPS));
        assert!(needs.words().eq(["apic"]));
        assert_eq!(Needs::NONE.cpu_count(), 1);
    }
}
