//! One page of RAM by two mappings: stores by the one, loads by the other, at CPL3, and what the loads gave.

use crate::doorbell::{Reply, ring};
use crate::guard::registers;
use crate::mtrr::ENABLE;
use crate::paging;
use crate::report::Out;
use crate::smp::Cpu;
use crate::sweep::{msr_once, write_cr0, write_msr};
use crate::traps::{MACHINE_CHECK, awaiting};
use crate::values::PAT_TYPES;
use crate::{cache, cpu, cr0, mmio, msr, mtrr, slot, user};
use core::arch::asm;
use wire::coherence::{Aliased, Between, Side};
use wire::insn::Insn;
use wire::layout::{CR0_CD, CR0_NW, MTRR_DEF_TYPE, PAT, WINDOW};
use wire::memtype::MemType;
use wire::outcome::Outcome;
use wire::register::{Place, Register};
use wire::step::{SlotMemory, Status, Step};

/// Entries of [`PAT_TYPES`], one of each type: WB, WC, WT, WP, UC, UC-.
pub const ENTRIES: [u8; 6] = [0, 1, 2, 3, 4, 6];
/// Bytes of a cache line.
const LINE: u64 = 64;
/// Lines of a page.
const LINES: u64 = 64;
/// Stores to each line.
const ROUNDS: u64 = 4;
/// Rounds where two vCPUs or the host have a part: each has to wait for the other.
const FEW_ROUNDS: u64 = 2;
/// Lines where the host has a part: each access of it is a step, with a line in the log.
const HOST_LINES: u64 = 4;
/// The memslot of [`slot`].
const SLOT: u8 = 1;

/// A page of RAM that is mapped through each of [`ENTRIES`] besides.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    gpa: u64,
}

/// A page of the guest's own RAM. Values in it are not reported.
pub fn ram() -> Page {
    Page::new(paging::spare(paging::Page::Small))
}

/// The page of a new memslot in the test window, which the host reaches too.
///
/// # Panics
/// The VMM makes none.
pub fn slot(out: &mut Out) -> Page {
    assert!(slot::make(out, SLOT, WINDOW, 1, SlotMemory::Small), "the VMM made no memslot");
    // One access that is reported, by which KVM makes the leaf.
    mmio::write(out, 3, WINDOW, 8, WINDOW);
    ring(Step::Mark);
    out.unreported(WINDOW, paging::Page::Small.size());
    Page::new(WINDOW)
}

impl Page {
    fn new(gpa: u64) -> Page {
        for entry in ENTRIES {
            paging::alias(gpa, entry);
        }
        Page { gpa }
    }

    /// Its guest-physical address.
    pub fn gpa(self) -> u64 {
        self.gpa
    }

    /// Linear address of line `line`, modulo the number of lines, through an entry.
    pub fn line(self, pat_entry: u8, line: u64) -> u64 {
        paging::alias_of(self.gpa, pat_entry) + line % LINES * LINE
    }

    /// Leaves nothing of it in any cache.
    pub fn flush(self) {
        user::run(|| (0..LINES).for_each(|line| flush(self.line(ENTRIES[0], line))));
    }

    /// Stores the first value to each line, and leaves none of it in any cache.
    fn reset(self) {
        user::run(|| {
            for line in 0..LINES {
                // SAFETY: the page belongs to this test.
                unsafe { store(self.line(ENTRIES[0], line), value(line, 0)) };
            }
        });
        self.flush();
    }
}

/// Has this vCPU and `others` take machine checks, enable MTRRs with WB as default type, and hold one of each memory
/// type in the PAT, with caching on. Reports the state before and all writes but those to CR4.
pub fn prepare(out: &mut Out, others: &[&Cpu]) {
    cpu::report_mtrrs_and_width(out);
    mtrr::report(out);
    mtrr::change(out, ENABLE | MemType::Wb as u64, |out| msr_once(out, PAT, PAT_TYPES));
    mtrr::caching(out, true);
    cpu::set_mce(true);
    for other in others {
        prepare_other(out, other);
    }
}

/// The same of an application processor, in the same order.
fn prepare_other(out: &mut Out, cpu: &Cpu) {
    let at = |register| Place { cpu: cpu.index(), register };
    for index in registers() {
        out.reads(at(Register::Msr(index))).push(cpu.run(|| msr::try_rdmsr(index)));
    }
    let rest = cpu.run(cr0::read) & !(CR0_CD | CR0_NW);
    for (register, value) in [
        (Register::Cr0, rest | CR0_CD),
        (Register::Msr(MTRR_DEF_TYPE), 0),
        (Register::Msr(PAT), PAT_TYPES),
        (Register::Msr(MTRR_DEF_TYPE), ENABLE | MemType::Wb as u64),
        (Register::Cr0, rest),
    ] {
        out.write(at(register), value, cpu.run(|| write(register, value)));
    }
    cpu.run(|| cpu::set_mce(true));
}

/// Writes to a register of this vCPU, and empties its caches and its TLB.
fn write(register: Register, value: u64) -> Outcome {
    let outcome = match register {
        Register::Msr(index) => write_msr(index, value),
        _ => write_cr0(value),
    };
    cache::write_back();
    paging::flush();
    outcome
}

/// Stores to `page` and loads from it on the vCPU that boots, each load right after its store and what is done in
/// between, and reports what came.
pub fn here(out: &mut Out, page: Page, store_entry: u8, load_entry: u8, between: Between) {
    page.reset();
    let (counts, machine_check) = checked(|| {
        user::run(|| {
            let mut counts = Counts::default();
            for (round, line) in walk(ROUNDS, LINES) {
                let (to, from) = (page.line(store_entry, line), page.line(load_entry, line));
                load(from);
                // SAFETY: the page belongs to this test.
                unsafe { store(to, value(line, round)) };
                after_store(to, between);
                counts.take(load(from), line, round);
            }
            counts
        })
    });
    let side = |pat_entry| Side::Guest { cpu: 0, pat_entry };
    counts.report(out, page, [side(store_entry), side(load_entry)], between, machine_check, 0);
}

/// The same with the stores on the vCPU that boots and the loads on `other`: all lines are loaded, so that a cache may
/// hold them, then all stored to, then all loaded again.
pub fn across(out: &mut Out, page: Page, other: &Cpu, store_entry: u8, load_entry: u8, between: Between) {
    page.reset();
    let (mut counts, mut machine_check) = (Counts::default(), false);
    other.run(|| user::run(|| load_all(page, load_entry, LINES)));
    for round in 1..=FEW_ROUNDS {
        let ((), here) = checked(|| user::run(|| store_all(page, store_entry, round, LINES, between)));
        let (found, there) = other.run(|| checked(|| user::run(|| count_all(page, load_entry, round, LINES))));
        counts.add(found);
        machine_check |= here | there;
    }
    let side = |cpu, pat_entry| Side::Guest { cpu, pat_entry };
    let sides = [side(0, store_entry), side(other.index(), load_entry)];
    counts.report(out, page, sides, between, machine_check, 0);
}

/// Stores through one entry, the instruction at CPL0, which concerns all caches, and loads through the same entry.
pub fn around(out: &mut Out, page: Page, pat_entry: u8, between: Between) {
    page.reset();
    let (mut counts, mut machine_check, mut ticks) = (Counts::default(), false, 0);
    for round in 1..=ROUNDS {
        let (found, came) = checked(|| {
            user::run(|| store_all(page, pat_entry, round, LINES, Between::Fence));
            ticks += all_caches(between);
            user::run(|| count_all(page, pat_entry, round, LINES))
        });
        counts.add(found);
        machine_check |= came;
    }
    let side = Side::Guest { cpu: 0, pat_entry };
    counts.report(out, page, [side; 2], between, machine_check, ticks);
}

/// Stores through an entry, and loads by the host, through its HVA. The page must be that of [`slot`].
pub fn to_host(out: &mut Out, page: Page, pat_entry: u8, between: Between) {
    page.reset();
    let (mut counts, mut machine_check, mut ticks) = (Counts::default(), false, 0);
    let host_flushes = between == Between::HostClflush;
    for round in 1..=FEW_ROUNDS {
        let ((), came) = checked(|| {
            (0..HOST_LINES).for_each(|line| {
                peek(line, false);
            });
            user::run(|| store_all(page, pat_entry, round, HOST_LINES, between));
            ticks += all_caches(between);
            (0..HOST_LINES).for_each(|line| counts.take(peek(line, host_flushes), line, round));
        });
        machine_check |= came;
    }
    counts.report(out, page, [Side::Guest { cpu: 0, pat_entry }, Side::Host], between, machine_check, ticks);
}

/// Stores by the host, through its HVA, and loads through an entry. The page must be that of [`slot`].
pub fn from_host(out: &mut Out, page: Page, pat_entry: u8, between: Between) {
    page.reset();
    let (mut counts, mut machine_check) = (Counts::default(), false);
    let host_flushes = between == Between::HostClflush;
    for round in 1..=FEW_ROUNDS {
        let (found, came) = checked(|| {
            user::run(|| load_all(page, pat_entry, HOST_LINES));
            (0..HOST_LINES).for_each(|line| poke(line, value(line, round), host_flushes));
            user::run(|| {
                (0..HOST_LINES).for_each(|line| after_store(page.line(pat_entry, line), between));
                count_all(page, pat_entry, round, HOST_LINES)
            })
        });
        counts.add(found);
        machine_check |= came;
    }
    counts.report(out, page, [Side::Host, Side::Guest { cpu: 0, pat_entry }], between, machine_check, 0);
}

/// What loads gave.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    new: u32,
    stale: u32,
    other: u32,
}

impl Counts {
    /// Takes what a load of line `line` gave after the store of round `round`.
    fn take(&mut self, got: u64, line: u64, round: u64) {
        if got == value(line, round) {
            self.new += 1;
        } else if (0..round).any(|before| got == value(line, before)) {
            self.stale += 1;
        } else {
            self.other += 1;
        }
    }

    fn add(&mut self, more: Counts) {
        self.new += more.new;
        self.stale += more.stale;
        self.other += more.other;
    }

    fn report(self, out: &mut Out, page: Page, sides: [Side; 2], between: Between, machine_check: bool, ticks: u64) {
        let (Counts { new, stale, other }, [store, load]) = (self, sides);
        out.aliased(Aliased { gpa: page.gpa, store, load, between, new, stale, other, machine_check, ticks });
    }
}

/// The value that round `round` stores to line `line`: no other store's, and half of it is not half of another.
fn value(line: u64, round: u64) -> u64 {
    let number = round * LINES + line;
    number << 32 | !number & 0xffff_ffff
}

/// All lines of each round after the first value's.
fn walk(rounds: u64, lines: u64) -> impl Iterator<Item = (u64, u64)> {
    (1..=rounds).flat_map(move |round| (0..lines).map(move |line| (round, line)))
}

/// Does `work`, and says whether a #MC came meanwhile on this vCPU.
fn checked<R>(work: impl FnOnce() -> R) -> (R, bool) {
    let (result, trap) = awaiting(1 << MACHINE_CHECK, work);
    (result, trap.is_some())
}

fn load_all(page: Page, pat_entry: u8, lines: u64) {
    for line in 0..lines {
        load(page.line(pat_entry, line));
    }
}

fn count_all(page: Page, pat_entry: u8, round: u64, lines: u64) -> Counts {
    let mut counts = Counts::default();
    for line in 0..lines {
        counts.take(load(page.line(pat_entry, line)), line, round);
    }
    counts
}

/// Stores to all lines, and then does what is done in between with each.
fn store_all(page: Page, pat_entry: u8, round: u64, lines: u64, between: Between) {
    for line in 0..lines {
        // SAFETY: the page belongs to this test.
        unsafe { store(page.line(pat_entry, line), value(line, round)) };
    }
    for line in 0..lines {
        after_store(page.line(pat_entry, line), between);
    }
}

/// What is done at CPL3 between a store and a load, of the line at `linear`. CLFLUSH finds the line by its physical
/// address, and whatever its memory type: SDM Vol. 2 CLFLUSH.
fn after_store(linear: u64, between: Between) {
    match between {
        Between::Nothing => {}
        Between::Fence | Between::HostClflush | Between::Wbinvd | Between::Invd => fence(),
        Between::Clflush => flush(linear),
    }
}

/// Executes WBINVD or INVD, and gives the ticks that it took.
fn all_caches(between: Between) -> u64 {
    let insn = match between {
        Between::Wbinvd => Insn::Wbinvd,
        Between::Invd => Insn::Invd,
        _ => return 0,
    };
    let start = cpu::cycles();
    cache::execute(insn);
    cpu::since(start)
}

/// The eight bytes at a line of the slot, as the host sees them, after CLFLUSH if it flushes; a value that is never stored
/// where the VMM refuses.
fn peek(line: u64, flush: bool) -> u64 {
    let Reply { status, value } = ring(Step::Peek { slot: SLOT, offset: (line * LINE) as u32, flush });
    if status == Status::Done { value } else { u64::MAX }
}

fn poke(line: u64, value: u64, flush: bool) {
    ring(Step::Poke { slot: SLOT, offset: (line * LINE) as u32, value, flush });
}

/// Loads eight bytes.
#[inline(always)]
pub fn load(linear: u64) -> u64 {
    let value;
    // SAFETY: a load; an address that is not mapped would be a fault, which ends the guest.
    unsafe { asm!("mov {}, [{}]", out(reg) value, in(reg) linear, options(nostack, preserves_flags)) };
    value
}

/// Stores eight bytes.
///
/// # Safety
/// Nothing of the guest may lie there.
#[inline(always)]
pub unsafe fn store(linear: u64, value: u64) {
    // SAFETY: as the caller promises.
    unsafe { asm!("mov [{}], {}", in(reg) linear, in(reg) value, options(nostack, preserves_flags)) };
}

/// MFENCE. At CPL3: emulators of CPL0 know few fences.
#[inline(always)]
pub fn fence() {
    // SAFETY: orders accesses to memory.
    unsafe { asm!("mfence", options(nostack, preserves_flags)) };
}

/// MFENCE, CLFLUSH of the line at `linear`, and MFENCE.
fn flush(linear: u64) {
    // SAFETY: changes no value in memory.
    unsafe { asm!("mfence", "clflush [{}]", "mfence", in(reg) linear, options(nostack, preserves_flags)) };
}
