//! What the witnesses of the host's side have to say of a cell, for people.

use super::human::counted;
use super::sptes::{Change, changes};
use crate::judge::is_finding;
use crate::machine::Observed;
use std::io::{self, Write};

/// Prints each witness' words, at most `most` lines of a kind. `ept` says whether SPTEs are EPT's.
pub(super) fn witnesses(out: &mut impl Write, observed: &Observed, ept: bool, most: usize) -> io::Result<()> {
    let witness = &observed.witness;
    if witness.is_empty() {
        return writeln!(out, "\nNo witness on the host's side watched.");
    }
    let words: Vec<&str> = witness.watched.iter().map(|kind| kind.word()).collect();
    writeln!(out, "\nWitnesses on the host's side: {}", words.join(", "))?;
    list(out, "What they did not see", &witness.gaps, usize::MAX)?;
    list(out, "Newly tainted", &witness.taint, usize::MAX)?;
    let mark = |line: &String| format!("{} {line}", if is_finding(line) { '!' } else { ' ' });
    let log: Vec<String> = witness.kernel_log.iter().map(mark).collect();
    list(out, "The kernel's log", &log, most)?;
    let changes = changes(observed, ept);
    let shown = |change: &&Change| most == usize::MAX || !change.table;
    let lines: Vec<String> = changes
        .iter()
        .filter(shown)
        .map(|change| {
            let zapped = if change.zapped { ", zapped" } else { "" };
            let (line, gfn, level) = (change.line + 1, &change.gfn, change.level);
            format!("line {line:<6}gfn {gfn:<8} level {level}  {} -> {}{zapped}", change.old, change.new)
        })
        .collect();
    list(out, "SPTEs", &lines, most)?;
    let tables = changes.len() - lines.len();
    if tables > 0 {
        writeln!(out, "  {} of tables: --all shows them", counted(tables as u64, "change"))?;
    }
    let width = witness.stats.keys().map(String::len).max().unwrap_or(0);
    let stats: Vec<String> = witness.stats.iter().map(|(name, value)| format!("{name:<width$}  {value}")).collect();
    list(out, "KVM's statistics at the end", &stats, usize::MAX)?;
    list(out, "Events", &witness.trace, most)
}

fn list(out: &mut impl Write, title: &str, lines: &[String], most: usize) -> io::Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{title}: {}", counted(lines.len() as u64, "line"))?;
    lines.iter().take(most).try_for_each(|line| writeln!(out, "  {line}"))?;
    super::explain::rest(out, lines.len(), most, "more of these")
}
