//! Cells: one test in one VM configuration each.

use super::pattern::fits;
use super::suite::Suite;
use super::vm::VmConfig;
use crate::config::{ConfigError, names};
use std::collections::{BTreeMap, HashSet};
use wire::needs::Needs;

/// The VM configuration whose name is left out of cell ids.
const DEFAULT_VM: &str = "default";

/// A test that a guest has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestRef {
    /// The family, which is the guest's name.
    pub family: String,
    /// The test's name within its family.
    pub name: String,
    /// One line that says what the test does.
    pub summary: String,
    /// What it needs of the machine.
    pub needs: Needs,
    /// The least number of points that it makes, as [`wire::entry::TestEntry`] counts them.
    pub points: u64,
}

impl TestRef {
    /// `family/test`.
    pub fn id(&self) -> String {
        format!("{}/{}", self.family, self.name)
    }
}

/// One test in one VM configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// `family/test` in the VM configuration `default`, else `family/test@vm`.
    pub id: String,
    /// The family, which is the guest's name.
    pub family: String,
    /// The test's name within its family.
    pub test: String,
    /// One line that says what the test does.
    pub summary: String,
    /// What the test needs of the machine.
    pub needs: Needs,
    /// The least number of points that the test makes.
    pub points: u64,
    /// Id of the VM configuration.
    pub vm: String,
    /// The VM configuration.
    pub config: VmConfig,
}

/// What is to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The cells, each once, in the order of the suite; in a block of it, in that of `tests`, then of the VM
    /// configurations' ids.
    pub cells: Vec<Cell>,
}

impl Plan {
    /// The cells of a suite that any of the filters picks; all of them where there is no filter. A filter is the id of
    /// a cell, which picks that cell, or else a pattern over ids (with `*`) or a part of ids (without).
    ///
    /// # Errors
    /// A pattern in the suite or a filter that picks nothing, with the nearest name.
    pub fn new(
        suite: &Suite,
        tests: &[TestRef],
        vms: &BTreeMap<String, VmConfig>,
        filters: &[String],
    ) -> Result<Plan, ConfigError> {
        let test_names: Vec<String> = tests.iter().map(TestRef::id).collect();
        let vm_ids: Vec<String> = vms.keys().cloned().collect();
        let mut seen = HashSet::new();
        let mut cells = Vec::new();
        for (test, vm) in suite.pairs(&test_names, &vm_ids)? {
            let (name, vm) = (&test_names[test], &vm_ids[vm]);
            let id = if vm == DEFAULT_VM { name.clone() } else { format!("{name}@{vm}") };
            if seen.insert(id.clone()) {
                let TestRef { family, name, summary, needs, points } = tests[test].clone();
                let config = vms[vm].clone();
                cells.push(Cell { id, family, test: name, summary, needs, points, vm: vm.clone(), config });
            }
        }
        if !filters.is_empty() {
            let picks = filters.iter().map(|filter| pick(filter, &cells)).collect::<Result<Vec<_>, _>>()?;
            let picked: HashSet<String> = picks.into_iter().flatten().collect();
            cells.retain(|cell| picked.contains(&cell.id));
        }
        Ok(Plan { cells })
    }
}

/// The ids of the cells that a filter picks.
fn pick(filter: &str, cells: &[Cell]) -> Result<Vec<String>, ConfigError> {
    let ids = picked(filter, cells.iter().map(|cell| cell.id.as_str()));
    if ids.is_empty() { Err(nothing(filter, cells)) } else { Ok(ids.into_iter().map(str::to_owned).collect()) }
}

/// Those of these ids that a filter picks: itself, if it is one of them; or else those that the pattern fits (with `*`), or
/// that have it in them (without).
pub fn picked<'a>(filter: &str, ids: impl Iterator<Item = &'a str> + Clone) -> Vec<&'a str> {
    let exact = ids.clone().any(|id| id == filter);
    let picks = |id: &&str| match exact {
        true => *id == filter,
        false if filter.contains('*') => fits(filter, id),
        false => id.contains(filter),
    };
    ids.filter(picks).collect()
}

/// The complaint about a filter that picks nothing. It names the cell of which the id or a part of it is most like the
/// filter.
fn nothing(filter: &str, cells: &[Cell]) -> ConfigError {
    let alike = |cell: &Cell| {
        let parts = [cell.id.as_str(), &cell.test, &cell.family, &cell.vm];
        names::nearest(filter, parts.into_iter()).map_or(0.0, |(_, alike)| alike)
    };
    // Of equals the first: max_by would take the last.
    let nearest = cells.iter().rev().max_by(|a, b| alike(a).total_cmp(&alike(b)));
    let nearest = nearest.map_or(String::new(), |cell| format!("; the nearest is `{}`", cell.id));
    ConfigError::Name(format!("no cell of the suite fits the filter `{filter}`{nearest}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Source;

    fn tests() -> Vec<TestRef> {
        let test = |(family, name): (&str, &str)| TestRef {
            family: family.to_owned(),
            name: name.to_owned(),
            summary: format!("does {name}"),
            needs: Needs::STEPS,
            points: 7,
        };
        [("boot", "hello"), ("mtrr-msr", "reads"), ("mtrr-msr", "variable-mask"), ("pat-msr", "bytes")].map(test).into()
    }

    fn vms() -> BTreeMap<String, VmConfig> {
        let vm = |maxphyaddr| VmConfig { maxphyaddr, ..VmConfig::default() };
        let vms = [("default", None), ("maxphyaddr-36", Some(36)), ("maxphyaddr-52", Some(52))];
        vms.map(|(id, bits)| (id.to_owned(), vm(bits))).into()
    }

    fn plan(suite: &str, filters: &[&str]) -> Result<Plan, ConfigError> {
        let text = format!("summary = ''\n{suite}");
        let suite = Suite::read(&Source { name: "configs/suites/x.toml".to_owned(), text })?;
        Plan::new(&suite, &tests(), &vms(), &filters.iter().map(|&filter| filter.to_owned()).collect::<Vec<_>>())
    }

    fn ids(plan: &Plan) -> Vec<&str> {
        plan.cells.iter().map(|cell| cell.id.as_str()).collect()
    }

    const TWO_BLOCKS: &str = "
        [[cells]]
        tests = ['pat-msr/*', 'boot/hello', '*/reads']
        vms = ['default']
        [[cells]]
        tests = ['mtrr-msr/*']
        vms = ['maxphyaddr-*', 'default', 'maxphyaddr-36']
    ";
    const ALL: &str = "cells = [{ tests = ['*'], vms = ['*'] }]";

    #[test]
    fn cells_come_in_order_and_once() {
        let plan = plan(TWO_BLOCKS, &[]).unwrap();
        assert_eq!(
            ids(&plan),
            [
                "boot/hello",
                "mtrr-msr/reads",
                "pat-msr/bytes",
                "mtrr-msr/reads@maxphyaddr-36",
                "mtrr-msr/reads@maxphyaddr-52",
                "mtrr-msr/variable-mask",
                "mtrr-msr/variable-mask@maxphyaddr-36",
                "mtrr-msr/variable-mask@maxphyaddr-52",
            ]
        );
        let cell = &plan.cells[6];
        assert_eq!((cell.family.as_str(), cell.test.as_str()), ("mtrr-msr", "variable-mask"));
        assert_eq!((cell.summary.as_str(), cell.needs, cell.points), ("does variable-mask", Needs::STEPS, 7));
        assert_eq!((cell.vm.as_str(), &cell.config), ("maxphyaddr-36", &vms()["maxphyaddr-36"]));
    }

    #[test]
    fn filters_add_up() {
        let picked = |filters: &[&str]| ids(&plan(ALL, filters).unwrap()).join(" ");
        assert_eq!(picked(&["boot/*"]), "boot/hello boot/hello@maxphyaddr-36 boot/hello@maxphyaddr-52");
        assert_eq!(picked(&["boot/hello"]), "boot/hello", "an id picks its cell only");
        assert_eq!(picked(&["bytes@maxphyaddr-5", "*llo@*36"]), "boot/hello@maxphyaddr-36 pat-msr/bytes@maxphyaddr-52");
        assert_eq!(picked(&["boot/hello", "hello", "*"]).split(' ').count(), 12);
    }

    #[test]
    fn a_filter_that_fits_nothing_gets_the_nearest_cell() {
        let said = |filter| plan(ALL, &["boot/hello", filter]).unwrap_err().to_string();
        let nothing =
            |filter, near| format!("no cell of the suite fits the filter `{filter}`; the nearest is `{near}`");
        assert_eq!(said("mtrr-msr/raeds"), nothing("mtrr-msr/raeds", "mtrr-msr/reads"));
        assert_eq!(said("raeds"), nothing("raeds", "mtrr-msr/reads"));
        assert_eq!(said("patmsr"), nothing("patmsr", "pat-msr/bytes"));
        assert_eq!(said("maxphyaddr-40"), nothing("maxphyaddr-40", "boot/hello@maxphyaddr-36"));
        assert_eq!(said("booot/*"), nothing("booot/*", "boot/hello"));
    }

    #[test]
    fn a_mistake_in_a_suite_is_shown() {
        for (suite, said) in [
            (
                "[[cells]]\ntest = ['boot/*']\n",
                "configs/suites/x.toml:3:1: unknown field `test`, did you mean `tests`?\n  \
                 3 | test = ['boot/*']\n    | ^^^^",
            ),
            (
                "[[cell]]\ntests = ['boot/*']\n",
                "configs/suites/x.toml:2:3: unknown field `cell`, did you mean `cells`?\n  2 | [[cell]]\n    |   ^^^^",
            ),
            (
                "[[cells]]\ntests = ['boot/*', 'mtrr-mrs/*']\nvms = ['default']\n",
                "configs/suites/x.toml:3:20: unknown test `mtrr-mrs/*`, did you mean `mtrr-msr/*`?\n  \
                 3 | tests = ['boot/*', 'mtrr-mrs/*']\n    |                    ^^^^^^^^^^^^",
            ),
            (
                "[[cells]]\ntests = ['boot/helo']\nvms = ['default']\n",
                "configs/suites/x.toml:3:10: unknown test `boot/helo`, did you mean `boot/hello`?\n  \
                 3 | tests = ['boot/helo']\n    |          ^^^^^^^^^^^",
            ),
            (
                "[[cells]]\ntests = ['*']\nvms = ['maxphyadr-*']\n",
                "configs/suites/x.toml:4:8: unknown VM configuration `maxphyadr-*`, did you mean `maxphyaddr-*`?\n  \
                 4 | vms = ['maxphyadr-*']\n    |        ^^^^^^^^^^^^^",
            ),
            (
                "[[cells]]\ntests = ['*']\nvms = []\n",
                "configs/suites/x.toml:4:7: no VM configuration is named here\n  4 | vms = []\n    |       ^^",
            ),
            (
                "[[cells]]\ntests = ['*']\n",
                "configs/suites/x.toml:2:1: missing field `vms`\n  2 | [[cells]]\n    | ^^^^^^^^^",
            ),
            ("", "configs/suites/x.toml: missing field `cells`"),
            ("cells = []", "configs/suites/x.toml: it has no cells"),
        ] {
            assert_eq!(plan(suite, &[]).unwrap_err().to_string(), said);
        }
    }
}
