//! Shrinking: from a list that shows something to a shortest one that still does.

/// Takes pieces out of `whole` for as long as `shows` says that what is left still shows it, asking `most` times at most:
/// large pieces first, then smaller ones, until no single element can go (Zeller and Hildebrandt, "Simplifying and
/// Isolating Failure-Inducing Input").
pub fn shrink<T: Clone>(whole: &[T], most: usize, mut shows: impl FnMut(&[T]) -> bool) -> Vec<T> {
    let (mut left, mut asked, mut piece) = (whole.to_vec(), 0, whole.len().div_ceil(2));
    while piece > 0 {
        let (mut at, mut gone) = (0, false);
        while at < left.len() {
            if asked == most {
                return left;
            }
            let end = (at + piece).min(left.len());
            let rest: Vec<T> = left[..at].iter().chain(&left[end..]).cloned().collect();
            asked += 1;
            if shows(&rest) {
                (left, gone) = (rest, true);
            } else {
                at = end;
            }
        }
        // What could not go alone may be able to once something else has gone.
        piece = match (piece, gone) {
            (1, true) => 1,
            (1, false) => 0,
            _ => piece.div_ceil(2),
        };
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_needed_stays_and_all_else_goes() {
        let whole: Vec<u32> = (0..100).collect();
        let needs = |wanted: &'static [u32]| move |list: &[u32]| wanted.iter().all(|one| list.contains(one));
        assert_eq!(shrink(&whole, 10_000, needs(&[3, 41, 97])), [3, 41, 97]);
        assert_eq!(shrink(&whole, 10_000, needs(&[])), Vec::<u32>::new());
        assert_eq!(shrink(&[] as &[u32], 10_000, needs(&[])), Vec::<u32>::new());
    }

    #[test]
    fn what_goes_only_after_another_goes_too() {
        // 5 is needed while 6 is there, as the making of a slot that is deleted later.
        let shows = |list: &[u32]| list.contains(&1) && (!list.contains(&6) || list.contains(&5));
        assert_eq!(shrink(&(0..10).collect::<Vec<_>>(), 10_000, shows), [1]);
    }

    #[test]
    fn it_asks_no_more_often_than_allowed() {
        let mut asked = 0;
        let left = shrink(&(0..100).collect::<Vec<u32>>(), 7, |list| {
            asked += 1;
            list.contains(&99)
        });
        assert_eq!(asked, 7);
        assert!(left.contains(&99) && left.len() < 100);
    }

    proptest! {
        /// Whatever is needed is found, and nothing besides.
        #[test]
        fn any_set_is_found(len in 1..60usize, picks in proptest::collection::vec(any::<prop::sample::Index>(), 0..5)) {
            let mut wanted: Vec<usize> = picks.iter().map(|pick| pick.index(len)).collect();
            wanted.sort_unstable();
            wanted.dedup();
            let whole: Vec<usize> = (0..len).collect();
            let left = shrink(&whole, usize::MAX, |list| wanted.iter().all(|one| list.contains(one)));
            prop_assert_eq!(left, wanted);
        }
    }
}
