//! Timing pages at CPL3: the probes of [`wire::probe`], and the two pages by which their times are read.

use crate::paging::{MAPPED, Page};
use crate::report::Out;
use crate::smp::Cpu;
use crate::sweep::{cr0_once, msr_once};
use crate::values::PAT_RESET;
use crate::{cpu, cr0, msr, mtrr, paging, user};
use core::arch::global_asm;
use wire::layout::{MTRR_DEF_TYPE, PAT};
use wire::memtype::MemType;
use wire::probe::{ACCESSES, LINES, Probe, SAMPLES, Sample, Times};
use wire::record::Timed;

// One piece, because the guest of a guest is made of the same macros.
global_asm!(
    include_str!("asm/probes.s"),
    include_str!("asm/nested.s"),
    include_str!("asm/unpaged.s"),
    ACCESSES = const ACCESSES,
    LINES = const LINES,
    STREAM = const STREAM,
);

unsafe extern "C" {
    /// See probes.s. Does one round of probe number `probe` in the page at `address`, by accesses of eight bytes, and
    /// gives its ticks.
    fn probe_round(address: u64, probe: u64) -> u32;
    /// The same by accesses of four bytes.
    fn probe_round_4(address: u64, probe: u64) -> u32;
    /// See unpaged.s. The same by accesses of four bytes, with paging off. At CPL0 alone.
    fn unpaged_round(address: u64, probe: u64) -> u32;
}

/// Where in a page the lines start that [`Probe::Stream`] stores to.
const STREAM: u32 = 0x400;
/// A probe whose rounds differ too much is done again, this many times in all.
const TRIES: usize = 4;

/// Entries of type WB and UC of the PAT after a reset.
const PAT_WB_UC: [u8; 2] = [0, 3];

/// Probes of a page that can be stored to.
pub const STORED: [Probe; 4] = [Probe::Load, Probe::Drain, Probe::Stream, Probe::Reload];
/// What else tells how a load from WC is combined.
const GATHERED: [Probe; 1] = [Probe::Gather];
/// What the times of a page are held against, on the page by which a vCPU is calibrated.
const SCALE: [Probe; 4] = [Probe::Lfence, Probe::Mfence, Probe::Flush, Probe::FlushLoad];

// CPUID.1:ECX and EDX.
const SSE4_1: u32 = 1 << 19;
const CLFSH: u32 = 1 << 19;

/// Does these probes by rounds of `round`.
pub fn times(probes: &[Probe], mut round: impl FnMut(Probe) -> u32) -> Times {
    let mut times = Times::NONE;
    for &probe in probes {
        let mut sample = || {
            let mut rounds = [0; SAMPLES];
            rounds.iter_mut().for_each(|ticks| *ticks = round(probe));
            Sample::of(&mut rounds)
        };
        let mut best = sample();
        for _ in 1..TRIES {
            if best.spread <= best.median / 8 {
                break;
            }
            let again = sample();
            if again.spread < best.spread {
                best = again;
            }
        }
        times.set(probe, best);
    }
    times
}

/// Does these probes at CPL3 on this vCPU.
fn probe(gpa: u64, lists: &[&[Probe]]) -> Times {
    assert!(gpa < MAPPED && gpa.is_multiple_of(Page::Small.size()), "a page that cannot be timed");
    let [_, _, ecx, edx] = cpu::leaf(1, 0).registers;
    let there = |probe: &Probe| match probe {
        Probe::Gather => ecx & SSE4_1 != 0,
        Probe::Flush | Probe::FlushLoad => edx & CLFSH != 0,
        _ => true,
    };
    let mut all = [Probe::Load; Probe::ALL.len()];
    let mut count = 0;
    for probe in lists.iter().copied().flatten().copied().filter(there) {
        all[count] = probe;
        count += 1;
    }
    // SAFETY: the page is mapped and its owner had it timed; probes store what is there, and zeros to lines of it.
    user::run(|| times(&all[..count], |probe| unsafe { probe_round(gpa, probe.index() as u64) }))
}

/// Times a page at CPL3 on the vCPU that boots, and reports it. It is mapped through the entry `pat_entry` of the PAT.
/// Its first 16 bytes stay as they are; the second KiB of it is zero afterwards.
pub fn page(out: &mut Out, gpa: u64, pat_entry: u8) {
    let times = probe(gpa, &[&STORED, &GATHERED]);
    out.timed(timed(0, gpa, pat_entry, times));
}

/// The same on an application processor.
pub fn page_by(out: &mut Out, cpu: &Cpu, gpa: u64, pat_entry: u8) {
    let times = cpu.run(|| probe(gpa, &[&STORED, &GATHERED]));
    out.timed(timed(cpu.index(), gpa, pat_entry, times));
}

/// Times loads alone, from a page that cannot be stored to.
pub fn loads(out: &mut Out, gpa: u64, pat_entry: u8) {
    let times = probe(gpa, &[&[Probe::Load], &GATHERED]);
    out.timed(timed(0, gpa, pat_entry, times));
}

/// Times loads of four bytes alone, from a page that a device has: that much every BAR takes, and a store might make the
/// device do something.
pub fn device(out: &mut Out, gpa: u64, pat_entry: u8) {
    // SAFETY: the page is mapped; this probe only loads from it.
    let round = |probe: Probe| unsafe { probe_round_4(gpa, probe.index() as u64) };
    let times = user::run(|| times(&[Probe::Load], round));
    out.timed(timed(0, gpa, pat_entry, times));
}

/// Times a page at CPL0 with paging off on the vCPU that boots, and reports it. As [`page`] otherwise.
pub fn unpaged(out: &mut Out, gpa: u64) {
    assert!(gpa < MAPPED && gpa.is_multiple_of(Page::Small.size()), "a page that cannot be timed");
    // SAFETY: code, stack and page lie below 4 GiB, and no interrupt comes that would want the 64-bit IDT meanwhile.
    let times = times(&STORED, |probe| unsafe { unpaged_round(gpa, probe.index() as u64) });
    out.timed(Timed { cpl: 0, pat_entry: None, ..timed(0, gpa, 0, times) });
}

/// Times what the CPU's own reads of the page table at `gpa` take on the vCPU that boots, and reports it. The table's first
/// entry maps some page; the entry of the directory that leads to it has PWT and PCD of the entry `pat_entry`, 0 to 3, of the
/// PAT.
pub fn walk(out: &mut Out, gpa: u64, pat_entry: u8) {
    out.timed(walked(gpa, pat_entry));
}

/// Makes the reference for [`walk`], and reports it: page tables in RAM, read as WB and as UC. The MTRRs give the guest's
/// RAM type WB, and the PAT is as after a reset.
pub fn calibrate_walks(out: &mut Out) {
    for entry in PAT_WB_UC {
        out.reference(walked(paging::table_of(paging::spare(Page::Small)), entry));
    }
}

fn walked(table: u64, pat_entry: u8) -> Timed {
    let linear = paging::walk_by(table, pat_entry);
    // SAFETY: a page of RAM is mapped there for loads, and this runs at CPL0, as INVLPG has to.
    let times = times(&[Probe::Walk], |probe| unsafe { probe_round(linear, probe.index() as u64) });
    Timed { cpl: 0, ..timed(0, table, pat_entry, times) }
}

fn timed(cpu: u8, gpa: u64, pat_entry: u8, times: Times) -> Timed {
    Timed { cpu, cpl: 3, gpa, pat_entry: Some(pat_entry), nested: None, times }
}

/// Two pages of RAM by which a vCPU's times are read.
#[derive(Debug, Clone, Copy)]
pub struct Reference {
    /// With each the entry of the PAT through which it is mapped: of type WB, and of type UC.
    pages: [(u64, u8); 2],
}

/// Makes the reference on the vCPU that boots, and reports it: with MTRRs enabled and of default type WB, and the PAT as
/// after a reset. Then IA32_MTRR_DEF_TYPE, PAT and CR0 are as before. All writes are reported.
///
/// Range MTRRs stay as they are: none may lie over the guest's RAM.
pub fn calibrate(out: &mut Out) -> Reference {
    let before = (msr::try_rdmsr(MTRR_DEF_TYPE), msr::rdmsr(PAT), cr0::read());
    mtrr::change(out, mtrr::ENABLE | MemType::Wb as u64, |out| msr_once(out, PAT, PAT_RESET));
    mtrr::caching(out, true);
    let pages = PAT_WB_UC.map(|entry| (paging::spare(Page::Small), entry));
    let reference = Reference { pages };
    for (gpa, entry) in pages {
        paging::map(gpa, Page::Small, entry);
        out.reference(timed(0, gpa, entry, scale(gpa)));
    }
    let (def_type, pat, cr0) = before;
    mtrr::change(out, def_type.unwrap_or(0), |out| msr_once(out, PAT, pat));
    cr0_once(out, cr0);
    reference
}

impl Reference {
    /// The same pages on an application processor, whose PAT is as after a reset.
    pub fn by(&self, out: &mut Out, cpu: &Cpu) {
        for (gpa, entry) in self.pages {
            let times = cpu.run(|| {
                paging::flush();
                scale(gpa)
            });
            out.reference(timed(cpu.index(), gpa, entry, times));
        }
    }
}

fn scale(gpa: u64) -> Times {
    probe(gpa, &[&STORED, &GATHERED, &SCALE])
}
