//! One kernel: from its files to what came of its boot.

use super::args::{Booting, Machine};
use super::bochs;
use crate::boot::{self, Boot, Ending, Limits, Watch};
use crate::cache;
use crate::fetch::{Fetch, Ready};
use crate::image;
use crate::init::{Job, Module, Parameter, Power};
use crate::kernel::{Local, MODULES, MODULES_AMD, Spec, Variant};
use crate::mailbox::Event;
use crate::patch::{Builder, Built, Diff};
use crate::results::{Booted, CONSOLE, Directory, Emulator};
use kvm_memtype::config::Set;
use kvm_memtype::execute::chain;
use kvm_memtype::guests;
use kvm_memtype::host::{CLOCK, EMULATOR};
use kvm_memtype::machine::bochs::{Bochs, VARIABLE};
use kvm_memtype::machine::qemu;
use kvm_memtype::plan::Plan;
use kvm_memtype::plan::suite::Suite;
use kvm_memtype::plan::vm::VmConfig;
use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use wire::needs::Needs;

/// How long a cell that boots a kernel may be silent on top.
const LINUX: Duration = Duration::from_secs(600);

/// A kernel to be booted.
pub struct Task {
    /// Its name, and how it is started.
    pub variant: Variant,
    /// Where it is from.
    pub origin: Origin,
    /// What is changed in it.
    pub change: Option<Change>,
}

/// What is changed in a kernel's KVM.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// Diffs, applied in this order; without any it is only built anew.
    pub diffs: Vec<Diff>,
    /// Configurations that are laid over the built-in ones: path, as in `policies/NAME.toml`, and text.
    pub configs: BTreeMap<String, String>,
    /// The policy by which it is judged; without one that which is selected by what is probed.
    pub policy: Option<String>,
    /// Arguments of `kvm-memtype run` without which it would not show.
    pub arguments: Vec<String>,
}

/// What is run in a kernel.
#[derive(Debug, Clone, Copy)]
pub struct Work<'a> {
    /// How it is booted.
    pub booting: &'a Booting,
    /// Suites, run one after the other.
    pub suites: &'a [String],
    /// Arguments for `kvm-memtype run`.
    pub arguments: &'a [String],
}

/// Where a kernel is from.
pub enum Origin {
    /// The Debian archive.
    Debian(Box<Spec>),
    /// Files here.
    Local(Local),
}

impl Origin {
    /// Names of the modules that make /dev/kvm in a machine, in the order in which they are loaded.
    pub fn modules(&self, machine: Machine) -> impl Iterator<Item = &str> {
        let amd = machine == Machine::QemuSvm;
        let (stated, known): (&[String], &[&str]) = match self {
            Origin::Debian(spec) if amd => (&spec.modules_amd, &[]),
            Origin::Debian(spec) => (&spec.modules, &[]),
            Origin::Local(_) if amd => (&[], &MODULES_AMD),
            Origin::Local(_) => (&[], &MODULES),
        };
        stated.iter().map(String::as_str).chain(known.iter().copied())
    }
}

/// What came of a boot.
pub struct Came {
    /// How it ended.
    pub ending: Ending,
    /// `uname -r`.
    pub release: Option<String>,
    /// Suites that ended.
    pub suites: Vec<Ended>,
    /// Whether a suite began.
    pub began: bool,
    /// What was left out, and why.
    pub without: Vec<String>,
    /// Whether all should have been there: nothing may be left out where kernel and machine are the lab's own choice.
    pub complete: bool,
    /// What it left.
    pub dir: Directory,
}

/// A suite that ended.
pub struct Ended {
    /// Its id.
    pub suite: String,
    /// Exit code of kvm-memtype.
    pub code: i32,
    /// What it said on standard error.
    pub said: String,
}

/// What is told while it goes on.
pub trait Listener: Sync {
    /// Something begins.
    fn say(&self, text: &str);
    /// A cell has its verdict.
    fn cell(&self, id: &str);
}

impl Task {
    /// Fetches the kernel, boots it, and keeps what it sends.
    ///
    /// # Errors
    /// The kernel cannot be had, or the machine cannot be run. Whatever the kernel does is an [`Ending`].
    pub fn run(
        &self,
        work: Work<'_>,
        root: &Path,
        stop: &AtomicBool,
        listener: &dyn Listener,
    ) -> Result<Came, Box<dyn Error>> {
        let (args, say) = (work.booting, |text: &str| listener.say(text));
        let fetch = Fetch { root, newest: args.newest, say: &say };
        let amd = args.machine() == Machine::QemuSvm;
        let ready = match &self.origin {
            Origin::Debian(spec) => fetch.debian(spec)?,
            Origin::Local(local) => fetch.local(local, amd)?,
        };
        let built = match (&self.origin, &self.change) {
            (Origin::Debian(spec), Some(change)) => {
                let release = ready.resolved.as_ref().map(|resolved| resolved.release.as_str()).unwrap_or_default();
                Some(Builder { fetch: &fetch, spec, release, amd }.build(&change.diffs)?)
            }
            _ => None,
        };
        let (mut contents, mut without) = (self.modules(&ready, built.as_ref(), args.machine())?, Vec::new());
        let mut modules: Vec<Module> = contents.iter().map(|(name, _)| self.module(name)).collect();
        match stub(&contents) {
            Ok(stub) => {
                contents.push((image::STUB.to_owned(), stub));
                modules.push(Module { optional: true, ..self.module(image::STUB) });
            }
            Err(why) => without.push(why),
        }
        let bochs = bochs::of(args.machine(), &args.bochs, root, &say)?;
        let emulator = match &bochs {
            Some(bochs) => of_bochs(args.machine(), bochs)?,
            None => Emulator { name: "QEMU", version: qemu::version(&qemu::find()?)?, clock: None },
        };
        let standard = || if bochs.is_some() { boot::bochs::cpu() } else { boot::qemu::CPU.to_owned() };
        let cpu = self.variant.cpu.clone().unwrap_or_else(standard);
        let job = self.job(work, modules, emulator.clock.clone())?;
        let none = BTreeMap::new();
        let configs = self.change.as_ref().map_or(&none, |change| &change.configs);
        let vmlinux = fs::read(ready.vmlinux())?;
        // What VMs boot is the kernel under which they run: no other one has to be had.
        let linux = boots_linux(&job.suites)?.then_some(&vmlinux[..]);
        let initrd = image::initrd(&job, &contents, configs, linux)?;
        let cmdline = self.cmdline(&contents);
        let boot = Boot { vmlinux: &vmlinux, initrd: &initrd, cmdline: &cmdline, cpu: &cpu };
        let booted = Booted {
            variant: self.variant.to_string(),
            machine: args.machine().to_string(),
            emulator,
            cpu: cpu.clone(),
            memory: boot::MEMORY,
            packages: ready.resolved.as_ref().map(|resolved| resolved.packages.clone()).unwrap_or_default(),
            kvm: built.map(|built| built.record),
            vmlinux: cache::digest_of_file(&ready.vmlinux())?,
            cmdline: cmdline.clone(),
            modules: job.modules,
            suites: job.suites,
            arguments: job.arguments,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let dir = Directory::make(&args.results, &booted)?;
        dir.put_configs(configs)?;
        let (mut release, mut suites, mut began) = (None, Vec::new(), false);
        let mut each = |event: &Event, piece: Vec<u8>| {
            match event.clone() {
                Event::Up { release: is, uptime } => {
                    say(&format!("init runs after {uptime} s of the machine's time"));
                    release = Some(is);
                }
                Event::Without { what } => without.push(what),
                Event::Ready { uptime } => say(&format!("KVM is there after {uptime} s of the machine's time")),
                Event::Suite { suite } => {
                    began = true;
                    say(&format!("suite {suite}"));
                }
                Event::Cell { cell } => listener.cell(&cell),
                Event::Piece { path, offset } => dir.put(&path, offset, &piece)?,
                Event::Ended { suite, code, said } => suites.push(Ended { suite, code, said }),
                Event::Failed { .. } | Event::Done => {}
            }
            Ok(())
        };
        let patience = if linux.is_some() { LINUX } else { Duration::ZERO };
        let limits =
            Limits { silence: Duration::from_secs(args.silence) + patience, whole: Duration::from_secs(args.timeout) };
        let watch = Watch::new(&dir.path().join(CONSOLE), limits, stop, &mut each)?;
        say("booting");
        let ending = match &bochs {
            Some(bochs) => boot::bochs::run(bochs, &boot, watch)?,
            None => boot::qemu::run(&boot, watch)?,
        };
        let complete = bochs.is_some() && matches!(self.origin, Origin::Debian(_));
        Ok(Came { ending, release, suites, began, without, complete, dir })
    }

    /// Names and contents of the kernel's modules, in the order in which they are loaded. What is built in has none.
    fn modules(
        &self,
        ready: &Ready,
        built: Option<&Built>,
        machine: Machine,
    ) -> Result<Vec<(String, Vec<u8>)>, std::io::Error> {
        let file = |name| built.and_then(|built| built.module(name)).or_else(|| ready.module(name));
        let files = self.origin.modules(machine).filter_map(|name| Some((name, file(name)?)));
        files.map(|(name, path)| Ok((name.to_owned(), fs::read(path)?))).collect()
    }

    /// The kernel's command line. It alone reaches the parameters of modules that are built in.
    fn cmdline(&self, modules: &[(String, Vec<u8>)]) -> String {
        let mut words = vec![boot::CMDLINE.to_owned()];
        words.extend(self.variant.cmdline.iter().cloned());
        let loaded = |module: &str| modules.iter().any(|(name, _)| name.replace('-', "_") == module);
        let built_in = self.variant.params.iter().filter(|(module, _)| !loaded(module));
        words.extend(built_in.map(|(module, value)| format!("{module}.{value}")));
        words.join(" ")
    }

    /// A module with the parameters that it is given.
    fn module(&self, name: &str) -> Module {
        let spelt = name.replace('-', "_");
        let mine = self.variant.params.iter().filter(|(module, _)| *module == spelt).map(|(_, value)| value.as_str());
        let parameters = mine.collect::<Vec<_>>().join(" ");
        Module { path: image::module_path(name), parameters, optional: false }
    }

    fn job(&self, work: Work<'_>, modules: Vec<Module>, clock: Option<String>) -> Result<Job, Box<dyn Error>> {
        let mut arguments = Vec::new();
        if let Some(change) = &self.change {
            let config = (!change.configs.is_empty()).then(|| ["--config".to_owned(), image::CONFIG.to_owned()]);
            let policy = change.policy.iter().flat_map(|policy| ["--policy".to_owned(), policy.clone()]);
            arguments.extend(config.into_iter().flatten().chain(policy).chain(change.arguments.iter().cloned()));
        }
        arguments.extend_from_slice(work.arguments);
        let machine = work.booting.machine();
        let emulator = match machine {
            Machine::Bochs | Machine::StockBochs => "bochs",
            Machine::QemuSvm => "qemu-svm",
        };
        let clock = clock.map(|clock| (CLOCK.to_owned(), clock));
        let parameter = |(module, set): &(String, String)| {
            let (name, value) = set.split_once('=')?;
            Some(Parameter { module: module.clone(), name: name.to_owned(), value: value.to_owned() })
        };
        let environment = [(EMULATOR.to_owned(), emulator.to_owned())].into_iter().chain(clock);
        Ok(Job {
            time: SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
            modules,
            parameters: self.variant.params.iter().filter_map(parameter).collect(),
            suites: work.suites.to_vec(),
            arguments,
            environment: environment.collect(),
            power: if machine == Machine::QemuSvm { Power::Qemu } else { Power::Bochs },
        })
    }
}

/// Whether a suite has tests that boot a kernel. One of another configuration has not.
///
/// # Errors
/// A mistake in the built-in configurations, or in the guests.
fn boots_linux(suites: &[String]) -> Result<bool, Box<dyn Error>> {
    let (set, tests) = (Set::load(None)?, guests::tests()?);
    let vms = VmConfig::all(&set)?;
    for (_, source) in set.sources("suites").filter(|(id, _)| suites.iter().any(|suite| suite == id)) {
        let plan = Plan::new(&Suite::read(source)?, &tests, &vms, &[])?;
        if plan.cells.iter().any(|cell| cell.needs.has(Needs::LINUX)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A Bochs as what it is recorded as.
///
/// # Errors
/// It is another one than the machine is named for: what is measured would be read as what it is not.
fn of_bochs(machine: Machine, bochs: &Bochs) -> Result<Emulator, String> {
    let (path, wanted) = (bochs.path.display(), machine == Machine::Bochs);
    match &bochs.clock {
        None if wanted => Err(format!(
            "{path} has no model of the time that memory takes, as the Bochs of `lab bochs` has: set {VARIABLE} to a \
             build of that, or run with --machine stock-bochs"
        )),
        Some(clock) if !wanted => Err(format!(
            "{path} is no Bochs as Debian ships it: its clock is {clock}; set {VARIABLE} to another, or run with \
             --machine bochs"
        )),
        clock => Ok(Emulator { name: "Bochs", version: bochs.version.clone(), clock: clock.clone() }),
    }
}

/// The module for non-coherent DMA, or why there is none.
fn stub(modules: &[(String, Vec<u8>)]) -> Result<Vec<u8>, String> {
    let kvm = modules.iter().find(|(name, _)| name == "kvm");
    let (_, kvm) = kvm.ok_or("no non-coherent DMA: kvm is built into the kernel, so vfio_stub has no pattern")?;
    image::stub(kvm).map_err(|error| format!("no non-coherent DMA: {}", chain(&error)))
}
