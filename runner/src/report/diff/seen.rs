//! What was seen in a cell, as points that can be held against those of another run.

use super::super::leaves::Memory;
use super::super::leaves_words::zaps;
use super::super::types::{Asked, in_words};
use super::super::verdict::{Cells, test};
use crate::judge::Judge;
use crate::machine::Observed;
use crate::model::policy::PolicyError;
use crate::model::{Action, Decision, Effect, EffectOf, Event, Interval, Replay};
use wire::coherence::Aliased;
use wire::host::HostRecord;
use wire::step::Step;

/// What stands in the place of something that one side did not do.
pub(super) const NOT_DONE: &str = "not done";

/// One thing that was done and seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Point {
    /// What of it was seen: `effective type`, for one.
    pub what: &'static str,
    /// What was done, with all values: the same on both sides.
    pub did: String,
    /// By what it is grouped with others: an axis and a value on each.
    pub axes: Vec<(&'static str, String)>,
    /// What was seen.
    pub value: String,
    /// That only one side has it is a difference. KVM makes no leaf where there is one.
    pub always: bool,
}

/// What was seen in a cell, in order.
pub(super) fn points(
    judge: &Judge<'_>,
    cells: &Cells<'_>,
    cell: &str,
    observed: &Observed,
) -> Result<Vec<Point>, PolicyError> {
    let (facts, vm) = (cells.facts(cell), cell.split_once('@').map_or("default", |(_, vm)| vm));
    let (mut points, mut marks) = (Vec::new(), 0);
    judge.replay(test(cell), observed, cells.run_id(cell), &facts, |replay, event, decisions, _| {
        points.extend(decisions.iter().filter_map(|decision| point(replay, cell, vm, decision)));
        if matches!(event, Event::Host(HostRecord::Step { step: Step::Mark, .. })) {
            marks += 1;
            let Interval { events, gone, of } = replay.interval();
            // Of two kinds of events nobody knows which of them zapped.
            if let (Some(event), 1, 1..) = (events.first(), events.len(), *of) {
                points.push(Point {
                    what: "leaves zapped",
                    did: format!("mark {marks}, {event}"),
                    axes: vec![("VM", vm.to_owned()), ("after", event.to_string())],
                    value: zaps(&[(*gone, *of)].into()),
                    always: false,
                });
            }
        }
    })?;
    Ok(points)
}

/// What a decision is about and what was seen; nothing if it is of no use for a comparison.
fn point(replay: &Replay<'_>, cell: &str, vm: &str, decision: &Decision<'_>) -> Option<Point> {
    let (action, seen) = (decision.action, decision.seen);
    let vm = ("VM", vm.to_owned());
    let (what, axes, value, always) = match action {
        Action::Timed(timed) => {
            let Asked { target, mtrr, pat, cd, .. } = Asked::of(replay, &vm.1, &timed);
            let axes = vec![
                vm,
                ("target", target.to_owned()),
                ("MTRR", mtrr),
                ("PAT", pat),
                ("CR0.CD", u8::from(cd).to_string()),
            ];
            ("effective type", axes, in_words(seen)?, true)
        }
        Action::Leaf { gpa, .. } => {
            let Effect::Leaf(leaf) = seen else { return None };
            let mut axes = vec![vm];
            match replay.situation(gpa) {
                Some(situation) => axes.extend([
                    ("target", Memory::of(situation).word().to_owned()),
                    ("MTRR", situation.mtrr.to_string()),
                    ("CR0.CD", u8::from(situation.cd).to_string()),
                ]),
                None => axes.push(("test", test(cell).to_owned())),
            }
            ("leaf SPTE", axes, leaf.to_string(), false)
        }
        // What comes of these is in the leaves, and in what marks find.
        Action::Held { .. } | Action::Zap(_) => return None,
        _ => {
            let did = did(action);
            let did = did.split(" <- ").next().unwrap_or_default().to_owned();
            ("answer", vec![vm, ("test", test(cell).to_owned()), ("what", did)], answer(seen, action), true)
        }
    };
    Some(Point { what, did: did(action), axes, value, always })
}

/// What was done, in words: the ticks that passed meanwhile are no part of that.
fn did(action: Action) -> String {
    match action {
        Action::Aliased(aliased, aspect) => Action::Aliased(Aliased { ticks: 0, ..aliased }, aspect),
        action => action,
    }
    .to_string()
}

/// What was seen, without counts that chance decides.
fn answer(seen: Effect, action: Action) -> String {
    match seen {
        Effect::Loads { stale: 0, other: 0, .. } => "new values".into(),
        Effect::Loads { other: 0, .. } => "stale values".into(),
        Effect::Loads { .. } => "values that nobody stored".into(),
        Effect::Passed { reordered: 0, .. } => "in order".into(),
        Effect::Passed { .. } => "out of order".into(),
        seen => EffectOf(seen, action).to_string(),
    }
}
