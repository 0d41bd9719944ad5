//! Running a suite: kvm-memtype as a child, what it finds sent away as it comes.

use super::{Fallible, Job};
use crate::init::port::Port;
use crate::mailbox::Event;
use serde::Deserialize;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where the image holds kvm-memtype.
pub const PROGRAM: &str = "/bin/kvm-memtype";
/// Where runs are kept until they are sent.
const RESULTS: &str = "/tmp/results";
/// The suite of random histories, which a verb of its own runs.
const FUZZ: &str = "fuzz";
/// Endings of the files that are sent. What has another one is a draft, which goes away when it is renamed.
const ENDINGS: [&str; 2] = ["jsonl", "toml"];
/// What kvm-memtype says on standard error.
const SAID: &str = "/tmp/said";
/// The most of it that is sent: its end, where the reason is.
const SAID_MOST: usize = 16 << 10;

/// What is read of a line of `run --format json`.
#[derive(Deserialize)]
struct Judged {
    cell: Option<String>,
}

/// Runs a suite to its end.
///
/// # Errors
/// kvm-memtype cannot be started, or its files cannot be read. What it finds is no error.
pub fn run(port: &mut Port, job: &Job, suite: &str) -> Fallible<()> {
    port.send(&Event::Suite { suite: suite.to_owned() }, &[])?;
    let root = Path::new(RESULTS).join(suite);
    fs::create_dir_all(&root)?;
    let verb: &[&str] = if suite == FUZZ { &[FUZZ] } else { &["run", "--machine", "kvm", "--suite", suite] };
    let mut child = Command::new(PROGRAM)
        .args(verb)
        .args(["--format", "json", "--results"])
        .arg(&root)
        .args(&job.arguments)
        .envs(&job.environment)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(File::create(SAID)?)
        .spawn()
        .map_err(|error| format!("cannot start {PROGRAM}: {error}"))?;
    let mut files = Files::new(suite, root);
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            // The last line is the sum, and has no cell.
            if let Ok(Judged { cell: Some(cell) }) = serde_json::from_str(&line?) {
                port.send(&Event::Cell { cell }, &[])?;
                files.send(port)?;
            }
        }
    }
    let status = child.wait()?;
    files.send(port)?;
    let said = fs::read(SAID)?;
    let said = String::from_utf8_lossy(&said[said.len().saturating_sub(SAID_MOST)..]).trim_end().to_owned();
    // A signal that ended it is told as a shell does.
    let code =
        status.code().unwrap_or_else(|| 128 + std::os::unix::process::ExitStatusExt::signal(&status).unwrap_or(0));
    port.send(&Event::Ended { suite: suite.to_owned(), code, said }, &[])
}

/// The files of a run, and how much of each was sent.
struct Files<'a> {
    suite: &'a str,
    root: PathBuf,
    sent: Vec<(PathBuf, u64)>,
}

impl Files<'_> {
    fn new(suite: &str, root: PathBuf) -> Files<'_> {
        Files { suite, root, sent: Vec::new() }
    }

    /// Sends what has been added since.
    fn send(&mut self, port: &mut Port) -> Fallible<()> {
        entries(&self.root)?.iter().try_for_each(|run| self.send_run(port, run, ""))
    }

    /// Sends the files of the run in `dir`, and those of its repetitions, which are runs in there. They go to `below` in
    /// the suite's directory.
    fn send_run(&mut self, port: &mut Port, dir: &Path, below: &str) -> Fallible<()> {
        for path in entries(dir)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                self.send_run(port, &path, &format!("{below}{name}/"))?;
            } else if path.extension().is_some_and(|ending| ENDINGS.iter().any(|known| ending == *known)) {
                self.send_file(port, &path, &format!("{below}{name}"))?;
            }
        }
        Ok(())
    }

    fn send_file(&mut self, port: &mut Port, path: &Path, name: &str) -> Fallible<()> {
        let index = self.sent.iter().position(|(known, _)| known == path).unwrap_or_else(|| {
            self.sent.push((path.to_owned(), 0));
            self.sent.len() - 1
        });
        let offset = self.sent[index].1;
        let (mut file, mut piece) = (File::open(path)?, Vec::new());
        file.seek(SeekFrom::Start(offset))?;
        file.read_to_end(&mut piece)?;
        if !piece.is_empty() {
            port.send(&Event::Piece { path: format!("{}/{name}", self.suite), offset }, &piece)?;
            self.sent[index].1 += piece.len() as u64;
        }
        Ok(())
    }
}

fn entries(dir: &Path) -> Fallible<Vec<PathBuf>> {
    fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect()
}
