//! KVM's quirks by name, and what each does while it is not disabled.

use crate::config::names;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Name and meaning of each quirk bit from bit 0 on (`arch/x86/include/uapi/asm/kvm.h`, `KVM_X86_QUIRK_*`;
/// `Documentation/virt/kvm/api.rst`, KVM_CAP_DISABLE_QUIRKS2).
pub const QUIRKS: [(&str, &str); 12] = [
    ("LINT0_REENABLED", "LVT LINT0 of a new local APIC is open, not masked"),
    ("CD_NW_CLEARED", "CR0.CD and CR0.NW of the guest stay away from hardware"),
    ("LAPIC_MMIO_HOLE", "the xAPIC's MMIO page answers in x2APIC mode, too"),
    ("OUT_7E_INC_RIP", "RIP is past an OUT to port 0x7e before the VM exits"),
    ("MISC_ENABLE_NO_MWAIT", "CPUID shows MWAIT as IA32_MISC_ENABLE says"),
    ("FIX_HYPERCALL_INSN", "the other vendor's hypercall is rewritten in guest memory"),
    ("MWAIT_NEVER_UD_FAULTS", "MONITOR and MWAIT do nothing where CPUID lacks them"),
    ("SLOT_ZAP_ALL", "deleting a memslot zaps all SPTEs, not only its own"),
    ("STUFF_FEATURE_MSRS", "feature MSRs of a new vCPU hold what the host supports"),
    ("IGNORE_GUEST_PAT", "guest PAT has no effect on RAM while DMA is coherent"),
    ("VMCS12_ALLOW_FREEZE_IN_SMM", "L1 may freeze counters in SMM for L2"),
    ("NESTED_SVM_SHARED_PAT", "L2 uses L1's PAT"),
];

/// KVM_X86_QUIRK_CD_NW_CLEARED.
pub const CD_NW_CLEARED: u32 = 1 << 1;
/// KVM_X86_QUIRK_IGNORE_GUEST_PAT: offered with EPT on a CPU with self-snoop, from the kernels on that have it.
pub const IGNORE_GUEST_PAT: u32 = 1 << 9;

/// A set of quirks by bit. In TOML and JSON a list of names such as `ignore-guest-pat`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quirks(pub u32);

impl Quirks {
    /// The kernel's names of the quirks in the set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let all = QUIRKS.into_iter().enumerate();
        all.filter(move |(bit, _)| self.0 >> bit & 1 == 1).map(|(_, (name, _))| name)
    }
}

/// A kernel's name as configurations have it.
fn kebab(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "-")
}

impl Serialize for Quirks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.names().map(kebab))
    }
}

impl<'de> Deserialize<'de> for Quirks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let valid = QUIRKS.map(|(name, _)| kebab(name));
        let bit = |name: &String| {
            let unknown = || format!("unknown quirk `{name}`{}", names::hint(name, valid.iter().map(String::as_str)));
            valid.iter().position(|known| known == name).ok_or_else(|| D::Error::custom(unknown()))
        };
        let listed = Vec::<String>::deserialize(deserializer)?;
        listed.iter().try_fold(0, |set, name| Ok(set | 1 << bit(name)?)).map(Quirks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_set_reads_back(bits in 0u32..1 << QUIRKS.len()) {
            let text = serde_json::to_string(&Quirks(bits)).unwrap();
            prop_assert_eq!(serde_json::from_str::<Quirks>(&text).unwrap(), Quirks(bits));
        }
    }

    /// `arch/x86/include/uapi/asm/kvm.h`.
    #[test]
    fn the_bits_are_the_kernels() {
        let set: Quirks = serde_json::from_str(r#"["cd-nw-cleared", "ignore-guest-pat"]"#).unwrap();
        assert_eq!(set, Quirks(1 << 1 | IGNORE_GUEST_PAT));
        assert!(set.names().eq(["CD_NW_CLEARED", "IGNORE_GUEST_PAT"]));
    }
}
