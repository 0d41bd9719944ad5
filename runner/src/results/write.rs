//! Writing the observations of a run.

use super::format::{self, CellOutcome, CellResult, Header};
use super::intent::{Boot, Fate, Intent};
use super::{OBSERVATIONS, ResultsError, Run, dir};
use serde_json as json;
use std::collections::HashSet;
use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// Writes one run; no other process can write to it meanwhile.
#[derive(Debug)]
pub struct Writer {
    dir: PathBuf,
    file: File,
    /// Bytes of the whole lines in the file.
    len: u64,
}

/// A run that goes on.
#[derive(Debug)]
pub struct Resumed {
    /// Writes what is left.
    pub writer: Writer,
    /// The run's header.
    pub header: Header,
    /// Ids of the cells that are done.
    pub done: HashSet<String>,
}

impl Writer {
    /// Makes a directory for a run under `root`, and `root` itself if it is not there.
    ///
    /// # Errors
    /// The system refuses.
    pub fn create(root: &Path, header: &Header) -> Result<Writer, ResultsError> {
        fs::create_dir_all(root).map_err(ResultsError::io("create", root))?;
        Writer::begin(root, dir::make(root, header)?, header)
    }

    /// Makes a directory for repetition `number` (from 2) of the run in `first`.
    ///
    /// # Errors
    /// The system refuses, or there is one.
    pub fn repeat(first: &Path, number: usize, header: &Header) -> Result<Writer, ResultsError> {
        let dir = dir::repetition(first, number);
        fs::create_dir(&dir).map_err(ResultsError::io("create", &dir))?;
        Writer::begin(first, dir, header)
    }

    /// Begins a run in a directory that was just made in `root`.
    fn begin(root: &Path, dir: PathBuf, header: &Header) -> Result<Writer, ResultsError> {
        let path = dir.join(OBSERVATIONS);
        let file = File::options().append(true).create_new(true).open(&path);
        let file = file.map_err(ResultsError::io("create", &path))?;
        lock(&file, &dir)?;
        let mut writer = Writer { dir, file, len: 0 };
        writer.put(format::first_line(header))?;
        for dir in [&writer.dir, root] {
            sync(dir)?;
        }
        Ok(writer)
    }

    /// Goes on with a run that was interrupted. A line that was not written whole is cut off. A cell in which the host
    /// went down gets that for its result, so that it is not run again.
    ///
    /// # Errors
    /// The run cannot be read, its header above all; another process is writing to it; or it ended in a destructive cell
    /// on another host.
    pub fn resume(dir: &Path) -> Result<Resumed, ResultsError> {
        Writer::resume_in(dir, &Boot::now())
    }

    /// The same, in that boot of a host.
    pub(super) fn resume_in(dir: &Path, now: &Boot) -> Result<Resumed, ResultsError> {
        let path = dir.join(OBSERVATIONS);
        let file = File::options().append(true).open(&path).map_err(ResultsError::io("open", &path))?;
        lock(&file, dir)?;
        let run = Run::read(dir)?;
        let mut writer = Writer { dir: dir.to_owned(), file, len: run.whole as u64 };
        writer.cut()?;
        let mut done = run.done();
        for intent in Intent::left(dir)? {
            match intent.fate(now) {
                _ if done.contains(&intent.cell) => {}
                Fate::Elsewhere => return Err(ResultsError::Elsewhere { dir: dir.to_owned(), host: intent.boot.host }),
                Fate::RunnerGone => {}
                Fate::HostDown => {
                    let outcome = CellOutcome::Died(intent.words(now));
                    writer.append(&CellResult { cell: intent.cell.clone(), outcome })?;
                    done.insert(intent.cell.clone());
                }
            }
            Intent::forget(dir, &intent.cell)?;
        }
        Ok(Resumed { writer, header: run.header, done })
    }

    /// The run's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Adds a line. When this returns it is on the disk.
    ///
    /// # Errors
    /// The system refuses; nothing was added then.
    pub fn append(&mut self, result: &CellResult) -> Result<(), ResultsError> {
        self.put(format::line(result))
    }

    fn put(&mut self, line: json::Result<Vec<u8>>) -> Result<(), ResultsError> {
        let written = line.map_err(Into::into).and_then(|line| {
            self.file.write_all(&line)?;
            self.file.sync_data()?;
            Ok(line.len() as u64)
        });
        match written {
            Ok(bytes) => {
                self.len += bytes;
                Ok(())
            }
            Err(source) => {
                // A part of the line must not stand before the next one. If this fails too, the first error says why.
                let _ = self.cut();
                Err(ResultsError::io("write", &self.dir.join(OBSERVATIONS))(source))
            }
        }
    }

    /// Cuts off what is behind the whole lines.
    fn cut(&mut self) -> Result<(), ResultsError> {
        self.file.set_len(self.len).map_err(ResultsError::io("truncate", &self.dir.join(OBSERVATIONS)))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Closing the file is not enough: a child that another thread has just forked holds it open until its exec, and
        // with it the lock.
        let _ = self.file.unlock();
    }
}

/// Locks a run's file until its writer is gone. A writer that has just ended may be followed for a moment by a child of its own
/// that it made then and that has not begun its program yet: it has the file open as well.
fn lock(file: &File, dir: &Path) -> Result<(), ResultsError> {
    const PATIENCE: Duration = Duration::from_millis(300);
    let began = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if began.elapsed() < PATIENCE => thread::sleep(PATIENCE / 30),
            Err(TryLockError::WouldBlock) => return Err(ResultsError::Locked { dir: dir.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(ResultsError::io("lock", &dir.join(OBSERVATIONS))(source)),
        }
    }
}

/// Syncs a directory, so that what was made in it is found again after a crash of the host.
pub(super) fn sync(dir: &Path) -> Result<(), ResultsError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(ResultsError::io("sync", dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_said() {
        let file = File::options().append(true).open("/dev/full").unwrap();
        let mut writer = Writer { dir: "run".into(), file, len: 0 };
        let result = CellResult { cell: "a".to_owned(), outcome: CellOutcome::Skip("why".to_owned()) };
        let error = writer.append(&result).unwrap_err();
        assert_eq!(error.to_string(), "run/observations.jsonl: cannot write it");
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(source, "No space left on device (os error 28)");
    }
}
