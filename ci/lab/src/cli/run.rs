//! `run`: boots kernels, some at a time, and says what came of each as it ends.

use super::args::{Lab, Run};
use super::progress::{Line, Progress};
use super::summary::Summary;
use super::task::{Listener, Origin, Task};
use super::{Failure, Outcome};
use crate::cache;
use crate::kernel::{Kernels, Local, Variant, param};
use kvm_memtype::config::{ConfigError, Set};
use kvm_memtype::execute::chain;
use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

/// Set by SIGINT, SIGTERM or SIGHUP: machines are stopped, and what came so far stays. The second of them ends the
/// process at once, and the machines with it.
static STOP: AtomicBool = AtomicBool::new(false);

/// Boots all kernels that are asked for.
pub fn run(lab: &Lab, args: &Run) -> Result<Outcome, Failure> {
    let tasks = tasks(lab, args)?;
    let set = Set::load(None)?;
    args.suite.iter().try_for_each(|suite| set.source("suites", "suite", suite).map(drop))?;
    // The second would write over what the first left.
    if let Some((_, suite)) = args.suite.iter().enumerate().find(|(n, suite)| args.suite[..*n].contains(suite)) {
        return Err(Failure::Usage(format!("suite `{suite}` is named twice")));
    }
    let root = cache::root().map_err(Failure::Broken)?;
    listen()?;
    // Twice as many as there are CPUs: three kernels on two of them take as long as one and a half, not two.
    let cpus = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let jobs = args.jobs.map_or(2 * cpus, NonZeroUsize::get);
    let (next, worst, progress) = (AtomicUsize::new(0), Mutex::new(Outcome::AsExpected), Progress::new());
    thread::scope(|scope| {
        for _ in 0..jobs.min(tasks.len()) {
            scope.spawn(|| {
                while let Some(task) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = one(task, args, &root, &progress);
                    // Poisoned only by a panic, which the scope tells of.
                    if let Ok(mut worst) = worst.lock() {
                        *worst = outcome.max(*worst);
                    }
                }
            });
        }
    });
    Ok(worst.into_inner().unwrap_or(Outcome::Broken))
}

/// Boots one kernel and says what came of it.
fn one(task: &Task, args: &Run, root: &Path, progress: &Progress) -> Outcome {
    let (began, line) = (Instant::now(), progress.line(&task.variant.to_string()));
    if STOP.load(Ordering::Relaxed) {
        line.end(&format!("{}  not run", task.variant));
        return Outcome::Broken;
    }
    let came = task.run(args, root, &STOP, &line);
    let seconds = began.elapsed().as_secs_f64();
    let summary = match came {
        Ok(came) => Summary::new(&task.variant, &args.suite, &came, seconds),
        Err(error) => Summary::broken(&task.variant, &chain(error.as_ref())),
    };
    line.end(&summary.text);
    summary.outcome
}

fn listen() -> Result<(), Failure> {
    let handler = || {
        if STOP.swap(true, Ordering::SeqCst) {
            std::process::exit(3);
        }
    };
    ctrlc::set_handler(handler).map_err(|error| Failure::Broken(format!("cannot handle signals: {error}")))
}

/// What is asked for, in its order.
fn tasks(lab: &Lab, args: &Run) -> Result<Vec<Task>, Failure> {
    let kernels = Kernels::load(lab.kernels.as_deref())?;
    let mut tasks = Vec::new();
    for name in &args.names {
        let variant: Variant = name.parse().map_err(Failure::Usage)?;
        tasks.push(Task { origin: Origin::Debian(kernels.get(&variant.kernel)?.clone()), variant });
    }
    if let (Some(image), Some(modules)) = (&args.bzimage, &args.modules) {
        tasks.push(Task { origin: Origin::Local(Local::new(image, modules)?), variant: Variant::local(image) });
    }
    for tree in &args.tree {
        let name = fs::canonicalize(tree).unwrap_or_else(|_| tree.clone());
        tasks.push(Task { origin: Origin::Local(Local::tree(tree)?), variant: Variant::local(&name) });
    }
    for task in &mut tasks {
        let variant = &mut task.variant;
        args.cmdline.iter().try_for_each(|word| variant.add(word, false)).map_err(Failure::Usage)?;
        for word in &args.module_param {
            variant.params.push(param(word).map_err(Failure::Usage)?);
        }
        variant.cpu = variant.cpu.take().or_else(|| args.cpu.clone());
        let modules: Vec<String> = task.origin.modules(args.machine()).map(|name| name.replace('-', "_")).collect();
        if let Some((module, _)) = task.variant.params.iter().find(|(module, _)| !modules.contains(module)) {
            return Err(ConfigError::no_such("module", module, modules.iter().map(String::as_str)).into());
        }
    }
    if tasks.is_empty() {
        let ids: Vec<&str> = kernels.all().map(|spec| spec.id.as_str()).collect();
        return Err(Failure::Usage(format!(
            "no kernel is named; `lab run {}` runs all that have a file",
            ids.join(" ")
        )));
    }
    Ok(tasks)
}

impl Listener for Line<'_> {
    fn say(&self, text: &str) {
        Line::say(self, text);
    }

    fn cell(&self, id: &str) {
        Line::cell(self, id);
    }
}
