//! What members of chains have told this commander: caught up (G15, G17), parked (G20), vouched (G19).
//!
//! All of it counts for one epoch only, and only from the listed life of the member whose word it is. What was heard
//! about an epoch that has passed is forgotten; it is said again in the next, where it still holds.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::machines::dictionary::Dictionary;
use crate::messages::ownership::{Chain, Holder, HolderState};
use crate::planted::{self, Bug};
use crate::sites::{self, Site};
use crate::types::{Epoch, Incarnation, Instant, NodeId, RangeId};

/// A node in one life: who says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Life {
    pub node: NodeId,
    pub incarnation: Incarnation,
}

impl Life {
    pub fn is(self, holder: &Holder) -> bool {
        holder.node == self.node && holder.incarnation == self.incarnation
    }
}

#[derive(Debug, Default)]
pub(super) struct Evidence {
    caught_up: BTreeMap<RangeId, CaughtUp>,
    parked: BTreeMap<RangeId, (Epoch, Life)>,
    parking: BTreeMap<RangeId, Parking>,
    /// Heads that did not park in time, and when they were let go.
    balked: BTreeMap<RangeId, Instant>,
    asks: BTreeMap<u64, Ask>,
    asked: BTreeMap<(RangeId, NodeId), (Epoch, Instant)>,
    vouched: BTreeMap<(RangeId, NodeId), Vouched>,
}

#[derive(Debug, PartialEq, Eq)]
struct CaughtUp {
    epoch: Epoch,
    joiner: Life,
    source: Life,
}

/// A head was told to park.
#[derive(Debug)]
struct Parking {
    epoch: Epoch,
    /// Who is to lead then.
    to: NodeId,
    since: Instant,
    sent: Instant,
}

/// A question whether ranges are served.
#[derive(Debug)]
struct Ask {
    to: NodeId,
    at: Instant,
    ranges: BTreeMap<RangeId, Epoch>,
}

#[derive(Debug)]
struct Vouched {
    epoch: Epoch,
    incarnation: Incarnation,
    /// When it was asked: the answer is at least as young.
    asked: Instant,
}

impl Evidence {
    /// A source says that its joiner has all. Whether that is news: it is said again each beat.
    pub fn on_caught_up(&mut self, range: RangeId, epoch: Epoch, joiner: Life, source: Life) -> bool {
        let said = CaughtUp { epoch, joiner, source };
        let known = self.caught_up.get(&range);
        if known.is_some_and(|known| known.epoch > epoch || *known == said) || sites::fires(Site::WordForgotten) {
            return false;
        }
        self.caught_up.insert(range, said);
        true
    }

    /// A head says that it is parked. Whether that is news: it is said again each beat.
    pub fn on_parked(&mut self, range: RangeId, epoch: Epoch, head: Life) -> bool {
        let known = self.parked.get(&range);
        if known.is_some_and(|(of, by)| *of > epoch || (*of, *by) == (epoch, head)) || sites::fires(Site::WordForgotten)
        {
            return false;
        }
        self.parked.insert(range, (epoch, head));
        true
    }

    pub fn on_vouched(&mut self, id: u64, ranges: &[RangeId], by: Life) {
        let heard = |ask: &&Ask| ask.to == by.node && !sites::fires(Site::WordForgotten);
        let Some(ask) = self.asks.get(&id).filter(heard) else { return };
        for range in ranges {
            if let Some(epoch) = ask.ranges.get(range) {
                let vouched = Vouched { epoch: *epoch, incarnation: by.incarnation, asked: ask.at };
                self.vouched.insert((*range, by.node), vouched);
            }
        }
    }

    /// Whether the source of the chain's joiner has said, in this epoch, that it has all.
    pub fn has_caught_up(&self, range: RangeId, chain: &Chain) -> bool {
        let counts = |said: &&CaughtUp| said.epoch == chain.epoch || planted::is(Bug::CaughtUpOnce);
        if planted::is(Bug::PromotedUnasked) {
            return true;
        }
        let Some(said) = self.caught_up.get(&range).filter(counts) else { return false };
        let joiner = chain.holders.last().filter(|holder| holder.state == HolderState::Loading);
        let source = chain.serving().last();
        let of_source = |source| said.source.is(source) || planted::is(Bug::CaughtUpOnce);
        joiner.is_some_and(|joiner| said.joiner.is(joiner)) && source.is_some_and(of_source)
    }

    /// Whether the chain's head has said, in this epoch, that it is parked.
    pub fn has_parked(&self, range: RangeId, chain: &Chain) -> bool {
        let said = self.parked.get(&range).filter(|(epoch, _)| *epoch == chain.epoch);
        said.is_some_and(|(_, head)| chain.head().is_some_and(|listed| head.is(listed)))
    }

    /// Since when the head has been told, in this epoch, to park.
    pub fn parking_since(&self, range: RangeId, chain: &Chain) -> Option<Instant> {
        self.parking.get(&range).filter(|order| order.epoch == chain.epoch).map(|order| order.since)
    }

    /// Who is to lead once the head has parked, if it was told to in this epoch.
    pub fn next_head(&self, range: RangeId, epoch: Epoch) -> Option<NodeId> {
        self.parking.get(&range).filter(|order| order.epoch == epoch).map(|order| order.to)
    }

    /// By when heads will have parked that were told to so lately that the others wait for them; none if all have.
    pub fn parked_by(&self, now: Instant, dictionary: &Dictionary, patience: Duration) -> Option<Instant> {
        let waits = |(range, order): (&RangeId, &Parking)| {
            let chain = dictionary.chain(*range);
            let is_due = order.epoch == chain.epoch && !self.has_parked(*range, chain);
            is_due.then_some(order.since + patience).filter(|by| now < *by)
        };
        self.parking.iter().filter_map(waits).max()
    }

    /// How many heads are parked, or told to be.
    pub fn parking_count(&self) -> usize {
        self.parking.len()
    }

    /// Notes that a head is to be told to park; false if it was told less than `pause` ago.
    pub fn order_park(&mut self, now: Instant, range: RangeId, epoch: Epoch, to: NodeId, pause: Duration) -> bool {
        match self.parking.get_mut(&range) {
            Some(order) if order.epoch == epoch => {
                let due = now.since(order.sent) >= pause;
                order.sent = if due { now } else { order.sent };
                due
            }
            _ => {
                self.parking.insert(range, Parking { epoch, to, since: now, sent: now });
                true
            }
        }
    }

    /// Heads that were too busy to hand over are asked again.
    pub fn forget_balked(&mut self) {
        self.balked.clear();
    }

    /// Notes that a head did not park in time.
    pub fn note_balked(&mut self, now: Instant, range: RangeId) {
        self.balked.insert(range, now);
    }

    /// Whether the head of a range did not park in time, less than `span` ago.
    pub fn has_balked(&self, now: Instant, range: RangeId, span: Duration) -> bool {
        self.balked.get(&range).is_some_and(|at| now.since(*at) < span)
    }

    /// Whether a member was asked, not before `since`, and has said that it serves the range in this epoch.
    pub fn has_vouched(&self, range: RangeId, epoch: Epoch, member: &Holder, since: Instant) -> bool {
        self.vouched
            .get(&(range, member.node))
            .is_some_and(|word| word.epoch == epoch && word.incarnation == member.incarnation && word.asked >= since)
    }

    /// Of ranges that a member should vouch for, those it was not asked for less than `pause` ago.
    pub fn due(&self, now: Instant, to: NodeId, ranges: &[(RangeId, Epoch)], pause: Duration) -> Vec<(RangeId, Epoch)> {
        let asked = |(range, epoch): &&(RangeId, Epoch)| {
            self.asked.get(&(*range, to)).is_some_and(|(of, at)| of == epoch && now.since(*at) < pause)
        };
        ranges.iter().filter(|one| !asked(one)).copied().collect()
    }

    /// Notes that a member is asked now.
    pub fn ask(&mut self, now: Instant, id: u64, to: NodeId, ranges: &[(RangeId, Epoch)]) {
        for (range, epoch) in ranges {
            self.asked.insert((*range, to), (*epoch, now));
        }
        self.asks.insert(id, Ask { to, at: now, ranges: ranges.iter().copied().collect() });
    }

    /// Forgets what is about epochs that have passed, and questions older than `patience`.
    pub fn forget(&mut self, now: Instant, dictionary: &Dictionary, patience: Duration) {
        // What is about an epoch that is still to come here may be needed soon.
        let epoch = |range: &RangeId| dictionary.chains.get(range.0 as usize).map(|chain| chain.epoch);
        let counts = |range: &RangeId, of: Epoch| epoch(range).is_some_and(|now| of >= now);
        self.caught_up.retain(|range, said| counts(range, said.epoch) || planted::is(Bug::CaughtUpOnce));
        self.parked.retain(|range, (of, _)| counts(range, *of));
        self.parking.retain(|range, order| counts(range, order.epoch));
        self.asked.retain(|(range, _), (of, _)| counts(range, *of));
        self.vouched.retain(|(range, _), word| counts(range, word.epoch));
        self.asks.retain(|_, ask| now.since(ask.at) < patience);
        self.balked.retain(|_, at| now.since(*at) < patience * 10);
    }
}
