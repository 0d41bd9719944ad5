//! The format `junit`: XML by the schema of Jenkins' xUnit plugin (junit-10.xsd), a test suite for each family of a run.

use super::{Judged, is_quiet, points, reason, titles};
use crate::judge::Verdict;
use crate::report::CellVerdict;
use crate::results::rfc3339;
use std::borrow::Cow;
use std::io::{self, Write};

/// Writes runs as one document.
///
/// # Errors
/// The output cannot be written.
pub fn write(out: &mut dyn Write, runs: &[Judged]) -> io::Result<()> {
    writeln!(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>")?;
    let all = Counts::of(runs.iter().flat_map(|judged| &judged.verdicts));
    let Counts { tests, failures, errors, time, .. } = &all;
    let time = seconds(*time);
    writeln!(
        out,
        r#"<testsuites name="kvm-memtype" tests="{tests}" failures="{failures}" errors="{errors}" time="{time}">"#
    )?;
    for (judged, title) in runs.iter().zip(titles(runs)) {
        for (family, cells) in judged.families() {
            suite(out, judged, &format!("{title}: {family}"), family, &cells)?;
        }
    }
    writeln!(out, "</testsuites>")
}

fn suite(out: &mut dyn Write, judged: &Judged, name: &str, family: &str, cells: &[&CellVerdict]) -> io::Result<()> {
    let header = &judged.run.header;
    let Counts { tests, failures, errors, skipped, time } = Counts::of(cells.iter().copied());
    let (name, time, timestamp) = (escaped(name), seconds(time), rfc3339(&header.started).unwrap_or_default());
    writeln!(
        out,
        r#"  <testsuite name="{name}" tests="{tests}" failures="{failures}" errors="{errors}" skipped="{skipped}" time="{time}" timestamp="{}">"#,
        // By the schema of the Ant task, which others check by, it has no zone.
        timestamp.trim_end_matches('Z')
    )?;
    writeln!(out, "    <properties>")?;
    let version = ("kvm-memtype", header.version.as_str());
    let policies = judged.policies();
    let about = header.host.iter().map(|(what, is)| (what.as_str(), is.as_str()));
    for (what, is) in about.chain([version, ("policy", policies.as_str())]) {
        writeln!(out, r#"      <property name="{}" value="{}"/>"#, escaped(what), escaped(is))?;
    }
    writeln!(out, "    </properties>")?;
    for cell in cells {
        let (name, time) = (escaped(&cell.cell), seconds(cell.micros.unwrap_or(0)));
        let class = escaped(&format!("{}.{family}", header.suite)).into_owned();
        let case = format!(r#"    <testcase name="{name}" classname="{class}" time="{time}""#);
        match element(cell.judgement.verdict) {
            None => writeln!(out, "{case}/>")?,
            Some(element) => {
                let (verdict, message, mut body) = (cell.judgement.verdict, reason(cell), String::new());
                points(cell).for_each(|point| body += &format!("{}\n", escaped(&point)));
                writeln!(out, "{case}>")?;
                writeln!(
                    out,
                    r#"      <{element} type="{verdict}" message="{}">{body}</{element}>"#,
                    escaped(&message)
                )?;
                writeln!(out, "    </testcase>")?;
            }
        }
    }
    writeln!(out, "  </testsuite>")
}

/// The element that says what came of a cell. JUnit has no word for a known failure or for what cannot be told: both are
/// skipped, as pytest has it, and their type says which.
fn element(verdict: Verdict) -> Option<&'static str> {
    match verdict {
        Verdict::Pass => None,
        Verdict::Xfail | Verdict::Skip | Verdict::Inconclusive => Some("skipped"),
        Verdict::Fail | Verdict::Xpass | Verdict::Crash | Verdict::Timeout => Some("failure"),
        Verdict::Error | Verdict::NotRun => Some("error"),
    }
}

/// What the attributes of a suite count.
#[derive(Default)]
struct Counts {
    tests: u64,
    failures: u64,
    errors: u64,
    skipped: u64,
    /// Microseconds.
    time: u64,
}

impl Counts {
    fn of<'a>(cells: impl Iterator<Item = &'a CellVerdict>) -> Counts {
        cells.fold(Counts::default(), |mut counts, cell| {
            let verdict = cell.judgement.verdict;
            counts.tests += 1;
            counts.failures += u64::from(element(verdict) == Some("failure"));
            counts.errors += u64::from(element(verdict) == Some("error"));
            counts.skipped += u64::from(is_quiet(verdict));
            counts.time += cell.micros.unwrap_or(0);
            counts
        })
    }
}

/// Microseconds as seconds; the schema takes no more than milliseconds.
fn seconds(micros: u64) -> String {
    let millis = micros.div_ceil(1000);
    format!("{}.{:03}", millis / 1000, millis % 1000)
}

/// A text for between tags or within quotes. What XML 1.0 has no place for at all is replaced.
fn escaped(text: &str) -> Cow<'_, str> {
    let harmless = |c: char| !matches!(c, '&' | '<' | '>' | '"' | '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}');
    if text.chars().all(harmless) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\t' | '\n' | '\r' => out += &format!("&#{};", u32::from(c)),
            c if harmless(c) => out.push(c),
            _ => out.push(char::REPLACEMENT_CHARACTER),
        }
    }
    out.into()
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
    fn each_verdict_has_its_element() {
        assert_data_eq!(written(&[every_verdict()]), file!["golden/every-verdict.xml"].raw());
    }

    #[test]
    fn only_a_pass_has_no_element() {
        for verdict in Verdict::ALL {
            let cases = written(&[run(&[verdict])]);
            assert_eq!(cases.contains("</testcase>"), verdict != Verdict::Pass, "{verdict}");
        }
    }

    #[test]
    fn what_xml_cannot_hold_is_replaced() {
        assert_eq!(escaped("a\u{0}\u{1b}\u{ffff}b"), "a\u{fffd}\u{fffd}\u{fffd}b");
        assert_eq!(escaped("<a & \"b\">\n"), "&lt;a &amp; &quot;b&quot;&gt;&#10;");
    }

    #[test]
    fn times_are_rounded_up_to_milliseconds() {
        assert_eq!([0, 1, 1_000, 61_000_001].map(seconds), ["0.000", "0.001", "0.001", "61.001"]);
    }
}
