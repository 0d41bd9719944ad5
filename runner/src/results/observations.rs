//! The file of observations in a run's directory: plain while the run can go on, compressed where it is kept.

use super::ResultsError;
use flate2::read::MultiGzDecoder;
use std::fs::{self, File};
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

/// The file in `dir` and what is in it. The plain one goes first where there are both.
///
/// # Errors
/// The file cannot be read, or what is in the compressed one is damaged or too much.
pub(super) fn read(dir: &Path) -> Result<(PathBuf, Vec<u8>), ResultsError> {
    let (plain, compressed) = (dir.join(OBSERVATIONS), dir.join(COMPRESSED));
    if plain.is_file() || !compressed.is_file() {
        let bytes = fs::read(&plain).map_err(ResultsError::io("read", &plain))?;
        return Ok((plain, bytes));
    }
    let bytes = unpack(&compressed).map_err(ResultsError::io("read", &compressed))?;
    Ok((compressed, bytes))
}

/// The first line of the file in `dir`, with its line feed if it has one. The rest is not read.
///
/// # Errors
/// As for [`read`].
pub(super) fn first_line(dir: &Path) -> Result<(PathBuf, Vec<u8>), ResultsError> {
    let (plain, compressed) = (dir.join(OBSERVATIONS), dir.join(COMPRESSED));
    let path = if plain.is_file() || !compressed.is_file() { plain } else { compressed.clone() };
    let read = || -> io::Result<Vec<u8>> {
        let (file, mut line) = (File::open(&path)?, Vec::new());
        let file: Box<dyn Read> =
            if path == compressed { Box::new(MultiGzDecoder::new(file).take(MOST)) } else { Box::new(file) };
        BufReader::new(file).read_until(b'\n', &mut line)?;
        Ok(line)
    };
    let line = read().map_err(ResultsError::io("read", &path))?;
    Ok((path, line))
}

fn unpack(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut gzip = MultiGzDecoder::new(File::open(path)?).take(MOST);
    gzip.read_to_end(&mut bytes)?;
    if gzip.limit() == 0 { Err(io::Error::other(format!("it holds more than {MOST} bytes"))) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;

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
