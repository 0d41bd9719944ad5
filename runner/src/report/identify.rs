//! Which policies explain a run, for people and as JSON.

use super::human::{counted, grouped};
use crate::judge::{Against, Candidate, Candidates, Pair, Point, Seen, Standing};
use anstyle::{AnsiColor, Style};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

/// The most cells that are shown of those that rule a policy out, each with one point that says something new.
const MOST_CELLS: usize = 3;

/// Prints for people. `about` says what run it is, in one line.
///
/// # Errors
/// The output cannot be written.
pub fn identify(out: &mut impl Write, about: &str, candidates: &Candidates<'_>) -> io::Result<()> {
    let (seen, Candidates { cells, left_out, .. }) = (candidates.seen(), candidates);
    writeln!(out, "{about}\n{} in {}", points(seen.total()), counted(*cells, "cell"))?;
    if seen.bears_on_types() {
        writeln!(out, "{} bear on memory types", of_types(seen))?;
    } else {
        writeln!(
            out,
            "Nothing that this run saw bears on memory types: no leaf SPTE, no zap, no effective type.\n\
             What follows rests on all else: registers, exits, replies, coherence."
        )?;
    }
    for (cell, why) in left_out {
        writeln!(out, "left out: {cell}: {why}")?;
    }
    explaining(out, candidates)?;
    ruled_out(out, candidates)?;
    let silent: Vec<&str> = ids(candidates.standing(Standing::Silent));
    if !silent.is_empty() {
        writeln!(out, "\nSay nothing of what was seen: {}", silent.join(", "))?;
    }
    pairs(out, &candidates.pairs())?;
    writeln!(out, "\n{}", conclusion(candidates))
}

fn explaining(out: &mut impl Write, candidates: &Candidates<'_>) -> io::Result<()> {
    let good = AnsiColor::Green.on_default();
    for (n, candidate) in candidates.standing(Standing::Explains).enumerate() {
        if n == 0 {
            writeln!(out, "\nExplained by:")?;
        }
        name(out, candidate, good)?;
        let Candidate { explained, excused, open, .. } = candidate;
        write!(out, "{:16}{} as it says", "", points(*explained))?;
        writeln!(
            out,
            "{}",
            if *open > 0 { format!(", {} of which it says nothing", grouped(*open)) } else { String::new() }
        )?;
        for (id, count) in excused {
            writeln!(out, "{:16}{} otherwise, by the known deviation {id}", "", points(*count))?;
        }
    }
    Ok(())
}

fn ruled_out(out: &mut impl Write, candidates: &Candidates<'_>) -> io::Result<()> {
    let bad = AnsiColor::Red.on_default();
    for (n, candidate) in candidates.standing(Standing::RuledOut).enumerate() {
        if n == 0 {
            writeln!(out, "\nRuled out:")?;
        }
        name(out, candidate, bad)?;
        let against = &candidate.against;
        let total = against.iter().map(|against| against.total).sum();
        writeln!(out, "{:16}by {} in {}", "", points(total), counted(against.len() as u64, "cell"))?;
        let firsts = against.iter().filter_map(|against| Some((against, against.points.first()?)));
        let mut told = BTreeSet::new();
        let telling = firsts
            .filter(|(_, point)| told.insert((&point.seen, &point.expected, point.by.as_ref().map(|by| &by.row))));
        let telling: Vec<_> = telling.take(MOST_CELLS).collect();
        for (Against { cell, .. }, point) in &telling {
            writeln!(out, "    {cell}")?;
            self::point(out, point)?;
        }
        if against.len() > telling.len() {
            writeln!(out, "    and {}", counted((against.len() - telling.len()) as u64, "more cell"))?;
        }
    }
    Ok(())
}

/// A policy's id and summary.
fn name(out: &mut impl Write, candidate: &Candidate<'_>, style: Style) -> io::Result<()> {
    let governs = if candidate.governs { "; governs here by what was probed" } else { "" };
    let policy = candidate.policy;
    writeln!(out, "  {style}{:<14}{style:#}{}{governs}", policy.id, policy.summary)
}

fn point(out: &mut impl Write, point: &Point) -> io::Result<()> {
    writeln!(out, "      {}", point.title())?;
    writeln!(out, "        seen      {}", point.seen)?;
    writeln!(out, "        expected  {}", point.expected)?;
    if let Some(by) = &point.by {
        writeln!(out, "        by        {}: {}", by.row, by.rule)?;
        writeln!(out, "        source    {}", by.source)?;
    }
    Ok(())
}

/// Those with the first of them: what tells two others apart is what tells each from it.
fn pairs(out: &mut impl Write, pairs: &[Pair<'_>]) -> io::Result<()> {
    let Some(Pair { policies: [first, _], .. }) = pairs.first() else { return Ok(()) };
    writeln!(out, "\nNo cell tells any two of them apart. From {first} would tell, but did not:")?;
    for Pair { policies: [_, other], because } in pairs.iter().filter(|pair| pair.policies[0] == *first) {
        writeln!(out, "  {other}")?;
        for why in because {
            writeln!(out, "    {why}")?;
        }
    }
    Ok(())
}

/// What it comes to, in one sentence.
fn conclusion(candidates: &Candidates<'_>) -> String {
    match ids(candidates.standing(Standing::Explains)).as_slice() {
        [] if candidates.seen().total() == 0 => "Nothing was decided.".to_owned(),
        [] if candidates.standing(Standing::RuledOut).next().is_none() => {
            "No policy says anything of what was seen.".to_owned()
        }
        [] => "No policy explains all that was seen.".to_owned(),
        [id] => format!("All that was seen is as {id} says, and no other policy explains it."),
        ids => {
            let governs = candidates.standing(Standing::Explains).find(|candidate| candidate.governs);
            let governs = governs.map(|candidate| format!("; by what was probed it is {}", candidate.policy.id));
            format!("Each of {} explains all that was seen{}.", ids.join(", "), governs.unwrap_or_default())
        }
    }
}

fn ids<'c>(of: impl Iterator<Item = &'c Candidate<'c>>) -> Vec<&'c str> {
    of.map(|candidate| candidate.policy.id.as_str()).collect()
}

fn points(count: u64) -> String {
    counted(count, "point")
}

fn of_types(seen: Seen) -> String {
    let (leaves, zaps) = (counted(seen.leaves, "leaf SPTE"), counted(seen.zaps, "event"));
    format!("{leaves}, {zaps} that could zap leaves and {}", counted(seen.types, "effective type"))
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Object<'a> {
    cells: u64,
    seen: Seen,
    bears_on_memory_types: bool,
    left_out: BTreeMap<&'a str, &'a str>,
    policies: Vec<Row<'a>>,
    not_told_apart: Vec<Pair<'a>>,
    conclusion: String,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Row<'a> {
    policy: &'a str,
    summary: &'a str,
    standing: Standing,
    governs: bool,
    explained: u64,
    deviations: &'a BTreeMap<&'a str, u64>,
    open: u64,
    against: &'a [Against],
}

impl<'a> Row<'a> {
    fn of(candidate: &'a Candidate<'_>) -> Row<'a> {
        Row {
            policy: &candidate.policy.id,
            summary: &candidate.policy.summary,
            standing: candidate.standing(),
            governs: candidate.governs,
            explained: candidate.explained,
            deviations: &candidate.excused,
            open: candidate.open,
            against: &candidate.against,
        }
    }
}

/// Prints one JSON object, with all cells that rule a policy out.
///
/// # Errors
/// The output cannot be written.
pub fn identify_json(out: &mut impl Write, candidates: &Candidates<'_>) -> io::Result<()> {
    let object = Object {
        cells: candidates.cells,
        seen: candidates.seen(),
        bears_on_memory_types: candidates.seen().bears_on_types(),
        left_out: candidates.left_out.iter().map(|(cell, why)| (*cell, why.as_str())).collect(),
        policies: candidates.all.iter().map(Row::of).collect(),
        not_told_apart: candidates.pairs(),
        conclusion: conclusion(candidates),
    };
    serde_json::to_writer(&mut *out, &object)?;
    writeln!(out)
}
