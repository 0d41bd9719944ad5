//! A disk that fails under the results: full, broken, not to be written, at any write or sync.

use crate::host::{OPEN, RUN, mounted, no_open, refused, results, row};
use crate::inject::{Answer, Call, Trap};
use crate::program::{self, program, ran};
use crate::table::{Miss, Row};
use kvm_memtype::judge::Verdict;
use libc::{EDQUOT, EFBIG, EIO, ENOSPC};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::process::Stdio;

const WRITE: Trap = Trap::Call(libc::SYS_write);
const SYNC: Trap = Trap::Call(libc::SYS_fdatasync);

/// The disk fails at one write or sync of the results.
fn disk(id: &str, fault: &str, errno: i32, words: &'static str, torn: bool, cut: bool) -> Row {
    let how = match (torn, cut) {
        (false, _) => "the second cell's write fails",
        (true, true) => "the second cell's write is done by half and fails",
        (true, false) => "the second cell's write is done by half and fails, and so does ftruncate",
    };
    let seen = format!(
        "exit code 3: cannot write `observations.jsonl`, \"{words}\"; the cell before is kept, and after `--resume` nothing is lost"
    );
    row(id, [fault, how, &seen], move || {
        let sound = program::sound(&RUN)?;
        let trim = Trap::Call(libc::SYS_ftruncate);
        let mut lines = 0;
        let ran = program::run(&RUN, &[WRITE, trim], move |call| {
            let path = call.path();
            if !path.ends_with("observations.jsonl") {
                return Answer::GoOn;
            }
            if call.trap == trim {
                return if cut { Answer::GoOn } else { Answer::Errno(EIO) };
            }
            lines += 1;
            // The header, the first cell, the second.
            if lines != 3 {
                return Answer::GoOn;
            }
            let half = (call.args[2] / 2) as usize;
            if torn && tear(call, &path, half).is_err() {
                return Answer::GoOn;
            }
            Answer::Errno(errno)
        })?;
        ran.ended(3, &["observations.jsonl: cannot write it: ", words])?;
        let kept = program::plain(program(ran.results.path(), &["judge", "latest", "--format", "json"]));
        let kept = program::cells(&String::from_utf8_lossy(&kept.expect("it runs").stdout));
        let measured = kept.values().filter(|(verdict, _)| *verdict != Verdict::NotRun).count();
        if measured != 1 {
            return Err(Miss::Wrong(format!("{measured} cells are kept: {kept:?}")));
        }
        program::resume(&ran.results)?.unchanged(&sound)?;
        Ok(ran.said.trim().to_owned())
    })
}

/// Appends the first bytes of what a write has to its file.
fn tear(call: &Call, path: &str, bytes: usize) -> io::Result<()> {
    use std::io::Write;
    let mut text = vec![0; bytes];
    File::open(format!("/proc/{}/mem", call.thread))?.read_exact_at(&mut text, call.args[1])?;
    File::options().append(true).open(path)?.write_all(&text)
}

/// All rows.
pub fn rows() -> Vec<Row> {
    vec![
        disk("disk-full", "the disk is full", ENOSPC, "No space left on device", false, true),
        disk(
            "disk-full-torn",
            "the disk is full in the middle of a line",
            ENOSPC,
            "No space left on device",
            true,
            true,
        ),
        disk(
            "disk-full-stuck",
            "the same, and the half line cannot be cut off",
            ENOSPC,
            "No space left on device",
            true,
            false,
        ),
        disk("disk-quota", "the quota is used up", EDQUOT, "Disk quota exceeded", true, true),
        disk("disk-limit", "the file may not grow", EFBIG, "File too large", true, true),
        disk("disk-error", "the disk breaks", EIO, "Input/output error", true, true),
        row(
            "disk-sync",
            [
                "a result cannot be synced",
                "the second cell's fdatasync fails with EIO",
                "exit code 3, and that cell counts as not done; after `--resume` nothing is lost",
            ],
            || {
                let sound = program::sound(&RUN)?;
                let mut synced = 0;
                let ran = program::run(&RUN, &[SYNC], move |_| {
                    synced += 1;
                    if synced == 3 { Answer::Errno(EIO) } else { Answer::GoOn }
                })?;
                ran.ended(3, &["observations.jsonl: cannot write it: ", "Input/output error"])?;
                program::resume(&ran.results)?.unchanged(&sound)?;
                Ok(ran.said.trim().to_owned())
            },
        ),
        row(
            "results-read-only",
            [
                "the results directory is read-only",
                "it is mounted so, in a mount namespace",
                "exit code 3, with the directory that cannot be made",
            ],
            || {
                let results = results();
                let arguments = [&["run", "--machine", "kvm"], &RUN[..]].concat();
                let mut command = program(results.path(), &arguments);
                let dir: &'static str = results.path().display().to_string().leak();
                let again = libc::MS_BIND | libc::MS_REMOUNT | libc::MS_RDONLY;
                mounted(
                    &mut command,
                    vec![(dir, dir.to_owned(), "", libc::MS_BIND, ""), ("none", dir.to_owned(), "", again, "")],
                );
                let ran = match program::plain(command) {
                    Err(error) => return Err(Miss::Skip(format!("no mount namespace: {error}"))),
                    output => ran(output, results)?,
                };
                refused(&ran, &[dir, "cannot create it: Read-only file system"])
            },
        ),
        row(
            "results-file",
            ["the results directory is a file", "a file is there", "exit code 3, with its name"],
            || {
                let dir = tempfile::tempdir().expect("a directory");
                let file = dir.path().join("results");
                fs::write(&file, "").expect("a file");
                let output = program::plain(program(&file, &[&["run", "--machine", "kvm"], &RUN[..]].concat()));
                refused(&ran(output, results())?, &[&file.display().to_string(), "cannot create it: File exists"])
            },
        ),
        row(
            "verdicts-full",
            [
                "the disk is full when the verdicts are written",
                "openat of `verdicts.jsonl` fails with ENOSPC",
                "exit code 3; all that was observed is kept, and `judge` makes the same verdicts of it",
            ],
            || {
                let sound = program::sound(&RUN)?;
                let ran = program::run(&RUN, &[OPEN], no_open("verdicts.jsonl", ENOSPC))?;
                ran.ended(3, &["verdicts.jsonl", "No space left on device"])?;
                let judged = program::plain(program(ran.results.path(), &["judge", "latest", "--format", "json"]));
                let judged = program::cells(&String::from_utf8_lossy(&judged.expect("it runs").stdout));
                match judged == sound {
                    true => Ok(ran.said.trim().to_owned()),
                    false => Err(Miss::Wrong(format!("{judged:?}"))),
                }
            },
        ),
        row(
            "output-full",
            [
                "standard output is a full disk",
                "it is /dev/full",
                "exit code 3: cannot write the output; after `--resume` nothing is lost",
            ],
            || {
                let results = results();
                let arguments = [&["run", "--machine", "kvm", "--format", "json"], &RUN[..]].concat();
                let mut command = program(results.path(), &arguments);
                let full = File::options().write(true).open("/dev/full").expect("/dev/full");
                let ended = command.stdout(full).stderr(Stdio::piped()).output().expect("it runs");
                let said = String::from_utf8_lossy(&ended.stderr).into_owned();
                if ended.status.code() != Some(3) || !said.contains("cannot write the output: No space left on device")
                {
                    return Err(Miss::Wrong(format!("{:?}: {said}", ended.status)));
                }
                program::resume(&results)?.unchanged(&program::sound(&RUN)?)?;
                Ok(said.trim().to_owned())
            },
        ),
    ]
}
