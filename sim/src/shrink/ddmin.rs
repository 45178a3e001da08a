//! Leaving out of a list what is not needed (delta debugging: Zeller and Hildebrandt, "Simplifying and
//! isolating failure-inducing input", 2002).
//!
//! Two things differ from the paper. Only complements are tried, because a list whose one part fails alone is
//! found as well by leaving out the others. And parts are left out from the end: what comes late in a run
//! changes the least of it, so most of a list goes in its first passes.

/// Builds the candidate of this number.
pub type Build<'a, T> = &'a (dyn Fn(usize) -> Vec<T> + Sync);

/// Leaves out what can be left out. `first` is asked for the first of so many candidates that is good, and the
/// result is the last candidate that was; `items` themselves are taken to be good. No part of `finest` items or more
/// can be left out of the result by itself, unless `first` has given up and says no to everything.
pub fn minimise<T: Clone + Sync>(
    mut items: Vec<T>,
    finest: usize,
    mut first: impl FnMut(usize, Build<'_, T>) -> Option<usize>,
) -> Vec<T> {
    if items.is_empty() || first(1, &|_| Vec::new()).is_some() {
        return Vec::new();
    }
    let finest = finest.max(1);
    let mut size = items.len().div_ceil(2).max(finest);
    while items.len() > 1 {
        let mut changed = false;
        // The end of the last part that is still to be tried.
        let mut end = items.len();
        while end > 0 {
            let parts = end.div_ceil(size);
            let part = |number: usize| {
                let end = end - number * size;
                end.saturating_sub(size)..end
            };
            let build = |number: usize| {
                let mut rest = items.clone();
                rest.drain(part(number));
                rest
            };
            let Some(number) = first(parts, &build) else { break };
            let gone = part(number);
            end = gone.start;
            items.drain(gone);
            changed = true;
        }
        if size > finest {
            size = (size / 2).max(finest);
        } else if !changed {
            break;
        }
        size = size.min(items.len().max(finest));
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::{Domain, Draw};

    /// Minimises numbers from 0 on under a predicate; the result and how many candidates were tried.
    fn minimised(count: u32, good: impl Fn(&[u32]) -> bool) -> (Vec<u32>, usize) {
        let mut tried = 0;
        let first = |count: usize, build: Build<'_, u32>| {
            (0..count).find(|&number| {
                tried += 1;
                good(&build(number))
            })
        };
        let left = minimise((0..count).collect(), 1, first);
        (left, tried)
    }

    #[test]
    fn what_is_needed_is_left_and_nothing_else() {
        for wanted in [vec![], vec![0], vec![999], vec![3, 4, 5], vec![17, 401, 733, 998]] {
            let needs = |items: &[u32]| wanted.iter().all(|item| items.contains(item));
            let (left, tried) = minimised(1000, needs);
            assert_eq!(left, wanted);
            assert!(tried < 150, "{tried} candidates for {wanted:?}");
        }
    }

    #[test]
    fn nothing_more_can_be_left_out_whatever_the_predicate_is() {
        for seed in 0..50 {
            // Some of several groups will do, and too few items never do: not monotone in either.
            let mut draw = Draw::new(seed, Domain::Fingerprint, &[]);
            let groups: Vec<Vec<u32>> =
                (0..3).map(|_| (0..4).map(|_| draw.below(64) as u32).collect()).collect();
            let good = |items: &[u32]| {
                items.len() % 7 != 3
                    && groups.iter().any(|group| group.iter().all(|item| items.contains(item)))
            };
            let (left, _) = minimised(64, good);
            assert!(good(&left), "seed {seed}: {left:?}");
            for at in 0..left.len() {
                let mut fewer = left.clone();
                fewer.remove(at);
                assert!(!good(&fewer), "seed {seed}: {left:?} can do without {at}");
            }
        }
    }

    #[test]
    fn who_gives_up_keeps_the_best_so_far() {
        let mut budget = 6;
        let first = |count: usize, build: Build<'_, u32>| {
            (0..count).find(|&number| {
                budget -= i32::from(budget > 0);
                budget > 0 && build(number).contains(&5)
            })
        };
        let left = minimise((0..64).collect(), 1, first);
        assert!(left.contains(&5) && left.len() < 64, "{left:?}");
    }

    #[test]
    fn a_coarse_pass_leaves_whole_parts() {
        let first = |count: usize, build: Build<'_, u32>| {
            (0..count).find(|&number| build(number).contains(&40))
        };
        let left = minimise((0..64).collect(), 8, first);
        assert!(left.contains(&40) && (2..=8).contains(&left.len()), "{left:?}");
    }
}
