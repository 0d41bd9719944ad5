//! Replays of a few events against a policy that the runner carries.

use super::policy::Policies;
use super::{Decision, Event, Replay};
use crate::config::Set;
use crate::host::facts::{Fact, Facts};
use wire::host::HostRecord;
use wire::outcome::{After, Fault, Outcome};
use wire::record::{Record, Start, Trap};
use wire::register::{Place, Register};
use wire::step::{MceEvent, Status, Step};

/// The facts of a KVM of 6.11 or later, with `more`.
fn facts(more: &[(&str, Fact)]) -> Facts {
    let known = [
        ("machine", Fact::Text("kvm".into())),
        ("apic-bus-cycles", Fact::Bool(true)),
        ("offers-ignore-guest-pat", Fact::Bool(false)),
        ("ignore-msrs", Fact::Bool(false)),
        ("memslots-v2", Fact::Bool(true)),
        ("mce-caps", Fact::Int(0x100_0100)),
        ("maxphyaddr", Fact::Int(40)),
    ];
    let all = known.into_iter().chain(more.iter().cloned());
    all.collect()
}

/// The points of `events` where `facts` hold that are not as predicted, in words, `?` for one without a prediction.
fn surprises(facts: &Facts, events: &[Event<'_>]) -> Vec<String> {
    let set = Set::load(None).unwrap();
    let policies = Policies::load(set.sources("policies").map(|(_, source)| source)).unwrap();
    let mut replay = Replay::new(policies.governing(facts).unwrap(), facts, true);
    let mut decisions = Vec::new();
    events.iter().for_each(|&event| replay.take(event, &mut decisions));
    decisions.iter().filter(|decision| decision.agrees() != Some(true)).map(words).collect()
}

fn words(decision: &Decision<'_>) -> String {
    let effect = |effect| super::EffectOf(effect, decision.action);
    let predicted = decision.predicted.map(|prediction| effect(prediction.expected).to_string());
    let predicted = predicted.unwrap_or_else(|why| format!("? {why}"));
    format!("{}: {}, not {predicted}", decision.action, effect(decision.seen))
}

fn step(step: Step, status: Status) -> HostRecord {
    HostRecord::Step { step, status, value: 0 }
}

/// VAL, UC, EN and PCC in bank 1, with MCIP.
fn fatal() -> HostRecord {
    let event = MceEvent { bank: 1, status: 0xb200_0000_0000_0001, addr: 0, misc: 0, mcg_status: 5 };
    step(Step::InjectMce { cpu: 0, event }, Status::Done)
}

/// What comes before machine checks: vCPU 0 is created, its banks are set up and CR4 is `cr4`.
fn with_banks<'a>(cr4: u64, events: &[Event<'a>]) -> Vec<String> {
    let at = |register| Place { cpu: 0, register };
    let created = HostRecord::Reset { at: at(Register::Cr0), value: 0x6000_0010 };
    let set_up = step(Step::SetupMce { cpu: 0, mcg_cap: 0x100_0104 }, Status::Done);
    let cr4 = Event::Write { at: at(Register::Cr4), value: cr4, outcome: Outcome::ACCEPTED };
    let before = [Event::Host(&created), Event::Begin, Event::Host(&set_up), cr4];
    surprises(&facts(&[]), &[&before, events, &[Event::End]].concat())
}

/// #MC upon code at `cpl`.
fn taken(cpl: u8) -> Record {
    Record::Trap { cpu: 0, trap: Trap { vector: 18, error: 0, cpl } }
}

/// vCPU 0 rings the doorbell at CPL 0.
const RING: Record = Record::Ring { cpu: 0, cpl: 0 };
/// The handler's WRMSR that clears MCG_STATUS.MCIP.
const HANDLED: Event<'_> = Event::Write { at: Place::msr(0x17a), value: 0, outcome: Outcome::ACCEPTED };

#[test]
fn a_machine_check_is_missed_before_the_next_too() {
    let fatal = fatal();
    let (inject, taken) = (Event::Host(&fatal), taken(0));
    let (ring, taken) = (Event::Guest(&RING), Event::Guest(&taken));
    assert_eq!(with_banks(0x660, &[ring, inject, taken, HANDLED, ring, inject, taken]), [""; 0]);
    let missed = "vCPU 0: machine check: none, not #MC at CPL 0";
    let log = [ring, inject, HANDLED, ring, inject, HANDLED, ring, inject, taken];
    assert_eq!(with_banks(0x660, &log), [missed; 2]);
    let start = step(Step::StartCpu { cpu: 0, entry: 0, stack: 0, argument: 0 }, Status::Done);
    assert_eq!(with_banks(0x660, &[ring, inject, Event::Host(&start)]), [missed]);
    // CR4.MCE is clear: each shuts down.
    assert_eq!(with_banks(0x620, &[inject, inject]), ["triple fault: none, not happened"; 2]);
}

#[test]
fn a_machine_check_comes_upon_the_code_that_rang_the_doorbell() {
    let fatal = fatal();
    let judged = |rings: &[Record], cpl| {
        let (inject, taken) = (Event::Host(&fatal), taken(cpl));
        let rings: Vec<_> = rings.iter().map(Event::Guest).collect();
        with_banks(0x660, &[&rings[..], &[inject, Event::Guest(&taken)]].concat())
    };
    for (cpl, other) in [(0, 3), (3, 0)] {
        let ring = Record::Ring { cpu: 0, cpl };
        assert_eq!(judged(std::slice::from_ref(&ring), cpl), [""; 0]);
        let wrong = format!("vCPU 0: machine check: #MC at CPL {other}, not #MC at CPL {cpl}");
        assert_eq!(judged(&[ring], other), [wrong]);
    }
    let untold = "vCPU 0: machine check: #MC at CPL 3, not ? the guest did not say at which CPL it rang the doorbell";
    assert_eq!(judged(&[], 3), [untold]);
    assert_eq!(judged(&[Record::Ring { cpu: 1, cpl: 3 }], 3), [untold]);
}

#[test]
fn before_6_11_a_mask_that_nobody_wrote_is_zero_whatever_maxphyaddr_becomes() {
    let mask = Place { cpu: 1, register: Register::Msr(0x201) };
    let read = Step::GetMsr { cpu: 1, index: 0x201 };
    let log = [
        HostRecord::Reset { at: mask, value: 0 },
        step(Step::SetMaxphyaddr { cpu: 1, bits: 46 }, Status::Done),
        step(read, Status::Done),
    ];
    assert_eq!(surprises(&facts(&[("apic-bus-cycles", Fact::Bool(false))]), &log.each_ref().map(Event::Host)), [""; 0]);
}

#[test]
fn what_ignore_msrs_decides_is_not_predicted_where_it_is_not_known() {
    let unknown = |more: &[(&str, Fact)]| {
        let mut facts = facts(more);
        facts.forget("ignore-msrs");
        facts
    };
    let at = Place::msr(0x270);
    let listed = step(Step::ListsMsr { index: 0x270 }, Status::Done);
    let log = [
        Event::Read { at: Place::msr(0xfe), outcome: Ok(0x508) },
        Event::Write { at: Place::msr(0xfe), value: 0x508, outcome: Outcome::REFUSED },
        Event::Read { at, outcome: Err(Fault::GP0) },
        Event::Write { at, value: 0, outcome: Outcome { fault: Some(Fault::GP0), after: After::Unreadable(13) } },
        Event::Host(&listed),
    ];
    assert_eq!(surprises(&facts(&[]), &log), [""; 0]);
    let open = surprises(&unknown(&[]), &log);
    assert!(open.len() == 3 && open.iter().all(|point| point.ends_with("predicts nothing of it")), "{open:?}");
    let old = ("apic-bus-cycles", Fact::Bool(false));
    assert_eq!(surprises(&unknown(std::slice::from_ref(&old)), &log), open);
    // That of 6.5 cannot be told from earlier ones, which refuse the addresses beside the PAT in any case.
    let old = [old, ("memslots-v2", Fact::Bool(false))];
    assert_eq!(surprises(&unknown(&old), &log), open);
    assert_eq!(surprises(&facts(&old), &log), [""; 0]);
}

#[test]
fn a_write_to_mcg_cap_is_refused_unless_unknown_msrs_are_ignored() {
    let write = [Event::Write { at: Place::msr(0x179), value: 0, outcome: Outcome::REFUSED }];
    let created = HostRecord::Reset { at: Place::boot(Register::Cr0), value: 0x6000_0010 };
    let log = [&[Event::Host(&created)], &write[..]].concat();
    assert_eq!(surprises(&facts(&[]), &log), [""; 0]);
    let open = surprises(&facts(&[("ignore-msrs", Fact::Bool(true))]), &log);
    assert!(open.len() == 1 && open[0].contains("? kvm.ignore_msrs is on"), "{open:?}");
}

#[test]
fn what_init_leaves_in_cr0_is_compared_in_every_bit() {
    let at = Place { cpu: 1, register: Register::Cr0 };
    let read = |value| Event::Read { at, outcome: Ok(value) };
    let created = HostRecord::Reset { at, value: 0x6000_0010 };
    let (init, up) = (Record::Init { cpu: 1 }, Record::Up { cpu: 1, how: Start::Sipi });
    let (created, init, up) = (Event::Host(&created), Event::Guest(&init), Event::Guest(&up));
    let found = |events: &[Event<'_>]| surprises(&facts(&[]), events);
    assert_eq!(found(&[created, init, read(0x6000_0010), up, read(0xe001_0033)]), [""; 0]);
    let wrong = "vCPU 1: MOV from CR0: 0xe0010033, not 0x60000010";
    assert_eq!(found(&[created, init, read(0xe001_0033), up]), [wrong]);
    // Of a vCPU of which nothing is known, the bits that INIT keeps may be any.
    assert_eq!(found(&[init, read(0x4000_0010), up, read(0xc001_0033)]), [""; 0]);
    assert_eq!(found(&[init, read(0xc000_0010)]), ["vCPU 1: MOV from CR0: 0xc0000010, not 0x40000010"]);
    // In 64-bit mode CD and NW are those that INIT left, whether or not the real mode told.
    let cleared = "vCPU 1: MOV from CR0: 0x80010033, not 0xe0010033";
    assert_eq!(found(&[created, init, up, read(0x8001_0033)]), [cleared]);
}
