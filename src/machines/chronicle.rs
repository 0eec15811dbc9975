//! The chronicle: what happened to the mesh, as one node has seen it, for people who ask.
//!
//! Events are numbered from 1 in each life of a node, and the newest are kept; who asks for those after a number is told how
//! many it has missed. No decision rests on it: it is written by the postmen from the machines' notes, and read by `explain`
//! and `watch`.

use std::collections::VecDeque;

use crate::messages::events::Event;
use crate::types::{NodeId, Now};

/// How many events a node keeps unless told otherwise: some days of a quiet mesh, some minutes of a wild one.
pub const KEPT: usize = 2048;

/// One event in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Counts from 1 in each life of the node.
    pub number: u64,
    /// When it was noticed here, in milliseconds since 1970.
    pub wall_ms: u64,
    /// What happened.
    pub event: Event,
}

/// The newest events, oldest first.
#[derive(Clone, Debug)]
pub struct Chronicle {
    capacity: usize,
    last: u64,
    events: VecDeque<Recorded>,
}

impl Default for Chronicle {
    fn default() -> Self {
        Self::new(KEPT)
    }
}

impl Chronicle {
    /// An empty one that keeps the newest `capacity` events.
    pub fn new(capacity: usize) -> Self {
        assert!(capacity > 0, "a chronicle keeps something");
        Self { capacity, last: 0, events: VecDeque::new() }
    }

    /// Writes an event down, and gives it its number.
    pub fn record(&mut self, now: Now, event: Event) -> u64 {
        if self.events.len() == self.capacity {
            self.events.pop_front();
        }
        self.last += 1;
        self.events.push_back(Recorded { number: self.last, wall_ms: now.wall_ms, event });
        self.last
    }

    /// The number of the newest event; 0 when there is none.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// All that are kept, oldest first.
    pub fn events(&self) -> impl DoubleEndedIterator<Item = &Recorded> {
        self.events.iter()
    }

    /// Those after a number, oldest first.
    pub fn after(&self, number: u64) -> impl Iterator<Item = &Recorded> {
        let place = self.events.partition_point(|recorded| recorded.number <= number);
        self.events.range(place..)
    }

    /// How many events after a number are not kept any more.
    pub fn missed_after(&self, number: u64) -> u64 {
        let oldest = self.last - self.events.len() as u64;
        oldest.saturating_sub(number)
    }

    /// Those that concern a node, oldest first.
    pub fn about_node(&self, node: NodeId) -> impl Iterator<Item = &Recorded> {
        self.events.iter().filter(move |recorded| recorded.event.node == Some(node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::events::EventKind;
    use crate::types::{RangeId, Term, Version};

    fn event(number: u64) -> Event {
        Event {
            kind: EventKind::Noticed,
            term: Term(1),
            version: Version(1),
            node: Some(NodeId(number % 2)),
            ranges: vec![RangeId(number as u16)],
            text: number.to_string(),
        }
    }

    fn numbers<'a>(events: impl Iterator<Item = &'a Recorded>) -> Vec<u64> {
        events.map(|recorded| recorded.number).collect()
    }

    #[test]
    fn the_newest_are_kept_and_the_missed_are_counted() {
        let mut chronicle = Chronicle::new(3);
        assert_eq!((chronicle.last(), chronicle.missed_after(0)), (0, 0));
        for number in 1..=5 {
            assert_eq!(chronicle.record(Now::default(), event(number)), number);
        }
        assert_eq!(numbers(chronicle.after(0)), [3, 4, 5]);
        assert_eq!(chronicle.missed_after(0), 2);
        assert_eq!((numbers(chronicle.after(4)), chronicle.missed_after(4)), (vec![5], 0));
        // A number of a later life, or of another node.
        assert_eq!(numbers(chronicle.after(99)), [0; 0]);
        assert_eq!(numbers(chronicle.about_node(NodeId(1))), [3, 5]);
    }
}
