//! What people are told when they err, without booting anything.

use snapbox::cmd::{Command, cargo_bin};
use std::fs;

fn lab() -> Command {
    Command::new(cargo_bin!("lab")).env("NO_COLOR", "1")
}

fn refused(arguments: &[&str], code: i32, stderr: &str) {
    lab().args(arguments).assert().code(code).stdout_eq("").stderr_eq(stderr);
}

#[test]
fn names_that_are_not_there_are_told_with_the_nearest() {
    refused(&["run", "7.3"], 2, "lab: unknown kernel `7.3`, did you mean `7.2`?\n");
    refused(&["run", "6.1", "--suite", "smok"], 2, "lab: unknown suite `smok`, did you mean `smoke`?\n");
    refused(&["run", "6.1", "--suite", "smoke,smoke"], 2, "lab: suite `smoke` is named twice\n");
    refused(&["run"], 2, "lab: no kernel is named; `lab run 6.1 6.12 7.2` runs all that have a file\n");
}

#[test]
fn a_variant_that_is_none_is_refused() {
    refused(&["run", "6.1", "--module-param", "ept=0"], 2, "lab: `ept=0` is no parameter such as `kvm_intel.ept=0`\n");
    for arguments in [&["run", "6.1,kvm_intl.ept=0"][..], &["run", "6.1", "--module-param", "kvm_intl.ept=0"]] {
        refused(arguments, 2, "lab: unknown module `kvm_intl`, did you mean `kvm_intel`?\n");
    }
    refused(
        &["run", "6.1,a b"],
        2,
        "lab: `a b` is no word for a kernel: it is empty or has spaces, quotes or slashes\n",
    );
}

#[test]
fn a_mistake_in_a_kernel_s_file_is_shown_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("mine.toml"), "sumary = 'x'\n").unwrap();
    let path = dir.path().to_str().unwrap();
    refused(
        &["list", "--kernels", path],
        2,
        "lab: [..]/mine.toml:1:1: unknown field `sumary`, did you mean `summary`?\n  1 | sumary = 'x'\n    | ^^^^^^\n",
    );
}

#[test]
fn a_kernel_of_one_s_own_that_is_not_there_is_named() {
    refused(
        &["run", "--tree", "/nowhere"],
        2,
        "lab: /nowhere: neither arch/x86/boot/bzImage nor vmlinux is in it[..]\n",
    );
    refused(&["run", "--bzimage", "/nowhere", "--modules", "/"], 2, "lab: /nowhere: no such file\n");
}

#[test]
fn without_keys_or_network_the_reason_is_told() {
    let dir = tempfile::tempdir().unwrap();
    // No apt is on this path.
    let path = dir.path().to_str().unwrap();
    lab()
        .env("PATH", path)
        .env("KVM_MEMTYPE_CACHE", path)
        .args(["fetch", "6.1"])
        .assert()
        .code(3)
        .stderr_eq("...\nlab: [..]\n");
}
