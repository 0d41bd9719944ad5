//! Logs as guests and VMMs write them, and judging them by the policies that the runner carries.

use crate::config::{Set, Source};
use crate::host::facts::{Fact, Facts};
use crate::judge::{Deviations, Judge, Judgement};
use crate::machine::{End, Line, Observed};
use crate::model::policy::Policies;
use std::cell::RefCell;
use std::rc::Rc;
use wire::frame::{Sink, Writer};
use wire::host::HostRecord;
use wire::layout::{EXIT_DONE, MTRR_DEF_TYPE, MTRR_PHYSBASE0, PAT};
use wire::register::{Place, Register};
use wire::step::{Status, Step};

/// Run id of all logs.
pub const RUN: u64 = 0x5eed;
pub const DONE: End = End::Exit(EXIT_DONE);

/// A log that grows.
#[derive(Clone, Default)]
pub struct Log(Rc<RefCell<(Vec<Line>, Vec<u8>)>>);

impl Sink for Log {
    fn put(&mut self, byte: u8) {
        let (lines, rest) = &mut *self.0.borrow_mut();
        match byte {
            b'\n' => lines.push(Line::Guest(String::from_utf8(std::mem::take(rest)).unwrap())),
            _ => rest.push(byte),
        }
    }
}

impl Log {
    pub fn host(&self, record: HostRecord) {
        self.0.borrow_mut().0.push(Line::Host(record));
    }

    pub fn step(&self, step: Step, status: Status) {
        self.host(HostRecord::Step { step, status, value: 0 });
    }

    pub fn reply(&self, step: Step, value: u64) {
        self.host(HostRecord::Step { step, status: Status::Done, value });
    }

    /// The creation of a vCPU as KVM does it.
    pub fn created(&self, cpu: u8) {
        let reset = |register, value| self.host(HostRecord::Reset { at: Place { cpu, register }, value });
        reset(Register::Cr0, 0x6000_0010);
        reset(Register::Msr(PAT), 0x0007_0406_0007_0406);
        for index in wire::layout::FIXED_MTRRS.into_iter().chain(MTRR_PHYSBASE0..0x210).chain([MTRR_DEF_TYPE]) {
            reset(Register::Msr(index), 0);
        }
    }

    pub fn lines(&self) -> Vec<Line> {
        self.0.borrow().0.clone()
    }
}

/// A run of `family/test` that ends as `end`: vCPU 0 is created, then `guest` writes its report. Only a guest that ends
/// by itself ends its report.
pub fn run_to(end: End, guest: impl FnOnce(&mut Writer<Log>, &Log)) -> Observed {
    let log = Log::default();
    log.created(0);
    let mut writer = Writer::begin(log.clone(), RUN, "family", "test");
    guest(&mut writer, &log);
    if end == DONE {
        writer.finish();
    }
    Observed { log: log.lines(), end, micros: 0, witness: Default::default() }
}

/// The same with a good end.
pub fn run(guest: impl FnOnce(&mut Writer<Log>, &Log)) -> Observed {
    run_to(DONE, guest)
}

/// The facts of a KVM of 6.11 or later with MAXPHYADDR 40.
pub fn facts() -> Facts {
    with(
        &Facts::default(),
        &[
            ("machine", Fact::Text("kvm".into())),
            ("kvm-vendor", Fact::Text("kvm_intel".into())),
            ("apic-bus-cycles", Fact::Bool(true)),
            ("offers-ignore-guest-pat", Fact::Bool(false)),
            ("ignore-msrs", Fact::Bool(false)),
            ("memslots-v2", Fact::Bool(true)),
            ("guest-memfd", Fact::Bool(false)),
            ("readonly-memslots", Fact::Bool(true)),
            ("mce-caps", Fact::Int(0x100_0100)),
            ("maxphyaddr", Fact::Int(40)),
            ("cpuid-mtrr", Fact::Bool(true)),
        ],
    )
}

pub fn with(facts: &Facts, more: &[(&str, Fact)]) -> Facts {
    let mut facts = facts.clone();
    facts.extend(more.iter().cloned());
    facts
}

/// The policies that the runner carries, with `change` made in the text of one of them.
pub fn policies_with(id: &str, change: impl Fn(&str) -> String) -> Policies {
    let set = Set::load(None).unwrap();
    let sources: Vec<Source> = set
        .sources("policies")
        .map(|(found, source)| {
            let text = if found == id { change(&source.text) } else { source.text.clone() };
            assert!(found != id || text != source.text, "the change changes nothing");
            Source { name: source.name.clone(), text }
        })
        .collect();
    Policies::load(&sources).unwrap_or_else(|error| panic!("{error}"))
}

pub fn policies() -> Policies {
    let set = Set::load(None).unwrap();
    Policies::load(set.sources("policies").map(|(_, source)| source)).unwrap_or_else(|error| panic!("{error}"))
}

pub fn deviations(text: &str) -> Deviations {
    let source = Source { name: "configs/deviations/test.toml".into(), text: text.into() };
    Deviations::load([&source], &["family/test".into(), "other/test".into()]).unwrap_or_else(|error| panic!("{error}"))
}

/// Judges by the policies that the runner carries, without deviations.
pub fn judge(observed: &Observed) -> Judgement {
    judge_by(&policies(), &Deviations::none(), observed, &facts())
}

pub fn judge_by(policies: &Policies, deviations: &Deviations, observed: &Observed, facts: &Facts) -> Judgement {
    // How many points there must be has a test of its own.
    Judge::new(policies, deviations).cell("family/test", 0, observed, Some(RUN), facts)
}
