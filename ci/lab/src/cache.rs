//! The lab's cache: what was fetched and made, by content. All of it can be deleted at any time.

use kvm_memtype::machine::bochs::{self, CACHE};
use sha2::{Digest, Sha256};
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The cache's directory.
///
/// # Errors
/// There is no place for one.
pub fn root() -> Result<PathBuf, String> {
    bochs::cache().ok_or_else(|| format!("no place for a cache: neither {CACHE} nor XDG_CACHE_HOME nor HOME is set"))
}

/// The SHA-256 of a file, in hexadecimal.
///
/// # Errors
/// It cannot be read.
pub fn digest_of_file(path: &Path) -> io::Result<String> {
    let (mut file, mut hasher, mut buffer) = (File::open(path)?, Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hasher.finalize())),
            length => hasher.update(&buffer[..length]),
        }
    }
}

/// The SHA-256 of texts, in hexadecimal; each ends before the next begins.
pub fn digest<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let mut hasher = Sha256::new();
    for text in texts {
        hasher.update((text.len() as u64).to_le_bytes());
        hasher.update(text);
    }
    hex(&hasher.finalize())
}

/// The SHA-256 of a text, in hexadecimal, as `sha256sum` has it of a file.
pub fn digest_of_text(text: &str) -> String {
    hex(&Sha256::digest(text))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// How the names of drafts begin.
const DRAFT: &str = ".draft-";

/// A directory for what is not done yet. It goes when this is dropped, or, where the process was killed, when the next
/// draft is made beside it.
#[derive(Debug)]
pub struct Draft {
    dir: TempDir,
    /// Locked as long as somebody is at work.
    _lock: File,
}

impl Draft {
    /// An empty one in `parent`, which is made if it is not there.
    ///
    /// # Errors
    /// The system refuses.
    pub fn new(parent: &Path) -> io::Result<Draft> {
        fs::create_dir_all(parent)?;
        // A draft that has no lock yet would look like one that was left behind.
        let _others = locked(&parent.join(".lock"))?;
        sweep(parent)?;
        let dir = tempfile::Builder::new().prefix(DRAFT).tempdir_in(parent)?;
        let lock = locked(&dir.path().join("lock"))?;
        fs::create_dir(dir.path().join("content"))?;
        Ok(Draft { dir, _lock: lock })
    }

    /// Where to work.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("content")
    }
}

/// Opens a lock file and waits for the lock, which other threads and processes may have. It is held until the file is
/// dropped.
///
/// # Errors
/// The system refuses.
pub fn locked(path: &Path) -> io::Result<File> {
    let file = File::create(path)?;
    file.lock()?;
    Ok(file)
}

/// Removes the drafts in a directory that nobody is at work on: their makers were killed.
fn sweep(parent: &Path) -> io::Result<()> {
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with(DRAFT) {
            continue;
        }
        let is_at_work = match File::open(entry.path().join("lock")) {
            Ok(lock) => matches!(lock.try_lock(), Err(TryLockError::WouldBlock)),
            Err(_) => false,
        };
        if !is_at_work
            && let Err(error) = fs::remove_dir_all(entry.path())
            && error.kind() != ErrorKind::NotFound
        {
            return Err(error);
        }
    }
    Ok(())
}

/// Makes a directory of the cache, all or nothing: `fill` gets an empty one, which takes its place when all went well.
/// Whoever makes the same at the same time makes the same content, so the first one stays.
///
/// # Errors
/// What `fill` says, or the system refuses.
pub fn make<E: From<io::Error>>(path: &Path, fill: impl FnOnce(&Path) -> Result<(), E>) -> Result<(), E> {
    if path.is_dir() {
        return Ok(());
    }
    let draft = Draft::new(path.parent().unwrap_or(Path::new(".")))?;
    fill(&draft.path())?;
    match fs::rename(draft.path(), path) {
        Err(error) if !path.is_dir() => Err(error.into()),
        _ => Ok(()),
    }
}

/// Writes a file of the cache at once: whoever reads it sees all of it or what was there before.
///
/// # Errors
/// The system refuses.
pub fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let draft = Draft::new(path.parent().unwrap_or(Path::new(".")))?;
    let file = draft.path().join("file");
    fs::write(&file, content)?;
    fs::rename(file, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<std::ffi::OsString> {
        let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    }

    #[test]
    fn drafts_that_were_left_behind_go_and_those_at_work_stay() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join(".draft-old/source")).unwrap();
        fs::create_dir_all(dir.path().join(".draft-killed")).unwrap();
        fs::write(dir.path().join(".draft-killed/lock"), "").unwrap();
        fs::create_dir(dir.path().join("0123456789abcdef")).unwrap();
        let first = Draft::new(dir.path()).unwrap();
        let second = Draft::new(dir.path()).unwrap();
        assert!(first.path().is_dir() && second.path().is_dir());
        assert_eq!(names(dir.path()).len(), 4, "{:?}", names(dir.path()));
        drop((first, second));
        assert_eq!(names(dir.path()), [".lock", "0123456789abcdef"]);
    }

    #[test]
    fn texts_are_told_apart_by_where_they_end() {
        assert_ne!(digest(["ab", "c"]), digest(["a", "bc"]));
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join("x"), b"abc").unwrap();
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest_of_file(&dir.path().join("x")).unwrap(), known);
        assert_eq!(digest_of_text("abc"), known);
    }

    #[test]
    fn a_directory_is_there_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let fail = |draft: &Path| fs::write(draft.join("half"), "").and_then(|()| Err(io::Error::other("full")));
        assert!(make(&path, fail).is_err());
        assert_eq!(names(&dir.path().join("a")), [".lock"]);
        make(&path, |draft| fs::write(draft.join("x"), "1")).unwrap();
        make(&path, |_| -> io::Result<()> { panic!("it is there") }).unwrap();
        assert_eq!(fs::read_to_string(path.join("x")).unwrap(), "1");
    }
}
