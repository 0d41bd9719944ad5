//! Comparing two sides: kinds of changes, what counts as a difference, and how differences are grouped.

use super::*;
use proptest::prelude::*;

fn point(did: &str, axes: &[(&'static str, &str)], value: &str, always: bool) -> Point {
    let axes = axes.iter().map(|&(axis, at)| (axis, at.to_owned())).collect();
    Point { what: "effective type", did: did.into(), axes, value: value.into(), always }
}

fn differences(from: &[Point], to: &[Point]) -> Vec<Difference> {
    let mut ungrouped = BTreeMap::new();
    let differs = compare("family/test", from, to, &mut ungrouped);
    assert_eq!(differs, !ungrouped.is_empty());
    axes::grouped(ungrouped)
}

#[test]
fn a_change_for_the_worse_is_told_from_others() {
    use Verdict::{Crash, Fail, Inconclusive, NotRun, Pass, Skip, Xfail, Xpass};
    for (from, to, kind) in [
        (Pass, Fail, Kind::NewlyFailing),
        (Skip, Crash, Kind::NewlyFailing),
        (Xfail, Xpass, Kind::NewlyFailing),
        (Fail, Crash, Kind::OtherFailure),
        (Pass, Inconclusive, Kind::Lost),
        (Fail, Skip, Kind::Lost),
        (Fail, NotRun, Kind::Lost),
        (Fail, Pass, Kind::Mended),
        (Skip, Pass, Kind::Gained),
        (Xfail, Pass, Kind::Other),
        (Skip, Inconclusive, Kind::Other),
    ] {
        assert_eq!(Kind::of(from, to), kind, "{from} -> {to}");
    }
}

#[test]
fn the_same_thing_done_twice_is_compared_each_time() {
    let at = |value| point("GPA 1", &[("MTRR", "UC")], value, true);
    assert_eq!(differences(&[at("UC"), at("WB")], &[at("UC"), at("WB")]), []);
    let [only] = &differences(&[at("UC"), at("WB")], &[at("UC"), at("UC")])[..] else { panic!() };
    assert_eq!((only.from.as_str(), only.to.as_str(), only.points), ("WB", "UC", 1));
}

#[test]
fn what_one_side_alone_did_counts_where_both_would() {
    let done = |always| point("GPA 1", &[], "UC", always);
    assert_eq!(differences(&[done(false)], &[]), []);
    let [lost] = &differences(&[done(true)], &[])[..] else { panic!() };
    assert_eq!((lost.from.as_str(), lost.to.as_str()), ("UC", "not done"));
    let [new] = &differences(&[], &[done(true)])[..] else { panic!() };
    assert_eq!((new.from.as_str(), new.to.as_str()), ("not done", "UC"));
}

#[test]
fn differences_with_all_axes_but_one_in_common_are_one() {
    let all = |value| -> Vec<Point> {
        let pairs = ["UC", "WC"].into_iter().flat_map(|mtrr| ["WB", "WT"].map(|pat| (mtrr, pat)));
        let at = |(mtrr, pat)| point(&format!("{mtrr} {pat}"), &[("MTRR", mtrr), ("PAT", pat)], value, true);
        pairs.map(at).collect()
    };
    let [one] = &differences(&all("UC"), &all("WB"))[..] else { panic!() };
    let axes: Vec<(&str, Vec<&str>)> =
        one.axes.iter().map(|(axis, values)| (*axis, values.iter().map(String::as_str).collect())).collect();
    assert_eq!(axes, [("MTRR", vec!["UC", "WC"]), ("PAT", vec!["WB", "WT"])]);
    assert_eq!((one.points, one.cells.len()), (4, 1));
    // With one pair as before, no group may hold all four.
    let mut to = all("WB");
    to[3].value = "UC".into();
    let groups = differences(&all("UC"), &to);
    assert_eq!(groups.iter().map(|group| group.points).sum::<u64>(), 3);
    assert_eq!(groups.len(), 2);
}

proptest! {
    /// A group says that each combination of its values differs: it must hold no other.
    #[test]
    fn a_group_says_no_more_than_was_seen(differ in proptest::collection::vec(any::<bool>(), 27)) {
        let place = |n: usize| [n % 3, n / 3 % 3, n / 9].map(|at| at.to_string());
        let points = |values: &dyn Fn(usize) -> bool| -> Vec<Point> {
            let at = |n| {
                let [a, b, c] = place(n);
                let value = if values(n) { "WB" } else { "UC" };
                point(&n.to_string(), &[("a", &a), ("b", &b), ("c", &c)], value, true)
            };
            (0..27).map(at).collect()
        };
        let groups = differences(&points(&|_| false), &points(&|n| differ[n]));
        for (n, differs) in differ.iter().enumerate() {
            let holds = |group: &&Difference| {
                group.axes.iter().zip(place(n)).all(|((_, values), at)| values.contains(&at))
            };
            prop_assert_eq!(groups.iter().filter(holds).count(), usize::from(*differs));
        }
    }
}
