//! Suites: which tests run on which VM configurations, by patterns.

use super::pattern::{Patterns, matches};
use crate::config::{self, ConfigError, Source};
use crate::witness::Kind;
use serde::Deserialize;

/// A suite, a file under `configs/suites`; its id is the file's name.
#[derive(Debug, Clone)]
pub struct Suite {
    /// Its id.
    pub id: String,
    /// One line that says what it is for.
    pub summary: String,
    /// Witnesses that watch, besides those that always do, as far as the host allows.
    pub witnesses: Vec<Kind>,
    blocks: Vec<Block>,
    source: Source,
}

/// What is in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    summary: String,
    #[serde(default)]
    witnesses: Vec<Kind>,
    cells: Vec<Block>,
}

/// Each of the tests on each of the VM configurations.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Block {
    /// Patterns over `family/test`.
    tests: Patterns,
    /// Patterns over ids of VM configurations.
    vms: Patterns,
}

impl Suite {
    /// Reads a suite. Whether its patterns match anything is seen only when a plan is made.
    ///
    /// # Errors
    /// The first mistake in it.
    pub fn read(source: &Source) -> Result<Suite, ConfigError> {
        let File { summary, witnesses, cells } = config::parse(source)?;
        if cells.is_empty() {
            return Err(ConfigError::file(source, "it has no cells"));
        }
        Ok(Suite { id: source.id().to_owned(), summary, witnesses, blocks: cells, source: source.clone() })
    }

    /// The pairs of a test and a VM configuration, as positions in the lists of their names, in the order of the file;
    /// in a block, in the order of the lists. A pair can come twice.
    ///
    /// # Errors
    /// A pattern that matches nothing, or no pattern at all.
    pub(super) fn pairs(&self, tests: &[String], vms: &[String]) -> Result<Vec<(usize, usize)>, ConfigError> {
        let mut pairs = Vec::new();
        for block in &self.blocks {
            let tests = matches(&self.source, &block.tests, "test", tests)?;
            let vms = matches(&self.source, &block.vms, "VM configuration", vms)?;
            pairs.extend(tests.iter().flat_map(|&test| vms.iter().map(move |&vm| (test, vm))));
        }
        Ok(pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Set;
    use crate::guests;
    use crate::plan::Plan;
    use crate::plan::vm::VmConfig;
    use std::collections::HashSet;
    use wire::needs::Needs;

    #[test]
    fn the_embedded_suites_fit_the_embedded_guests() {
        let set = Set::load(None).unwrap();
        let (tests, vms) = (guests::tests().unwrap(), VmConfig::all(&set).unwrap());
        let mut planned = HashSet::new();
        for (id, source) in set.sources("suites") {
            let suite = Suite::read(source).unwrap();
            assert_eq!(suite.id, id);
            assert!(!suite.summary.is_empty());
            let plan = Plan::new(&suite, &tests, &vms, &[]).unwrap_or_else(|error| panic!("{error}"));
            let destructive = plan.cells.iter().filter(|cell| cell.needs.has(Needs::DESTRUCTIVE)).count();
            let all = if id == "destructive" { plan.cells.len() } else { 0 };
            assert_eq!(
                destructive, all,
                "what may take a host down is in suite destructive, and nothing else is ({id})"
            );
            planned.extend(plan.cells.into_iter().map(|cell| (cell.family, cell.test)));
        }
        for test in tests {
            let id = test.id();
            assert!(planned.contains(&(test.family, test.name)), "no suite has {id}");
        }
    }
}
