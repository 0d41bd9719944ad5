//! What firmware writes to the MTRRs of a vCPU: by guests that replay it, and by the VMM in its place.

use crate::layout::{FIXED_MTRRS, HIGH_MEMORY, MTRR_DEF_TYPE, MTRR_PHYSBASE0, VARIABLE_MTRRS};
use crate::memtype::MemType;

/// IA32_MTRR_DEF_TYPE.E: MTRRs are enabled.
pub const ENABLE: u64 = 1 << 11;
/// IA32_MTRR_DEF_TYPE.FE: fixed-range MTRRs are enabled.
pub const FIXED_ENABLE: u64 = 1 << 10;
/// IA32_MTRR_DEF_TYPE as firmware leaves it: enabled, fixed ranges too, and WB.
pub const ON: u64 = ENABLE | FIXED_ENABLE | MemType::Wb as u64;
/// IA32_MTRR_PHYSMASKn.V: the pair is in use.
pub const VALID: u64 = 1 << 11;

/// SeaBIOS, src/fw/mtrr.c:mtrr_setup, where pcimem_start is `hole`: fixed ranges are WB up to 640 KiB, UC up to 768 KiB
/// and WP from there on; variable range 0 is UC from the hole to 4 GiB; the default type is WB. CR0.CD stays clear
/// meanwhile. The vCPU that boots keeps each write for the others, which do the same, one at a time
/// (src/fw/smp.c:wrmsr_smp, handle_smp).
///
/// Gives each WRMSR, index and value, in this order.
pub fn seabios(hole: u64, maxphyaddr: u8, write: &mut dyn FnMut(u32, u64)) {
    write(MTRR_DEF_TYPE, 0);
    for (n, index) in FIXED_MTRRS.into_iter().enumerate() {
        let memtype = match n {
            0 | 1 => MemType::Wb,
            2 => MemType::Uc,
            _ => MemType::Wp,
        };
        write(index, fixed(memtype));
    }
    clear_variable(write);
    variable(hole, maxphyaddr, write);
    write(MTRR_DEF_TYPE, ON);
}

/// No variable range.
pub fn clear_variable(write: &mut dyn FnMut(u32, u64)) {
    (MTRR_PHYSBASE0..MTRR_PHYSBASE0 + 2 * VARIABLE_MTRRS).for_each(|index| write(index, 0));
}

/// Variable range 0 is UC from the hole to 4 GiB.
pub fn variable(hole: u64, maxphyaddr: u8, write: &mut dyn FnMut(u32, u64)) {
    write(MTRR_PHYSBASE0, hole | MemType::Uc as u64);
    write(MTRR_PHYSBASE0 + 1, mask(HIGH_MEMORY - hole, maxphyaddr));
}

/// A fixed-range MTRR all of whose ranges are of one type.
pub const fn fixed(memtype: MemType) -> u64 {
    u64::from_le_bytes([memtype as u8; 8])
}

/// The mask of a variable pair for a size that is a power of two, with V.
pub const fn mask(size: u64, maxphyaddr: u8) -> u64 {
    ((1 << maxphyaddr) - size) | VALID
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::HOLE;
    use alloc::vec::Vec;

    #[test]
    fn seabios_leaves_memory_wb_but_for_the_holes() {
        let mut writes = Vec::new();
        seabios(HOLE, 40, &mut |index, value| writes.push((index, value)));
        let last = |wanted| writes.iter().rev().find(|(index, _)| *index == wanted).map(|(_, value)| *value);
        assert_eq!(writes.first(), Some(&(MTRR_DEF_TYPE, 0)));
        assert_eq!(writes.last(), Some(&(MTRR_DEF_TYPE, 0xc06)));
        assert_eq!((last(0x250), last(0x259), last(0x26f)), (Some(!0 / 0xff * 6), Some(0), Some(!0 / 0xff * 5)));
        assert_eq!((last(0x200), last(0x201)), (Some(0xc000_0000), Some(0xff_c000_0800)));
        assert!((0x202..0x210).all(|index| last(index) == Some(0)));
    }
}
