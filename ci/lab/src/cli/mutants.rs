//! `mutants`: KVMs that are wrong on purpose, and who notices.

use super::args::{Lab, Mutants as Args, MutantsFormat};
use super::progress::{Line, Progress};
use super::stop::{STOP, listen};
use super::summary::Summary;
use super::task::{Came, Change, Origin, Task, Work};
use super::{Failure, Outcome, pool};
use crate::boot::Ending;
use crate::cache;
use crate::kernel::{Kernels, Spec, Variant};
use crate::patch::{Mutant, Mutants, PatchError};
use kvm_memtype::execute::chain;
use kvm_memtype::report::{CellVerdict, is_expected};
use kvm_memtype::results;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Instant;

/// The most cells that are named as those that killed a mutant.
const MOST_CELLS: usize = 3;
/// The suite of random histories.
const FUZZ: &str = "fuzz";
/// The name under which a stock KVM that was built anew is booted.
const STOCK: &str = "rebuilt";

/// One KVM to be run.
enum Subject<'a> {
    /// The stock one of a kernel, built in the same way, with the suites that its mutants are run on.
    Stock(&'a Spec, Vec<String>),
    /// A wrong one, and the policy that it should follow.
    Mutant(&'a Mutant, &'a Spec, &'a str),
}

/// What became of one.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fate {
    /// Somebody noticed: the cells, or the kernel that died.
    Killed(Vec<String>),
    /// Nobody noticed.
    Survived,
    /// It could not be run; why.
    Broken(String),
}

/// Builds and runs them all.
pub fn mutants(lab: &Lab, args: &Args) -> Result<Outcome, Failure> {
    let kernels = Kernels::load(lab.kernels.as_deref())?;
    let mutants = Mutants::load(args.mutants.as_deref(), &kernels)?;
    let mutants = mutants.named(&args.names)?;
    let subjects = subjects(&kernels, &mutants, !args.no_control)?;
    let root = cache::root().map_err(Failure::Broken)?;
    listen()?;
    let cpus = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let progress = Progress::new();
    let fates = pool::each(args.jobs.map_or(cpus, NonZeroUsize::get), &subjects, |subject| {
        let (began, line) = (Instant::now(), progress.line(&subject.name()));
        let fate = subject.run(args, &root, &line);
        let text = format!("{}  {:.1} s", subject.told(&fate, args.fuzz), began.elapsed().as_secs_f64());
        match args.format {
            MutantsFormat::Human => line.end(&text),
            MutantsFormat::Markdown => line.say(&text),
        }
        fate
    });
    if args.format == MutantsFormat::Markdown {
        print_table(&subjects, &fates, args.fuzz);
    }
    anstream::println!("\n{}", sum(&subjects, &fates, args.fuzz));
    let all = subjects.iter().zip(&fates);
    Ok(all.map(|(subject, fate)| subject.outcome(fate, args.fuzz)).max().unwrap_or(Outcome::AsExpected))
}

/// How many of them were killed, in a line.
fn sum(subjects: &[Subject<'_>], fates: &[Fate], fuzz: Option<u64>) -> String {
    let count = |wanted: &dyn Fn(&Subject<'_>, &Fate) -> bool| {
        subjects.iter().zip(fates).filter(|(subject, fate)| wanted(subject, fate)).count()
    };
    let mutants = count(&|subject, _| !subject.is_stock());
    let killed = count(&|subject, fate| !subject.is_stock() && matches!(fate, Fate::Killed(_)));
    let broken = count(&|subject, fate| !subject.is_stock() && matches!(fate, Fate::Broken(_)));
    let survived =
        |with: bool| count(&|it, fate| !it.is_stock() && *fate == Fate::Survived && it.reason().is_some() == with);
    let stock = count(&|subject, _| subject.is_stock());
    let right = count(&|subject, fate| subject.is_stock() && *fate == Fate::Survived);
    let all = match fuzz {
        None => format!(
            "{killed} killed, {} survived with a reason, {} survived, {broken} broken",
            survived(true),
            survived(false)
        ),
        Some(seconds) => format!(
            "{killed} killed by random histories alone in {seconds} s each, {} not, {broken} broken",
            survived(true) + survived(false)
        ),
    };
    format!("{mutants} mutants: {all}; {right} of {stock} stock KVMs as expected")
}

/// What is to be run: first the stock KVM of each kernel, if wanted, then the mutants.
fn subjects<'a>(kernels: &'a Kernels, mutants: &[&'a Mutant], stock: bool) -> Result<Vec<Subject<'a>>, Failure> {
    let mut suites: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let mut subjects = Vec::new();
    for mutant in mutants {
        let spec = kernels.get(&mutant.kernel)?;
        let build = spec.build.as_ref().ok_or_else(|| PatchError::NoBuild(spec.id.clone()))?;
        suites.entry(&mutant.kernel).or_default().extend(mutant.suites.iter().cloned());
        subjects.push(Subject::Mutant(mutant, spec, &build.policy));
    }
    let mut all = Vec::new();
    if stock {
        for (kernel, suites) in suites {
            all.push(Subject::Stock(kernels.get(kernel)?, suites.into_iter().collect()));
        }
    }
    all.append(&mut subjects);
    Ok(all)
}

impl Subject<'_> {
    fn name(&self) -> String {
        match self {
            Subject::Stock(spec, _) => format!("{STOCK}.{}", spec.id),
            Subject::Mutant(mutant, ..) => mutant.id().to_owned(),
        }
    }

    fn is_stock(&self) -> bool {
        matches!(self, Subject::Stock(..))
    }

    /// Why no guest can tell it from the right one.
    fn reason(&self) -> Option<&str> {
        match self {
            Subject::Stock(..) => None,
            Subject::Mutant(mutant, ..) => mutant.survives.as_deref(),
        }
    }

    /// Runs the cells that should kill it, and where they do not, suite after suite until one does.
    fn run(&self, args: &Args, root: &Path, line: &Line<'_>) -> Fate {
        if let Some(seconds) = args.fuzz {
            return self.fuzz(args, seconds, root, line);
        }
        let (suites, cells, policy) = match self {
            Subject::Stock(_, suites) => return self.boot(args, suites, &[], None, root, line),
            Subject::Mutant(mutant, _, policy) => (&mutant.suites, &mutant.cells, *policy),
        };
        let fast = (!args.all).then(|| "--fail-fast".to_owned());
        let mut stages: Vec<(&[String], Vec<String>)> = Vec::new();
        if !args.all && !cells.is_empty() {
            stages.push((&suites[..1], cells.iter().cloned().chain(fast.clone()).collect()));
        }
        match args.all {
            true => stages.push((suites, Vec::new())),
            false => stages.extend(suites.chunks(1).map(|suite| (suite, fast.iter().cloned().collect()))),
        }
        let run = |(suites, arguments): (&[String], Vec<String>)| {
            self.boot(args, suites, &arguments, Some(policy), root, line)
        };
        stages.into_iter().map(run).find(|fate| *fate != Fate::Survived).unwrap_or(Fate::Survived)
    }

    /// Runs random histories on it, up to the first that shows something unknown.
    fn fuzz(&self, args: &Args, seconds: u64, root: &Path, line: &Line<'_>) -> Fate {
        let arguments = format!("--seed {} --time {seconds} --fail-fast", args.seed);
        let arguments: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
        let policy = match self {
            Subject::Stock(..) => None,
            Subject::Mutant(.., policy) => Some(*policy),
        };
        self.boot(args, &[FUZZ.to_owned()], &arguments, policy, root, line)
    }

    /// Boots it once.
    fn boot(
        &self,
        args: &Args,
        suites: &[String],
        arguments: &[String],
        policy: Option<&str>,
        root: &Path,
        line: &Line<'_>,
    ) -> Fate {
        if STOP.load(Ordering::Relaxed) {
            return Fate::Broken("not run".to_owned());
        }
        let (spec, name, diffs) = match self {
            Subject::Stock(spec, _) => (*spec, STOCK, Vec::new()),
            Subject::Mutant(mutant, spec, _) => (*spec, mutant.name.as_str(), vec![mutant.diff.clone()]),
        };
        let variant = Variant { kernel: spec.id.clone(), patches: vec![name.to_owned()], ..Variant::default() };
        let change = Change { diffs, policy: policy.map(str::to_owned), ..Change::default() };
        let task = Task { variant, origin: Origin::Debian(Box::new(spec.clone())), change: Some(change) };
        let work = Work { booting: &args.booting, suites, arguments };
        match task.run(work, root, &STOP, line) {
            Ok(came) => fate(&task.variant, suites, &came),
            Err(error) => Fate::Broken(chain(error.as_ref())),
        }
    }

    /// What is said of its fate, in a line or a few. Random histories need not kill.
    fn told(&self, fate: &Fate, fuzz: Option<u64>) -> String {
        let (word, rest) = match (self, fate) {
            (Subject::Stock(..), Fate::Survived) => ("as expected", String::new()),
            (Subject::Stock(..), Fate::Killed(cells)) => ("FALSE ALARM", cells.join(", ")),
            (Subject::Mutant(..), Fate::Killed(cells)) if fuzz.is_none() && self.reason().is_some() => {
                ("KILLED", format!("although its head says that it survives: {}", cells.join(", ")))
            }
            (Subject::Mutant(..), Fate::Killed(cells)) => ("killed", cells.join(", ")),
            (Subject::Mutant(..), Fate::Survived) if fuzz.is_some() => ("not found", String::new()),
            (Subject::Mutant(..), Fate::Survived) => match self.reason() {
                Some(reason) => ("survived", reason.to_owned()),
                None => ("SURVIVED", "no suite noticed, and its head has no line `Survives: ...`".to_owned()),
            },
            (_, Fate::Broken(why)) => ("BROKEN", why.clone()),
        };
        format!("{word:<12}{:<36}{rest}", self.name())
    }

    fn outcome(&self, fate: &Fate, fuzz: Option<u64>) -> Outcome {
        match (self, fate) {
            (_, Fate::Broken(_)) => Outcome::Broken,
            (Subject::Stock(..), Fate::Survived) => Outcome::AsExpected,
            (Subject::Stock(..), Fate::Killed(_)) => Outcome::Surprise,
            (Subject::Mutant(..), _) if fuzz.is_some() => Outcome::AsExpected,
            (Subject::Mutant(..), fate) if matches!(fate, Fate::Survived) == self.reason().is_some() => {
                Outcome::AsExpected
            }
            (Subject::Mutant(..), _) => Outcome::Surprise,
        }
    }
}

/// What a boot came to.
fn fate(variant: &Variant, suites: &[String], came: &Came) -> Fate {
    let mut killers = Vec::new();
    for suite in suites {
        match results::read_verdicts(&came.dir.path().join(suite)) {
            Ok(verdicts) => killers.extend(self::killers(&verdicts.unwrap_or_default())),
            Err(error) => return Fate::Broken(chain(&error)),
        }
    }
    match &came.ending {
        Ending::Panic(_) | Ending::Reset(_) => killers.push(came.ending.to_string()),
        // A host that is busy looks the same, so nobody has noticed anything.
        Ending::Hung(_) if killers.is_empty() => {
            return Fate::Broken(format!("{}; if the host is busy, --silence gives it more time", came.ending));
        }
        _ => {}
    }
    let summary = Summary::new(variant, suites, came, 0.0);
    match summary.outcome {
        _ if !killers.is_empty() => {
            let more = killers.len().saturating_sub(MOST_CELLS);
            killers.truncate(MOST_CELLS);
            killers.extend((more > 0).then(|| format!("and {more} more")));
            Fate::Killed(killers)
        }
        Outcome::AsExpected => Fate::Survived,
        _ => Fate::Broken(summary.text),
    }
}

/// The cells that are not as expected, each with its verdict.
fn killers(verdicts: &[CellVerdict]) -> Vec<String> {
    let is_killer = |cell: &&CellVerdict| {
        !cell.broken
            && cell.judgement.verdict != kvm_memtype::judge::Verdict::NotRun
            && !is_expected(cell.judgement.verdict)
    };
    let told = |cell: &CellVerdict| format!("{} ({})", cell.cell, cell.judgement.verdict);
    verdicts.iter().filter(is_killer).map(told).collect()
}

/// Prints a table of the mutants.
fn print_table(subjects: &[Subject<'_>], fates: &[Fate], fuzz: Option<u64>) {
    anstream::println!("| mutant | kernel | what is wrong | rule | killed by |\n|---|---|---|---|---|");
    for (subject, fate) in subjects.iter().zip(fates) {
        let Subject::Mutant(mutant, ..) = subject else { continue };
        let by = match fate {
            Fate::Killed(cells) => cells.iter().map(|cell| format!("`{cell}`")).collect::<Vec<_>>().join(", "),
            Fate::Survived if fuzz.is_some() => "-".to_owned(),
            Fate::Survived => format!("survives: {}", subject.reason().unwrap_or("**nobody knows why**")),
            Fate::Broken(why) => format!("**broken**: {why}"),
        };
        let row = [mutant.name.as_str(), &mutant.kernel, &mutant.wrong, &mutant.rule, &by];
        anstream::println!("| {} |", row.map(|cell| cell.replace('|', "\\|").replace('\n', " ")).join(" | "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvm_memtype::judge::{Judgement, Verdict};

    fn cell(id: &str, verdict: Verdict, broken: bool) -> CellVerdict {
        CellVerdict { cell: id.into(), micros: None, broken, judgement: Judgement::new(verdict, String::new()) }
    }

    #[test]
    fn only_a_surprise_kills() {
        let all = [
            cell("pass", Verdict::Pass, false),
            cell("xfail", Verdict::Xfail, false),
            cell("not-run", Verdict::NotRun, false),
            cell("no-vm", Verdict::Error, true),
        ];
        assert_eq!(killers(&all), Vec::<String>::new());
        for verdict in [Verdict::Fail, Verdict::Xpass, Verdict::Crash, Verdict::Timeout, Verdict::Error] {
            assert_eq!(killers(&[cell("a/b", verdict, false)]), [format!("a/b ({verdict})")]);
        }
    }

    #[test]
    fn a_survivor_needs_a_reason_and_a_reason_a_survivor() {
        let head = "Wrong: w\nRule: r\nSuites: memtype\n";
        let text = "--- a/arch/x86/kvm/a.c\n+++ b/arch/x86/kvm/a.c\n@@ -1 +1 @@\n-a\n+b\n";
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("bad.6.1.diff"), format!("{head}{text}")).unwrap();
        std::fs::write(dir.path().join("same.6.1.diff"), format!("{head}Survives: s\n{text}")).unwrap();
        let kernels = Kernels::load(None).unwrap();
        let mutants = Mutants::load(Some(dir.path()), &kernels).unwrap();
        let all = subjects(&kernels, &mutants.named(&[]).unwrap(), true).unwrap();
        let [stock, bad, same] = &all[..] else { panic!("{}", all.len()) };
        let killed = Fate::Killed(vec!["a/b (fail)".into()]);
        let outcomes = |fate: &Fate| [stock, bad, same].map(|subject| subject.outcome(fate, None));
        let found = |fate: &Fate| [stock, bad, same].map(|subject| subject.outcome(fate, Some(120)));
        assert_eq!(outcomes(&Fate::Survived), [Outcome::AsExpected, Outcome::Surprise, Outcome::AsExpected]);
        assert_eq!(outcomes(&killed), [Outcome::Surprise, Outcome::AsExpected, Outcome::Surprise]);
        assert_eq!(outcomes(&Fate::Broken(String::new())), [Outcome::Broken; 3]);
        let told = stock.told(&killed, None);
        assert!(told.starts_with("FALSE ALARM rebuilt.6.1"), "{told}");
        // Random histories may miss one, and must not blame the stock KVM.
        assert_eq!(found(&Fate::Survived), [Outcome::AsExpected; 3]);
        assert_eq!(found(&killed), [Outcome::Surprise, Outcome::AsExpected, Outcome::AsExpected]);
        let fates = [Fate::Survived, killed, Fate::Survived];
        let sums = [None, Some(120)].map(|fuzz| sum(&all, &fates, fuzz));
        assert_eq!(
            sums,
            [
                "2 mutants: 1 killed, 1 survived with a reason, 0 survived, 0 broken; 1 of 1 stock KVMs as expected",
                "2 mutants: 1 killed by random histories alone in 120 s each, 1 not, 0 broken; 1 of 1 stock KVMs as expected",
            ]
        );
    }
}
