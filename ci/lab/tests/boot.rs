//! Boots a stock kernel in emulated machines, where kernel and emulator can be had.

#[path = "../../../runner/src/skip.rs"]
mod skip;

use kvm_memtype::machine::Line;
use kvm_memtype::results::CellOutcome;
use std::path::Path;
use std::process::{Command, Output};
use tempfile::TempDir;
use wire::host::HostRecord;

/// The kernel: the one whose file is smallest.
const KERNEL: &str = "6.1";

fn lab(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lab")).args(arguments).env("NO_COLOR", "1").output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs the lab's verb, and skips the test where it says that something cannot be had.
fn had(arguments: &[&str]) -> bool {
    let output = lab(arguments);
    if !output.status.success() {
        skip::skip(&format!("lab {}: {}", arguments.join(" "), text(&output.stderr).trim()));
    }
    output.status.success()
}

/// The exit code, what was said, and where the results are, of a boot of the kernel in Bochs.
fn boot(arguments: &[&str]) -> Option<(i32, String, TempDir)> {
    (had(&["fetch", KERNEL]) && had(&["bochs"])).then(|| run(&[&["run", KERNEL], arguments].concat()))
}

fn run(arguments: &[&str]) -> (i32, String, TempDir) {
    let results = tempfile::tempdir().unwrap();
    let output = lab(&[arguments, &["--suite", "smoke", "--results", results.path().to_str().unwrap()]].concat());
    println!("{}{}", text(&output.stdout), text(&output.stderr));
    (output.status.code().unwrap(), text(&output.stdout), results)
}

/// The directory of the only boot.
fn only(results: &Path) -> std::path::PathBuf {
    let mut entries = std::fs::read_dir(results).unwrap();
    let dir = entries.next().unwrap().unwrap().path();
    assert!(entries.next().is_none());
    dir
}

#[test]
fn a_suite_runs_on_a_stock_kernel_and_its_results_are_a_run() {
    let Some((code, said, results)) = boot(&[]) else { return };
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("smoke: 8 pass"), "{said}");
    let dir = only(results.path());
    let run = kvm_memtype::results::Run::read(&dir.join("smoke")).unwrap();
    assert_eq!((run.header.suite.as_str(), run.results.len(), run.torn), ("smoke", 8, 0));
    assert_eq!(run.header.facts.get("kvm-vendor").unwrap().to_string(), "kvm_intel");
    assert_eq!(run.header.facts.get("emulator").unwrap().to_string(), "bochs");
    let booted: serde_json::Value = serde_json::from_slice(&std::fs::read(dir.join("boot.json")).unwrap()).unwrap();
    assert_eq!(booted["packages"][0]["sha256"].as_str().unwrap().len(), 64);
    assert_eq!((&booted["emulator"]["name"], &booted["emulator"]["clock"]), (&"Bochs".into(), &"memtime".into()));
    assert_eq!((&booted["suites"][0], &booted["memory"]), (&"smoke".into(), &512.into()));
    let log = std::fs::read_to_string(dir.join("kernel.log")).unwrap();
    assert!(log.contains("Linux version 6.1"), "{log}");
}

#[test]
fn a_kernel_that_panics_is_no_suite_that_fails() {
    let Some((code, said, results)) = boot(&["--cmdline", "rdinit=nowhere"]) else { return };
    assert_eq!(code, 4, "{said}");
    assert!(said.contains("Kernel panic - not syncing"), "{said}");
    let console = std::fs::read_to_string(only(results.path()).join("console.log")).unwrap();
    assert!(console.contains("Kernel panic - not syncing"), "{console}");
}

#[test]
fn a_kernel_that_says_nothing_hangs() {
    let Some((code, said, _)) = boot(&["--silence", "1"]) else { return };
    assert_eq!(code, 4, "{said}");
    assert!(said.contains("the kernel hung before init ran"), "{said}");
}

#[test]
fn a_module_that_does_not_load_is_told_with_the_kernel_s_words() {
    let Some((code, said, _)) = boot(&["--module-param", "kvm_intel.ept=maybe"]) else { return };
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("init failed: cannot load the module /modules/kvm-intel.ko: Invalid argument"), "{said}");
    assert!(said.contains("`maybe' invalid for parameter `ept'"), "{said}");
}

#[test]
fn a_parameter_that_is_not_applied_is_told() {
    let Some((code, said, _)) = boot(&["--module-param", "kvm_intel.no_such=1"]) else { return };
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("init failed: kvm_intel.no_such=1 was not applied"), "{said}");
}

#[test]
fn a_device_that_is_missing_is_no_success() {
    let Some((code, said, _)) = boot(&["--cmdline", "pci=off"]) else { return };
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("no MMIO of the host: the machine has no display controller"), "{said}");
}

#[test]
fn a_kernel_boots_as_a_guest_of_itself() {
    if !had(&["fetch", KERNEL]) || !had(&["bochs"]) {
        return;
    }
    let results = tempfile::tempdir().unwrap();
    let (place, cell) = (results.path().to_str().unwrap(), "linux/boot-2@non-coherent-dma");
    let output = lab(&["run", KERNEL, "--suite", "zaps", "--results", place, "--", cell]);
    let said = text(&output.stdout);
    assert!(output.status.success() && said.contains("zaps: 1 pass"), "{said}{}", text(&output.stderr));
    let run = kvm_memtype::results::Run::read(&only(results.path()).join("zaps")).unwrap();
    let CellOutcome::Observed(observed) = &run.results[0].outcome else { panic!("{:?}", run.results) };
    let zaps = observed.log.iter().filter(|line| matches!(line, Line::Host(HostRecord::Zap { .. }))).count();
    // Two on the vCPU that boots, and two on each when all are up.
    assert_eq!(zaps, 6);
    let is_banner = |line: &&Line| matches!(line, Line::Console(text) if text.contains("] Linux version 6.1"));
    assert_eq!(observed.log.iter().filter(is_banner).count(), 1);
}

#[test]
fn the_lab_s_bochs_is_not_taken_for_debian_s() {
    if !had(&["fetch", KERNEL]) || !had(&["bochs"]) {
        return;
    }
    let program = text(&lab(&["bochs"]).stdout);
    let output = Command::new(env!("CARGO_BIN_EXE_lab"))
        .args(["run", KERNEL, "--machine", "stock-bochs", "--suite", "smoke"])
        .env("KVM_MEMTYPE_BOCHS", program.trim())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stdout).contains("is no Bochs as Debian ships it: its clock is memtime"));
}

#[test]
fn the_same_kernel_runs_on_amd() {
    if kvm_memtype::machine::qemu::find().is_err() {
        return skip::skip("there is no QEMU here");
    }
    if !had(&["fetch", KERNEL]) {
        return;
    }
    let (code, said, results) = run(&["run", "--amd", KERNEL]);
    assert_eq!(code, 0, "{said}");
    let run = kvm_memtype::results::Run::read(&only(results.path()).join("smoke")).unwrap();
    assert_eq!(run.header.facts.get("kvm-vendor").unwrap().to_string(), "kvm_amd");
}
