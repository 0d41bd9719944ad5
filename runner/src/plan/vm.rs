//! VM configurations: what of a VM is varied, apart from what a test needs.

use crate::config::{self, ConfigError, Set};
use crate::host::quirks::Quirks;
use crate::host::slot_type;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use wire::step::SlotType;

/// One VM configuration, a file under `configs/vm`; its id is the file's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct VmConfig {
    /// One line that says what it is.
    pub summary: String,
    /// MAXPHYADDR in CPUID leaf 0x80000008, in bits, 32 to 52; the host's own where there is none.
    #[serde(default, deserialize_with = "maxphyaddr")]
    pub maxphyaddr: Option<u8>,
    /// Whether CPUID.1:EDX shows MTRR.
    #[serde(default = "yes")]
    pub cpuid_mtrr: bool,
    /// Whether CPUID.1:EDX shows self-snoop, where the host's CPU has it.
    #[serde(default = "yes")]
    pub cpuid_self_snoop: bool,
    /// KVM's quirks that are disabled before the first vCPU is made (KVM_CAP_DISABLE_QUIRKS2).
    #[serde(default)]
    pub disable_quirks: Quirks,
    /// Whether the VM is given a device whose DMA is not coherent before the first vCPU is made
    /// (KVM_DEV_VFIO_FILE_ADD).
    #[serde(default)]
    pub non_coherent_dma: bool,
    /// The type whose flag each memslot gets that a test makes without one.
    #[serde(default, with = "slot_type")]
    pub slot_type: SlotType,
}

fn yes() -> bool {
    true
}

/// A MAXPHYADDR that a CPU can have. SDM vol. 3, 4.1.4: at most 52 bits, and 32 for the least that it defines.
fn maxphyaddr<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u8>, D::Error> {
    let bits = Option::<i64>::deserialize(deserializer)?;
    let checked = |bits| u8::try_from(bits).ok().filter(|bits| (32..=52).contains(bits));
    let error = |bits| D::Error::custom(format!("MAXPHYADDR is 32 to 52 bits, not {bits}"));
    bits.map(|bits| checked(bits).ok_or_else(|| error(bits))).transpose()
}

/// As the host has it, like `configs/vm/default.toml`; for machines' own guests.
impl Default for VmConfig {
    fn default() -> Self {
        VmConfig {
            summary: String::new(),
            maxphyaddr: None,
            cpuid_mtrr: true,
            cpuid_self_snoop: true,
            disable_quirks: Quirks::default(),
            non_coherent_dma: false,
            slot_type: SlotType::Plain,
        }
    }
}

impl VmConfig {
    /// All VM configurations by id.
    ///
    /// # Errors
    /// The first mistake in one of the files.
    pub fn all(set: &Set) -> Result<BTreeMap<String, VmConfig>, ConfigError> {
        set.sources("vm").map(|(id, source)| Ok((id.to_owned(), config::parse(source)?))).collect()
    }

    /// What of it only the embedded VMM can do, in words.
    pub fn embedded_only(&self) -> Option<&'static str> {
        match self {
            VmConfig { disable_quirks: Quirks(1..), .. } => Some("quirks of KVM disabled"),
            VmConfig { non_coherent_dma: true, .. } => Some("non-coherent DMA"),
            VmConfig { slot_type: SlotType::NonCoherentDma | SlotType::Wc, .. } => Some("memslots with a type's flag"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Source;

    fn parse(text: &str) -> Result<VmConfig, ConfigError> {
        config::parse(&Source { name: "configs/vm/x.toml".to_owned(), text: text.to_owned() })
    }

    #[test]
    fn what_is_left_out_is_the_hosts() {
        let vm = parse("summary = 'plain'").unwrap();
        assert_eq!(vm, VmConfig { summary: "plain".to_owned(), ..VmConfig::default() });
        assert_eq!(parse("summary = ''\nmaxphyaddr = 52").unwrap().maxphyaddr, Some(52));
    }

    #[test]
    fn a_mistake_is_shown() {
        for (text, said) in [
            (
                "summary = ''\nmaxphyadr = 36\n",
                "configs/vm/x.toml:2:1: unknown field `maxphyadr`, did you mean `maxphyaddr`?\n  \
                 2 | maxphyadr = 36\n    | ^^^^^^^^^",
            ),
            (
                "summary = ''\nmaxphyaddr = 53\n",
                "configs/vm/x.toml:2:14: MAXPHYADDR is 32 to 52 bits, not 53\n  2 | maxphyaddr = 53\n    |              ^^",
            ),
            (
                "summary = ''\nmaxphyaddr = -1\n",
                "configs/vm/x.toml:2:14: MAXPHYADDR is 32 to 52 bits, not -1\n  2 | maxphyaddr = -1\n    |              ^^",
            ),
            (
                "summary = ''\ncpuid-mtrr = 'no'",
                "configs/vm/x.toml:2:14: invalid type: string \"no\", expected a boolean\n  \
                 2 | cpuid-mtrr = 'no'\n    |              ^^^^",
            ),
            (
                "summary = ''\ndisable-quirks = ['cd-nw-claered']",
                "configs/vm/x.toml:2:18: unknown quirk `cd-nw-claered`, did you mean `cd-nw-cleared`?\n  \
                 2 | disable-quirks = ['cd-nw-claered']\n    |                  ^^^^^^^^^^^^^^^^^",
            ),
            (
                "summary = ''\nslot-type = 'noncoherent-dma'",
                "configs/vm/x.toml:2:13: unknown type of a memslot `noncoherent-dma`, did you mean `non-coherent-dma`?\n  \
                 2 | slot-type = 'noncoherent-dma'\n    |             ^^^^^^^^^^^^^^^^^",
            ),
            ("maxphyaddr = 36", "configs/vm/x.toml: missing field `summary`"),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), said);
        }
    }

    #[test]
    fn a_configuration_reads_back_from_json() {
        for vm in VmConfig::all(&Set::load(None).unwrap()).unwrap().into_values() {
            assert_eq!(serde_json::from_str::<VmConfig>(&serde_json::to_string(&vm).unwrap()).unwrap(), vm);
        }
    }

    #[test]
    fn the_embedded_configurations_do_as_their_names_say() {
        let vms = VmConfig::all(&Set::load(None).unwrap()).unwrap();
        assert_eq!((vms["default"].maxphyaddr, vms["default"].cpuid_mtrr), (None, true));
        assert_eq!((vms["no-mtrr-cpuid"].maxphyaddr, vms["no-mtrr-cpuid"].cpuid_mtrr), (None, false));
        assert_eq!((vms["no-self-snoop"].cpuid_mtrr, vms["no-self-snoop"].cpuid_self_snoop), (true, false));
        for (id, quirks, dma) in [
            ("quirk-ignore-guest-pat-off", 1 << 9, false),
            ("quirk-cd-nw-cleared-off", 1 << 1, false),
            ("non-coherent-dma", 0, true),
            ("non-coherent-dma-cd", 1 << 1, true),
        ] {
            assert_eq!((vms[id].disable_quirks, vms[id].non_coherent_dma), (Quirks(quirks), dma), "{id}");
        }
        for (id, typed) in [("slot-non-coherent-dma", SlotType::NonCoherentDma), ("slot-wc", SlotType::Wc)] {
            assert_eq!((vms[id].slot_type, vms[id].non_coherent_dma), (typed, false), "{id}");
        }
        for (id, vm) in vms {
            if let Some(bits) = id.strip_prefix("maxphyaddr-") {
                assert_eq!((vm.maxphyaddr, vm.cpuid_mtrr), (bits.parse().ok(), true), "{id}");
            }
        }
    }
}
