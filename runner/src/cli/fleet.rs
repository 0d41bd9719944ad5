//! `fleet`: the jobs of a lab of many machines.

use super::args::{Cli, Fleet, FleetVerb};
use super::out::stdout;
use super::{Done, Failure};
use crate::config::{ConfigError, Set, Source};
use crate::fleet;
use crate::report::Outcome;
use std::fs;
use std::io::Write;
use std::path::Path;

/// `fleet plan`: writes a LAVA job for each host, kernel and shard, and prints where they are.
pub fn fleet(cli: &Cli, args: &Fleet) -> Done {
    let FleetVerb::Plan { file, output } = &args.verb;
    let set = Set::load(cli.config.as_deref())?;
    let suites: Vec<&str> = set.sources("suites").map(|(id, _)| id).collect();
    let read = |source| ConfigError::Read { path: file.clone(), source };
    let source = Source { name: file.display().to_string(), text: fs::read_to_string(file).map_err(read)? };
    let fleet = fleet::Fleet::read(&source, &suites)?;
    fs::create_dir_all(output).map_err(|error| cannot("make", output, &error))?;
    for job in fleet.jobs() {
        let path = output.join(format!("{}.yaml", job.name));
        fs::write(&path, job.definition.to_string()).map_err(|error| cannot("write", &path, &error))?;
        writeln!(stdout(), "{}", path.display())?;
    }
    Ok(Outcome::AsExpected)
}

fn cannot(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::Broken(format!("cannot {what} {}: {error}", path.display()))
}
