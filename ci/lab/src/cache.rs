//! The lab's cache: what was fetched and made, by content. All of it can be deleted at any time.

use kvm_memtype::machine::bochs::{self, CACHE};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

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

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
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
    let parent = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent)?;
    let draft = tempfile::Builder::new().prefix(".draft-").tempdir_in(parent)?;
    fill(draft.path())?;
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
    let parent = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent)?;
    let draft = tempfile::NamedTempFile::new_in(parent)?;
    fs::write(draft.path(), content)?;
    draft.persist(path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_told_apart_by_where_they_end() {
        assert_ne!(digest(["ab", "c"]), digest(["a", "bc"]));
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join("x"), b"abc").unwrap();
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest_of_file(&dir.path().join("x")).unwrap(), known);
    }

    #[test]
    fn a_directory_is_there_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let fail = |draft: &Path| fs::write(draft.join("half"), "").and_then(|()| Err(io::Error::other("full")));
        assert!(make(&path, fail).is_err());
        assert_eq!(fs::read_dir(dir.path().join("a")).unwrap().count(), 0);
        make(&path, |draft| fs::write(draft.join("x"), "1")).unwrap();
        make(&path, |_| -> io::Result<()> { panic!("it is there") }).unwrap();
        assert_eq!(fs::read_to_string(path.join("x")).unwrap(), "1");
    }
}
