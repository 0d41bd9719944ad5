//! What a run is about to do to the host, on the disk before it does: where the host does not survive a destructive cell,
//! its intent is what is left of it.
//!
//! Each such cell has a file of its own in the run's directory. It is written and synced before the cell, and removed, and
//! that synced, when the cell's result is on the disk.

use super::{ResultsError, utc, write};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What the name of the file of an intent begins and ends with.
const NAME: (&str, &str) = ("intent-", ".json");
/// The kernel's id of this boot, another one after each.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const HOST_NAME: &str = "/proc/sys/kernel/hostname";

/// A cell that may take the host down, about to be run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Intent {
    /// The cell's id.
    pub cell: String,
    /// What it touches, as `--destructive` named it.
    pub target: String,
    /// When.
    pub time: String,
    /// On which host, in which of its boots.
    pub boot: Boot,
}

/// A host and one of its boots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Boot {
    /// The host's name.
    pub host: String,
    /// The kernel's random id of the boot.
    pub id: String,
}

impl Boot {
    /// This one.
    pub fn now() -> Boot {
        let word = |path| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        Boot { host: word(HOST_NAME), id: word(BOOT_ID) }
    }
}

/// What became of a cell of which only the intent is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The host has booted since.
    HostDown,
    /// The host is the same boot still: the runner ended, or runs yet.
    RunnerGone,
    /// The run was on another host, which alone can tell.
    Elsewhere,
}

impl Intent {
    /// The intent to run a cell on a target now.
    pub fn new(cell: &str, target: &str) -> Intent {
        Intent { cell: cell.to_owned(), target: target.to_owned(), time: utc(SystemTime::now()), boot: Boot::now() }
    }

    /// Puts it into the directory of a run. When this returns it is on the disk.
    ///
    /// # Errors
    /// The system refuses.
    pub fn keep(&self, dir: &Path) -> Result<(), ResultsError> {
        let path = path(dir, &self.cell);
        let written = || {
            let mut file = File::create(&path)?;
            file.write_all(&serde_json::to_vec_pretty(self)?)?;
            file.sync_all()
        };
        written().map_err(ResultsError::io("write", &path))?;
        write::sync(dir)
    }

    /// Removes the intent of a cell, if there is one. When this returns it is gone from the disk.
    ///
    /// # Errors
    /// The system refuses.
    pub fn forget(dir: &Path, cell: &str) -> Result<(), ResultsError> {
        let path = path(dir, cell);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            done => done.map_err(ResultsError::io("remove", &path)).and_then(|()| write::sync(dir)),
        }
    }

    /// Those that are left in the directory of a run, by cell. One that was not written whole was followed by no cell.
    ///
    /// # Errors
    /// The directory or a file cannot be read.
    pub fn left(dir: &Path) -> Result<Vec<Intent>, ResultsError> {
        let mut left: Vec<Intent> = Vec::new();
        for entry in fs::read_dir(dir).map_err(ResultsError::io("read", dir))? {
            let path = entry.map_err(ResultsError::io("read", dir))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with(NAME.0) && name.ends_with(NAME.1) {
                let text = fs::read(&path).map_err(ResultsError::io("read", &path))?;
                left.extend(serde_json::from_slice(&text).ok());
            }
        }
        left.sort_by(|a: &Intent, b: &Intent| a.cell.cmp(&b.cell));
        Ok(left)
    }

    /// What became of the cell, as boot `now` can tell.
    pub fn fate(&self, now: &Boot) -> Fate {
        if self.boot.host != now.host {
            Fate::Elsewhere
        } else if self.boot.id != now.id {
            Fate::HostDown
        } else {
            Fate::RunnerGone
        }
    }

    /// The same in words, without full stop.
    pub fn words(&self, now: &Boot) -> String {
        let Intent { target, time, boot, .. } = self;
        match self.fate(now) {
            Fate::HostDown => format!("the host went down while it ran on {target}, begun {time}: it has booted since"),
            Fate::RunnerGone => {
                format!(
                    "it was begun {time} on {target} and did not end, but the host did not go down: the runner is gone, or runs yet"
                )
            }
            Fate::Elsewhere => {
                format!(
                    "the run ended in it on host {}, target {target}, begun {time}: only that host can tell why",
                    boot.host
                )
            }
        }
    }
}

/// The file of a cell's intent.
fn path(dir: &Path, cell: &str) -> PathBuf {
    dir.join(format!("{}{}{}", NAME.0, cell.replace('/', "+"), NAME.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot(host: &str, id: &str) -> Boot {
        Boot { host: host.to_owned(), id: id.to_owned() }
    }

    #[test]
    fn an_intent_is_there_until_it_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("observations.jsonl"), "").unwrap();
        let intents = ["destructive/apic-page", "destructive/vga-hole@default"].map(|cell| Intent::new(cell, "x"));
        for intent in intents.iter().rev() {
            intent.keep(dir.path()).unwrap();
        }
        assert_eq!(Intent::left(dir.path()).unwrap(), intents);
        assert_eq!(intents[0].boot, Boot::now());
        for _ in 0..2 {
            Intent::forget(dir.path(), &intents[0].cell).unwrap();
        }
        assert_eq!(Intent::left(dir.path()).unwrap(), intents[1..]);
        assert!(Intent::new("a/b", "x").keep(&dir.path().join("nowhere")).is_err());
    }

    #[test]
    fn an_intent_that_was_not_written_whole_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let intent = Intent::new("a/b", "vga-hole");
        intent.keep(dir.path()).unwrap();
        let path = path(dir.path(), "a/b");
        let whole = fs::read(&path).unwrap();
        for len in 0..whole.len() {
            fs::write(&path, &whole[..len]).unwrap();
            assert_eq!(Intent::left(dir.path()).unwrap(), []);
        }
    }

    #[test]
    fn only_the_next_boot_of_the_same_host_says_that_it_went_down() {
        let intent = Intent { boot: boot("lab", "1"), ..Intent::new("a/b", "vga-hole") };
        for (now, fate, said) in [
            (boot("lab", "2"), Fate::HostDown, "the host went down while it ran on vga-hole"),
            (boot("lab", "1"), Fate::RunnerGone, "the host did not go down"),
            (boot("desk", "2"), Fate::Elsewhere, "on host lab"),
        ] {
            assert_eq!(intent.fate(&now), fate);
            assert!(intent.words(&now).contains(said), "{}", intent.words(&now));
        }
    }
}
