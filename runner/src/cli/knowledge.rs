//! What the runner knows before it runs anything: configurations and the guests' tests.

use super::args::{Cells, Judging};
use crate::config::{ConfigError, Set};
use crate::guests;
use crate::judge::Deviations;
use crate::model::policy::Policies;
use crate::plan::shard::Part;
use crate::plan::suite::Suite;
use crate::plan::vm::VmConfig;
use crate::plan::{Plan, TestRef};
use crate::results::{self, CellOutcome, Run};
use std::collections::BTreeMap;
use std::path::Path;

/// All configurations, and all tests.
#[derive(Debug)]
pub struct Knowledge {
    /// The files.
    pub set: Set,
    /// VM configurations by id.
    pub vms: BTreeMap<String, VmConfig>,
    /// The tests that the guests list.
    pub tests: Vec<TestRef>,
}

impl Knowledge {
    /// The built-in configurations, with those of a directory laid over them.
    ///
    /// # Errors
    /// A mistake in a configuration, or a guest that does not list its tests.
    pub fn load(dir: Option<&Path>) -> Result<Self, super::Failure> {
        let set = Set::load(dir)?;
        let vms = VmConfig::all(&set)?;
        Ok(Knowledge { vms, tests: guests::tests()?, set })
    }

    /// The policies, and the deviations that excuse.
    ///
    /// # Errors
    /// A mistake in one of them.
    pub fn models(&self, judging: Judging) -> Result<(Policies, Deviations), ConfigError> {
        let sources = |kind| self.set.sources(kind).map(|(_, source)| source);
        let deviations =
            Deviations::load(sources("deviations"), &self.tests.iter().map(TestRef::id).collect::<Vec<_>>())?;
        let deviations = if judging.no_deviations { Deviations::none() } else { deviations };
        Ok((Policies::load(sources("policies"))?, deviations))
    }

    /// The suite of that id, and its cells that the filters pick.
    ///
    /// # Errors
    /// No such suite, a mistake in it, or a filter that picks nothing.
    pub fn plan(&self, suite: &str, filters: &[String]) -> Result<(Suite, Plan), ConfigError> {
        let suite = Suite::read(self.set.source("suites", "suite", suite)?)?;
        let plan = Plan::new(&suite, &self.tests, &self.vms, filters)?;
        Ok((suite, plan))
    }

    /// The part of a plan that is asked for, if one is.
    ///
    /// # Errors
    /// The run by which parts are to be balanced cannot be read.
    pub fn part(&self, results: &Path, cells: &Cells, plan: &Plan) -> Result<Option<(Part, Plan)>, super::Failure> {
        let Some(part) = cells.shard else { return Ok(None) };
        let mut times = BTreeMap::new();
        if let Some(run) = &cells.balance {
            for result in Run::read(&results::find(results, run)?)?.results {
                if let CellOutcome::Observed(observed) = result.outcome {
                    times.insert(result.cell, observed.micros);
                }
            }
        }
        Ok(Some((part, Plan { cells: part.of(&plan.cells, &times) })))
    }
}
