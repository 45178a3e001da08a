//! Pure arithmetic over a set of voters: what is committed, who is elected. Nothing here knows a node.

use super::message::Ballot;
use alloc::vec::Vec;

/// Fewest voters that any two of such sets share one: a strict majority.
pub(super) const fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

/// Fewest voters without whom no majority is left.
pub(super) const fn blocking(voters: usize) -> usize {
    voters - majority(voters) + 1
}

/// The highest value that a majority has reached, given that of every voter (Raft 5.3): the commit
/// index of match indexes, the confirmed round of acknowledged rounds.
pub(super) fn reached<T: Ord + Copy + Default>(voters: impl IntoIterator<Item = T>) -> T {
    // Asked with every acknowledgement: of the usual few voters nothing is allocated.
    let (mut few, mut many, mut count) = ([T::default(); FEW], Vec::new(), 0);
    for value in voters {
        match few.get_mut(count) {
            Some(place) => *place = value,
            None => many.push(value),
        }
        count += 1;
    }
    let values = if many.is_empty() {
        few.get_mut(..count).unwrap_or_default()
    } else {
        many.extend(few);
        &mut many
    };
    values.sort_unstable_by(|a, b| b.cmp(a));
    // The value at place m (from the top) has been reached by the m voters up to it.
    values.get(majority(values.len()) - 1).copied().unwrap_or_default()
}

/// Voters that groups usually have at the most.
const FEW: usize = 8;

/// How an election stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Election {
    /// Not decided yet.
    Open,
    /// Won; by a majority of full votes, or because every voter said yes and some only conditionally.
    Won {
        /// Whether it took everyone.
        unanimous: bool,
    },
    /// It can't be won any more.
    Lost,
}

/// Counts the ballots; `None` for a voter that hasn't answered. A candidate that isn't in `full`
/// standing itself can only win by everyone's yes: a majority that it was once counted in may have
/// voted with it for another leader, and it wouldn't remember.
pub(super) fn tally(ballots: impl IntoIterator<Item = Option<Ballot>>, full: bool) -> Election {
    let (mut voters, mut granted, mut conditional, mut refused) = (0, 0, 0, 0);
    for ballot in ballots {
        voters += 1;
        match ballot {
            Some(Ballot::Granted) => granted += 1,
            Some(Ballot::Conditional) => conditional += 1,
            Some(Ballot::Refused) => refused += 1,
            None => {}
        }
    }
    if full && granted >= majority(voters) {
        Election::Won { unanimous: false }
    } else if granted + conditional == voters {
        Election::Won { unanimous: true }
    } else if refused > 0 && (!full || refused + conditional >= blocking(voters)) {
        // One refusal rules unanimity out; then a conditional yes is worth no more than a no.
        Election::Lost
    } else {
        Election::Open
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::types::Index;

    /// All assignments of `values` to `voters` voters.
    fn assignments<T: Copy>(voters: usize, values: &[T]) -> Vec<Vec<T>> {
        let mut all = alloc::vec![Vec::new()];
        for _ in 0..voters {
            all = all
                .into_iter()
                .flat_map(|prefix: Vec<T>| {
                    values.iter().map(move |value| {
                        let mut longer = prefix.clone();
                        longer.push(*value);
                        longer
                    })
                })
                .collect();
        }
        all
    }

    #[test]
    fn an_index_is_committed_exactly_when_a_majority_has_it() {
        let few = (1..=5).map(|voters| (voters, [0, 1, 2, 3].as_slice()));
        let many = (FEW - 1..=FEW + 2).map(|voters| (voters, [0, 1].as_slice()));
        for (voters, values) in few.chain(many) {
            for indexes in assignments(voters, values) {
                let indexes: Vec<Index> = indexes.into_iter().map(Index).collect();
                let committed = reached(indexes.iter().copied());
                let holders = |index| indexes.iter().filter(|have| **have >= index).count();
                assert!(holders(committed) * 2 > voters, "{indexes:?}: {committed:?}");
                assert!(holders(committed.next()) * 2 <= voters, "{indexes:?}: {committed:?}");
            }
        }
    }

    #[test]
    fn two_majorities_meet_and_a_blocking_set_meets_each() {
        for voters in 1..=super::super::VOTERS_MAX {
            assert!(2 * majority(voters) > voters);
            assert!(majority(voters) + blocking(voters) > voters);
            assert!(majority(voters) + blocking(voters) - 1 <= voters, "blocking is minimal");
        }
    }

    /// An election is decided exactly when no completion of the open ballots can change the result.
    #[test]
    fn tally_decides_as_soon_as_the_rest_does_not_matter() {
        let answers = [Ballot::Granted, Ballot::Conditional, Ballot::Refused];
        let open = [None, Some(answers[0]), Some(answers[1]), Some(answers[2])];
        for (voters, full) in (1..=4).flat_map(|voters| [(voters, true), (voters, false)]) {
            for ballots in assignments(voters, &open) {
                let missing = ballots.iter().filter(|ballot| ballot.is_none()).count();
                let wins = |rest: Vec<Ballot>| {
                    let mut rest = rest.into_iter();
                    let all: Vec<Ballot> = ballots
                        .iter()
                        .map(|ballot| ballot.or_else(|| rest.next()).unwrap())
                        .collect();
                    let granted = all.iter().filter(|ballot| **ballot == Ballot::Granted).count();
                    (full && granted * 2 > voters) || all.iter().all(|b| *b != Ballot::Refused)
                };
                let results: Vec<bool> =
                    assignments(missing, &answers).into_iter().map(wins).collect();
                let (any, all) = (results.contains(&true), !results.contains(&false));
                match tally(ballots.iter().copied(), full) {
                    Election::Won { .. } => assert!(all, "{ballots:?}"),
                    Election::Lost => assert!(!any, "{ballots:?}"),
                    Election::Open => assert!(any && !all, "{ballots:?}"),
                }
            }
        }
    }
}
