//! Flags of memslots that say which memory types their pages have. No released kernel has one: they are those of the
//! proposals in ci/kernels/patches, whose KVM answers for each by a capability of its own.

use super::kvm::extension;
use kvm_ioctls::VmFd;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use wire::step::SlotType;

/// `include/uapi/linux/kvm.h` of the kernels that have them: the flag and the capability.
struct Uapi {
    flag: u32,
    capability: u32,
    name: &'static str,
}

/// KVM_MEM_NON_COHERENT_DMA and KVM_CAP_MEM_NON_COHERENT_DMA; KVM_MEM_WC and KVM_CAP_MEM_WC.
fn uapi(typed: SlotType) -> Option<Uapi> {
    match typed {
        SlotType::Plain => None,
        SlotType::NonCoherentDma => Some(Uapi { flag: 1 << 3, capability: 1003, name: "KVM_MEM_NON_COHERENT_DMA" }),
        SlotType::Wc => Some(Uapi { flag: 1 << 4, capability: 1004, name: "KVM_MEM_WC" }),
    }
}

/// The flag of a type; 0 for a plain slot.
pub fn flag(typed: SlotType) -> u32 {
    uapi(typed).map_or(0, |uapi| uapi.flag)
}

/// The flag's name in the kernel, where there is one.
pub fn name(typed: SlotType) -> &'static str {
    uapi(typed).map_or("none", |uapi| uapi.name)
}

/// The type that a memslot's flags give it.
pub fn of_flags(flags: u32) -> SlotType {
    SlotType::ALL.into_iter().find(|&typed| flags & flag(typed) != 0).unwrap_or_default()
}

/// The types of which KVM has the flag.
///
/// # Errors
/// What KVM_CHECK_EXTENSION says.
pub fn probe(vm: &VmFd) -> Result<Vec<SlotType>, kvm_ioctls::Error> {
    let mut types = Vec::new();
    for typed in SlotType::ALL {
        if uapi(typed).map_or(Ok(1), |uapi| extension(vm, uapi.capability))? > 0 {
            types.push(typed);
        }
    }
    Ok(types)
}

/// Why a KVM that has not all of the types is none for this one.
pub fn lacks(typed: SlotType) -> String {
    format!("this KVM has no memslot flag {} (no released kernel has; see ci/kernels/patches)", name(typed))
}

/// A type, as configurations and policies have it: `plain`, `non-coherent-dma` or `wc`.
///
/// # Errors
/// Another word.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SlotType, D::Error> {
    let word = String::deserialize(deserializer)?;
    let valid = SlotType::ALL.map(|typed| typed.to_string());
    let hint = || crate::config::names::hint(&word, valid.iter().map(String::as_str));
    word.parse().map_err(|_| D::Error::custom(format!("unknown type of a memslot `{word}`{}", hint())))
}

/// The same where it may be left out.
///
/// # Errors
/// Another word.
pub fn deserialize_some<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SlotType>, D::Error> {
    deserialize(deserializer).map(Some)
}

/// As [`deserialize`] reads it.
///
/// # Errors
/// The serializer's own.
pub fn serialize<S: Serializer>(typed: &SlotType, serializer: S) -> Result<S::Ok, S::Error> {
    typed.to_string().serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_told_by_its_flag() {
        for typed in SlotType::ALL {
            assert_eq!(of_flags(flag(typed) | 3), typed);
        }
        assert_eq!((flag(SlotType::Plain), flag(SlotType::NonCoherentDma), flag(SlotType::Wc)), (0, 8, 16));
    }
}
