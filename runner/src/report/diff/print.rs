//! The differences of two sides, for people and as JSON.

use super::super::human::{grouped, style};
use super::{Changed, Diff, Difference, Kind, Side};
use crate::judge::Verdict;
use crate::report::counted;
use serde::Serialize;
use std::collections::BTreeSet;
use std::io::{self, Write};

/// The most cells, values or differences that stand in a list for people, unless all are asked for.
const MOST: usize = 8;
const MOST_DIFFERENCES: usize = 40;

/// Prints for people; all of every list with `all`.
///
/// # Errors
/// The output cannot be written.
pub fn print_diff(out: &mut impl Write, [from, to]: [&Side; 2], diff: &Diff, all: bool) -> io::Result<()> {
    for (word, side) in [("from", from), ("to", to)] {
        for (n, about) in side.about.iter().enumerate() {
            writeln!(out, "{:<6}{about}", if n == 0 { word } else { "" })?;
        }
    }
    for kind in Kind::ALL {
        verdicts(out, kind, diff.changed.iter().filter(|changed| changed.kind == kind).collect(), all)?;
    }
    for (cells, side) in diff.alone.iter().zip(["from", "to"]) {
        if !cells.is_empty() {
            writeln!(out, "\nOnly in {side}: {}: {}", count(cells.len()), list(cells.iter(), all))?;
        }
    }
    let mut what = "";
    for (n, it) in diff.differences.iter().enumerate() {
        if n == MOST_DIFFERENCES && !all {
            writeln!(out, "\n{} more kinds of differences: --all shows them", diff.differences.len() - n)?;
            break;
        }
        if it.what != what {
            writeln!(out, "\nSeen otherwise: {}", it.what)?;
            what = it.what;
        }
        difference(out, it, all)?;
    }
    let Diff { both, observed, same, .. } = diff;
    let newly = diff.changed.iter().filter(|changed| changed.kind == Kind::NewlyFailing).count();
    writeln!(
        out,
        "\n{} on both sides: {} with another verdict, {} newly failing.",
        count(*both),
        grouped(diff.changed.len() as u64),
        grouped(newly as u64)
    )?;
    writeln!(out, "{} ran on both: in {} of them the same was seen.", count(*observed), grouped(*same as u64))
}

fn verdicts(out: &mut impl Write, kind: Kind, cells: Vec<&Changed>, all: bool) -> io::Result<()> {
    if cells.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{}: {}", kind.title(), count(cells.len()))?;
    // Cells of the same change for the same reason are one entry.
    let mut entries: Vec<(&Changed, Vec<&str>)> = Vec::new();
    for changed in cells {
        let key = |it: &Changed| (it.from, it.to, it.reason.clone());
        match entries.iter_mut().find(|(first, _)| key(first) == key(changed)) {
            Some((_, ids)) => ids.push(&changed.cell),
            None => entries.push((changed, vec![&changed.cell])),
        }
    }
    let shown = if all || kind == Kind::NewlyFailing { entries.len() } else { entries.len().min(MOST) };
    for (Changed { from, to, reason, .. }, ids) in &entries[..shown] {
        let loud = style(*to);
        writeln!(out, "  {from} -> {loud}{to}{loud:#}  {}", list(ids.iter(), all))?;
        if *to != Verdict::Pass && !reason.is_empty() {
            writeln!(out, "      {reason}")?;
        }
    }
    if shown < entries.len() {
        writeln!(out, "  and {} more kinds: --all shows them", entries.len() - shown)?;
    }
    Ok(())
}

fn difference(out: &mut impl Write, it: &Difference, all: bool) -> io::Result<()> {
    let axes: Vec<String> = it.axes.iter().map(|(axis, values)| format!("{axis} {}", list(values, all))).collect();
    writeln!(out, "  {} -> {}", it.from, it.to)?;
    writeln!(out, "      where  {}", axes.join("; "))?;
    let points = counted(it.points, "point");
    writeln!(out, "      {points} in {}: {}", count(it.cells.len()), list(&it.cells, all))
}

fn count(cells: usize) -> String {
    counted(cells as u64, "cell")
}

/// The first few of these.
fn list(values: impl IntoIterator<Item = impl AsRef<str>>, all: bool) -> String {
    let values: Vec<_> = values.into_iter().collect();
    let shown = if all { values.len() } else { values.len().min(MOST) };
    let mut said = values[..shown].iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
    if shown < values.len() {
        said += &format!(" and {} more", values.len() - shown);
    }
    said
}

/// Prints one JSON object.
///
/// # Errors
/// The output cannot be written.
pub fn print_diff_json(out: &mut impl Write, [from, to]: [&Side; 2], diff: &Diff) -> io::Result<()> {
    #[derive(Serialize)]
    #[serde(rename_all = "kebab-case")]
    struct Axis<'a> {
        axis: &'a str,
        values: &'a BTreeSet<String>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "kebab-case")]
    struct Seen<'a> {
        what: &'a str,
        axes: Vec<Axis<'a>>,
        from: &'a str,
        to: &'a str,
        points: u64,
        cells: &'a BTreeSet<String>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "kebab-case")]
    struct Whole<'a> {
        from: &'a [String],
        to: &'a [String],
        cells: usize,
        only_in_from: &'a [String],
        only_in_to: &'a [String],
        changed: &'a [Changed],
        seen: Vec<Seen<'a>>,
    }
    let seen = diff.differences.iter().map(|it| Seen {
        what: it.what,
        axes: it.axes.iter().map(|(axis, values)| Axis { axis, values }).collect(),
        from: &it.from,
        to: &it.to,
        points: it.points,
        cells: &it.cells,
    });
    let whole = Whole {
        from: &from.about,
        to: &to.about,
        cells: diff.both,
        only_in_from: &diff.alone[0],
        only_in_to: &diff.alone[1],
        changed: &diff.changed,
        seen: seen.collect(),
    };
    serde_json::to_writer(&mut *out, &whole)?;
    writeln!(out)
}
