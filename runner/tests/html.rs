//! The HTML report: what is in the file, and how a browser takes it.

mod common;

use common::skip;
use flate2::read::GzDecoder;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// What tries to be markup wherever a text is shown.
const HOSTILE: &str = "</script><img src=x onerror=alert(1)><!-- ${alert(1)} \u{1b}[31m";
/// Cells of the report of very many, where ci/test does not name one.
const MANY: &str = "20000";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The directories of stock kernels, in the order of their versions, as they are named from the root.
fn kernels() -> Vec<String> {
    let at = "results/reference/bochs-vmx";
    let entries = fs::read_dir(root().join(at)).expect("the lab's results");
    let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| !name.contains(',')).map(|name| format!("{at}/{name}")).collect();
    names.sort_by_key(|name| {
        name.rsplit('/').next().map(|name| name.split(['.', '-']).flat_map(str::parse::<u32>).collect::<Vec<_>>())
    });
    names
}

fn kvm_memtype(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kvm-memtype")).current_dir(root()).args(arguments).output().expect("kvm-memtype")
}

/// Writes the report of these runs to a file, and gives its text.
fn report(file: &Path, runs: &[&str]) -> String {
    let arguments = ["report", "--format", "html", "--output", file.to_str().expect("a path")];
    let output = kvm_memtype(&[&arguments, runs].concat());
    assert!(matches!(output.status.code(), Some(0 | 1)), "{output:?}");
    fs::read_to_string(file).expect("a report")
}

/// Writes a run in which every text that a guest, a host or a person chose is hostile.
fn hostile(dir: &Path) {
    let file = File::open(root().join(&kernels()[0]).join("memtype/observations.jsonl.gz")).expect("observations");
    let mut text = String::new();
    GzDecoder::new(file).read_to_string(&mut text).expect("a compressed text");
    let mut lines = text.lines();
    let mut header: serde_json::Value = serde_json::from_str(lines.next().expect("a header")).expect("a header");
    for name in ["kernel", "CPU", "KVM", "emulator", HOSTILE] {
        header["header"]["host"][name] = HOSTILE.into();
    }
    header["header"]["suite"] = HOSTILE.into();
    header["header"]["started"] = HOSTILE.into();
    header["header"]["filters"] = [HOSTILE].into();
    let mut all = Vec::new();
    for (n, cell) in header["header"]["cells"].as_array_mut().expect("cells").iter_mut().enumerate() {
        cell["vm"]["summary"] = HOSTILE.into();
        if n % 3 == 1 {
            cell["id"] = format!("{HOSTILE}/{n}@{HOSTILE}").into();
        }
    }
    for (n, line) in lines.enumerate() {
        let mut result: serde_json::Value = serde_json::from_str(line).expect("a result");
        result["cell"] = header["header"]["cells"][n]["id"].clone();
        match n % 3 {
            0 => result["outcome"] = serde_json::json!({ "skip": HOSTILE }),
            // A guest that says this sends no report.
            1 => {
                result["outcome"] = serde_json::json!({ "observed": { "log": [format!("<{HOSTILE}")], "end": { "exit": 16 }, "micros": 1 } })
            }
            _ => {
                if let Some(observed) = result["outcome"].get_mut("observed") {
                    observed["witness"]["kernel-log"] = [format!("WARNING: {HOSTILE}")].into();
                }
            }
        }
        all.push(result.to_string());
    }
    fs::write(dir.join("observations.jsonl"), format!("{header}\n{}\n", all.join("\n"))).expect("a run");
}

#[test]
fn the_example_is_what_is_made_of_the_reference_results() {
    let dir = tempfile::tempdir().expect("a directory");
    let runs = kernels();
    let runs: Vec<&str> = runs.iter().map(String::as_str).collect();
    let made = report(&dir.path().join("report.html"), &runs);
    let kept = fs::read_to_string(root().join("docs/report.html")).expect("the example");
    let again = "docs/report.html is of another version: kvm-memtype report --format html --output docs/report.html";
    assert!(made == kept, "{again} {}", runs.join(" "));
}

#[test]
fn no_text_of_a_run_is_markup() {
    let dir = tempfile::tempdir().expect("a directory");
    hostile(dir.path());
    let text = report(&dir.path().join("report.html"), &[dir.path().to_str().expect("a path")]);
    assert!(text.contains("\\u003c/script>\\u003cimg"), "the data has no hostile text");
    assert!(text.contains("&lt;/script&gt;&lt;img"), "the overview without scripts has no hostile text");
    assert!(!text.contains("<img"));
    assert_eq!(text.matches("<script").count(), 2);
    assert!(text.contains("default-src 'none'"));
}

#[test]
fn verdicts_that_were_written_are_not_judged_anew() {
    let dir = tempfile::tempdir().expect("a directory");
    let run = root().join(&kernels()[0]).join("default/observations.jsonl.gz");
    fs::copy(run, dir.path().join("observations.jsonl.gz")).expect("a copy");
    let path = dir.path().to_str().expect("a path");
    let html = dir.path().join("report.html");
    assert_eq!(kvm_memtype(&["judge", path]).status.code(), Some(0));
    let verdicts = dir.path().join("verdicts.jsonl");
    let written = fs::read_to_string(&verdicts).expect("verdicts");
    fs::write(
        &verdicts,
        written.replacen("\"verdict\":\"pass\",\"reason\":\"\"", "\"verdict\":\"fail\",\"reason\":\"as written\"", 1),
    )
    .expect("verdicts");
    assert!(report(&html, &[path]).contains("as written"));
    // Those of other results are no verdicts.
    fs::write(&verdicts, written.split_once('\n').expect("two lines").1).expect("verdicts");
    let output = kvm_memtype(&["report", "--format", "html", path]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("do not fit its results"), "{said}");
}

/// The directory of playwright-core, where ci/test has put it.
fn playwright() -> Option<PathBuf> {
    let dir = root().join("target/browser/node_modules/playwright-core").canonicalize().ok()?;
    dir.is_dir().then_some(dir)
}

#[test]
fn a_browser_shows_it() {
    let runs =
        |command: &str| Command::new(command).arg("--version").output().is_ok_and(|output| output.status.success());
    let Some(playwright) = playwright() else {
        return skip("no playwright-core in target/browser: npm install --prefix target/browser playwright-core");
    };
    let chromium = std::env::var("CHROMIUM").unwrap_or_else(|_| "/usr/bin/chromium".to_owned());
    if let Some(missing) = ["node", &chromium].into_iter().find(|command| !runs(command)) {
        return skip(&format!("{missing} does not run here"));
    }
    let dir = tempfile::tempdir().expect("a directory");
    let [small, wild] = ["report.html", "hostile.html"].map(|name| dir.path().join(name));
    let runs = kernels();
    report(&small, &runs.iter().map(String::as_str).collect::<Vec<_>>());
    hostile(dir.path());
    report(&wild, &[dir.path().to_str().expect("a path")]);
    let past = dir.path().join("past.html");
    with_past(dir.path(), &past, &runs[..2]);
    let big = std::env::var_os("KVM_MEMTYPE_BIG_REPORT").map_or_else(|| many(dir.path(), &runs[0]), PathBuf::from);
    let output = Command::new("node")
        .arg(root().join("ci/browser/report.mjs"))
        .args([&playwright, &small, &wild, &big, &past, dir.path()])
        .output()
        .expect("node");
    println!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A report of the second of these kernels, with what became of its cells on both.
fn with_past(dir: &Path, file: &Path, kernels: &[String]) {
    let results = dir.join("results");
    for (name, kernel) in ["first", "second"].iter().zip(kernels) {
        let run = results.join(name);
        fs::create_dir_all(&run).expect("a directory");
        let observations = "observations.jsonl.gz";
        fs::copy(root().join(kernel).join("memtype").join(observations), run.join(observations)).expect("a copy");
        assert!(kvm_memtype(&["judge", run.to_str().expect("a path")]).status.success());
    }
    let results = results.to_str().expect("a path");
    let output = ["--output", file.to_str().expect("a path"), "second"];
    let output =
        kvm_memtype(&[&["--results", results, "report", "--format", "html", "--history"], &output[..]].concat());
    assert!(output.status.success(), "{output:?}");
}

/// A report of many cells.
fn many(dir: &Path, run: &str) -> PathBuf {
    let keep = dir.join("many");
    let output = kvm_memtype(&["bench", "--report", run, "--cells", MANY, "--keep", keep.to_str().expect("a path")]);
    assert!(output.status.success(), "{output:?}");
    keep.join("report.html")
}
