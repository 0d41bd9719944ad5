//! What the end-to-end tests share: skips that are counted, and guests of a few bytes.

#![allow(dead_code, reason = "each test binary uses a part of it")]

#[path = "../../src/skip.rs"]
mod skip;

pub use skip::skip;

use kvm_memtype::machine::kvm::KvmMachine;
#[allow(unused_imports, reason = "each test binary uses a part of it")]
pub use kvm_memtype::machine::smallest::elf;
use kvm_memtype::machine::{Job, Limits};
use kvm_memtype::plan::vm::VmConfig;
use kvm_memtype::vmm::Confined;
use std::time::Duration;
use wire::needs::Needs;

/// /dev/kvm, or a skip.
pub fn kvm() -> Option<KvmMachine> {
    KvmMachine::open().map_err(|reason| skip(&reason.to_string())).ok()
}

/// The machine in processes of its own, as the runner uses it.
pub fn confined(machine: KvmMachine) -> Confined {
    Confined::new(machine, env!("CARGO_BIN_EXE_kvm-memtype")).expect("a process for VMs")
}

/// A job that runs `elf` for ten seconds at most, which only a guest that hangs needs, and lets it say little.
pub fn job<'a>(elf: &'a [u8], vm: &'a VmConfig) -> Job<'a> {
    let limits = Limits { timeout: Duration::from_secs(10), output: 1 << 13 };
    Job { elf, run: 0x5eed, test: "test", needs: Needs::NONE, vm, limits, module: &[], watch: None }
}
