//! A session: histories are drawn and run for a while, and of each cause the first is shrunk and kept.

use super::cause::{Cause, Kind};
use super::history::History;
use super::runner::{Ran, Runner};
use super::shrink::shrink;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// When a session ends.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// No history is drawn after this time. One that is being shrunk is shrunk to the end.
    pub time: Duration,
    /// No more histories than this are drawn.
    pub histories: u64,
    /// The most VMs that shrinking one history takes. With none, a history is kept as it was drawn.
    pub tries: usize,
    /// No history is drawn after one that showed an unknown difference.
    pub fail_fast: bool,
}

/// What was found for one cause.
#[derive(Debug, Clone)]
pub struct Find {
    /// The cause.
    pub cause: Cause,
    /// What was done, seen and expected in the shortest history.
    pub words: String,
    /// How many of the drawn histories showed it.
    pub times: u64,
    /// Number of the first of them, from 0.
    pub number: u64,
    /// Operations in that.
    pub drawn: usize,
    /// The shortest that shows it.
    pub history: History,
    /// What came of that.
    pub ran: Ran,
    /// The kernel's log said it.
    pub logged: bool,
    /// It showed again when the same history was run again. Only then could it be shrunk.
    pub again: bool,
}

/// What a session did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    /// Histories that were drawn.
    pub histories: u64,
    /// Operations in them.
    pub operations: u64,
    /// VMs for shrinking.
    pub tries: u64,
    /// Histories in which the witnesses missed something, so that nothing is said of SPTEs.
    pub gaps: u64,
    /// Time that was spent on drawn histories.
    pub drawing: Duration,
    /// Time that was spent on shrinking.
    pub shrinking: Duration,
}

/// A session.
#[derive(Debug)]
pub struct Session<R> {
    runner: R,
    /// Run id of the first find; each other has the next one.
    run: u64,
    /// VM configurations in which a find's history is tried, the plainest last.
    plain: Vec<String>,
    finds: BTreeMap<Cause, Find>,
    sums: Sums,
}

impl<R: Runner> Session<R> {
    /// A session in which nothing was done, whose first find has run id `run`. The history of a find is tried in the VM
    /// configurations `plain`, of which the last is the plainest.
    pub fn new(runner: R, run: u64, plain: Vec<String>) -> Self {
        Session { runner, run, plain, finds: BTreeMap::new(), sums: Sums::default() }
    }

    /// Draws histories by number and runs them until a limit is met or `stop` says so. `each` is told the sums after each.
    ///
    /// # Errors
    /// Host or harness is broken.
    pub fn go(
        &mut self,
        limits: &Limits,
        mut draw: impl FnMut(u64) -> History,
        stop: impl Fn() -> bool,
        mut each: impl FnMut(&Sums, usize),
    ) -> Result<(), String> {
        let began = Instant::now();
        for number in 0..limits.histories {
            if began.elapsed() >= limits.time || stop() || (limits.fail_fast && self.has_unknown()) {
                break;
            }
            let (history, started) = (draw(number), Instant::now());
            // Where warnings of once a boot come again, they take longer than all else: only what shrinks one has them do so.
            let ran = self.runner.run(&history, self.next_run(), false)?;
            self.sums.histories += 1;
            self.sums.operations += history.ops.len() as u64;
            self.sums.gaps += u64::from(!ran.observed.witness.gaps.is_empty());
            self.sums.drawing += started.elapsed();
            let started = Instant::now();
            self.take(number, &history, &ran, limits.tries)?;
            self.sums.shrinking += started.elapsed();
            each(&self.sums, self.finds.len());
        }
        Ok(())
    }

    /// Takes a history that was run: what is new in it is shrunk.
    ///
    /// # Errors
    /// Host or harness is broken.
    pub fn take(&mut self, number: u64, history: &History, ran: &Ran, tries: usize) -> Result<(), String> {
        for finding in &ran.findings {
            if let Some(find) = self.finds.get_mut(&finding.cause) {
                find.times += 1;
                continue;
            }
            let mut find = Find {
                cause: finding.cause.clone(),
                words: finding.words.clone(),
                times: 1,
                number,
                drawn: history.ops.len(),
                history: history.clone(),
                ran: ran.clone(),
                logged: finding.logged,
                again: false,
            };
            if tries > 0 {
                self.shorten(&mut find, tries)?;
            }
            self.finds.insert(finding.cause.clone(), find);
        }
        Ok(())
    }

    /// What was found, the worst first, and what was done.
    pub fn end(self) -> (Vec<Find>, Sums) {
        (self.finds.into_values().collect(), self.sums)
    }

    fn has_unknown(&self) -> bool {
        self.finds.keys().any(|cause| cause.kind == Kind::Unknown)
    }

    fn next_run(&self) -> u64 {
        self.run.wrapping_add(self.finds.len() as u64)
    }

    /// Makes a find's history as short and as plain as it can be.
    fn shorten(&mut self, find: &mut Find, tries: usize) -> Result<(), String> {
        let whole = find.history.clone();
        find.again = self.shows(find, whole)?;
        if !find.again {
            return Ok(());
        }
        let mut asked = 0;
        loop {
            let (before, mut broken) = (find.history.clone(), None);
            shrink(&before.ops, tries.saturating_sub(asked), |ops| {
                asked += 1;
                let shorter = History { ops: ops.to_vec(), ..find.history.clone() };
                broken.is_none() && self.shows(find, shorter).unwrap_or_else(|error| broken.replace(error).is_some())
            });
            broken.map_or(Ok(()), Err)?;
            for change in plainer(&find.history, &self.plain) {
                let plainer = change(&find.history);
                if plainer != find.history && asked < tries {
                    asked += 1;
                    self.shows(find, plainer)?;
                }
            }
            // What is plainer may do with less.
            if find.history == before || asked >= tries {
                return Ok(());
            }
        }
    }

    /// Runs a history; where it shows the find, that has it from now on.
    fn shows(&mut self, find: &mut Find, history: History) -> Result<bool, String> {
        self.sums.tries += 1;
        let ran = self.runner.run(&history, self.next_run(), find.logged)?;
        let Some(finding) = ran.findings.iter().find(|finding| finding.cause == find.cause) else { return Ok(false) };
        find.words.clone_from(&finding.words);
        (find.history, find.ran) = (history, ran);
        Ok(true)
    }
}

/// Makes another history of one.
type Change = Box<dyn Fn(&History) -> History>;

/// Ways to make a history plainer: all by one vCPU, each operation by the one that boots, in a plain VM, and no more vCPUs
/// than are used.
fn plainer(history: &History, plain: &[String]) -> Vec<Change> {
    let with = |change: fn(&History) -> History| -> Change { Box::new(change) };
    let mut changes = vec![with(|history| {
        let ops = history.ops.iter().map(|op| op.on(0)).collect();
        History { ops, cpus: 1, ..history.clone() }
    })];
    for n in 0..history.ops.len() {
        changes.push(Box::new(move |history| {
            let mut history = history.clone();
            history.ops[n] = history.ops[n].on(0);
            history
        }));
    }
    for vm in plain {
        let vm = vm.clone();
        changes.push(Box::new(move |history| History { vm: vm.clone(), ..history.clone() }));
    }
    changes.push(with(|history| {
        let used = history.ops.iter().map(|op| op.cpu() + 1).max().unwrap_or(1);
        History { cpus: used, ..history.clone() }
    }));
    changes
}

#[cfg(test)]
mod tests {
    use super::super::cause::Finding;
    use super::*;
    use crate::machine::{End, Observed};
    use std::cell::Cell;
    use wire::history::Op;
    use wire::step::Step;

    /// Shows `device` where a device comes after a store, whoever does that; `warning` in the first history alone that has a
    /// write to an MSR.
    struct Fake {
        warned: bool,
        runs: u64,
        /// Of what kind a device after a store is.
        kind: Kind,
    }

    const FAKE: Fake = Fake { warned: false, runs: 0, kind: Kind::Departure };

    fn finding(kind: Kind, id: &str) -> Finding {
        Finding { cause: Cause::new(kind, id), words: format!("{id} was seen"), logged: false }
    }

    impl Runner for Fake {
        fn run(&mut self, history: &History, run: u64, _: bool) -> Result<Ran, String> {
            self.runs += 1;
            let at = |wanted: fn(&Op) -> bool| history.ops.iter().position(wanted);
            let (store, plug) =
                (at(|op| matches!(op, Op::Store { .. })), at(|op| matches!(op, Op::Host(Step::PlugDma))));
            let mut findings = Vec::new();
            if store.zip(plug).is_some_and(|(store, plug)| store < plug) {
                findings.push(finding(self.kind, "device"));
            }
            if at(|op| matches!(op, Op::Wrmsr { .. })).is_some() && !self.warned {
                self.warned = true;
                findings.push(finding(Kind::Known, "warning"));
            }
            let observed = Observed { log: Vec::new(), end: End::Exit(0), micros: 0, witness: Default::default() };
            Ok(Ran { observed, run, findings })
        }
    }

    fn history(number: u64) -> History {
        let mut ops = vec![Op::Host(Step::Mark); 12];
        if number > 2 {
            ops[3] = Op::Store { cpu: 1, gpa: 0, pat_entry: 0 };
            ops[5] = Op::Wrmsr { cpu: 0, index: 0x2ff, value: 0 };
            ops[9] = Op::Host(Step::PlugDma);
        }
        History { vm: "other".to_owned(), cpus: 2, ops }
    }

    const LIMITS: Limits = Limits { time: Duration::MAX, histories: 6, tries: 1000, fail_fast: false };

    #[test]
    fn each_cause_is_kept_once_and_as_short_as_it_can_be() {
        let mut session = Session::new(FAKE, 100, vec!["default".to_owned()]);
        session.go(&LIMITS, history, || false, |_, _| {}).unwrap();
        let (finds, sums) = session.end();
        let [warning, device] = &finds[..] else { panic!("{finds:?}") };
        assert_eq!((sums.histories, sums.operations), (6, 72));
        assert_eq!((device.times, device.number, device.drawn, device.again), (3, 3, 12, true));
        let plain = vec![Op::Store { cpu: 0, gpa: 0, pat_entry: 0 }, Op::Host(Step::PlugDma)];
        assert_eq!(device.history, History { vm: "default".to_owned(), cpus: 1, ops: plain });
        // A warning that comes once cannot be shrunk, and says so.
        assert_eq!((warning.times, warning.again, &warning.history), (1, false, &history(3)));
        assert_eq!(finds.iter().map(|find| find.cause.kind).collect::<Vec<_>>(), [Kind::Known, Kind::Departure]);
        // The first has the first run id for its own; the other is as it was drawn, before anything was found.
        assert_eq!((device.ran.run, warning.ran.run), (100, 100));
    }

    #[test]
    fn it_ends_when_it_should() {
        let asked = Cell::new(0);
        let stop = || {
            asked.set(asked.get() + 1);
            asked.get() > 2
        };
        let mut session = Session::new(FAKE, 0, Vec::new());
        session.go(&LIMITS, history, stop, |_, _| {}).unwrap();
        assert_eq!(session.end().1.histories, 2);
        let mut session = Session::new(FAKE, 0, Vec::new());
        session.go(&Limits { time: Duration::ZERO, ..LIMITS }, history, || false, |_, _| {}).unwrap();
        assert_eq!(session.end().1.histories, 0);
        let mut session = Session::new(FAKE, 0, Vec::new());
        session.go(&Limits { tries: 10, ..LIMITS }, history, || false, |_, _| {}).unwrap();
        let (_, sums) = session.end();
        assert!(sums.tries <= 22, "{}", sums.tries);
        // What is known or a departure is no reason to end.
        for (kind, histories) in [(Kind::Unknown, 4), (Kind::Known, 6), (Kind::Departure, 6)] {
            let mut session = Session::new(Fake { kind, ..FAKE }, 0, Vec::new());
            session.go(&Limits { tries: 0, fail_fast: true, ..LIMITS }, history, || false, |_, _| {}).unwrap();
            let (finds, sums) = session.end();
            assert_eq!((sums.histories, sums.tries, finds.len()), (histories, 0, 2), "{kind:?}");
        }
    }

    #[test]
    fn a_broken_host_ends_it() {
        struct Broken;
        impl Runner for Broken {
            fn run(&mut self, _: &History, _: u64, _: bool) -> Result<Ran, String> {
                Err("no KVM".to_owned())
            }
        }
        let error = Session::new(Broken, 0, Vec::new()).go(&LIMITS, history, || false, |_, _| {}).unwrap_err();
        assert_eq!(error, "no KVM");
    }
}
