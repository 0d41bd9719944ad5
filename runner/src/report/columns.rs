//! What tables with a column for each run have in common: names of runs, and why one shows nothing.

use crate::machine::Observed;
use crate::results::{CellOutcome, Header, Run};
use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

/// The runs by their kernels, and where two have the same kernel, by as much of their directories as tells them apart.
pub fn names(runs: &[&Run]) -> Vec<String> {
    let runs: Vec<_> = runs.iter().map(|run| (run.dir.as_path(), kernel(&run.header))).collect();
    told_apart(&runs)
}

/// Names of directories; where two have the same name, with as much of the directories as tells them apart.
pub fn told_apart<N: AsRef<str> + Eq>(named: &[(&Path, N)]) -> Vec<String> {
    let told = |(dir, name): &(&Path, N)| {
        let same: Vec<&Path> = named.iter().filter(|(_, other)| other == name).map(|(dir, _)| *dir).collect();
        let name = name.as_ref();
        if same.len() == 1 { name.to_owned() } else { format!("{name} ({})", tail(dir, &same)) }
    };
    named.iter().map(told).collect()
}

/// The kernel of a run, as `uname -r` has it.
pub fn kernel(header: &Header) -> &str {
    let kernel = header.host.get("kernel").map_or("", String::as_str);
    kernel.split(' ').nth(1).unwrap_or("unknown kernel")
}

/// The shortest end of a path that is the end of no other of these; all of it, if one of them is the same.
fn tail(path: &Path, all: &[&Path]) -> String {
    let parts: Vec<_> = path.iter().collect();
    let tails = (0..parts.len()).rev().map(|from| parts[from..].iter().collect::<std::path::PathBuf>());
    let alone = |tail: &std::path::PathBuf| all.iter().filter(|other| other.ends_with(tail)).count() == 1;
    tails.into_iter().find(alone).unwrap_or_else(|| path.to_owned()).display().to_string()
}

/// Why a run shows nothing of what other runs show in these cells.
pub fn why_not<'a>(run: &'a Run, cells: &BTreeSet<&str>) -> Option<&'a str> {
    run.results.iter().filter(|result| cells.contains(result.cell.as_str())).find_map(|result| match &result.outcome {
        CellOutcome::Skip(reason) | CellOutcome::Died(reason) | CellOutcome::Error(reason) => Some(reason.as_str()),
        CellOutcome::Observed(observed) => gap(observed),
    })
}

/// What the witnesses missed of a cell, if anything: it proves nothing then.
pub fn gap(observed: &Observed) -> Option<&str> {
    observed.witness.gaps.first().map(String::as_str)
}

/// Footnotes, in the order in which they were first wanted.
#[derive(Debug, Default)]
pub struct Notes(Vec<String>);

impl Notes {
    /// A dash, with a footnote where there is a reason.
    pub fn dash(&mut self, reason: Option<&str>) -> String {
        let Some(reason) = reason else { return "-".to_owned() };
        let at = self.0.iter().position(|note| note == reason).unwrap_or_else(|| {
            self.0.push(reason.to_owned());
            self.0.len() - 1
        });
        format!("-[^{}]", at + 1)
    }
}

impl fmt::Display for Notes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (1..).zip(&self.0).try_for_each(|(n, note)| writeln!(f, "[^{n}]: {note}"))?;
        if self.0.is_empty() { Ok(()) } else { writeln!(f) }
    }
}

/// The list of the runs, by their names, with what is known of their hosts.
#[derive(Debug)]
pub struct Runs<'a>(pub &'a [&'a Run], pub &'a [String]);

impl fmt::Display for Runs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "## Runs\n")?;
        for (run, name) in self.0.iter().zip(self.1) {
            let host: Vec<&str> = run.header.host.values().map(String::as_str).collect();
            let clock = run.header.facts.get("clock").map(|clock| format!(", clock {clock}"));
            let (suite, started, clock) = (&run.header.suite, &run.header.started, clock.unwrap_or_default());
            writeln!(f, "- {name}: {}{clock}; suite {suite}, {started}", host.join("; "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_told_by_its_end() {
        let paths = ["r/1-6.1/zaps", "r/2-6.1+a/zaps", "r/2-6.1+a/default", "r/2-6.1+a/default"].map(Path::new);
        let tails = paths.map(|path| tail(path, &paths));
        assert_eq!(tails, ["1-6.1/zaps", "2-6.1+a/zaps", "r/2-6.1+a/default", "r/2-6.1+a/default"]);
        assert_eq!(tail(paths[0], &[paths[0]]), "zaps");
    }

    #[test]
    fn a_reason_has_one_footnote() {
        let mut notes = Notes::default();
        assert_eq!((notes.dash(None), notes.to_string()), ("-".into(), String::new()));
        let marks = ["no device", "no root", "no device"].map(|reason| notes.dash(Some(reason)));
        assert_eq!(marks, ["-[^1]", "-[^2]", "-[^1]"]);
        assert_eq!(notes.to_string(), "[^1]: no device\n[^2]: no root\n\n");
    }
}
