//! The verdict on a cell.

use super::deviation::{Deviation, Deviations};
use super::ending::{self, EndKind};
use super::log::{self, Account};
use super::merge::{Judged, Point, Points};
use super::verdict::Verdict;
use crate::host::facts::Facts;
use crate::machine::{End, Observed};
use crate::model::policy::{ARCHITECTURE, Policies, Policy, PolicyError};
use crate::model::{Action, Decision, Effect, Event, Replay, Why};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The most disagreements that a judgement keeps after merging, of those that a deviation excuses and of the others each.
const MOST_DISAGREEMENTS: usize = 64;
/// The most departures from the architecture that it shows.
const MOST_EXAMPLES: usize = 4;

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
    /// How many points were decided: predicted, right or wrong.
    pub points: u64,
    /// The points that are not as predicted, equal neighbours merged, and not all if there are very many.
    pub disagreements: Vec<Point>,
    /// How many points are not as predicted.
    pub disagreements_total: u64,
    /// How many points nothing is predicted of.
    pub unpredicted: u64,
    /// The deviations that showed, by id.
    pub deviations: Vec<String>,
    /// How the cell departs from the architecture, where another policy governs.
    pub architecture: Departures,
}

/// Judges cells by policies and deviations.
#[derive(Debug, Clone, Copy)]
pub struct Judge<'a> {
    policies: &'a Policies,
    deviations: &'a Deviations,
}

/// What a walk through a log adds up to.
struct Tally<'a> {
    points: u64,
    /// Disagreements that a deviation excuses.
    excused: Points<'a>,
    /// The others.
    bare: Points<'a>,
    unpredicted: u64,
    first_unpredicted: Option<(Action, Why)>,
    shown: BTreeSet<&'a str>,
    departures: Points<'a>,
    /// The VM shut down, and the model speaks of it.
    shutdown_due: bool,
}

impl<'a> Judge<'a> {
    /// A judge by these.
    pub fn new(policies: &'a Policies, deviations: &'a Deviations) -> Self {
        Judge { policies, deviations }
    }

    /// Judges what was observed of `test` (`family/test`) in run `run`, or in any run for a log that somebody kept.
    pub fn cell(&self, test: &str, observed: &Observed, run: Option<u64>, facts: &Facts) -> Judgement {
        let policy = match self.policies.governing(facts) {
            Ok(policy) => policy,
            Err(error) => return Judgement::new(Verdict::Error, error.to_string()),
        };
        let mut tally = Tally::new(&policy.id);
        let account = self.walk(policy, test, observed, run, facts, |judged| tally.take(judged));
        let applying = self.applying(test, facts);
        let (verdict, reason) = tally.verdict(&observed.end, &account, &applying);
        let disagreements_total = tally.bare.total + tally.excused.total;
        let mut disagreements = tally.bare.into_vec();
        disagreements.extend(tally.excused.into_vec());
        disagreements.sort_by_key(|point| point.line);
        Judgement {
            verdict,
            reason,
            policy: Some(policy.id.clone()),
            points: tally.points,
            disagreements,
            disagreements_total,
            unpredicted: tally.unpredicted,
            deviations: tally.shown.into_iter().map(str::to_owned).collect(),
            architecture: Departures { count: tally.departures.total, examples: tally.departures.into_vec() },
        }
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
        self.walk(policy, test, observed, run, facts, |judged| points.push(judged));
        Ok(points.into_vec())
    }

    fn applying(&self, test: &str, facts: &Facts) -> Vec<&Deviation> {
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
        mut each: impl FnMut(Judged<'b>),
    ) -> Account {
        let applying = self.applying(test, facts);
        let architecture = self.policies.get(ARCHITECTURE).ok().filter(|it| it.id != policy.id);
        let mut replay = Replay::new(policy, facts);
        let mut beside = architecture.map(|architecture| Replay::new(architecture, facts));
        let (mut decisions, mut others) = (Vec::new(), Vec::new());
        log::read(&observed.log, &observed.end, test, run, |line, event: Event<'_>| {
            decisions.clear();
            others.clear();
            replay.take(event, &mut decisions);
            if let Some(beside) = &mut beside {
                beside.take(event, &mut others);
            }
            for &decision in &decisions {
                let other = others.iter().find(|other| other.action == decision.action).copied();
                let deviation = (decision.agrees() == Some(false))
                    .then(|| applying.iter().find(|deviation| deviation.excuses(&decision)))
                    .flatten();
                each(Judged {
                    line,
                    decision,
                    architecture: other.filter(|other| other.agrees() == Some(false)),
                    deviation: deviation.map(|deviation| deviation.id()),
                });
            }
        })
    }
}

impl<'a> Tally<'a> {
    fn new(policy: &'a str) -> Self {
        Tally {
            points: 0,
            excused: Points::new(policy, MOST_DISAGREEMENTS),
            bare: Points::new(policy, MOST_DISAGREEMENTS),
            unpredicted: 0,
            first_unpredicted: None,
            shown: BTreeSet::new(),
            departures: Points::new(policy, MOST_EXAMPLES),
            shutdown_due: false,
        }
    }

    fn take(&mut self, judged: Judged<'a>) {
        let Decision { action, seen, predicted } = judged.decision;
        self.shutdown_due |= (action, seen) == (Action::TripleFault, Effect::Happened);
        match (judged.decision.agrees(), predicted) {
            (Some(agrees), _) => {
                self.points += 1;
                if !agrees {
                    let list = if judged.deviation.is_some() { &mut self.excused } else { &mut self.bare };
                    list.push(judged);
                    self.shown.extend(judged.deviation);
                }
            }
            (None, why) => {
                self.unpredicted += 1;
                self.first_unpredicted = self.first_unpredicted.or(why.err().map(|why| (action, why)));
            }
        }
        if judged.architecture.is_some() {
            self.departures.push(judged);
        }
    }

    /// The verdict and its reason. What makes a run worthless comes before what is wrong in it, and that before what only
    /// weakens it.
    fn verdict(&mut self, end: &End, account: &Account, applying: &[&'a Deviation]) -> (Verdict, String) {
        match end {
            End::Timeout { .. } => return (Verdict::Timeout, ending::words(end)),
            End::Flood => return (Verdict::Error, ending::words(end)),
            _ => {}
        }
        if let Some((line, what)) = &account.broken {
            return (Verdict::Error, format!("line {} of the log: {what}", line + 1));
        }
        let mut excused_end = false;
        if let Some((kind, what)) = self.bad_end(end, account) {
            match applying.iter().find(|deviation| deviation.excuses_end(kind, end)) {
                None => return (Verdict::Crash, what),
                Some(deviation) => {
                    self.shown.insert(deviation.id());
                    excused_end = true;
                }
            }
        } else if let Some(what) = account.unfinished.as_ref().filter(|_| *end != End::Shutdown) {
            return (Verdict::Error, what.clone());
        }
        if self.bare.total > 0 {
            return (Verdict::Fail, self.first_bare());
        }
        if let Some(reason) = &account.skip {
            return (Verdict::Skip, reason.clone());
        }
        if self.unpredicted > 0 {
            return (Verdict::Inconclusive, self.what_is_unpredicted());
        }
        if self.points == 0 && !excused_end {
            return (Verdict::Error, "decided nothing".into());
        }
        let hidden: Vec<&str> =
            applying.iter().map(|deviation| deviation.id()).filter(|id| !self.shown.contains(id)).collect();
        if !hidden.is_empty() {
            return (Verdict::Xpass, format!("known to deviate, but did not: {}", hidden.join(", ")));
        }
        match applying.iter().find(|deviation| self.shown.contains(deviation.id())) {
            Some(deviation) => (Verdict::Xfail, format!("{}: {}", deviation.id(), deviation.reason)),
            None => (Verdict::Pass, String::new()),
        }
    }

    /// How the VM or the guest died, if it did and the model did not say so.
    fn bad_end(&self, end: &End, account: &Account) -> Option<(EndKind, String)> {
        if let Some(death) = &account.died {
            return Some((EndKind::Dead, death.clone()));
        }
        let kind = ending::kind(end).filter(|&kind| kind != EndKind::Shutdown || !self.shutdown_due)?;
        Some((kind, ending::words(end)))
    }

    fn first_bare(&self) -> String {
        let first = self
            .bare
            .first()
            .map(|point| format!("{}: {}, where {} is predicted", point.did, point.seen, point.expected));
        let more = if self.bare.total > 1 { format!(" ({} points in all)", self.bare.total) } else { String::new() };
        format!("{}{more}", first.unwrap_or_default())
    }

    fn what_is_unpredicted(&self) -> String {
        let first = self.first_unpredicted.map(|(action, why)| format!("{action}: {why}"));
        let more = if self.unpredicted > 1 { format!(" ({} points in all)", self.unpredicted) } else { String::new() };
        format!("{}{more}", first.unwrap_or_default())
    }
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
            deviations: Vec::new(),
            architecture: Departures::default(),
        }
    }
}
