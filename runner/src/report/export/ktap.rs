//! The format `ktap`: the kernel's test protocol, version 1 (Documentation/dev-tools/ktap.rst), with subtests: a run, its
//! families, their cells. Points that are not as predicted are diagnostic lines before their cell's result.

use super::{Judged, points, reason, titles};
use crate::judge::Verdict;
use crate::report::CellVerdict;
use crate::report::tally::is_expected;
use std::io::{self, Write};

/// Writes runs as one document.
///
/// # Errors
/// The output cannot be written.
pub fn write(out: &mut dyn Write, runs: &[Judged]) -> io::Result<()> {
    writeln!(out, "KTAP version 1\n1..{}", runs.len())?;
    for ((number, judged), title) in (1..).zip(runs).zip(titles(runs)) {
        let families = judged.families();
        begin(out, "  ", &title, families.len())?;
        for (what, is) in &judged.run.header.host {
            writeln!(out, "  # {what}: {is}")?;
        }
        writeln!(out, "  # policy: {}", judged.policies())?;
        for ((number, (family, cells)), indent) in (1..).zip(families).zip(std::iter::repeat("    ")) {
            begin(out, indent, family, cells.len())?;
            for (number, cell) in (1..).zip(&cells) {
                points(cell).try_for_each(|point| writeln!(out, "{indent}# {point}"))?;
                writeln!(out, "{indent}{}", result(number, cell))?;
            }
            writeln!(out, "  {}", parent(number, family, cells.into_iter()))?;
        }
        writeln!(out, "{}", parent(number, &title, judged.verdicts.iter()))?;
    }
    Ok(())
}

fn begin(out: &mut dyn Write, indent: &str, name: &str, subtests: usize) -> io::Result<()> {
    writeln!(out, "{indent}KTAP version 1\n{indent}# Subtest: {name}\n{indent}1..{subtests}")
}

/// The line of a cell's result. A reader that does not know a directive goes by `ok` and `not ok`, so nothing is `ok` of
/// which it is not known that it is as it should be: but for a skip, which kselftest prints so, and a known deviation,
/// which kselftest prints so, too (`ksft_test_result_xfail` of tools/testing/selftests/kselftest.h).
fn result(number: usize, cell: &CellVerdict) -> String {
    let (name, reason) = (&cell.cell, reason(cell));
    match cell.judgement.verdict {
        Verdict::Pass => format!("ok {number} {name}"),
        Verdict::Skip => format!("ok {number} {name} # SKIP {reason}"),
        Verdict::Xfail => format!("ok {number} {name} # XFAIL {reason}"),
        Verdict::Inconclusive => format!("not ok {number} {name} # SKIP inconclusive: {reason}"),
        Verdict::Timeout => format!("not ok {number} {name} # TIMEOUT {reason}"),
        Verdict::Error => format!("not ok {number} {name} # ERROR {reason}"),
        verdict @ (Verdict::Crash | Verdict::NotRun) => format!("not ok {number} {name} # ERROR {verdict}: {reason}"),
        verdict @ (Verdict::Fail | Verdict::Xpass) => format!("not ok {number} {name} # {verdict}: {reason}"),
    }
}

/// The line that ends a test with these cells below it. It fails if one of them does, and is a skip if they all are.
fn parent<'a>(number: usize, name: &str, cells: impl Iterator<Item = &'a CellVerdict> + Clone) -> String {
    let all = |wanted: fn(Verdict) -> bool| cells.clone().all(|cell| wanted(cell.judgement.verdict));
    if !all(is_expected) {
        format!("not ok {number} {name}")
    } else if all(|verdict| verdict == Verdict::Skip) {
        format!("ok {number} {name} # SKIP all are")
    } else if all(|verdict| matches!(verdict, Verdict::Skip | Verdict::Inconclusive)) {
        format!("not ok {number} {name} # SKIP nothing is decided")
    } else {
        format!("ok {number} {name}")
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{every_verdict, run, text};
    use super::*;
    use snapbox::{assert_data_eq, file};

    fn written(runs: &[Judged]) -> String {
        text(|out| write(out, runs))
    }

    #[test]
    fn each_verdict_has_its_line() {
        assert_data_eq!(written(&[every_verdict()]), file!["golden/every-verdict.ktap"].raw());
    }

    #[test]
    fn only_what_is_as_it_should_be_or_known_is_ok() {
        for line in written(&[every_verdict()]).lines().filter(|line| line.trim_start().starts_with("ok ")) {
            let ok = ["pass", "SKIP", "XFAIL"].iter().any(|word| line.contains(word));
            assert!(ok && !line.contains("inconclusive"), "{line}");
        }
    }

    #[test]
    fn a_parent_fails_with_its_subtests_and_is_no_pass_where_nothing_is_decided() {
        let last = |verdicts: &[Verdict]| written(&[run(verdicts)]).lines().last().unwrap().to_owned();
        assert_eq!(last(&[Verdict::Pass, Verdict::Skip, Verdict::Inconclusive]), "ok 1 smoke");
        assert_eq!(last(&[Verdict::Pass, Verdict::NotRun]), "not ok 1 smoke");
        assert_eq!(last(&[Verdict::Skip, Verdict::Skip]), "ok 1 smoke # SKIP all are");
        assert_eq!(last(&[Verdict::Skip, Verdict::Inconclusive]), "not ok 1 smoke # SKIP nothing is decided");
    }
}
