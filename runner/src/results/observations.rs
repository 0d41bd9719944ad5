//! The file of observations in a run's directory: plain while the run can go on, compressed where it is kept.

use super::ResultsError;
use flate2::read::MultiGzDecoder;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// Name of the file.
pub(super) const OBSERVATIONS: &str = "observations.jsonl";
/// Its name once `gzip` was run on it, as for results that are committed.
const COMPRESSED: &str = "observations.jsonl.gz";
/// The most that a compressed file may hold, in bytes: a small file must not fill the memory.
const MOST: u64 = 1 << 30;

/// Whether there are observations in `dir`, which makes it a run's.
pub(super) fn is_run(dir: &Path) -> bool {
    dir.join(OBSERVATIONS).is_file() || dir.join(COMPRESSED).is_file()
}

/// The file in `dir`, and what is in it. The plain one goes first where there are both.
///
/// # Errors
/// The file cannot be opened. Reading fails where what is in a compressed one is damaged or too much.
pub(super) fn open(dir: &Path) -> Result<(PathBuf, Box<dyn BufRead + Send>), ResultsError> {
    let (plain, compressed) = (dir.join(OBSERVATIONS), dir.join(COMPRESSED));
    let is_packed = !plain.is_file() && compressed.is_file();
    let path = if is_packed { compressed } else { plain };
    let file = File::open(&path).map_err(ResultsError::io("read", &path))?;
    let lines: Box<dyn BufRead + Send> = match is_packed {
        true => Box::new(BufReader::new(Bounded { inner: MultiGzDecoder::new(file), left: MOST })),
        false => Box::new(BufReader::with_capacity(1 << 16, file)),
    };
    Ok((path, lines))
}

/// A reader of at most so many bytes, that does not pass more of them over in silence.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        let left = self.left.checked_sub(read as u64);
        self.left = left.ok_or_else(|| io::Error::other(format!("it holds more than {MOST} bytes")))?;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::fs;
    use std::io::Write;

    fn read(dir: &Path) -> Result<(PathBuf, Vec<u8>), ResultsError> {
        let (path, mut lines) = open(dir)?;
        let mut bytes = Vec::new();
        lines.read_to_end(&mut bytes).map_err(ResultsError::io("read", &path))?;
        Ok((path, bytes))
    }

    #[test]
    fn too_much_is_said() {
        let mut reader = Bounded { inner: &b"four"[..], left: 3 };
        assert!(reader.read_to_end(&mut Vec::new()).unwrap_err().to_string().starts_with("it holds more than"));
        assert_eq!(Bounded { inner: &b"four"[..], left: 4 }.read_to_end(&mut Vec::new()).unwrap(), 4);
    }

    #[test]
    fn a_compressed_file_is_read_where_there_is_no_plain_one() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_run(dir.path()));
        assert!(read(dir.path()).unwrap_err().to_string().ends_with("observations.jsonl: cannot read it"));
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(b"kept\n").unwrap();
        let mut packed = gzip.finish().unwrap();
        let (plain, compressed) = (dir.path().join(OBSERVATIONS), dir.path().join(COMPRESSED));
        fs::write(&compressed, &packed).unwrap();
        assert!(is_run(dir.path()));
        assert_eq!(read(dir.path()).unwrap(), (compressed.clone(), b"kept\n".to_vec()));
        packed.truncate(packed.len() - 4);
        fs::write(&compressed, &packed).unwrap();
        assert!(read(dir.path()).unwrap_err().to_string().ends_with("observations.jsonl.gz: cannot read it"));
        fs::write(&plain, b"goes on\n").unwrap();
        assert_eq!(read(dir.path()).unwrap(), (plain, b"goes on\n".to_vec()));
    }
}
