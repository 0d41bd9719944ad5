//! Rows that say which memory type KVM puts into a leaf SPTE, and which events zap leaves.

use super::when::When;
use crate::host::slot_type;
use crate::model::leaf::LeafType;
use serde::Deserialize;
use std::fmt;
use wire::step::SlotType;

/// What a leaf says of memory types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum LeafRule {
    /// Always this: `"WB+IPAT"`, or `"PAT0"` in the format of ordinary page tables.
    Always(LeafType),
    /// An EPT leaf of the type that MTRRs give the page by the SDM, PAT honoured: `"guest-mtrr"`. They are those of the
    /// vCPU that faulted, unless the policy says that one's count for all.
    GuestMtrr,
    /// Nothing is predicted: `"unpredicted"`.
    Unpredicted,
}

impl TryFrom<String> for LeafRule {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "guest-mtrr" => Ok(LeafRule::GuestMtrr),
            "unpredicted" => Ok(LeafRule::Unpredicted),
            _ => LeafType::try_from(text)
                .map(LeafRule::Always)
                .map_err(|error| format!("{error}; a rule for a leaf is one of those, `guest-mtrr` or `unpredicted`")),
        }
    }
}

/// What is predicted of leaves that are made in some state of the VM. A condition that is left out holds always.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LeafRow {
    /// The row's name, shown where its prediction is.
    pub name: String,
    /// When it applies.
    #[serde(default)]
    pub when: When,
    /// The memslot's memory is a PCI BAR of the host.
    pub host_mmio: Option<bool>,
    /// What a flag of the memslot says of its memory types.
    #[serde(default, deserialize_with = "slot_type::deserialize_some")]
    pub slot_type: Option<SlotType>,
    /// The VM has non-coherent DMA.
    pub non_coherent_dma: Option<bool>,
    /// CR0.CD of the vCPU that faulted.
    pub cd: Option<bool>,
    /// The MTRRs are enabled of the vCPU that faulted or, where one's count for all, of that one.
    pub mtrrs_enabled: Option<bool>,
    /// What the leaf says.
    pub leaf: LeafRule,
    /// Kernel file and function.
    pub source: String,
}

/// Something that may change the memory types of what is mapped already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ZapEvent {
    /// The VM gets its first device whose DMA is not coherent.
    PlugDma,
    /// It loses its last one.
    UnplugDma,
    /// A fixed or variable MTRR is written, by the guest or by the VMM.
    RangeMtrr,
    /// IA32_MTRR_DEF_TYPE is written, by the guest or by the VMM.
    DefType,
    /// IA32_PAT is written, by the guest or by the VMM.
    Pat,
    /// MOV CR0 toggles CD.
    MovCd,
    /// KVM_SET_SREGS toggles CR0.CD.
    SetSregsCd,
    /// Quirks are disabled.
    DisableQuirks,
    /// A memslot gets another flag of a memory type.
    SlotType,
}

impl fmt::Display for ZapEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ZapEvent::PlugDma => "non-coherent DMA plugged in",
            ZapEvent::UnplugDma => "non-coherent DMA taken away",
            ZapEvent::RangeMtrr => "a range MTRR written",
            ZapEvent::DefType => "IA32_MTRR_DEF_TYPE written",
            ZapEvent::Pat => "IA32_PAT written",
            ZapEvent::MovCd => "CR0.CD toggled by MOV CR0",
            ZapEvent::SetSregsCd => "CR0.CD toggled by KVM_SET_SREGS",
            ZapEvent::DisableQuirks => "quirks disabled",
            ZapEvent::SlotType => "a memslot's flag of a memory type changed",
        })
    }
}

/// Which leaves an event zaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ZapRule {
    /// All.
    All,
    /// Those of the range that the MTRR now covers, or of the memslot that changed.
    Range,
    /// None.
    None,
    /// Nothing is predicted.
    Unpredicted,
}

/// What is predicted of leaves that are there when something happens. A condition that is left out holds always.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ZapRow {
    /// The row's name, shown where its prediction is.
    pub name: String,
    /// What happens.
    pub on: Vec<ZapEvent>,
    /// When it applies.
    #[serde(default)]
    pub when: When,
    /// The VM has non-coherent DMA afterwards.
    pub non_coherent_dma: Option<bool>,
    /// It happens on vCPU 0.
    #[serde(rename = "on-vcpu-0")]
    pub on_vcpu_0: Option<bool>,
    /// The vCPU's MTRRs are enabled afterwards.
    pub mtrrs_enabled: Option<bool>,
    /// Which leaves it zaps.
    pub zaps: ZapRule,
    /// Kernel file and function.
    pub source: String,
}
