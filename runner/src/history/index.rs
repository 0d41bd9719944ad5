//! The index: a row for each run and for each cell in it.

use super::timeline::{Entry, Group, Timeline};
use crate::judge::Verdict;
use crate::report::CellVerdict;
use crate::results::{self, Header, ResultsError};
use rusqlite::{Connection, Row, Transaction, params};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Version of the tables. An index of another one is made anew.
const VERSION: i32 = 2;
/// The tables. A run is known again by `stamp`, which changes whenever one of its files does.
const TABLES: &str = "
    CREATE TABLE runs (
        id INTEGER PRIMARY KEY,
        path TEXT NOT NULL UNIQUE,
        stamp TEXT NOT NULL,
        started TEXT NOT NULL,
        suite TEXT NOT NULL,
        cpu TEXT NOT NULL,
        machine TEXT NOT NULL,
        kvm TEXT NOT NULL,
        series TEXT NOT NULL,
        setup TEXT NOT NULL,
        host TEXT NOT NULL,
        kernel TEXT NOT NULL,
        policy TEXT
    ) STRICT;
    CREATE TABLE cells (
        run INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
        cell TEXT NOT NULL,
        verdict TEXT NOT NULL,
        reason TEXT NOT NULL,
        micros INTEGER
    ) STRICT;
    CREATE INDEX by_cell ON cells (cell);
    CREATE INDEX by_run ON cells (run);
";
/// All that is asked: a cell in a run, those of one timeline one after the other, oldest first.
const ENTRIES: &str = "
    SELECT cell, cpu, machine, kvm, series, setup, policy, path, started, host, kernel, verdict, reason, micros
    FROM cells JOIN runs ON runs.id = cells.run
    ORDER BY cell, cpu, machine, kvm, series, setup, policy, started, path
";

/// Where runs are from, in the columns in which [`ENTRIES`] has that.
const GROUPS: &str = "SELECT DISTINCT '', cpu, machine, kvm, series, setup, policy FROM runs";

/// The facts that are the CPU's as the kernel lets KVM see it.
const OF_THE_CPU: [&str; 3] = ["host-hypervisor", "maxphyaddr", "self-snoop"];

/// The index cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// SQLite refuses.
    #[error("{}: cannot {what} the index; --rebuild makes it anew from the runs", path.display())]
    Sqlite {
        /// What was tried, an infinitive.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The directory of results cannot be read.
    #[error(transparent)]
    Results(#[from] ResultsError),
}

/// The index of the runs under a directory.
#[derive(Debug)]
pub struct Index {
    db: Connection,
    path: PathBuf,
}

/// What an index holds after it was brought up to date.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Synced {
    /// Runs in it.
    pub runs: usize,
    /// Runs that were read just now, because they are new or have changed.
    pub read: usize,
    /// Runs that it no longer holds, because they are gone.
    pub gone: usize,
    /// Runs that it does not hold, each with the reason.
    pub left_out: Vec<String>,
}

impl Index {
    /// Opens the index in a file, and makes it where there is none, or one of another version. With `anew` it is made anew
    /// in any case.
    ///
    /// # Errors
    /// The file cannot be used, or is no index.
    pub fn open(path: &Path, anew: bool) -> Result<Index, IndexError> {
        let error = |what| move |source| IndexError::Sqlite { what, path: path.to_owned(), source };
        if anew {
            // Where it is not there, all is well; where it cannot go, SQLite says more.
            let _ = fs::remove_file(path);
        }
        let mut db = Connection::open(path).map_err(error("open"))?;
        let version: i32 = db.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(error("read"))?;
        if version != VERSION {
            let make = |db: &mut Connection| -> rusqlite::Result<()> {
                let transaction = db.transaction()?;
                transaction.execute_batch("DROP TABLE IF EXISTS cells; DROP TABLE IF EXISTS runs;")?;
                transaction.execute_batch(TABLES)?;
                transaction.pragma_update(None, "user_version", VERSION)?;
                transaction.commit()
            };
            make(&mut db).map_err(error("make"))?;
        }
        db.pragma_update(None, "foreign_keys", true).map_err(error("use"))?;
        Ok(Index { db, path: path.to_owned() })
    }

    /// Takes in the runs under `root`, at any depth, that are new or have changed since, and lets go of those that are gone.
    ///
    /// # Errors
    /// `root` cannot be read, or the index not be written.
    pub fn sync(&mut self, root: &Path) -> Result<Synced, IndexError> {
        let path = self.path.clone();
        let error = |what| move |source| IndexError::Sqlite { what, path, source };
        let mut synced = Synced::default();
        let mut found = BTreeMap::new();
        for dir in results::all(root)? {
            let name = dir.strip_prefix(root).unwrap_or(&dir).display().to_string();
            found.insert(name, dir);
        }
        let mut update = || -> rusqlite::Result<()> {
            let transaction = self.db.transaction()?;
            let mut known: BTreeMap<String, String> = BTreeMap::new();
            {
                let mut query = transaction.prepare("SELECT path, stamp FROM runs")?;
                let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
                rows.into_iter().try_for_each(|row| row.map(|(path, stamp)| drop(known.insert(path, stamp))))?;
            }
            for (name, dir) in &found {
                let stamp = stamp(dir);
                if known.remove(name).as_ref() == Some(&stamp) {
                    continue;
                }
                transaction.execute("DELETE FROM runs WHERE path = ?1", [name])?;
                match read(dir) {
                    Ok((header, verdicts)) => {
                        insert(&transaction, name, &stamp, &header, &verdicts)?;
                        synced.read += 1;
                    }
                    Err(why) => synced.left_out.push(why),
                }
            }
            for gone in known.keys() {
                transaction.execute("DELETE FROM runs WHERE path = ?1", [gone])?;
                synced.gone += 1;
            }
            let runs: i64 = transaction.query_row("SELECT count(*) FROM runs", [], |row| row.get(0))?;
            synced.runs = runs.max(0) as usize;
            transaction.commit()
        };
        update().map_err(error("write"))?;
        Ok(synced)
    }

    /// The ids of all cells that are in any run.
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn cells(&self) -> Result<Vec<String>, IndexError> {
        let read = || -> rusqlite::Result<Vec<String>> {
            self.db.prepare("SELECT DISTINCT cell FROM cells ORDER BY cell")?.query_map([], |row| row.get(0))?.collect()
        };
        read().map_err(|source| IndexError::Sqlite { what: "read", path: self.path.clone(), source })
    }

    /// Where there are runs from.
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn groups(&self) -> Result<Vec<Group>, IndexError> {
        let read = || -> rusqlite::Result<Vec<Group>> { self.db.prepare(GROUPS)?.query_map([], group)?.collect() };
        read().map_err(|source| IndexError::Sqlite { what: "read", path: self.path.clone(), source })
    }

    /// Hands out the timelines of all cells that are `wanted`, by cell and group.
    ///
    /// # Errors
    /// The index cannot be read, or what `each` says.
    pub fn timelines<E: From<IndexError>>(
        &self,
        wanted: impl Fn(&str) -> bool,
        mut each: impl FnMut(&Timeline) -> Result<(), E>,
    ) -> Result<(), E> {
        let error = |source| IndexError::Sqlite { what: "read", path: self.path.clone(), source };
        let mut query = self.db.prepare(ENTRIES).map_err(error)?;
        let mut rows = query.query([]).map_err(error)?;
        let mut timeline: Option<Timeline> = None;
        while let Some(row) = rows.next().map_err(error)? {
            let cell: String = row.get(0).map_err(error)?;
            if !wanted(&cell) {
                continue;
            }
            let (group, entry) = (group(row).map_err(error)?, entry(row).map_err(error)?);
            match &mut timeline {
                Some(timeline) if timeline.cell == cell && timeline.group == group => timeline.entries.push(entry),
                _ => {
                    let before = timeline.replace(Timeline { cell, group, entries: vec![entry] });
                    before.iter().try_for_each(&mut each)?;
                }
            }
        }
        timeline.iter().try_for_each(each)
    }
}

/// What a run must have for the index: its header and its verdicts. Or why it does not.
fn read(dir: &Path) -> Result<(Header, Vec<CellVerdict>), String> {
    let words = |error: ResultsError| crate::execute::chain(&error);
    let verdicts = results::read_verdicts(dir).map_err(words)?;
    let header = results::read_header(dir).map_err(words)?;
    let verdicts = verdicts.ok_or_else(|| format!("{}: it has no verdicts: kvm-memtype judge {0}", dir.display()))?;
    Ok((header, verdicts))
}

/// Sizes and times of a run's files, in words: another one, if one of them was written.
fn stamp(dir: &Path) -> String {
    let mut files: Vec<String> = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let (true, Ok(it)) = (name.contains(".jsonl"), entry.metadata()) {
            files.push(format!("{name} {} {}.{:09}", it.size(), it.mtime(), it.mtime_nsec()));
        }
    }
    files.sort();
    files.join(", ")
}

fn insert(
    transaction: &Transaction<'_>,
    name: &str,
    stamp: &str,
    header: &Header,
    verdicts: &[CellVerdict],
) -> rusqlite::Result<()> {
    let host = |what: &str| header.host.get(what).map_or("unknown", String::as_str);
    let release = host("kernel").split(' ').nth(1).unwrap_or("unknown");
    let series: Vec<&str> = release.splitn(3, '.').take(2).collect();
    transaction.execute(
        "INSERT INTO runs (path, stamp, started, suite, cpu, machine, kvm, series, setup, host, kernel, policy)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        params![
            name,
            stamp,
            header.started,
            header.suite,
            host("CPU"),
            header.machine,
            host("KVM"),
            series.join("."),
            setup(header),
            header.hostname,
            release,
            header.policy
        ],
    )?;
    let run = transaction.last_insert_rowid();
    let mut insert =
        transaction.prepare("INSERT INTO cells (run, cell, verdict, reason, micros) VALUES (?1, ?2, ?3, ?4, ?5)")?;
    for verdict in verdicts {
        let micros = verdict.micros.map(|micros| i64::try_from(micros).unwrap_or(i64::MAX));
        let judgement = &verdict.judgement;
        insert.execute(params![run, verdict.cell, judgement.verdict.to_string(), judgement.reason, micros])?;
    }
    Ok(())
}

/// What stands between the settings of a host.
const BETWEEN: &str = "\n";

/// How the host is set up, besides what it is: parameters of KVM's modules, and what its CPU shows the kernel, which a command
/// line can change.
fn setup(header: &Header) -> String {
    let parameters = header.modules.parameters.iter().map(|(name, is)| format!("{name}={is}"));
    let facts = OF_THE_CPU.iter().filter_map(|&name| Some(format!("{name}={}", header.facts.get(name)?)));
    parameters.chain(facts).collect::<Vec<_>>().join(BETWEEN)
}

fn group(row: &Row<'_>) -> rusqlite::Result<Group> {
    let setup: String = row.get(5)?;
    Ok(Group {
        cpu: row.get(1)?,
        machine: row.get(2)?,
        kvm: row.get(3)?,
        kernel: row.get(4)?,
        setup: setup.split_terminator(BETWEEN).map(str::to_owned).collect(),
        policy: row.get(6)?,
    })
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let verdict: String = row.get(11)?;
    let verdict: Verdict = verdict.parse().map_err(|_| rusqlite::Error::InvalidQuery)?;
    let micros: Option<i64> = row.get(13)?;
    Ok(Entry {
        run: row.get(7)?,
        started: row.get(8)?,
        host: row.get(9)?,
        kernel: row.get(10)?,
        verdict,
        reason: row.get(12)?,
        micros: micros.map(|micros| micros.max(0) as u64),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::Judgement;
    use crate::results::{PlannedCell, Writer, write_verdicts};

    /// A run under `root` that began then, on a kernel of that release, whose cells have these verdicts.
    fn run(root: &Path, started: &str, release: &str, cells: &[(&str, Verdict)]) -> PathBuf {
        let planned = |(id, _): &(&str, Verdict)| PlannedCell {
            id: (*id).to_owned(),
            vm: Default::default(),
            points: 0,
            run: None,
        };
        let header = Header {
            started: started.to_owned(),
            host: [("kernel".to_owned(), format!("Linux {release} #1"))].into(),
            cells: cells.iter().map(planned).collect(),
            ..Header::default()
        };
        let writer = Writer::create(root, &header).unwrap();
        judge(writer.dir(), cells);
        writer.dir().to_owned()
    }

    fn judge(dir: &Path, cells: &[(&str, Verdict)]) {
        let verdict = |&(cell, verdict): &(&str, Verdict)| CellVerdict {
            cell: cell.to_owned(),
            micros: Some(5),
            broken: false,
            judgement: Judgement::new(verdict, format!("it is {verdict}")),
        };
        write_verdicts(dir, cells.iter().map(verdict)).unwrap();
    }

    /// What the index says, a line each.
    fn told(index: &Index) -> Vec<String> {
        let mut lines = Vec::new();
        let each = |timeline: &Timeline| -> Result<(), IndexError> {
            let verdicts: Vec<String> = timeline.entries.iter().map(|entry| entry.verdict.to_string()).collect();
            lines.push(format!("{} {} {}", timeline.cell, timeline.group.kernel, verdicts.join(" ")));
            Ok(())
        };
        index.timelines(|_| true, each).unwrap();
        lines
    }

    #[test]
    fn the_index_follows_the_files() {
        use Verdict::{Fail, Pass, Skip};
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("history.sqlite");
        let deep = root.path().join("boot/of/a/kernel");
        let second = run(root.path(), "20261102T000000Z", "6.1.0-56", &[("a/1", Fail), ("a/2", Pass)]);
        let first = run(&deep, "20261101T000000Z", "6.1.0-55", &[("a/1", Pass), ("a/2", Pass)]);
        run(root.path(), "20261103T000000Z", "7.2.13", &[("a/1", Skip)]);
        let unjudged = Writer::create(root.path(), &Header::default()).unwrap().dir().to_owned();
        let mut index = Index::open(&file, false).unwrap();
        let synced = index.sync(root.path()).unwrap();
        assert_eq!((synced.runs, synced.read, synced.gone), (3, 3, 0));
        let why = format!("{}: it has no verdicts: kvm-memtype judge {0}", unjudged.display());
        assert_eq!(synced.left_out, [why]);
        assert_eq!(told(&index), ["a/1 6.1 pass fail", "a/1 7.2 skip", "a/2 6.1 pass pass"]);
        assert_eq!(index.cells().unwrap(), ["a/1", "a/2"]);

        // Nothing has changed; then a run is judged again, and one goes.
        let again = Index::open(&file, false).unwrap().sync(root.path()).unwrap();
        assert_eq!((again.runs, again.read, again.gone), (3, 0, 0));
        judge(&second, &[("a/1", Pass), ("a/2", Verdict::Xpass)]);
        fs::remove_dir_all(first).unwrap();
        let mut index = Index::open(&file, false).unwrap();
        let synced = index.sync(root.path()).unwrap();
        assert_eq!((synced.runs, synced.read, synced.gone), (2, 1, 1));
        let now = ["a/1 6.1 pass", "a/1 7.2 skip", "a/2 6.1 xpass"];
        assert_eq!(told(&index), now);

        // Anew it says the same.
        let mut index = Index::open(&file, true).unwrap();
        assert_eq!(index.sync(root.path()).unwrap().read, 2);
        assert_eq!(told(&index), now);
    }

    #[test]
    fn a_file_that_is_no_index_is_said_and_another_version_made_anew() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("history.sqlite");
        fs::write(&file, "no database at all, but longer than its header would be: ".repeat(20)).unwrap();
        let error = Index::open(&file, false).unwrap_err().to_string();
        let wanted = format!("{}: cannot read the index; --rebuild makes it anew from the runs", file.display());
        assert_eq!(error, wanted);
        drop(Index::open(&file, true).unwrap());
        Connection::open(&file).unwrap().pragma_update(None, "user_version", VERSION + 1).unwrap();
        run(root.path(), "20261101T000000Z", "6.1.0-55", &[("a/1", Verdict::Pass)]);
        let mut index = Index::open(&file, false).unwrap();
        assert_eq!(index.sync(root.path()).unwrap().read, 1);
    }
}
