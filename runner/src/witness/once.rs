//! Warnings that the kernel gives once a boot (WARN_ON_ONCE), made ready to be given again.

use std::fs;

/// A write to it has the kernel forget which of them it gave (`kernel/panic.c:clear_warn_once_set`). Root's, in debugfs.
const CLEAR: &str = "/sys/kernel/debug/clear_warn_once";

/// Has the kernel give each warning again, so that what a cell brings about shows whatever came before it. A host without
/// debugfs refuses, and gives each once a boot, which deviations know as `once-a-boot`.
pub fn again() {
    let _ = fs::write(CLEAR, "1");
}
