//! The verdict on a cell.

use super::deviation::{Deviation, Deviations};
use super::log::{self, Account};
use super::merge::{Judged, Point, Points};
use super::proof::Proof;
use super::tally::Tally;
use super::verdict::Verdict;
use crate::host::facts::Facts;
use crate::machine::Observed;
use crate::model::policy::{ARCHITECTURE, Policies, Policy, PolicyError};
use crate::model::{Decision, Event, Replay};
use crate::witness::Kind;
use serde::{Deserialize, Serialize};

/// Points at which the architecture predicts something else than was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Departures {
    /// How many.
    pub count: u64,
    /// The first of them.
    pub examples: Vec<Point>,
}

/// What the judge thinks of a cell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// Why, in one sentence without full stop; empty for a pass only.
    pub reason: String,
    /// The governing policy; nothing if there is none.
    pub policy: Option<String>,
    /// How many points of the test were decided: predicted, right or wrong. The registers of a new vCPU are judged, but
    /// not counted: they stand in the log of a test that did nothing.
    pub points: u64,
    /// The points that are not as predicted, equal neighbours merged, and not all if there are very many.
    pub disagreements: Vec<Point>,
    /// How many points are not as predicted.
    pub disagreements_total: u64,
    /// How many points nothing is predicted of.
    pub unpredicted: u64,
    /// What the effective memory types in it rest on.
    pub proof: Proof,
    /// The deviations that showed, by id.
    pub deviations: Vec<String>,
    /// How the cell departs from the architecture, where another policy governs.
    pub architecture: Departures,
}

/// Judges cells by policies and deviations.
#[derive(Debug, Clone, Copy)]
pub struct Judge<'a> {
    pub(super) policies: &'a Policies,
    deviations: &'a Deviations,
}

impl<'a> Judge<'a> {
    /// A judge by these.
    pub fn new(policies: &'a Policies, deviations: &'a Deviations) -> Self {
        Judge { policies, deviations }
    }

    /// Judges what was observed of `test` (`family/test`), which makes at least `least` points, in run `run`, or in any
    /// run for a log that somebody kept.
    pub fn cell(&self, test: &str, least: u64, observed: &Observed, run: Option<u64>, facts: &Facts) -> Judgement {
        self.look(test, least, observed, run, facts, |_, _, _| {})
    }

    /// The same, and gives each event when it is taken, with what it decided: nothing where no policy governs.
    pub fn look<'b>(
        &'b self,
        test: &str,
        least: u64,
        observed: &Observed,
        run: Option<u64>,
        facts: &'b Facts,
        mut each: impl FnMut(&Replay<'b>, &Event<'_>, &[Judged<'b>]),
    ) -> Judgement {
        let policy = match self.policies.governing(facts) {
            Ok(policy) => policy,
            Err(error) => return Judgement::new(Verdict::Error, error.to_string()),
        };
        let mut tally = Tally::new(test, &policy.id);
        let applying = self.applying(test, facts);
        tally.witnesses(&observed.witness, &applying);
        let account = self.walk(policy, test, observed, run, facts, |replay, event, judged| {
            judged.iter().for_each(|&judged| tally.take(judged));
            each(replay, event, judged);
        });
        let (verdict, reason) = tally.verdict(&observed.end, &account, &applying, least);
        let lists = [tally.bare, tally.doubtful, tally.excused];
        let disagreements_total = lists.iter().map(|list| list.total).sum();
        let mut disagreements: Vec<Point> = lists.into_iter().flat_map(Points::into_vec).collect();
        disagreements.sort_by_key(|point| point.line);
        Judgement {
            verdict,
            reason,
            policy: Some(policy.id.clone()),
            points: tally.points,
            disagreements,
            disagreements_total,
            unpredicted: tally.unpredicted,
            proof: tally.proof,
            deviations: tally.shown.into_iter().map(str::to_owned).collect(),
            architecture: Departures { count: tally.departures.total, examples: tally.departures.into_vec() },
        }
    }

    /// The id of the policy that governs; nothing if none does.
    pub fn governing(&self, facts: &Facts) -> &'a str {
        self.policies.governing(facts).map_or("", |policy| &policy.id)
    }

    /// All points of a cell, equal neighbours merged, as far as the log can be believed.
    ///
    /// # Errors
    /// No policy governs.
    pub fn points(
        &self,
        test: &str,
        observed: &Observed,
        run: Option<u64>,
        facts: &Facts,
    ) -> Result<Vec<Point>, PolicyError> {
        let policy = self.policies.governing(facts)?;
        let mut points = Points::new(&policy.id, usize::MAX);
        self.walk(policy, test, observed, run, facts, |_, _, judged| {
            judged.iter().for_each(|&judged| points.push(judged));
        });
        Ok(points.into_vec())
    }

    /// Replays a cell against the policy that governs, as far as the log can be believed: gives each event when it is
    /// taken, with what it decided, and what it decides by the architecture.
    ///
    /// # Errors
    /// No policy governs.
    pub fn replay<'b>(
        &'b self,
        test: &str,
        observed: &Observed,
        run: Option<u64>,
        facts: &'b Facts,
        mut each: impl FnMut(&Replay<'b>, &Event<'_>, &[Decision<'b>], &[Decision<'b>]),
    ) -> Result<(), PolicyError> {
        let sees = sees_sptes(observed);
        let mut replay = Replay::new(self.policies.governing(facts)?, facts, sees);
        let mut beside = Replay::new(self.policies.get(ARCHITECTURE)?, facts, sees);
        let (mut decisions, mut others) = (Vec::new(), Vec::new());
        log::read(&observed.log, &observed.end, test, run, |_, event| {
            decisions.clear();
            others.clear();
            replay.take(event, &mut decisions);
            beside.take(event, &mut others);
            each(&replay, &event, &decisions, &others);
        });
        Ok(())
    }

    /// The deviations that may show in a test.
    pub fn applying(&self, test: &str, facts: &Facts) -> Vec<&'a Deviation> {
        self.deviations.iter().filter(|deviation| deviation.applies(test, facts)).collect()
    }

    /// Replays a log against the governing policy and, beside it, the architecture.
    fn walk<'b>(
        &'b self,
        policy: &'b Policy,
        test: &str,
        observed: &Observed,
        run: Option<u64>,
        facts: &'b Facts,
        mut each: impl FnMut(&Replay<'b>, &Event<'_>, &[Judged<'b>]),
    ) -> Account {
        let applying = self.applying(test, facts);
        let architecture = self.policies.get(ARCHITECTURE).ok().filter(|it| it.id != policy.id);
        let sees = sees_sptes(observed);
        let mut replay = Replay::new(policy, facts, sees);
        let mut beside = architecture.map(|architecture| Replay::new(architecture, facts, sees));
        let (mut decisions, mut others, mut judged) = (Vec::new(), Vec::new(), Vec::new());
        log::read(&observed.log, &observed.end, test, run, |line, event: Event<'_>| {
            decisions.clear();
            others.clear();
            judged.clear();
            replay.take(event, &mut decisions);
            if let Some(beside) = &mut beside {
                beside.take(event, &mut others);
            }
            judged.extend(decisions.iter().map(|&decision| {
                let beside = others.iter().find(|other| other.action == decision.action).copied();
                let deviation = (decision.agrees() == Some(false))
                    .then(|| applying.iter().find(|deviation| deviation.excuses(&decision)))
                    .flatten();
                Judged { line, decision, beside, deviation: deviation.map(|deviation| deviation.id()) }
            }));
            each(&replay, &event, &judged);
        })
    }
}

/// Whether SPTEs were watched.
pub(super) fn sees_sptes(observed: &Observed) -> bool {
    observed.witness.watched.contains(&Kind::Sptes)
}

impl Judgement {
    /// A judgement of a cell of which no point is known.
    pub fn new(verdict: Verdict, reason: String) -> Self {
        Judgement {
            verdict,
            reason,
            policy: None,
            points: 0,
            disagreements: Vec::new(),
            disagreements_total: 0,
            unpredicted: 0,
            proof: Proof::default(),
            deviations: Vec::new(),
            architecture: Departures::default(),
        }
    }
}
