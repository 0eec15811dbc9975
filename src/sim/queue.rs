//! What is to happen, in the order of true time. What falls on one instant happens in an order drawn from the seed, since a
//! fixed order would hide every fault that needs the other one.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rand::RngCore;
use rand_chacha::ChaCha8Rng;

use super::clock::Time;

/// Events to come.
#[derive(Debug)]
pub struct Queue<E> {
    now: Time,
    count: u64,
    /// When, in which order at that instant, how many were pushed before, and where the event lies.
    heap: BinaryHeap<Reverse<(Time, u32, u64, usize)>>,
    /// The events, which are large, so that ordering does not move them; and the places that are free.
    events: Vec<Option<E>>,
    free: Vec<usize>,
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self { now: Time(0), count: 0, heap: BinaryHeap::new(), events: Vec::new(), free: Vec::new() }
    }
}

impl<E> Queue<E> {
    /// The true time: that of the event taken last.
    pub fn now(&self) -> Time {
        self.now
    }

    /// How many events are to come.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether nothing is to come.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// Lets an event happen at a time, now at the earliest.
    pub fn push(&mut self, at: Time, random: &mut ChaCha8Rng, event: E) {
        self.count += 1;
        let place = self.free.pop().unwrap_or_else(|| {
            self.events.push(None);
            self.events.len() - 1
        });
        self.events[place] = Some(event);
        self.heap.push(Reverse((at.max(self.now), random.next_u32(), self.count, place)));
    }

    /// When the next event happens.
    pub fn next_at(&self) -> Option<Time> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }

    /// The next event; the time is then its own.
    pub fn pop(&mut self) -> Option<E> {
        let Reverse((at, _, _, place)) = self.heap.pop()?;
        self.now = at;
        self.free.push(place);
        self.events[place].take()
    }

    /// Lets time pass up to `at`, before which nothing happens any more.
    pub fn pass(&mut self, at: Time) {
        assert!(self.next_at().is_none_or(|next| next >= at), "time passes over an event");
        self.now = self.now.max(at);
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn order(seed: u64) -> Vec<u32> {
        let random = &mut ChaCha8Rng::seed_from_u64(seed);
        let mut queue = Queue::default();
        for event in 0..6 {
            queue.push(Time(u64::from(event / 3)), random, event);
        }
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn time_decides_and_the_seed_among_equals() {
        let orders: std::collections::BTreeSet<_> = (0..20).map(order).collect();
        assert!(orders.len() > 1);
        for order in orders {
            assert!(order[..3].iter().all(|event| *event < 3), "{order:?}");
        }
        assert_eq!(order(7), order(7));
    }
}
