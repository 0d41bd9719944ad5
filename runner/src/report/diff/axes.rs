//! Differences grouped by cause: those that have all axes but one in common are one.

use super::Ungrouped;
use super::seen::Point;
use std::collections::{BTreeMap, BTreeSet};

/// What a difference has in common with others: what was seen otherwise, where, and how.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cause {
    what: &'static str,
    axes: Vec<(&'static str, BTreeSet<String>)>,
    from: String,
    to: String,
}

impl Cause {
    /// Of a point that was seen as `from` and is seen as `to`.
    pub fn new(point: &Point, from: &str, to: &str) -> Cause {
        let axes = point.axes.iter().map(|(axis, value)| (*axis, BTreeSet::from([value.clone()]))).collect();
        Cause { what: point.what, axes, from: from.to_owned(), to: to.to_owned() }
    }
}

/// Something that was seen otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What was: `effective type`, for one.
    pub what: &'static str,
    /// Where: axes, each with all values at which it was so.
    pub axes: Vec<(&'static str, BTreeSet<String>)>,
    /// What was seen before.
    pub from: String,
    /// What is seen now.
    pub to: String,
    /// How many points that is.
    pub points: u64,
    /// The cells, by id.
    pub cells: BTreeSet<String>,
}

/// Differences as few as can be said without saying too much: each stands for all combinations of its axes' values that
/// were seen. By what was seen, then by the number of cells, the most first.
pub(super) fn grouped(ungrouped: Ungrouped) -> Vec<Difference> {
    let axes = ungrouped.keys().map(|cause| cause.axes.len()).max().unwrap_or_default();
    // From the last axis to the first, so that what a VM has in common stands longest.
    let groups = (0..axes).rev().fold(ungrouped, merged);
    let mut all: Vec<Difference> = groups
        .into_iter()
        .map(|(Cause { what, axes, from, to }, (points, cells))| Difference { what, axes, from, to, points, cells })
        .collect();
    let rank = |what| ["effective type", "leaf SPTE", "leaves zapped"].iter().position(|&known| known == what);
    all.sort_by_key(|it| (rank(it.what).unwrap_or(usize::MAX), std::cmp::Reverse(it.cells.len()), it.axes.clone()));
    all
}

/// Makes one of those that differ on that axis alone.
fn merged(groups: Ungrouped, axis: usize) -> Ungrouped {
    let mut others: BTreeMap<Cause, (BTreeSet<String>, u64, BTreeSet<String>)> = BTreeMap::new();
    for (mut cause, (points, cells)) in groups {
        let values = cause.axes.get_mut(axis).map(|(_, values)| std::mem::take(values)).unwrap_or_default();
        let (all, count, in_cells) = others.entry(cause).or_default();
        all.extend(values);
        *count += points;
        in_cells.extend(cells);
    }
    let whole = |(mut cause, (values, points, cells)): (Cause, (BTreeSet<String>, u64, BTreeSet<String>))| {
        if let Some((_, of)) = cause.axes.get_mut(axis) {
            *of = values;
        }
        (cause, (points, cells))
    };
    others.into_iter().map(whole).collect()
}
