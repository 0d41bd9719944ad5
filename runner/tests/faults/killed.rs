//! Runs that are killed or interrupted at random moments, and go on.

use crate::inject::PATIENCE;
use crate::program::{plain, program};
use crate::table::{Group, Miss, Row};
use serde_json::Value;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{env, fs, thread};

/// How often each is done where [`TIMES`] says nothing: a run takes about a second.
const FEW: usize = 10;
/// Variable that says how often.
const TIMES: &str = "KVM_MEMTYPE_KILLS";
/// Variable that says what moments are drawn by.
const SEED: &str = "KVM_MEMTYPE_SEED";

/// The report of a run, less what is a time or named by one.
fn report(results: &Path) -> Result<Vec<Value>, Miss> {
    let output = plain(program(results, &["report", "latest", "--format", "json"])).expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let lines = text.lines().map(|line| serde_json::from_str(line).map(timeless));
    let mut lines: Vec<Value> = lines
        .collect::<Result<_, _>>()
        .map_err(|error| Miss::Wrong(format!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr))))?;
    // Cells come in the order in which they were done.
    lines.sort_by_key(Value::to_string);
    Ok(lines)
}

fn timeless(mut value: Value) -> Value {
    match &mut value {
        Value::Object(map) => {
            ["micros", "id", "started"].iter().for_each(|key| drop(map.remove(*key)));
            map.values_mut().for_each(|value| *value = timeless(value.take()));
        }
        Value::Array(values) => values.iter_mut().for_each(|value| *value = timeless(value.take())),
        _ => {}
    }
    value
}

/// Begins a run of suite `smoke`, and comes back when its header is on the disk.
fn begin(results: &Path) -> Child {
    let arguments = ["run", "--machine", "kvm", "--suite", "smoke", "--witness", "stats", "--format", "json"];
    let child = program(results, &arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it runs");
    let begun = || {
        let run = fs::read_dir(results).ok()?.next()?.ok()?.path();
        fs::read(run.join("observations.jsonl")).ok().filter(|text| text.contains(&b'\n'))
    };
    let patience = Instant::now() + PATIENCE;
    while begun().is_none() && Instant::now() < patience {
        thread::sleep(Duration::from_millis(1));
    }
    child
}

/// Ends a run by a signal at a random moment, and goes on with it, so many times. Gives how often the final report was that of a
/// run that nothing had ended, of how many times, and the seed.
fn ended(signal: libc::c_int) -> Result<String, Miss> {
    let times = env::var(TIMES).ok().and_then(|times| times.parse().ok()).unwrap_or(FEW);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
    let seed = env::var(SEED).ok().and_then(|seed| seed.parse().ok()).unwrap_or(now);
    let mut random = fastrand::Rng::with_seed(seed);
    let whole = tempfile::tempdir().expect("a directory");
    let mut child = begin(whole.path());
    let started = Instant::now();
    child.wait().expect("it ends");
    let length = started.elapsed();
    let wanted = report(whole.path())?;
    let (mut equal, mut killed, mut late, mut differing) = (0, 0, 0, String::new());
    while killed < times {
        if late > 9 * times {
            return Err(Miss::Wrong(format!("{late} runs were over before they could be ended")));
        }
        let results = tempfile::tempdir().expect("a directory");
        let mut child = begin(results.path());
        thread::sleep(length.mul_f64(random.f64()));
        // SAFETY: a child that has not been waited for.
        unsafe { libc::kill(child.id() as libc::pid_t, signal) };
        let status = child.wait().expect("it ends");
        match (status.code(), signal) {
            (None, libc::SIGKILL) | (Some(3), libc::SIGINT | libc::SIGTERM) => killed += 1,
            // It was over before, or past its last cell.
            (Some(0), _) => {
                late += 1;
                continue;
            }
            _ => return Err(Miss::Wrong(format!("signal {signal}, seed {seed}: it ended with {status}"))),
        }
        let output = plain(program(results.path(), &["run", "--resume", "latest"])).expect("it runs");
        let found = report(results.path());
        match found {
            Ok(found) if found == wanted && output.status.code() == Some(0) => equal += 1,
            found => differing = format!("{found:?}, not {wanted:?}: {}", String::from_utf8_lossy(&output.stderr)),
        }
    }
    let figure = format!("equal to an uninterrupted run {equal} of {times} times, seed {seed}");
    if equal == times { Ok(figure) } else { Err(Miss::Wrong(format!("{figure}: {differing}"))) }
}

fn row(id: &str, signal: libc::c_int, name: &'static str, said: &str) -> Row {
    let fault = format!("{name} at random moments of suite `smoke`");
    let how = format!("drawn by a seed that is printed ({SEED} sets it), {FEW} times; `{TIMES}=100` for 100");
    let seen = format!(
        "{said}after `--resume` the report, less its times, is equal to that of an uninterrupted run, each time"
    );
    Row::new(Group::Killed, id, [&fault, &how, &seen], move || ended(signal))
}

/// All rows.
pub fn rows() -> Vec<Row> {
    let says = "exit code 3; ";
    vec![
        row("killed-SIGKILL", libc::SIGKILL, "SIGKILL", ""),
        row("killed-SIGINT", libc::SIGINT, "SIGINT", says),
        row("killed-SIGTERM", libc::SIGTERM, "SIGTERM", says),
    ]
}
