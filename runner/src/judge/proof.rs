//! What a cell's effective memory types rest on: times, SPTEs, or both.

use crate::model::{Action, Decision, Why};
use serde::{Deserialize, Serialize};

/// The witnesses of effective memory types that spoke in a cell.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// Pages whose times were judged.
    pub timed: u64,
    /// Those of them that got what the guest asked for: the type that the architecture gives.
    pub honoured: u64,
    /// Leaves that were seen to be made or used, and judged.
    pub leaves: u64,
    /// Pages whose times say nothing on this host.
    pub untimed: u64,
    /// Why, of the first of them.
    pub why: Option<String>,
}

/// Which of them spoke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Witnesses {
    /// Times and SPTEs.
    Both,
    /// SPTEs alone.
    Sptes,
    /// Times alone.
    Times,
}

impl Proof {
    /// Takes the next point.
    pub(super) fn take(&mut self, decision: &Decision<'_>, honoured: Option<bool>) {
        match (decision.action, decision.agrees(), decision.predicted) {
            (Action::Timed(_), Some(_), _) => {
                self.timed += 1;
                self.honoured += u64::from(honoured == Some(true));
            }
            (Action::Timed(_), None, Err(why)) if is_the_hosts(why) => {
                self.untimed += 1;
                self.why.get_or_insert_with(|| why.to_string());
            }
            (Action::Leaf { .. } | Action::Held { .. }, Some(_), _) => self.leaves += 1,
            _ => {}
        }
    }

    /// Who spoke of the pages that were timed; nothing where none was.
    pub fn witnesses(&self) -> Option<Witnesses> {
        match (self.timed > 0 && self.untimed == 0, self.leaves > 0) {
            (true, true) => Some(Witnesses::Both),
            (false, true) if self.untimed > 0 => Some(Witnesses::Sptes),
            (true, false) => Some(Witnesses::Times),
            (false, _) => None,
        }
    }

    /// What the effective types rest on, in words; nothing where no page was timed.
    pub fn words(&self) -> Option<String> {
        let Proof { timed, honoured, leaves, untimed, why } = self;
        let leaves = || format!("leaves: {leaves}");
        let times = || format!("pages: {timed}, of which the guest got what it asked for: {honoured}");
        let words = match self.witnesses()? {
            Witnesses::Both => format!("effective types by times and by SPTEs; {}; {}", times(), leaves()),
            Witnesses::Times => format!("effective types by times alone; {}", times()),
            Witnesses::Sptes => {
                format!("effective types by SPTEs alone; {}; times of {untimed} pages say nothing", leaves())
            }
        };
        Some(why.as_ref().map_or(words.clone(), |why| format!("{words}: {why}")))
    }
}

/// Whether that nothing is predicted of a timed page is for a reason that the host gives: its times cannot say it.
pub(super) fn is_the_hosts(why: Why) -> bool {
    matches!(why, Why::NoContrast { .. } | Why::NotShown { .. } | Why::Emulated | Why::Fits(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_whose_times_say_nothing_takes_a_witness_away() {
        let by = |timed, untimed, leaves| Proof { timed, untimed, leaves, ..Proof::default() }.witnesses();
        assert_eq!(by(3, 0, 3), Some(Witnesses::Both));
        assert_eq!((by(2, 1, 3), by(0, 3, 3)), (Some(Witnesses::Sptes), Some(Witnesses::Sptes)));
        assert_eq!(by(3, 0, 0), Some(Witnesses::Times));
        // Leaves of pages that nobody timed are no proof of an effective type, and times that say nothing are none.
        assert_eq!((by(0, 0, 3), by(0, 3, 0), by(2, 1, 0)), (None, None, None));
    }

    #[test]
    fn who_spoke_is_said() {
        let both = Proof { timed: 4, honoured: 3, leaves: 2, ..Proof::default() };
        let said =
            "effective types by times and by SPTEs; pages: 4, of which the guest got what it asked for: 3; leaves: 2";
        assert_eq!(both.words().as_deref(), Some(said));
        let times = Proof { leaves: 0, ..both };
        assert!(times.words().is_some_and(|words| words.starts_with("effective types by times alone; pages: 4")));
        let sptes = Proof { leaves: 2, untimed: 4, why: Some("no cache shows".into()), ..Proof::default() };
        let said = "effective types by SPTEs alone; leaves: 2; times of 4 pages say nothing: no cache shows";
        assert_eq!(sptes.words().as_deref(), Some(said));
        assert_eq!(Proof::default().words(), None);
    }
}
