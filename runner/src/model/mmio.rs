//! Accesses to the test window: memory where a slot lies, KVM_EXIT_MMIO elsewhere and for a write to a read-only slot.

use super::memslot::Slots;
use super::point::{Effect, Exit, Exits, Rule};
use std::collections::VecDeque;
use wire::record::Access;

/// Where KVM does this.
pub const SOURCE: &str = "x86.c:emulator_read_write; virt/kvm/kvm_main.c:__gfn_to_hva_many";
const PAGE: u64 = 4096;

/// The part of an access that lies in one page.
#[derive(Debug, Clone, Copy)]
struct Fragment {
    gpa: u64,
    width: u8,
    /// Where it starts in the value, in bits.
    shift: u32,
}

impl Fragment {
    fn mask(self) -> u64 {
        u64::MAX >> (64 - 8 * u32::from(self.width))
    }
}

/// The parts of an access, one for each page.
fn fragments(access: &Access) -> [Option<Fragment>; 2] {
    let first = (PAGE - access.gpa % PAGE).min(access.width.into()) as u8;
    let rest = access.width - first;
    [
        Some(Fragment { gpa: access.gpa, width: first, shift: 0 }),
        (rest > 0).then(|| Fragment {
            gpa: access.gpa.wrapping_add(first.into()),
            width: rest,
            shift: 8 * u32::from(first),
        }),
    ]
}

/// What was seen of an access, and what is predicted. Takes the exits that belong to the access from the front of
/// `exits`, and leaves the memory of the slots as the guest saw it.
pub fn access(access: &Access, slots: &mut Slots, exits: &mut VecDeque<Exit>) -> (Effect, Effect, Rule) {
    let (mut seen_exits, mut wanted_exits): (Exits, Exits) = ([None; 2], [None; 2]);
    let (mut wanted, mut rule) = (0, Rule::Slot);
    for (n, fragment) in fragments(access).into_iter().enumerate() {
        let Some(fragment) = fragment else { continue };
        let part = access.value >> fragment.shift & fragment.mask();
        seen_exits[n] = take(exits, fragment);
        match slots.at(fragment.gpa) {
            Some(backing) if !(access.write && backing.readonly) => {
                let known = slots.load(backing.slot, backing.offset, fragment.width);
                wanted |= known.unwrap_or(part) << fragment.shift;
                if access.fault.is_none() {
                    slots.store(backing.slot, backing.offset, fragment.width, part);
                }
            }
            backing => {
                // The value that the VMM gives to a read is its own affair.
                let value = if access.write { part } else { seen_exits[n].map_or(0, |exit| exit.value) };
                let Fragment { gpa, width, .. } = fragment;
                wanted_exits[n] = Some(Exit { write: access.write, width, gpa, value });
                wanted |= value << fragment.shift;
                rule = if backing.is_some() { Rule::ReadOnlySlot } else { Rule::NoSlot };
            }
        }
    }
    let loaded = |value| (!access.write).then_some(value);
    let seen = Effect::Memory { fault: access.fault, value: loaded(access.value), exits: seen_exits };
    (seen, Effect::Memory { fault: None, value: loaded(wanted), exits: wanted_exits }, rule)
}

/// Takes the first exit that touches the bytes of a fragment.
fn take(exits: &mut VecDeque<Exit>, fragment: Fragment) -> Option<Exit> {
    let end = |gpa: u64, width: u8| gpa.saturating_add(width.into());
    let touches =
        |exit: &Exit| exit.gpa < end(fragment.gpa, fragment.width) && fragment.gpa < end(exit.gpa, exit.width);
    exits.iter().position(touches).and_then(|n| exits.remove(n))
}
