//! Bochs behind the interface that all machines have.

use super::config::Config;
use super::disk::Mtrrs;
use super::process::{Ended, Heard};
use super::program::Bochs;
use super::pvh::Pvh;
use crate::host::facts::{Fact, Facts};
use crate::machine::log::Log;
use crate::machine::process::Cause;
use crate::machine::{End, Job, Limits, Line, Machine, MachineError, Observed, foreign, memfd, smallest};
use crate::plan::vm::VmConfig;
use crate::witness::Witnessed;
use std::ops::ControlFlow;
use std::time::Instant;
use wire::layout::{BOCHS_WORD, EXIT_LINE, RESET_LINE, START_LINE};
use wire::needs::Needs;

/// What Bochs offers of what tests need. Its vCPUs take turns of a few instructions, which is parallel enough. The rest takes a VMM that does host steps.
const OFFERED: Needs = Needs::APIC.and(Needs::BARE).and(Needs::PARALLEL);

/// Bytes of the debug port that are kept: an ending is the last line.
const DEBUG: usize = 64 << 10;

/// Machine `bochs`: a guest alone on an emulated PC, with no KVM and no firmware under it.
#[derive(Debug)]
pub struct BochsMachine {
    bochs: Bochs,
    maxphyaddr: u8,
}

/// What a guest in Bochs wrote, and how it ended.
#[derive(Debug)]
struct Said {
    serial: Vec<Line>,
    debug: Vec<Line>,
    flood: bool,
    ended: Ended,
}

impl Said {
    /// Whether the ROM ran: what comes before is no guest's doing.
    fn has_begun(&self) -> bool {
        self.debug.iter().any(|line| matches!(line, Line::Guest(line) if line == START_LINE))
    }
}

impl BochsMachine {
    /// Finds Bochs, and asks its CPU for the width of physical addresses. Takes about a tenth of a second.
    ///
    /// # Errors
    /// There is no Bochs, or it does not run a guest of a few bytes; says what to do or what Bochs said.
    pub fn new() -> Result<BochsMachine, MachineError> {
        let bochs = Bochs::find()?;
        let said = boot(&bochs, &Config::default(), &smallest::elf(&MAXPHYADDR), "", Limits::default())?;
        let width = said.debug.iter().find_map(|line| match line {
            Line::Guest(line) => line.strip_prefix(WIDTH)?.bytes().next(),
            Line::Console(_) | Line::Host(_) => None,
        });
        match width {
            Some(maxphyaddr) => Ok(BochsMachine { bochs, maxphyaddr }),
            None => Err(said.ended.did_not_boot(&bochs)),
        }
    }

    /// The program.
    pub fn bochs(&self) -> &Bochs {
        &self.bochs
    }
}

/// Start of the line that says MAXPHYADDR, in one byte.
const WIDTH: &str = "w";

/// Writes a line to the debug port, `w` and a byte with MAXPHYADDR, and shuts Bochs down.
const MAXPHYADDR: [u8; 46] = [
    0xb0, b'\n', 0xe6, 0xe9, // mov al, '\n'; out 0xe9, al
    0xb0, b'w', 0xe6, 0xe9, // mov al, 'w'; out 0xe9, al
    0xb8, 8, 0, 0, 0x80, 0x0f, 0xa2, 0xe6, 0xe9, // mov eax, 0x80000008; cpuid; out 0xe9, al
    0xb0, b'\n', 0xe6, 0xe9, // as above
    0x66, 0xba, 0x00, 0x89, // mov dx, 0x8900
    0xbe, 38, 0, 0x10, 0, // mov esi, the word below
    0xb9, 8, 0, 0, 0, // mov ecx, 8
    0xf3, 0x6e, 0xf4, // rep outsb; hlt
    b'S', b'h', b'u', b't', b'd', b'o', b'w', b'n',
];

impl Machine for BochsMachine {
    fn name(&self) -> &'static str {
        "bochs"
    }

    fn description(&self) -> String {
        let clock = match &self.bochs.clock {
            Some(clock) => format!("the clock is the model {clock}"),
            None => "without a clock that shows memory types".to_owned(),
        };
        format!("Bochs {}, {}, {clock}", self.bochs.version, Config::default().cpu)
    }

    fn lacks(&self, needs: Needs, vm: &VmConfig) -> Option<String> {
        if let Some(reason) = foreign::lacks(OFFERED, needs, vm) {
            return Some(reason);
        }
        if let (Some(feature), false) = (hidden(vm).next(), self.bochs.excludes_features) {
            return Some(format!(
                "CPUID.1:EDX.{} cannot be hidden: Bochs can since 3.0, and this is {}",
                feature.to_uppercase(),
                self.bochs.version
            ));
        }
        let bits = vm.maxphyaddr.filter(|&bits| bits != self.maxphyaddr)?;
        Some(format!("MAXPHYADDR is {} in every CPU that Bochs has, and not {bits}", self.maxphyaddr))
    }

    fn facts(&self) -> Facts {
        let text = |text: &str| Fact::Text(text.to_owned());
        let clock = self.bochs.clock.as_ref().map(|clock| ("clock", text(clock)));
        let facts = [("cpu-vendor", text("GenuineIntel")), ("maxphyaddr", Fact::Int(self.maxphyaddr.into()))];
        facts.into_iter().chain(clock).collect()
    }

    fn run(&self, job: &Job<'_>) -> Result<Observed, MachineError> {
        let start = Instant::now();
        let mut config = Config { cpus: job.needs.cpu_count(), ..Config::default() };
        config.exclude.extend(hidden(job.vm).map(str::to_owned));
        let words = format!("{BOCHS_WORD} run={:x} test={}", job.run, job.test);
        let said = boot(&self.bochs, &config, job.elf, &words, job.limits)?;
        if !said.has_begun() {
            return Err(said.ended.did_not_boot(&self.bochs));
        }
        let micros = start.elapsed().as_micros().try_into().unwrap_or(u64::MAX);
        Ok(Observed { end: end(&said), log: said.serial, micros, witness: Witnessed::default() })
    }
}

/// Boots an ELF file with MTRRs as a reset leaves them, and waits for its end.
fn boot(bochs: &Bochs, config: &Config, elf: &[u8], words: &str, limits: Limits) -> Result<Said, MachineError> {
    let failed =
        |source| MachineError { what: "the guest cannot be put on a boot disk".to_owned(), source: Some(source) };
    let pvh = Pvh { elf, command_line: words, initrd: None, megs: config.megs, mtrrs: Mtrrs::Reset };
    let disk = pvh.disk().map_err(|e| failed(e.into()))?;
    let mut file = memfd::with(&[]).map_err(|e| failed(e.into()))?;
    disk.write(&mut file).map_err(|e| failed(e.into()))?;
    let (mut serial, mut debug, mut flood) = (Log::new(limits.output), Log::new(limits.output.max(DEBUG)), false);
    let ended = bochs.run(config, &file, limits.timeout, |heard| {
        flood |= match heard {
            Heard::Serial(bytes) => serial.serial(bytes).is_err(),
            Heard::Debug(bytes) => debug.serial(bytes).is_err(),
            Heard::Silence => false,
        };
        if flood { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok(Said { serial: serial.finish(), debug: debug.finish(), flood, ended })
}

/// How the VM ended: what the guest or the ROM said last, else what Bochs said.
fn end(said: &Said) -> End {
    let word = said.debug.iter().rev().find_map(|line| match line {
        Line::Guest(line) if line == RESET_LINE => Some(End::Shutdown),
        Line::Guest(line) => u32::from_str_radix(line.strip_prefix(EXIT_LINE)?, 16).ok().map(End::Exit),
        Line::Console(_) | Line::Host(_) => None,
    });
    match (said.flood, word, said.ended.cause) {
        (true, ..) => End::Flood,
        (false, Some(end), _) => end,
        (false, None, Cause::Timeout) => End::Timeout { rip: None },
        (false, None, _) => {
            End::Unexpected(format!("Bochs ended: {}", said.ended.reason().unwrap_or("it gave no reason")))
        }
    }
}

/// The CPU features that a VM's configuration hides, as Bochs names them.
fn hidden(vm: &VmConfig) -> impl Iterator<Item = &'static str> {
    [(vm.cpuid_mtrr, "mtrr"), (vm.cpuid_self_snoop, "ss")].into_iter().filter(|(shown, _)| !shown).map(|(_, name)| name)
}
