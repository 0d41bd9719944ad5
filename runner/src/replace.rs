//! Files that are replaced at once: whoever reads one sees all of the old one or all of the new one.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process;

/// Has `write` write the file at `path`, under another name in the same directory until it is whole and on the disk. A
/// link is followed.
///
/// # Errors
/// The system refuses, or there is something at `path` that is no regular file. A file that was there is as it was.
pub fn replace(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> io::Result<()> {
    // A link such as /dev/stdout must not become a file.
    let path = match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
        real => real?,
    };
    if fs::metadata(&path).is_ok_and(|there| !there.is_file()) {
        return Err(io::Error::other("it is there, and is no regular file"));
    }
    let draft = draft(&path)?;
    let written = whole(&draft, write).and_then(|()| fs::rename(&draft, &path));
    if written.is_err() {
        // It may not be there; the first error says what is wrong.
        let _ = fs::remove_file(&draft);
    }
    written
}

fn whole(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    write(&mut file)?;
    file.flush()?;
    file.get_ref().sync_all()
}

/// The name until then: one that no other process has, and whose ending nobody looks for.
fn draft(path: &Path) -> io::Result<PathBuf> {
    let mut name = path.file_name().ok_or_else(|| io::Error::other("it is no name of a file"))?.to_owned();
    name.push(format!(".{}", process::id()));
    Ok(path.with_file_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_cannot_be_written_leaves_what_was_there_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("report.xml");
        replace(&path, |file| file.write_all(b"whole")).unwrap();
        let error = replace(&path, |file| file.write_all(b"ha").and(Err(io::Error::other("lost")))).unwrap_err();
        assert_eq!(error.to_string(), "lost");
        assert_eq!(fs::read_to_string(&path).unwrap(), "whole");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(replace(&dir.path().join("no/report.xml"), |_| Ok(())).is_err());
    }

    #[test]
    fn what_is_no_file_stays_and_a_link_stays_a_link() {
        let dir = tempfile::tempdir().unwrap();
        for there in [dir.path(), Path::new("/dev/null"), Path::new("/")] {
            let error = replace(there, |file| file.write_all(b"new")).unwrap_err();
            assert_eq!(error.to_string(), "it is there, and is no regular file", "{}", there.display());
        }
        let [file, link] = ["file", "link"].map(|name| dir.path().join(name));
        fs::write(&file, "old").unwrap();
        symlink(&file, &link).unwrap();
        replace(&link, |file| file.write_all(b"new")).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
    }
}
