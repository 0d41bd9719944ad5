//! Builds patched KVMs and runs them, where their packages and a compiler can be had.

#[path = "../../../runner/src/skip.rs"]
mod skip;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use tempfile::TempDir;

const KERNEL: &str = "6.1";

const NOTE: &str = "summary = 'IA32_MTRRCAP tells of nine ranges'\nwhy = 'a test'\nsource = 'ours'\npolicy = 'nine'\n";

const POLICY: &str = "summary = 'nine ranges'\nbase = 'kvm-pre-6.7'\n\n[[register]]\nname = 'IA32_MTRRCAP, nine'\n\
    msrs = ['0xfe']\nread = { fixed = 0x509 }\nwrite = 'gp'\nlisted = false\nsource = 'the patch'\n";

const DIFF: &str = "--- a/arch/x86/kvm/mtrr.c\n+++ b/arch/x86/kvm/mtrr.c\n@@ -402,7 +402,7 @@\n \t\t * FIX = 1\n \t\t * VCNT = \
    KVM_NR_VAR_MTRR\n \t\t */\n-\t\t*pdata = 0x500 | KVM_NR_VAR_MTRR;\n+\t\t*pdata = 0x501 | KVM_NR_VAR_MTRR;\n \t\treturn 0;\n \t}\n \n";

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn lab(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lab")).args(arguments).env("NO_COLOR", "1").output().unwrap()
}

/// The exit code and what was said; nothing where there is no kernel, no emulator or no compiler.
fn had(arguments: &[&str]) -> Option<(i32, String)> {
    for verb in [&["fetch", KERNEL][..], &["bochs"]] {
        let output = lab(verb);
        if !output.status.success() {
            skip::skip(&format!("lab {}: {}", verb.join(" "), text(&output.stderr).trim()));
            return None;
        }
    }
    let output = lab(arguments);
    let said = text(&output.stdout) + &text(&output.stderr);
    println!("{said}");
    // Programs or packages are missing. What does not apply or compile has other words.
    if let Some(why) = said.lines().find(|line| line.contains("KVM cannot be built: ")) {
        skip::skip(why);
        return None;
    }
    Some((output.status.code().unwrap(), said))
}

/// A directory with a patch `mine`.
fn patch(diff: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mine = dir.path().join("mine");
    fs::create_dir_all(mine.join("config/policies")).unwrap();
    for (file, text) in [("patch.toml", NOTE), ("6.1.diff", diff), ("config/policies/nine.toml", POLICY)] {
        fs::write(mine.join(file), text).unwrap();
    }
    dir
}

fn run(patches: &Path, results: &Path) -> Option<(i32, String)> {
    let [patches, results] = [patches, results].map(|path| path.to_str().unwrap());
    let arguments = ["run", "6.1+mine", "--patches", patches, "--results", results, "--suite", "default", "--"];
    had(&[&arguments[..], &["mtrr-msr/read", "mtrr-msr/cap"]].concat())
}

#[test]
fn a_patched_kvm_is_judged_by_its_own_policy_now_and_later() {
    let (patches, results) = (patch(DIFF), tempfile::tempdir().unwrap());
    let Some((code, said)) = run(patches.path(), results.path()) else { return };
    assert_eq!(code, 0, "{said}");
    let dir = fs::read_dir(results.path()).unwrap().next().unwrap().unwrap().path();
    let booted: serde_json::Value = serde_json::from_slice(&fs::read(dir.join("boot.json")).unwrap()).unwrap();
    assert_eq!((&booted["variant"], &booted["kvm"]["diffs"][0]["name"]), (&"6.1+mine".into(), &"mine".into()));
    assert_eq!(booted["kvm"]["packages"][0]["name"], "linux-source-6.1");
    let run = kvm_memtype::results::Run::read(&dir.join("default")).unwrap();
    assert_eq!(run.header.policy.as_deref(), Some("nine"));
    assert_eq!(fs::read_to_string(dir.join("config/policies/nine.toml")).unwrap(), POLICY);
}

#[test]
fn a_diff_that_does_not_fit_or_compile_is_told() {
    let results = tempfile::tempdir().unwrap();
    let patches = patch(&DIFF.replace("VCNT", "VNCT"));
    let Some((code, said)) = run(patches.path(), results.path()) else { return };
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("mine does not apply to linux-source-6.1 6.1."), "{said}");
    assert!(said.contains("arch/x86/kvm/mtrr.c: hunk 1 does not fit:\n@@ -402,7"), "{said}");
    let patches = patch(&DIFF.replace("0x501 |", "0x501 ||| y"));
    let Some((code, said)) = run(patches.path(), results.path()) else { return };
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("mine does not build; the log is "), "{said}");
    assert!(said.contains("arch/x86/kvm/mtrr.c:405:"), "{said}");
}

#[test]
fn a_mutant_is_killed() {
    let results = tempfile::tempdir().unwrap();
    let results = results.path().to_str().unwrap();
    let arguments = ["mutants", "mtrrcap-count.6.1", "--no-control", "--results", results];
    let Some((code, said)) = had(&arguments) else { return };
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("killed      mtrrcap-count.6.1"), "{said}");
    assert!(said.contains("mtrr-msr/read (fail)"), "{said}");
}
