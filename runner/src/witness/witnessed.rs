//! What was witnessed of a cell, as results keep it.

use super::Kind;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What the witnesses of the host's side have to say of a cell, besides the SPTEs, which stand in the log. No judgement
/// is in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Witnessed {
    /// The witnesses that watched.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub watched: BTreeSet<Kind>,
    /// What kept them from telling all: lost events, a log that was overrun.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<String>,
    /// The kernel's own lines in its log, from the cell's beginning until its VM was gone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kernel_log: Vec<String>,
    /// Bits of the kernel's taint that were newly set, by letter and name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub taint: Vec<String>,
    /// KVM's statistics at the VM's end that are not zero; those of vCPUs are added up. Histograms are left out.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub stats: BTreeMap<String, u64>,
    /// Events of the VM's threads that were asked for, in order, without their times.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trace: Vec<String>,
}

impl Witnessed {
    /// Whether nothing watched.
    pub fn is_empty(&self) -> bool {
        *self == Witnessed::default()
    }
}
