//! The causal cone of an event: everything that could have influenced it.
//!
//! An event can have been influenced by what happened before it in the same place, a node or a client, by the
//! sending of the message that it delivers, and by the answers that the client who asks had before. Nothing
//! else carries anything from one place to another. (A node's disk is part of the node.) Faults come from
//! outside: those before the event are in its cone, wherever they strike.

use super::recorder::Recording;
use crate::trace::Kind;
use std::collections::BTreeSet;

/// Which events are in the cone of this one, by number.
#[must_use]
pub fn cone(recording: &Recording, of: usize) -> Vec<bool> {
    let events = &recording.events;
    let mut within = vec![false; events.len()];
    let (mut nodes, mut clients) = (BTreeSet::new(), BTreeSet::new());
    for number in (0..events.len().min(of + 1)).rev() {
        let event = &events[number];
        let here = event.node.is_some_and(|node| nodes.contains(&node));
        let there = event.client.is_some_and(|client| clients.contains(&client));
        let outside = matches!(event.kind, Kind::Fault | Kind::Mend | Kind::Phase);
        within[number] |= here || there || outside || number == of;
        if !within[number] || outside {
            continue;
        }
        if let Some(cause) = event.cause {
            within[cause] = true;
        }
        // A client asks by itself, and the node hears it; a node answers by itself.
        match event.kind {
            Kind::Request | Kind::GiveUp => clients.extend(event.client),
            _ => nodes.extend(event.node),
        }
    }
    within
}

#[cfg(test)]
mod tests {
    use super::super::recorder::Event;
    use super::*;

    fn event(kind: Kind, node: Option<usize>, client: Option<u32>, cause: Option<usize>) -> Event {
        let (brief, line) = (String::new(), String::new());
        Event { at: 0, kind, node, client, cause, group: None, brief, line }
    }

    fn within(events: Vec<Event>, of: usize) -> Vec<usize> {
        let recording = Recording { events, ..Recording::default() };
        let within = cone(&recording, of);
        (0..within.len()).filter(|at| within[*at]).collect()
    }

    #[test]
    fn what_came_by_message_or_before_in_the_same_place_is_in_it() {
        let events = vec![
            event(Kind::Timer, Some(0), None, None), // 0: before the sending
            event(Kind::Timer, Some(1), None, None), // 1: before the arrival
            event(Kind::Send, Some(0), None, None),  // 2: sent to n2
            event(Kind::Timer, Some(0), None, None), // 3: after the sending
            event(Kind::Timer, Some(2), None, None), // 4: a node that says nothing
            event(Kind::Deliver, Some(1), None, Some(2)), // 5: arrives
            event(Kind::Timer, Some(1), None, None), // 6: later
        ];
        assert_eq!(within(events, 5), [0, 1, 2, 5]);
    }

    #[test]
    fn a_client_carries_what_it_was_answered_to_what_it_asks_next() {
        let events = vec![
            event(Kind::Timer, Some(0), None, None), // 0: before the answer
            event(Kind::Reply, Some(0), Some(7), None), // 1: n1 answers c7
            event(Kind::Timer, Some(0), None, None), // 2: n1 goes on
            event(Kind::Request, Some(1), Some(7), None), // 3: c7 asks n2
            event(Kind::Reply, Some(1), Some(8), None), // 4: n2 answers somebody else
            event(Kind::Request, Some(2), Some(8), None), // 5: who asks n3
            event(Kind::Timer, Some(1), None, None), // 6: n2 goes on
        ];
        assert_eq!(within(events, 6), [0, 1, 3, 4, 6], "c8 took something, and brought nothing");
    }

    #[test]
    fn faults_come_from_outside() {
        let events = vec![
            event(Kind::Fault, None, None, None),
            event(Kind::Timer, Some(1), None, None),
            event(Kind::Timer, Some(0), None, None),
            event(Kind::Fault, None, None, None),
        ];
        assert_eq!(within(events, 2), [0, 2]);
    }
}
