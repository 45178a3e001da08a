//! What a leader says of its commit index beside its messages (thesis 6.4, for reads at followers).

use super::*;

fn tell(replica: &mut Replica, term: u64, index: u64) {
    replica.input(Input::LeaderCommits { term: Term(term), index: Index(index) });
}

#[test]
fn a_follower_that_is_told_commits_what_its_leader_proved_equal_and_no_more() {
    let mut replica = Replica::follower(2, &[1, 1, 1]);
    tell(&mut replica, 2, 3);
    assert_eq!(replica.commit_index(), 0, "nothing is proven in this term");
    replica.append(2, at(2, 1), vec![], 0);
    assert_eq!(replica.commit_index(), 2, "the third entry may be another one at the leader");
    replica.append(2, at(2, 1), vec![entry(3, 2), entry(4, 2)], 0);
    assert_eq!(
        replica.commit_index(),
        3,
        "the entry that it was told of has come, with an older word of the leader"
    );
    assert!(!replica.out.contains(&Output::Committed { upto: Index(3) }), "and is not durable");
    replica.sync();
    assert_eq!(replica.commit_index(), 3);
    tell(&mut replica, 2, 2);
    assert_eq!(replica.commit_index(), 3, "a late word takes nothing back");
    tell(&mut replica, 2, 9);
    assert_eq!(replica.commit_index(), 4);
}

#[test]
fn what_another_term_s_leader_told_is_forgotten() {
    let mut replica = Replica::follower(2, &[1, 1]);
    replica.append(2, at(1, 1), vec![], 0);
    tell(&mut replica, 1, 2);
    tell(&mut replica, 3, 2);
    assert_eq!(
        replica.commit_index(),
        0,
        "neither of a term that is over nor of one that is not known"
    );
    tell(&mut replica, 2, 2);
    assert_eq!(replica.commit_index(), 1);
    // The next leader has another second entry, and has not committed it.
    replica.append(3, at(1, 1), vec![entry(2, 3)], 1);
    assert_eq!(replica.commit_index(), 1, "the last leader's word is not this one's");
}

#[test]
fn a_leader_is_told_nothing() {
    let mut leader = Replica::leader(3, 2, &[1]);
    tell(&mut leader, 2, 2);
    assert_eq!(leader.commit_index(), 0);
}
