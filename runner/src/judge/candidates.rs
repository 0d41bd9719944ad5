//! A run against every policy, whether it governs or not: which explain all that was seen, and what rules the others out.

use super::cell::{Judge, sees_sptes};
use super::deviation::Deviation;
use super::log;
use super::merge::{Judged, Point, Points};
use crate::host::facts::Facts;
use crate::machine::Observed;
use crate::model::policy::{Policy, RowRef};
use crate::model::{Action, Decision, Effect, Event, Replay};
use crate::report::counted;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// The most points that are kept of a cell that rules a policy out, of those that bear on memory types and of others each.
const MOST_POINTS: usize = 2;

/// The log of a cell.
#[derive(Debug, Clone, Copy)]
pub struct CellLog<'a> {
    /// The cell's id.
    pub cell: &'a str,
    /// Its `family/test`.
    pub test: &'a str,
    /// What was observed.
    pub observed: &'a Observed,
    /// The run id in the guest's report.
    pub run: Option<u64>,
    /// What is known of host and VM.
    pub facts: &'a Facts,
}

/// What was seen that bears on memory types, and all the rest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Seen {
    /// Leaf SPTEs that were made.
    pub leaves: u64,
    /// Events that could have zapped leaves.
    pub zaps: u64,
    /// Pages whose effective type could be read from their times.
    pub types: u64,
    /// Registers, exits, replies and what else there is.
    pub others: u64,
}

impl Seen {
    /// Whether anything bears on memory types.
    pub fn bears_on_types(self) -> bool {
        self.leaves + self.zaps + self.types > 0
    }

    /// All points.
    pub fn total(self) -> u64 {
        self.leaves + self.zaps + self.types + self.others
    }

    /// Where a point is counted.
    fn count_of(&mut self, decision: &Decision<'_>) -> &mut u64 {
        match (decision.action, decision.seen) {
            (Action::Leaf { .. }, Effect::Leaf(_)) => &mut self.leaves,
            (Action::Zap(_), _) => &mut self.zaps,
            (Action::Timed(_), Effect::Types(_)) => &mut self.types,
            _ => &mut self.others,
        }
    }

    fn add(&mut self, other: Seen) {
        self.leaves += other.leaves;
        self.zaps += other.zaps;
        self.types += other.types;
        self.others += other.others;
    }
}

/// A cell that rules a policy out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Against {
    /// The cell's id.
    pub cell: String,
    /// How many points are not as the policy says.
    pub total: u64,
    /// Whether some of them bear on memory types.
    pub of_types: bool,
    /// The first of them, those that bear on memory types before others.
    pub points: Vec<Point>,
}

/// How a policy stands after a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Nothing is against it, and something is as it says.
    Explains,
    /// Something is not as it says.
    RuledOut,
    /// It says nothing of what was seen.
    Silent,
}

/// A policy, and what a run says for and against it.
#[derive(Debug)]
pub struct Candidate<'a> {
    /// The policy.
    pub policy: &'a Policy,
    /// Whether it governs some cell by what was probed.
    pub governs: bool,
    /// All points, by what they are of. Policies group zaps in their own ways, and so count them differently.
    pub seen: Seen,
    /// Points that are as it says.
    pub explained: u64,
    /// Points that are not, for a known reason, by the deviation's id.
    pub excused: BTreeMap<&'a str, u64>,
    /// Points of which it says nothing.
    pub open: u64,
    /// The cells that rule it out, those that bear on memory types before others.
    pub against: Vec<Against>,
    /// The rows that predicted a point, by where their names are: rows of one policy may have equal names.
    used: HashSet<*const u8>,
}

impl Candidate<'_> {
    /// How it stands.
    pub fn standing(&self) -> Standing {
        match () {
            () if !self.against.is_empty() => Standing::RuledOut,
            () if self.explained + self.excused.values().sum::<u64>() == 0 => Standing::Silent,
            () => Standing::Explains,
        }
    }
}

/// Two policies that explain all that was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pair<'a> {
    /// Their ids.
    pub policies: [&'a str; 2],
    /// Why no cell tells them apart: rows in which they differ, and what came of these.
    pub because: Vec<String>,
}

/// All policies after a run.
#[derive(Debug)]
pub struct Candidates<'a> {
    /// Those that govern first, then those that leave less open.
    pub all: Vec<Candidate<'a>>,
    /// How many cells were replayed.
    pub cells: u64,
    /// Cells that prove nothing, and why.
    pub left_out: Vec<(&'a str, String)>,
    facts: BTreeSet<&'a Facts>,
}

/// One policy's walk through one cell.
struct Walk<'p> {
    replay: Replay<'p>,
    seen: Seen,
    explained: u64,
    open: u64,
    excused: BTreeMap<&'p str, u64>,
    of_types: Points<'p>,
    others: Points<'p>,
    used: HashSet<*const u8>,
}

impl<'p> Walk<'p> {
    fn take(&mut self, line: usize, decision: Decision<'p>, applying: &[&'p Deviation]) {
        let mut kind = Seen::default();
        *kind.count_of(&decision) += 1;
        self.seen.add(kind);
        self.used.extend(decision.predicted.ok().map(|prediction| prediction.row.as_ptr()));
        match decision.agrees() {
            None => self.open += 1,
            Some(true) => self.explained += 1,
            Some(false) => match applying.iter().find(|deviation| deviation.excuses(&decision)) {
                Some(deviation) => *self.excused.entry(deviation.id()).or_default() += 1,
                None => {
                    let list = if kind.bears_on_types() { &mut self.of_types } else { &mut self.others };
                    list.push(Judged { line, decision, beside: None, deviation: None });
                }
            },
        }
    }
}

impl<'a> Judge<'a> {
    /// Replays cells against every policy.
    pub fn candidates(&'a self, cells: &[CellLog<'a>]) -> Candidates<'a> {
        let all = self.policies.iter().map(|policy| Candidate {
            policy,
            governs: cells.iter().any(|cell| self.policies.governing(cell.facts).is_ok_and(|it| it.id == policy.id)),
            seen: Seen::default(),
            explained: 0,
            excused: BTreeMap::new(),
            open: 0,
            against: Vec::new(),
            used: HashSet::new(),
        });
        let mut candidates = Candidates { all: all.collect(), cells: 0, left_out: Vec::new(), facts: BTreeSet::new() };
        for cell in cells {
            candidates.cell(self, cell);
        }
        candidates.all.sort_by_key(|candidate| (!candidate.governs, candidate.open));
        for candidate in &mut candidates.all {
            candidate.against.sort_by_key(|against| !against.of_types);
        }
        candidates
    }
}

impl<'a> Candidates<'a> {
    fn cell(&mut self, judge: &'a Judge<'a>, cell: &CellLog<'a>) {
        let CellLog { cell, test, observed, run, facts } = *cell;
        if let Some(gap) = observed.witness.gaps.first() {
            return self.left_out.push((cell, format!("a witness did not see all: {gap}")));
        }
        let applying = judge.applying(test, facts);
        let walk = |candidate: &Candidate<'a>| Walk {
            replay: Replay::new(candidate.policy, facts, sees_sptes(observed)),
            seen: Seen::default(),
            explained: 0,
            open: 0,
            excused: BTreeMap::new(),
            of_types: Points::new(&candidate.policy.id, MOST_POINTS),
            others: Points::new(&candidate.policy.id, MOST_POINTS),
            used: HashSet::new(),
        };
        let mut walks: Vec<Walk<'a>> = self.all.iter().map(walk).collect();
        let mut decisions = Vec::new();
        let account = log::read(&observed.log, &observed.end, test, run, |line, event: Event<'_>| {
            for walk in &mut walks {
                walk.replay.take(event, &mut decisions);
                decisions.drain(..).for_each(|decision| walk.take(line, decision, &applying));
            }
        });
        if let Some((line, what)) = account.broken {
            return self.left_out.push((cell, format!("line {} of the log: {what}", line + 1)));
        }
        self.cells += 1;
        self.facts.insert(facts);
        for (candidate, walk) in self.all.iter_mut().zip(walks) {
            candidate.take(cell, walk);
        }
    }

    /// What was seen, as the first of them counts it.
    pub fn seen(&self) -> Seen {
        self.all.first().map(|candidate| candidate.seen).unwrap_or_default()
    }

    /// Those that stand so.
    pub fn standing(&self, standing: Standing) -> impl Iterator<Item = &Candidate<'a>> {
        self.all.iter().filter(move |candidate| candidate.standing() == standing)
    }

    /// The pairs of those that explain all that was seen, and why nothing tells them apart. Those with the first of them
    /// come first.
    pub fn pairs(&self) -> Vec<Pair<'a>> {
        let explaining: Vec<_> = self.standing(Standing::Explains).collect();
        let pairs = explaining.iter().enumerate().flat_map(|(n, one)| explaining[n + 1..].iter().map(|it| (*one, *it)));
        pairs.map(|(one, other)| self.pair(one, other)).collect()
    }

    fn pair(&self, one: &Candidate<'a>, other: &Candidate<'a>) -> Pair<'a> {
        let because = match [one, other].map(|it| it.policy.host) {
            [true, false] => vec![other.not_of_the_host()],
            [false, true] => vec![one.not_of_the_host()],
            _ => [self.beyond(one, other), self.beyond(other, one)].concat(),
        };
        Pair { policies: [&one.policy.id, &other.policy.id], because }
    }

    /// What came of the rows that `one` has and `other` has not, in words: rows of which the same is to be said together.
    fn beyond(&self, one: &Candidate<'a>, other: &Candidate<'a>) -> Vec<String> {
        let mut said: Vec<(String, Vec<&str>)> = Vec::new();
        for row in one.policy.rows_beyond(other.policy) {
            let why = self.why(one, row);
            match said.iter_mut().find(|(before, _)| *before == why) {
                Some((_, rows)) => rows.push(row.name),
                None => said.push((why, vec![row.name])),
            }
        }
        let id = &one.policy.id;
        let words = |(why, rows): (String, Vec<&str>)| match rows.as_slice() {
            [row] => format!("row `{row}` of {id}: {why}"),
            [row, more @ ..] => format!("row `{row}` of {id} and {} more: {why}", more.len()),
            [] => why,
        };
        said.into_iter().map(words).collect()
    }

    /// Why a row told its policy from none that lacks it.
    fn why(&self, of: &Candidate<'a>, row: RowRef<'_>) -> String {
        if of.used.contains(&row.name.as_ptr()) {
            return "both say the same where it applied".to_owned();
        }
        let has = |name: &str, fact| self.facts.iter().any(|facts| facts.get(name) == Some(fact));
        let wanted = &row.when.facts();
        let missing: Vec<_> = wanted
            .iter()
            .filter(|(name, fact)| !has(name, fact))
            .map(|(name, fact)| format!("{name} = {fact}"))
            .collect();
        if missing.is_empty() {
            "it decided no point".to_owned()
        } else {
            format!("no cell has {}", missing.join(", "))
        }
    }
}

impl<'a> Candidate<'a> {
    fn not_of_the_host(&self) -> String {
        format!(
            "{} does not speak of what a host does, and leaves {} open",
            self.policy.id,
            counted(self.open, "point")
        )
    }

    /// Takes what a cell says.
    fn take(&mut self, cell: &str, walk: Walk<'a>) {
        let Walk { seen, explained, open, excused, of_types, others, used, .. } = walk;
        self.seen.add(seen);
        self.explained += explained;
        self.open += open;
        self.used.extend(used);
        for (id, count) in excused {
            *self.excused.entry(id).or_default() += count;
        }
        let total = of_types.total + others.total;
        if total > 0 {
            let (of_types, mut points) = (of_types.total > 0, of_types.into_vec());
            points.extend(others.into_vec());
            self.against.push(Against { cell: cell.to_owned(), total, of_types, points });
        }
    }
}
