//! Proposals for KVM against runs: what each kernel does of each of them, in a table in Markdown.

use super::verdict::{Cells, test};
use crate::config::{self, ConfigError, Source};
use crate::host::facts::Fact;
use crate::judge::{CellLog, Contrast, Judge, Verdict};
use crate::model::policy::{Policies, Policy};
use crate::plan::pattern::{Patterns, matches};
use crate::results::{CellOutcome, Run};
use serde::Deserialize;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::io::{self, Write};
use toml::Spanned;

/// A proposal: what a KVM that follows it does otherwise than others, and in which cells that shows.
#[derive(Debug, Clone)]
pub struct Proposal {
    /// Its id, the file's name.
    pub id: String,
    /// One line that says what it gives a guest.
    pub summary: String,
    /// Patched kernels that show it, by the lab's names.
    pub kernels: Vec<String>,
    cells: Patterns,
    asks: Option<String>,
    by: By,
    source: Source,
}

/// By what it shows whether a KVM follows it.
#[derive(Debug, Clone)]
enum By {
    /// By points at which a policy predicts otherwise than others.
    Policy { wanted: String, others: Vec<String> },
    /// By verdicts alone.
    Verdict,
}

/// What is in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    summary: String,
    #[serde(default)]
    kernels: Vec<String>,
    /// Patterns over ids of cells.
    cells: Patterns,
    /// A fact that is true of a KVM that takes what it asks for.
    asks: Option<String>,
    /// The policy of a KVM that follows it.
    policy: Option<Spanned<String>>,
    /// Policies of KVMs that do not.
    instead_of: Option<Vec<Spanned<String>>>,
}

impl Proposal {
    /// Reads the file of a proposal, which names some of these policies and has patterns over cells of these ids.
    ///
    /// # Errors
    /// The first mistake in it.
    pub fn read(source: &Source, policies: &Policies, cells: &[String]) -> Result<Proposal, ConfigError> {
        let file: File = config::parse(source)?;
        matches(source, &file.cells, "cell", cells)?;
        let known = |name: Spanned<String>| match policies.get(name.get_ref()) {
            Ok(policy) => Ok(policy.id.clone()),
            Err(error) => Err(ConfigError::at(source, name.span(), error.to_string())),
        };
        let by = match (file.policy, file.instead_of) {
            (None, None) => By::Verdict,
            (Some(wanted), Some(others)) if !others.is_empty() => {
                By::Policy { wanted: known(wanted)?, others: others.into_iter().map(known).collect::<Result<_, _>>()? }
            }
            _ => return Err(ConfigError::file(source, "`policy` and `instead-of` go together, or neither is there")),
        };
        let File { summary, kernels, cells, asks, .. } = file;
        Ok(Proposal { id: source.id().to_owned(), summary, kernels, cells, asks, by, source: source.clone() })
    }
}

/// What a kernel does of a proposal, in a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Answer {
    /// What the proposal says.
    Honoured,
    /// What kernels without it do.
    Ignored,
    /// This KVM has nothing by which it could be asked for.
    Refused,
    /// Something else.
    Wrong,
    /// Nothing that tells was seen.
    Open,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Answer::Honoured => "honoured",
            Answer::Ignored => "ignored",
            Answer::Refused => "refused",
            Answer::Wrong => "wrong",
            Answer::Open => "open",
        })
    }
}

/// How many cells of a run gave which answer.
pub type Answers = BTreeMap<Answer, u64>;

/// What the cells of a run answer to a proposal.
pub fn answers(judge: &Judge<'_>, policies: &Policies, proposal: &Proposal, run: &Run) -> Answers {
    let cells = Cells::new(&run.header);
    let names: Vec<String> = run.header.cells.iter().map(|cell| cell.id.clone()).collect();
    // A run that has none of its cells answers nothing.
    let meant = matches(&proposal.source, &proposal.cells, "cell", &names).unwrap_or_default();
    let meant: HashSet<&str> = meant.into_iter().map(|at| names[at].as_str()).collect();
    let mut answers = Answers::new();
    for result in run.results.iter().filter(|result| meant.contains(result.cell.as_str())) {
        let (cell, facts) = (result.cell.as_str(), cells.facts(&result.cell));
        let lacks = |fact: &String| facts.get(fact) != Some(&Fact::Bool(true));
        let answer = match &result.outcome {
            _ if proposal.asks.as_ref().is_some_and(lacks) => Answer::Refused,
            CellOutcome::Skip(_) => Answer::Open,
            CellOutcome::Died(_) | CellOutcome::Error(_) => Answer::Wrong,
            CellOutcome::Observed(observed) => match &proposal.by {
                By::Verdict => of_verdict(cells.verdict(judge, result).judgement.verdict),
                By::Policy { wanted, others } => {
                    let get = |id: &String| policies.get(id).ok();
                    let others: Vec<&Policy> = others.iter().filter_map(get).collect();
                    let log = CellLog { cell, test: test(cell), observed, run: cells.run_id(cell), facts: &facts };
                    get(wanted).map_or(Answer::Open, |wanted| of_contrast(judge.contrast(&log, wanted, &others)))
                }
            },
        };
        *answers.entry(answer).or_default() += 1;
    }
    answers
}

fn of_verdict(verdict: Verdict) -> Answer {
    match verdict {
        Verdict::Pass => Answer::Honoured,
        Verdict::Skip | Verdict::Inconclusive | Verdict::NotRun => Answer::Open,
        _ => Answer::Wrong,
    }
}

/// One answer for all points of a cell: what is neither one nor the other is wrong, and so is a cell that is both.
fn of_contrast(contrast: Contrast) -> Answer {
    match contrast {
        Contrast { wanted: 0, others: 0, neither: 0 } => Answer::Open,
        Contrast { others: 0, neither: 0, .. } => Answer::Honoured,
        Contrast { wanted: 0, neither: 0, .. } => Answer::Ignored,
        _ => Answer::Wrong,
    }
}

/// Prints the table: a row for each proposal, a column for each kernel, with the number of cells behind each answer.
///
/// # Errors
/// The output cannot be written.
pub fn print_proposals(out: &mut impl Write, kernels: &[String], rows: &[(&Proposal, Vec<Answers>)]) -> io::Result<()> {
    writeln!(out, "| proposal | {} |", kernels.join(" | "))?;
    writeln!(out, "|---|{}", "---|".repeat(kernels.len()))?;
    for (proposal, columns) in rows {
        let columns: Vec<String> = columns.iter().map(in_words).collect();
        writeln!(out, "| {}: {} | {} |", proposal.id, proposal.summary, columns.join(" | "))?;
    }
    Ok(())
}

/// Cells that tell nothing are not counted beside those that do.
fn in_words(answers: &Answers) -> String {
    let telling = answers.iter().filter(|(answer, _)| **answer != Answer::Open);
    let words: Vec<String> = telling.map(|(answer, count)| format!("{answer} ({count})")).collect();
    if words.is_empty() { "-".to_owned() } else { words.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_that_is_both_or_neither_is_wrong() {
        let answer = |wanted, others, neither| of_contrast(Contrast { wanted, others, neither });
        assert_eq!(
            (answer(0, 0, 0), answer(2, 0, 0), answer(0, 2, 0)),
            (Answer::Open, Answer::Honoured, Answer::Ignored)
        );
        assert!(
            [answer(1, 1, 0), answer(1, 0, 1), answer(0, 1, 1), answer(0, 0, 1)].iter().all(|it| *it == Answer::Wrong)
        );
        assert_eq!((of_verdict(Verdict::Pass), of_verdict(Verdict::Xfail)), (Answer::Honoured, Answer::Wrong));
    }

    #[test]
    fn the_table_counts_what_tells() {
        let answers = |list: &[(Answer, u64)]| list.iter().copied().collect::<Answers>();
        assert_eq!(
            in_words(&answers(&[(Answer::Honoured, 7), (Answer::Wrong, 1), (Answer::Open, 3)])),
            "honoured (7), wrong (1)"
        );
        assert_eq!((in_words(&answers(&[(Answer::Open, 3)])), in_words(&answers(&[]))), ("-".into(), "-".into()));
    }

    #[test]
    fn mistakes_are_shown_with_their_place() {
        let set = crate::config::Set::load(None).unwrap();
        let policies = Policies::load(set.sources("policies").map(|(_, source)| source)).unwrap();
        let read = |text: &str| {
            let source = Source { name: "p.toml".into(), text: format!("summary = 's'\n{text}") };
            Proposal::read(&source, &policies, &["memtype/pat".into()]).map_err(|error| error.to_string()).unwrap_err()
        };
        for (text, said) in [
            ("cells = ['memtype/pta']", "p.toml:2:10: unknown cell `memtype/pta`, did you mean `memtype/pat`?"),
            ("cells = ['*']\npolicy = 'x'\ninstead-of = ['kvm-6.7']", "p.toml:3:10: no policy `x`"),
            ("cells = ['*']\npolicy = 'kvm-6.7'", "p.toml: `policy` and `instead-of` go together"),
            ("cels = ['*']", "p.toml:2:1: unknown field `cels`, did you mean `cells`?"),
        ] {
            let error = read(text);
            assert!(error.starts_with(said), "{error}");
        }
    }
}
