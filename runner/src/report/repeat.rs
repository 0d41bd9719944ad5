//! Repetitions of a run: whether each cell had the same verdict, and saw the same, each time.

use super::human::{grouped, style, without_numbers};
use super::{CellVerdict, Outcome, Reporter, Tally, counted};
use crate::judge::{Departures, Judgement, Point, Proof, Verdict};
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write};

/// The most repetitions that are named as those in which a cell was so or so.
const MOST_NUMBERS: usize = 5;

/// All repetitions of a run, cell by cell.
#[derive(Debug, Clone, Default)]
pub struct Repeats {
    tallies: Vec<Tally>,
    /// By cell what it was seen to be, each with the repetitions in which it was, in the order in which they came.
    cells: BTreeMap<String, Vec<(Judgement, Vec<usize>)>>,
}

/// A cell that was not the same each time. It is never a pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Flaky<'a> {
    /// The cell's id.
    pub cell: &'a str,
    /// Whether its verdict changed; else only what was seen did.
    pub verdict_changed: bool,
    /// Each way in which it came out.
    pub ways: Vec<Way<'a>>,
}

/// One way in which a cell came out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Way<'a> {
    /// The verdict.
    pub verdict: Verdict,
    /// The repetitions in which it was, from 1.
    pub repetitions: &'a [usize],
}

impl Repeats {
    /// Adds the next repetition, and gives its sum.
    pub fn add(&mut self, verdicts: &[CellVerdict]) -> Tally {
        let (mut tally, number) = (Tally::default(), self.tallies.len() + 1);
        for verdict in verdicts {
            tally.add(verdict);
            let class = class(&verdict.judgement);
            let ways = self.cells.entry(verdict.cell.clone()).or_default();
            match ways.iter_mut().find(|(known, _)| *known == class) {
                Some((_, numbers)) => numbers.push(number),
                None => ways.push((class, vec![number])),
            }
        }
        self.tallies.push(tally.clone());
        tally
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.tallies.len()
    }

    /// The sum of the first one.
    pub fn first(&self) -> Option<&Tally> {
        self.tallies.first()
    }

    /// The cells that were not the same each time.
    pub fn flaky(&self) -> impl Iterator<Item = Flaky<'_>> {
        self.cells.iter().filter(|(_, ways)| ways.len() > 1).map(|(cell, ways)| Flaky {
            cell,
            verdict_changed: ways.iter().any(|(way, _)| way.verdict != ways[0].0.verdict),
            ways: ways.iter().map(|(way, numbers)| Way { verdict: way.verdict, repetitions: numbers }).collect(),
        })
    }

    /// The first one's counts of cells by verdict, and whether the others were the same: a few words.
    pub fn words(&self) -> String {
        let first = self.first().map(Tally::words).unwrap_or_default();
        let flaky: Vec<&str> = self.flaky().map(|flaky| flaky.cell).collect();
        match (self.count(), flaky.as_slice()) {
            (0 | 1, _) => first,
            (count, []) => format!("{first}, the same {count} times"),
            (count, cells) => {
                let more = if cells.len() > MOST_NUMBERS { ", ..." } else { "" };
                let named = cells.iter().take(MOST_NUMBERS).copied().collect::<Vec<_>>().join(", ");
                format!("{first} at first, {} flaky in {count} times: {named}{more}", cells.len())
            }
        }
    }

    /// What they come to: the worst of each one's, and no less than a surprise where a cell is flaky.
    pub fn outcome(&self) -> Outcome {
        let flaky = if self.flaky().next().is_some() { Outcome::Surprise } else { Outcome::AsExpected };
        self.tallies.iter().map(Tally::outcome).fold(flaky, Ord::max)
    }
}

/// What of a judgement must be the same each time: all but texts, in which times and addresses can stand, and the places
/// of points in the log. Of a cell that has no points to compare, the text without its numbers is all that there is: a guest
/// that dies of a triple fault once and of a panic the next time is not the same.
fn class(judgement: &Judgement) -> Judgement {
    let seen = |point: &Point| Point { did: String::new(), line: 0, architecture: None, ..point.clone() };
    Judgement {
        reason: match judgement.verdict {
            Verdict::Crash | Verdict::Timeout | Verdict::Error | Verdict::Skip | Verdict::NotRun => {
                without_numbers(&judgement.reason)
            }
            Verdict::Pass | Verdict::Xfail | Verdict::Xpass | Verdict::Fail | Verdict::Inconclusive => String::new(),
        },
        // It tells what was measured.
        proof: Proof { why: None, ..judgement.proof },
        disagreements: judgement.disagreements.iter().map(seen).collect(),
        architecture: Departures { count: judgement.architecture.count, examples: Vec::new() },
        ..judgement.clone()
    }
}

impl Serialize for Repeats {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "kebab-case")]
        struct Sum<'a> {
            repetitions: usize,
            flaky: Vec<Flaky<'a>>,
            as_expected: bool,
        }
        let as_expected = self.outcome() == Outcome::AsExpected;
        Sum { repetitions: self.count(), flaky: self.flaky().collect(), as_expected }.serialize(serializer)
    }
}

/// Prints all repetitions for people, when the last has ended.
///
/// # Errors
/// The output cannot be written.
pub fn print_repeats(out: &mut impl Write, repeats: &Repeats) -> io::Result<()> {
    let flaky: Vec<Flaky<'_>> = repeats.flaky().collect();
    let times = counted(repeats.count() as u64, "repetition");
    let cells = |count: usize| counted(count as u64, "cell");
    writeln!(out)?;
    for Flaky { cell, verdict_changed, ways } in &flaky {
        let loud = style(Verdict::Fail);
        writeln!(out, "{loud}{:>12}{loud:#}  {cell}", "FLAKY")?;
        if !verdict_changed {
            writeln!(out, "{:14}the same verdict each time, but not for the same points or reason", "")?;
        }
        for Way { verdict, repetitions } in ways {
            let style = style(*verdict);
            let times = format!("{} of {times}", grouped(repetitions.len() as u64));
            writeln!(out, "{:14}{style}{verdict:<12}{style:#}  in {times}: {}", "", numbers(repetitions))?;
        }
    }
    let all = repeats.cells.len();
    if flaky.is_empty() {
        return writeln!(out, "Each of {} had one verdict, and saw the same, in all of {times}.", cells(all));
    }
    let steady = cells(all - flaky.len());
    writeln!(
        out,
        "{} of {} flaky, which is never a pass; {steady} had one verdict in all of {times}.",
        flaky.len(),
        cells(all)
    )
}

/// Numbers of repetitions, the first few.
fn numbers(repetitions: &[usize]) -> String {
    let mut said = String::new();
    for (at, number) in repetitions.iter().take(MOST_NUMBERS).enumerate() {
        // A String takes all that is written to it.
        let _ = write!(said, "{}{number}", if at > 0 { ", " } else { "" });
    }
    said + if repetitions.len() > MOST_NUMBERS { ", ..." } else { "" }
}

/// Prints a repetition in one line, for people who have seen the first one in full.
#[derive(Debug)]
pub struct Brief<W> {
    out: W,
    number: usize,
    of: usize,
}

impl<W: Write> Brief<W> {
    /// Prints repetition `number` of that many to `out`.
    pub fn new(out: W, number: usize, of: usize) -> Self {
        Brief { out, number, of }
    }
}

impl<W: Write> Reporter for Brief<W> {
    fn cell(&mut self, _: &CellVerdict) -> io::Result<()> {
        Ok(())
    }

    fn end(&mut self, tally: &Tally) -> io::Result<()> {
        let (number, of) = (self.number, self.of);
        let digits = of.to_string().len();
        writeln!(self.out, "repetition {number:>digits$} of {of}: {}", tally.words())?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use snapbox::assert_data_eq;
    use snapbox::str;

    fn cell(name: &str, verdict: Verdict, points: u64, reason: &str) -> CellVerdict {
        let judgement = Judgement { points, ..Judgement::new(verdict, reason.into()) };
        CellVerdict { cell: format!("family/{name}"), micros: Some(1), broken: false, judgement }
    }

    fn printed(repeats: &Repeats) -> String {
        let mut bytes = Vec::new();
        print_repeats(&mut anstream::StripStream::new(&mut bytes), repeats).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn what_is_the_same_each_time_is_steady_whatever_the_texts_say() {
        let mut repeats = Repeats::default();
        for n in 0..20 {
            let reason = format!("no answer at {n:#x}");
            let mut untimed = cell("c", Verdict::Inconclusive, 1, &reason);
            untimed.judgement.proof.why = Some(reason.clone());
            repeats.add(&[cell("a", Verdict::Pass, 5, ""), cell("b", Verdict::Xfail, 1, &reason), untimed]);
        }
        assert_eq!((repeats.flaky().count(), repeats.outcome()), (0, Outcome::AsExpected));
        let said = "\nEach of 3 cells had one verdict, and saw the same, in all of 20 repetitions.\n";
        assert_eq!(printed(&repeats), said);
    }

    #[test]
    fn a_cell_that_changed_is_never_a_pass() {
        let mut repeats = Repeats::default();
        for n in 1..=20 {
            let verdict = if n == 7 { Verdict::Inconclusive } else { Verdict::Pass };
            let points = if n % 2 == 0 { 4 } else { 5 };
            let cells =
                [cell("a", verdict, 5, "why"), cell("b", Verdict::Xfail, points, ""), cell("c", Verdict::Pass, 1, "")];
            repeats.add(&cells);
            assert_eq!(repeats.outcome() == Outcome::AsExpected, n == 1, "{n}");
        }
        let cells: Vec<_> = repeats.flaky().map(|flaky| (flaky.cell, flaky.verdict_changed)).collect();
        assert_eq!(cells, [("family/a", true), ("family/b", false)]);
        assert_data_eq!(
            printed(&repeats),
            str![[r#"

       FLAKY  family/a
              pass          in 19 of 20 repetitions: 1, 2, 3, 4, 5, ...
              inconclusive  in 1 of 20 repetitions: 7
       FLAKY  family/b
              the same verdict each time, but not for the same points or reason
              xfail         in 10 of 20 repetitions: 1, 3, 5, 7, 9, ...
              xfail         in 10 of 20 repetitions: 2, 4, 6, 8, 10, ...
2 of 3 cells flaky, which is never a pass; 1 cell had one verdict in all of 20 repetitions.

"#]]
        );
        let json = serde_json::to_value(&repeats).unwrap();
        assert_eq!((&json["repetitions"], &json["as-expected"]), (&20.into(), &false.into()));
        assert_eq!(json["flaky"][0]["ways"][1]["repetitions"], serde_json::json!([7]));
    }

    #[test]
    fn a_cell_that_dies_in_another_way_is_not_the_same() {
        let crashes = |reasons: [&str; 2]| {
            let mut repeats = Repeats::default();
            reasons.into_iter().for_each(|reason| drop(repeats.add(&[cell("a", Verdict::Crash, 0, reason)])));
            repeats.flaky().count()
        };
        assert_eq!(crashes(["a triple fault", "KVM gave up (suberror 1) at RIP 0x1000"]), 1);
        assert_eq!(crashes(["KVM gave up at RIP 0x1000", "KVM gave up at RIP 0x1020"]), 0);
    }

    #[test]
    fn a_broken_host_weighs_more_than_a_flaky_cell() {
        let mut repeats = Repeats::default();
        repeats.add(&[cell("a", Verdict::Pass, 5, "")]);
        repeats.add(&[CellVerdict { broken: true, ..cell("a", Verdict::NotRun, 0, "") }]);
        assert_eq!(repeats.outcome(), Outcome::Broken);
    }

    #[test]
    fn a_repetition_is_one_line() {
        let (mut bytes, mut tally) = (Vec::new(), Tally::default());
        [cell("a", Verdict::Pass, 5, ""), cell("b", Verdict::Skip, 0, "")].iter().for_each(|cell| tally.add(cell));
        Brief::new(&mut bytes, 3, 20).end(&tally).unwrap();
        assert_eq!(String::from_utf8(bytes).unwrap(), "repetition  3 of 20: 1 pass, 1 skip\n");
    }
}
