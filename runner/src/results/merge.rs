//! Merging shards: the runs of the parts of one plan become one run.

use super::format::{CellResult, Header, Merged, PlannedCell, Shard};
use super::read::Run;
use crate::host::module::Modules;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;

/// Runs that do not belong together.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum MergeError {
    /// There is no run to merge.
    #[error("no shard is named: kvm-memtype run --shard 1/2 makes one of two")]
    None,
    /// A run is of a whole plan.
    #[error("{}: it is no shard of a plan; kvm-memtype run --shard makes one", .0.display())]
    NoShard(PathBuf),
    /// Two shards differ in something in which they must not.
    #[error("{} and {}: they do not belong together: {what} differs: {one} and {other}", first.display(), second.display())]
    Mixed {
        /// The first shard.
        first: PathBuf,
        /// One that is not as the first is.
        second: PathBuf,
        /// What differs.
        what: String,
        /// What the first has.
        one: String,
        /// What the other has.
        other: String,
    },
    /// The same shard twice.
    #[error("{} and {}: both are shard {number}", first.display(), second.display())]
    Twice {
        /// One of them.
        first: PathBuf,
        /// The other.
        second: PathBuf,
        /// Which shard they are.
        number: u32,
    },
    /// A cell is in two shards, or in none although all are there.
    #[error("cell `{cell}` is in {count} of the shards: they were balanced by different runs (--balance)")]
    Balance {
        /// The cell's id.
        cell: String,
        /// How many shards have it.
        count: usize,
    },
}

/// One run of the runs of shards, in any order: its header, and what came of each cell, in the order of the plan. Cells of
/// shards that are not there have no result.
///
/// # Errors
/// The runs are not shards of one plan that was run in one way on hosts that are alike.
pub fn merge(runs: &[Run]) -> Result<(Header, Vec<CellResult>), MergeError> {
    let mut shards = BTreeMap::new();
    for run in runs {
        let shard = run.header.shard.as_ref().ok_or_else(|| MergeError::NoShard(run.dir.clone()))?;
        if let Some((first, _)) = shards.insert(shard.number, (run, shard)) {
            let (first, second) = (first.dir.clone(), run.dir.clone());
            return Err(MergeError::Twice { first, second, number: shard.number });
        }
    }
    let &(first, Shard { of, plan, .. }) = shards.values().next().ok_or(MergeError::None)?;
    shards.values().try_for_each(|(run, _)| alike(first, run))?;
    let mut ids: HashMap<&str, Vec<u64>> = HashMap::new();
    for (run, _) in shards.values() {
        for (at, cell) in run.header.cells.iter().enumerate() {
            ids.entry(&cell.id).or_default().push(run.header.run.wrapping_add(at as u64));
        }
    }
    let mut cells = Vec::with_capacity(plan.len());
    for cell in plan {
        let run = ids.get(cell.id.as_str()).map_or(&[][..], Vec::as_slice);
        if run.len() > 1 || (run.is_empty() && shards.len() == *of as usize) {
            return Err(MergeError::Balance { cell: cell.id.clone(), count: run.len() });
        }
        cells.push(PlannedCell { run: run.first().copied(), ..cell.clone() });
    }
    let merged = |(run, shard): &(&Run, &Shard)| Merged {
        number: shard.number,
        of: shard.of,
        started: run.header.started.clone(),
    };
    let mut results: HashMap<&str, &CellResult> =
        shards.values().flat_map(|(run, _)| &run.results).map(|result| (result.cell.as_str(), result)).collect();
    let results = cells.iter().filter_map(|cell| results.remove(cell.id.as_str()).cloned()).collect();
    let started = shards.values().map(|(run, _)| &run.header.started).min().unwrap_or(&first.header.started);
    let hosts: BTreeSet<&str> = shards.values().map(|(run, _)| run.header.hostname.as_str()).collect();
    let header = Header {
        started: started.clone(),
        hostname: hosts.into_iter().collect::<Vec<_>>().join(", "),
        shard: None,
        merged: shards.values().map(merged).collect(),
        cells,
        ..first.header.clone()
    };
    Ok((header, results))
}

/// Whether two shards are of one plan, run in one way on hosts that are alike.
fn alike(first: &Run, second: &Run) -> Result<(), MergeError> {
    let [one, other] = [&first.header, &second.header].map(traits);
    let at = |traits: &[(String, String)], n: usize| traits.get(n).cloned().unwrap_or_default();
    let pairs = (0..one.len().max(other.len())).map(|n| (at(&one, n), at(&other, n)));
    let Some(((what, one), (other_what, other))) = pairs.into_iter().find(|(one, other)| one != other) else {
        return Ok(());
    };
    // What only one of them has shifts the others.
    let what = if what == other_what { what } else { format!("{what} or {other_what}") };
    Err(MergeError::Mixed { first: first.dir.clone(), second: second.dir.clone(), what, one, other })
}

/// In what shards of one plan are the same, in words.
fn traits(header: &Header) -> Vec<(String, String)> {
    let shown = |value: &dyn std::fmt::Debug| format!("{value:?}");
    let shard = header.shard.as_ref();
    let plan = shard.map_or(&[][..], |shard| &shard.plan).iter();
    let mut all = vec![
        ("the number of shards".to_owned(), shown(&shard.map(|shard| shard.of))),
        ("the version".to_owned(), header.version.clone()),
        ("the suite".to_owned(), header.suite.clone()),
        ("filters".to_owned(), shown(&header.filters)),
        ("the machine".to_owned(), header.machine.clone()),
        ("witnesses".to_owned(), shown(&header.witnesses)),
        ("devices".to_owned(), header.devices.to_string()),
        ("--busy".to_owned(), shown(&header.busy)),
        ("--policy".to_owned(), shown(&header.policy)),
        ("--fail-fast".to_owned(), shown(&header.fail_fast)),
    ];
    all.extend(header.guests.iter().map(|(family, digest)| (format!("guest {family}"), digest.clone())));
    all.extend(header.host.iter().map(|(what, is)| (format!("the host's {what}"), is.clone())));
    let Modules { vendor: _, parameters, builds } = &header.modules;
    all.extend(parameters.iter().map(|(name, is)| (format!("the host's parameter {name}"), is.clone())));
    all.extend(builds.iter().map(|(name, is)| (format!("the host's build of {name}"), is.clone())));
    all.extend(header.facts.iter().map(|(name, fact)| (format!("fact {name}"), fact.to_string())));
    all.extend(plan.map(|cell| (format!("cell {}", cell.id), shown(cell))));
    all
}

#[cfg(test)]
mod tests {
    use super::super::CellOutcome;
    use super::super::tests::header;
    use super::*;
    use proptest::prelude::*;

    const CELLS: [&str; 5] = ["a/1", "a/2", "b/1", "b/2", "c/1"];

    /// Shard `number` of `of`, with these cells of the plan, all of them done.
    fn shard(number: u32, of: u32, cells: &[&str]) -> Run {
        let plan = header(&CELLS).cells;
        let header = Header { run: u64::from(number) << 8, shard: Some(Shard { number, of, plan }), ..header(cells) };
        let result = |cell: &&str| CellResult {
            cell: (*cell).to_owned(),
            outcome: CellOutcome::Skip(format!("by shard {number}")),
        };
        let results = cells.iter().rev().map(result).collect();
        Run { dir: format!("s{number}").into(), header, results, torn: 0, whole: 0 }
    }

    #[test]
    fn shards_become_one_run_in_the_order_of_the_plan() {
        let runs = [shard(2, 2, &["a/2", "b/2"]), shard(1, 2, &["a/1", "b/1", "c/1"])];
        let (merged, results) = merge(&runs).unwrap();
        assert_eq!(results.iter().map(|result| result.cell.as_str()).collect::<Vec<_>>(), CELLS);
        let run: Vec<Option<u64>> = merged.cells.iter().map(|cell| cell.run).collect();
        assert_eq!(run, [Some(0x100), Some(0x200), Some(0x101), Some(0x201), Some(0x102)]);
        let pieces: Vec<(u32, u32)> = merged.merged.iter().map(|merged| (merged.number, merged.of)).collect();
        assert_eq!((merged.shard, pieces), (None, vec![(1, 2), (2, 2)]));
    }

    #[test]
    fn shards_may_come_from_hosts_of_one_kind() {
        let (one, mut two) = (shard(1, 2, &CELLS[..2]), shard(2, 2, &CELLS[2..]));
        two.header.hostname = "xeon-2".to_owned();
        assert_eq!(merge(&[two, one]).unwrap().0.hostname, "xeon-1, xeon-2");
    }

    #[test]
    fn cells_of_a_missing_shard_have_no_result() {
        let (merged, results) = merge(&[shard(1, 2, &["a/1", "b/1", "c/1"])]).unwrap();
        assert_eq!((merged.cells.len(), results.len()), (5, 3));
        let without: Vec<&str> =
            merged.cells.iter().filter(|cell| cell.run.is_none()).map(|cell| cell.id.as_str()).collect();
        assert_eq!(without, ["a/2", "b/2"]);
    }

    #[test]
    fn what_does_not_belong_together_is_refused() {
        let said = |runs: &[Run]| merge(runs).unwrap_err().to_string();
        let (one, two) = (shard(1, 2, &CELLS[..2]), shard(2, 2, &CELLS[2..]));
        assert!(said(&[]).contains("--shard"));
        let whole = Run { header: header(&CELLS), ..one.clone() };
        assert_eq!(said(&[whole]), "s1: it is no shard of a plan; kvm-memtype run --shard makes one");
        assert_eq!(said(&[one.clone(), one.clone()]), "s1 and s1: both are shard 1");
        let mixed = |change: fn(&mut Header)| {
            let mut other = two.clone();
            change(&mut other.header);
            said(&[one.clone(), other])
        };
        let differ = |what: &str| format!("s1 and s2: they do not belong together: {what} differs: ");
        let kernel = mixed(|header| drop(header.host.insert("kernel".to_owned(), "Linux 7".to_owned())));
        assert!(kernel.starts_with(&differ("the host's kernel")) && kernel.ends_with("Linux 7"), "{kernel}");
        let more = mixed(|header| drop(header.host.insert("a".to_owned(), "b".to_owned())));
        assert!(more.starts_with(&differ("the host's kernel or the host's a")), "{more}");
        assert!(mixed(|header| header.shard.as_mut().unwrap().of = 3).starts_with(&differ("the number of shards")));
        assert!(mixed(|header| drop(header.shard.as_mut().unwrap().plan.pop())).contains("cell c/1"));
        let parameter = |header: &mut Header| {
            header.modules.parameters.insert("kvm.ignore_msrs".to_owned(), "Y".to_owned());
        };
        assert!(mixed(parameter).starts_with(&differ("the host's parameter kvm.ignore_msrs")));
        assert!(mixed(|header| header.policy = None).starts_with(&differ("--policy")));
        let lost = said(&[one.clone(), shard(2, 2, &CELLS[3..])]);
        assert_eq!(lost, "cell `b/1` is in 0 of the shards: they were balanced by different runs (--balance)");
        assert!(said(&[one, shard(2, 2, &CELLS[1..])]).starts_with("cell `a/2` is in 2 of the shards"));
    }

    proptest! {
        #[test]
        fn any_split_merges_to_the_plan(of in prop::collection::vec(1..4u32, CELLS.len()), order: bool) {
            let cells = |number| -> Vec<&str> {
                CELLS.iter().zip(&of).filter(|(_, of)| **of == number).map(|(cell, _)| *cell).collect()
            };
            let mut runs: Vec<Run> = (1..4).map(|number| shard(number, 3, &cells(number))).collect();
            if order {
                runs.reverse();
            }
            let (merged, results) = merge(&runs).unwrap();
            prop_assert_eq!(results.iter().map(|result| result.cell.as_str()).collect::<Vec<_>>(), CELLS);
            prop_assert!(merged.cells.iter().all(|cell| cell.run.is_some()));
        }
    }
}
