//! Reads the cells of a run and looks at them on all CPUs, a few at a time, so that a run of any size fits into memory.

use super::cell::{Found, Looker};
use crate::results::{RawLine, ResultsError, Stream};
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex};
use std::thread;

/// Cells that are handed over at a time.
const BATCH: usize = 64;
/// Batches that wait for somebody, for each thread.
const WAITING: usize = 4;

/// Some lines of a file, and which of all batches they are.
struct Batch<T> {
    number: usize,
    of: Vec<T>,
}

/// Looks at each cell of the run that `stream` reads and gives what was found, with the number of its line, in the file's
/// order.
///
/// # Errors
/// A line cannot be read, or `take` does not want it: the first of these errors, in the file's order.
pub fn gather(
    stream: &mut Stream,
    looker: &Looker<'_>,
    mut take: impl FnMut(usize, Found) -> Result<(), ResultsError>,
) -> Result<(), ResultsError> {
    let threads = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN).get();
    let path = stream.path().to_owned();
    let (lines, to_look) = mpsc::sync_channel(WAITING * threads);
    let (looked, founds) = mpsc::sync_channel(WAITING * threads);
    // Nobody but those who look may keep it: when they are gone, nobody hands out lines any more.
    let to_look = Arc::new(Mutex::new(to_look));
    thread::scope(|scope| {
        let failed = looked.clone();
        scope.spawn(move || read(stream, &lines, &failed));
        for _ in 0..threads {
            let (path, to_look, looked) = (&path, to_look.clone(), looked.clone());
            scope.spawn(move || look(path, looker, &to_look, &looked));
        }
        drop((looked, to_look));
        // Batches come as they are done. The first that is missing keeps the others waiting.
        let (mut early, mut due) = (BTreeMap::new(), 0);
        for Batch { number, of } in founds {
            early.insert(number, of);
            while let Some(batch) = early.remove(&due) {
                due += 1;
                for found in batch {
                    let (line, found) = found?;
                    take(line, found)?;
                }
            }
        }
        Ok(())
    })
}

type Looked = Result<(usize, Found), ResultsError>;

/// Hands out the lines. Nobody listens any more where the report was given up.
fn read(stream: &mut Stream, lines: &SyncSender<Batch<RawLine>>, failed: &SyncSender<Batch<Looked>>) {
    for number in 0.. {
        let mut of = Vec::with_capacity(BATCH);
        let error = loop {
            match stream.line() {
                Ok(Some(line)) => of.push(line),
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
            if of.len() == BATCH {
                break None;
            }
        };
        let last = of.len() < BATCH;
        if lines.send(Batch { number, of }).is_err() {
            return;
        }
        if let Some(error) = error {
            let _ = failed.send(Batch { number: number + 1, of: vec![Err(error)] });
        }
        if last {
            return;
        }
    }
}

/// Looks at cells until there are no more.
fn look(path: &Path, looker: &Looker<'_>, lines: &Mutex<Receiver<Batch<RawLine>>>, looked: &SyncSender<Batch<Looked>>) {
    let next = || lines.lock().ok()?.recv().ok();
    while let Some(Batch { number, of }) = next() {
        let founds = of.into_iter().map(|line| Ok((line.number, looker.look(&line.result(path)?)))).collect();
        if looked.send(Batch { number, of: founds }).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::cell::Keep;
    use super::*;
    use crate::judge::{Deviations, Judge, Verdict};
    use crate::model::policy::Policies;
    use crate::report::Cells;
    use std::fs;

    const HEADER: &str = r#"{"format":4,"header":{"run":"1","started":"","version":"","guests":{},"machine":"kvm","suite":"s",
        "filters":[],"facts":{},"host":{},"witnesses":[],"cells":[]}}"#;

    /// Gives the cells of a file with these lines in order, up to one more than `most`, where it is given up.
    fn gathered(lines: &[String], most: usize) -> (Vec<String>, Result<(), String>) {
        let dir = tempfile::tempdir().unwrap();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let text = format!("{}\n{}\n", HEADER.replace('\n', " "), lines.join("\n"));
        fs::write(dir.path().join("observations.jsonl"), text).unwrap();
        let (header, mut stream) = Stream::open(dir.path()).unwrap();
        let (policies, deviations) = (Policies::load([]).unwrap(), Deviations::none());
        let judge = Judge::new(&policies, &deviations);
        let looker = Looker { judge, cells: &Cells::new(&header), written: None, keep: Keep::All };
        let mut cells = Vec::new();
        let done = gather(&mut stream, &looker, |line, found| {
            assert_eq!((found.verdict.judgement.verdict, line), (Verdict::Skip, cells.len() + 2));
            if cells.len() == most {
                return Err(ResultsError::NoRun("enough".into()));
            }
            cells.push(found.verdict.cell);
            Ok(())
        });
        let said = |error: ResultsError| error.to_string().rsplit('/').next().unwrap_or_default().to_owned();
        (cells, done.map_err(said))
    }

    fn skips(count: usize) -> Vec<String> {
        (0..count).map(|n| format!(r#"{{"cell":"{n}","outcome":{{"skip":"no"}}}}"#)).collect()
    }

    #[test]
    fn all_cells_come_in_the_order_of_the_file() {
        for count in [1, BATCH - 1, BATCH, BATCH + 1, 20 * BATCH] {
            let (cells, done) = gathered(&skips(count), usize::MAX);
            assert_eq!((cells, done), ((0..count).map(|n| n.to_string()).collect(), Ok(())));
        }
    }

    #[test]
    fn an_error_ends_it_wherever_it_is() {
        let many = 100 * BATCH;
        assert_eq!(gathered(&skips(many), 3).1, Err("enough".into()));
        let mut lines = skips(many);
        lines[BATCH + 1] = "{".into();
        let (cells, done) = gathered(&lines, usize::MAX);
        assert_eq!(cells.len(), BATCH + 1);
        assert!(done.unwrap_err().starts_with(&format!("observations.jsonl:{}: ", BATCH + 3)));
    }
}
