//! What became of what was sent: an outcome, a broken link, a new dictionary, or nothing for too long.

use std::collections::BTreeSet;
use std::time::Duration;

use super::refusals::{self, Why};
use super::traffic::{Destination, Flight, Sent, Which};
use super::{Door, Effect, Route};
use crate::messages::client::{NotApplied, Outcome, Reply};
use crate::planted::{self, Bug};
use crate::types::{Instant, NodeId, RangeId};

impl Door {
    /// Outcomes of a message that was sent, to the stores here or to `peer`.
    pub(super) fn on_outcomes(
        &mut self,
        now: Instant,
        peer: Option<NodeId>,
        id: u64,
        from: u32,
        outcomes: Vec<Outcome>,
        effects: &mut Vec<Effect>,
    ) {
        // Late, or of another life's link: nobody waits for it.
        let Some(mut sent) = self.sent.remove(&id) else { return };
        if peer == node_of(sent.to) {
            let slots = sent.slots.get_mut(from as usize..).unwrap_or_default();
            for (slot, outcome) in slots.iter_mut().zip(outcomes) {
                let Some(which) = slot.take() else { continue };
                sent.open -= 1;
                self.on_outcome(now, which, outcome, effects);
            }
            if let Some(path) = peer.and_then(|peer| self.paths.get_mut(&peer)) {
                path.pause = Duration::ZERO;
            }
        }
        if sent.open > 0 {
            self.sent.insert(id, sent);
        }
    }

    fn on_outcome(&mut self, now: Instant, which: Which, outcome: Outcome, effects: &mut Vec<Effect>) {
        let (range, write) = self.what(which);
        let Some(flight) = self.land(range, which) else { return };
        match outcome {
            Outcome::Replied(reply) => {
                self.let_go(range);
                self.conclude(&flight, range, reply, effects);
            }
            Outcome::Uncertain if write => self.conclude(&flight, range, refusals::head_dropped(), effects),
            Outcome::Uncertain => self.on_not_applied(now, &flight, range, Why::Moving, effects),
            Outcome::NotApplied(NotApplied::NotHead(_)) => {
                self.on_not_applied(now, &flight, range, Why::Moving, effects)
            }
            Outcome::NotApplied(NotApplied::Held) => self.on_not_applied(now, &flight, range, Why::Held, effects),
            Outcome::NotApplied(NotApplied::Busy) => self.on_not_applied(now, &flight, range, Why::Busy, effects),
        }
        if self.standing.contains(&range) {
            self.resume(now, range, effects);
        }
    }

    fn on_not_applied(&mut self, now: Instant, flight: &Flight, range: RangeId, why: Why, effects: &mut Vec<Effect>) {
        // Where the dictionary has changed since, the new head is asked at once. One that held the command as long as may be
        // has answered others meanwhile: they need not wait for this one.
        if why != Why::Held && self.route(range) == Route::To(flight.to) {
            self.hold_back(now, range);
        }
        self.park(now, flight.which, why, effects);
    }

    /// Answers a command that was carried out, or may have been.
    fn conclude(&mut self, flight: &Flight, range: RangeId, reply: Reply, effects: &mut Vec<Effect>) {
        if !self.traffic_of(range).parked.is_empty() {
            self.refuse_overtaken(flight.session, range, flight.which, effects);
        }
        self.answer(flight.which, reply, effects);
    }

    pub(super) fn on_not_sent(&mut self, now: Instant, peer: NodeId, id: u64, effects: &mut Vec<Effect>) {
        let Some(sent) = self.sent.get(&id).filter(|sent| node_of(sent.to) == Some(peer)) else { return };
        assert!(sent.open > 0, "nothing of it is waited for");
        let sent = self.sent.remove(&id).expect("just seen");
        self.block(now, peer);
        self.tell_unreachable(now, peer, effects);
        for which in sent.slots.into_iter().flatten() {
            let (range, _) = self.what(which);
            if self.land(range, which).is_some() {
                self.park(now, which, Why::Unreachable, effects);
            }
        }
    }

    pub(super) fn on_link_down(&mut self, now: Instant, peer: NodeId, effects: &mut Vec<Effect>) {
        self.block(now, peer);
        self.unsettle(now, peer);
        let reply = refusals::link_broke(&self.name(peer));
        if self.lose(now, &reply, effects, |sent| node_of(sent.to) == Some(peer)) {
            self.tell_unreachable(now, peer, effects);
        }
        // A read that came back may go to another head already.
        self.resume_all(now, effects);
    }

    /// Lives that the dictionary now calls dead will not answer any more.
    pub(super) fn forget_lost(&mut self, effects: &mut Vec<Effect>, now: Instant) {
        let waited = self.sent.values().filter_map(|sent| match sent.to {
            Destination::There(node, life) => Some((node, life)),
            Destination::Here => None,
        });
        let lost: BTreeSet<_> = waited.filter(|(node, life)| !self.may_live(*node, *life)).collect();
        for (node, life) in lost {
            let reply = refusals::life_ended(&self.name(node));
            self.lose(now, &reply, effects, |sent| sent.to == Destination::There(node, life));
        }
    }

    /// What was sent for too long.
    pub(super) fn give_up_waiting(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let bound = self.bound();
        while let Some((id, to)) =
            self.sent.first_key_value().filter(|(_, sent)| sent.at + bound <= now).map(|(id, sent)| (*id, sent.to))
        {
            let name = node_of(to).map_or_else(|| "this node's store".to_owned(), |node| self.name(node));
            let sent = self.sent.remove(&id).expect("just seen");
            self.lose_one(now, sent, &refusals::unanswered(&name), effects);
            if let Some(node) = node_of(to) {
                self.tell_unreachable(now, node, effects);
            }
        }
    }

    /// Gives up all messages of a kind. True when something was waited for.
    fn lose(&mut self, now: Instant, reply: &Reply, effects: &mut Vec<Effect>, lost: impl Fn(&Sent) -> bool) -> bool {
        let ids: Vec<u64> = self.sent.iter().filter(|(_, sent)| lost(sent)).map(|(id, _)| *id).collect();
        for id in &ids {
            let sent = self.sent.remove(id).expect("just seen");
            self.lose_one(now, sent, reply, effects);
        }
        !ids.is_empty()
    }

    /// The answer will not come: a write may have happened, a read may be sent again.
    fn lose_one(&mut self, now: Instant, sent: Sent, reply: &Reply, effects: &mut Vec<Effect>) {
        for which in sent.slots.into_iter().flatten() {
            let (range, write) = self.what(which);
            let Some(flight) = self.land(range, which) else { continue };
            if write && !planted::is(Bug::Resent) {
                self.conclude(&flight, range, reply.clone(), effects);
            } else {
                self.park(now, which, Why::Unreachable, effects);
            }
        }
    }

    /// Where a range has another head now, its reads are sent there at once; the late answers are ignored. Writes are
    /// waited for.
    pub(super) fn follow_heads(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        for place in 0..self.traffic.len() {
            let range = RangeId(place as u16);
            let head = match self.route(range) {
                Route::To(to) => Some(to),
                Route::Nobody => None,
            };
            self.traffic[place].count_elsewhere(head);
            if self.traffic[place].elsewhere > 0 && head.is_some() {
                self.call_back_reads(now, range, effects);
            }
        }
    }

    /// From the last to the first, up to a session's last write: a read before it must not be answered after it.
    fn call_back_reads(&mut self, now: Instant, range: RangeId, effects: &mut Vec<Effect>) {
        let mut stay = BTreeSet::new();
        let flights: Vec<Flight> = self.traffic_of(range).flying.iter().rev().copied().collect();
        for flight in flights {
            let (_, write) = self.what(flight.which);
            if write {
                stay.insert(flight.session);
            }
            if self.route(range) == Route::To(flight.to) || stay.contains(&flight.session) {
                continue;
            }
            self.land(range, flight.which);
            self.void(&flight);
            self.park(now, flight.which, Why::Moving, effects);
        }
    }

    fn void(&mut self, flight: &Flight) {
        let Some(sent) = self.sent.get_mut(&flight.carry) else { return };
        if sent.slots[flight.slot as usize].take().is_some() {
            sent.open -= 1;
        }
        if sent.open == 0 {
            self.sent.remove(&flight.carry);
        }
    }

    fn land(&mut self, range: RangeId, which: Which) -> Option<Flight> {
        let route = self.route(range);
        let traffic = self.traffic_of(range);
        let flight = traffic.land(which)?;
        if traffic.elsewhere > 0 && route != Route::To(flight.to) {
            traffic.elsewhere -= 1;
        }
        Some(flight)
    }

    /// The range of a command that is not answered yet, and whether it may write.
    fn what(&self, which: Which) -> (RangeId, bool) {
        let entry = &self.batches[&which.batch].commands[which.place as usize];
        let request = entry.request.as_ref().expect("what flies is not answered");
        (request.range, request.write)
    }

    fn tell_unreachable(&mut self, now: Instant, node: NodeId, effects: &mut Vec<Effect>) {
        let Some(adoption) = &self.adoption else { return };
        let beat = adoption.published.dictionary.settings.timing.beat();
        let path = self.paths.entry(node).or_default();
        if path.told.is_none_or(|told| told + beat <= now) {
            path.told = Some(now);
            effects.push(Effect::Unreachable(node));
        }
    }
}

fn node_of(to: Destination) -> Option<NodeId> {
    match to {
        Destination::Here => None,
        Destination::There(node, _) => Some(node),
    }
}
