//! What a history showed, named by cause: differences from KVM's policy, known or not, and departures from the architecture
//! that the policy states.

use super::history::TEST;
use crate::host::facts::Facts;
use crate::judge::{self, Deviation, Judge};
use crate::machine::Observed;
use crate::model::leaf::LeafType;
use crate::model::policy::PolicyError;
use crate::model::{Action, Decision, Effect, EffectOf, Event, Prediction, Replay, Rule};
use std::collections::BTreeMap;
use std::fmt;
use wire::host::HostRecord;
use wire::memtype::EptType;
use wire::record::Record;
use wire::step::{Status, Step};

/// What kind of thing it is. The worst comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// It is not as KVM's policy says, and nobody knows why.
    Unknown,
    /// It is not as KVM's policy says, and a known deviation explains it.
    Known,
    /// It is as KVM's policy says, and not as the architecture has it, or not as it would be if it were new.
    Departure,
}

/// Why histories show something: what they have in common that show it for the same reason.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Cause {
    /// Its kind.
    pub kind: Kind,
    /// Of lower-case letters, digits and `-`: the id of the deviation, or made of what was expected and seen.
    pub id: String,
}

/// One thing that a history showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Why.
    pub cause: Cause,
    /// What was done, seen and expected.
    pub words: String,
    /// The kernel's log said it, perhaps once a boot.
    pub logged: bool,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Unknown => "unknown difference",
            Kind::Known => "known deviation",
            Kind::Departure => "departure from the architecture",
        })
    }
}

impl Cause {
    /// Of that kind, named by these words.
    pub fn new(kind: Kind, words: &str) -> Cause {
        let mut id = String::new();
        for c in words.chars().flat_map(char::to_lowercase) {
            match c {
                'a'..='z' | '0'..='9' => id.push(c),
                _ if id.ends_with('-') || id.is_empty() => {}
                _ => id.push('-'),
            }
        }
        let id: String = id.chars().take(90).collect();
        Cause { kind, id: id.trim_end_matches('-').to_owned() }
    }
}

/// All that was observed of a history shows, each cause once.
///
/// # Errors
/// No policy governs.
pub fn findings(
    judge: &Judge<'_>,
    points: u64,
    observed: &Observed,
    run: u64,
    facts: &Facts,
) -> Result<Vec<Finding>, PolicyError> {
    let applying = judge.applying(TEST, facts);
    // What the witness of SPTEs missed may be what explains the rest.
    let mut walk = Walk { applying: &applying, blind: !observed.witness.gaps.is_empty(), ..Walk::default() };
    let mut whole = false;
    judge.replay(TEST, observed, Some(run), facts, |replay, event, decisions, others| {
        whole |= matches!(event, Event::End);
        walk.take(replay, event, decisions, others);
    })?;
    let log = judge::findings(&observed.witness, &applying);
    let mut logged = BTreeMap::new();
    for line in log.bare {
        let cause = Cause::new(Kind::Unknown, &format!("kernel log {}", without_digits(&line)));
        logged.entry(cause).or_insert(format!("the kernel's log: {line}"));
    }
    for id in log.shown {
        let cause = Cause { kind: Kind::Known, id: id.to_owned() };
        logged.entry(cause).or_insert_with(|| "the kernel's log has its warning".to_owned());
    }
    // A report that ends well has been replayed to its end; what else there is to say of one, the judge knows.
    if !whole || observed.end != crate::machine::End::Exit(wire::layout::EXIT_DONE) {
        let judgement = judge.cell(TEST, points, observed, Some(run), facts);
        let what = format!("{} {}", judgement.verdict, without_digits(&judgement.reason));
        walk.push(Kind::Unknown, &what, format!("{}: {}", judgement.verdict, judgement.reason));
    }
    let finding = |logged| move |(cause, words)| Finding { cause, words, logged };
    Ok(walk.found.into_iter().map(finding(false)).chain(logged.into_iter().map(finding(true))).collect())
}

/// Numbers differ from history to history.
fn without_digits(text: &str) -> String {
    let words = text.split_whitespace().filter(|word| !word.contains(|c: char| c.is_ascii_digit()));
    words.collect::<Vec<_>>().join(" ")
}

/// What decided about a leaf when it was made.
#[derive(Debug, Clone, Copy)]
struct Made {
    cpu: u8,
    plugged: bool,
    quirks: Option<u64>,
    cd: Option<bool>,
    /// What the policy predicted.
    expected: Option<Effect>,
    /// A device came or went since.
    since: bool,
}

/// A walk through a log.
#[derive(Default)]
struct Walk<'a> {
    applying: &'a [&'a Deviation],
    blind: bool,
    /// The vCPU that accessed memory last.
    cpu: u8,
    /// Leaves by address and level.
    made: BTreeMap<(u64, u8), Made>,
    found: BTreeMap<Cause, String>,
}

impl Walk<'_> {
    fn push(&mut self, kind: Kind, name: &str, words: String) {
        self.found.entry(Cause::new(kind, name)).or_insert(words);
    }

    fn known(&mut self, id: &str, words: impl FnOnce() -> String) {
        self.found.entry(Cause { kind: Kind::Known, id: id.to_owned() }).or_insert_with(words);
    }

    fn take(&mut self, replay: &Replay<'_>, event: &Event<'_>, decisions: &[Decision<'_>], others: &[Decision<'_>]) {
        match event {
            Event::Guest(Record::Access(access)) => self.cpu = access.cpu,
            Event::Host(HostRecord::Step { step: Step::PlugDma | Step::UnplugDma, status: Status::Done, .. }) => {
                self.made.values_mut().for_each(|made| made.since = true);
            }
            _ => {}
        }
        for decision in decisions {
            let of_sptes = matches!(decision.action, Action::Leaf { .. } | Action::Held { .. } | Action::Zap(_));
            if of_sptes && self.blind {
                continue;
            }
            if let (Action::Leaf { gpa, level }, Effect::Leaf(_)) = (decision.action, decision.seen) {
                let (plugged, quirks, cd) = replay.switches(self.cpu);
                let expected = decision.predicted.ok().map(|by| by.expected);
                self.made.insert((gpa, level), Made { cpu: self.cpu, plugged, quirks, cd, expected, since: false });
            }
            match (decision.predicted, decision.agrees()) {
                (Ok(by), Some(false)) => self.differs(decision, by),
                (Ok(_), Some(true)) if matches!(decision.action, Action::Held { .. }) => self.held(replay, decision),
                (Ok(by), Some(true)) => self.departs(decision, by, others),
                _ => {}
            }
        }
    }

    /// It is not as the policy says.
    fn differs(&mut self, decision: &Decision<'_>, by: Prediction<'_>) {
        let Decision { action, seen, .. } = *decision;
        let words =
            || format!("{action}: {}, where {} is predicted", EffectOf(seen, action), EffectOf(by.expected, action));
        match self.applying.iter().find(|deviation| deviation.excuses(decision)) {
            Some(deviation) => self.known(deviation.id(), words),
            None => {
                let name = format!("{} {} {}", kind(action), by.row, contrast(action, by.expected, seen));
                self.push(Kind::Unknown, &name, words());
            }
        }
    }

    /// It is as the policy says: what does the architecture say?
    fn departs(&mut self, decision: &Decision<'_>, by: Prediction<'_>, others: &[Decision<'_>]) {
        let Decision { action, seen, .. } = *decision;
        let other = others.iter().find(|other| other.action == action && other.agrees() == Some(false));
        if let Some(Ok(architecture)) = other.map(|other| other.predicted) {
            let (seen, wanted) = (EffectOf(seen, action), EffectOf(architecture.expected, action));
            let words = format!("{action}: {seen}, as `{}` has it, where the architecture gives {wanted}", by.row);
            self.push(Kind::Departure, &format!("{} {}", kind(action), by.row), words);
        }
    }

    /// A leaf from before was used: would it be the same if it were new?
    fn held(&mut self, replay: &Replay<'_>, decision: &Decision<'_>) {
        let (Action::Held { gpa, level }, Effect::Leaf(leaf)) = (decision.action, decision.seen) else { return };
        let fresh = |cpu| match replay.fresh(gpa, level, cpu) {
            // What KVM's own lookup would give again is no stale leaf, but a known deviation where it is made.
            Ok(Prediction { rule: Rule::GuestMtrr { kvm: Some((memtype, _)), .. }, .. }) => {
                Some(LeafType::Ept(EptType { memtype, ignore_pat: false }))
            }
            Ok(Prediction { expected: Effect::Leaf(leaf), .. }) => Some(leaf),
            _ => None,
        };
        let at = gpa & !((1 << (12 + 9 * (u32::from(level.clamp(1, 3)) - 1))) - 1);
        let (Some(new), Some(made)) = (fresh(self.cpu), self.made.get(&(at, level))) else { return };
        // What would be predicted of it again was as it is from the start, whatever was predicted then.
        if new == leaf || made.expected == Some(Effect::Leaf(new)) {
            return;
        }
        let (plugged, quirks, _) = replay.switches(self.cpu);
        let (.., cd) = replay.switches(made.cpu);
        let why = match made {
            made if made.cpu != self.cpu && fresh(made.cpu) == Some(leaf) => "another vCPU made the leaf",
            made if made.plugged != plugged && plugged => "leaf survives a device's arrival",
            made if made.plugged != plugged => "leaf survives a device's departure",
            made if made.quirks != quirks => "leaf survives a change of quirks",
            made if made.cd != cd => "leaf survives a change of CR0.CD",
            made if made.since => "leaf survives a device that came and went",
            _ => "stale range after MTRRs changed",
        };
        let words = format!("{}: {why}: it is {leaf}, and would be {new} if it were new", decision.action);
        self.push(Kind::Departure, why, words);
    }
}

/// What was done, without the numbers of it.
fn kind(action: Action) -> String {
    match action {
        Action::Reset(_) => "creation".to_owned(),
        Action::Read(_) => "read".to_owned(),
        Action::Write(..) => "write".to_owned(),
        Action::Access(access) => if access.write { "store" } else { "load" }.to_owned(),
        Action::StrayExit(_) => "stray exit".to_owned(),
        Action::Cpuid { .. } => "cpuid".to_owned(),
        Action::Step(step) => step.to_string().split(' ').next().unwrap_or_default().to_owned(),
        Action::Leaf { level, .. } => format!("new leaf of level {level}"),
        Action::Held { .. } => "leaf in use".to_owned(),
        Action::Zap(event) => format!("leaves after {event}"),
        _ => "other".to_owned(),
    }
}

/// How what was seen differs from what was expected.
fn contrast(action: Action, expected: Effect, seen: Effect) -> String {
    match (expected, seen) {
        (Effect::Leaf(LeafType::Ept(expected)), Effect::Leaf(LeafType::Ept(seen))) => {
            match (expected.ignore_pat, seen.ignore_pat) {
                (true, false) => "IPAT lost",
                (false, true) => "IPAT added",
                _ => "another type",
            }
        }
        (Effect::Zapped { leaves: expected, .. }, Effect::Zapped { leaves: seen, .. }) if seen < expected => {
            "too few zapped"
        }
        (Effect::Zapped { .. }, Effect::Zapped { .. }) => "too many zapped",
        _ => return format!("{:?} for {:?}", seen.class(action), expected.class(action)),
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::memtype::MemType;

    #[test]
    fn a_cause_is_a_file_name() {
        let id = |words: &str| Cause::new(Kind::Unknown, words).id;
        assert_eq!(id("new leaf of level 1 `x`: UC+IPAT, /.."), "new-leaf-of-level-1-x-uc-ipat");
        assert_eq!(id(&"ab ".repeat(60)).len(), 89);
    }

    #[test]
    fn numbers_make_no_other_cause() {
        let line = "WARNING: CPU: 0 PID: 97 at arch/x86/kvm/mmu/mmu.c:6090 kvm_zap+0x2c9/0x2d0 [kvm]";
        assert_eq!(without_digits(line), "WARNING: CPU: PID: at [kvm]");
    }

    #[test]
    fn contrasts_are_told_apart() {
        let action = Action::Leaf { gpa: 0, level: 1 };
        let leaf = |memtype, ignore_pat| Effect::Leaf(LeafType::Ept(EptType { memtype, ignore_pat }));
        let said = |expected, seen| contrast(action, expected, seen);
        assert_eq!(said(leaf(MemType::Wb, true), leaf(MemType::Wb, false)), "IPAT lost");
        assert_eq!(said(leaf(MemType::Wb, false), leaf(MemType::Uc, true)), "IPAT added");
        assert_eq!(said(leaf(MemType::Wb, false), leaf(MemType::Uc, false)), "another type");
        let zapped = |leaves| Effect::Zapped { leaves, of: 3 };
        assert_eq!(said(zapped(3), zapped(1)), "too few zapped");
        assert_eq!(said(zapped(0), zapped(1)), "too many zapped");
        assert_eq!(said(Effect::AnyErrno, Effect::Happened), "Event for Refused");
    }
}
