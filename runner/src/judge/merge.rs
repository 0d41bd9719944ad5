//! Points for people, with equal neighbours as one.

use crate::model::{Action, Decision, EffectOf, Rule};
use serde::{Deserialize, Serialize};
use wire::step::Step;

/// Who predicts a point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct By {
    /// The policy's id.
    pub policy: String,
    /// The row in it.
    pub row: String,
    /// The rule, in words. For several points, no more than holds for each of them.
    pub rule: String,
    /// SDM section, or kernel file and function.
    pub source: String,
}

/// A point, or several that follow each other and differ in the value or the register only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    /// What was done; of the first, if there are several.
    pub did: String,
    /// How many points this is.
    pub count: u64,
    /// Index of the line in the log, from 0; of the first.
    pub line: usize,
    /// What was seen.
    pub seen: String,
    /// What is predicted, or why nothing is.
    pub expected: String,
    /// Who predicts it; nobody if nothing is predicted.
    pub by: Option<By>,
    /// Whether it is as predicted; nothing if nothing is predicted.
    pub agrees: Option<bool>,
    /// What the architecture predicts, where it does and it is not what was seen.
    pub architecture: Option<String>,
    /// The deviation that excuses it.
    pub deviation: Option<String>,
}

impl Point {
    /// What was done, and how many more like it: `vCPU 0: WRMSR 0x277 IA32_PAT <- 0x..02 (and 1247 more)`.
    pub fn title(&self) -> String {
        match self.count {
            1 => self.did.clone(),
            count => format!("{} (and {} more)", self.did, count - 1),
        }
    }
}

/// A decision with all that was found out about it.
#[derive(Debug, Clone, Copy)]
pub struct Judged<'p> {
    /// Index of the line.
    pub line: usize,
    /// The governing policy's view.
    pub decision: Decision<'p>,
    /// The architecture's view, where another policy governs.
    pub beside: Option<Decision<'p>>,
    /// The deviation that excuses it.
    pub deviation: Option<&'p str>,
}

impl<'p> Judged<'p> {
    /// The architecture's view, where it is not what was seen.
    pub fn architecture(&self) -> Option<Decision<'p>> {
        self.beside.filter(|beside| beside.agrees() == Some(false))
    }

    /// Whether it was seen to be what the architecture predicts, if that predicts something and another policy governs.
    pub fn honoured(&self) -> Option<bool> {
        self.beside.and_then(|beside| beside.proves())
    }
}

/// Points that grow as decisions come, up to a bound.
#[derive(Debug)]
pub struct Points<'p> {
    policy: &'p str,
    most: usize,
    points: Vec<Point>,
    last: Option<Judged<'p>>,
    /// All decisions, also those beyond the bound.
    pub total: u64,
}

impl<'p> Points<'p> {
    /// None yet, of policy `policy`; keeps at most `most` after merging.
    pub fn new(policy: &'p str, most: usize) -> Self {
        Points { policy, most, points: Vec::new(), last: None, total: 0 }
    }

    /// Takes the next decision.
    pub fn push(&mut self, judged: Judged<'p>) {
        self.total += 1;
        let last = self.last.replace(judged).filter(|last| like(last, &judged));
        if let Some((last, point)) = last.zip(self.points.last_mut()) {
            point.count += 1;
            if let (Some(by), Ok(one), Ok(other)) = (&mut point.by, last.decision.predicted, judged.decision.predicted)
                && one.rule != other.rule
            {
                by.rule = without_numbers(one.rule);
            }
        } else if self.points.len() < self.most {
            self.points.push(point(self.policy, &judged));
        } else {
            // What joins this decision does not join the last point that was kept.
            self.last = None;
        }
    }

    /// The first.
    pub fn first(&self) -> Option<&Point> {
        self.points.first()
    }

    /// Those that were kept.
    pub fn into_vec(self) -> Vec<Point> {
        self.points
    }
}

/// Whether two decisions are shown as one: they differ in the value written, or in the MSR read, and read the same.
fn like(a: &Judged<'_>, b: &Judged<'_>) -> bool {
    let (one, other) = (a.decision, b.decision);
    let by = match (one.predicted, other.predicted) {
        (Ok(a), Ok(b)) => (a.row, kind(a.rule), a.source) == (b.row, kind(b.rule), b.source),
        (a, b) => a == b,
    };
    alike(one.action, other.action)
        && by
        && (one.agrees(), a.deviation) == (other.agrees(), b.deviation)
        && effects(a) == effects(b)
        && architecture(a) == architecture(b)
}

/// A rule as far as it must be the same for points that are shown as one.
fn kind(rule: Rule) -> Rule {
    match rule {
        Rule::Reserved { .. } => Rule::Reserved { bits: 0 },
        Rule::NoType { byte, .. } => Rule::NoType { byte, value: 0 },
        other => other,
    }
}

/// A rule in words that are true of all rules of its kind.
fn without_numbers(rule: Rule) -> String {
    match rule {
        Rule::Reserved { .. } => "reserved bits are set".into(),
        Rule::NoType { byte, .. } => format!("byte {byte} holds no memory type"),
        other => other.to_string(),
    }
}

/// Whether two actions differ in the value written, or in the MSR read, only.
fn alike(a: Action, b: Action) -> bool {
    match (a, b) {
        (Action::Write(a, _), Action::Write(b, _)) => a == b,
        (Action::Read(a), Action::Read(b)) | (Action::Reset(a), Action::Reset(b)) => a.cpu == b.cpu,
        (Action::Step(Step::SetMsr { cpu, index, .. }), Action::Step(Step::SetMsr { cpu: c, index: i, .. })) => {
            (cpu, index) == (c, i)
        }
        (Action::Step(Step::SetOneReg { cpu, index, .. }), Action::Step(Step::SetOneReg { cpu: c, index: i, .. })) => {
            (cpu, index) == (c, i)
        }
        (Action::Step(Step::SetCr0 { cpu, .. }), Action::Step(Step::SetCr0 { cpu: c, .. }))
        | (Action::Step(Step::GetMsr { cpu, .. }), Action::Step(Step::GetMsr { cpu: c, .. }))
        | (Action::Step(Step::GetOneReg { cpu, .. }), Action::Step(Step::GetOneReg { cpu: c, .. })) => cpu == c,
        (Action::Step(Step::ListsMsr { .. }), Action::Step(Step::ListsMsr { .. })) => true,
        (Action::Timed(a), Action::Timed(b)) => (a.cpu, a.cpl, a.nested) == (b.cpu, b.cpl, b.nested),
        _ => false,
    }
}

/// Effects in words: those that name no value read the same for many values.
fn effects(it: &Judged<'_>) -> (String, String) {
    let action = it.decision.action;
    let expected =
        it.decision.predicted.map_or_else(|why| why.to_string(), |by| EffectOf(by.expected, action).to_string());
    (EffectOf(it.decision.seen, action).to_string(), expected)
}

/// What the architecture predicts, in words, where it is not what was seen.
fn architecture(it: &Judged<'_>) -> Option<String> {
    let by = it.architecture()?.predicted.ok()?;
    Some(EffectOf(by.expected, it.decision.action).to_string())
}

fn point(policy: &str, judged: &Judged<'_>) -> Point {
    let (seen, expected) = effects(judged);
    let by = judged.decision.predicted.ok().map(|by| By {
        policy: policy.to_owned(),
        row: by.row.to_owned(),
        rule: by.rule.to_string(),
        source: by.source.to_owned(),
    });
    Point {
        did: judged.decision.action.to_string(),
        count: 1,
        line: judged.line,
        seen,
        expected,
        by,
        agrees: judged.decision.agrees(),
        architecture: architecture(judged),
        deviation: judged.deviation.map(str::to_owned),
    }
}
