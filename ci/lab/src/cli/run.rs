//! `run`: boots kernels, some at a time, and says what came of each as it ends.

use super::args::{Lab, Run};
use super::progress::{Line, Progress};
use super::stop::{STOP, listen};
use super::summary::Summary;
use super::task::{Change, Listener, Origin, Task, Work};
use super::{Failure, Outcome, pool};
use crate::cache;
use crate::kernel::{Kernels, Local, Variant, param};
use crate::patch::Patches;
use kvm_memtype::config::{ConfigError, Set};
use kvm_memtype::execute::chain;
use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Instant;

/// Boots all kernels that are asked for.
pub fn run(lab: &Lab, args: &Run) -> Result<Outcome, Failure> {
    let tasks = tasks(lab, args)?;
    let set = Set::load(None)?;
    let is_of_patches = |suite: &str| {
        let has = |change: &Change| change.configs.contains_key(&format!("suites/{suite}.toml"));
        !tasks.is_empty() && tasks.iter().all(|task| task.change.as_ref().is_some_and(has))
    };
    let mut built_in = args.suite.iter().filter(|suite| !is_of_patches(suite));
    built_in.try_for_each(|suite| set.source("suites", "suite", suite).map(drop))?;
    // The second would write over what the first left.
    if let Some((_, suite)) = args.suite.iter().enumerate().find(|(n, suite)| args.suite[..*n].contains(suite)) {
        return Err(Failure::Usage(format!("suite `{suite}` is named twice")));
    }
    let root = cache::root().map_err(Failure::Broken)?;
    listen()?;
    // Twice as many as there are CPUs: three kernels on two of them take as long as one and a half, not two.
    let cpus = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let jobs = args.jobs.map_or(2 * cpus, NonZeroUsize::get);
    let (progress, arguments) = (Progress::new(), args.inner());
    let work = Work { booting: &args.booting, suites: &args.suite, arguments: &arguments };
    let outcomes = pool::each(jobs, &tasks, |task| one(task, work, &root, &progress));
    Ok(outcomes.into_iter().max().unwrap_or(Outcome::Broken))
}

/// Boots one kernel and says what came of it.
fn one(task: &Task, work: Work<'_>, root: &Path, progress: &Progress) -> Outcome {
    let (began, line) = (Instant::now(), progress.line(&task.variant.to_string()));
    if STOP.load(Ordering::Relaxed) {
        line.end(&format!("{}  not run", task.variant));
        return Outcome::Broken;
    }
    let came = task.run(work, root, &STOP, &line);
    let seconds = began.elapsed().as_secs_f64();
    let summary = match came {
        Ok(came) => Summary::new(&task.variant, work.suites, &came, seconds),
        Err(error) => Summary::broken(&task.variant, &chain(error.as_ref())),
    };
    line.end(&summary.text);
    summary.outcome
}

/// What is asked for, in its order.
fn tasks(lab: &Lab, args: &Run) -> Result<Vec<Task>, Failure> {
    let kernels = Kernels::load(lab.kernels.as_deref())?;
    let mut tasks = Vec::new();
    let patches = Patches::load(lab.patches.as_deref())?;
    for name in &args.names {
        let variant: Variant = name.parse().map_err(Failure::Usage)?;
        let change = (!variant.patches.is_empty()).then(|| change(&variant, &patches)).transpose()?;
        tasks.push(Task { origin: Origin::Debian(Box::new(kernels.get(&variant.kernel)?.clone())), variant, change });
    }
    if let (Some(image), Some(modules)) = (&args.bzimage, &args.modules) {
        tasks.push(Task {
            origin: Origin::Local(Local::new(image, modules)?),
            variant: Variant::local(image),
            change: None,
        });
    }
    for tree in &args.tree {
        let name = fs::canonicalize(tree).unwrap_or_else(|_| tree.clone());
        tasks.push(Task { origin: Origin::Local(Local::tree(tree)?), variant: Variant::local(&name), change: None });
    }
    for task in &mut tasks {
        let variant = &mut task.variant;
        args.cmdline.iter().try_for_each(|word| variant.add(word, false)).map_err(Failure::Usage)?;
        for word in &args.module_param {
            variant.params.push(param(word).map_err(Failure::Usage)?);
        }
        variant.cpu = variant.cpu.take().or_else(|| args.cpu.clone());
        let modules: Vec<String> =
            task.origin.modules(args.booting.machine()).map(|name| name.replace('-', "_")).collect();
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

/// What the patches of a variant change. Of several the last one says what is expected.
fn change(variant: &Variant, patches: &Patches) -> Result<Change, Failure> {
    let mut change = Change::default();
    for name in &variant.patches {
        let patch = patches.get(name)?;
        change.diffs.push(patch.diff(&variant.kernel)?);
        change.configs.append(&mut patch.configs()?);
        change.policy = Some(patch.note.policy.clone());
        change.arguments.extend(patch.note.arguments.iter().cloned());
    }
    Ok(change)
}

impl Listener for Line<'_> {
    fn say(&self, text: &str) {
        Line::say(self, text);
    }

    fn cell(&self, id: &str) {
        Line::cell(self, id);
    }
}
