//! `fleet plan`: the fleet of docs/fleet.md as LAVA jobs, read by LAVA's own validator.

mod common;

use common::skip;
use snapbox::cmd::{Command, cargo_bin};
use std::path::{Path, PathBuf};
use std::{fs, process};

/// The example of the documents.
fn example() -> String {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/fleet.md")).unwrap();
    page.split("```toml\n").nth(1).and_then(|rest| rest.split_once("```")).expect("an example").0.to_owned()
}

/// The jobs for a fleet, in `dir`.
fn plan(dir: &Path, fleet: &str) -> Vec<PathBuf> {
    let (file, jobs) = (dir.join("fleet.toml"), dir.join("jobs"));
    fs::write(&file, fleet).unwrap();
    let program = Command::new(cargo_bin!("kvm-memtype")).args(["fleet", "plan"]).arg(file).arg("--output").arg(jobs);
    let said = program.assert().success();
    String::from_utf8_lossy(&said.get_output().stdout).lines().map(PathBuf::from).collect()
}

#[test]
fn the_example_gives_a_job_for_each_host_kernel_and_shard() {
    let dir = tempfile::tempdir().unwrap();
    let names: Vec<String> = plan(dir.path(), &example())
        .iter()
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    let of = |host: &str| ["1of2", "2of2"].map(|shard| format!("{host}-{shard}.yaml"));
    assert_eq!(names, ["i7-1370p-6.12", "xeon-8480-6.1", "xeon-8480-6.12"].map(of).concat());
}

#[test]
fn a_mistake_is_shown_and_nothing_written() {
    let dir = tempfile::tempdir().unwrap();
    let (file, jobs) = (dir.path().join("fleet.toml"), dir.path().join("jobs"));
    fs::write(&file, example().replace("\"memtype\"]", "\"memtyp\"]")).unwrap();
    let said = "kvm-memtype: [..]fleet.toml:3:22: unknown suite `memtyp`, did you mean `memtype`?\n...\n";
    let program = Command::new(cargo_bin!("kvm-memtype")).args(["fleet", "plan"]).arg(&file).arg("--output").arg(&jobs);
    program.assert().code(2).stdout_eq("").stderr_eq(said);
    assert!(!jobs.exists());
}

/// As lava-run and LAVA's server check a job: its schema, then what has to fit together.
const VALIDATE: &str = "
import sys, yaml
from lava_common import schemas
for path in sys.argv[1:]:
    job = yaml.safe_load(open(path))
    schemas.validate(job, strict=True)
    schemas.extra_checks(job)
    print(job['job_name'])
";

/// LAVA's validator on these files; or a skip.
fn validated(jobs: &[PathBuf]) -> Option<process::Output> {
    let known = process::Command::new("/usr/bin/python3").args(["-c", "import lava_common.schemas"]).output();
    if !known.is_ok_and(|known| known.status.success()) {
        skip("LAVA's validator is not there: Debian has it in the package lava-common");
        return None;
    }
    Some(process::Command::new("/usr/bin/python3").args(["-c", VALIDATE]).args(jobs).output().unwrap())
}

#[test]
fn lavas_own_validator_takes_the_jobs() {
    let dir = tempfile::tempdir().unwrap();
    let jobs = plan(dir.path(), &example());
    let Some(said) = validated(&jobs) else { return };
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    assert_eq!(String::from_utf8_lossy(&said.stdout).lines().count(), jobs.len());
    // What LAVA does not know it refuses.
    let jobs = plan(dir.path(), &example().replace("commands = \"nfs\"", "comands = \"nfs\""));
    assert!(!validated(&jobs).unwrap().status.success());
}

/// The results that LAVA's dispatcher took, as `set/case: result`, of its log: a JSON object a line, but for a mark of YAML.
fn results(log: &str) -> Vec<String> {
    let object = |line: &str| serde_json::from_str::<serde_json::Value>(&line.replace(": ! \"", ": \"")).ok();
    let lines = log.lines().filter_map(object);
    let results = lines.filter(|line| line["lvl"] == "results").map(|line| line["msg"].clone());
    let word = |value: &serde_json::Value| value.as_str().unwrap_or("-").to_owned();
    let text = |it: serde_json::Value| format!("{}/{}: {}", word(&it["set"]), word(&it["case"]), word(&it["result"]));
    results.map(text).collect()
}

/// Boots Debian's 6.1 on QEMU by LAVA's own dispatcher, and has it take the cells as test cases.
#[test]
fn lavas_own_dispatcher_runs_a_job() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ci/nightly/lava-qemu");
    let said = process::Command::new(script).env("KVM_MEMTYPE", cargo_bin!("kvm-memtype")).output().unwrap();
    let log = String::from_utf8_lossy(&said.stdout).into_owned();
    if said.status.code() == Some(3) && log.is_empty() {
        return skip(String::from_utf8_lossy(&said.stderr).trim_end());
    }
    let results = results(&log);
    // What the kernel's kvm_amd does is as expected there.
    for result in ["-/doctor: pass", "-/run-smoke: pass", "boot/hello: pass", "pat-msr/bytes: pass", "-/job: pass"] {
        assert!(results.iter().any(|line| line == result), "no {result} in {results:#?}\n{log}");
    }
}
