//! The directories of runs: their names, and finding one.

use super::observations::is_run;
use super::{Header, ResultsError};
use crate::config::names;
use std::cmp::Reverse;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The word that stands for the newest run.
const LATEST: &str = "latest";

/// Makes the directory `<UTC time>-<machine>-<suite>` under `root`; where there is one, that with `-2` and so on.
pub(super) fn make(root: &Path, header: &Header) -> Result<PathBuf, ResultsError> {
    let name = format!("{}-{}-{}", header.started, header.machine, header.suite);
    let mut dir = root.join(&name);
    for number in 2.. {
        match fs::create_dir(&dir) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => dir = root.join(format!("{name}-{number}")),
            result => {
                result.map_err(ResultsError::io("create", &dir))?;
                break;
            }
        }
    }
    Ok(dir)
}

/// The directories of a run's repetitions: `dir`, in which the first is, and those of the others in there. Only `dir`
/// of a run that was done once.
pub fn repetitions(dir: &Path) -> Vec<PathBuf> {
    let others = (2..).map(|number| repetition(dir, number)).take_while(|dir| is_run(dir));
    std::iter::once(dir.to_owned()).chain(others).collect()
}

/// Where repetition `number` of a run is, from 2.
pub(super) fn repetition(dir: &Path, number: usize) -> PathBuf {
    dir.join(number.to_string())
}

/// The directory of the run that somebody means by `run`: `latest`, a name under `root`, or a path.
///
/// # Errors
/// There is no such run, or `root` cannot be read.
pub fn find(root: &Path, run: &str) -> Result<PathBuf, ResultsError> {
    let named = [root.join(run), PathBuf::from(run)].into_iter().filter(|_| run != LATEST).find(|dir| is_run(dir));
    if let Some(dir) = named {
        return Ok(dir);
    }
    let known = runs(root)?;
    match (run, known.first()) {
        (LATEST, Some(name)) => Ok(root.join(name)),
        (LATEST, None) => {
            Err(ResultsError::NoRun(format!("no run is in {}: start one with `kvm-memtype run`", root.display())))
        }
        _ => {
            let hint = names::hint(run, known.iter().map(String::as_str).chain([LATEST]));
            Err(ResultsError::NoRun(format!("no run `{run}` is in {}{hint}", root.display())))
        }
    }
}

/// Names of the runs under `root`, newest first. None if `root` is not there.
///
/// # Errors
/// `root` cannot be read.
pub fn runs(root: &Path) -> Result<Vec<String>, ResultsError> {
    let error = ResultsError::io("read", root);
    let entries = match fs::read_dir(root) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(&error)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(&error)?;
        if let Ok(name) = entry.file_name().into_string()
            && is_run(&entry.path())
        {
            names.push(name);
        }
    }
    names.sort_by(|a, b| age(a).cmp(&age(b)));
    Ok(names)
}

/// The directories of all runs under `root`, at any depth, sorted. None if `root` is not there.
///
/// # Errors
/// `root`, or a directory in it, cannot be read.
pub fn all(root: &Path) -> Result<Vec<PathBuf>, ResultsError> {
    let (mut found, mut left) = (Vec::new(), vec![root.to_owned()]);
    while let Some(dir) = left.pop() {
        let error = ResultsError::io("read", &dir);
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            entries => entries.map_err(&error)?,
        };
        for entry in entries {
            let entry = entry.map_err(&error)?;
            // Not of what a link points to, which may be a circle.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                left.push(entry.path());
            }
        }
        found.extend(is_run(&dir).then(|| dir.clone()));
    }
    found.sort();
    Ok(found)
}

/// Orders names of runs, newest first: by time, then by the number that tells runs of one second apart. A directory
/// that somebody named otherwise counts as oldest.
fn age(name: &str) -> Reverse<(&str, u32, &str)> {
    let (time, rest) = name.split_once('-').filter(|(time, _)| is_time(time)).unwrap_or_default();
    let number = rest.rsplit('-').next().and_then(|number| number.parse().ok()).unwrap_or(1);
    Reverse((time, number, name))
}

/// Whether this is a time as [`utc`](super::utc) writes it.
fn is_time(text: &str) -> bool {
    text.len() == 16 && text.starts_with(|c: char| c.is_ascii_digit()) && text.ends_with('Z')
}

#[cfg(test)]
mod tests {
    use super::super::observations::OBSERVATIONS;
    use super::*;

    fn root(runs: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for run in runs {
            fs::create_dir_all(root.path().join(run)).unwrap();
            fs::write(root.path().join(run).join(OBSERVATIONS), "").unwrap();
        }
        root
    }

    #[test]
    fn the_latest_run_is_the_newest_whatever_its_number() {
        let old = ["reference", "20251120T110000Z-kvm-default-11", "20251120T110001Z-kvm-default", "zzz"];
        let newer =
            ["20251120T110001Z-kvm-default-2", "20251120T110001Z-kvm-default-9", "20251120T110001Z-kvm-default-10"];
        let root = root(&[&old[..], &newer[..]].concat());
        fs::create_dir(root.path().join("20991120T110001Z-kvm-nothing-in-it")).unwrap();
        let latest = || find(root.path(), LATEST).unwrap().file_name().unwrap().to_string_lossy().into_owned();
        for name in newer.iter().rev().chain([&old[2], &old[1], &old[3], &old[0]]) {
            assert_eq!(latest(), *name);
            fs::remove_dir_all(root.path().join(name)).unwrap();
        }
        let error = find(root.path(), LATEST).unwrap_err().to_string();
        assert_eq!(error, format!("no run is in {}: start one with `kvm-memtype run`", root.path().display()));
    }

    #[test]
    fn repetitions_are_in_the_directory_of_the_first() {
        let root = root(&["once", "twice", "twice/2", "twice/4", "twice/x"]);
        let dir = |name: &str| root.path().join(name);
        assert_eq!(repetitions(&dir("once")), [dir("once")]);
        assert_eq!(repetitions(&dir("twice")), [dir("twice"), dir("twice/2")]);
        assert_eq!(find(root.path(), "twice/2").unwrap(), dir("twice/2"));
    }

    #[test]
    fn all_runs_are_found_at_any_depth() {
        let root = root(&["b", "b/2", "boot/default", "a"]);
        std::os::unix::fs::symlink(root.path(), root.path().join("circle")).unwrap();
        fs::create_dir(root.path().join("empty")).unwrap();
        let dir = |name: &str| root.path().join(name);
        assert_eq!(all(root.path()).unwrap(), ["a", "b", "b/2", "boot/default"].map(dir));
        assert!(all(&dir("nowhere")).unwrap().is_empty());
    }

    #[test]
    fn a_run_is_found_by_name_and_by_path() {
        let (root, other) = (root(&["20251120T110000Z-kvm-smoke"]), root(&["elsewhere"]));
        let run = root.path().join("20251120T110000Z-kvm-smoke");
        let elsewhere = other.path().join("elsewhere");
        assert_eq!(find(root.path(), "20251120T110000Z-kvm-smoke").unwrap(), run);
        assert_eq!(find(root.path(), elsewhere.to_str().unwrap()).unwrap(), elsewhere);
        let error = find(root.path(), "20251120T110000Z-kvm-smok").unwrap_err().to_string();
        let wanted = "no run `20251120T110000Z-kvm-smok` is in ROOT, did you mean `20251120T110000Z-kvm-smoke`?";
        assert_eq!(error, wanted.replace("ROOT", root.path().to_str().unwrap()));
        assert!(matches!(find(&root.path().join("nowhere"), "x"), Err(ResultsError::NoRun(_))));
    }
}
