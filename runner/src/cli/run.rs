//! `run`: plans cells, runs them, keeps what was observed, judges it, and says what is not as it should be.

use super::args::{Cli, Format, Run};
use super::knowledge::Knowledge;
use super::out::stdout;
use super::{Done, Failure, shown};
use crate::busy::{Busy, Loads};
use crate::execute::{Execution, chain};
use crate::guests;
use crate::host;
use crate::host::affinity;
use crate::host::device::{Devices, Named};
use crate::host::facts::Facts;
use crate::judge::Judge;
use crate::machine::choose::{Chosen, Wanted, choose};
use crate::machine::{Limits, Machine};
use crate::plan::shard::Part;
use crate::plan::{Cell, Plan};
use crate::report::{CellVerdict, Cells, RAM, Repeats, Reporter, Tally, counted, is_expected, pages, print_matrix};
use crate::results::{self, Header, Intent, PlannedCell, Resumed, Shard, Writer};
use crate::witness::{self, Choice, Kind, Kinds};
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use std::collections::{BTreeMap, HashSet};
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use wire::needs::Needs;
use wire::step::Hazard;

/// Set by SIGINT, SIGTERM or SIGHUP; the second of them ends the process at once.
pub(super) static STOP: AtomicBool = AtomicBool::new(false);

/// Runs a suite, or goes on with a run.
pub fn run(cli: &Cli, args: &Run) -> Done {
    let knowledge = Knowledge::load(cli.config.as_deref())?;
    let (policies, deviations) = knowledge.models(args.judging)?;
    // Before a run is begun that nobody could judge.
    policies.asked(args.policy.as_deref())?;
    let started = match &args.resume {
        None => start(cli, args, &knowledge)?,
        Some(run) => resume(cli, args, &knowledge, run)?,
    };
    let policies = policies.asked(started.header.policy.as_deref())?;
    policies.governing(&started.header.facts)?;
    let busy = busy(&started.header)?;
    say(args, &started, busy.as_ref())?;
    let Started { chosen, witness, header, plan, writer, done } = started;
    let judge = Judge::new(&policies, &deviations);
    let session = Session { args, machine: chosen.machine.as_ref(), witness: &witness, plan: &plan, judge };
    let dir = writer.dir().to_owned();
    let first = session.all(&header, writer, &done, shown::reporter(args.format, stdout()))?;
    let mut repeats = Repeats::default();
    repeats.add(&first.all);
    if args.format == Format::Human {
        let seconds = first.wall.as_secs_f64();
        writeln!(stdout(), "{seconds:.1} s; kvm-memtype explain CELL tells more; results in {}", dir.display())?;
    }
    for number in 2..=args.repeat.get() {
        // Its guests' run ids are its own, so that a line of another repetition is noticed.
        let run = header.run.wrapping_add(((number - 1) * header.cells.len()) as u64);
        let header = Header { run, started: results::utc(SystemTime::now()), ..header.clone() };
        let writer = Writer::repeat(&dir, number, &header)?;
        let reporter = shown::repetition(args.format, stdout(), number, args.repeat.get());
        repeats.add(&session.all(&header, writer, &HashSet::new(), reporter)?.all);
    }
    shown::repeats(args.format, &mut stdout(), &repeats)
}

/// Keeps the host busy, where a run wants that.
fn busy(header: &Header) -> Result<Option<Busy>, Failure> {
    let failed = |error| Failure::Broken(format!("cannot keep the host busy (--busy={}): {error}", header.busy));
    (!header.busy.is_none()).then(|| Busy::start(&header.busy, &header.pinned)).transpose().map_err(failed)
}

/// The CPUs that vCPUs are pinned to, and on which this process may run: those of one cell at a time. Cells that run side
/// by side would get in each other's way.
fn pins(args: &Run, busy: &Loads) -> Result<Vec<usize>, Failure> {
    match args.jobs.get() {
        1 => affinity::allowed()
            .map_err(|error| Failure::Broken(format!("cannot tell on which CPUs this may run: {error}"))),
        jobs if !args.devices.destructive.is_empty() => Err(Failure::Usage(format!(
            "destructive cells run alone, so that it is certain which took the host down: without --jobs {jobs}"
        ))),
        jobs if !busy.is_none() => {
            Err(Failure::Usage(format!("--busy is for one cell at a time, not for --jobs {jobs}")))
        }
        _ => Ok(Vec::new()),
    }
}

/// All that is known before the first cell.
struct Started {
    chosen: Chosen,
    witness: Choice,
    header: Header,
    plan: Plan,
    writer: Writer,
    done: HashSet<String>,
}

fn start(cli: &Cli, args: &Run, knowledge: &Knowledge) -> Result<Started, Failure> {
    let (suite, plan) = knowledge.plan(&args.cells.suite, &args.cells.filters)?;
    let whole: Vec<PlannedCell> = plan.cells.iter().map(PlannedCell::from).collect();
    let (shard, plan) = match knowledge.part(&cli.results, &args.cells, &plan)? {
        Some((Part { number, of }, part)) => (Some(Shard { number, of, plan: whole }), part),
        None => (None, plan),
    };
    let busy = args.busy.clone().unwrap_or_default();
    let pinned = pins(args, &busy)?;
    let chosen = choose(args.machine, devices(&args.devices)?, &pinned)?;
    let witness = witnesses(args, args.witness.as_ref(), &suite.witnesses, chosen.machine.name())?;
    let header = Header {
        filters: args.cells.filters.clone(),
        devices: args.devices.clone(),
        pinned,
        busy,
        policy: args.policy.clone(),
        fail_fast: args.fail_fast,
        shard,
        cells: plan.cells.iter().map(PlannedCell::from).collect(),
        ..header(suite.id, chosen.machine.as_ref(), &witness)?
    };
    // Once there is a run, a signal says how to go on with it.
    listen()?;
    let writer = Writer::create(&cli.results, &header)?;
    Ok(Started { chosen, witness, header, plan, writer, done: HashSet::new() })
}

/// The header of a run that begins now, on this host and machine, without what it was asked for but the suite.
///
/// # Errors
/// KVM cannot be asked what it can do.
pub(super) fn header(suite: String, machine: &dyn Machine, witness: &Choice) -> Result<Header, Failure> {
    let (host, now) = (probe(machine)?, SystemTime::now());
    let micros = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64;
    Ok(Header {
        // Short, because it stands in each report, and another one for each run of a host.
        run: (micros ^ u64::from(std::process::id()) << 20) & 0xffff_ffff,
        started: results::utc(now),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        guests: guests::all().map(|guest| (guest.family.to_owned(), guest.digest())).collect(),
        machine: machine.name().to_owned(),
        suite,
        filters: Vec::new(),
        facts: facts(&host, machine),
        host: description(&host, machine),
        witnesses: witness.witnesses.kinds().0.clone(),
        devices: Named::default(),
        pinned: Vec::new(),
        busy: Loads::default(),
        policy: None,
        fail_fast: false,
        hostname: host.name,
        modules: host.modules,
        shard: None,
        merged: Vec::new(),
        cells: Vec::new(),
    })
}

/// Probes the host. Without what KVM says of itself, cells would be judged by the policy of another machine.
fn probe(machine: &dyn Machine) -> Result<host::Host, Failure> {
    let host = host::probe();
    match &host.kvm {
        Err(trouble) if machine.name() == "kvm" => Err(Failure::Broken(format!(
            "/dev/kvm ran a guest and then did not say what it can do: {trouble}. See dmesg for its reason."
        ))),
        _ => Ok(host),
    }
}

fn resume(cli: &Cli, args: &Run, knowledge: &Knowledge, run: &str) -> Result<Started, Failure> {
    let Resumed { writer, mut header, done } = Writer::resume(&results::find(&cli.results, run)?)?;
    let (_, mut plan) = knowledge.plan(&header.suite, &header.filters)?;
    let refuse = |what: &str| Err(Failure::Usage(format!("cannot go on with {}: {what}", writer.dir().display())));
    if !header.merged.is_empty() {
        return refuse("it was merged of shards: go on with those, and merge them again");
    }
    let whole = header.shard.as_ref().map_or(&header.cells, |shard| &shard.plan);
    if !plan.cells.iter().map(PlannedCell::from).eq(whole.iter().cloned()) {
        return refuse("the suite, the tests or the VM configurations have changed since");
    }
    let own: HashSet<&str> = header.cells.iter().map(|cell| cell.id.as_str()).collect();
    plan.cells.retain(|cell| own.contains(cell.id.as_str()));
    if !guests::all().map(|guest| (guest.family.to_owned(), guest.digest())).eq(header.guests.clone()) {
        return refuse("the guests have changed since");
    }
    let wanted = Wanted::from_str(&header.machine, false).ok();
    if args.machine.is_some() && args.machine != wanted {
        return refuse(&format!("it was begun on machine {}", header.machine));
    }
    let kinds = Kinds(header.witnesses.clone());
    if args.witness.as_ref().is_some_and(|asked| *asked != kinds) {
        return refuse(&format!("it was begun with witnesses {kinds}"));
    }
    if args.devices != Named::default() && args.devices != header.devices {
        let begun = header.devices.to_string();
        let begun = if begun.is_empty() { " none of its options for devices" } else { &begun };
        return refuse(&format!("it was begun with{begun}"));
    }
    if args.busy.as_ref().is_some_and(|asked| *asked != header.busy) {
        let begun =
            if header.busy.is_none() { "without --busy".to_owned() } else { format!("with --busy={}", header.busy) };
        return refuse(&format!("it was begun {begun}"));
    }
    header.pinned = pins(args, &header.busy)?;
    let chosen = choose(wanted, devices(&header.devices)?, &header.pinned)?;
    let witness = witnesses(args, Some(&kinds), &[], chosen.machine.name())?;
    let host = probe(chosen.machine.as_ref())?;
    if facts(&host, chosen.machine.as_ref()) != header.facts
        || description(&host, chosen.machine.as_ref()) != header.host
        || (host.name, host.modules) != (header.hostname.clone(), header.modules.clone())
    {
        return refuse("it was begun on another host, kernel or QEMU, or with another KVM or other parameters of it");
    }
    listen()?;
    Ok(Started { chosen, witness, header, plan, writer, done })
}

/// The witnesses that are asked for, or those that can be had.
fn witnesses(args: &Run, asked: Option<&Kinds>, more: &[Kind], machine: &str) -> Result<Choice, Failure> {
    witness::choose(asked, more, machine, args.jobs).map_err(Failure::Usage)
}

/// The facts of host and machine.
pub(super) fn facts(host: &host::Host, machine: &dyn Machine) -> Facts {
    let mut facts = host.facts(machine.name());
    facts.add(&machine.facts());
    facts
}

/// The devices that were named, opened.
pub(super) fn devices(named: &Named) -> Result<Devices, Failure> {
    Devices::open(named).map_err(|error| Failure::Usage(chain(&error)))
}

/// Host and machine in words.
pub(super) fn description(host: &host::Host, machine: &dyn Machine) -> BTreeMap<String, String> {
    let mut rows = host.description();
    rows.insert("machine".to_owned(), format!("{}: {}", machine.name(), machine.description()));
    rows
}

/// What goes before the first cell.
fn say(args: &Run, started: &Started, busy: Option<&Busy>) -> Result<(), Failure> {
    let Started { chosen, witness, header, writer, done, .. } = started;
    if let Some(reason) = &chosen.fallback {
        anstream::eprintln!("kvm-memtype: {reason}");
        anstream::eprintln!(
            "kvm-memtype: falling back to QEMU TCG, which validates next to nothing: a negative control, no test of KVM"
        );
    }
    for target in &header.devices.destructive {
        anstream::eprintln!("kvm-memtype: destructive cells on {target} may take this host down");
    }
    if args.format == Format::Human {
        let mut out = stdout();
        let cells = counted(header.cells.len() as u64, "cell");
        let part = header.shard.as_ref().map(|shard| format!(", shard {} of {}", shard.number, shard.of));
        let part = part.unwrap_or_default();
        let times = if args.repeat.get() > 1 { format!(", {} times", args.repeat) } else { String::new() };
        writeln!(out, "kvm-memtype {}: {cells} of suite {}{part}{times}", header.version, header.suite)?;
        for (what, is) in &header.host {
            writeln!(out, "  {what:<10}{is}")?;
        }
        if let Some(busy) = busy {
            writeln!(out, "  {:<10}{busy}", "busy")?;
        }
        if let Some(policy) = &header.policy {
            writeln!(out, "  {:<10}{policy}, as asked", "policy")?;
        }
        writeln!(out, "  {:<10}{}", "witnesses", witness.witnesses.kinds())?;
        for (kind, why) in &witness.missing {
            writeln!(out, "  {:<10}not {kind}: {why}", "")?;
        }
        writeln!(out, "  {:<10}{}", "results", writer.dir().display())?;
        if !done.is_empty() {
            writeln!(out, "  {:<10}{} of them were done before", "resumed", done.len())?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// Has signals set [`STOP`].
pub(super) fn listen() -> Result<(), Failure> {
    let handler = || {
        if STOP.swap(true, Ordering::SeqCst) {
            std::process::exit(3);
        }
    };
    ctrlc::set_handler(handler).map_err(|error| Failure::Broken(format!("cannot handle signals: {error}")))
}

struct Session<'a> {
    args: &'a Run,
    machine: &'a dyn Machine,
    witness: &'a Choice,
    plan: &'a Plan,
    judge: Judge<'a>,
}

impl Session<'_> {
    /// Runs the cells that are not done, keeps and prints each at once, and then the sum.
    fn all(
        &self,
        header: &Header,
        writer: Writer,
        done: &HashSet<String>,
        reporter: Box<dyn Reporter>,
    ) -> Result<Verdicts, Failure> {
        let mut verdicts = self.cells(header, writer, done, reporter)?;
        let missing = Cells::new(header).not_run(&verdicts.all, &[]);
        // A signal after the last cell interrupts nothing.
        let interrupted = missing.iter().any(|missing| missing.broken);
        missing.into_iter().try_for_each(|verdict| verdicts.take(verdict))?;
        if self.args.format == Format::Human && self.args.repeat.get() == 1 {
            self.picture(&verdicts.dir)?;
        }
        verdicts.reporter.end(&verdicts.tally)?;
        results::write_verdicts(&verdicts.dir, &verdicts.all)?;
        if interrupted {
            let again = format!("interrupted; go on with `kvm-memtype run --resume {}`", verdicts.dir.display());
            return Err(Failure::Broken(again));
        }
        Ok(verdicts)
    }

    /// Prints the memory types that pages of RAM got, where any was timed.
    fn picture(&self, dir: &Path) -> Result<(), Failure> {
        let pages = pages(&self.judge, &results::Run::read(dir)?);
        let mut pages = pages.map_err(|error| Failure::Broken(error.to_string()))?;
        pages.retain(|page| page.asked.target == RAM);
        if pages.is_empty() {
            return Ok(());
        }
        writeln!(
            stdout(),
            "\nMemory types that pages got, by what was asked for (report --matrix has those of all targets):\n"
        )?;
        Ok(print_matrix(&mut stdout(), &pages)?)
    }

    fn cells(
        &self,
        header: &Header,
        mut writer: Writer,
        done: &HashSet<String>,
        mut reporter: Box<dyn Reporter>,
    ) -> Result<Verdicts, Failure> {
        let cells = Cells::new(header);
        reporter.begin(header)?;
        let mut verdicts = Verdicts::new(writer.dir().to_owned(), reporter);
        for result in results::Run::read(writer.dir())?.results.iter().filter(|result| done.contains(&result.cell)) {
            verdicts.take(cells.verdict(&self.judge, result))?;
        }
        let todo = self.plan.cells.iter().filter(|cell| !done.contains(&cell.id));
        let todo: Vec<(&Cell, u64)> = todo.filter_map(|cell| cells.run_id(&cell.id).map(|run| (cell, run))).collect();
        let limits = Limits { timeout: Duration::from_secs(self.args.timeout), ..Limits::default() };
        let dir = writer.dir().to_owned();
        let before = |cell: &Cell, hazard: Hazard| {
            let target = header.devices.destructive.iter().find(|target| target.hazard() == hazard);
            let target = target.map_or_else(|| hazard.to_string(), ToString::to_string);
            Intent::new(&cell.id, &target).keep(&dir).map_err(|error| chain(&error))
        };
        let (machine, witness, jobs) = (self.machine, self.witness, self.args.jobs);
        let failed = AtomicBool::new(false);
        let stop = || STOP.load(Ordering::Relaxed) || failed.load(Ordering::Relaxed);
        let execution = Execution { machine, limits, witness, jobs, before: &before, stop: &stop };
        let bar = progress(todo.len() as u64);
        let started = Instant::now();
        let each = |cell: &Cell, result| -> Result<(), Failure> {
            writer.append(&result)?;
            if cell.needs.has(Needs::DESTRUCTIVE) {
                Intent::forget(writer.dir(), &cell.id)?;
            }
            let verdict = cells.verdict(&self.judge, &result);
            let ends = header.fail_fast && !is_expected(verdict.judgement.verdict);
            failed.fetch_or(ends, Ordering::Relaxed);
            bar.suspend(|| verdicts.take(verdict))?;
            let surprises = verdicts.tally.surprises();
            let said = if surprises > 0 { format!("{surprises} not as expected, ") } else { String::new() };
            bar.set_message(said + &result.cell);
            bar.inc(1);
            Ok(())
        };
        execution.cells(&todo, each)?;
        bar.finish_and_clear();
        verdicts.wall = started.elapsed();
        Ok(verdicts)
    }
}

/// The verdicts of a run as they come.
struct Verdicts {
    dir: std::path::PathBuf,
    reporter: Box<dyn Reporter>,
    tally: Tally,
    all: Vec<CellVerdict>,
    wall: Duration,
}

impl Verdicts {
    fn new(dir: std::path::PathBuf, reporter: Box<dyn Reporter>) -> Self {
        Verdicts { dir, reporter, tally: Tally::default(), all: Vec::new(), wall: Duration::ZERO }
    }

    fn take(&mut self, verdict: CellVerdict) -> Result<(), Failure> {
        self.tally.add(&verdict);
        self.reporter.cell(&verdict)?;
        self.all.push(verdict);
        Ok(())
    }
}

/// A heartbeat on standard error, where that is a terminal.
fn progress(cells: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {pos}/{len} {wide_bar} {elapsed}, {eta} left  {msg:50!}");
    let bar = ProgressBar::new(cells).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    // A cell may take long; once a second costs no measurement anything.
    bar.enable_steady_tick(Duration::from_secs(1));
    bar
}
