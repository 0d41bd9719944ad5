//! Writing and reading the verdicts of a run.

use super::{ResultsError, VERDICTS, format, write};
use crate::replace::replace;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Writes `verdicts.jsonl` of a run, one verdict a line. A file of that name is replaced at once: whoever reads it sees
/// all of the one or all of the other.
///
/// # Errors
/// The system refuses; an earlier file is as it was.
pub fn write_verdicts<T: Serialize>(dir: &Path, verdicts: impl IntoIterator<Item = T>) -> Result<(), ResultsError> {
    let path = dir.join(VERDICTS);
    let lines =
        |file: &mut BufWriter<File>| verdicts.into_iter().try_for_each(|it| file.write_all(&format::line(&it)?));
    replace(&path, lines).map_err(ResultsError::io("write", &path))?;
    write::sync(dir)
}

/// Reads `verdicts.jsonl` of a run; nothing if there is none, as in a run that was killed.
///
/// # Errors
/// It cannot be read, or a line is not what it should be.
pub fn read_verdicts<T: DeserializeOwned>(dir: &Path) -> Result<Option<Vec<T>>, ResultsError> {
    let path = dir.join(VERDICTS);
    let bytes = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        bytes => bytes.map_err(ResultsError::io("read", &path))?,
    };
    verdict_lines(&path, &bytes).map(Some)
}

/// The verdicts in what the file at `path` has in it.
///
/// # Errors
/// A line is not what it should be.
pub fn verdict_lines<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<Vec<T>, ResultsError> {
    let lines = bytes.split_inclusive(|&byte| byte == b'\n');
    (1..).zip(lines).map(|(number, line)| format::value(path, number, line)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_replace_those_before_and_leave_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        for (verdicts, text) in [(vec!["pass", "fail\n"], "\"pass\"\n\"fail\\n\"\n"), (vec![], "")] {
            write_verdicts(dir.path(), verdicts).unwrap();
            assert_eq!(fs::read_to_string(dir.path().join(VERDICTS)).unwrap(), text);
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn verdicts_that_cannot_be_written_leave_those_before() {
        let dir = tempfile::tempdir().unwrap();
        write_verdicts(dir.path(), ["pass"]).unwrap();
        // JSON has no keys but strings.
        let bad = std::collections::BTreeMap::from([(vec![1], 2)]);
        let error = write_verdicts(dir.path(), [bad]).unwrap_err();
        assert_eq!(error.to_string(), format!("{}: cannot write it", dir.path().join(VERDICTS).display()));
        assert_eq!(fs::read_to_string(dir.path().join(VERDICTS)).unwrap(), "\"pass\"\n");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
