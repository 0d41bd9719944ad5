//! Running a history: a VM of its own, and what it showed.

use super::cause::{Finding, findings};
use super::history::History;
use crate::execute::chain;
use crate::host::facts::Facts;
use crate::host::vm_facts;
use crate::judge::Judge;
use crate::machine::{Job, Limits, Machine, Observed};
use crate::plan::vm::VmConfig;
use crate::witness::{Choice, Watch, Watching};
use std::collections::BTreeMap;
use wire::needs::Needs;

/// What came of a history.
#[derive(Debug, Clone)]
pub struct Ran {
    /// What guest, VMM and witnesses said.
    pub observed: Observed,
    /// The run id that the guest put into its report.
    pub run: u64,
    /// What it showed.
    pub findings: Vec<Finding>,
}

/// Something that runs histories.
pub trait Runner {
    /// Runs one, whose guest reports with this run id. With `warn_again` the kernel gives warnings of once a boot again.
    ///
    /// # Errors
    /// Host or harness is broken, in words.
    fn run(&mut self, history: &History, run: u64, warn_again: bool) -> Result<Ran, String>;
}

/// The embedded VMM with all that it takes to judge.
#[derive(Clone, Copy)]
pub struct Machinery<'a> {
    /// The machine.
    pub machine: &'a dyn Machine,
    /// Who watches.
    pub witness: &'a Choice,
    /// Who judges.
    pub judge: Judge<'a>,
    /// The guest's ELF file.
    pub elf: &'a [u8],
    /// What its test needs, besides vCPUs.
    pub needs: Needs,
    /// VM configurations by id.
    pub vms: &'a BTreeMap<String, VmConfig>,
    /// What was probed of the host.
    pub facts: &'a Facts,
    /// When a guest is given up.
    pub limits: Limits,
}

impl Runner for Machinery<'_> {
    fn run(&mut self, history: &History, run: u64, warn_again: bool) -> Result<Ran, String> {
        let vm = self.vms.get(&history.vm).ok_or_else(|| format!("there is no VM configuration {}", history.vm))?;
        let module = history.module();
        let watch = self.witness.witnesses.watch(warn_again);
        let job = Job {
            elf: self.elf,
            run,
            test: "history",
            module: &module,
            needs: self.needs.and(Needs::cpus(history.cpus)),
            vm,
            limits: self.limits.for_test(history.points(), self.needs),
            watch: watch.as_ref().map(|watch| watch as &dyn Watching),
        };
        let observed = self.machine.run(&job);
        let witness = watch.map(Watch::end).unwrap_or_default();
        let observed = Observed { witness, ..observed.map_err(|error| chain(&error))? };
        let facts = vm_facts(self.facts, vm);
        let findings =
            findings(&self.judge, history.points(), &observed, run, &facts).map_err(|error| chain(&error))?;
        Ok(Ran { observed, run, findings })
    }
}
