//! Memslots of the test window: which there are, and what their memory holds.

use super::point::{Effect, Rule, Why};
use super::policy::{FlagRule, MemslotFlagRow};
use crate::host::facts::Facts;
use crate::host::slot_type;
use std::collections::{BTreeMap, BTreeSet};
use wire::layout::RAM;
use wire::step::{SlotApi, SlotType, Status};

/// Where KVM checks a memslot's place and size.
pub const SOURCE: &str = "virt/kvm/kvm_main.c:__kvm_set_memory_region (7.2: kvm_set_memory_region)";
/// KVM_MEM_READONLY.
pub const READONLY: u32 = 1 << 1;
const PAGE: u64 = 4096;
/// ENOENT.
pub const ENOENT: u32 = 2;
/// EEXIST.
pub const EEXIST: u32 = 17;
/// EINVAL.
pub const EINVAL: u32 = 22;

/// A memslot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// First guest-physical address.
    pub gpa: u64,
    /// Bytes.
    pub size: u64,
    /// KVM_MEM_* flags.
    pub flags: u32,
}

impl Slot {
    /// A slot of `pages` 4 KiB pages.
    pub fn new(gpa: u64, pages: u32, flags: u32) -> Slot {
        Slot { gpa, size: u64::from(pages) * PAGE, flags }
    }

    /// Whether the guest cannot write it.
    pub fn is_readonly(self) -> bool {
        self.flags & READONLY != 0
    }

    /// What a flag says of its memory types.
    pub fn typed(self) -> SlotType {
        slot_type::of_flags(self.flags)
    }

    fn overlaps(self, other: Slot) -> bool {
        self.gpa < other.gpa.saturating_add(other.size) && other.gpa < self.gpa.saturating_add(self.size)
    }
}

/// The VM's RAM, which is slot 0, and the memslots that steps made. Memory outlives its slot.
#[derive(Debug, Clone)]
pub struct Slots {
    present: BTreeMap<u8, Slot>,
    /// Bytes that are not zero, or were not, by slot and offset.
    memory: BTreeMap<(u8, u64), u8>,
    /// Slots whose memory is a device's: what a load gives is its own affair.
    devices: BTreeSet<u8>,
    /// Pages to which the guest stores without saying so, by slot and number.
    hidden: BTreeSet<(u8, u64)>,
    /// Those of them of which nothing at all is promised.
    hazards: BTreeSet<u8>,
}

/// A byte of guest-physical memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backing {
    /// The slot's number.
    pub slot: u8,
    /// Offset in its memory.
    pub offset: u64,
    /// Whether the guest cannot write it.
    pub readonly: bool,
    /// Whether it is a device's memory: a PCI BAR of the host.
    pub device: bool,
    /// Whether nothing is promised of it.
    pub hazard: bool,
    /// What a flag of the slot says of its memory types.
    pub typed: SlotType,
}

impl Default for Slots {
    fn default() -> Self {
        let ram = Slot { gpa: 0, size: RAM, flags: 0 };
        Slots {
            present: BTreeMap::from([(0, ram)]),
            memory: BTreeMap::new(),
            devices: BTreeSet::new(),
            hidden: BTreeSet::new(),
            hazards: BTreeSet::new(),
        }
    }
}

impl Slots {
    /// What lies at `gpa`, if a slot does.
    pub fn at(&self, gpa: u64) -> Option<Backing> {
        self.present.iter().find_map(|(&slot, it)| {
            let offset = gpa.checked_sub(it.gpa).filter(|&offset| offset < it.size)?;
            Some(Backing {
                slot,
                offset,
                readonly: it.is_readonly(),
                device: self.devices.contains(&slot),
                hazard: self.hazards.contains(&slot),
                typed: it.typed(),
            })
        })
    }

    /// Whether setting slot `slot` to `wanted` changes the type of one that is there, and nothing else.
    pub fn is_retyped(&self, slot: u8, wanted: Slot) -> bool {
        let as_wanted = |old: &Slot| Slot { flags: wanted.flags, ..*old } == wanted && old.typed() != wanted.typed();
        self.present.get(&slot).is_some_and(as_wanted)
    }

    /// Whether slot `slot` is as `wanted` already: KVM changes nothing then.
    pub fn is(&self, slot: u8, wanted: Slot) -> bool {
        self.present.get(&slot) == Some(&wanted)
    }

    /// Whether there is a slot of that number.
    pub fn has(&self, slot: u8) -> bool {
        self.present.contains_key(&slot)
    }

    /// A slot was made, changed or moved.
    pub fn set(&mut self, slot: u8, it: Slot) {
        if it.size == 0 {
            self.delete(slot);
        } else {
            self.present.insert(slot, it);
        }
    }

    /// A slot was made or moved whose memory is a device's.
    pub fn set_device(&mut self, slot: u8, it: Slot) {
        self.devices.insert(slot);
        self.set(slot, it);
    }

    /// The same, of a page of which nothing is promised.
    pub fn set_hazard(&mut self, slot: u8, it: Slot) {
        self.hazards.insert(slot);
        self.set_device(slot, it);
    }

    /// A slot was deleted.
    pub fn delete(&mut self, slot: u8) {
        self.present.remove(&slot);
    }

    /// The guest does not report its stores to these bytes any more.
    pub fn hide(&mut self, gpa: u64, bytes: u64) {
        for page in (gpa / PAGE)..(gpa.saturating_add(bytes)).div_ceil(PAGE) {
            match self.at(page * PAGE) {
                Some(backing) => self.hidden.insert((backing.slot, backing.offset / PAGE)),
                None => return,
            };
        }
    }

    /// `width` bytes of a slot's memory as a little-endian number; of a device's nothing is known, nor of those to which
    /// stores are not reported.
    pub fn load(&self, slot: u8, offset: u64, width: u8) -> Option<u64> {
        let byte = |n: u8| self.memory.get(&(slot, offset + u64::from(n))).copied().unwrap_or(0);
        let value = (0..width).fold(0, |value, n| value | u64::from(byte(n)) << (8 * n));
        let hidden =
            [0, u64::from(width).saturating_sub(1)].map(|n| self.hidden.contains(&(slot, (offset + n) / PAGE)));
        (!self.devices.contains(&slot) && hidden == [false; 2]).then_some(value)
    }

    /// Sets `width` bytes of a slot's memory.
    pub fn store(&mut self, slot: u8, offset: u64, width: u8, value: u64) {
        for n in 0..width {
            self.memory.insert((slot, offset + u64::from(n)), (value >> (8 * n)) as u8);
        }
    }

    /// What KVM replies to setting slot `slot` to `wanted`, whose flags it takes.
    pub fn reply(&self, slot: u8, wanted: Slot) -> (Effect, Rule) {
        let refused = |errno, rule| (Effect::Reply { status: Status::Errno(errno), value: 0 }, rule);
        let old = self.present.get(&slot).copied();
        let others = || self.present.iter().filter(|&(&number, _)| number != slot).map(|(_, other)| *other);
        match old {
            None if wanted.size == 0 => refused(EINVAL, Rule::SlotAbsent),
            Some(old) if wanted.size != 0 && (old.size != wanted.size || old.is_readonly() != wanted.is_readonly()) => {
                refused(EINVAL, Rule::SlotFixed)
            }
            _ if old.is_none_or(|old| old.gpa != wanted.gpa) && others().any(|other| other.overlaps(wanted)) => {
                refused(EEXIST, Rule::SlotOverlap)
            }
            _ => (Effect::Reply { status: Status::Done, value: 0 }, Rule::Slot),
        }
    }
}

/// The row that decides about `flags`: the first that refuses one of them, or else the last that takes one.
///
/// # Errors
/// No row speaks of one of the flags.
pub fn flags<'p>(
    rows: &'p [MemslotFlagRow],
    api: SlotApi,
    flags: u32,
    facts: &Facts,
) -> Result<Option<&'p MemslotFlagRow>, Why> {
    let mut taken = None;
    for bit in (0..32).filter(|bit| flags >> bit & 1 == 1) {
        let speaks = |row: &&MemslotFlagRow| {
            row.bits.mask(None).is_some_and(|bits| bits >> bit & 1 == 1)
                && row.ioctls.iter().any(|ioctl| ioctl.wire() == api)
                && row.when.holds(facts)
        };
        let row = rows.iter().find(speaks).ok_or(Why::NoRow)?;
        if row.reply != FlagRule::Accepted {
            return Ok(Some(row));
        }
        taken = Some(row);
    }
    Ok(taken)
}
