//! `fuzz`: random histories for a while, or one from a file; what they showed, each cause once and as short as can be.

use super::args::{Cli, Format, Fuzz};
use super::knowledge::Knowledge;
use super::out::stdout;
use super::run::{STOP, devices, header, listen};
use super::{Done, Failure};
use crate::config::Source;
use crate::fuzz::{self, Find, History, Kind, Machinery, Means, Ran, Runner, Session, Sums, TEST};
use crate::guests;
use crate::host::{affinity, vm_facts};
use crate::judge::Judge;
use crate::machine::choose::{Wanted, choose};
use crate::machine::{Limits, Machine};
use crate::plan::{Cell, Plan};
use crate::report::{Cells, Outcome, counted};
use crate::results::{self, CellOutcome, CellResult, Header, PlannedCell, Writer};
use crate::witness::{self, Choice, Kind as Witness};
use fastrand::Rng;
use serde_json::json;
use std::fs;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use wire::needs::Needs;

/// The suite whose VM configurations histories are drawn for.
const SUITE: &str = "fuzz";
/// Those in which a history that showed something is tried, the plainest last.
const PLAIN_VMS: [&str; 2] = ["non-coherent-dma", "default"];
/// The most VMs that it takes to shrink one history.
const TRIES: usize = 300;
/// What a history that is run again is called.
const REPLAYED: &str = "replay";
/// Name of the file in the run's directory that has the finds, a line each, and the sums.
const FINDS: &str = "finds.jsonl";
/// How often it is said that something goes on.
const BEAT: Duration = Duration::from_secs(5);
/// Draws and runs histories, or runs the one in a file.
pub fn fuzz(cli: &Cli, args: &Fuzz) -> Done {
    let knowledge = Knowledge::load(cli.config.as_deref())?;
    let (policies, deviations) = knowledge.models(args.judging)?;
    let policies = policies.asked(args.policy.as_deref())?;
    let (_, plan) = knowledge.plan(SUITE, &args.filters)?;
    let replayed = args.replay.as_deref().map(|path| replayed(path, &knowledge)).transpose()?;
    let pinned = affinity::allowed()
        .map_err(|error| Failure::Broken(format!("cannot tell on which CPUs this may run: {error}")))?;
    let chosen = choose(Some(Wanted::Kvm), devices(&args.devices)?, &pinned)?;
    let machine = chosen.machine.as_ref();
    let one_at_a_time = NonZeroUsize::MIN;
    let witness = witness::choose(args.witness.as_ref(), &[], machine.name(), one_at_a_time).map_err(Failure::Usage)?;
    let header = Header {
        filters: args.filters.clone(),
        devices: args.devices.clone(),
        pinned,
        policy: args.policy.clone(),
        ..header(SUITE.to_owned(), machine, &witness)?
    };
    policies.governing(&header.facts)?;
    let guest = guests::find("interpreter").ok_or_else(|| Failure::Broken("it was built without its guest".into()))?;
    let test = knowledge.tests.iter().find(|test| test.id() == TEST);
    let runner = Machinery {
        machine,
        witness: &witness,
        judge: Judge::new(&policies, &deviations),
        elf: guest.elf,
        needs: test.map_or(Needs::NONE, |test| test.needs),
        vms: &knowledge.vms,
        facts: &header.facts,
        limits: Limits { timeout: Duration::from_secs(args.timeout), ..Limits::default() },
    };
    let work = Work {
        cli,
        args,
        knowledge: &knowledge,
        header: &header,
        witness: &witness,
        // Another one for each session.
        seed: args.seed.unwrap_or(header.run),
    };
    listen()?;
    match replayed {
        Some(history) => work.replay(runner, &history),
        None => work.random(runner, &plan, machine),
    }
}

/// The history in a file.
fn replayed(path: &Path, knowledge: &Knowledge) -> Result<History, Failure> {
    let text = fs::read_to_string(path)
        .map_err(|error| Failure::Usage(format!("cannot read the history {}: {error}", path.display())))?;
    let vms: Vec<&str> = knowledge.vms.keys().map(String::as_str).collect();
    Ok(History::read(&Source { name: path.display().to_string(), text }, &vms)?.0)
}

/// What all that follows needs.
struct Work<'a> {
    cli: &'a Cli,
    args: &'a Fuzz,
    knowledge: &'a Knowledge,
    header: &'a Header,
    witness: &'a Choice,
    seed: u64,
}

impl Work<'_> {
    fn random(&self, runner: Machinery<'_>, plan: &Plan, machine: &dyn Machine) -> Done {
        let can = |cell: &&Cell| machine.lacks(cell.needs.and(Needs::cpus(self.args.vcpus)), &cell.config);
        let cells: Vec<&Cell> = plan.cells.iter().filter(|cell| can(cell).is_none()).collect();
        if cells.is_empty() {
            let why = plan.cells.iter().find_map(|cell| can(&cell)).unwrap_or_default();
            return Err(Failure::Broken(format!("no VM in which histories could run: {why}")));
        }
        let has = |needs| machine.lacks(needs, &cells[0].config).is_none();
        let means = Means {
            cpus: self.args.vcpus,
            dma: has(Needs::DMA),
            quirks: self.header.facts.int("quirks").unwrap_or_default() as u32,
            readonly: has(Needs::READONLY_SLOTS),
            slots_v2: has(Needs::SLOTS_V2),
            thp: has(Needs::THP),
            non_coherent_slots: has(Needs::SLOT_NON_COHERENT_DMA),
            wc_slots: has(Needs::SLOT_WC),
            mmio: has(Needs::HOST_MMIO),
        };
        self.say(&cells, &means)?;
        let draw = |number: u64| {
            // Each history has a generator of its own, so that it does not depend on what the others showed.
            let mut rng = Rng::with_seed(self.seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
            let any = |rng: &mut Rng| cells[rng.usize(0..cells.len())];
            // Without a device memory types hardly matter, so such a VM comes half as often.
            let cell = Some(any(&mut rng)).filter(|cell| cell.config.non_coherent_dma || rng.bool());
            let cell = cell.unwrap_or_else(|| any(&mut rng));
            let bits = vm_facts(&self.header.facts, &cell.config).int("maxphyaddr").unwrap_or(36) as u8;
            fuzz::draw(&mut rng, &means, &cell.vm, bits.clamp(32, 52), cell.config.non_coherent_dma)
        };
        let limits = fuzz::Limits {
            time: Duration::from_secs(self.args.time),
            histories: self.args.histories.unwrap_or(u64::MAX),
            tries: if self.args.fail_fast { 0 } else { TRIES },
            fail_fast: self.args.fail_fast,
        };
        let plain = PLAIN_VMS.into_iter().filter(|vm| cells.iter().any(|cell| cell.vm == *vm));
        let mut session = Session::new(runner, self.header.run, plain.map(str::to_owned).collect());
        let mut beat = Instant::now();
        let each = |sums: &Sums, finds: usize| {
            if self.args.format == Format::Json && beat.elapsed() >= BEAT {
                beat = Instant::now();
                let _ = writeln!(stdout(), "{}", json!({ "cell": TEST, "histories": sums.histories, "finds": finds }));
            }
        };
        session.go(&limits, draw, || STOP.load(Ordering::Relaxed), each).map_err(Failure::Broken)?;
        let (finds, sums) = session.end();
        let mut found: Vec<&Find> = finds.iter().collect();
        // The guests of finds have the run ids of their places in the order in which they were found. One that did not show
        // again has that of the history in which it was drawn.
        found.sort_by_key(|find| (find.ran.run.wrapping_sub(self.header.run), !find.again));
        let kept: Vec<Kept<'_>> = found.into_iter().map(Kept::from).collect();
        self.end(&finds.iter().collect::<Vec<_>>(), &kept, &sums, runner)
    }

    fn replay(&self, runner: Machinery<'_>, history: &History) -> Done {
        let vm = &self.knowledge.vms[&history.vm];
        if let Some(why) = runner.machine.lacks(runner.needs.and(Needs::cpus(history.cpus)), vm) {
            return Err(Failure::Broken(format!("this host cannot run the history: {why}")));
        }
        let mut again = runner;
        let ran = again.run(history, self.header.run, true).map_err(Failure::Broken)?;
        let mut session = Session::new(runner, self.header.run, Vec::new());
        session.take(0, history, &ran, 0).map_err(Failure::Broken)?;
        let (finds, _) = session.end();
        let kept = Kept { name: REPLAYED, history, ran: &ran, words: "a history that was run again" };
        let sums = Sums { histories: 1, operations: history.ops.len() as u64, ..Sums::default() };
        self.end(&finds.iter().collect::<Vec<_>>(), &[kept], &sums, runner)
    }

    /// What goes before the first history.
    fn say(&self, cells: &[&Cell], means: &Means) -> Result<(), Failure> {
        if self.args.format != Format::Human {
            return Ok(());
        }
        let (mut out, Header { version, host, .. }) = (stdout(), self.header);
        let seconds = self.args.time;
        writeln!(
            out,
            "kvm-memtype {version}: random histories, --seed {} --time {seconds} --vcpus {}",
            self.seed, means.cpus
        )?;
        for (what, is) in host {
            writeln!(out, "  {what:<10}{is}")?;
        }
        let vms: Vec<&str> = cells.iter().map(|cell| cell.vm.as_str()).collect();
        writeln!(out, "  {:<10}{}", "VMs", vms.join(", "))?;
        writeln!(out, "  {:<10}{}", "witnesses", self.witness.witnesses.kinds())?;
        for (kind, why) in &self.witness.missing {
            writeln!(out, "  {:<10}not {kind}: {why}", "")?;
        }
        let without = |kind| !self.witness.witnesses.kinds().0.contains(&kind);
        for (lacks, what) in [
            (without(Witness::Sptes), "which leaves KVM makes and zaps: no witness of SPTEs"),
            (without(Witness::Log), "whether the kernel warns: no witness of its log"),
            (!means.dma, "non-coherent DMA: no provider is named to --dma"),
            (!means.mmio, "a device's memory: none is named to --host-mmio"),
        ] {
            if lacks {
                writeln!(out, "  {:<10}{what}", "not seen")?;
            }
        }
        writeln!(out)?;
        Ok(())
    }

    /// Keeps `kept`, and says what was found, the worst first.
    fn end(&self, finds: &[&Find], kept: &[Kept<'_>], sums: &Sums, runner: Machinery<'_>) -> Done {
        let dir = self.keep(kept, runner)?;
        let lines = self.lines(finds, sums);
        write(&dir.join(FINDS), &lines)?;
        match self.args.format {
            Format::Json => write!(stdout(), "{lines}")?,
            Format::Human => self.print(finds, sums, &dir)?,
        }
        let unknown = finds.iter().any(|find| find.cause.kind == Kind::Unknown);
        Ok(if unknown { Outcome::Surprise } else { Outcome::AsExpected })
    }

    /// A line of JSON for each find, and one for the sums.
    fn lines(&self, finds: &[&Find], sums: &Sums) -> String {
        let mut lines = String::new();
        for find in finds {
            let operations: Vec<String> = find.history.ops.iter().map(ToString::to_string).collect();
            let line = json!({
                "cell": cell(&find.cause.id), "kind": find.cause.kind, "id": find.cause.id, "words": find.words,
                "times": find.times, "history": find.number, "drawn": find.drawn, "again": find.again,
                "vm": find.history.vm, "vcpus": find.history.cpus, "operations": operations,
            });
            lines.push_str(&format!("{line}\n"));
        }
        let line = json!({
            "seed": self.seed, "histories": sums.histories, "operations": sums.operations, "tries": sums.tries,
            "gaps": sums.gaps, "drawing": sums.drawing.as_secs_f64(), "shrinking": sums.shrinking.as_secs_f64(),
        });
        lines + &format!("{line}\n")
    }

    /// Writes a run with these as cells, and the history of each as a file.
    fn keep(&self, kept: &[Kept<'_>], runner: Machinery<'_>) -> Result<PathBuf, Failure> {
        let planned = |kept: &Kept<'_>| PlannedCell {
            id: cell(kept.name),
            vm: self.knowledge.vms[&kept.history.vm].clone(),
            points: kept.history.points(),
            run: None,
        };
        let header = Header { cells: kept.iter().map(planned).collect(), ..self.header.clone() };
        let mut writer = Writer::create(&self.cli.results, &header)?;
        let cells = Cells::new(&header);
        let mut verdicts = Vec::new();
        for kept in kept {
            write(&writer.dir().join(format!("{}.toml", kept.name)), &kept.history.write(kept.words))?;
            let id = cell(kept.name);
            let outcome = if cells.run_id(&id) == Some(kept.ran.run) {
                CellOutcome::Observed(kept.ran.observed.clone())
            } else {
                CellOutcome::Skip("it showed beside another find, and not again".to_owned())
            };
            let result = CellResult { cell: id, outcome };
            writer.append(&result)?;
            verdicts.push(cells.verdict(&runner.judge, &result));
        }
        results::write_verdicts(writer.dir(), &verdicts)?;
        Ok(writer.dir().to_owned())
    }

    fn print(&self, finds: &[&Find], sums: &Sums, dir: &Path) -> Result<(), Failure> {
        let mut out = stdout();
        for kind in [Kind::Unknown, Kind::Known, Kind::Departure] {
            let of_kind: Vec<&&Find> = finds.iter().filter(|find| find.cause.kind == kind).collect();
            writeln!(
                out,
                "{kind}: {}",
                if of_kind.is_empty() { "none".to_owned() } else { of_kind.len().to_string() }
            )?;
            for find in of_kind {
                writeln!(out, "  {}", find.cause.id)?;
                writeln!(out, "      {}", find.words)?;
                if self.args.replay.is_some() {
                    continue;
                }
                let again = if find.again || self.args.fail_fast { "" } else { "; it did not show again" };
                let (times, length) = (histories(find.times), find.history.ops.len());
                writeln!(
                    out,
                    "      in {times}, first in number {}; {length} of {} operations are enough{again}",
                    find.number, find.drawn
                )?;
            }
        }
        if self.args.replay.is_some() {
            writeln!(out, "\nkvm-memtype explain {} tells more; all is in {}", cell(REPLAYED), dir.display())?;
            return Ok(());
        }
        let seconds = sums.drawing.as_secs_f64();
        let rate = if seconds > 0.0 { sums.histories as f64 / seconds } else { 0.0 };
        writeln!(
            out,
            "\n{} of {} in {seconds:.1} s ({rate:.1}/s); {} to shrink finds in {:.1} s",
            histories(sums.histories),
            counted(sums.operations, "operation"),
            counted(sums.tries, "more VM"),
            sums.shrinking.as_secs_f64()
        )?;
        if sums.gaps > 0 {
            writeln!(out, "in {} a witness did not see all, and nothing is said of SPTEs", histories(sums.gaps))?;
        }
        writeln!(
            out,
            "kvm-memtype fuzz --replay FILE runs one again, kvm-memtype explain CELL tells more; all is in {}",
            dir.display()
        )?;
        Ok(())
    }
}

/// A history that is kept.
struct Kept<'a> {
    /// What its cell and its file are called.
    name: &'a str,
    history: &'a History,
    ran: &'a Ran,
    /// What it shows.
    words: &'a str,
}

impl<'a> From<&'a Find> for Kept<'a> {
    fn from(find: &'a Find) -> Self {
        Kept { name: &find.cause.id, history: &find.history, ran: &find.ran, words: &find.words }
    }
}

/// The id of the cell of that name.
fn cell(name: &str) -> String {
    format!("{TEST}@{name}")
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).map_err(|error| Failure::Broken(format!("cannot write {}: {error}", path.display())))
}

/// That many histories, in words.
fn histories(count: u64) -> String {
    if count == 1 { "1 history".to_owned() } else { format!("{count} histories") }
}
