//! The format `lava`: what a test shell of LAVA reads off the console, a family as a test set and a cell as a test case
//! in it (`lava_dispatcher/actions/test/shell.py`, `signal_test_case` and `signal_test_set`).

use super::Judged;
use crate::judge::Verdict;
use crate::report::CellVerdict;
use std::io::{self, Write};

/// Writes runs, one after the other.
///
/// # Errors
/// The output cannot be written.
pub fn write(out: &mut dyn Write, runs: &[Judged]) -> io::Result<()> {
    for (family, cells) in runs.iter().flat_map(Judged::families) {
        writeln!(out, "<LAVA_SIGNAL_TESTSET START {family}>")?;
        cells.into_iter().try_for_each(|cell| writeln!(out, "{}", case(cell)))?;
        writeln!(out, "<LAVA_SIGNAL_TESTSET STOP>")?;
    }
    Ok(())
}

/// A cell's line. LAVA takes words of the form `KEY=VALUE`; a name with another character than these would end one.
fn case(cell: &CellVerdict) -> String {
    let name = cell.cell.split_once('/').map_or(cell.cell.as_str(), |(_, name)| name);
    let known = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_') { c } else { '_' };
    let name: String = name.chars().map(known).collect();
    let took = cell.micros.map(|micros| format!(" MEASUREMENT={:.6} UNITS=seconds", micros as f64 / 1e6));
    let result = result(cell.judgement.verdict);
    format!("<LAVA_SIGNAL_TESTCASE TEST_CASE_ID={name} RESULT={result}{}>", took.unwrap_or_default())
}

/// One of LAVA's four results. What is no surprise but no pass either is not known to it, and what makes a run end with
/// another exit code than 0 is a failure.
fn result(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Skip => "skip",
        Verdict::Xfail | Verdict::Inconclusive => "unknown",
        Verdict::Fail | Verdict::Xpass | Verdict::Crash | Verdict::Timeout | Verdict::Error | Verdict::NotRun => "fail",
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::every_verdict;
    use super::*;
    use crate::report::tally::is_expected;
    use snapbox::{assert_data_eq, file};

    #[test]
    fn each_verdict_has_its_line() {
        let mut bytes = Vec::new();
        write(&mut bytes, &[every_verdict()]).unwrap();
        assert_data_eq!(String::from_utf8(bytes).unwrap(), file!["golden/every-verdict.lava"].raw());
    }

    #[test]
    fn what_is_not_as_expected_fails() {
        for verdict in Verdict::ALL {
            assert_eq!(result(verdict) == "fail", !is_expected(verdict), "{verdict}");
        }
    }
}
