//! Drawing histories: operations by weight, over few pages and ranges, so that they meet.

use super::history::History;
use crate::host::quirks::{CD_NW_CLEARED, IGNORE_GUEST_PAT};
use fastrand::Rng;
use wire::history::Op;
use wire::layout::{
    CR0_CD, CR0_NW, FIXED_MTRRS, MTRR_DEF_TYPE, MTRR_PHYSBASE0, PAT, START_CR0, VARIABLE_MTRRS, WINDOW,
};
use wire::step::{SlotApi, SlotMemory, SlotType, Step};

const PAGE: u64 = 0x1000;
/// The slot of small pages, and where it is or moves to.
const SMALL: u8 = 1;
const SMALL_PAGES: u32 = 16;
const PLACES: [u64; 2] = [WINDOW, WINDOW + 0x10_0000];
/// The slot of one transparent huge page.
const LARGE: u8 = 2;
const LARGE_PAGES: u32 = 512;
const LARGE_AT: u64 = WINDOW + 0x20_0000;
/// The slot of one page of a device, from which histories load alone.
const MMIO: u8 = 3;
const MMIO_AT: u64 = WINDOW + 0x40_0000;
/// KVM_MEM_LOG_DIRTY_PAGES and KVM_MEM_READONLY, include/uapi/linux/kvm.h.
const LOG_DIRTY: u32 = 1 << 0;
const READONLY: u32 = 1 << 1;
/// IA32_MTRR_DEF_TYPE.E and .FE, and V of a mask.
const ENABLE: u64 = 1 << 11;
const FIXED_ENABLE: u64 = 1 << 10;
const VALID: u64 = 1 << 11;
/// Memory types of MTRRs, WB and UC more often than the others.
const TYPES: [u64; 8] = [6, 6, 0, 0, 1, 4, 5, 6];
/// A page in a fixed range of each size, and the register that holds its type.
const LOW: [(u64, u32); 3] = [(0x7_0000, 0x250), (0x9_0000, 0x258), (0xd_0000, 0x26a)];

/// What host and KVM can do, of what operations need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Means {
    /// The most vCPUs of a history.
    pub cpus: u8,
    /// There is a provider of non-coherent DMA.
    pub dma: bool,
    /// The quirks that can be disabled.
    pub quirks: u32,
    /// KVM_CAP_READONLY_MEM.
    pub readonly: bool,
    /// KVM_SET_USER_MEMORY_REGION2.
    pub slots_v2: bool,
    /// Transparent huge pages.
    pub thp: bool,
    /// The memslot flag KVM_MEM_NON_COHERENT_DMA.
    pub non_coherent_slots: bool,
    /// The memslot flag KVM_MEM_WC.
    pub wc_slots: bool,
    /// A page of a device of the host, for a memslot.
    pub mmio: bool,
}

/// Draws a history for a VM of configuration `vm`, whose guests see `maxphyaddr` bits, with a device in it from the start if
/// `plugged`. The same generator in the same state draws the same history.
pub fn draw(rng: &mut Rng, means: &Means, vm: &str, maxphyaddr: u8, plugged: bool) -> History {
    let cpus = if means.cpus > 1 && rng.bool() { rng.u8(2..=means.cpus) } else { 1 };
    let focus = match rng.u8(0..20) {
        0..3 if means.thp => Focus::Large,
        3..7 => Focus::Low,
        7..9 if means.mmio => Focus::Mmio,
        _ => Focus::Small,
    };
    let mut drawing =
        Drawing { rng, means, cpus, maxphyaddr, focus, plugged, readonly: false, large: false, ops: Vec::new() };
    drawing.begin();
    let length = drawing.ops.len() + drawing.rng.usize(6..36);
    while drawing.ops.len() < length {
        drawing.phrase();
    }
    History { vm: vm.to_owned(), cpus, ops: drawing.ops }
}

/// The pages that a history is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Focus {
    Small,
    Large,
    Low,
    Mmio,
}

struct Drawing<'a> {
    rng: &'a mut Rng,
    means: &'a Means,
    cpus: u8,
    maxphyaddr: u8,
    focus: Focus,
    plugged: bool,
    /// The slot of small pages is read-only: KVM does not let that change.
    readonly: bool,
    /// The slot of a huge page was made.
    large: bool,
    ops: Vec<Op>,
}

impl Drawing<'_> {
    /// Makes the slots and, mostly, enables MTRRs.
    fn begin(&mut self) {
        self.readonly = self.means.readonly && self.rng.u8(0..12) == 0;
        self.small_slot();
        if self.focus == Focus::Large {
            self.large_slot();
        }
        if self.focus == Focus::Mmio {
            self.mmio_slot();
        }
        for cpu in 0..self.cpus {
            if self.rng.u8(0..5) > 0 {
                let fixed = if self.focus == Focus::Low { FIXED_ENABLE } else { 0 };
                self.ops.push(Op::Wrmsr { cpu, index: MTRR_DEF_TYPE, value: ENABLE | fixed | 6 });
            }
        }
    }

    /// One thing that a guest or its VMM does, of one operation or a few.
    fn phrase(&mut self) {
        let fixed = if self.focus == Focus::Low { 14 } else { 2 };
        let dma = if self.means.dma { 9 } else { 0 };
        let weights = [32, 4, 12, 7, 4, 8, fixed, 4, 6, dma, 5, 3, 4, 2, 3, 3, 5, 8, 6];
        match self.weighted(&weights) {
            0 => self.touch(None),
            1 => (0..4).for_each(|page| self.touch(Some(page))),
            2 => self.pair(),
            3 => self.base(),
            4 => self.mask(),
            5 => self.def_type(),
            6 => self.fixed(),
            7 => self.pat(),
            8 => self.caching(),
            9 => self.device(),
            10 => self.slot(),
            11 => self.quirks(),
            12 => {
                let cpu = self.cpu();
                self.host(Step::CopyState { from: cpu, to: cpu });
            }
            13 => {
                let (cpu, index) = (self.cpu(), self.any_msr());
                self.host(Step::GetMsr { cpu, index });
            }
            14 => self.odd(),
            15 => self.program(),
            16 => self.overlap(),
            17 => self.again(),
            _ => self.moved(),
        }
    }

    /// A position in `weights`, by weight.
    fn weighted(&mut self, weights: &[u32]) -> usize {
        let mut at = self.rng.u32(0..weights.iter().sum());
        for (n, &weight) in weights.iter().enumerate() {
            match at.checked_sub(weight) {
                Some(rest) => at = rest,
                None => return n,
            }
        }
        0
    }

    fn cpu(&mut self) -> u8 {
        self.rng.u8(0..self.cpus)
    }

    fn host(&mut self, step: Step) {
        self.ops.push(Op::Host(step));
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.rng.usize(0..of.len())]
    }

    /// Page number `n` of the focus, or any.
    fn page(&mut self, n: Option<usize>) -> u64 {
        let pages: &[u64] = match self.focus {
            Focus::Small => &[0, 0x1000, 0x4000, 0x8000, 0x9000, 0xf000],
            Focus::Large => &[0, 0x1000, 0x10_0000, 0x1f_f000],
            Focus::Low => &[LOW[0].0, LOW[1].0, LOW[2].0, LOW[2].0 + PAGE],
            Focus::Mmio => &[0],
        };
        let offset = n.map_or_else(|| self.one(pages), |n| pages[n % pages.len()]);
        match self.focus {
            Focus::Small if self.rng.u8(0..10) == 0 => PLACES[1] + offset,
            Focus::Small => PLACES[0] + offset,
            Focus::Large => LARGE_AT + offset,
            Focus::Low => offset,
            Focus::Mmio => MMIO_AT + offset,
        }
    }

    fn touch(&mut self, page: Option<usize>) {
        let (cpu, gpa) = (self.cpu(), self.page(page));
        let pat_entry = if self.rng.u8(0..4) == 0 { self.rng.u8(0..8) } else { 0 };
        let store = self.rng.u8(0..3) > 0;
        self.ops.push(self.access(store, cpu, gpa, pat_entry));
    }

    /// A store, if wanted and if it is to memory, or else a load.
    fn access(&self, store: bool, cpu: u8, gpa: u64, pat_entry: u8) -> Op {
        match store && self.focus != Focus::Mmio {
            true => Op::Store { cpu, gpa, pat_entry },
            false => Op::Load { cpu, gpa, pat_entry },
        }
    }

    /// A write to an MSR by the guest or, less often, by the host.
    fn write(&mut self, index: u32, value: u64) {
        let cpu = self.cpu();
        self.write_on(cpu, index, value);
    }

    fn write_on(&mut self, cpu: u8, index: u32, value: u64) {
        match self.rng.u8(0..5) {
            0 => self.host(Step::SetMsr { cpu, index, value }),
            _ => self.ops.push(Op::Wrmsr { cpu, index, value }),
        }
    }

    /// Two ranges that overlap, and a touch where they may.
    fn overlap(&mut self) {
        self.pair();
        self.pair();
        self.touch(None);
    }

    /// A page is touched, something changes that may decide about its leaf, and it is touched again.
    fn again(&mut self) {
        let page = self.rng.usize(0..6);
        self.touch(Some(page));
        let device = if self.means.dma { 2 } else { 0 };
        match self.weighted(&[6, 2, 2, 2, device, 1]) {
            0 => self.base(),
            1 => self.mask(),
            2 => self.pair(),
            3 => self.caching(),
            4 => self.device(),
            _ => self.quirks(),
        }
        self.touch(Some(page));
    }

    /// A range of one page is moved away from it by one write, between two uses of the page.
    fn moved(&mut self) {
        let (cpu, at, page) = (self.cpu(), self.variable(), self.page(None));
        let (from, to) = (self.one(&TYPES), self.one(&TYPES));
        let mask = ((1u64 << self.maxphyaddr) - PAGE) | VALID;
        let write = |index, value| Op::Wrmsr { cpu, index, value };
        let touch = self.access(true, cpu, page, 0);
        self.ops.extend([write(at + 1, mask), write(at, page | from), touch]);
        let away = self.address() | to;
        self.ops.extend([write(at, away), touch]);
    }

    /// A base in or around the focus.
    fn address(&mut self) -> u64 {
        let (start, offsets): (u64, &[u64]) = match self.focus {
            Focus::Small => (PLACES[0], &[0, 0x4000, 0x8000, 0xc000]),
            Focus::Large => (LARGE_AT, &[0, 0x1000, 0x10_0000, 0x1f_f000]),
            Focus::Low => (0, &[0, 0x7_0000, 0x8_0000, 0xd_0000]),
            Focus::Mmio => (MMIO_AT, &[0, 0x1000]),
        };
        start + self.one(offsets)
    }

    fn base_value(&mut self) -> u64 {
        self.address() | self.one(&TYPES)
    }

    fn mask_value(&mut self) -> u64 {
        let sizes: &[u64] = match self.focus {
            Focus::Small => &[0x1000, 0x4000, 0x8000, 0x1_0000],
            Focus::Large => &[0x1000, 0x10_0000, 0x20_0000, 0x40_0000],
            Focus::Low => &[0x1_0000, 0x10_0000, 0x20_0000],
            Focus::Mmio => &[0x1000, 0x4000],
        };
        let whole = ((1u64 << self.maxphyaddr) - self.one(sizes)) | VALID;
        match self.rng.u8(0..24) {
            // With a hole, with its upper bits clear, and not valid.
            0 => whole & !(1 << 14),
            1 => whole & 0xffff_ffff,
            2 | 3 => whole & !VALID,
            _ => whole,
        }
    }

    /// Few pairs, so that they are written more than once.
    fn variable(&mut self) -> u32 {
        MTRR_PHYSBASE0 + 2 * self.rng.u32(0..3)
    }

    fn pair(&mut self) {
        let (cpu, at) = (self.cpu(), self.variable());
        let (base, mask) = (self.base_value(), self.mask_value());
        let mut writes = [(at, base), (at + 1, mask)];
        if self.rng.bool() {
            writes.reverse();
        }
        writes.into_iter().for_each(|(index, value)| self.write_on(cpu, index, value));
    }

    fn base(&mut self) {
        let (index, value) = (self.variable(), self.base_value());
        self.write(index, value);
    }

    fn mask(&mut self) {
        let (index, value) = (self.variable() + 1, self.mask_value());
        self.write(index, value);
    }

    fn def_type_value(&mut self) -> u64 {
        let enable = if self.rng.u8(0..8) == 0 { 0 } else { ENABLE };
        let fixed = if self.rng.bool() { FIXED_ENABLE } else { 0 };
        enable | fixed | self.one(&TYPES)
    }

    fn def_type(&mut self) {
        let value = self.def_type_value();
        self.write(MTRR_DEF_TYPE, value);
    }

    fn fixed(&mut self) {
        let (_, index) = self.one(&LOW);
        let value = u64::from_le_bytes(std::array::from_fn(|_| self.one(&TYPES) as u8));
        self.write(index, value);
    }

    fn pat(&mut self) {
        let value = u64::from_le_bytes(std::array::from_fn(|_| self.one(&[0, 1, 4, 5, 6, 7, 6, 0])));
        self.write(PAT, value);
    }

    fn caching(&mut self) {
        let cpu = self.cpu();
        let bits = self.one(&[0, 0, 0, CR0_CD, CR0_CD, CR0_CD | CR0_NW, CR0_NW]);
        match self.rng.u8(0..3) {
            0 => self.host(Step::SetCr0 { cpu, value: START_CR0 | bits }),
            _ => self.ops.push(Op::MovCr0 { cpu, bits }),
        }
    }

    /// Mostly that which can be done.
    fn device(&mut self) {
        let plug = self.plugged == (self.rng.u8(0..8) == 0);
        self.host(if plug { Step::PlugDma } else { Step::UnplugDma });
        self.plugged = plug;
    }

    fn api(&mut self) -> SlotApi {
        if self.means.slots_v2 && self.rng.bool() { SlotApi::V2 } else { SlotApi::V1 }
    }

    fn small_slot(&mut self) {
        let gpa = if self.rng.u8(0..8) == 0 { PLACES[1] } else { PLACES[0] };
        let log = if self.rng.u8(0..8) == 0 { LOG_DIRTY } else { 0 };
        let flags = log | if self.readonly { READONLY } else { 0 };
        let api = self.api();
        self.host(Step::SetSlot { api, slot: SMALL, flags, gpa, pages: SMALL_PAGES, memory: SlotMemory::Small });
    }

    fn large_slot(&mut self) {
        let api = self.api();
        let (slot, gpa, pages) = (LARGE, LARGE_AT, LARGE_PAGES);
        self.host(Step::SetSlot { api, slot, flags: 0, gpa, pages, memory: SlotMemory::Thp });
        self.large = true;
    }

    fn mmio_slot(&mut self) {
        self.host(Step::SetMmioSlot { slot: MMIO, gpa: MMIO_AT });
    }

    /// Gives the slot of small pages another type, by a flag that this KVM has.
    fn typed_slot(&mut self) {
        let (non_coherent, wc) = (self.means.non_coherent_slots, self.means.wc_slots);
        let types = [(SlotType::Plain, true), (SlotType::NonCoherentDma, non_coherent), (SlotType::Wc, wc)];
        let types: Vec<SlotType> = types.into_iter().filter_map(|(typed, has)| has.then_some(typed)).collect();
        let (typed, readonly) = (self.one(&types), self.readonly);
        self.host(Step::SetTypedSlot { typed, slot: SMALL, readonly, gpa: PLACES[0], pages: SMALL_PAGES });
    }

    /// Changes, moves, deletes or makes a slot; also one that is not there.
    fn slot(&mut self) {
        if (self.means.non_coherent_slots || self.means.wc_slots) && self.rng.bool() {
            return self.typed_slot();
        }
        if self.focus == Focus::Mmio && self.rng.bool() {
            return match self.rng.bool() {
                true => self.mmio_slot(),
                false => self.host(Step::DeleteSlot { api: SlotApi::V1, slot: MMIO }),
            };
        }
        match (self.rng.bool(), self.large && self.rng.bool()) {
            (true, true) => self.large_slot(),
            (true, false) => self.small_slot(),
            (false, large) => {
                let api = self.api();
                self.host(Step::DeleteSlot { api, slot: if large { LARGE } else { SMALL } });
            }
        }
    }

    fn quirks(&mut self) {
        let offered: Vec<u32> =
            [CD_NW_CLEARED, IGNORE_GUEST_PAT, 0].into_iter().filter(|quirk| quirk & !self.means.quirks == 0).collect();
        let quirks = self.one(&offered);
        self.host(Step::DisableQuirks { quirks });
    }

    /// Any MTRR, or the PAT.
    fn any_msr(&mut self) -> u32 {
        let variable = MTRR_PHYSBASE0 + self.rng.u32(0..2 * VARIABLE_MTRRS);
        let fixed = self.one(&FIXED_MTRRS);
        self.one(&[variable, variable, fixed, MTRR_DEF_TYPE, PAT])
    }

    /// A value with something wrong in it, perhaps.
    fn odd(&mut self) {
        let (index, bit) = (self.any_msr(), self.rng.u8(0..64));
        let value = self.def_type_value();
        self.write(index, value ^ 1 << bit);
    }

    /// The SDM's sequence for a range: caching off, MTRRs disabled, the change, MTRRs enabled, caching on.
    fn program(&mut self) {
        let (cpu, at) = (self.cpu(), self.variable());
        let (base, mask, def_type) = (self.base_value(), self.mask_value(), self.def_type_value());
        let write = |index, value| Op::Wrmsr { cpu, index, value };
        self.ops.extend([
            Op::MovCr0 { cpu, bits: CR0_CD },
            write(MTRR_DEF_TYPE, 0),
            write(at, base),
            write(at + 1, mask),
            write(MTRR_DEF_TYPE, ENABLE | def_type),
            Op::MovCr0 { cpu, bits: 0 },
        ]);
    }
}

#[cfg(test)]
mod tests;
