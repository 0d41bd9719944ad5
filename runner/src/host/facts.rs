//! Facts: what was probed of a host and what is set of a VM, by name, so that policies can be keyed on them.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A fact's value. In TOML and JSON: a boolean, an integer or a string.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Fact {
    /// Yes or no.
    Bool(bool),
    /// A number.
    Int(u64),
    /// A word.
    Text(String),
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fact::Bool(value) => value.fmt(f),
            Fact::Int(value) => value.fmt(f),
            Fact::Text(value) => value.fmt(f),
        }
    }
}

/// Every fact's name and what it says. A policy or deviation that names another is refused.
pub const NAMES: &[(&str, &str)] = &[
    ("machine", "kvm, qemu-kvm, qemu-tcg or bochs"),
    ("kvm-vendor", "the vendor module: kvm_intel, kvm_amd, kvm_pvm, ..., or none"),
    ("cpu-vendor", "CPUID vendor string of the host"),
    ("ignore-msrs", "whether kvm.ignore_msrs is on: accesses to unknown MSRs are swallowed; not known without sysfs"),
    (
        "apic-bus-cycles",
        "whether KVM has KVM_CAP_X86_APIC_BUS_CYCLES_NS, new in the release that stopped honouring guest MTRRs (6.11)",
    ),
    ("quirks", "KVM_CAP_DISABLE_QUIRKS2: the quirks that can be disabled"),
    ("offers-ignore-guest-pat", "whether KVM_X86_QUIRK_IGNORE_GUEST_PAT is among `quirks`"),
    ("ignore-guest-pat", "whether that quirk is on in the VM: it was not disabled"),
    ("cd-nw-cleared", "whether KVM_X86_QUIRK_CD_NW_CLEARED is on in the VM: it was not disabled"),
    (
        "slot-non-coherent-dma",
        "whether KVM has the memslot flag KVM_MEM_NON_COHERENT_DMA, which no released kernel has",
    ),
    ("slot-wc", "whether KVM has the memslot flag KVM_MEM_WC, which no released kernel has"),
    ("virtio-device", "whether KVM has the KVM VIRTIO device, which no released kernel has"),
    ("memslots-v2", "whether KVM has KVM_CAP_USER_MEMORY2"),
    ("guest-memfd", "whether KVM has KVM_CAP_GUEST_MEMFD on a default VM"),
    (
        "one-reg",
        "whether KVM_GET_ONE_REG reads an MSR of a vCPU; tried, because KVM_CAP_ONE_REG speaks of all architectures",
    ),
    ("readonly-memslots", "whether KVM has KVM_CAP_READONLY_MEM"),
    ("mce-banks", "KVM_CAP_MCE: the most MC banks"),
    ("mce-caps", "KVM_X86_GET_MCE_CAP_SUPPORTED"),
    ("cpuid-mtrr-forced", "whether KVM shows a guest CPUID.1:EDX.MTRR although KVM_SET_CPUID2 took it away"),
    ("clock", "the model by which the machine's clock charges accesses to memory (ci/bochs); none on silicon"),
    ("emulator", "what emulates the host of a KVM: bochs or qemu-svm in the lab; none on silicon"),
    (
        "host-hypervisor",
        "whether the host runs under a hypervisor: CPUID.1:ECX[31]; that one may force a memory type under all of KVM's",
    ),
    ("self-snoop", "whether the host's CPU shows self-snoop: /proc/cpuinfo has the flag ss"),
    ("tdp", "whether KVM uses EPT or NPT: parameter kvm_intel.ept or kvm_amd.npt; not known without sysfs"),
    ("tdp-mmu", "whether KVM's TDP MMU is used: parameter kvm.tdp_mmu, and `tdp`; not known without sysfs"),
    ("unrestricted-guest", "parameter kvm_intel.unrestricted_guest; not known without sysfs or on another vendor"),
    ("maxphyaddr", "MAXPHYADDR that the guest sees, in bits"),
    ("cpuid-mtrr", "whether CPUID.1:EDX shows the guest MTRR"),
    ("disabled-quirks", "the quirks that the VM configuration disables, and host steps after it"),
    (
        "slot-type",
        "the type whose flag the VM configuration gives each memslot of a test: plain, non-coherent-dma or wc",
    ),
    ("non-coherent-dma", "whether the VM configuration has a device whose DMA is not coherent, before a vCPU runs"),
];

/// Facts by name. A copy costs nothing until one of the two changes.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Facts(Arc<BTreeMap<String, Fact>>);

impl Facts {
    /// The fact of that name, if it is known.
    pub fn get(&self, name: &str) -> Option<&Fact> {
        self.0.get(name)
    }

    /// Says what is known of a name from now on.
    pub fn set(&mut self, name: &str, fact: Fact) {
        self.extend([(name, fact)]);
    }

    /// Says that nothing is known of a name any more.
    pub fn forget(&mut self, name: &str) {
        Arc::make_mut(&mut self.0).remove(name);
    }

    /// Takes in others, which win.
    pub fn add(&mut self, others: &Facts) {
        self.extend(others.iter().map(|(name, fact)| (name, fact.clone())));
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Fact)> {
        self.0.iter().map(|(name, fact)| (name.as_str(), fact))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all of `wanted` hold. A fact that is not known does not hold.
    pub fn hold(&self, wanted: &Facts) -> bool {
        wanted.0.iter().all(|(name, fact)| self.0.get(name) == Some(fact))
    }

    /// The number of that name.
    pub fn int(&self, name: &str) -> Option<u64> {
        match self.0.get(name) {
            Some(Fact::Int(value)) => Some(*value),
            _ => None,
        }
    }

    /// The fact of that name, if it is known and a yes or a no.
    pub fn bool(&self, name: &str) -> Option<bool> {
        match self.0.get(name) {
            Some(Fact::Bool(value)) => Some(*value),
            _ => None,
        }
    }

    /// Whether the fact of that name is known and true.
    pub fn is(&self, name: &str) -> bool {
        self.bool(name) == Some(true)
    }
}

impl<N: Into<String>> FromIterator<(N, Fact)> for Facts {
    fn from_iter<I: IntoIterator<Item = (N, Fact)>>(facts: I) -> Self {
        Facts(Arc::new(facts.into_iter().map(|(name, fact)| (name.into(), fact)).collect()))
    }
}

impl<N: Into<String>> Extend<(N, Fact)> for Facts {
    fn extend<I: IntoIterator<Item = (N, Fact)>>(&mut self, facts: I) {
        Arc::make_mut(&mut self.0).extend(facts.into_iter().map(|(name, fact)| (name.into(), fact)));
    }
}
