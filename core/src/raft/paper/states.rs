//! Section 7: who has no state to give does not count as asked.

use super::*;

/// A leader whose own state is damaged has none to give. Whoever asks it meanwhile is served once it has one again.
#[test]
fn s7_who_asks_a_damaged_leader_for_a_state_is_not_forgotten() {
    let mut leader = compacted_leader();
    leader.sync();
    leader.input(Input::StateDamaged);
    let term = leader.group.term().0 + 1;
    leader.elect(3, term);
    let wants = Output::WantSnapshot { to: OTHER };
    leader.hear(OTHER, term, Body::SnapshotRequest);
    assert!(!leader.out.contains(&wants), "{:?}", leader.out);
    let position = at(4, 1);
    let configuration = leader.group.configuration_at(position.index);
    let installed = Input::SnapshotInstalled { term: Term(term), position, configuration };
    leader.input(installed);
    leader.hear(OTHER, term, Body::SnapshotRequest);
    assert!(leader.out.contains(&wants), "{:?}", leader.out);
}
