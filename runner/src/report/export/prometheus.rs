//! The format `prometheus`: a file for the textfile collector of node_exporter. There are few series: counts by verdict,
//! times by family, and one for each cell that is not as expected.

use super::Judged;
use crate::judge::Verdict;
use crate::report::tally::is_expected;
use crate::report::{Outcome, Tally};
use crate::results::seconds_since_1970;
use std::collections::BTreeMap;
use std::io::{self, Write};

/// The most cells of a run that have a series of their own. A KVM that is wrong all over must not flood a database; the counts
/// say how many there are.
const MOST_CELLS: usize = 50;

/// What tells the series of runs apart.
type Labels = Vec<(&'static str, String)>;

/// Writes the metrics of runs. Of runs of the same suite on the same machine and kernel, the newest counts.
///
/// # Errors
/// The output cannot be written.
pub fn write(out: &mut dyn Write, runs: &[Judged]) -> io::Result<()> {
    let mut newest = BTreeMap::<Labels, &Judged>::new();
    for judged in runs {
        let entry = newest.entry(labels(judged)).or_insert(judged);
        if judged.run.header.started >= entry.run.header.started {
            *entry = judged;
        }
    }
    let newest: Vec<(Labels, &Judged, Tally)> =
        newest.into_iter().map(|(labels, judged)| (labels, judged, judged.tally())).collect();
    let mut metrics = Metrics { out, runs: &newest };
    metrics.each("run_info", "What was run, on what.", |judged, tally, sample| {
        let policies: Vec<&str> = tally.policies.iter().map(String::as_str).collect();
        let about = [
            ("version", judged.run.header.version.as_str()),
            ("kvm", judged.host("KVM")),
            ("cpu", judged.host("CPU")),
            ("policy", &policies.join(",")),
        ];
        sample(&about, 1.0)
    })?;
    metrics.each("run_start_timestamp_seconds", "When the run began.", |judged, _, sample| {
        seconds_since_1970(&judged.run.header.started).map_or(Ok(()), |seconds| sample(&[], seconds as f64))
    })?;
    metrics.each("run_as_expected", "Whether all was as expected (1) or not (0).", |_, tally, sample| {
        sample(&[], f64::from(u8::from(tally.outcome() == Outcome::AsExpected)))
    })?;
    metrics.each("run_cells", "Cells of the run by verdict.", |_, tally, sample| {
        Verdict::ALL.iter().try_for_each(|&verdict| sample(&[("verdict", verdict.word())], tally.count(verdict) as f64))
    })?;
    metrics.each("run_points", "Points that the run decided.", |_, tally, sample| sample(&[], tally.points as f64))?;
    metrics.each("run_family_vm_seconds", "Time that the VMs of a family took.", |judged, _, sample| {
        judged.families().iter().try_for_each(|(family, cells)| {
            let micros: u64 = cells.iter().filter_map(|cell| cell.micros).sum();
            sample(&[("family", family)], micros as f64 / 1e6)
        })
    })?;
    metrics.each(
        "cell_unexpected_info",
        "A cell that is not as expected; the first 50 of a run.",
        |judged, _, sample| {
            let unexpected = judged.verdicts.iter().filter(|cell| !is_expected(cell.judgement.verdict));
            unexpected.take(MOST_CELLS).try_for_each(|cell| {
                sample(&[("cell", cell.cell.as_str()), ("verdict", cell.judgement.verdict.word())], 1.0)
            })
        },
    )
}

fn labels(judged: &Judged) -> Labels {
    let header = &judged.run.header;
    vec![
        ("suite", header.suite.clone()),
        ("machine", header.machine.clone()),
        ("kernel", judged.kernel().to_owned()),
        ("repetition", judged.repetition.to_string()),
    ]
}

/// Takes more labels and a value.
type Sample<'a> = dyn FnMut(&[(&str, &str)], f64) -> io::Result<()> + 'a;

struct Metrics<'a> {
    out: &'a mut dyn Write,
    runs: &'a [(Labels, &'a Judged, Tally)],
}

impl Metrics<'_> {
    /// Writes a metric with the samples that `samples` gives for each run. It is a gauge: a run replaces the one before.
    fn each(
        &mut self,
        name: &str,
        help: &str,
        samples: impl Fn(&Judged, &Tally, &mut Sample<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let out = &mut *self.out;
        writeln!(out, "# HELP kvm_memtype_{name} {help}\n# TYPE kvm_memtype_{name} gauge")?;
        for (labels, judged, tally) in self.runs {
            samples(judged, tally, &mut |more, value| {
                let labels = labels.iter().map(|(name, value)| (*name, value.as_str()));
                let all: Vec<String> = labels
                    .chain(more.iter().copied())
                    .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
                    .collect();
                writeln!(out, "kvm_memtype_{name}{{{}}} {value}", all.join(","))
            })?;
        }
        Ok(())
    }
}

/// A label's value, as the text format escapes it.
fn escaped(text: &str) -> String {
    text.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
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
    fn each_verdict_is_counted() {
        assert_data_eq!(written(&[every_verdict()]), file!["golden/every-verdict.prom"].raw());
    }

    #[test]
    fn there_is_one_series_for_the_same_labels_and_it_is_the_newest() {
        let mut old = run(&[Verdict::Fail]);
        old.run.header.started = "20251121T180614Z".into();
        for runs in [[old.clone(), run(&[Verdict::Pass])], [run(&[Verdict::Pass]), old.clone()]] {
            let text = written(&runs);
            let series: Vec<&str> = text.lines().filter(|line| line.contains("verdict=\"pass\"")).collect();
            assert_eq!(series.len(), 1, "{text}");
            assert!(series[0].ends_with(" 1"), "{text}");
        }
    }

    #[test]
    fn a_flood_of_failures_is_bounded() {
        let text = written(&[run(&[Verdict::Fail; 500])]);
        assert_eq!(text.lines().filter(|line| line.starts_with("kvm_memtype_cell_unexpected_info{")).count(), 50);
    }

    #[test]
    fn values_are_escaped() {
        assert_eq!(escaped("a\\b\"c\"\nd"), r#"a\\b\"c\"\nd"#);
    }
}
