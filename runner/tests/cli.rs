//! Golden transcripts of the command line: help, lists, and what people are told when they err.
//!
//! `SNAPSHOTS=overwrite cargo test --test cli` writes them anew.

use snapbox::cmd::{Command, cargo_bin};
use snapbox::{Data, file};
use std::fs;

fn kvm_memtype() -> Command {
    // A width of its own, so that help does not depend on the terminal.
    Command::new(cargo_bin!("kvm-memtype")).env("COLUMNS", "100").env("NO_COLOR", "1")
}

fn golden(arguments: &[&str], code: i32, stdout: Data) {
    kvm_memtype().args(arguments).assert().code(code).stdout_eq(stdout);
}

fn refused(arguments: &[&str], stderr: &str) {
    kvm_memtype().args(arguments).assert().code(2).stdout_eq("").stderr_eq(stderr);
}

#[test]
fn help() {
    golden(&["--help"], 0, file!["cli/help.txt"]);
    golden(&["run", "--help"], 0, file!["cli/run-help.txt"]);
    golden(&["fuzz", "--help"], 0, file!["cli/fuzz-help.txt"]);
    golden(&["explain", "--help"], 0, file!["cli/explain-help.txt"]);
    golden(&["identify", "--help"], 0, file!["cli/identify-help.txt"]);
    golden(&["diff", "--help"], 0, file!["cli/diff-help.txt"]);
    golden(&["report", "--help"], 0, file!["cli/report-help.txt"]);
    golden(&["selftest", "--help"], 0, file!["cli/selftest-help.txt"]);
}

#[test]
fn lists() {
    golden(&["list", "--suite", "smoke"], 0, file!["cli/list-smoke.txt"]);
    golden(&["list", "pat-msr/bytes", "--format", "json"], 0, file!["cli/list-json.txt"]);
}

#[test]
fn a_filter_that_picks_nothing_names_the_nearest_cell() {
    let said = "kvm-memtype: no cell of the suite fits the filter `pat-msr/btyes`; the nearest is `pat-msr/bytes`\n";
    refused(&["list", "pat-msr/btyes"], said);
}

#[test]
fn an_unknown_suite_names_the_nearest() {
    refused(&["list", "--suite", "smok"], "kvm-memtype: unknown suite `smok`, did you mean `smoke`?\n");
}

#[test]
fn a_run_that_is_not_there_is_named() {
    let results = tempfile::tempdir().unwrap();
    let results = results.path().to_str().unwrap();
    let said = "kvm-memtype: no run is in [..]: start one with `kvm-memtype run`\n";
    refused(&["report", "--results", results], said);
    refused(&["explain", "pat-msr/bytes", "--results", results], said);
    refused(&["identify", "--results", results], said);
    refused(&["diff", "latest", "latest", "--results", results], said);
}

#[test]
fn a_report_that_nobody_can_print_is_refused() {
    let said = "kvm-memtype: --types is printed for people and as json\n";
    refused(&["report", "--types", "--format", "ktap"], said);
    let who = "error: the following required arguments were not provided:\n  --kcidb-origin <NAME>\n\n[..]\n\n[..]\n";
    refused(&["report", "--format", "kcidb"], who);
    let bad = "error: invalid value 'My Lab' for '--kcidb-origin <NAME>': an origin is lower-case letters, digits and \
               underscores\n\n[..]\n";
    refused(&["report", "--format", "kcidb", "--kcidb-origin", "My Lab"], bad);
}

#[test]
fn a_report_in_a_file_is_there_as_a_whole_or_not_at_all() {
    let run = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../results/reference/bochs/bare");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("report.md");
    let report = |output: &std::path::Path| {
        kvm_memtype().args(["report", "--format", "markdown", "--output"]).arg(output).arg(&run).assert()
    };
    report(&file).code(0).stdout_eq("").stderr_eq("");
    assert!(fs::read_to_string(&file).unwrap().starts_with("## kvm-memtype: bare: as expected\n"));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no draft is left");
    let said = "kvm-memtype: cannot write /dev/null: it is there, and is no regular file\n";
    report(std::path::Path::new("/dev/null")).code(3).stdout_eq("").stderr_eq(said);
    let said = "kvm-memtype: cannot write [..]/no/report.md: No such file or directory (os error 2)\n";
    report(&dir.path().join("no/report.md")).code(3).stdout_eq("").stderr_eq(said);
}

#[test]
fn the_picture_of_types_is_plain_where_no_terminal_is() {
    let run = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../results/reference/bochs/bare");
    let report = kvm_memtype().args(["report", "--matrix"]).arg(&run).env_remove("NO_COLOR").assert().code(0);
    let said = String::from_utf8(report.get_output().stdout.clone()).unwrap();
    // A CPU's own table: SDM Vol. 3A, "Effective Page-Level Memory Types".
    assert!(
        said.contains("\n  WP    UC    WC    WC    WT    WP    WP      UC    UC    UC    UC    UC    UC\n"),
        "{said}"
    );
    assert!(!said.contains(['\u{1b}', '!']), "{said}");
}

#[test]
fn a_typo_in_a_configuration_is_shown_with_its_place() {
    for (path, text, said) in [
        (
            "suites/mine.toml",
            "summary = 'x'\n[[cells]]\ntest = ['boot/*']\nvms = ['default']\n",
            file!["cli/typo-suite.txt"],
        ),
        (
            "suites/mine.toml",
            "summary = 'x'\n[[cells]]\ntests = ['boot/*']\nvms = ['defalt']\n",
            file!["cli/typo-vm-name.txt"],
        ),
        ("vm/mine.toml", "summary = 'x'\nmaxphyadr = 36\n", file!["cli/typo-vm.txt"]),
        ("policies/kvm-6.11.toml", "summary = 'x'\nselect = [{ machin = 'kvm' }]\n", file!["cli/typo-policy.txt"]),
        ("deviations/mine.toml", "[[deviation]]\nid = 'x'\nresaon = 'y'\n", file!["cli/typo-deviation.txt"]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
        let results = dir.path().join("results");
        let arguments = ["run", "--suite", "mine", "--machine", "qemu-tcg"];
        let arguments = arguments.map(str::to_owned).into_iter().chain([
            "--config".into(),
            dir.path().display().to_string(),
            "--results".into(),
            results.display().to_string(),
        ]);
        kvm_memtype().args(arguments).assert().code(2).stdout_eq("").stderr_eq(said);
        assert!(!results.exists(), "nothing may be written before the configuration is right");
    }
}

#[test]
fn a_log_that_is_none_is_refused() {
    let said = "kvm-memtype: standard input holds no guest's report: [..]\n";
    kvm_memtype().args(["judge", "-"]).stdin("SeaBIOS\nhello\n").assert().code(2).stdout_eq("").stderr_eq(said);
}

#[test]
fn man_pages_and_completions_name_every_verb() {
    let verbs = [
        "run",
        "list",
        "doctor",
        "report",
        "explain",
        "identify",
        "diff",
        "fleet",
        "judge",
        "bench",
        "extract",
        "completions",
        "man",
    ];
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    kvm_memtype().args(["man", path]).assert().success().stdout_eq("");
    for verb in verbs {
        let page = fs::read_to_string(dir.path().join(format!("kvm-memtype-{verb}.1"))).unwrap();
        assert!(page.contains(".SH SYNOPSIS"), "{verb}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let script = kvm_memtype().args(["completions", shell]).output().unwrap();
        let script = String::from_utf8(script.stdout).unwrap();
        verbs.iter().for_each(|verb| assert!(script.contains(verb), "{shell} does not complete {verb}"));
    }
}

#[test]
fn extracted_guests_are_elf_files() {
    let dir = tempfile::tempdir().unwrap();
    kvm_memtype().args(["extract", dir.path().to_str().unwrap()]).assert().success();
    for guest in kvm_memtype::guests::all() {
        let file = fs::read(dir.path().join(format!("{}.elf", guest.family))).unwrap();
        assert_eq!(file, guest.elf);
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    use std::process::Stdio;
    let mut child = std::process::Command::new(cargo_bin!("kvm-memtype"))
        .args(["list"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
    assert!(ended.stderr.is_empty(), "{ended:?}");
}
