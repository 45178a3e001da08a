//! What is to happen, by when.
//!
//! A heap of small keys over a list of places: an event is moved twice, into its place and out of it, however many are waiting. Two
//! events of one instant happen in the order in which they were scheduled.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Everything that is to happen.
#[derive(Debug)]
pub(super) struct Agenda<E> {
    /// World time, number and place of each event, the next on top. No two have the same number.
    heap: BinaryHeap<Reverse<(u64, u64, usize)>>,
    places: Vec<Option<E>>,
    free: Vec<usize>,
    scheduled: u64,
}

impl<E> Agenda<E> {
    pub(super) const fn new() -> Self {
        Self { heap: BinaryHeap::new(), places: Vec::new(), free: Vec::new(), scheduled: 0 }
    }

    /// Has this happen at this world time, after all that is to happen then already.
    pub(super) fn schedule(&mut self, at: u64, event: E) {
        self.scheduled += 1;
        let place = match self.free.pop() {
            Some(place) => {
                self.places[place] = Some(event);
                place
            }
            None => {
                self.places.push(Some(event));
                self.places.len() - 1
            }
        };
        self.heap.push(Reverse((at, self.scheduled, place)));
    }

    /// The next event and its time, if it happens until `until`.
    pub(super) fn next(&mut self, until: u64) -> Option<(u64, E)> {
        let Reverse((at, ..)) = *self.heap.peek()?;
        if at > until {
            return None;
        }
        let Reverse((at, _, place)) = self.heap.pop()?;
        let event = self.places[place].take()?;
        self.free.push(place);
        Some((at, event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::{Domain, Draw};
    use std::collections::BTreeMap;

    #[test]
    fn events_happen_by_time_and_then_in_the_order_in_which_they_were_scheduled() {
        let mut draw = Draw::new(5, Domain::Setup, &[]);
        let mut agenda = Agenda::new();
        let mut slow = BTreeMap::new();
        let mut now = 0;
        for number in 0..20_000_u64 {
            let at = now + draw.below(40);
            agenda.schedule(at, number);
            slow.insert((at, number), number);
            if draw.below(3) > 0 {
                let until = now + draw.below(20);
                let due = slow.first_key_value().map(|(key, _)| *key).filter(|key| key.0 <= until);
                let due = due.and_then(|key| Some((key.0, slow.remove(&key)?)));
                assert_eq!(agenda.next(until), due);
                now = due.map_or(now, |(at, _)| at);
            }
        }
        assert!(agenda.places.len() < 20_000, "places are used again");
        let rest: Vec<u64> = core::iter::from_fn(|| agenda.next(u64::MAX)).map(|it| it.1).collect();
        assert!(rest.into_iter().eq(slow.into_values()));
    }
}
