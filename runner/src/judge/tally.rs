//! What a walk through a log adds up to, and the verdict on that.

use super::deviation::Deviation;
use super::ending::{self, EndKind};
use super::kernel::{self, Findings};
use super::log::Account;
use super::merge::{Judged, Points};
use super::proof::{self, Proof};
use super::verdict::Verdict;
use crate::machine::End;
use crate::model::{Action, Decision, Effect, Why};
use crate::report::counted;
use crate::witness::{Kind, Witnessed};
use std::collections::BTreeSet;

/// The most disagreements that a judgement keeps after merging, of those that a deviation excuses, of the doubtful and
/// of the others each.
const MOST_DISAGREEMENTS: usize = 64;
/// The most departures from the architecture that it shows.
const MOST_EXAMPLES: usize = 4;

/// What a walk through a log adds up to.
pub(super) struct Tally<'a> {
    test: String,
    /// Decided points. The registers of a new vCPU are none of the test's: they stand in the log of a test that did
    /// nothing. A leaf from before was decided when it was made, and only departs from the architecture now.
    pub points: u64,
    /// Disagreements that a deviation excuses.
    pub excused: Points<'a>,
    /// Disagreements about SPTEs in a cell whose witnesses did not see all: the record that is missing may be theirs.
    pub doubtful: Points<'a>,
    /// The others.
    pub bare: Points<'a>,
    /// Points of which nothing is predicted.
    pub unpredicted: u64,
    first_unpredicted: Option<(Action, Why)>,
    /// What effective memory types rest on.
    pub proof: Proof,
    /// A step that the VMM would not do. If nothing that failed before explains it, the harness is broken.
    undone: Option<Action>,
    /// Ids of the deviations that showed.
    pub shown: BTreeSet<&'a str>,
    /// What the kernel has to say against the cell and nothing excuses.
    against: Vec<String>,
    /// What is missing of what was witnessed.
    gap: Option<String>,
    /// The kernel's log was watched.
    log_watched: bool,
    /// Departures from the architecture.
    pub departures: Points<'a>,
    /// The VM shut down, and the model speaks of it.
    shutdown_due: bool,
}

impl<'a> Tally<'a> {
    /// Nothing yet of test `test`, by policy `policy`.
    pub fn new(test: &str, policy: &'a str) -> Self {
        Tally {
            test: test.to_owned(),
            points: 0,
            excused: Points::new(policy, MOST_DISAGREEMENTS),
            doubtful: Points::new(policy, MOST_DISAGREEMENTS),
            bare: Points::new(policy, MOST_DISAGREEMENTS),
            unpredicted: 0,
            first_unpredicted: None,
            proof: Proof::default(),
            undone: None,
            shown: BTreeSet::new(),
            against: Vec::new(),
            gap: None,
            log_watched: false,
            departures: Points::new(policy, MOST_EXAMPLES),
            shutdown_due: false,
        }
    }

    /// Takes the next point.
    pub fn take(&mut self, judged: Judged<'a>) {
        let Decision { action, seen, predicted } = judged.decision;
        self.proof.take(&judged.decision, judged.honoured());
        self.undone = self.undone.or((predicted == Err(Why::Vmm)).then_some(action));
        self.shutdown_due |= (action, seen) == (Action::TripleFault, Effect::Happened);
        match (judged.decision.agrees(), predicted) {
            (Some(agrees), _) => {
                self.points += u64::from(!matches!(action, Action::Reset(_) | Action::Held { .. }));
                if !agrees {
                    let of_sptes = matches!(action, Action::Leaf { .. } | Action::Zap(_));
                    let list = match judged.deviation {
                        Some(_) => &mut self.excused,
                        None if of_sptes && self.gap.is_some() => &mut self.doubtful,
                        None => &mut self.bare,
                    };
                    list.push(judged);
                    self.shown.extend(judged.deviation);
                }
            }
            (None, why) => {
                self.unpredicted += 1;
                // A reason that the other witness may make up for gives way to one that it cannot.
                let weak = |first: &(Action, Why)| proof::is_the_hosts(first.1);
                if self.first_unpredicted.as_ref().is_none_or(weak) {
                    let here = why.err().map(|why| (action, why));
                    self.first_unpredicted = here.filter(|here| !weak(here)).or(self.first_unpredicted).or(here);
                }
            }
        }
        if judged.architecture().is_some() {
            self.departures.push(judged);
        }
    }

    /// Takes what the witnesses of the host's side have to say, before the first point: what they missed decides what a
    /// point proves.
    pub fn witnesses(&mut self, witnessed: &Witnessed, applying: &[&'a Deviation]) {
        let Findings { bare, shown } = kernel::findings(witnessed, applying);
        self.against = bare;
        self.shown.extend(shown);
        self.gap = witnessed.gaps.first().cloned();
        self.log_watched = witnessed.watched.contains(&Kind::Log);
    }

    /// The verdict and its reason. A kernel that complains makes a good cell fail, and explains a bad one.
    pub fn verdict(
        &mut self,
        end: &End,
        account: &Account,
        applying: &[&'a Deviation],
        least: u64,
    ) -> (Verdict, String) {
        let (verdict, mut reason) = self.of_the_guest(end, account, applying, least);
        let died = matches!(verdict, Verdict::Error | Verdict::Timeout | Verdict::Crash);
        if died && !account.console.is_empty() {
            let last: Vec<&str> = account.console.iter().map(String::as_str).collect();
            reason += &format!("; Linux printed last: {}", last.join(" | "));
        }
        let Some(first) = self.against.first() else { return (verdict, reason) };
        let more =
            if self.against.len() > 1 { format!(" ({} lines in all)", self.against.len()) } else { String::new() };
        let kernel = format!("the kernel's log: {first}{more}");
        match verdict {
            Verdict::Fail | Verdict::Error | Verdict::Timeout | Verdict::Crash => {
                (verdict, format!("{reason}; {kernel}"))
            }
            _ => (Verdict::Fail, kernel),
        }
    }

    /// The verdict on what guest and VMM say, and its reason. What makes a run worthless comes before what is wrong in
    /// it, and that before what only weakens it.
    fn of_the_guest(
        &mut self,
        end: &End,
        account: &Account,
        applying: &[&'a Deviation],
        least: u64,
    ) -> (Verdict, String) {
        match end {
            End::Timeout { .. } => return (Verdict::Timeout, end.to_string()),
            End::Flood => return (Verdict::Error, end.to_string()),
            _ => {}
        }
        if let Some((line, what)) = &account.broken {
            return (Verdict::Error, format!("line {} of the log: {what}", line + 1));
        }
        let mut excused_end = false;
        if let Some((kind, what)) = self.bad_end(end, account) {
            // What ends a VM before the test begins is nothing that the test is known for.
            match applying.iter().find(|deviation| account.begun && deviation.excuses_end(kind, end)) {
                None => return (Verdict::Crash, what),
                Some(deviation) => {
                    self.shown.insert(deviation.id());
                    excused_end = true;
                }
            }
        } else if let Some(what) = account.unfinished.as_ref().filter(|_| *end != End::Shutdown) {
            return (Verdict::Error, what.clone());
        }
        // A test that skips stops where it finds out that it must, and an end that is known comes early.
        if account.points < least && account.skip.is_none() && !excused_end {
            let least = counted(least, "point");
            return (Verdict::Error, format!("the test makes at least {least}, {} came", account.points));
        }
        if self.bare.total > 0 {
            return (Verdict::Fail, self.first_bare());
        }
        if let Some(action) = self.undone {
            return (Verdict::Error, format!("{action}: {}", Why::Vmm));
        }
        if let Some(reason) = &account.skip {
            return (Verdict::Skip, reason.clone());
        }
        if self.points == 0 && self.unpredicted == 0 && !excused_end {
            return (Verdict::Error, "decided nothing".into());
        }
        if let Some(gap) = &self.gap {
            return (Verdict::Inconclusive, format!("a witness did not see all: {gap}"));
        }
        // News, which points that nothing is predicted of must not hide.
        let due = applying.iter().filter(|deviation| deviation.must_show(&self.test, self.log_watched));
        let hidden: Vec<&str> = due.map(|deviation| deviation.id()).filter(|id| !self.shown.contains(id)).collect();
        if !hidden.is_empty() {
            return (Verdict::Xpass, format!("known to deviate, but did not: {}", hidden.join(", ")));
        }
        // Where SPTEs speak of every page, a host whose times say nothing takes one witness away, and the report says so.
        let one_witness = if self.proof.leaves > 0 { self.proof.untimed } else { 0 };
        if self.unpredicted > one_witness {
            return (Verdict::Inconclusive, self.what_is_unpredicted(one_witness));
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
        Some((kind, end.to_string()))
    }

    fn first_bare(&self) -> String {
        let first = self
            .bare
            .first()
            .map(|point| format!("{}: {}, where {} is predicted", point.did, point.seen, point.expected));
        let more = if self.bare.total > 1 { format!(" ({} points in all)", self.bare.total) } else { String::new() };
        format!("{}{more}", first.unwrap_or_default())
    }

    /// But for `excused` points.
    fn what_is_unpredicted(&self, excused: u64) -> String {
        let first = self.first_unpredicted.map(|(action, why)| format!("{action}: {why}"));
        let count = self.unpredicted - excused;
        let more = if count > 1 { format!(" ({count} points in all)") } else { String::new() };
        format!("{}{more}", first.unwrap_or_default())
    }
}
