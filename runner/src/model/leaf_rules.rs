//! What a policy says of leaf SPTEs where some facts hold, looked up once and not for each SPTE.

use super::leaf::Format;
use super::policy::{LeafRow, Policy, ZapEvent, ZapRow};
use crate::host::facts::Facts;

/// The rows of a policy that apply to leaves, and the facts that tell how to read SPTEs.
#[derive(Debug, Clone)]
pub struct LeafRules<'p> {
    leaves: Vec<&'p LeafRow>,
    zaps: Vec<&'p ZapRow>,
    /// The format of SPTEs, if it is known.
    pub format: Option<Format>,
    /// Whether CPUID shows MTRRs, if that is known.
    pub mtrrs_in_cpuid: Option<bool>,
    /// Whether zaps can be seen: the TDP MMU traces them.
    pub zaps_are_seen: bool,
}

impl<'p> LeafRules<'p> {
    /// Those of `policy` where `facts` hold.
    pub fn of(policy: &'p Policy, facts: &Facts) -> Self {
        LeafRules {
            leaves: policy.leaves.iter().filter(|row| row.when.holds(facts)).collect(),
            zaps: policy.zaps.iter().filter(|row| row.when.holds(facts)).collect(),
            format: Format::of(facts),
            mtrrs_in_cpuid: facts.bool("cpuid-mtrr"),
            zaps_are_seen: facts.is("tdp-mmu"),
        }
    }

    /// The rows that speak of leaves that are made, in the order in which they are asked.
    pub fn leaves(&self) -> impl Iterator<Item = &'p LeafRow> {
        self.leaves.iter().copied()
    }

    /// The rows that speak of an event, in the order in which they are asked.
    pub fn zaps(&self, event: ZapEvent) -> impl Iterator<Item = &'p ZapRow> {
        self.zaps.iter().copied().filter(move |row| row.on.contains(&event))
    }
}
