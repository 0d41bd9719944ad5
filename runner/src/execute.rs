//! Runs a plan's cells on a machine, some at a time, and hands each result on as it comes.

use crate::guests;
use crate::host::hazard;
use crate::machine::{Job, Limits, Machine, Observed};
use crate::plan::Cell;
use crate::results::{CellOutcome, CellResult};
use crate::witness::{Choice, Watch, Watching};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use wire::step::Hazard;

/// How cells are run.
#[derive(Clone, Copy)]
pub struct Execution<'a> {
    /// Where.
    pub machine: &'a dyn Machine,
    /// When a guest is given up.
    pub limits: Limits,
    /// Who watches on the host's side.
    pub witness: &'a Choice,
    /// Cells at a time.
    pub jobs: NonZeroUsize,
    /// Called before each cell that may take the host down, with its target; where it fails, the cell is not run.
    pub before: &'a (dyn Fn(&Cell, Hazard) -> Result<(), String> + Sync),
    /// Whether to stop: cells that have begun are finished, no other begins.
    pub stop: &'a (dyn Fn() -> bool + Sync),
}

impl Execution<'_> {
    /// Runs the cells, each with its guest's run id, and calls `each` in the caller's thread as results come. An error
    /// of `each` stops the run.
    ///
    /// # Errors
    /// What `each` says.
    pub fn cells<'c, E>(
        &self,
        cells: &[(&'c Cell, u64)],
        mut each: impl FnMut(&'c Cell, CellResult) -> Result<(), E>,
    ) -> Result<(), E> {
        let next = AtomicUsize::new(0);
        let (send, receive) = mpsc::channel();
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.get().min(cells.len()) {
                let (send, next) = (send.clone(), &next);
                scope.spawn(move || {
                    while let Some(&(cell, run)) = cells.get(next.fetch_add(1, Ordering::Relaxed)) {
                        // The receiver is gone when `each` has failed.
                        if (self.stop)() || send.send((cell, self.cell(cell, run))).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(send);
            // Moved in, so that it is dropped on an error before the scope waits for the threads.
            receive.into_iter().try_for_each(|(cell, result)| each(cell, result))
        })
    }

    fn cell(&self, cell: &Cell, run: u64) -> CellResult {
        let outcome = match (guests::find(&cell.family), self.machine.lacks(cell.needs, &cell.config)) {
            (_, Some(reason)) => CellOutcome::Skip(reason),
            (None, None) => CellOutcome::Error(format!("this runner has no guest {}", cell.family)),
            (Some(guest), None) => {
                if let Some(Err(why)) = hazard::of(cell.needs).map(|hazard| (self.before)(cell, hazard)) {
                    return CellResult { cell: cell.id.clone(), outcome: CellOutcome::Error(why) };
                }
                let (test, needs, limits) = (&cell.test, cell.needs, self.limits.for_test(cell.points, cell.needs));
                let watch = self.witness.witnesses.watch(true);
                let job = Job {
                    elf: guest.elf,
                    run,
                    test,
                    needs,
                    vm: &cell.config,
                    limits,
                    module: &[],
                    watch: watch.as_ref().map(|watch| watch as &dyn Watching),
                };
                let observed = self.machine.run(&job);
                let witness = watch.map(Watch::end).unwrap_or_default();
                match observed {
                    Ok(observed) => CellOutcome::Observed(Observed { witness, ..observed }),
                    Err(error) => CellOutcome::Error(chain(&error)),
                }
            }
        };
        CellResult { cell: cell.id.clone(), outcome }
    }
}

/// An error and what caused it, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |said, cause| format!("{said}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{End, MachineError};
    use crate::plan::vm::VmConfig;
    use std::collections::BTreeSet;
    use wire::needs::Needs;

    /// Ends every guest at once; has no APIC; breaks on the test `broken`.
    struct Quick;

    impl Machine for Quick {
        fn name(&self) -> &'static str {
            "quick"
        }

        fn description(&self) -> String {
            String::new()
        }

        fn lacks(&self, needs: Needs, _: &VmConfig) -> Option<String> {
            needs.has(Needs::APIC).then(|| "no APIC".to_owned())
        }

        fn run(&self, job: &Job<'_>) -> Result<Observed, MachineError> {
            let source: Box<dyn std::error::Error + Send + Sync> = "out of VMs".into();
            match job.test {
                "broken" => Err(MachineError { what: "cannot make a VM".into(), source: Some(source) }),
                _ => Ok(Observed {
                    log: Vec::new(),
                    end: End::Exit(job.run as u32),
                    micros: 0,
                    witness: Default::default(),
                }),
            }
        }
    }

    fn cell(family: &str, test: &str, needs: Needs) -> Cell {
        let (family, test, id) = (family.to_owned(), test.to_owned(), format!("{family}/{test}"));
        let (summary, vm, config) = (String::new(), "default".to_owned(), VmConfig::default());
        Cell { id, family, test, summary, needs, points: 1, vm, config }
    }

    fn run(cells: &[Cell], jobs: usize, stop: bool) -> Vec<CellResult> {
        let (machine, jobs, witness) = (&Quick, jobs.try_into().unwrap(), Choice::default());
        let before = |cell: &Cell, hazard: Hazard| match cell.test.as_str() {
            "first" => Err(format!("no room for an intent on {hazard}")),
            _ => Ok(()),
        };
        let execution =
            Execution { machine, limits: Limits::default(), witness: &witness, jobs, before: &before, stop: &|| stop };
        let numbered: Vec<_> = cells.iter().zip(0..).collect();
        let mut results = Vec::new();
        let each = |_: &Cell, result| -> Result<(), ()> {
            results.push(result);
            Ok(())
        };
        execution.cells(&numbered, each).unwrap();
        results
    }

    #[test]
    fn each_cell_has_one_result_however_many_run_at_a_time() {
        let cells: Vec<_> = (0..40).map(|n| cell("boot", &n.to_string(), Needs::NONE)).collect();
        for jobs in [1, 3, 64] {
            let results = run(&cells, jobs, false);
            let ids: BTreeSet<_> = results.iter().map(|result| &result.cell).collect();
            assert_eq!((results.len(), ids.len()), (40, 40));
        }
    }

    #[test]
    fn what_cannot_be_done_is_skipped_and_what_breaks_says_why() {
        let cells =
            [cell("boot", "x", Needs::APIC), cell("boot", "broken", Needs::NONE), cell("nothing", "x", Needs::NONE)];
        let outcomes: Vec<_> = run(&cells, 1, false).into_iter().map(|result| result.outcome).collect();
        let error = |what: &str| CellOutcome::Error(what.to_owned());
        let skip = CellOutcome::Skip("no APIC".to_owned());
        assert_eq!(outcomes, [skip, error("cannot make a VM: out of VMs"), error("this runner has no guest nothing")]);
    }

    #[test]
    fn no_destructive_cell_runs_without_its_intent() {
        let needs = Needs::DESTRUCTIVE.and(Needs::HAZARD_VGA);
        let cells = [cell("boot", "first", needs), cell("boot", "second", needs), cell("boot", "first", Needs::NONE)];
        let outcomes: Vec<_> = run(&cells, 1, false).into_iter().map(|result| result.outcome).collect();
        assert_eq!(outcomes[0], CellOutcome::Error("no room for an intent on vga-hole".to_owned()));
        assert!(outcomes[1..].iter().all(|outcome| matches!(outcome, CellOutcome::Observed(_))), "{outcomes:?}");
    }

    #[test]
    fn a_stopped_run_begins_no_cell() {
        assert_eq!(run(&[cell("boot", "x", Needs::NONE)], 1, true), []);
    }

    #[test]
    fn an_error_of_the_caller_ends_the_run() {
        let cells: Vec<_> = (0..9).map(|n| cell("boot", &n.to_string(), Needs::NONE)).collect();
        let numbered: Vec<_> = cells.iter().zip(0..).collect();
        let (jobs, witness) = (2.try_into().unwrap(), Choice::default());
        let (machine, limits, before) = (&Quick, Limits::default(), |_: &Cell, _: Hazard| Ok(()));
        let execution = Execution { machine, limits, witness: &witness, jobs, before: &before, stop: &|| false };
        assert_eq!(execution.cells(&numbered, |_, _| Err("disk full")), Err("disk full"));
    }
}
