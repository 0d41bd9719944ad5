//! What became of one cell on hosts that are alike, run after run.

use crate::bench::Spread;
use crate::judge::Verdict;
use crate::report::is_expected;
use serde::Serialize;
use std::collections::BTreeMap;

/// How many runs before the last one there must be for its time to be held against theirs.
const RUNS_BEFORE: usize = 4;
/// How many times the median of the runs before the last one must take to be slower.
const SLOWER: f64 = 1.5;
/// How many distances of quartiles it must be beyond the upper one, so that a host that is noisy is not blamed.
const DISTANCES: f64 = 3.0;
/// What it must take more, in microseconds: less nobody minds.
const MORE: f64 = 10_000.0;

/// Hosts and kernels that a cell is compared within.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Group {
    /// The CPU, as it names itself.
    pub cpu: String,
    /// The machine, as given to `--machine`.
    pub machine: String,
    /// The vendor module of KVM.
    pub kvm: String,
    /// The first two numbers of the kernel's release.
    pub kernel: String,
    /// How the host is set up: `kvm.ignore_msrs=N`, `self-snoop=true`; nothing where nobody noted it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub setup: Vec<String>,
    /// The policy that was asked for, if one was: a KVM that is not as released.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
}

impl Group {
    /// Where it is, in words. Of how the host is set up, that in which it differs from others of `groups` that are alike in all
    /// else.
    pub fn words(&self, groups: &[Group]) -> String {
        let Group { cpu, machine, kvm, kernel, setup, policy } = self;
        let alike = |other: &&Group| Group { setup: setup.clone(), ..(*other).clone() } == *self;
        let others: Vec<&Group> = groups.iter().filter(alike).filter(|other| other.setup != *setup).collect();
        let noted = || others.iter().filter(|other| !other.setup.is_empty());
        let own = |item: &&String| noted().any(|other| !other.setup.contains(item));
        let mut words = format!("Linux {kernel}, {kvm}, machine {machine}, {cpu}");
        if let Some(policy) = policy {
            words += &format!(", by policy {policy}");
        }
        setup.iter().filter(own).for_each(|item| words += &format!(", {item}"));
        if setup.is_empty() && !others.is_empty() {
            words += ", parameters not noted";
        }
        words
    }
}

/// A cell in one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// The run's directory, from the directory of results on.
    pub run: String,
    /// When the run began.
    pub started: String,
    /// The host's name; empty where nobody noted it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// The kernel's release, as `uname -r` has it.
    pub kernel: String,
    /// The verdict.
    pub verdict: Verdict,
    /// Why.
    pub reason: String,
    /// What its VM took, in microseconds; none if there was no VM.
    pub micros: Option<u64>,
}

/// A cell in all runs of a group, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeline {
    /// The cell's id.
    pub cell: String,
    /// Where it was run.
    pub group: Group,
    /// What came of it; never empty.
    pub entries: Vec<Entry>,
}

/// Runs one after the other in which a cell had the same verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Streak<'a> {
    /// The verdict.
    pub verdict: Verdict,
    /// How many runs.
    pub runs: usize,
    /// The first of them.
    pub from: &'a Entry,
    /// The last of them.
    pub to: &'a Entry,
}

/// A cell that takes longer than it did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slower {
    /// What it took in the last run, in microseconds.
    pub now: f64,
    /// What it took in the runs before, in microseconds.
    pub before: Spread,
    /// How many those are.
    pub runs: usize,
}

impl Timeline {
    /// The runs by verdict, oldest first.
    pub fn streaks(&self) -> Vec<Streak<'_>> {
        let same = self.entries.chunk_by(|one, next| one.verdict == next.verdict);
        let streak = |runs: &'_ [Entry]| -> Option<(Verdict, usize)> { Some((runs.first()?.verdict, runs.len())) };
        let mut at = 0;
        let streaks = same.filter_map(streak).map(|(verdict, runs)| {
            at += runs;
            Streak { verdict, runs, from: &self.entries[at - runs], to: &self.entries[at - 1] }
        });
        streaks.collect()
    }

    /// Whether the last run was as expected.
    pub fn is_expected(&self) -> bool {
        self.entries.last().is_none_or(|entry| is_expected(entry.verdict))
    }

    /// The hosts on which it was run, each with the number of runs there; those whose names are known.
    pub fn hosts(&self) -> BTreeMap<&str, usize> {
        let mut hosts = BTreeMap::new();
        for entry in self.entries.iter().filter(|entry| !entry.host.is_empty()) {
            *hosts.entry(entry.host.as_str()).or_default() += 1;
        }
        hosts
    }

    /// In how many runs it was not as expected.
    pub fn surprises(&self) -> usize {
        self.entries.iter().filter(|entry| !is_expected(entry.verdict)).count()
    }

    /// How often it changed between as expected and not.
    pub fn turns(&self) -> usize {
        self.entries.windows(2).filter(|two| is_expected(two[0].verdict) != is_expected(two[1].verdict)).count()
    }

    /// What it took in the last run against the runs before, where that is much longer. Times of a run that went otherwise
    /// say nothing about the others, so only runs with the last one's verdict count.
    pub fn slower(&self) -> Option<Slower> {
        let (last, before) = self.entries.split_last()?;
        let now = last.micros? as f64;
        let same = before.iter().filter(|entry| entry.verdict == last.verdict);
        let times: Vec<f64> = same.filter_map(|entry| Some(entry.micros? as f64)).collect();
        let (runs, before) = (times.len(), Spread::of(times));
        let beyond = before.high + DISTANCES * (before.high - before.low);
        let is_slower =
            runs >= RUNS_BEFORE && now > SLOWER * before.median && now > beyond && now - before.median > MORE;
        is_slower.then_some(Slower { now, before, runs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn timeline(entries: &[(Verdict, u64)]) -> Timeline {
        let entry = |(n, &(verdict, millis)): (usize, &(Verdict, u64))| Entry {
            run: format!("r{n}"),
            started: format!("2026110{n}T000000Z"),
            host: format!("h{}", n % 2),
            kernel: "6.1.0".to_owned(),
            verdict,
            reason: String::new(),
            micros: Some(millis * 1000),
        };
        let group = Group {
            cpu: "cpu".to_owned(),
            machine: "kvm".to_owned(),
            kvm: "kvm_intel".to_owned(),
            kernel: "6.1".to_owned(),
            setup: Vec::new(),
            policy: None,
        };
        Timeline { cell: "a/b".to_owned(), group, entries: entries.iter().enumerate().map(entry).collect() }
    }

    #[test]
    fn a_streak_says_since_when() {
        use Verdict::{Fail, Pass, Xfail};
        let all = timeline(&[(Pass, 1), (Pass, 1), (Fail, 1), (Pass, 1), (Xfail, 1), (Fail, 1), (Fail, 1)]);
        let streaks: Vec<(Verdict, usize, &str, &str)> = all
            .streaks()
            .iter()
            .map(|streak| (streak.verdict, streak.runs, streak.from.run.as_str(), streak.to.run.as_str()))
            .collect();
        let wanted = [
            (Pass, 2, "r0", "r1"),
            (Fail, 1, "r2", "r2"),
            (Pass, 1, "r3", "r3"),
            (Xfail, 1, "r4", "r4"),
            (Fail, 2, "r5", "r6"),
        ];
        assert_eq!(streaks, wanted);
        assert_eq!((all.is_expected(), all.surprises(), all.turns()), (false, 3, 3));
        assert_eq!(all.hosts(), [("h0", 4), ("h1", 3)].into());
    }

    #[test]
    fn slower_is_much_slower_than_runs_that_went_alike() {
        let pass = |times: &[u64]| timeline(&times.iter().map(|&time| (Verdict::Pass, time)).collect::<Vec<_>>());
        let slower = pass(&[100, 101, 99, 100, 180]).slower().unwrap();
        assert_eq!((slower.now, slower.before.median, slower.runs), (180_000.0, 100_000.0, 4));
        for usual in [
            &[100, 101, 99, 180][..],
            &[100, 101, 99, 100, 149],
            // A noisy host.
            &[100, 160, 90, 150, 240],
            // Nobody minds nine milliseconds.
            &[1, 1, 1, 1, 10],
        ] {
            assert_eq!(pass(usual).slower(), None, "{usual:?}");
        }
        let mut other = pass(&[100, 101, 99, 100, 180]);
        other.entries[0].verdict = Verdict::Timeout;
        assert_eq!(other.slower(), None, "a run that went otherwise does not count");
    }

    #[test]
    fn a_place_is_told_from_those_like_it() {
        let group = |setup: &[&str]| Group {
            setup: setup.iter().map(|&item| item.to_owned()).collect(),
            ..timeline(&[(Verdict::Pass, 1)]).group
        };
        let (plain, other, old) =
            (group(&["kvm.a=N", "self-snoop=true"]), group(&["kvm.a=N", "self-snoop=false"]), group(&[]));
        let elsewhere = Group { kernel: "7.2".to_owned(), setup: vec!["kvm.a=Y".to_owned()], ..plain.clone() };
        let all = [plain.clone(), other, old.clone(), elsewhere.clone()];
        assert_eq!(plain.words(&all), "Linux 6.1, kvm_intel, machine kvm, cpu, self-snoop=true");
        assert_eq!(old.words(&all), "Linux 6.1, kvm_intel, machine kvm, cpu, parameters not noted");
        assert_eq!(elsewhere.words(&all), "Linux 7.2, kvm_intel, machine kvm, cpu");
    }

    proptest! {
        #[test]
        fn streaks_hold_each_run_once(fails in prop::collection::vec(any::<bool>(), 1..20)) {
            let entries: Vec<_> =
                fails.iter().map(|&fail| (if fail { Verdict::Fail } else { Verdict::Pass }, 1)).collect();
            let all = timeline(&entries);
            let streaks = all.streaks();
            prop_assert_eq!(streaks.iter().map(|streak| streak.runs).sum::<usize>(), entries.len());
            prop_assert!(streaks.windows(2).all(|two| two[0].verdict != two[1].verdict));
            prop_assert_eq!(all.turns() + 1, streaks.len());
        }
    }
}
