//! Values for MTRRs and the PAT that tell one register from another, and one byte of it from the next.

use crate::guard::RANGE_MTRRS;
pub use wire::firmware::VALID;
use wire::layout::{MTRR_PHYSBASE0, VARIABLE_MTRRS};

/// IA32_MTRR_DEF_TYPE: E, FE, and type WB.
pub const ENABLED: u64 = 0xc06;
/// Type WB.
pub const WB: u64 = 6;
/// For a fixed-range MTRR: valid types other than UC, and other ones in neighbouring bytes, so that a byte that moves
/// or is lost shows.
pub const FIXED_TYPES: u64 = 0x0106_0504_0106_0504;
/// The PAT after a reset: WB, WT, UC-, UC, twice.
pub const PAT_RESET: u64 = 0x0007_0406_0007_0406;
/// For the PAT: WB, WC, WT, WP, UC, UC-, WT, WB, from entry 0 on. Entry 0 maps all that the guest itself uses, so it is
/// WB here and in the mirror image: no code, stack or page walk gets the type under test where KVM honours the PAT.
pub const PAT_TYPES: u64 = 0x0604_0700_0504_0106;

/// A valid value for a range MTRR, which no other one gets in the same round, nor the same one in the other round, 0 or
/// 1.
pub const fn own(index: u32, round: u64) -> u64 {
    const TYPES: [u64; 5] = [0, 1, 4, 5, 6];
    let n = (index - MTRR_PHYSBASE0) as u64 + 3 * round;
    if index >= MTRR_PHYSBASE0 + 2 * VARIABLE_MTRRS {
        let (mut value, mut bit) = (0, 0);
        while bit < 8 {
            value = value << 8 | TYPES[((n >> bit & 7) % 5) as usize];
            bit += 1;
        }
        return value;
    }
    let range = (n + 1) << 24;
    if index.is_multiple_of(2) { range | TYPES[(n / 2 % 5) as usize] } else { 0xf_ff00_0000 & !range | VALID }
}

/// Whether no value stands twice among these.
pub const fn all_differ(values: &[u64]) -> bool {
    let mut n = 0;
    while n < values.len() {
        let mut before = 0;
        while before < n {
            if values[before] == values[n] {
                return false;
            }
            before += 1;
        }
        n += 1;
    }
    true
}

const fn all_own(round: u64) -> [u64; RANGE_MTRRS.len()] {
    let mut values = [0; RANGE_MTRRS.len()];
    let mut n = 0;
    while n < values.len() {
        values[n] = own(RANGE_MTRRS[n], round);
        n += 1;
    }
    values
}

const _: () = {
    let rounds = [all_own(0), all_own(1)];
    assert!(all_differ(&rounds[0]) && all_differ(&rounds[1]), "two MTRRs get the same value");
    let mut n = 0;
    while n < RANGE_MTRRS.len() {
        assert!(rounds[0][n] != rounds[1][n], "an MTRR gets the same value twice");
        n += 1;
    }
    assert!(PAT_TYPES & 0xff == WB && PAT_TYPES.swap_bytes() & 0xff == WB, "the guest's own memory is not WB");
};
