//! The format `kcidb`: a submission to the Linux Foundation's database of kernel test results, by version 5.3 of its schema.
//!
//! What is not known is left out: no commit is named, because a running kernel does not say of which it was built. Whoever
//! knows gives the id of the build that was submitted, and then this names no checkout and no build of its own.

use super::{Judged, points, reason};
use crate::judge::Verdict;
use crate::report::CellVerdict;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

/// The version of the schema.
const VERSION: (u32, u32) = (5, 3);
/// The most characters of an excerpt of a log, by the schema.
const MOST_EXCERPT: usize = 16384;

/// Who submits: the name of a CI system, which begins each id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(String);

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        match text.is_empty() || !text.chars().all(good) {
            true => Err("an origin is lower-case letters, digits and underscores".to_owned()),
            false => Ok(Origin(text.to_owned())),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The id of an object that somebody submitted before: `origin:what`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Id(String);

impl FromStr for Id {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some((origin, _)) if !text.contains('\0') => origin.parse::<Origin>().map(|_| Id(text.to_owned())),
            _ => Err("an id is `origin:what`".to_owned()),
        }
    }
}

/// Writes runs as one submission by `origin`. `build` is the build that was tested, if it was submitted before.
///
/// # Errors
/// The output cannot be written.
pub fn write(out: &mut dyn Write, runs: &[Judged], origin: &Origin, build: Option<&Id>) -> io::Result<()> {
    let mut submission = Submission {
        origin,
        builds: BTreeMap::new(),
        issues: BTreeMap::new(),
        tests: Vec::new(),
        incidents: Vec::new(),
    };
    for judged in runs {
        let build = build.map_or_else(|| submission.build(judged), |build| build.0.clone());
        judged.verdicts.iter().for_each(|cell| submission.test(judged, &build, cell));
    }
    let Submission { builds, issues, tests, incidents, .. } = submission;
    let (checkouts, builds): (Vec<Value>, Vec<Value>) = builds.into_values().unzip();
    let issues: Vec<Value> = issues.into_values().collect();
    let all = json!({
        "version": { "major": VERSION.0, "minor": VERSION.1 },
        "checkouts": checkouts, "builds": builds, "tests": tests, "issues": issues, "incidents": incidents,
    });
    serde_json::to_writer_pretty(&mut *out, &all)?;
    writeln!(out)
}

struct Submission<'a> {
    origin: &'a Origin,
    /// Checkout and build by the kernel that they are of.
    builds: BTreeMap<String, (Value, Value)>,
    /// Known deviations by id.
    issues: BTreeMap<String, Value>,
    tests: Vec<Value>,
    incidents: Vec<Value>,
}

impl Submission<'_> {
    /// The id of the build that a run's host had booted, as far as its `uname` tells it from others.
    fn build(&mut self, judged: &Judged) -> String {
        let (origin, kernel) = (self.origin, judged.host("kernel"));
        let id = format!("{origin}:{}", kernel.replace(' ', "-"));
        self.builds.entry(id.clone()).or_insert_with(|| {
            let about = json!({ "id": id, "origin": origin.0, "comment": kernel });
            let mut build = about.clone();
            build["checkout_id"] = id.clone().into();
            build["architecture"] = "x86_64".into();
            (about, build)
        });
        id
    }

    fn test(&mut self, judged: &Judged, build: &str, cell: &CellVerdict) {
        let (header, judgement, origin) = (&judged.run.header, &cell.judgement, self.origin);
        let id =
            format!("{origin}:kvm-memtype-{}-{:x}-{}-{}", header.started, header.run, judged.repetition, cell.cell);
        let mut test = Map::new();
        let mut set = |name: &str, value: Value| test.insert(name.to_owned(), value);
        set("id", id.clone().into());
        set("origin", origin.0.clone().into());
        set("build_id", build.into());
        set("path", path(&cell.cell).into());
        set("status", status(cell).into());
        let comment = format!("{}; {}", judged.host("CPU"), judged.host("machine"));
        set("environment", json!({ "comment": comment }));
        if let Some(micros) = cell.micros {
            set("duration", (micros as f64 / 1e6).into());
        }
        if !judgement.reason.is_empty() {
            set("comment", reason(cell).into());
        }
        let excerpt: String = points(cell).map(|point| point + "\n").collect();
        if !excerpt.is_empty() {
            set("log_excerpt", excerpt.chars().take(MOST_EXCERPT).collect::<String>().into());
        }
        // Nothing may be null there.
        let mut more = json!({ "cell": cell.cell, "verdict": judgement.verdict, "suite": header.suite });
        more["points"] = judgement.points.into();
        if let Some(policy) = &judgement.policy {
            more["policy"] = policy.as_str().into();
        }
        set("misc", json!({ "kvm-memtype": more }));
        self.tests.push(test.into());
        judgement.deviations.iter().for_each(|deviation| self.known(cell, &id, deviation));
    }

    /// Says that a known deviation showed in a test.
    fn known(&mut self, cell: &CellVerdict, test: &str, deviation: &str) {
        let origin = self.origin;
        let id = format!("{origin}:kvm-memtype-{deviation}");
        let issue = self.issues.entry(deviation.to_owned()).or_insert_with(
            || json!({ "id": id, "origin": origin.0, "version": 1, "culprit": { "code": true }, "comment": deviation }),
        );
        // A verdict tells the reason of the first of its deviations.
        if cell.judgement.verdict == Verdict::Xfail && cell.judgement.reason.starts_with(&format!("{deviation}: ")) {
            issue["comment"] = reason(cell).into();
        }
        self.incidents.push(json!({
            "id": format!("{test}-{deviation}"), "origin": origin.0, "issue_id": id, "issue_version": 1, "test_id": test,
            "present": true,
        }));
    }
}

/// The status of a cell, by the words of the schema. A known deviation is a fault of the tested code, whose incident names
/// the issue; what nothing is predicted of is done, and says nothing about the code.
fn status(cell: &CellVerdict) -> &'static str {
    match cell.judgement.verdict {
        Verdict::Pass => "PASS",
        Verdict::Fail | Verdict::Xfail | Verdict::Xpass | Verdict::Crash => "FAIL",
        Verdict::Inconclusive => "DONE",
        Verdict::Skip => "SKIP",
        Verdict::Error if cell.broken => "MISS",
        Verdict::Error | Verdict::Timeout => "ERROR",
        Verdict::NotRun => "MISS",
    }
}

/// A cell's place in the tree of all tests: `kvm-memtype.family.test.vm`.
fn path(cell: &str) -> String {
    let word = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let parts = cell.split(['/', '@']).map(|part| part.chars().map(word).collect::<String>());
    std::iter::once("kvm-memtype".to_owned()).chain(parts).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::super::testing::{every_verdict, text};
    use super::*;
    use snapbox::{assert_data_eq, file};

    fn written(build: Option<&str>) -> String {
        let build = build.map(|build| build.parse().unwrap());
        text(|out| write(out, &[every_verdict()], &"my_lab".parse().unwrap(), build.as_ref()))
    }

    #[test]
    fn each_verdict_has_its_status() {
        assert_data_eq!(written(None), file!["golden/every-verdict.kcidb.json"].raw());
    }

    #[test]
    fn a_build_that_was_submitted_is_named_and_not_made() {
        let said: Value = serde_json::from_str(&written(Some("kernelci:5eed"))).unwrap();
        assert_eq!((&said["builds"], &said["checkouts"]), (&json!([]), &json!([])));
        assert!(said["tests"].as_array().unwrap().iter().all(|test| test["build_id"] == "kernelci:5eed"));
    }

    #[test]
    fn only_a_pass_is_pass() {
        let run = every_verdict();
        let passed = run.verdicts.iter().filter(|cell| status(cell) == "PASS").map(|cell| cell.judgement.verdict);
        assert_eq!(passed.collect::<Vec<_>>(), [Verdict::Pass]);
    }

    #[test]
    fn names_are_checked_before_a_run_is_read() {
        assert!(["", "My", "my-lab"].iter().all(|bad| bad.parse::<Origin>().is_err()));
        assert!(["", "kernelci", ":x", "a b:x"].iter().all(|bad| bad.parse::<Id>().is_err()));
        assert_eq!(path("memtype/mtrr-types@x.y"), "kvm-memtype.memtype.mtrr-types.x_y");
    }
}
