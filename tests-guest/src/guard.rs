//! A guard that puts MTRRs, PAT and CR0 back when it is dropped, so that no test leaks state.

use crate::{cr0, msr};
use wire::layout::{FIXED_MTRRS, MTRR_DEF_TYPE, MTRR_PHYSBASE0, PAT, VARIABLE_MTRRS};

/// All MTRRs that can be written but IA32_MTRR_DEF_TYPE, by MSR index.
pub const RANGE_MTRRS: [u32; FIXED_MTRRS.len() + 2 * VARIABLE_MTRRS as usize] = {
    let mut all = [0; _];
    let mut n = 0;
    while n < all.len() {
        all[n] = if n < FIXED_MTRRS.len() { FIXED_MTRRS[n] } else { MTRR_PHYSBASE0 + (n - FIXED_MTRRS.len()) as u32 };
        n += 1;
    }
    all
};

/// How many [`registers`] there are.
pub const COUNT: usize = RANGE_MTRRS.len() + 2;

/// What the registers of the vCPU held when the guard was made. A register that cannot be read is left alone.
#[derive(Debug)]
pub struct Guard {
    cr0: u64,
    msrs: [Option<u64>; COUNT],
}

/// All MTRRs that can be written, and the PAT. IA32_MTRR_DEF_TYPE last, since it enables the others.
pub fn registers() -> impl Iterator<Item = u32> {
    RANGE_MTRRS.into_iter().chain([PAT, MTRR_DEF_TYPE])
}

impl Guard {
    /// Saves MTRRs, PAT and CR0.
    #[expect(clippy::new_without_default, reason = "it reads the CPU, a default would not")]
    pub fn new() -> Self {
        let mut msrs = [None; COUNT];
        for (slot, index) in msrs.iter_mut().zip(registers()) {
            *slot = msr::try_rdmsr(index).ok();
        }
        Guard { cr0: cr0::read(), msrs }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Disabled while they change, as the SDM asks for; registers() ends with what enables them. KVM up to 6.10 zaps
        // SPTEs at each write while they are enabled, and warns of a base whose mask was never written.
        // SAFETY: a memory type.
        unsafe { msr::write(MTRR_DEF_TYPE, 0) };
        for (value, index) in self.msrs.iter().zip(registers()) {
            if let Some(value) = *value {
                // SAFETY: a memory type that was there before.
                unsafe { msr::write(index, value) };
            }
        }
        // SAFETY: the value was there before, so it keeps long mode.
        unsafe { cr0::write(self.cr0) };
    }
}
