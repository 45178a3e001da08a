//! Who belongs to a group, as its state has it: raft's configuration, and of it what the state itself goes by.

use crate::codec;
use crate::kv::batch::Roster;
use crate::kv::state::State;
use crate::planted::Bug;
use crate::raft::{Configuration, Payload, Seat};
use crate::types::{Boot, NodeId, Position};

/// Takes the state past an entry that is no command. Returns whether it was whole.
pub(super) fn pass_over(state: &mut State, position: Position, payload: &Payload) -> bool {
    match payload {
        Payload::Noop => state.advance(position),
        Payload::Configure(configuration) => {
            let roster = if state.seat().planted.is(Bug::ReceiptsOfOldVoters) {
                Roster::clone(&state.seat().roster)
            } else {
                roster_of(configuration)
            };
            state.configure(position, roster, codec::encode(configuration));
        }
        Payload::Command(_) | Payload::Lost { .. } => return false,
    }
    true
}

/// The members at the state's position, of a group that was founded with these voters. `None` if they were written by a
/// version that this one does not understand.
pub(super) fn of(state: &State, founding: &[NodeId]) -> Option<Configuration> {
    match state.members() {
        None => Some(Configuration::founding(founding)),
        Some(members) => codec::decode(&members).ok(),
    }
}

/// Who votes, and from which boot on each counts.
fn roster_of(configuration: &Configuration) -> Roster {
    let seated = |of: &[Seat]| {
        let members = configuration.members.iter().filter(|member| of.contains(&member.seat));
        members.map(|it| Boot { node: it.node, incarnation: it.readmitted }).collect()
    };
    let old = configuration.is_joint().then(|| seated(&[Seat::Voter, Seat::Outgoing]));
    Roster { voters: seated(&[Seat::Voter, Seat::Incoming]), old }
}
