//! Boots for a table that has a column for each.

use super::args::{Booting, Lab, Run};
use super::{Failure, Outcome, run};
use crate::results;
use std::fs;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Runs a suite, with arguments, in each of these kernels, in a directory of its own under that of results, and gives what each left.
pub fn boot(
    lab: &Lab,
    kernels: Vec<String>,
    (suite, arguments): (&str, &[String]),
    jobs: Option<NonZeroUsize>,
    booting: &Booting,
    table: &str,
) -> Result<(Outcome, Vec<PathBuf>), Failure> {
    let mut booting = booting.clone();
    let now = kvm_memtype::results::utc(SystemTime::now());
    booting.results = booting.results.join(format!("{now}-{table}"));
    let dir = booting.results.clone();
    let outcome = run::run(lab, &Run::of(kernels, suite, arguments, jobs, booting))?;
    let boots = entries(&dir).map_err(|error| Failure::Broken(format!("{}: {error}", dir.display())))?;
    anstream::println!();
    Ok((outcome, boots))
}

/// What heads the column of a boot.
pub fn name(boot: &Path) -> String {
    results::variant(boot).unwrap_or_else(|| boot.display().to_string())
}

/// What is in a directory, sorted.
pub fn entries(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths: Vec<PathBuf> = fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    paths.sort();
    Ok(paths)
}
