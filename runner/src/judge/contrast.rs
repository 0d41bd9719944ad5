//! A cell against a policy and those that it would stand in for: whom what was seen bears out where they differ.

use super::candidates::CellLog;
use super::cell::{Judge, sees_sptes};
use super::log;
use crate::model::policy::Policy;
use crate::model::{Decision, Replay, Rule};

/// Points at which a policy predicts otherwise than all others that predict something, by whom they bear out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Contrast {
    /// The policy.
    pub wanted: u64,
    /// One of the others.
    pub others: u64,
    /// None of them.
    pub neither: u64,
}

impl Judge<'_> {
    /// Replays a cell against `wanted` and each of the `others`, whether they govern there or not. What a known deviation
    /// excuses by one of the others bears that one out. Nothing of a cell of which a witness missed something, or whose log
    /// cannot be believed.
    pub fn contrast(&self, cell: &CellLog<'_>, wanted: &Policy, others: &[&Policy]) -> Contrast {
        let CellLog { test, observed, run, facts, .. } = *cell;
        if !observed.witness.gaps.is_empty() {
            return Contrast::default();
        }
        let applying = self.applying(test, facts);
        let agrees =
            |it: &Decision<'_>| it.agrees() == Some(true) || applying.iter().any(|deviation| deviation.excuses(it));
        let replay = |policy| Replay::new(policy, facts, sees_sptes(observed));
        let mut first = replay(wanted);
        let mut rest: Vec<Replay<'_>> = others.iter().map(|policy| replay(policy)).collect();
        let (mut contrast, mut ours, mut theirs) = (Contrast::default(), Vec::new(), Vec::new());
        let account = log::read(&observed.log, &observed.end, test, run, |_, event| {
            ours.clear();
            theirs.clear();
            first.take(event, &mut ours);
            rest.iter_mut().for_each(|replay| replay.take(event, &mut theirs));
            for decision in &ours {
                let Ok(predicted) = decision.predicted else { continue };
                // What follows from the leaf that was seen holds by any policy.
                if matches!(predicted.rule, Rule::LeafPageType { seen: true, .. }) {
                    continue;
                }
                let (mut same, mut told, mut theirs_hold) = (false, false, false);
                for other in theirs.iter().filter(|other| other.action == decision.action) {
                    let Ok(others) = other.predicted else { continue };
                    same |= others.expected == predicted.expected;
                    told |= others.expected != predicted.expected;
                    theirs_hold |= others.expected != predicted.expected && agrees(other);
                }
                match (decision.agrees() == Some(true), theirs_hold) {
                    // That it is as one of the others says as well tells nothing.
                    _ if same || !told => {}
                    // Both are as was seen, in words that differ.
                    (true, true) => {}
                    (true, false) => contrast.wanted += 1,
                    (false, true) => contrast.others += 1,
                    (false, false) => contrast.neither += 1,
                }
            }
        });
        if account.broken.is_some() { Contrast::default() } else { contrast }
    }
}
