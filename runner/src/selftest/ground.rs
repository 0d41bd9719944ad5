//! Where faults are planted: cells that run on the KVM here, and cells that were recorded elsewhere.

use super::plant::{Fault, Plant};
use crate::config::{Set, Source};
use crate::execute::chain;
use crate::guests;
use crate::host::facts::Facts;
use crate::host::{self, vm_facts};
use crate::judge::{Deviations, Judge, Judgement};
use crate::machine::kvm::{KvmMachine, Lie};
use crate::machine::{Job, Limits, Machine, Observed};
use crate::model::policy::Policies;
use crate::plan::TestRef;
use crate::plan::vm::VmConfig;
use crate::report::{Cells, family, test};
use crate::results::{CellOutcome, Run, Stream};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::io::Cursor;
use std::path::Path;

/// Cells of reference results (results/reference), with the headers of their runs: on Linux 6.12's kvm_intel in an emulated
/// VMX machine, with SPTEs and times, and on an emulated bare machine.
const RECORDED: [(&str, &[u8]); 2] = [
    ("recorded/vmx.jsonl", include_bytes!("recorded/vmx.jsonl")),
    ("recorded/bare.jsonl", include_bytes!("recorded/bare.jsonl")),
];
/// The cells in them.
const CELLS: [(&str, Ground); 3] = [
    ("memtype/pat@non-coherent-dma", Ground::Recorded("kvm_intel of Linux 6.12, emulated VMX")),
    ("memtype/plug", Ground::Recorded("kvm_intel of Linux 6.12, emulated VMX")),
    ("ept/unpaged", Ground::Recorded("a bare machine, emulated")),
];
/// Run id of what runs here.
const RUN: u64 = 0x5eed;

/// Where a cell ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ground {
    /// On the KVM of this host, just now.
    Here,
    /// On this one, whose log is in the program.
    Recorded(&'static str),
}

impl fmt::Display for Ground {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ground::Here => f.write_str("this KVM"),
            Ground::Recorded(on) => write!(f, "recorded on {on}"),
        }
    }
}

/// A cell that ran, and what is needed to judge it.
#[derive(Debug, Clone)]
struct Played {
    observed: Observed,
    run: u64,
    points: u64,
    facts: Facts,
}

/// All that faults are planted in.
#[derive(Debug)]
pub struct Grounds {
    machine: Result<KvmMachine, String>,
    facts: Facts,
    tests: Vec<TestRef>,
    policies: Vec<Source>,
    deviations: Vec<Source>,
    /// Cells that ran without a fault.
    played: BTreeMap<&'static str, Played>,
}

impl Grounds {
    /// The configurations and guests of the program, and this machine, or why there is none.
    ///
    /// # Errors
    /// What is in the program cannot be read.
    pub fn new(machine: Result<KvmMachine, String>) -> Result<Grounds, String> {
        let set = Set::load(None).map_err(|error| chain(&error))?;
        let sources = |kind| set.sources(kind).map(|(_, source)| source.clone()).collect();
        let mut grounds = Grounds {
            machine,
            facts: host::probe().facts("kvm"),
            tests: guests::tests().map_err(|error| chain(&error))?,
            policies: sources("policies"),
            deviations: sources("deviations"),
            played: BTreeMap::new(),
        };
        recorded_runs()?.iter().try_for_each(|run| grounds.record(run))?;
        Ok(grounds)
    }

    /// Where a cell runs.
    pub fn ground(cell: &str) -> Ground {
        CELLS.iter().find(|(id, _)| *id == cell).map_or(Ground::Here, |(_, ground)| *ground)
    }

    /// Takes the cells of a recorded run.
    fn record(&mut self, run: &Run) -> Result<(), String> {
        let cells = Cells::new(&run.header);
        for result in &run.results {
            let known = CELLS.iter().find(|(id, _)| *id == result.cell);
            let planned = run.header.cells.iter().find(|planned| planned.id == result.cell);
            let (Some(&(cell, _)), Some(planned), Some(id)) = (known, planned, cells.run_id(&result.cell)) else {
                return Err(format!("nothing is planted in the recorded cell {}", result.cell));
            };
            let CellOutcome::Observed(observed) = result.outcome.clone() else {
                return Err(format!("the recorded cell {cell} did not run"));
            };
            self.played.insert(cell, Played { observed, run: id, points: planned.points, facts: cells.facts(cell) });
        }
        Ok(())
    }

    /// What is thought of a cell without a fault.
    ///
    /// # Errors
    /// It cannot run here.
    pub(super) fn sound(&mut self, cell: &'static str) -> Result<Judgement, String> {
        if !self.played.contains_key(cell) {
            let guest = guests::find(family(cell)).ok_or_else(|| format!("no guest of {cell}"))?;
            let played = self.play(cell, guest.elf, None)?;
            self.played.insert(cell, played);
        }
        self.judge(cell, &self.played[cell], &self.policies, &self.deviations, None)
    }

    /// What is thought of its cell with a fault.
    ///
    /// # Errors
    /// It cannot be planted: what it changes is not there, or what it makes of it is refused.
    pub(super) fn planted(&self, fault: &Fault) -> Result<Judgement, String> {
        let cell = fault.cell;
        let elf = || guests::find(family(cell)).map(|guest| guest.elf.to_vec()).unwrap_or_default();
        let (mut policies, mut deviations, mut governs) = (self.policies.clone(), self.deviations.clone(), None);
        let (mut played, mut changed) = (self.played.get(cell).cloned().ok_or("it never ran without the fault")?, true);
        match fault.plant {
            Plant::Policies { from, to } => {
                changed = policies.iter().any(|source| source.text.contains(from));
                policies.iter_mut().for_each(|source| source.text = source.text.replace(from, to));
            }
            Plant::Governs(id) => governs = Some(id),
            Plant::Deviation(text) => {
                deviations.push(Source { name: "selftest/planted.toml".to_owned(), text: text.to_owned() });
            }
            Plant::Elf(change) => {
                let mut elf = elf();
                changed = change(&mut elf);
                played = self.play(cell, &elf, None)?;
            }
            Plant::Kvm(lie) => played = self.play(cell, &elf(), Some(lie))?,
            Plant::Log(change) => changed = change(&mut played.observed, played.run),
        }
        if !changed {
            return Err("what the fault changes is not there".to_owned());
        }
        self.judge(cell, &played, &policies, &deviations, governs)
    }

    /// Boots a guest for the test of a cell in a VM of the default configuration, under a KVM that lies if it shall.
    fn play(&self, cell: &str, elf: &[u8], lie: Option<Lie>) -> Result<Played, String> {
        let machine = self.machine.as_ref().map_err(Clone::clone)?;
        let known =
            self.tests.iter().find(|known| known.id() == test(cell)).ok_or_else(|| format!("no test {cell}"))?;
        let vm = VmConfig::default();
        if let Some(why) = machine.lacks(known.needs, &vm) {
            return Err(why);
        }
        let (needs, limits) = (known.needs, Limits::default().for_test(known.points, known.needs));
        let job = Job { elf, run: RUN, test: &known.name, needs, vm: &vm, limits, module: &[], watch: None };
        let observed = match lie {
            Some(lie) => KvmMachine::open().map_err(|why| why.to_string())?.lying(lie).run(&job),
            None => machine.run(&job),
        };
        let observed = observed.map_err(|error| chain(&error))?;
        Ok(Played { observed, run: RUN, points: known.points, facts: vm_facts(&self.facts, &vm) })
    }

    fn judge(
        &self,
        cell: &str,
        played: &Played,
        policies: &[Source],
        deviations: &[Source],
        governs: Option<&str>,
    ) -> Result<Judgement, String> {
        let policies = Policies::load(policies).map_err(|error| chain(&error))?;
        let policies = policies.asked(governs).map_err(|error| chain(&error))?;
        let names: Vec<String> = self.tests.iter().map(TestRef::id).collect();
        let deviations = Deviations::load(deviations, &names).map_err(|error| chain(&error))?;
        let Played { observed, run, points, facts } = played;
        Ok(Judge::new(&policies, &deviations).cell(test(cell), *points, observed, Some(*run), facts))
    }
}

/// The recorded runs, each with a few of its cells.
///
/// # Errors
/// They cannot be read.
pub(crate) fn recorded_runs() -> Result<Vec<Run>, String> {
    let read = |&(name, bytes): &(&str, &'static [u8])| {
        let (header, stream) = Stream::of(name.into(), Box::new(Cursor::new(bytes)))?;
        Run::of(Path::new(name), header, stream)
    };
    RECORDED.iter().map(|run| read(run).map_err(|error| chain(&error))).collect()
}
