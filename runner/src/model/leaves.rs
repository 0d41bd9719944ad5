//! The leaf SPTEs of the test window in a replay: which there are, and what events should do to them.

use super::leaf::{LeafType, frames};
use super::point::{Effect, Prediction, Rule, Why};
use super::policy::{ZapEvent, ZapRow};
use std::collections::{BTreeMap, BTreeSet};

/// The leaves that an event should zap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All.
    All,
    /// Those of these frames, both ends included.
    Frames(u64, u64),
    /// None.
    Nothing,
}

/// A leaf's first frame, and its level: 1 for 4K, 2 for 2M, 3 for 1G.
type Place = (u64, u8);

/// The leaves that could map a frame.
fn places(gfn: u64) -> [Place; 3] {
    [(gfn, 1), (gfn & !0x1ff, 2), (gfn & !0x3_ffff, 3)]
}

impl Scope {
    /// Whether a leaf is among them: one that covers any of the frames is.
    fn has(self, (gfn, level): Place) -> bool {
        let end = gfn + frames(level);
        match self {
            Scope::All => true,
            Scope::Frames(first, last) => gfn <= last && first < end,
            Scope::Nothing => false,
        }
    }
}

/// Something happened after which leaves should be gone, or should not.
#[derive(Debug, Clone, Copy)]
pub struct Pending<'p> {
    /// What happened.
    pub event: ZapEvent,
    /// The row that speaks of it, or why none does.
    pub row: Result<&'p ZapRow, Why>,
    /// Which leaves it should zap.
    pub scope: Scope,
}

/// What came of leaves that an event could have zapped.
#[derive(Debug, Clone, Copy)]
pub struct Zapped<'p> {
    /// What happened.
    pub event: ZapEvent,
    /// The row that speaks of it, or why nothing is predicted.
    pub row: Result<&'p ZapRow, Why>,
    /// How many are gone.
    pub leaves: usize,
    /// Of how many.
    pub of: usize,
    /// How many should be gone: all that the event should zap; none of those that no event should.
    pub due: usize,
}

/// A page that was accessed.
#[derive(Debug, Clone, Copy)]
pub struct Touched<'p> {
    /// Its frame.
    pub gfn: u64,
    /// The leaf through which it was, if one was seen: its level and what it says.
    pub held: Option<(u8, LeafType)>,
    /// What the leaf would be if it had been made then.
    pub fresh: Result<Prediction<'p>, Why>,
}

/// What is certain at a mark.
#[derive(Debug, Default)]
pub struct Settled<'p> {
    /// What came of the leaves since the last mark.
    pub zapped: Vec<Zapped<'p>>,
    /// The pages that were accessed through a leaf from before, or although no leaf was seen.
    pub touched: Vec<Touched<'p>>,
}

/// What was seen from one mark to the next, whatever is predicted of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interval {
    /// The kinds of events.
    pub events: BTreeSet<ZapEvent>,
    /// How many of the leaves that were there are gone.
    pub gone: usize,
    /// How many leaves were there.
    pub of: usize,
}

/// The leaves of the test window, and what happened to them since the last mark.
///
/// Only at a mark is it certain which came before what: SPTEs stand in the log where the guest stopped next.
#[derive(Debug, Clone, Default)]
pub struct Leaves<'p> {
    present: BTreeMap<Place, LeafType>,
    /// In order.
    at_mark: Vec<Place>,
    made: BTreeSet<Place>,
    zapped: BTreeSet<Place>,
    touched: BTreeMap<u64, (u8, Result<Prediction<'p>, Why>)>,
    lost: Vec<Touched<'p>>,
    pending: Vec<Pending<'p>>,
    marked: bool,
    /// A witness sees SPTEs.
    sees: bool,
    /// Where none does: the leaves of frames that were accessed, as the policy has them.
    assumed: BTreeMap<u64, Result<LeafType, Why>>,
    /// That which the last mark ended.
    pub interval: Interval,
}

impl<'p> Leaves<'p> {
    /// None. Without a witness of SPTEs they are what the policy says.
    pub fn new(sees: bool) -> Self {
        Leaves { sees, ..Leaves::default() }
    }

    /// Whether a witness sees SPTEs.
    pub fn are_seen(&self) -> bool {
        self.sees
    }

    /// The leaf that maps a frame, and whether it was seen.
    pub fn of(&self, gfn: u64) -> Option<(Result<LeafType, Why>, bool)> {
        let seen = places(gfn).iter().find_map(|place| self.present.get(place)).map(|&leaf| (Ok(leaf), true));
        seen.or_else(|| self.assumed.get(&gfn).map(|&leaf| (leaf, false)))
    }

    /// A leaf was made or changed.
    pub fn set(&mut self, gfn: u64, level: u8, leaf: LeafType) {
        self.present.insert((gfn, level), leaf);
        self.made.insert((gfn, level));
    }

    /// A leaf was taken away.
    pub fn zap(&mut self, gfn: u64, level: u8) {
        self.present.remove(&(gfn, level));
        self.zapped.insert((gfn, level));
    }

    /// vCPU `cpu` accessed the page, for which a leaf that was made then would be `fresh`.
    pub fn touch(&mut self, gfn: u64, cpu: u8, fresh: Result<Prediction<'p>, Why>) {
        self.touched.entry(gfn).or_insert((cpu, fresh));
        if !self.sees {
            self.assumed.entry(gfn).or_insert_with(|| match fresh? {
                Prediction { rule: Rule::GuestMtrr { kvm: Some(_), .. }, .. } => Err(Why::LeafLookup),
                Prediction { expected: Effect::Leaf(leaf), .. } => Ok(leaf),
                _ => Err(Why::NoLeaf),
            });
        }
    }

    /// The vCPU that first accessed a page of a leaf since the last mark: it is the one that faulted.
    pub fn toucher(&self, gfn: u64, level: u8) -> Option<u8> {
        self.touched.range(gfn..gfn + frames(level)).next().map(|(_, &(cpu, _))| cpu)
    }

    /// An event zapped these leaves by the policy, or it is not known which.
    pub fn assume_zapped(&mut self, scope: Result<Scope, Why>) {
        match scope {
            Ok(scope) => self.assumed.retain(|&gfn, _| !scope.has((gfn, 1))),
            Err(why) => self.assumed.values_mut().for_each(|leaf| *leaf = Err(why)),
        }
    }

    /// Something happened.
    pub fn push(&mut self, pending: Pending<'p>) {
        self.pending.push(pending);
    }

    /// KVM may have zapped any leaf, in a step before which all SPTEs since the last one stand in the log.
    pub fn forget(&mut self) {
        self.lost = self.settle().into_iter().filter(|touched| touched.held.is_none()).collect();
        (self.present, self.at_mark, self.zapped, self.assumed) = Default::default();
    }

    /// A mark.
    pub fn mark(&mut self) -> Settled<'p> {
        let settled = Settled { zapped: self.events(), touched: self.settle() };
        let gone = self.at_mark.iter().filter(|place| self.zapped.contains(place)).count();
        let events = self.pending.iter().map(|pending| pending.event).collect();
        self.interval = Interval { events, gone, of: self.at_mark.len() };
        self.at_mark = self.present.keys().copied().collect();
        (self.zapped, self.pending, self.marked) = (BTreeSet::new(), Vec::new(), true);
        settled
    }

    /// The end, after which nothing is certain: the events that leaves were there for, and the pages that were accessed,
    /// since the last mark. None where there was no mark.
    pub fn end(&mut self) -> (Vec<ZapEvent>, Vec<Touched<'p>>) {
        if !self.marked {
            return Default::default();
        }
        let touched = self.settle();
        let pending = std::mem::take(&mut self.pending);
        let events = pending.into_iter().filter(|_| !self.at_mark.is_empty()).map(|pending| pending.event);
        (events.collect::<BTreeSet<_>>().into_iter().collect(), touched)
    }

    /// Takes the pages that were accessed, but for those for which a leaf was made or that were zapped: which of that
    /// came first is not known, and a new leaf speaks for itself.
    fn settle(&mut self) -> Vec<Touched<'p>> {
        let mut all = std::mem::take(&mut self.lost);
        for (gfn, (_, fresh)) in std::mem::take(&mut self.touched) {
            let places = places(gfn);
            if places.iter().any(|place| self.made.contains(place) || self.zapped.contains(place)) {
                continue;
            }
            let held = places.iter().find_map(|place| self.present.get(place).map(|&leaf| (place.1, leaf)));
            all.push(Touched { gfn, held, fresh });
        }
        self.made.clear();
        all
    }

    /// What came of the leaves that the events since the last mark found.
    fn events(&self) -> Vec<Zapped<'p>> {
        let pending = &self.pending;
        let unpredicted = pending.iter().find_map(|pending| pending.row.err());
        let counted = |event, row, due: bool, wanted: &dyn Fn(Place) -> bool| {
            let of = self.at_mark.iter().filter(|&&place| wanted(place));
            let (leaves, of) = (of.clone().filter(|place| self.zapped.contains(place)).count(), of.count());
            (of > 0).then_some(Zapped { event, row, leaves, of, due: if due { of } else { 0 } })
        };
        let mut all = Vec::new();
        for (n, one) in pending.iter().enumerate() {
            // Of several of the kind by the same row, the last speaks for all.
            let row = |row: Result<&'p ZapRow, Why>| row.map(std::ptr::from_ref);
            let same = |other: &&Pending<'p>| one.event == other.event && row(one.row) == row(other.row);
            if pending[n + 1..].iter().any(|other| same(&other)) {
                continue;
            }
            let mine = |place| pending.iter().filter(same).any(|pending| pending.scope.has(place));
            let nobodys = |place| !pending.iter().any(|pending| pending.scope.has(place));
            all.extend(counted(one.event, one.row, true, &mine));
            // What an event zaps of which nothing is predicted is not known.
            all.extend(counted(one.event, unpredicted.map_or(one.row, Err), false, &nobodys));
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_the_leaves_that_it_touches() {
        let frames = Scope::Frames(0x210, 0x21f);
        for (place, has) in [((0x20f, 1), false), ((0x210, 1), true), ((0x21f, 1), true), ((0x220, 1), false)] {
            assert_eq!(frames.has(place), has, "{place:x?}");
        }
        assert!(frames.has((0x200, 2)) && !frames.has((0, 2)) && !frames.has((0x400, 2)) && frames.has((0, 3)));
    }

    #[test]
    fn a_leaf_maps_its_own_frames_alone() {
        let (small, fresh) = (LeafType::Pat(0), Err(Why::NoRow));
        let held = |level, gfn| {
            let mut leaves = Leaves::default();
            leaves.set(0x200, level, small);
            leaves.mark();
            leaves.touch(gfn, 0, fresh);
            leaves.mark().touched[0].held
        };
        assert_eq!((held(1, 0x200), held(1, 0x201)), (Some((1, small)), None));
        assert_eq!((held(2, 0x3ff), held(2, 0x400)), (Some((2, small)), None));
    }
}
