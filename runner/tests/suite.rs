//! Whole runs through the program: the default suite on /dev/kvm, the negative control, and runs that do not come to
//! their end.

mod common;

use common::{kvm, skip};
use kvm_memtype::host;
use kvm_memtype::judge::Verdict;
use kvm_memtype::report::CellVerdict;
use kvm_memtype::results::{CellOutcome, CellResult, Intent};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

fn kvm_memtype(results: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvm-memtype"));
    command.args(arguments).arg("--results").arg(results);
    command
}

/// What a run with `--format json` printed, by cell.
fn verdicts(output: &Output) -> BTreeMap<String, CellVerdict> {
    let text = String::from_utf8(output.stdout.clone()).expect("JSON is UTF-8");
    let mut lines: Vec<&str> = text.lines().collect();
    let sum = lines.pop().unwrap_or_else(|| panic!("nothing was printed: {output:?}"));
    assert!(sum.starts_with("{\"summary\":"), "{sum}");
    let verdict = |line| -> CellVerdict { serde_json::from_str(line).expect("a verdict") };
    // A serial log has no line that says what was run.
    lines
        .into_iter()
        .filter(|line| !line.starts_with("{\"format\":"))
        .map(verdict)
        .map(|verdict| (verdict.cell.clone(), verdict))
        .collect()
}

fn with(verdicts: &BTreeMap<String, CellVerdict>, wanted: Verdict) -> BTreeSet<&str> {
    let cells = verdicts.values().filter(|cell| cell.judgement.verdict == wanted);
    cells.map(|cell| cell.cell.as_str()).collect()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("it was killed: {output:?}"))
}

/// The vendor module of this host's KVM.
fn vendor() -> String {
    host::probe().modules.vendor.unwrap_or_default()
}

#[test]
fn the_default_suite_ends_as_expected_and_without_deviations_names_each() {
    if kvm().is_none() {
        return;
    }
    let results = tempfile::tempdir().unwrap();
    let run = |more: &[&str]| {
        let arguments = [&["run", "--machine", "kvm", "--format", "json", "-j", "2"], more].concat();
        let output = kvm_memtype(results.path(), &arguments).output().unwrap();
        (code(&output), verdicts(&output))
    };
    let (excused_code, excused) = run(&[]);
    // Whatever the KVM: no cell may break, and what passes or fails decides something.
    for (cell, verdict) in &excused {
        let judgement = &verdict.judgement;
        assert!(!matches!(judgement.verdict, Verdict::Error | Verdict::NotRun), "{cell}: {}", judgement.reason);
        let decided = judgement.points > 0 || !matches!(judgement.verdict, Verdict::Pass | Verdict::Fail);
        assert!(decided, "{cell} decided nothing");
    }
    let points: u64 = excused.values().map(|cell| cell.judgement.points).sum();
    assert!(points >= 5_000, "only {points} points");
    if vendor() != "kvm_pvm" {
        // A surprise on another KVM is a finding about that KVM, not a fault of this suite.
        return skip("which deviations are known is measured for kvm_pvm only");
    }
    let surprises: Vec<_> = excused
        .values()
        .filter(|cell| !matches!(cell.judgement.verdict, Verdict::Pass | Verdict::Xfail | Verdict::Skip))
        .map(|cell| (&cell.cell, cell.judgement.verdict, &cell.judgement.reason))
        .collect();
    assert_eq!(surprises, []);
    assert_eq!(excused_code, 0);
    let (bare_code, bare) = run(&["--no-deviations"]);
    assert_eq!(bare_code, 1);
    let known = with(&excused, Verdict::Xfail);
    assert!(!known.is_empty());
    let named: BTreeSet<_> = with(&bare, Verdict::Fail).union(&with(&bare, Verdict::Crash)).copied().collect();
    assert_eq!(named, known);
    assert_eq!(with(&bare, Verdict::Pass), with(&excused, Verdict::Pass));
}

#[test]
fn qemu_tcg_fails_where_it_validates_nothing() {
    let results = tempfile::tempdir().unwrap();
    let arguments = ["run", "--machine", "qemu-tcg", "--format", "json", "-j", "2"];
    let output = kvm_memtype(results.path(), &arguments).output().unwrap();
    if code(&output) == 3 {
        return skip(&String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(code(&output), 1);
    let verdicts = verdicts(&output);
    let failed = with(&verdicts, Verdict::Fail);
    // Invalid types, reserved bits, unknown MSRs, NW without CD: TCG takes them all.
    for cell in [
        "mtrr-msr/fixed",
        "mtrr-msr/def-type",
        "mtrr-msr/base",
        "mtrr-msr/neighbours",
        "pat-msr/bytes",
        "cr0-cache/mov",
    ] {
        assert!(failed.contains(cell), "{cell} does not fail: {:?}", verdicts[cell].judgement.verdict);
    }
    assert!(failed.len() > with(&verdicts, Verdict::Pass).len(), "{failed:?}");
    for verdict in [Verdict::Error, Verdict::Crash, Verdict::Timeout, Verdict::Xfail, Verdict::Inconclusive] {
        assert_eq!(with(&verdicts, verdict), BTreeSet::new(), "{verdict}");
    }
}

#[test]
fn a_killed_run_goes_on_and_ends_like_one_that_was_not() {
    if kvm().is_none() {
        return;
    }
    let (whole, killed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let arguments = ["run", "--machine", "kvm", "--format", "json", "pat-msr", "mtrr-msr"];
    let whole = verdicts(&kvm_memtype(whole.path(), &arguments).output().unwrap());
    let mut child = kvm_memtype(killed.path(), &arguments).stdout(Stdio::null()).spawn().unwrap();
    wait_for_cells(killed.path(), 2, &mut child);
    child.kill().unwrap();
    child.wait().unwrap();
    let done = observations(killed.path());
    assert!(done < whole.len(), "the run was over before it could be killed");
    let resumed = kvm_memtype(killed.path(), &["run", "--resume", "latest", "--format", "json"]).output().unwrap();
    let plain = |verdicts: &BTreeMap<String, CellVerdict>| -> Vec<_> {
        verdicts.values().map(|cell| (cell.cell.clone(), cell.judgement.clone())).collect()
    };
    assert_eq!(plain(&verdicts(&resumed)), plain(&whole));
    // The same verdicts once more, from the files alone.
    let reported = kvm_memtype(killed.path(), &["report", "latest", "--format", "json"]).output().unwrap();
    assert_eq!(verdicts(&reported), verdicts(&resumed));
}

/// Cells that the one run under `results` has observed; none as long as there is no whole header.
fn observations(results: &Path) -> usize {
    let Some(Ok(run)) = std::fs::read_dir(results).ok().and_then(|mut runs| runs.next()) else { return 0 };
    kvm_memtype::results::Run::read(&run.path()).map_or(0, |run| run.results.len())
}

/// Waits until a run has observed `cells` cells.
fn wait_for_cells(results: &Path, cells: usize, child: &mut Child) {
    while observations(results) < cells {
        assert_eq!(child.try_wait().unwrap(), None, "the run ended before it had observed {cells} cells");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn an_interrupted_run_says_how_to_go_on() {
    if kvm().is_none() {
        return;
    }
    let results = tempfile::tempdir().unwrap();
    let mut child = kvm_memtype(results.path(), &["run", "--machine", "kvm", "--format", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for_cells(results.path(), 2, &mut child);
    // SAFETY: the child runs, and a signal harms nothing else.
    assert_eq!(unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGINT) }, 0);
    let output = child.wait_with_output().unwrap();
    assert_eq!(code(&output), 3);
    assert!(String::from_utf8_lossy(&output.stderr).contains("run --resume"), "{output:?}");
    let verdicts = verdicts(&output);
    assert!(!with(&verdicts, Verdict::NotRun).is_empty());
    assert!(!with(&verdicts, Verdict::Pass).is_empty());
}

/// The directory of the one run under `results`.
fn only_run(results: &Path) -> std::path::PathBuf {
    std::fs::read_dir(results).unwrap().next().expect("a run").unwrap().path()
}

#[test]
fn a_run_of_another_kernel_is_not_gone_on_with() {
    if kvm().is_none() {
        return;
    }
    let results = tempfile::tempdir().unwrap();
    kvm_memtype(results.path(), &["run", "--machine", "kvm", "boot"]).output().unwrap();
    let file = only_run(results.path()).join("observations.jsonl");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("\"Linux ", "\"Linux 0.")).unwrap();
    let output = kvm_memtype(results.path(), &["run", "--resume", "latest"]).output().unwrap();
    assert_eq!(code(&output), 2, "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("another host, kernel or QEMU"), "{output:?}");
}

#[test]
fn a_run_whose_reader_goes_away_ends_as_it_would_have() {
    if kvm().is_none() {
        return;
    }
    let results = tempfile::tempdir().unwrap();
    // A policy that never fits makes a failure, so that exit code 0 would be a wrong one.
    let config = strange_policies();
    let config = config.path().to_str().unwrap();
    let arguments = ["run", "--machine", "kvm", "boot", "mtrr-msr/def-type", "--config", config];
    let mut child = kvm_memtype(results.path(), &arguments).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let run = only_run(results.path());
    assert!(run.join("verdicts.jsonl").is_file());
}

#[test]
fn verdicts_that_do_not_fit_their_results_are_not_reported() {
    if kvm().is_none() {
        return;
    }
    let results = tempfile::tempdir().unwrap();
    kvm_memtype(results.path(), &["run", "--machine", "kvm", "boot", "pat-msr/reset"]).output().unwrap();
    let report = || kvm_memtype(results.path(), &["report", "--format", "json"]).output().unwrap();
    assert_eq!(verdicts(&report()).len(), 2);
    let file = only_run(results.path()).join("verdicts.jsonl");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.lines().next().unwrap().to_owned() + "\n").unwrap();
    assert_eq!(code(&report()), 2);
}

/// Policies that let no UC into IA32_MTRR_DEF_TYPE: no KVM is like that, but a policy may say so.
fn strange_policies() -> tempfile::TempDir {
    let config = tempfile::tempdir().unwrap();
    std::fs::create_dir(config.path().join("policies")).unwrap();
    let set = kvm_memtype::config::Set::load(None).unwrap();
    for (id, source) in set.sources("policies") {
        let text = source.text.replace("types = [0, 1, 4, 5, 6] }", "types = [1, 4, 5, 6] }");
        std::fs::write(config.path().join(format!("policies/{id}.toml")), text).unwrap();
    }
    config
}

#[test]
fn an_old_run_is_judged_again_by_a_new_model() {
    if kvm().is_none() {
        return;
    }
    let results = tempfile::tempdir().unwrap();
    let output = kvm_memtype(results.path(), &["run", "--machine", "kvm", "mtrr-msr/def-type"]).output().unwrap();
    assert_eq!(code(&output), 0, "{output:?}");
    let config = strange_policies();
    let judge = |more: &[&str]| {
        let arguments = [&["judge", "latest", "--format", "json"], more].concat();
        let output = kvm_memtype(results.path(), &arguments).output().unwrap();
        (code(&output), verdicts(&output)["mtrr-msr/def-type"].judgement.verdict)
    };
    assert_eq!(judge(&["--config", config.path().to_str().unwrap()]), (1, Verdict::Fail));
    assert_eq!(judge(&[]), (0, Verdict::Pass));
}

#[test]
fn a_policy_that_is_asked_for_judges_a_run_now_and_later() {
    if kvm().is_none() {
        return;
    }
    let results = tempfile::tempdir().unwrap();
    let run = |more: &[&str]| kvm_memtype(results.path(), more).output().unwrap();
    let cell = "mtrr-msr/def-type";
    let nobody = run(&["run", "--machine", "kvm", cell, "--policy", "nobody"]);
    assert_eq!(code(&nobody), 2);
    let said = String::from_utf8_lossy(&nobody.stderr).into_owned();
    assert!(said.contains("no policy `nobody`; there are architecture,"), "{said}");
    assert_eq!(std::fs::read_dir(results.path()).unwrap().count(), 0);
    let output = run(&["run", "--machine", "kvm", cell, "--policy", "architecture", "--format", "json"]);
    let by = |output: &Output| verdicts(output)[cell].judgement.policy.clone().unwrap();
    assert_eq!(by(&output), "architecture");
    assert_eq!(by(&run(&["judge", "latest", "--format", "json"])), "architecture");
    let text = |output: Output| String::from_utf8_lossy(&output.stdout).into_owned();
    let explained = text(run(&["explain", cell]));
    assert!(explained.contains("policy    architecture, as asked\n"), "{explained}");
    let reported = text(run(&["report"]));
    assert!(reported.starts_with("by policy architecture, as asked\n"), "{reported}");
}

#[test]
fn a_run_may_end_at_the_first_surprise() {
    if kvm().is_none() {
        return;
    }
    let results = tempfile::tempdir().unwrap();
    let config = strange_policies();
    let config = config.path().to_str().unwrap();
    let arguments = ["run", "--machine", "kvm", "mtrr-msr", "--fail-fast", "--config", config, "--format", "json"];
    let output = kvm_memtype(results.path(), &arguments).output().unwrap();
    assert_eq!(code(&output), 1, "{output:?}");
    let all = verdicts(&output);
    assert!(with(&all, Verdict::Fail).contains("mtrr-msr/def-type"), "{all:?}");
    let left = with(&all, Verdict::NotRun);
    assert!(!left.is_empty());
    let cell = left.first().unwrap();
    assert_eq!(all[*cell].judgement.reason, "the run ended at the first cell that was not as expected");
    let judged = kvm_memtype(results.path(), &["judge", "latest", "--format", "json", "--config", config]).output();
    let judged = judged.unwrap();
    assert_eq!((code(&judged), with(&verdicts(&judged), Verdict::NotRun)), (1, left));
}

#[test]
fn explain_tells_what_was_done_seen_and_expected() {
    if kvm().is_none() {
        return;
    }
    let results = tempfile::tempdir().unwrap();
    kvm_memtype(results.path(), &["run", "--machine", "kvm", "mtrr-msr/def-type"]).output().unwrap();
    let output = kvm_memtype(results.path(), &["explain", "mtrr-msr/def-type"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for part in
        ["WRMSR 0x2ff IA32_MTRR_DEF_TYPE", "seen", "expected", "#GP(0)", "mtrr.c:kvm_mtrr_valid", "<0 kmt2 ", "again"]
    {
        assert!(text.contains(part), "{part} is missing in:\n{text}");
    }
}

#[test]
fn a_serial_log_from_plain_qemu_is_judged() {
    let results = tempfile::tempdir().unwrap();
    let guests = results.path().join("guests");
    kvm_memtype(results.path(), &["extract", guests.to_str().unwrap()]).output().unwrap();
    let qemu = Command::new("qemu-system-x86_64")
        .args("-cpu max -nodefaults -display none -no-reboot -serial stdio".split(' '))
        .args("-device isa-debug-exit,iobase=0xf4,iosize=4 -append test=bytes -kernel".split(' '))
        .arg(guests.join("pat-msr.elf"))
        .output();
    let log = match qemu {
        Ok(output) => output.stdout,
        Err(error) => return skip(&format!("qemu-system-x86_64: {error}")),
    };
    let judge = |log: &[u8]| {
        use std::io::Write;
        let mut child = kvm_memtype(results.path(), &["judge", "-", "--format", "json"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(log).unwrap();
        let output = child.wait_with_output().unwrap();
        (code(&output), verdicts(&output)["pat-msr/bytes"].judgement.clone())
    };
    let (whole_code, whole) = judge(&log);
    assert_eq!((whole_code, whole.verdict), (1, Verdict::Fail), "TCG takes any PAT byte: {whole:?}");
    let (cut_code, cut) = judge(&log[..log.len() - 20]);
    assert_eq!((cut_code, cut.verdict), (1, Verdict::Error), "a log that was cut off: {cut:?}");
}

#[test]
fn repetitions_on_a_busy_host_are_compared_and_kept() {
    if kvm().is_none() {
        return;
    }
    let results = tempfile::tempdir().unwrap();
    let arguments = ["run", "--machine", "kvm", "--suite", "smoke", "boot/hello", "--repeat", "3", "--busy"];
    let output = kvm_memtype(results.path(), &arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(code(&output), 0, "{output:?}");
    assert!(said.contains(" of suite smoke, 3 times\n"), "{said}");
    assert!(said.contains("  busy      a thread spins on CPU "), "{said}");
    assert!(said.contains("\nrepetition 3 of 3: 1 pass\n"), "{said}");
    let same = "Each of 1 cell had one verdict, and saw the same, in all of 3 repetitions.\n";
    assert!(said.ends_with(same), "{said}");

    // What is kept says the same, and a verdict that was another once is told.
    let report = || kvm_memtype(results.path(), &["report"]).output().unwrap();
    assert!(String::from_utf8_lossy(&report().stdout).ends_with(same));
    let run = std::fs::read_dir(results.path()).unwrap().next().unwrap().unwrap().path();
    let runs: BTreeSet<_> = ["", "2", "3"].map(|dir| run.join(dir)).iter().map(|dir| run_id(dir)).collect();
    assert_eq!(runs.len(), 3, "each has guests of its own");
    let third = run.join("3/verdicts.jsonl");
    let text = std::fs::read_to_string(&third).unwrap();
    std::fs::write(&third, text.replace("\"verdict\":\"pass\"", "\"verdict\":\"inconclusive\"")).unwrap();
    let output = report();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(code(&output), 1, "{said}");
    assert!(said.contains("FLAKY  boot/hello\n"), "{said}");
}

/// The run id in the header of the run in `dir`.
fn run_id(dir: &Path) -> u64 {
    kvm_memtype::results::Run::read(dir).unwrap().header.run
}

#[test]
fn busy_is_for_one_cell_at_a_time() {
    let results = tempfile::tempdir().unwrap();
    let output = kvm_memtype(results.path(), &["run", "--suite", "smoke", "--busy", "-j", "2"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(
        (code(&output), said.as_str()),
        (2, "kvm-memtype: --busy is for one cell at a time, not for --jobs 2\n")
    );
}

#[test]
fn a_cell_in_which_the_host_went_down_is_told_after_its_next_boot() {
    if kvm().is_none() {
        return;
    }
    let results = tempfile::tempdir().unwrap();
    let ran = kvm_memtype(results.path(), &["run", "--machine", "kvm", "--suite", "smoke", "boot/hello"]).output();
    assert_eq!(code(&ran.unwrap()), 0);
    let run = std::fs::read_dir(results.path()).unwrap().next().unwrap().unwrap().path();
    // As the disk is when a host comes back: the header, the intent, no result.
    let file = run.join("observations.jsonl");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.lines().next().unwrap().to_owned() + "\n").unwrap();
    let mut intent = Intent::new("boot/hello", "vga-hole");
    intent.keep(&run).unwrap();
    let judged = |said: &str, expected: i32| {
        let output = kvm_memtype(results.path(), &["judge", "latest"]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(code(&output), expected, "{text}");
        assert!(text.contains(said), "{text}");
        let report = kvm_memtype(results.path(), &["report"]).output().unwrap();
        assert!(String::from_utf8_lossy(&report.stdout).contains(said), "{report:?}");
    };
    judged("the host did not go down", 3);
    intent.boot.id = "another boot".to_owned();
    intent.keep(&run).unwrap();
    judged("CRASH  boot/hello  the host went down while it ran on vga-hole", 1);
    let doctor = kvm_memtype(results.path(), &["doctor"]).output().unwrap();
    assert!(String::from_utf8_lossy(&doctor.stdout).contains("Destructive cells that did not end\n  boot/hello"));

    let resumed = kvm_memtype(results.path(), &["run", "--machine", "kvm", "--resume", "latest"]).output().unwrap();
    assert_eq!(code(&resumed), 1, "{resumed:?}");
    assert_eq!(Intent::left(&run).unwrap(), []);
    let kept = kvm_memtype::results::Run::read(&run).unwrap().results;
    assert!(matches!(&kept[..], [CellResult { outcome: CellOutcome::Died(_), .. }]), "{kept:?}");
    judged("CRASH  boot/hello  the host went down", 1);
}
