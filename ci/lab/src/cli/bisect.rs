//! `bisect`: whether a kernel's tree is good, for `git bisect run`.

use super::Outcome;
use super::args::Bisect;
use super::progress::Progress;
use super::stop::{STOP, listen};
use super::summary::Summary;
use super::task::{Came, Origin, Task, Work};
use crate::boot::Ending;
use crate::cache;
use crate::child;
use crate::fetch::FetchError;
use crate::kernel::{Local, Variant};
use kvm_memtype::config::Set;
use kvm_memtype::execute::chain;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::Instant;

/// What `git bisect run` takes from an exit code: git-bisect(1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The commit is good.
    Good = 0,
    /// It is bad.
    Bad = 1,
    /// It cannot be told of this commit.
    Skip = 125,
    /// It cannot be told of any: the bisection stops.
    Stop = 128,
}

/// Builds, boots, and answers.
pub fn bisect(args: &Bisect) -> ExitCode {
    let answer = match answer(args) {
        Ok(answer) => answer,
        Err((answer, why)) => {
            anstream::eprintln!("lab: {why}");
            answer
        }
    };
    ExitCode::from(answer as u8)
}

/// Says what is wrong with the command line. To `git bisect run` clap's own exit code would say that the commit is bad.
pub fn refused(error: &clap::Error) -> ExitCode {
    if error.use_stderr() && std::env::args().nth(1).is_some_and(|verb| verb == "bisect") {
        let _ = error.print();
        return ExitCode::from(Answer::Stop as u8);
    }
    error.exit()
}

fn answer(args: &Bisect) -> Result<Answer, (Answer, String)> {
    let stop = |why: String| (Answer::Stop, why);
    let skip = |why: String| (Answer::Skip, why);
    let set = Set::load(None).map_err(|error| stop(chain(&error)))?;
    for suite in &args.suite {
        set.source("suites", "suite", suite).map_err(|error| stop(chain(&error)))?;
    }
    let root = cache::root().map_err(stop)?;
    let tree = fs::canonicalize(&args.tree).map_err(|error| stop(format!("{}: {error}", args.tree.display())))?;
    if !tree.join("Makefile").is_file() || !tree.join(".config").is_file() {
        return Err(stop(format!("{}: no kernel's tree with a Makefile and a .config", tree.display())));
    }
    listen().map_err(|_| stop("cannot handle signals".to_owned()))?;
    let (progress, variant) = (Progress::new(), Variant::local(&tree));
    let (began, line) = (Instant::now(), progress.line(&variant.to_string()));
    line.say("building");
    let jobs = thread::available_parallelism().map_or(1, usize::from);
    make(&tree, &["olddefconfig"]).map_err(skip)?;
    let words: Vec<&str> = args.make.split_whitespace().collect();
    make(&tree, &[&[format!("-j{jobs}").as_str()], &words[..]].concat()).map_err(skip)?;
    let local = Local::tree(&tree).map_err(|error| skip(chain(&error)))?;
    let task = Task { variant, origin: Origin::Local(local), change: None };
    let work = Work { booting: &args.booting, suites: &args.suite, arguments: &args.arguments };
    let came = task.run(work, &root, &STOP, &line).map_err(|error| {
        // The kernel's files are not what they should be; whatever else fails is no fault of the commit.
        let answer = if error.is::<FetchError>() { Answer::Skip } else { Answer::Stop };
        (answer, chain(error.as_ref()))
    })?;
    let summary = Summary::new(&task.variant, &args.suite, &came, began.elapsed().as_secs_f64());
    line.end(&summary.text);
    Ok(of(&came, summary.outcome))
}

/// Runs make in the tree. What it says goes on to whoever looks at the bisection.
fn make(tree: &Path, words: &[&str]) -> Result<(), String> {
    let said = |why: String| format!("make {} in {} failed: {why}", words.join(" "), tree.display());
    let output = child::output(Command::new("make").arg("-C").arg(tree).args(words).env("LC_ALL", "C"));
    let output = output.map_err(|error| said(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let errors: Vec<&str> =
        output.stderr.lines().filter(|line| line.contains("error") || line.contains("***")).collect();
    let first = errors.first().copied().unwrap_or_else(|| output.stderr.trim());
    Err(said(format!("{}: {first}", output.status)))
}

/// The answer of a boot.
fn of(came: &Came, outcome: Outcome) -> Answer {
    match (outcome, &came.ending) {
        (Outcome::AsExpected, _) => Answer::Good,
        (Outcome::Surprise, _) => Answer::Bad,
        (Outcome::Kernel, _) if came.began => Answer::Bad,
        (Outcome::Kernel, _) | (Outcome::Broken, Ending::Init(_)) => Answer::Skip,
        (Outcome::Broken, _) => Answer::Stop,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{Booted, Directory};

    #[test]
    fn each_end_has_its_answer() {
        let root = tempfile::tempdir().unwrap();
        let came = |ending: Ending, began: bool| {
            let dir = Directory::make(root.path(), &Booted::default()).unwrap();
            Came { ending, release: None, suites: Vec::new(), without: Vec::new(), complete: false, began, dir }
        };
        let panic = || Ending::Panic(String::new());
        for (ending, began, outcome, answer) in [
            (Ending::Done, true, Outcome::AsExpected, Answer::Good),
            (Ending::Done, true, Outcome::Surprise, Answer::Bad),
            (panic(), true, Outcome::Kernel, Answer::Bad),
            (panic(), false, Outcome::Kernel, Answer::Skip),
            (Ending::Init(String::new()), false, Outcome::Broken, Answer::Skip),
            (Ending::Interrupted, true, Outcome::Broken, Answer::Stop),
            (Ending::Done, true, Outcome::Broken, Answer::Stop),
        ] {
            let words = format!("{ending:?} {began} {outcome:?}");
            assert_eq!(of(&came(ending, began), outcome), answer, "{words}");
        }
    }

    #[test]
    fn a_tree_that_does_not_build_is_told() {
        let tree = tempfile::tempdir().unwrap();
        fs::write(tree.path().join("Makefile"), "all:\n\t@echo 'a.c:1: error: no' >&2; exit 1\n").unwrap();
        if kvm_memtype::machine::program::on_path("make").is_none() {
            return crate::skip::skip("there is no make here");
        }
        let said = make(tree.path(), &["all"]).unwrap_err();
        assert!(said.starts_with("make all in ") && said.ends_with("a.c:1: error: no"), "{said}");
    }
}
