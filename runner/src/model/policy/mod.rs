//! Policies: what is predicted, as data, one file each under configs/policies.
//!
//! A policy is a table of rows; the first that matches wins. Its own rows come before those of its base.

mod effective;
mod leaf;
mod load;
mod ranges;
mod row;
mod rows;
mod when;

#[cfg(test)]
mod tests;

pub use effective::{EffectiveRow, EffectiveRule};
pub use leaf::{LeafRow, LeafRule, ZapEvent, ZapRow, ZapRule};
pub use load::{Policies, PolicyError};
pub use ranges::{BitRange, MsrRange};
pub use row::RowRef;
pub use rows::{
    Absent, Api, Checks, CpuidBit, CpuidRegister, Cr0Rules, FlagRule, Implication, InsnName, InstructionRow, MceRules,
    MemslotFlagRow, QuirkRule, ReadRule, RegisterRow, WriteRule,
};
pub use when::When;

use crate::host::facts::Facts;
use serde::Deserialize;
use toml::Spanned;

/// The id of the policy that states what bare metal does.
pub const ARCHITECTURE: &str = "architecture";

/// One policy.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Policy {
    /// Its id: the name of its file.
    #[serde(skip)]
    pub id: String,
    /// One line that says what it is.
    pub summary: String,
    /// The policy whose rows follow its own.
    base: Option<Spanned<String>>,
    /// The ids of its base, of that one's base, and so on.
    #[serde(skip)]
    bases: Vec<String>,
    /// It governs where one of these holds; nowhere without any, as one that nothing probed can tell from another.
    #[serde(default)]
    select: Vec<When>,
    /// Whether it speaks of what the host does by KVM's ioctls.
    #[serde(default)]
    pub host: bool,
    /// MSRs.
    #[serde(default, rename = "register")]
    pub registers: Vec<RegisterRow>,
    /// CR0.
    pub cr0: Option<Cr0Rules>,
    /// Cache-control instructions.
    #[serde(default, rename = "instruction")]
    pub instructions: Vec<InstructionRow>,
    /// Memslot flags.
    #[serde(default, rename = "memslot-flag")]
    pub memslot_flags: Vec<MemslotFlagRow>,
    /// Leaf SPTEs.
    #[serde(default, rename = "leaf")]
    pub leaves: Vec<LeafRow>,
    /// What zaps leaf SPTEs.
    #[serde(default, rename = "zap")]
    pub zaps: Vec<ZapRow>,
    /// Whether vCPU 0's MTRRs count for leaves whichever vCPU faults.
    #[serde(rename = "vcpu-0-mtrrs")]
    pub vcpu_0_mtrrs: Option<bool>,
    /// Quirks that were disabled before, where KVM_CAP_DISABLE_QUIRKS2 disables others.
    pub disabled_quirks: Option<QuirkRule>,
    /// Machine checks.
    pub mce: Option<MceRules>,
    /// Effective memory types.
    #[serde(default)]
    pub effective: Vec<EffectiveRow>,
}

impl Policy {
    /// Whether it says that it governs where these facts hold.
    fn selects(&self, facts: &Facts) -> bool {
        self.select.iter().any(|when| when.holds(facts))
    }

    /// Adds the rows of `base` after the own ones.
    fn inherit(&mut self, base: &Policy) {
        self.host |= base.host;
        self.registers.extend_from_slice(&base.registers);
        self.instructions.extend_from_slice(&base.instructions);
        self.memslot_flags.extend_from_slice(&base.memslot_flags);
        self.leaves.extend_from_slice(&base.leaves);
        self.zaps.extend_from_slice(&base.zaps);
        self.effective.extend_from_slice(&base.effective);
        self.cr0 = self.cr0.take().or_else(|| base.cr0.clone());
        self.vcpu_0_mtrrs = self.vcpu_0_mtrrs.or(base.vcpu_0_mtrrs);
        self.disabled_quirks = self.disabled_quirks.or(base.disabled_quirks);
        self.mce = self.mce.or(base.mce);
    }
}
