//! What the page shows, as it stands in the file: texts once, and columns of their numbers.
//!
//! `script/data.js` reads it. Number 0 of a table is nothing: texts and sets begin with an empty one.

use super::cell::{Found, Row};
use super::detail::{Detail, Plot};
use super::past::{HtmlPast, PastData};
use super::table::{Column, Table};
use crate::fuzz::TEST;
use crate::judge::{By, Point, Verdict};
use crate::report::CellVerdict;
use crate::report::diff::Kind;
use crate::report::tally::{Tally, is_expected};
use serde::ser::{Serialize, SerializeStruct, Serializer};
use std::collections::BTreeMap;
use wire::probe::Probe;

/// Version of the layout.
const LAYOUT: u32 = 1;

/// Where a cell is: suite, test and VM configuration, each the number of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    /// The suite.
    pub suite: u32,
    /// `family/test`.
    pub test: u32,
    /// The VM configuration.
    pub vm: u32,
}

/// A run, for the page.
#[derive(Debug, Default, serde::Serialize)]
pub struct RunData {
    /// Its suite.
    pub suite: String,
    /// Its directory, as it was named.
    pub dir: String,
    /// When it began, UTC.
    pub started: String,
    /// Names and values that say what was run, on what.
    pub about: Vec<(String, String)>,
    /// Cells by verdict, as [`Verdict::ALL`] has them.
    pub counts: Vec<u64>,
    /// Points that were decided.
    pub points: u64,
    /// Time of the VMs, in microseconds.
    pub micros: u64,
    /// Commands that run a cell again; its id follows.
    pub again: Vec<String>,
    /// The command that runs a history again.
    pub replay: String,
}

/// One side of a comparison: the runs of a kernel on a host.
#[derive(Debug, Default, serde::Serialize)]
pub struct SideData {
    /// What it is called.
    pub name: String,
    /// What was named on the command line, for other commands.
    pub named: String,
    /// Its runs.
    pub runs: Vec<RunData>,
    /// Of each cell, one more than the verdict's place in [`Verdict::ALL`]; 0 where the side has no such cell.
    verdict: Column,
    /// Which of its runs it is of.
    run: Column,
    reason: Column,
    policy: Column,
    /// Points that were decided.
    points: Column,
    /// Points that are not as predicted.
    wrong: Column,
    /// Points that nothing is predicted of.
    unpredicted: Column,
    /// Points that the architecture has otherwise.
    departures: Column,
    /// Microseconds.
    micros: Column,
    /// The set of deviations that showed.
    deviations: Column,
    /// What effective types rest on, in words.
    proof: Column,
    /// The set of rows of pages, each with a count.
    rows: Column,
    /// One more than the number of the detail, 0 for none.
    detail: Column,
}

impl SideData {
    fn columns(&mut self) -> [&mut Column; 13] {
        let SideData {
            verdict,
            run,
            reason,
            policy,
            points,
            wrong,
            unpredicted,
            departures,
            micros,
            deviations,
            proof,
            rows,
            detail,
            ..
        } = self;
        [verdict, run, reason, policy, points, wrong, unpredicted, departures, micros, deviations, proof, rows, detail]
    }
}

/// All that the page shows.
#[derive(Debug, Default)]
pub struct Data {
    /// The texts.
    texts: Table<String>,
    cells: Table<Place>,
    tests: BTreeMap<u32, u32>,
    vms: BTreeMap<u32, u32>,
    rows: Table<[u32; 10]>,
    sets: Table<Vec<u32>>,
    by: Table<[u32; 4]>,
    deviations: BTreeMap<u32, u32>,
    details: Vec<DetailData>,
    /// What became of cells in earlier runs, by the numbers of test and VM configuration.
    past: BTreeMap<String, Vec<PastData>>,
    /// The sides.
    pub sides: Vec<SideData>,
}

/// A detail: numbers of texts, and points as arrays.
#[derive(Debug, serde::Serialize)]
struct DetailData {
    /// For each kind: the total, and arrays of what was done, count, line, seen, expected, by, architecture, deviation.
    points: Vec<(u64, Vec<[u32; 8]>)>,
    hidden: u64,
    /// One more than the number of the row, or 0; what; of a page by which times are read, its type; then probe, median and
    /// spread of each.
    timed: Vec<Vec<u32>>,
    timed_total: usize,
    /// Line, frame, level, old, new, zapped.
    sptes: Vec<[u32; 6]>,
    sptes_total: usize,
    watched: u32,
    /// A title and lines.
    said: Vec<Vec<u32>>,
    end: u32,
    lines: usize,
}

impl Data {
    /// Nothing yet.
    pub fn new() -> Self {
        let mut data = Data::default();
        data.texts.text("");
        data.sets.number(Vec::new());
        data
    }

    /// The number of a text.
    pub fn text(&mut self, text: &str) -> u32 {
        self.texts.text(text)
    }

    /// Says what became of a cell in earlier runs, if any side has it.
    pub fn past(&mut self, past: &HtmlPast) {
        let [test, vm] =
            [crate::report::test(&past.cell), super::cell::vm(&past.cell)].map(|text| self.texts.text(text));
        if self.cells.values().iter().any(|place| (place.test, place.vm) == (test, vm)) {
            let data = PastData::new(past, self);
            self.past.entry(format!("{test}@{vm}")).or_default().push(data);
        }
    }

    /// Says what a test does.
    pub fn test(&mut self, test: &str, summary: &str) {
        let (test, summary) = (self.texts.text(test), self.texts.text(summary));
        self.tests.insert(test, summary);
    }

    /// Says what a VM configuration is.
    pub fn vm(&mut self, vm: &str, summary: &str) {
        let (vm, summary) = (self.texts.text(vm), self.texts.text(summary));
        self.vms.insert(vm, summary);
    }

    /// Says why a deviation is.
    pub fn deviation(&mut self, id: &str, reason: &str) {
        let (id, reason) = (self.texts.text(id), self.texts.text(reason));
        self.deviations.insert(id, reason);
    }

    /// The number of the cell of that id in a suite, on whichever side.
    pub fn cell(&mut self, suite: &str, cell: &str) -> usize {
        let (test, vm) = (crate::report::test(cell), super::cell::vm(cell));
        let place = Place { suite: self.texts.text(suite), test: self.texts.text(test), vm: self.texts.text(vm) };
        self.cells.number(place) as usize
    }

    /// The suite and the id of a cell.
    fn id(&self, place: Place) -> String {
        let text = |number: u32| self.texts.values()[number as usize].as_str();
        match text(place.vm) {
            "default" => text(place.test).to_owned(),
            vm => format!("{}@{vm}", text(place.test)),
        }
    }

    /// The first cells of a side that are not as expected: id, verdict and reason.
    pub fn alarms(&self, side: usize) -> impl Iterator<Item = (String, Verdict, &str)> {
        let side = &self.sides[side];
        let cells = self.cells.values().iter().zip(side.verdict.0.iter().zip(&side.reason.0));
        cells.filter_map(|(&place, (&verdict, &reason))| {
            let verdict = *Verdict::ALL.get(verdict.checked_sub(1)? as usize)?;
            let alarm = || (self.id(place), verdict, self.texts.values()[reason as usize].as_str());
            (!is_expected(verdict)).then(alarm)
        })
    }

    /// Adds a side of that name.
    pub fn side(&mut self, name: String, named: String) {
        self.sides.push(SideData { name, named, ..SideData::default() });
    }

    /// Adds a run to the last side, and gives its number there.
    pub fn run(&mut self, run: RunData) -> usize {
        self.sides.last_mut().map_or(0, |side| {
            side.runs.push(run);
            side.runs.len() - 1
        })
    }

    /// Puts a cell of a run into the last side.
    pub fn put(&mut self, run: usize, cell: usize, found: &Packed) {
        let Some(side) = self.sides.last_mut() else { return };
        for (column, value) in side.columns().into_iter().zip(found.0) {
            if column.0.len() <= cell {
                column.0.resize(cell + 1, 0);
            }
            column.0[cell] = value;
        }
        side.run.0[cell] = run as u32;
    }

    /// Says what a run of the last side comes to.
    pub fn sum(&mut self, run: usize, tally: &Tally) {
        let Some(run) = self.sides.last_mut().and_then(|side| side.runs.get_mut(run)) else { return };
        run.counts = Verdict::ALL.iter().map(|&verdict| tally.count(verdict)).collect();
        (run.points, run.micros) = (tally.points, tally.micros);
    }

    /// Makes numbers of a cell.
    pub fn pack(&mut self, found: &Found) -> Packed {
        let CellVerdict { judgement, micros, .. } = &found.verdict;
        let rows: Vec<(u32, u32)> = found.rows.iter().map(|(row, count)| (self.row(row), *count)).collect();
        let detail = match &found.detail {
            Some(detail) => {
                let detail = self.detail(detail, &rows);
                self.details.push(detail);
                self.details.len() as u32
            }
            None => 0,
        };
        let deviations = judgement.deviations.iter().map(|id| self.texts.text(id)).collect();
        let small = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        let numbers = [
            1 + Verdict::ALL.iter().position(|&verdict| verdict == judgement.verdict).unwrap_or_default() as u32,
            0,
            self.texts.text(&judgement.reason),
            self.texts.text(judgement.policy.as_deref().unwrap_or_default()),
            small(judgement.points),
            small(judgement.disagreements_total),
            small(judgement.unpredicted),
            small(judgement.architecture.count),
            small(micros.unwrap_or(0)),
            self.sets.number(deviations),
            self.texts.text(&judgement.proof.words().unwrap_or_default()),
            self.sets.number(rows.into_iter().flat_map(|(row, count)| [row, count]).collect()),
            detail,
        ];
        Packed(numbers, found.verdict.broken)
    }

    fn row(&mut self, row: &Row) -> u32 {
        let Row { asked, answers, agrees } = row;
        let known = |fact: Option<bool>| fact.map_or(0, |fact| 1 + u32::from(fact));
        let mut text = |text: &str| self.texts.text(text);
        let row = [
            text(asked.target),
            text(&asked.mtrr),
            text(&asked.pat),
            u32::from(asked.cd),
            text(&answers.times),
            text(&answers.leaf),
            text(&answers.architecture),
            text(&answers.policy),
            known(answers.honoured),
            known(*agrees),
        ];
        self.rows.number(row)
    }

    fn detail(&mut self, detail: &Detail, rows: &[(u32, u32)]) -> DetailData {
        let mut points = Vec::new();
        for few in &detail.points {
            points.push((few.total, few.points.iter().map(|point| self.point(point)).collect()));
        }
        let timed = detail.timed.iter().map(|plot| self.plot(plot, rows)).collect();
        let mut text = |text: &str| self.texts.text(text);
        let mut sptes = Vec::new();
        for it in &detail.sptes {
            let (gfn, old, new) = (text(&it.gfn), text(&it.old), text(&it.new));
            sptes.push([it.line as u32 + 1, gfn, it.level.into(), old, new, it.zapped.into()]);
        }
        let mut said = Vec::new();
        for (title, lines) in &detail.said {
            let title = text(title);
            said.push(std::iter::once(title).chain(lines.iter().map(|line| text(line))).collect());
        }
        let Detail { hidden, timed_total, sptes_total, lines, .. } = *detail;
        let (watched, end) = (text(&detail.watched.join(", ")), text(&detail.end));
        DetailData { points, hidden, timed, timed_total, sptes, sptes_total, watched, said, end, lines }
    }

    fn point(&mut self, point: &Point) -> [u32; 8] {
        let mut text = |text: Option<&str>| self.texts.text(text.unwrap_or_default());
        let by = point.by.as_ref().map(|By { policy, row, rule, source }| {
            [text(Some(policy)), text(Some(row)), text(Some(rule)), text(Some(source))]
        });
        [
            text(Some(&point.did)),
            u32::try_from(point.count).unwrap_or(u32::MAX),
            point.line as u32 + 1,
            text(Some(&point.seen)),
            text(Some(&point.expected)),
            by.map_or(0, |by| 1 + self.by.number(by)),
            text(point.architecture.as_deref()),
            text(point.deviation.as_deref()),
        ]
    }

    fn plot(&mut self, plot: &Plot, rows: &[(u32, u32)]) -> Vec<u32> {
        let row = plot.row.map_or(0, |row| 1 + rows[row as usize].0);
        let samples = plot.samples.iter().flat_map(|(probe, it)| [probe.index() as u32, it.median, it.spread]);
        [row, self.texts.text(&plot.what), self.texts.text(&plot.reference)].into_iter().chain(samples).collect()
    }
}

impl Serialize for Data {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let cells = self.cells.values();
        let column = |of: fn(&Place) -> u32| Column(cells.iter().map(of).collect());
        let mut all = serializer.serialize_struct("Data", 20)?;
        all.serialize_field("layout", &LAYOUT)?;
        all.serialize_field("verdicts", &Verdict::ALL)?;
        all.serialize_field("unexpected", &Verdict::ALL.map(|verdict| !is_expected(verdict)))?;
        all.serialize_field("kinds", &Kind::ALL.map(Kind::title))?;
        let place = |kind| Kind::ALL.iter().position(|&it| it == kind);
        let kinds = |from| Verdict::ALL.map(|to| place(Kind::of(from, to)));
        all.serialize_field("changes", &Verdict::ALL.map(kinds))?;
        all.serialize_field("probes", &Probe::ALL.map(Probe::word))?;
        all.serialize_field("history", TEST)?;
        all.serialize_field("texts", self.texts.values())?;
        all.serialize_field("tests", &self.tests)?;
        all.serialize_field("vms", &self.vms)?;
        all.serialize_field("deviations", &self.deviations)?;
        all.serialize_field("rows", self.rows.values())?;
        all.serialize_field("sets", self.sets.values())?;
        all.serialize_field("by", self.by.values())?;
        all.serialize_field("suite", &column(|place| place.suite))?;
        all.serialize_field("test", &column(|place| place.test))?;
        all.serialize_field("vm", &column(|place| place.vm))?;
        all.serialize_field("sides", &self.sides)?;
        all.serialize_field("details", &self.details)?;
        all.serialize_field("past", &self.past)?;
        all.end()
    }
}

/// A cell as numbers, in the order of a side's columns.
#[derive(Debug, Clone, Copy)]
pub struct Packed([u32; 13], bool);

impl Packed {
    /// Adds it to a sum.
    pub fn count(&self, tally: &mut Tally) {
        *tally.verdicts.entry(self.verdict()).or_default() += 1;
        tally.broken += u64::from(self.1);
        tally.points += u64::from(self.0[4]);
        tally.micros += u64::from(self.0[8]);
    }

    /// The verdict.
    pub fn verdict(&self) -> Verdict {
        Verdict::ALL[self.0[0] as usize - 1]
    }
}
