//! The leaf SPTEs of the test window in a replay: which there are, and what events should do to them.

use super::point::Why;
use super::policy::{ZapEvent, ZapRow};
use std::collections::BTreeSet;

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

impl Scope {
    fn has(self, gfn: u64) -> bool {
        match self {
            Scope::All => true,
            Scope::Frames(first, last) => (first..=last).contains(&gfn),
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

/// What came of the leaves that an event could have zapped.
#[derive(Debug, Clone, Copy)]
pub struct Zapped<'p> {
    /// The event; of several of the kind by the same row, the last.
    pub pending: Pending<'p>,
    /// How many are gone.
    pub leaves: usize,
    /// Of how many: those that should be, or where none should, all that no other event should zap.
    pub of: usize,
    /// How many should be gone.
    pub due: usize,
}

/// The leaves of the test window, and what happened to them since the last mark. Page frames stand for them.
///
/// Only at a mark is it certain which came before what: SPTEs stand in the log where the guest stopped next.
#[derive(Debug, Clone, Default)]
pub struct Leaves<'p> {
    present: BTreeSet<u64>,
    at_mark: BTreeSet<u64>,
    zapped: BTreeSet<u64>,
    touched: BTreeSet<u64>,
    pending: Vec<Pending<'p>>,
}

impl<'p> Leaves<'p> {
    /// A leaf was made or changed.
    pub fn set(&mut self, gfn: u64) {
        self.present.insert(gfn);
    }

    /// A leaf was taken away.
    pub fn zap(&mut self, gfn: u64) {
        self.present.remove(&gfn);
        self.zapped.insert(gfn);
    }

    /// The guest accessed the page.
    pub fn touch(&mut self, gfn: u64) {
        self.touched.insert(gfn);
    }

    /// Something happened.
    pub fn push(&mut self, pending: Pending<'p>) {
        self.pending.push(pending);
    }

    /// KVM may have zapped any leaf.
    pub fn forget(&mut self) {
        *self = Leaves { pending: std::mem::take(&mut self.pending), ..Leaves::default() };
    }

    /// A mark: what came of the leaves since the last one, and the pages that were accessed although no SPTE maps them.
    pub fn mark(&mut self) -> (Vec<Zapped<'p>>, Vec<u64>) {
        let pending = std::mem::take(&mut self.pending);
        let due = |gfn: &u64| pending.iter().any(|pending| pending.scope.has(*gfn));
        let mut zapped: Vec<Zapped<'p>> = Vec::new();
        for (n, &one) in pending.iter().enumerate() {
            // Of several of the kind by the same row, the last speaks for all.
            let row = |row: Result<&'p ZapRow, Why>| row.map(std::ptr::from_ref);
            let same = |other: &&Pending<'p>| one.event == other.event && row(one.row) == row(other.row);
            if pending[n + 1..].iter().any(|other| same(&other)) {
                continue;
            }
            let mine = |gfn: &u64| pending.iter().filter(same).any(|pending| pending.scope.has(*gfn));
            let count = self.at_mark.iter().filter(|gfn| mine(gfn)).count();
            let of = self.at_mark.iter().filter(|gfn| if count > 0 { mine(gfn) } else { !due(gfn) });
            let (leaves, of) = (of.clone().filter(|gfn| self.zapped.contains(gfn)).count(), of.count());
            if of > 0 {
                zapped.push(Zapped { pending: one, leaves, of, due: count });
            }
        }
        let mapped = |gfn: &u64| {
            // A 2M leaf is known by its first frame.
            [*gfn, gfn & !0x1ff].iter().any(|gfn| self.present.contains(gfn) || self.zapped.contains(gfn))
        };
        let unseen = self.touched.iter().copied().filter(|gfn| !mapped(gfn)).collect();
        self.at_mark = self.present.clone();
        self.zapped.clear();
        self.touched.clear();
        (zapped, unseen)
    }
}
