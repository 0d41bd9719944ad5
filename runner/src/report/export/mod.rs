//! Whole runs in the formats of other people's tools. One exporter, one file: a function `write` that takes where to write
//! and the runs.

pub mod junit;
pub mod kcidb;
pub mod ktap;
pub mod lava;
pub mod markdown;
pub mod prometheus;

#[cfg(test)]
mod testing;

use super::columns;
use super::tally::is_expected;
use super::verdict::family;
use super::{CellVerdict, Outcome, Repeats, Tally};
use crate::judge::Verdict;
use crate::results::Run;
use std::collections::HashMap;

/// A run, and what is thought of it: all that an exporter reads.
#[derive(Debug, Clone)]
pub struct Judged {
    /// What was run and observed, on what.
    pub run: Run,
    /// Which repetition it is of a run that was repeated, from 1.
    pub repetition: usize,
    /// The verdict on each planned cell, once.
    pub verdicts: Vec<CellVerdict>,
}

impl Judged {
    /// The sum of the verdicts.
    pub fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        self.verdicts.iter().for_each(|verdict| tally.add(verdict));
        tally
    }

    /// The cells by family, in the order in which families first come.
    pub fn families(&self) -> Vec<(&str, Vec<&CellVerdict>)> {
        let (mut families, mut known) = (Vec::<(&str, Vec<_>)>::new(), HashMap::new());
        for verdict in &self.verdicts {
            let name = family(&verdict.cell);
            let at = *known.entry(name).or_insert(families.len());
            if at == families.len() {
                families.push((name, Vec::new()));
            }
            families[at].1.push(verdict);
        }
        families
    }

    /// Something of the host in words, as the run's header has it.
    pub fn host(&self, what: &str) -> &str {
        self.run.header.host.get(what).map_or("unknown", String::as_str)
    }

    /// The release of the host's kernel, as `uname -r` has it.
    pub fn kernel(&self) -> &str {
        columns::kernel(&self.run.header)
    }

    /// The policies that governed, as a list.
    pub fn policies(&self) -> String {
        self.tally().policies.into_iter().collect::<Vec<_>>().join(", ")
    }
}

/// A title for each run that no other has: its suite and, where there are several, what tells its host from the others'.
pub fn titles(runs: &[Judged]) -> Vec<String> {
    if let [judged] = runs {
        return vec![judged.run.header.suite.clone()];
    }
    let all: Vec<&Run> = runs.iter().map(|judged| &judged.run).collect();
    all.iter().zip(columns::names(&all)).map(|(run, name)| format!("{} on {name}", run.header.suite)).collect()
}

/// What runs come to: the worst of each one's. The repetitions of a run are compared with each other.
pub fn outcome<'a>(runs: impl IntoIterator<Item = &'a [Judged]>) -> Outcome {
    let of = |repetitions: &[Judged]| {
        let mut repeats = Repeats::default();
        for judged in repetitions {
            repeats.add(&judged.verdicts);
        }
        repeats.outcome()
    };
    runs.into_iter().map(of).max().unwrap_or(Outcome::Surprise)
}

/// Why a cell that is no pass is none, in one line: its verdict's reason without line breaks and control characters.
fn reason(cell: &CellVerdict) -> String {
    one_line(&cell.judgement.reason)
}

/// A text as one line, with each other control character as a space.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The points of a cell that are not as predicted, a line each.
fn points(cell: &CellVerdict) -> impl Iterator<Item = String> {
    cell.judgement.disagreements.iter().map(|point| {
        let by = point.by.as_ref().map(|by| format!(", by {}: {}: {}", by.policy, by.row, by.rule));
        let known = point.deviation.as_ref().map(|id| format!(" (known: {id})"));
        one_line(&format!(
            "{}: {}, where {} is predicted{}{}",
            point.title(),
            point.seen,
            point.expected,
            by.unwrap_or_default(),
            known.unwrap_or_default()
        ))
    })
}

/// The cells with a verdict that is no surprise but no pass either.
fn is_quiet(verdict: Verdict) -> bool {
    is_expected(verdict) && verdict != Verdict::Pass
}
