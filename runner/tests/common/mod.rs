//! What the end-to-end tests share: skips that are counted, and guests of a few bytes.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use kvm_memtype::machine::kvm::KvmMachine;
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

/// The default VM.
pub fn default_vm() -> VmConfig {
    VmConfig { summary: "as the host has it".into(), maxphyaddr: None, cpuid_mtrr: true }
}

/// A job that runs `elf` for a second at most.
pub fn job<'a>(elf: &'a [u8], vm: &'a VmConfig) -> Job<'a> {
    let limits = Limits { timeout: Duration::from_secs(1), output: 1 << 16 };
    Job { elf, run: 0x5eed, test: "test", needs: Needs::NONE, vm, limits }
}

/// A static ELF file with `code` at 1 MiB, entered at its first byte in 64-bit mode.
pub fn elf(code: &[u8]) -> Vec<u8> {
    const AT: u64 = 0x10_0000;
    const HEADERS: u64 = 64 + 56;
    let size = code.len() as u64;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let half = |file: &mut Vec<u8>, values: &[u16]| values.iter().for_each(|v| file.extend(v.to_le_bytes()));
    let word = |file: &mut Vec<u8>, values: &[u32]| values.iter().for_each(|v| file.extend(v.to_le_bytes()));
    let long = |file: &mut Vec<u8>, values: &[u64]| values.iter().for_each(|v| file.extend(v.to_le_bytes()));
    half(&mut file, &[2, 62]); // ET_EXEC, EM_X86_64
    word(&mut file, &[1]);
    long(&mut file, &[AT, 64, 0]); // entry, program headers, section headers
    word(&mut file, &[0]);
    half(&mut file, &[64, 56, 1, 64, 0, 0]);
    word(&mut file, &[1, 7]); // PT_LOAD, rwx
    long(&mut file, &[HEADERS, AT, AT, size, size, 0x1000]);
    file.extend(code);
    file
}
