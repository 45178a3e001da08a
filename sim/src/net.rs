//! The network: when a message arrives, how often, or never.
//!
//! The contract lets a message be lost, delayed, duplicated or reordered; one that arrives is whole. So
//! the network never touches contents: it answers a send with the times of its deliveries. Each
//! direction of each link is a thing of its own, which is how one-way partitions come about. What
//! becomes of a message is drawn from its name: its link, about when it is sent, and which of that time it is
//! ([`crate::draw::Ticks`]).

mod limits;

use crate::choices::Delivery;
use crate::draw::{Domain, Draw, Ticks};
use ironseed_core::types::NodeId;
use limits::Limits;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How the network behaves where nothing is cut. Rates in parts per million of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weather {
    /// A typical one-way delay, nanoseconds; some messages take up to a hundred times as long.
    pub delay: u64,
    /// Messages that never arrive.
    pub loss_ppm: u32,
    /// Messages that arrive twice.
    pub duplicate_ppm: u32,
    /// Messages that arrive a second time, seconds later.
    pub replay_ppm: u32,
    /// Whether a message may overtake an earlier one of its link.
    pub reorder: bool,
}

impl Weather {
    /// A network on a good day.
    #[must_use]
    pub const fn calm(delay: u64) -> Self {
        Self { delay, loss_ppm: 0, duplicate_ppm: 0, replay_ppm: 0, reorder: false }
    }
}

/// What becomes of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fate {
    /// World times of its deliveries, none if it is lost.
    pub arrivals: Vec<u64>,
    /// Whether this one goes through its encoded form on the way.
    pub through_bytes: bool,
}

/// All links.
#[derive(Clone, Debug)]
pub struct Network {
    seed: u64,
    weather: Weather,
    /// Whether every message takes exactly the typical time.
    even: bool,
    /// Whether everything has healed.
    healed: bool,
    /// What becomes of these messages, by link, tick and number, whatever the weather.
    given: BTreeMap<[u64; 4], Vec<u64>>,
    /// What became of every message so far, if that is to be remembered.
    fates: Option<Vec<Delivery>>,
    links: BTreeMap<(NodeId, NodeId), Link>,
    limits: Limits,
    /// Messages lost, duplicated, replayed, cut.
    counts: Counts,
}

/// How often the network did what to a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages sent.
    pub sent: u64,
    /// Lost by the weather.
    pub lost: u64,
    /// Stopped at a cut.
    pub cut: u64,
    /// Delivered twice.
    pub duplicated: u64,
    /// Delivered again long after.
    pub replayed: u64,
    /// Queued for a narrow link.
    pub throttled: u64,
    /// Lost with their connection.
    pub severed: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Link {
    sent: Ticks,
    /// Cuts that lie over this direction now: they may overlap.
    cuts: u32,
    /// Nothing arrives before this.
    clogged_until: u64,
    /// Arrival of the last message, which the next one does not overtake unless the weather lets it.
    last_arrival: u64,
}

impl Network {
    /// A network in this weather.
    #[must_use]
    pub const fn new(seed: u64, weather: Weather) -> Self {
        Self {
            seed,
            weather,
            even: false,
            healed: false,
            given: BTreeMap::new(),
            fates: None,
            links: BTreeMap::new(),
            limits: Limits::new(),
            counts: Counts {
                sent: 0,
                lost: 0,
                cut: 0,
                duplicated: 0,
                replayed: 0,
                throttled: 0,
                severed: 0,
            },
        }
    }

    /// The same network with every message as fast as the others of its weather.
    #[must_use]
    pub fn even(self, even: bool) -> Self {
        Self { even, ..self }
    }

    /// The same network with these fates for these messages.
    #[must_use]
    pub fn with(mut self, deliveries: &[Delivery]) -> Self {
        self.given = deliveries.iter().map(|one| (name_of(one), one.takes.clone())).collect();
        self
    }

    /// Remembers from now on what becomes of every message that meets no cut.
    pub fn remember(&mut self) {
        self.fates = Some(Vec::new());
    }

    /// What was remembered.
    #[must_use]
    pub fn fates(&self) -> &[Delivery] {
        self.fates.as_deref().unwrap_or_default()
    }

    /// Takes a message with so many bulk bytes.
    pub fn send(&mut self, now: u64, from: NodeId, to: NodeId, bulk_bytes: u64) -> Fate {
        self.send_sized(now, from, to, bulk_bytes, bulk_bytes)
    }

    /// Takes a message of so many bytes, of which so many are bulk. Only narrow links ask for the bytes of all
    /// ([`Self::is_narrow`]).
    pub fn send_sized(
        &mut self,
        now: u64,
        from: NodeId,
        to: NodeId,
        bulk_bytes: u64,
        bytes: u64,
    ) -> Fate {
        let weather = self.weather;
        let link = self.links.entry((from, to)).or_default();
        let [tick, number] = link.sent.name(now);
        self.counts.sent += 1;
        let name = [u64::from(from.0), u64::from(to.0), tick, number];
        let mut draw = Draw::new(self.seed, Domain::Message, &name);
        let mut fate = Fate { arrivals: Vec::new(), through_bytes: draw.chance(1, 8) };
        if link.cuts > 0 {
            self.counts.cut += 1;
            return fate;
        }
        // A given fate is one under this weather, and the rest of what is drawn is drawn as ever.
        let given = self.given.get(&name);
        let lost = draw.ppm(weather.loss_ppm);
        if given.map_or(lost, Vec::is_empty) {
            self.counts.lost += 1;
            self.note(name, &[]);
            return fate;
        }
        let drawn = draw.latency(weather.delay);
        // A message that takes long holds up what follows it on its link. If each could, a link with thousands of
        // messages a second would never be free, and no election would outlast it: after the healing only the first of
        // a tick may.
        let held_up = !self.healed || weather.reorder || number == 1;
        let drawn = if held_up { drawn } else { drawn.min(weather.delay + weather.delay / 2) };
        let drawn = if self.even { weather.delay } else { drawn };
        let mut takes = given.cloned().unwrap_or_else(|| vec![drawn]);
        if given.is_none() {
            if draw.ppm(weather.duplicate_ppm) {
                self.counts.duplicated += 1;
                takes.push(drawn + draw.latency(weather.delay));
            }
            if draw.ppm(weather.replay_ppm) {
                self.counts.replayed += 1;
                takes.push(drawn + draw.magnitude(100_000_000, 5_000_000_000));
            }
        }
        self.note(name, &takes);
        let leaves = self.leave(now, (from, to), bytes, bulk_bytes > 0);
        let link = self.links.entry((from, to)).or_default();
        let travel = takes[0] + bulk_bytes / BULK_BYTES_PER_NS;
        let mut arrival = (leaves + travel).max(link.clogged_until);
        // Bulk bytes have a connection of their own: they neither wait nor keep others waiting.
        if !weather.reorder && bulk_bytes == 0 {
            arrival = arrival.max(link.last_arrival + 1);
            link.last_arrival = arrival;
        }
        let first = takes[0];
        for again in &mut takes {
            *again = arrival + again.saturating_sub(first);
        }
        fate.arrivals = takes;
        fate
    }

    fn note(&mut self, name: [u64; 4], takes: &[u64]) {
        let [from, to, tick, number] = name;
        if let Some(fates) = &mut self.fates {
            let (from, to, takes) = (from as u32, to as u32, takes.to_vec());
            fates.push(Delivery { from, to, tick, number, takes });
        }
    }

    /// Whether some link of a node is cut, in any direction.
    #[must_use]
    pub fn is_parted(&self, node: NodeId) -> bool {
        self.links.iter().any(|((from, to), link)| link.cuts > 0 && (*from == node || *to == node))
    }

    /// Every direction that is cut now: sender and receiver.
    pub fn cuts(&self) -> impl Iterator<Item = (NodeId, NodeId)> {
        self.links.iter().filter(|(_, link)| link.cuts > 0).map(|(ends, _)| *ends)
    }

    /// Whether this direction is cut now.
    #[must_use]
    pub fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.links.get(&(from, to)).is_some_and(|link| link.cuts > 0)
    }

    /// Whether a message that arrives now gets through; a cut takes what is on its way.
    pub fn lets_through(&mut self, from: NodeId, to: NodeId) -> bool {
        let open = self.links.get(&(from, to)).is_none_or(|link| link.cuts == 0);
        self.counts.cut += u64::from(!open);
        open
    }

    /// Cuts one direction of one link, until [`Self::mend`] was called as often.
    pub fn cut(&mut self, from: NodeId, to: NodeId) {
        self.links.entry((from, to)).or_default().cuts += 1;
    }

    /// Takes one cut away.
    pub fn mend(&mut self, from: NodeId, to: NodeId) {
        let link = self.links.entry((from, to)).or_default();
        link.cuts = link.cuts.saturating_sub(1);
    }

    /// Nothing sent from now on arrives on this direction before `until`.
    pub fn clog(&mut self, from: NodeId, to: NodeId, until: u64) {
        let link = self.links.entry((from, to)).or_default();
        link.clogged_until = link.clogged_until.max(until);
    }

    /// Links in this direction carry no more than so much until then.
    pub fn throttle(&mut self, from: NodeId, to: NodeId, until: u64, bytes_per_second: u64) {
        self.limits.throttle((from, to), until, bytes_per_second);
    }

    /// Whether a message takes time in proportion to its bytes here.
    #[must_use]
    pub fn is_narrow(&self, from: NodeId, to: NodeId) -> bool {
        self.limits.is_narrow((from, to))
    }

    fn leave(&mut self, now: u64, ends: (NodeId, NodeId), bytes: u64, is_bulk: bool) -> u64 {
        if !self.limits.is_narrow(ends) {
            return now;
        }
        let leaves = self.limits.departure(now, ends, bytes + FRAME_BYTES, is_bulk);
        self.counts.throttled += u64::from(leaves > now);
        leaves
    }

    /// The connection of this direction breaks after the world's message of this number, and there is another one at
    /// `until`: nothing arrives before.
    pub fn reset(&mut self, from: NodeId, to: NodeId, sent: u64, until: u64) {
        self.limits.sever((from, to), sent);
        let link = self.links.entry((from, to)).or_default();
        (link.clogged_until, link.last_arrival) = (until, until);
    }

    /// Whether the world's message of this number was under way when its connection broke.
    pub fn is_severed(&mut self, from: NodeId, to: NodeId, send: u64) -> bool {
        let severed = self.limits.is_severed((from, to), send);
        self.counts.severed += u64::from(severed);
        severed
    }

    /// Changes the weather.
    pub const fn set_weather(&mut self, weather: Weather) {
        self.weather = weather;
    }

    /// Every link is whole, and the weather is calm.
    pub fn heal(&mut self) {
        for link in self.links.values_mut() {
            link.cuts = 0;
            link.clogged_until = 0;
        }
        self.limits.heal();
        self.healed = true;
        self.weather = Weather::calm(self.weather.delay.min(CALM_DELAY_MAX));
    }

    /// What happened so far.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }
}

fn name_of(delivery: &Delivery) -> [u64; 4] {
    [u64::from(delivery.from), u64::from(delivery.to), delivery.tick, delivery.number]
}

/// One gigabyte a second.
const BULK_BYTES_PER_NS: u64 = 1;
/// What a frame adds to a message.
const FRAME_BYTES: u64 = 24;
/// A healed network has typical one-way delays of two milliseconds at the most.
const CALM_DELAY_MAX: u64 = 2_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const N1: NodeId = NodeId(1);
    const N2: NodeId = NodeId(2);

    fn arrivals(network: &mut Network, count: u64) -> Vec<Vec<u64>> {
        (0..count).map(|at| network.send(at * 1000, N1, N2, 0).arrivals).collect()
    }

    #[test]
    fn calm_links_keep_their_order_and_lose_nothing() {
        let mut network = Network::new(1, Weather::calm(1_000_000));
        let arrived = arrivals(&mut network, 1000);
        assert!(arrived.iter().all(|times| times.len() == 1));
        assert!(arrived.is_sorted());
    }

    /// How many of so many messages of each millisecond arrive more than ten typical delays late, in thousandths.
    fn held_up(network: &mut Network, each: u64) -> u64 {
        let sent: Vec<u64> = (0..10_000 * each).map(|at| at * ((1 << 20) / each)).collect();
        let late = |at: &&u64| network.send(**at, N1, N2, 0).arrivals[0] > **at + 10_000_000;
        sent.iter().filter(late).count() as u64 * 1000 / sent.len() as u64
    }

    #[test]
    fn a_healed_link_is_held_up_by_time_and_not_by_how_much_it_carries() {
        let network = || Network::new(1, Weather::calm(1_000_000));
        assert!(held_up(&mut network(), 16) > 200, "each of them may hold up the others");
        let mut healed = network();
        healed.heal();
        let busy = held_up(&mut healed.clone(), 16);
        assert!((5..100).contains(&busy), "{busy}");
        let idle = held_up(&mut healed, 1);
        assert!(busy.abs_diff(idle) < 20, "{busy} {idle}");
    }

    #[test]
    fn bad_weather_loses_doubles_replays_and_reorders() {
        let weather = Weather {
            delay: 1_000_000,
            loss_ppm: 100_000,
            duplicate_ppm: 50_000,
            replay_ppm: 20_000,
            reorder: true,
        };
        let mut network = Network::new(1, weather);
        let arrived = arrivals(&mut network, 2000);
        let counts = network.counts();
        assert!((100..300).contains(&counts.lost), "{counts:?}");
        assert!((40..160).contains(&counts.duplicated), "{counts:?}");
        assert!((10..80).contains(&counts.replayed), "{counts:?}");
        assert!(!arrived.iter().flatten().is_sorted());
    }

    #[test]
    fn cuts_are_one_way_overlap_and_take_what_is_under_way() {
        let mut network = Network::new(1, Weather::calm(1_000_000));
        assert!(!network.is_parted(N1));
        network.cut(N1, N2);
        network.cut(N1, N2);
        assert!(network.is_parted(N1) && network.is_parted(N2));
        assert!(!network.lets_through(N1, N2));
        assert!(network.lets_through(N2, N1));
        assert!(network.send(0, N1, N2, 0).arrivals.is_empty());
        network.mend(N1, N2);
        assert!(!network.lets_through(N1, N2), "one cut is left");
        network.mend(N1, N2);
        assert!(network.lets_through(N1, N2));
        assert!(!network.is_parted(N1));
    }

    #[test]
    fn a_clogged_link_delivers_late_and_all() {
        let mut network = Network::new(1, Weather::calm(1_000_000));
        network.clog(N1, N2, 5_000_000_000);
        assert!(arrivals(&mut network, 10).iter().flatten().all(|&at| at >= 5_000_000_000));
    }

    #[test]
    fn a_narrow_link_takes_time_by_size_and_its_queue_grows_until_it_is_wide_again() {
        let mut network = Network::new(1, Weather::calm(1_000_000)).even(true);
        let until = 1_000_000_000;
        network.throttle(N1, N2, until, 200_000);
        let mut arrival =
            |at, bulk, bytes| network.send_sized(at, N1, N2, bulk, bytes).arrivals[0] as f64 / 1e6;
        // Half of the rate is each channel's: ten bytes take a tenth of a millisecond.
        assert_eq!(arrival(0, 0, 976), 11.0);
        assert_eq!(arrival(0, 0, 9_976), 111.0);
        let small = arrival(0, 0, 76);
        assert_eq!(small, 112.0, "a small one waits for the large one before it");
        assert!((501.0..502.0).contains(&arrival(0, 49_976, 49_976)), "the other channel does not");
        assert_eq!(arrival(0, 0, 9_000_000), 1001.0, "the rest leaves when the limit ends");
        assert_eq!(arrival(until, 0, 9_000_000), 1001.000001);
        assert_eq!(network.counts().throttled, 5);
        assert!(!network.is_narrow(N1, N2));
    }

    #[test]
    fn a_connection_takes_what_is_under_way_with_it() {
        let mut network = Network::new(1, Weather::calm(1_000_000));
        network.reset(N1, N2, 17, 5_000_000);
        assert!(network.is_severed(N1, N2, 17));
        assert!(!network.is_severed(N1, N2, 18) && !network.is_severed(N2, N1, 3));
        assert!(arrivals(&mut network, 10).iter().flatten().all(|&at| at > 5_000_000));
        assert_eq!(network.counts().severed, 1);
    }

    #[test]
    fn fates_can_be_given_in_place_of_the_weather_s() {
        let weather = Weather {
            loss_ppm: 50_000,
            duplicate_ppm: 30_000,
            replay_ppm: 30_000,
            ..Weather::calm(1_000_000)
        };
        let mut drawn = Network::new(3, weather);
        drawn.remember();
        let before = arrivals(&mut drawn, 1000);
        let fates = drawn.fates().to_vec();
        assert_eq!(fates.len(), 1000);
        let mut given = Network::new(8, Weather::calm(700_000)).even(true).with(&fates);
        assert_eq!(before, arrivals(&mut given, 1000));
        // Only what is lost is given: everything else is everyday.
        let lost: Vec<Delivery> = fates.into_iter().filter(|fate| fate.takes.is_empty()).collect();
        assert!(lost.len() > 20, "{}", lost.len());
        let mut calm = Network::new(3, Weather::calm(1_000_000)).even(true).with(&lost);
        let after = arrivals(&mut calm, 1000);
        for at in 0..1000 {
            assert_eq!(before[at].is_empty(), after[at].is_empty());
            assert!(after[at].iter().all(|&time| time == at as u64 * 1000 + 1_000_000));
        }
    }

    #[test]
    fn a_message_has_its_fate_whatever_happens_on_other_links() {
        let weather = Weather { loss_ppm: 300_000, ..Weather::calm(1_000_000) };
        let mut alone = Network::new(9, weather);
        let mut busy = Network::new(9, weather);
        for at in 0..100 {
            busy.send(at, N2, N1, 0);
            assert_eq!(alone.send(at, N1, N2, 0), busy.send(at, N1, N2, 0));
        }
    }
}
