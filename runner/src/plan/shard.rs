//! Shards: a plan in parts of about the same length, for hosts that run them side by side.

use super::Cell;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// What a VM takes besides its points, in microseconds, where no time is known.
const VM: u64 = 1_000;
/// What a point takes, in microseconds, where no time is known.
const POINT: u64 = 100;

/// Which part of a plan: `2/4` is the second of four.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Which, from 1.
    pub number: u32,
    /// Of how many.
    pub of: u32,
}

impl FromStr for Part {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let wrong = || format!("{s:?} is no shard: 2/4 is the second of four");
        let (number, of) = s.split_once('/').ok_or_else(wrong)?;
        let part = Part { number: number.parse().map_err(|_| wrong())?, of: of.parse().map_err(|_| wrong())? };
        if (1..=part.of).contains(&part.number) { Ok(part) } else { Err(wrong()) }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

impl Part {
    /// The cells of this part, in the order of the plan. `times` are those that cells took before, in microseconds by
    /// id; without one, a cell counts by its points, at the rate of those that have one. The longest cells are dealt out
    /// first, each to the part with the least so far: the same plan and times give the same parts everywhere.
    pub fn of(self, plan: &[Cell], times: &BTreeMap<String, u64>) -> Vec<Cell> {
        let timed =
            plan.iter().filter_map(|cell| times.get(&cell.id).map(|time| (time.saturating_sub(VM), cell.points)));
        let (time, points) =
            timed.fold((0u64, 0u64), |sum, (time, points)| (sum.0.saturating_add(time), sum.1.saturating_add(points)));
        let point = time.checked_div(points).map_or(POINT, |rate| rate.max(1));
        let takes = |cell: &Cell| match times.get(&cell.id) {
            Some(&time) => time,
            None => VM.saturating_add(cell.points.saturating_mul(point)),
        };
        let mut longest: Vec<(usize, u64)> = plan.iter().map(takes).enumerate().collect();
        longest.sort_by_key(|&(at, time)| (Reverse(time), &plan[at].id));
        let mut loads = vec![0u64; self.of as usize];
        let mut own: Vec<usize> = Vec::new();
        for (at, time) in longest {
            // Of equals the first.
            let Some((part, load)) = loads.iter_mut().enumerate().min_by_key(|(_, load)| **load) else { break };
            *load = load.saturating_add(time.max(1));
            if part as u32 + 1 == self.number {
                own.push(at);
            }
        }
        own.sort_unstable();
        own.into_iter().map(|at| plan[at].clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::vm::VmConfig;
    use proptest::prelude::*;
    use wire::needs::Needs;

    fn cell(id: &str, points: u64) -> Cell {
        Cell {
            id: id.to_owned(),
            family: "f".to_owned(),
            test: id.to_owned(),
            summary: String::new(),
            needs: Needs::NONE,
            points,
            vm: "default".to_owned(),
            config: VmConfig::default(),
        }
    }

    fn ids(cells: &[Cell]) -> Vec<&str> {
        cells.iter().map(|cell| cell.id.as_str()).collect()
    }

    #[test]
    fn parts_read_back() {
        assert_eq!("2/4".parse(), Ok(Part { number: 2, of: 4 }));
        assert_eq!(Part { number: 2, of: 4 }.to_string(), "2/4");
        for wrong in ["", "2", "0/4", "5/4", "0/0", "-1/2", "a/b", "1/2/3"] {
            let said = wrong.parse::<Part>().unwrap_err();
            assert_eq!(said, format!("{wrong:?} is no shard: 2/4 is the second of four"));
        }
    }

    #[test]
    fn recorded_times_balance() {
        let plan = ["a", "b", "c", "d", "e"].map(|id| cell(id, 1));
        let times = [("a", 10), ("b", 75), ("c", 20), ("d", 30), ("e", 20)];
        let times = times.map(|(id, ms)| (id.to_owned(), ms * 1_000)).into();
        let part = |number| Part { number, of: 2 }.of(&plan, &times);
        assert_eq!(ids(&part(1)), ["b"]);
        assert_eq!(ids(&part(2)), ["a", "c", "d", "e"]);
    }

    #[test]
    fn without_times_points_balance() {
        let plan = [cell("a", 9), cell("b", 900), cell("c", 100), cell("d", 801)];
        let part = |number| Part { number, of: 2 }.of(&plan, &BTreeMap::new());
        assert_eq!((ids(&part(1)), ids(&part(2))), (vec!["a", "b"], vec!["c", "d"]));
    }

    proptest! {
        #[test]
        fn each_cell_is_in_one_part(points in prop::collection::vec(0..1000u64, 0..40), of in 1..6u32, known: bool) {
            let plan: Vec<Cell> = (0..).zip(&points).map(|(n, &points)| cell(&format!("c{n}"), points)).collect();
            let times = if known { plan.iter().step_by(2).map(|cell| (cell.id.clone(), cell.points)).collect() } else { BTreeMap::new() };
            let parts: Vec<Vec<Cell>> = (1..=of).map(|number| Part { number, of }.of(&plan, &times)).collect();
            let mut all: Vec<&str> = parts.iter().flat_map(|part| ids(part)).collect();
            all.sort_unstable();
            let mut wanted = ids(&plan);
            wanted.sort_unstable();
            prop_assert_eq!(all, wanted);
            prop_assert!(plan.len() < of as usize || parts.iter().all(|part| !part.is_empty()));
        }
    }
}
