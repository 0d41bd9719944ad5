//! `run`: boots kernels, some at a time, and says what came of each as it ends.

use super::args::{Lab, Machine, Run};
use super::bochs;
use super::progress::Progress;
use super::{Failure, Outcome};
use crate::boot::{self, Boot, Ending, Watch};
use crate::cache;
use crate::fetch::{Fetch, Ready};
use crate::image;
use crate::init::{Job, Module, Power};
use crate::kernel::{Kernels, Local, MODULES, MODULES_AMD, Spec, Variant, param};
use crate::mailbox::Event;
use crate::results::{Booted, CONSOLE, Directory};
use kvm_memtype::config::Set;
use kvm_memtype::execute::chain;
use kvm_memtype::host::CLOCK;
use kvm_memtype::report::Outcome as SuiteOutcome;
use std::error::Error;
use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Set by SIGINT, SIGTERM or SIGHUP: machines are stopped, and what came so far stays.
static STOP: AtomicBool = AtomicBool::new(false);

/// A kernel to be booted.
struct Task {
    variant: Variant,
    origin: Origin,
}

enum Origin {
    Debian(Spec),
    Local(Local),
}

/// Boots all kernels that are asked for.
pub fn run(lab: &Lab, args: &Run) -> Result<Outcome, Failure> {
    let tasks = tasks(lab, args)?;
    let set = Set::load(None)?;
    args.suite.iter().try_for_each(|suite| set.source("suites", "suite", suite).map(drop))?;
    let root = cache::root().map_err(Failure::Broken)?;
    let stop = || STOP.store(true, Ordering::SeqCst);
    ctrlc::set_handler(stop).map_err(|error| Failure::Broken(format!("cannot handle signals: {error}")))?;
    let jobs = args.jobs.or(thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
    let (next, worst, progress) = (AtomicUsize::new(0), Mutex::new(Outcome::AsExpected), Progress::new());
    let work = || {
        while let Some(task) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
            let outcome = task.run(args, &root, &progress);
            let mut worst = worst.lock().unwrap_or_else(|error| error.into_inner());
            *worst = outcome.max(*worst);
        }
    };
    thread::scope(|scope| {
        for _ in 0..jobs.min(tasks.len()) {
            scope.spawn(work);
        }
    });
    Ok(worst.into_inner().unwrap_or(Outcome::Broken))
}

/// What is asked for, in its order.
fn tasks(lab: &Lab, args: &Run) -> Result<Vec<Task>, Failure> {
    let kernels = Kernels::load(lab.kernels.as_deref())?;
    let mut tasks = Vec::new();
    for name in &args.names {
        let variant: Variant = name.parse().map_err(Failure::Usage)?;
        tasks.push(Task { origin: Origin::Debian(kernels.get(&variant.kernel)?.clone()), variant });
    }
    let mut local = |path: &Path, local| {
        let name = path.file_name().map_or("tree".into(), |name| name.to_string_lossy());
        let variant = Variant { kernel: name.replace([',', '\'', '"', ' '], "-"), ..Variant::default() };
        tasks.push(Task { origin: Origin::Local(local), variant });
    };
    if let (Some(image), Some(modules)) = (&args.bzimage, &args.modules) {
        local(image, Local::new(image, modules)?);
    }
    for tree in &args.tree {
        local(&fs::canonicalize(tree).unwrap_or_else(|_| tree.clone()), Local::tree(tree)?);
    }
    for Task { variant, .. } in &mut tasks {
        args.cmdline.iter().try_for_each(|word| variant.add(word)).map_err(Failure::Usage)?;
        for word in &args.module_param {
            variant.params.push(param(word).map_err(Failure::Usage)?);
        }
        variant.cpu = variant.cpu.take().or_else(|| args.cpu.clone());
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

/// What came of a boot.
struct Came {
    ending: Ending,
    release: Option<String>,
    /// Suites that ended, with exit code and what was said on standard error.
    suites: Vec<(String, i32, String)>,
    dir: Directory,
}

impl Task {
    fn run(&self, args: &Run, root: &Path, progress: &Progress) -> Outcome {
        let began = Instant::now();
        let line = progress.line(&self.variant.to_string());
        let came = self.boot(args, root, &|text: &str| line.say(text), &|cell: &str| line.cell(cell));
        let (outcome, said) = match came {
            Ok(came) => self.said(args, &came),
            Err(error) => (Outcome::Broken, format!("{}: {}", self.variant, chain(error.as_ref()))),
        };
        line.end(&format!("{said}  {:.1} s", began.elapsed().as_secs_f64()));
        outcome
    }

    /// Whether it runs on AMD's KVM.
    fn is_amd(args: &Run) -> bool {
        machine(args) == Machine::QemuSvm
    }

    fn ready(&self, args: &Run, root: &Path, say: &(dyn Fn(&str) + Sync)) -> Result<Ready, Box<dyn Error>> {
        let fetch = Fetch { root, newest: args.newest, say };
        Ok(match &self.origin {
            Origin::Debian(spec) => fetch.debian(spec)?,
            Origin::Local(local) => fetch.local(local, Task::is_amd(args))?,
        })
    }

    fn module_names(&self, args: &Run) -> Vec<&str> {
        match &self.origin {
            Origin::Debian(spec) if Task::is_amd(args) => spec.modules_amd.iter().map(String::as_str).collect(),
            Origin::Debian(spec) => spec.modules.iter().map(String::as_str).collect(),
            Origin::Local(_) if Task::is_amd(args) => MODULES_AMD.to_vec(),
            Origin::Local(_) => MODULES.to_vec(),
        }
    }

    fn boot(
        &self,
        args: &Run,
        root: &Path,
        say: &(dyn Fn(&str) + Sync),
        cell: &dyn Fn(&str),
    ) -> Result<Came, Box<dyn Error>> {
        let ready = self.ready(args, root, say)?;
        let names = self.module_names(args);
        let files: Vec<_> = names.iter().filter_map(|name| ready.module(name)).collect();
        let modules: Vec<Module> =
            names.iter().filter(|name| ready.module(name).is_some()).map(|name| self.module(name)).collect();
        let cmdline =
            [boot::CMDLINE.to_owned()].into_iter().chain(self.variant.cmdline.clone()).collect::<Vec<_>>().join(" ");
        let machine = machine(args);
        let bochs = bochs::of(machine, &args.bochs, root, say)?;
        let clock = bochs.as_ref().and_then(|bochs| bochs.clock.clone());
        let job = Job {
            time: SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
            modules,
            suites: args.suite.clone(),
            arguments: args.arguments.clone(),
            environment: clock.into_iter().map(|clock| (CLOCK.to_owned(), clock)).collect(),
            power: if machine == Machine::QemuSvm { Power::Qemu } else { Power::Bochs },
        };
        let initrd = image::initrd(&job, &files)?;
        let vmlinux = fs::read(ready.vmlinux())?;
        let dir = Directory::make(
            &args.results,
            &Booted {
                variant: self.variant.to_string(),
                machine: format!("{machine:?}"),
                packages: ready.resolved.clone().map(|resolved| resolved.packages).unwrap_or_default(),
                vmlinux: cache::digest_of_file(&ready.vmlinux())?,
                cmdline: cmdline.clone(),
                modules: job.modules.iter().map(|module| (module.path.clone(), module.parameters.clone())).collect(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
            },
        )?;
        let boot = Boot { vmlinux: &vmlinux, initrd: &initrd, cmdline: &cmdline, cpu: self.variant.cpu.as_deref() };
        say("booting");
        let (mut release, mut suites) = (None, Vec::new());
        let mut each = |event: &Event, piece: Vec<u8>| {
            match event {
                Event::Up { release: is, uptime } => {
                    release = Some(is.clone());
                    say(&format!("init runs after {uptime} s"));
                }
                Event::Ready { uptime } => say(&format!("KVM is there after {uptime} s")),
                Event::Suite { suite } => say(&format!("suite {suite}")),
                Event::Cell { cell: id } => cell(id),
                Event::Piece { path, offset } => dir.put(path, *offset, &piece)?,
                Event::Ended { suite, code, said } => suites.push((suite.clone(), *code, said.clone())),
                Event::Failed { .. } | Event::Done => {}
            }
            Ok(())
        };
        let silence = Duration::from_secs(args.silence);
        let watch = Watch::new(&dir.path().join(CONSOLE), silence, &STOP, &mut each)?;
        let ending = match &bochs {
            Some(bochs) => boot::bochs::run(bochs, &boot, watch)?,
            None => boot::qemu::run(&boot, watch)?,
        };
        Ok(Came { ending, release, suites, dir })
    }

    fn module(&self, name: &str) -> Module {
        let spelt = name.replace('-', "_");
        let mine = self.variant.params.iter().filter(|(module, _)| *module == spelt).map(|(_, value)| value.as_str());
        Module {
            path: format!("{}/{name}.ko", image::MODULES),
            parameters: mine.collect::<Vec<_>>().join(" "),
            optional: false,
        }
    }

    /// What to say of a boot, and what it comes to.
    fn said(&self, args: &Run, came: &Came) -> (Outcome, String) {
        let mut outcome = match came.ending {
            Ending::Done => Outcome::AsExpected,
            Ending::Panic(_) | Ending::Hung(_) | Ending::Reset(_) => Outcome::Kernel,
            Ending::Init(_) | Ending::Emulator(_) | Ending::Garbled(_) | Ending::Interrupted => Outcome::Broken,
        };
        let mut parts = Vec::new();
        for suite in &args.suite {
            let ended = came.suites.iter().find(|(ended, ..)| ended == suite);
            let tally = came.dir.tally(suite).ok().flatten();
            let (is, text) = match (ended, tally) {
                (Some((_, 0 | 1 | 3, _)), Some(tally)) => {
                    let counts: Vec<String> =
                        tally.verdicts.iter().map(|(verdict, count)| format!("{count} {verdict}")).collect();
                    let is = match tally.outcome() {
                        SuiteOutcome::AsExpected => Outcome::AsExpected,
                        SuiteOutcome::Surprise => Outcome::Surprise,
                        SuiteOutcome::Broken => Outcome::Broken,
                    };
                    (is, counts.join(", "))
                }
                (Some((_, code, said)), _) => (Outcome::Broken, format!("exit code {code}: {said}")),
                (None, _) => (Outcome::AsExpected, "not done".to_owned()),
            };
            outcome = outcome.max(is);
            parts.push(format!("{suite}: {text}"));
        }
        let release = came.release.as_deref().unwrap_or("no release");
        let mut said = format!("{} ({release})  {}", self.variant, parts.join("; "));
        if came.ending != Ending::Done {
            let console = came.dir.path().join(CONSOLE);
            said.push_str(&format!("\n  {}; console: {}", came.ending, console.display()));
        }
        said.push_str(&format!("  {}", came.dir.path().display()));
        (outcome, said)
    }
}

/// The machine that is asked for.
fn machine(args: &Run) -> Machine {
    if args.amd { Machine::QemuSvm } else { args.machine }
}
