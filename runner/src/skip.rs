//! Skips of tests, counted: for unit tests and, by path, for end-to-end tests.

use std::fs::OpenOptions;
use std::io::Write;

/// Says that the calling test cannot be done here. `ci/test` names a file in KVM_MEMTYPE_SKIPS and counts its lines at
/// its end.
pub fn skip(reason: &str) {
    let thread = std::thread::current();
    // The test harness runs a test in a thread of its name, but for a single thread in all.
    let line = format!("{}: {reason}", thread.name().unwrap_or("a test"));
    println!("skipped: {line}");
    if let Some(path) = std::env::var_os("KVM_MEMTYPE_SKIPS") {
        let mut file = OpenOptions::new().append(true).create(true).open(path).expect("open the list of skips");
        // In one write: tests run side by side.
        file.write_all(format!("{line}\n").as_bytes()).expect("write to the list of skips");
    }
}
