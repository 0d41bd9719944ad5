//! What the end-to-end tests share: skips that are counted, and guests of a few bytes.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use kvm_memtype::machine::kvm::KvmMachine;
#[allow(unused_imports, reason = "each test binary uses a part of it")]
pub use kvm_memtype::machine::smallest::elf;
use kvm_memtype::machine::{Job, Limits};
use kvm_memtype::plan::vm::VmConfig;
use std::fs::OpenOptions;
use std::io::Write;
use std::time::Duration;
use wire::needs::Needs;

/// Says that a test cannot be done here. `ci/test` names a file in KVM_MEMTYPE_SKIPS and counts the lines at its end.
pub fn skip(test: &str, reason: &str) {
    println!("skipped: {test}: {reason}");
    if let Some(path) = std::env::var_os("KVM_MEMTYPE_SKIPS") {
        let mut file = OpenOptions::new().append(true).create(true).open(path).expect("open the list of skips");
        writeln!(file, "{test}: {reason}").expect("write to the list of skips");
    }
}

/// /dev/kvm, or a skip.
pub fn kvm(test: &str) -> Option<KvmMachine> {
    KvmMachine::open().map_err(|reason| skip(test, &reason.to_string())).ok()
}

/// A job that runs `elf` for a second at most.
pub fn job<'a>(elf: &'a [u8], vm: &'a VmConfig) -> Job<'a> {
    let limits = Limits { timeout: Duration::from_secs(1), output: 1 << 16 };
    Job { elf, run: 0x5eed, test: "test", needs: Needs::NONE, vm, limits }
}
