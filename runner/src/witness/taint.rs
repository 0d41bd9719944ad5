//! The kernel's taint, by name.

use std::fs;

/// Letters and meanings of the taint bits, from bit 0 on (`Documentation/admin-guide/tainted-kernels.rst`).
const BITS: [(char, &str); 20] = [
    ('P', "a proprietary module was loaded"),
    ('F', "a module was force loaded"),
    ('S', "the system is out of specification"),
    ('R', "a module was force unloaded"),
    ('M', "a machine check"),
    ('B', "a bad page"),
    ('U', "asked for by user space"),
    ('D', "the kernel died: an Oops or a BUG"),
    ('A', "an ACPI table was overridden"),
    ('W', "a warning"),
    ('C', "a staging driver was loaded"),
    ('I', "a workaround for firmware"),
    ('O', "an out-of-tree module was loaded"),
    ('E', "an unsigned module was loaded"),
    ('L', "a soft lockup"),
    ('K', "live patched"),
    ('X', "auxiliary, of the distribution"),
    ('T', "built with randomized structures"),
    ('N', "a test in the kernel was run"),
    ('J', "fwctl changed the state of a device"),
];

/// The taint of this kernel; nothing where /proc does not tell.
pub fn read() -> Option<u64> {
    fs::read_to_string("/proc/sys/kernel/tainted").ok()?.trim().parse().ok()
}

/// The bits that are set in `taint`, each by its letter and what it says.
pub fn names(taint: u64) -> Vec<String> {
    let name = |bit: u32| match BITS.get(bit as usize) {
        Some((letter, what)) => format!("{letter} ({what})"),
        None => format!("bit {bit}, which this version has no name for"),
    };
    (0..u64::BITS).filter(|bit| taint >> bit & 1 == 1).map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_have_names() {
        assert_eq!(names(1 << 9 | 1 << 12), ["W (a warning)", "O (an out-of-tree module was loaded)"]);
        assert_eq!(names(1 << 63), ["bit 63, which this version has no name for"]);
        assert!(names(0).is_empty());
    }
}
