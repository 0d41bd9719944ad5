//! The HTML report: one file that holds all of it, and asks no network.
//!
//! [`mod@cell`] looks at a cell, [`mod@gather`] at those of a run on all CPUs, [`data`] makes numbers of them, and [`page`] puts them into
//! a file with the style and the script beside it.

mod cell;
mod data;
mod detail;
mod gather;
mod page;
mod past;
mod table;

use super::columns::{kernel, told_apart};
use super::tally::{Outcome, Tally};
use super::{CellVerdict, Cells, again, replay};
use crate::judge::{Deviations, Judge, Verdict};
use crate::model::policy::{Policies, PolicyError};
use crate::plan::TestRef;
use crate::results::{self, Header, Intent, Planned, ResultsError, Stream};
use cell::{Found, Keep, Looker};
use data::{Data, RunData};
use gather::gather;
pub use past::{HtmlPast, PastStreak};
use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The most cells of a report that keeps all of them in full. A larger one keeps those that are not as expected, or deviate in
/// a known way, or are open.
const MOST_IN_FULL: usize = 2500;

/// One side of a comparison: the runs of a kernel on a host, and by what they are judged.
#[derive(Debug)]
pub struct HtmlSide {
    /// What somebody named it: the directory of a run, or of several.
    pub named: String,
    /// The runs' directories.
    pub dirs: Vec<PathBuf>,
    /// The policies.
    pub policies: Policies,
    /// The known deviations.
    pub deviations: Deviations,
}

/// Why a report cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum HtmlError {
    /// A run cannot be read.
    #[error(transparent)]
    Results(#[from] ResultsError),
    /// There is no policy of the name that a run was asked to be judged by.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// Verdicts were written of other results.
    #[error("{0} has verdicts that do not fit its results: kvm-memtype judge {0}")]
    Verdicts(String),
    /// It cannot be written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Writes the report of these sides, in the order in which they are compared: what is new comes last. Verdicts that were
/// written are taken as they are; runs without are judged.
///
/// # Errors
/// A run cannot be read, or the report cannot be written.
///
/// `past` is what became of cells in earlier runs.
pub fn html(
    out: &mut dyn Write,
    tests: &[TestRef],
    sides: &[HtmlSide],
    past: &[HtmlPast],
) -> Result<Outcome, HtmlError> {
    let mut data = Data::new();
    for test in tests {
        data.test(&test.id(), &test.summary);
    }
    let mut opened = Vec::new();
    for side in sides {
        let open = |dir: &PathBuf| Stream::open(dir).map(|(header, stream)| (dir.clone(), header, stream));
        opened.push(side.dirs.iter().map(open).collect::<Result<Vec<_>, _>>()?);
    }
    let cells: usize = opened.iter().flatten().map(|(_, header, _)| header.cells.len()).sum();
    let keep = if cells > MOST_IN_FULL { Keep::Telling } else { Keep::All };
    let first =
        |runs: &&Vec<(PathBuf, Header, Stream)>| runs.first().map(|(dir, header, _)| (dir.clone(), name(dir, header)));
    let firsts: Vec<_> = opened.iter().filter_map(|runs| first(&runs)).collect();
    let firsts: Vec<_> = firsts.iter().map(|(dir, name)| (dir.as_path(), name.as_str())).collect();
    let names = told_apart(&firsts);
    let mut outcome = Outcome::AsExpected;
    for ((name, side), runs) in names.into_iter().zip(sides).zip(opened) {
        data.side(name, side.named.clone());
        for (dir, header, stream) in runs {
            outcome = outcome.max(add(&mut data, side, &dir, &header, stream, keep)?.outcome());
        }
    }
    past.iter().for_each(|past| data.past(past));
    page::write(out, &data, keep)?;
    Ok(outcome)
}

/// Adds a run to the last side, and gives the sum of its verdicts.
fn add(
    data: &mut Data,
    side: &HtmlSide,
    dir: &Path,
    header: &Header,
    mut stream: Stream,
    keep: Keep,
) -> Result<Tally, HtmlError> {
    for deviation in side.deviations.iter() {
        data.deviation(deviation.id(), &deviation.reason);
    }
    for cell in &header.cells {
        data.vm(cell::vm(&cell.id), &cell.vm.summary);
    }
    let policies = side.policies.asked(header.policy.as_deref())?;
    let (cells, left) = (Cells::new(header), Intent::left(dir)?);
    let written: Option<Vec<CellVerdict>> = results::read_verdicts(dir)?;
    let written: Option<HashMap<String, CellVerdict>> =
        written.map(|all| all.into_iter().map(|verdict| (verdict.cell.clone(), verdict)).collect());
    let judge = Judge::new(&policies, &side.deviations);
    let looker = Looker { judge, cells: &cells, written: written.as_ref(), keep };
    let (mut plan, mut found) = (Planned::new(header), Vec::new());
    let path = stream.path().to_owned();
    gather(&mut stream, &looker, |line, cell| {
        let wrong = |message| ResultsError::Line { path: path.clone(), line, message };
        let place = plan.take(&cell.verdict.cell, cell.is_final, line).map_err(wrong)?;
        let packed = data.pack(&cell);
        match found.get_mut(place) {
            Some(before) => *before = packed,
            None => found.push(packed),
        }
        Ok(())
    })?;
    if let Some(written) = &written
        && !header.cells.iter().all(|cell| fits(written.get(&cell.id), plan.at(&cell.id).is_some(), &cell.id, &left))
    {
        return Err(HtmlError::Verdicts(dir.display().to_string()));
    }
    let known = header.cells.iter().filter_map(|cell| Some((cell.id.as_str(), found[plan.at(&cell.id)?].verdict())));
    let missing = cells.missing(known, &left);
    let mut missing = missing
        .into_iter()
        .map(|verdict| data.pack(&Found { verdict, is_final: true, rows: Vec::new(), detail: None }))
        .collect::<Vec<_>>()
        .into_iter();
    let run = data.run(about(dir, header));
    let mut tally = Tally::default();
    for cell in &header.cells {
        let packed = plan.at(&cell.id).map(|at| found[at]).or_else(|| missing.next());
        if let Some(packed) = packed {
            packed.count(&mut tally);
            let number = data.cell(&header.suite, &cell.id);
            data.put(run, number, &packed);
        }
    }
    data.sum(run, &tally);
    Ok(tally)
}

/// Whether a verdict that was written, if any, is one of the cell's result, if any.
fn fits(written: Option<&CellVerdict>, has_result: bool, cell: &str, left: &[Intent]) -> bool {
    let of_a_result = written.map(|written| written.judgement.verdict != Verdict::NotRun);
    of_a_result.unwrap_or(false) == has_result || left.iter().any(|intent| intent.cell == cell)
}

/// What a run is called: as the lab calls its kernel, or as that calls itself.
fn name(dir: &Path, header: &Header) -> String {
    boot(dir).map_or_else(|| kernel(header).to_owned(), |(variant, _)| variant)
}

/// What the lab booted for a run, as `lab run` takes it, and its further arguments.
fn boot(dir: &Path) -> Option<(String, &'static str)> {
    let text = fs::read(dir.join("../boot.json")).ok()?;
    let boot: serde_json::Value = serde_json::from_slice(&text).ok()?;
    let machine = boot["machine"].as_str()?;
    Some((boot["variant"].as_str()?.to_owned(), if machine == "bochs" { "" } else { " --amd" }))
}

/// What is said of a run.
fn about(dir: &Path, header: &Header) -> RunData {
    let lab = boot(dir).map(|(variant, more)| {
        format!("cargo run --release -p lab -- run {variant}{more} --suite {} -- ", header.suite)
    });
    let words: Vec<&str> = header.witnesses.iter().map(|kind| kind.word()).collect();
    let pinned = header.pinned.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    let mut about: Vec<(String, String)> =
        header.host.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    let builds: Vec<String> = header.modules.builds.iter().map(|(module, build)| format!("{module} {build}")).collect();
    let more = [
        ("host", header.hostname.clone()),
        ("builds of modules", builds.join(", ")),
        ("witnesses", words.join(", ")),
        ("devices", header.devices.to_string().trim().to_owned()),
        ("filters", header.filters.join(" ")),
        ("judged by", header.policy.as_ref().map(|policy| format!("{policy}, as asked")).unwrap_or_default()),
        ("pinned to CPUs", pinned),
        ("kept busy", header.busy.to_string()),
        ("kvm-memtype", header.version.clone()),
    ];
    about.extend(more.into_iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| (name.to_owned(), value)));
    RunData {
        suite: header.suite.clone(),
        dir: dir.display().to_string(),
        started: header.started.clone(),
        about,
        again: lab.into_iter().chain([again(header)]).collect(),
        replay: replay(header, dir),
        ..RunData::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Writes a run of cells that were planned, with these results.
    fn run(dir: &Path, cells: &[&str], results: &[serde_json::Value]) {
        let vm = json!({ "summary": "as the host has it" });
        let cells: Vec<_> = cells.iter().map(|id| json!({ "id": id, "vm": vm, "points": 1 })).collect();
        let header = json!({ "format": results::FORMAT, "header": { "run": "1", "started": "20251120T110000Z", "version": "0.1.0",
            "guests": {}, "machine": "kvm", "suite": "smoke", "filters": [], "facts": {}, "host": { "kernel": "Linux 6.18 #1" },
            "witnesses": [], "cells": cells } });
        let lines: Vec<String> = std::iter::once(&header).chain(results).map(|line| format!("{line}\n")).collect();
        fs::write(dir.join("observations.jsonl"), lines.concat()).unwrap();
    }

    /// The data in the report of these runs, each a side.
    fn report(dirs: &[&Path]) -> (Outcome, serde_json::Value) {
        let side = |dir: &&Path| HtmlSide {
            named: dir.display().to_string(),
            dirs: vec![dir.to_path_buf()],
            policies: Policies::load([]).unwrap(),
            deviations: Deviations::none(),
        };
        let mut page = Vec::new();
        let past = |cell: &str| HtmlPast {
            cell: cell.to_owned(),
            place: "Linux 6.18".to_owned(),
            hosts: String::new(),
            streaks: vec![PastStreak {
                verdict: Verdict::Pass,
                reason: String::new(),
                runs: 3,
                ends: [
                    ("20251101T110000Z".to_owned(), "6.18.1".to_owned()),
                    ("20251103T110000Z".to_owned(), "6.18.2".to_owned()),
                ],
                first: "nights/1".to_owned(),
            }],
        };
        let past = ["a/c", "z/z"].map(past);
        let outcome = html(&mut page, &[], &dirs.iter().map(side).collect::<Vec<_>>(), &past).unwrap();
        let page = String::from_utf8(page).unwrap();
        let data = page.split_once("type=\"application/json\">").unwrap().1.split_once("</script>").unwrap().0;
        (outcome, serde_json::from_str(data).unwrap())
    }

    #[test]
    fn each_planned_cell_has_a_verdict_once() {
        let dir = tempfile::tempdir().unwrap();
        let skip = |cell: &str| json!({ "cell": cell, "outcome": { "skip": "no device" } });
        let error = json!({ "cell": "a/b@x", "outcome": { "error": "no memory" } });
        run(dir.path(), &["a/b", "a/b@x", "a/c"], &[skip("a/b"), error, skip("a/b@x")]);
        let (outcome, data) = report(&[dir.path()]);
        assert_eq!(outcome, Outcome::Broken, "a cell was not run");
        let number = |verdict| 1 + Verdict::ALL.iter().position(|&it| it == verdict).unwrap();
        let [skip, not_run] = [Verdict::Skip, Verdict::NotRun].map(number);
        let side = &data["sides"][0];
        assert_eq!((&side["verdict"], &side["name"]), (&json!([skip, skip, not_run]), &json!("6.18")));
        assert_eq!(side["runs"][0]["counts"], json!([0, 0, 0, 0, 2, 0, 0, 0, 0, 1]));
        let reason = side["reason"][0].as_u64().unwrap() as usize;
        assert_eq!(data["texts"][reason], "no device");
        let past = data["past"].as_object().unwrap();
        let text = |number: &serde_json::Value| data["texts"][number.as_u64().unwrap() as usize].as_str().unwrap();
        assert_eq!(past.len(), 1, "cells that are on no side have no page");
        let streak = &past.values().next().unwrap()[0][2][0];
        assert_eq!((streak[0].as_u64(), streak[1].as_u64(), text(&streak[6])), (Some(1), Some(3), "nights/1"));
    }

    #[test]
    fn a_cell_of_several_runs_is_one() {
        let [one, other] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        run(one.path(), &["a/b", "a/c"], &[]);
        run(other.path(), &["a/c", "a/d"], &[]);
        let (_, data) = report(&[one.path(), other.path()]);
        let sides = data["sides"].as_array().unwrap();
        assert_eq!(sides[1]["verdict"], json!([0, 10, 10]));
        assert_eq!(data["test"].as_array().unwrap().len(), 3);
        // Kernels of the same name are told apart.
        assert_ne!(sides[0]["name"], sides[1]["name"]);
    }
}
