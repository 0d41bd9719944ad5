//! Runs of kvm-memtype, and what came of their cells.

use crate::inject::{self, Answer, Call, Trap};
use crate::table::Miss;
use kvm_memtype::judge::Verdict;
use kvm_memtype::report::CellVerdict;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex, OnceLock};

/// What came of a run.
pub struct Ran {
    pub code: Option<i32>,
    pub said: String,
    pub cells: Cells,
    pub results: Arc<tempfile::TempDir>,
}

/// Verdict and reason, by cell.
pub type Cells = BTreeMap<String, (Verdict, String)>;

/// The program with these arguments and a results directory.
pub fn program(results: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvm-memtype"));
    command.args(arguments).arg("--results").arg(results).env("NO_COLOR", "1");
    command
}

/// `run --machine kvm` of these filters and options, with calls answered as `decide` says.
pub fn run(
    arguments: &[&str],
    traps: &[Trap],
    decide: impl FnMut(&Call) -> Answer + Send + 'static,
) -> Result<Ran, Miss> {
    let results = Arc::new(tempfile::tempdir().expect("a directory"));
    let arguments = [&["run", "--machine", "kvm", "--format", "json"], arguments].concat();
    ran(inject::run(program(results.path(), &arguments), traps, decide), results)
}

/// Goes on with the one run in that directory.
pub fn resume(results: &Arc<tempfile::TempDir>) -> Result<Ran, Miss> {
    let arguments = ["run", "--resume", "latest", "--format", "json"];
    ran(plain(program(results.path(), &arguments)), results.clone())
}

/// A program with no call answered by anybody but the kernel.
pub fn plain(command: Command) -> std::io::Result<Output> {
    inject::run(command, &[], |_| Answer::GoOn)
}

/// What came of a run whose program ended so.
pub fn ran(output: std::io::Result<Output>, results: Arc<tempfile::TempDir>) -> Result<Ran, Miss> {
    let output = output.map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut => Miss::Wrong(error.to_string()),
        _ => Miss::Skip(format!("no system calls can be answered here: {error}")),
    })?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok(Ran { code: output.status.code(), said, cells: cells(&text), results })
}

/// The cells of what `--format json` prints.
pub fn cells(text: &str) -> Cells {
    let verdicts = text.lines().filter_map(|line| serde_json::from_str::<CellVerdict>(line).ok());
    verdicts.map(|it| (it.cell, (it.judgement.verdict, it.judgement.reason))).collect()
}

/// What comes of these cells where no fault is injected; run once for each list.
pub fn sound(arguments: &[&str]) -> Result<Cells, Miss> {
    type Once = Arc<OnceLock<Cells>>;
    static KNOWN: OnceLock<Mutex<HashMap<String, Once>>> = OnceLock::new();
    let mut known = KNOWN.get_or_init(Mutex::default).lock().expect("nobody panics with it");
    let once = known.entry(arguments.join(" ")).or_default().clone();
    drop(known);
    if once.get().is_none() {
        let ran = run(arguments, &[], |_| Answer::GoOn)?;
        let wrong = |(_, (verdict, _)): &(&String, &(Verdict, String))| {
            !matches!(verdict, Verdict::Pass | Verdict::Xfail | Verdict::Skip)
        };
        if let Some((cell, (verdict, why))) = ran.cells.iter().find(wrong) {
            return Err(Miss::Wrong(format!("{cell} is {verdict} without a fault: {why}")));
        }
        let _ = once.set(ran.cells);
    }
    Ok(once.get().expect("it was set").clone())
}

impl Ran {
    /// The cells that are not as in `sound`, and what they are.
    pub fn differing<'a>(&'a self, sound: &Cells) -> Vec<(&'a str, Verdict, &'a str)> {
        let other = self.cells.iter().filter(|&(cell, is)| sound.get(cell) != Some(is));
        other.map(|(cell, (verdict, why))| (cell.as_str(), *verdict, why.as_str())).collect()
    }

    /// That exit code, and these words on standard error.
    pub fn ended(&self, code: i32, words: &[&str]) -> Result<(), Miss> {
        let missing: Vec<_> = words.iter().filter(|words| !self.said.contains(**words)).collect();
        if self.code == Some(code) && missing.is_empty() {
            return Ok(());
        }
        Err(Miss::Wrong(format!("code {:?} for {code}, {missing:?} not said: {}", self.code, self.said)))
    }

    /// Nothing is lost and nothing is otherwise.
    pub fn unchanged(&self, sound: &Cells) -> Result<(), Miss> {
        match self.cells == *sound {
            true => Ok(()),
            false => Err(Miss::Wrong(format!("{:?}, code {:?}: {}", self.differing(sound), self.code, self.said))),
        }
    }

    /// One cell is otherwise, with one of the verdicts and all of the words in its reason; all others are there. And once the
    /// fault is gone and the run goes on, all is as if it had never been, if that cell is an error.
    pub fn costs_one(&self, sound: &Cells, verdicts: &[Verdict], words: &[&str]) -> Result<String, Miss> {
        let wrong = |what: String| Err(Miss::Wrong(format!("{what}; code {:?}: {}", self.code, self.said)));
        if self.cells.len() != sound.len() {
            return wrong(format!("{} of {} cells are there", self.cells.len(), sound.len()));
        }
        let differing = self.differing(sound);
        let [(cell, verdict, why)] = differing[..] else { return wrong(format!("not one cell: {differing:?}")) };
        if !verdicts.contains(&verdict) || words.iter().any(|words| !why.contains(words)) {
            return wrong(format!("{cell} is {verdict}: {why}; {words:?} were due"));
        }
        Ok(format!("{cell} {verdict}: {why}"))
    }
}
