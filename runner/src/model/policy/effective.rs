//! Rows that say how an effective memory type comes about.

use super::when::When;
use crate::model::memtype::Lookup;
use serde::Deserialize;

/// What makes the effective memory type of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EffectiveRule {
    /// MTRRs, PAT and CR0.CD of the vCPU; MTRRs give a page its type by this lookup: `{ mtrr-pat = "sdm" }`.
    MtrrPat(Lookup),
    /// The EPT leaf that the guest made for a guest of its own, that one's PAT, and CR0.CD.
    NestedEpt,
    /// The leaf that KVM made and the guest's PAT; the guest's CR0.CD does not reach the CPU.
    Ept,
    /// Nested paging of AMD: the guest's PAT, entry 0 of the host's, and the host's MTRRs.
    Npt,
    /// Shadow paging under VMX: leaves select entry 0 of the PAT, which is the guest's own.
    #[serde(rename = "guest-pat-0")]
    GuestPat0,
    /// Shadow paging elsewhere: leaves select entry 0 of the host's PAT, and KVM loads only where that is WB.
    #[serde(rename = "host-pat-0")]
    HostPat0,
    /// Nothing is predicted.
    Unpredicted,
}

/// What is predicted of pages that are timed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct EffectiveRow {
    /// The row's name, shown where its prediction is.
    pub name: String,
    /// When it applies.
    #[serde(default)]
    pub when: When,
    /// It speaks of the guest of a guest.
    #[serde(default)]
    pub nested: bool,
    /// What makes the type.
    pub by: EffectiveRule,
    /// SDM or APM section, or kernel file and function.
    pub source: String,
}
