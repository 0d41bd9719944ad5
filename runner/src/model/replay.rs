//! Replays a run's events against one policy and keeps the state of the VM up with what was seen.

use super::event::Event;
use super::leaf_rules::LeafRules;
use super::leaves::Leaves;
use super::mce;
use super::mmio;
use super::point::{Action, Decision, Effect, Exit, Prediction, Rule, Why};
use super::policy::{ARCHITECTURE, Policy};
use super::state::{Due, START_CR4, State};
use crate::host::facts::Facts;
use wire::host::HostRecord;
use wire::layout::{START_CR0, in_window};
use wire::record::{CpuidLeaf, Record, Start, Trap};
use wire::register::{Place, Register};
use wire::step::{Status, Step};

/// Takes the points that an event decides.
pub(super) trait Decide<'p>: FnMut(Action, Effect, Result<Prediction<'p>, Why>) {}
impl<'p, F: FnMut(Action, Effect, Result<Prediction<'p>, Why>)> Decide<'p> for F {}

/// One policy's view of a run.
#[derive(Debug, Clone)]
pub struct Replay<'p> {
    pub(super) policy: &'p Policy,
    /// What holds of host and VM. A step that disables quirks changes it.
    pub(super) facts: Facts,
    /// What follows from both for leaf SPTEs.
    pub(super) leaf_rules: LeafRules<'p>,
    pub(super) state: State,
    pub(super) leaves: Leaves<'p>,
}

impl<'p> Replay<'p> {
    /// Starts with a VM of which nothing is known but the facts. Where no witness sees SPTEs, leaves are taken to be as
    /// the policy says.
    pub fn new(policy: &'p Policy, facts: &Facts, sees_sptes: bool) -> Self {
        let maxphyaddr = facts.int("maxphyaddr").and_then(|bits| bits.try_into().ok());
        let mut state = State::new(maxphyaddr);
        state.plugged = facts.is("non-coherent-dma");
        let leaf_rules = LeafRules::of(policy, facts);
        Replay { policy, facts: facts.clone(), leaf_rules, state, leaves: Leaves::new(sees_sptes) }
    }

    /// Whether the policy is the architecture itself.
    pub fn by_architecture(&self) -> bool {
        self.policy.id == ARCHITECTURE
    }

    /// What was probed of the host and is set of the VM by now: steps may disable quirks.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Takes the next event and adds the points that it decides.
    pub fn take(&mut self, event: Event<'_>, decisions: &mut Vec<Decision<'p>>) {
        let mut decide = |action, seen, predicted| decisions.push(Decision { action, seen, predicted });
        match event {
            Event::Begin => self.begin(),
            Event::Host(&HostRecord::Reset { at, value }) => {
                decide(Action::Reset(at), Effect::Value(value), self.reset(at, value));
            }
            Event::Host(&HostRecord::Step { step, status, value }) => {
                if let Step::InjectMce { cpu, .. } | Step::StartCpu { cpu, .. } = step {
                    self.settle(cpu, false, &mut decide);
                }
                if step == Step::Mark {
                    self.mark(&mut decide);
                }
                let predicted = self.step(step, status, value);
                decide(Action::Step(step), Effect::Reply { status, value }, predicted);
            }
            // It tells nothing of what it does to memory.
            Event::Host(HostRecord::Kernel { .. }) => self.state.foreign = true,
            Event::Host(HostRecord::Spte { .. } | HostRecord::MmioRead { .. } | HostRecord::MmioWrite { .. })
                if self.state.foreign => {}
            Event::Host(&HostRecord::MmioRead { width, gpa, value, .. }) => {
                self.state.exits.push_back(Exit { write: false, width, gpa, value });
            }
            Event::Host(&HostRecord::MmioWrite { width, gpa, value, .. }) => {
                self.state.exits.push_back(Exit { write: true, width, gpa, value });
            }
            Event::Host(&HostRecord::Spte { gfn, level, old, new }) => self.spte(gfn, level, old, new, &mut decide),
            // What was zapped is in the SPTEs.
            Event::Host(HostRecord::Zap { .. }) => {}
            Event::Write { at, value, outcome } => {
                let (seen, predicted) = self.write(at, value, outcome);
                decide(Action::Write(at, value), seen, predicted);
            }
            Event::Read { at, outcome } => {
                let (seen, predicted) = self.read(at, outcome);
                decide(Action::Read(at), seen, predicted);
            }
            Event::Guest(record) => self.guest(record, &mut decide),
            Event::Shutdown => self.finish(true, &mut decide),
            Event::End => self.finish(false, &mut decide),
        }
    }

    fn guest(&mut self, record: &Record, decide: &mut impl Decide<'p>) {
        match *record {
            Record::Exec { insn, cpl, fault } => {
                let seen = fault.map_or(Effect::Ran, Effect::Fault);
                let row =
                    self.policy.instructions.iter().find(|row| row.instructions.iter().any(|name| name.0 == insn));
                let predicted = row.ok_or(Why::NoRow).and_then(|row| {
                    let (expected, rule) = row.outcome(cpl, &self.state.cpuid)?;
                    Ok(Prediction { expected, row: insn.name(), rule, source: &row.source })
                });
                decide(Action::Exec { insn, cpl }, seen, predicted);
            }
            Record::Access(access) => {
                self.touch(&access);
                let hazard = self.state.slots.at(access.gpa).is_some_and(|backing| backing.hazard);
                let (seen, expected, rule) = mmio::access(&access, &mut self.state.slots, &mut self.state.exits);
                let predicted = if !self.policy.host {
                    Err(Why::NotHost)
                } else if !in_window(access.gpa, access.width.into()) {
                    Err(Why::Window)
                } else if hazard {
                    Err(Why::Hazard)
                } else {
                    Ok(Prediction { expected, row: "test window", rule, source: mmio::SOURCE })
                };
                decide(Action::Access(access), seen, predicted);
            }
            Record::Ring { cpu, cpl } => self.state.rung = Some((cpu, cpl)),
            Record::Trap { cpu, trap } => {
                let (action, predicted) = self.trap(cpu, trap);
                decide(action, Effect::Trap(trap), predicted);
            }
            Record::Cpuid(leaf) => self.cpuid(leaf, decide),
            Record::Init { cpu } => self.init(cpu),
            Record::Up { cpu, how } => self.up(cpu, how),
            // The judge ends a cell on these; series and reads come as events of their own.
            Record::Dead { .. } | Record::Skip { .. } | Record::Panic { .. } => {}
            Record::Write { .. } | Record::Writes { .. } | Record::Reads { .. } => {}
            Record::Reference(timed) => self.reference(&timed),
            Record::Aliased(it) => self.aliased(it, decide),
            Record::Ordered(it) => self.ordered(it, decide),
            Record::Unreported { gpa, bytes } => self.state.slots.hide(gpa, bytes),
            Record::Timed(timed) => {
                let (seen, predicted) = self.timed(&timed);
                decide(Action::Timed(timed), seen, predicted);
            }
        }
    }

    /// The vCPU that boots runs. The VMM that reported its creation started it in 64-bit mode.
    fn begin(&mut self) {
        let boot = self.state.cpu(0);
        boot.long_mode = true;
        if boot.fresh {
            (boot.cr0, boot.cr4) = (Some(START_CR0), Some(START_CR4));
        }
    }

    fn reset(&mut self, at: Place, value: u64) -> Result<Prediction<'p>, Why> {
        self.state.cpu(at.cpu).fresh = true;
        let by = |row, source, reset| Ok(Prediction { expected: Effect::Value(reset), row, rule: Rule::Reset, source });
        match at.register {
            Register::Msr(index) => {
                // As it is: what a write adds to what is stored, creation does not.
                self.state.cpu(at.cpu).msrs.set(index, value);
                let row = self.row(index).ok_or(Why::NoRow)?;
                by(&row.name, &row.source, row.reset.ok_or(Why::NoRow)?)
            }
            Register::Cr0 => {
                self.set_cr0(at.cpu, value);
                let rules = self.policy.cr0.as_ref().ok_or(Why::NoRow)?;
                by("CR0", &rules.source, rules.reset)
            }
            _ => Err(Why::NoRow),
        }
    }

    fn step(&mut self, step: Step, status: Status, value: u64) -> Result<Prediction<'p>, Why> {
        let predicted = match status {
            Status::Invalid => Err(Why::Vmm),
            Status::NoMemory => Err(Why::NoMemory),
            _ if !self.policy.host => Err(Why::NotHost),
            _ => self.predict_step(step),
        };
        if status == Status::Done {
            self.step_done(step, value);
        }
        self.state.rung = None;
        predicted
    }

    fn trap(&mut self, cpu: u8, trap: Trap) -> (Action, Result<Prediction<'p>, Why>) {
        if trap.vector != mce::VECTOR {
            return (Action::Trap { cpu }, Err(Why::NoRow));
        }
        let by = |rule, expected| Ok(Prediction { expected, row: "#MC", rule, source: mce::INJECT_SOURCE });
        let due = std::mem::take(&mut self.state.cpu(cpu).due);
        let predicted = match due {
            _ if self.policy.mce.is_none() => Err(Why::NoRow),
            Due::MachineCheck { cpl } => machine_check(cpl),
            Due::TripleFault => by(Rule::MceTripleFault, Effect::Nothing),
            Due::Nothing => by(Rule::NoMachineCheck, Effect::Nothing),
            Due::Either => Err(Why::MceState),
        };
        (Action::MachineCheck { cpu }, predicted)
    }

    fn cpuid(&mut self, leaf: CpuidLeaf, decide: &mut impl Decide<'p>) {
        let CpuidLeaf { leaf, subleaf, registers } = leaf;
        self.state.cpuid.insert((leaf, subleaf), registers);
        let (seen, wanted) = match leaf {
            1 => {
                let fact = self.facts.bool("cpuid-mtrr").map(u64::from);
                (u64::from(registers[3] >> 12 & 1), fact)
            }
            0x8000_0008 => {
                let bits = registers[0] as u8;
                self.state.cpu(0).maxphyaddr = Some(bits);
                (bits.into(), self.facts.int("maxphyaddr"))
            }
            _ => return,
        };
        if let Some(wanted) = wanted {
            let (row, source) = ("CPUID", "the VM configuration");
            let expected = Effect::Value(wanted);
            let predicted = Ok(Prediction { expected, row, rule: Rule::VmConfig, source });
            decide(Action::Cpuid { leaf, subleaf }, Effect::Value(seen), predicted);
        }
    }

    fn init(&mut self, cpu: u8) {
        let rules = self.policy.cr0.as_ref();
        let cpu = self.state.cpu(cpu);
        cpu.cr0 = cpu.cr0.and_then(|before| rules.map(|rules| rules.after_init(before)));
        (cpu.cr4, cpu.long_mode, cpu.after_init) = (Some(0), false, true);
    }

    /// A vCPU came up. Of CR0 its trampoline keeps what it finds, and it does not report what it sets.
    fn up(&mut self, cpu: u8, how: Start) {
        let cpu = self.state.cpu(cpu);
        if how == Start::Sipi {
            (cpu.cr0, cpu.cr4) = (cpu.cr0.map(|found| found | START_CR0), Some(START_CR4));
        }
        (cpu.long_mode, cpu.after_init) = (true, false);
    }

    /// Decides what is still due on a vCPU when the VM ends or the vCPU is given something new: it did not show, unless
    /// it is the triple fault that ended the VM.
    fn settle(&mut self, cpu: u8, shutdown: bool, decide: &mut impl Decide<'p>) {
        let by = |rule, expected| Ok(Prediction { expected, row: "#MC", rule, source: mce::INJECT_SOURCE });
        let happened = if shutdown { Effect::Happened } else { Effect::Nothing };
        let due = std::mem::take(&mut self.state.cpu(cpu).due);
        match due {
            Due::Nothing => {}
            Due::TripleFault => {
                decide(Action::TripleFault, happened, by(Rule::MceTripleFault, Effect::Happened));
            }
            Due::MachineCheck { cpl } => decide(Action::MachineCheck { cpu }, Effect::Nothing, machine_check(cpl)),
            Due::Either => decide(Action::TripleFault, happened, Err(Why::MceState)),
        }
    }

    fn finish(&mut self, shutdown: bool, decide: &mut impl Decide<'p>) {
        for cpu in self.state.cpus() {
            self.settle(cpu, shutdown, decide);
        }
        self.no_more_marks(decide);
        for exit in self.state.exits.drain(..) {
            let predicted = if self.policy.host {
                let (expected, row, rule, source) = (Effect::Nothing, "test window", Rule::OneToOne, mmio::SOURCE);
                Ok(Prediction { expected, row, rule, source })
            } else {
                Err(Why::NotHost)
            };
            decide(Action::StrayExit(exit), Effect::Happened, predicted);
        }
    }
}

/// An injected #MC upon code at `cpl`.
fn machine_check<'p>(cpl: Option<u8>) -> Result<Prediction<'p>, Why> {
    let expected = Effect::Trap(Trap { vector: mce::VECTOR, error: 0, cpl: cpl.ok_or(Why::Cpl)? });
    Ok(Prediction { expected, row: "#MC", rule: Rule::MceDelivered, source: mce::INJECT_SOURCE })
}
