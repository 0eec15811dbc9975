//! Hold and resume: what waits for a head, and what lets it go on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::refusals::{self, Why};
use super::traffic::{Destination, Path, Which};
use super::{Door, Effect, PARKED, PARKED_BYTES, Route};
use crate::machines::heartbeat::Adoption;
use crate::messages::ownership::Standing;
use crate::types::{Instant, NodeId, RangeId, Version};

/// The pauses between two tries, of a range whose head said no and of a node that cannot be reached, grow between these.
const SHORT: Duration = Duration::from_millis(5);
const LONG: Duration = Duration::from_millis(80);

/// How long a cluster door waits for the dictionary to settle before it sends a client to a node whose link just broke.
const SETTLE: Duration = Duration::from_millis(900);

impl Door {
    /// Holds a command until its range can be reached, or refuses it at once if it may not be held.
    pub(super) fn park(&mut self, now: Instant, which: Which, why: Why, effects: &mut Vec<Effect>) {
        let Some(batch) = self.batches.get_mut(&which.batch) else { return };
        let entry = &mut batch.commands[which.place as usize];
        entry.why = why;
        let Some(request) = &entry.request else { return };
        let (range, bytes) = (request.range, refusals::bytes_of(request));
        if batch.end <= now {
            return self.answer(which, self.refusal(which), effects);
        }
        if self.parked.len() >= PARKED || self.parked_bytes + bytes > PARKED_BYTES {
            return self.answer(which, refusals::overfull(), effects);
        }
        self.parked.insert(which);
        self.parked_bytes += bytes;
        self.standing.insert(range);
        self.traffic_of(range).parked.insert(which);
    }

    fn unpark(&mut self, which: Which) {
        if !self.parked.remove(&which) {
            return;
        }
        let batch = &self.batches[&which.batch];
        let request = batch.commands[which.place as usize].request.as_ref().expect("what is parked is not answered");
        let (range, bytes) = (request.range, refusals::bytes_of(request));
        self.parked_bytes -= bytes;
        let traffic = self.traffic_of(range);
        traffic.parked.remove(&which);
        if traffic.parked.is_empty() {
            self.standing.remove(&range);
        }
    }

    pub(super) fn refuse_parked(&mut self, which: Which, overtaken: bool, effects: &mut Vec<Effect>) {
        let reply = if overtaken { refusals::overtaken() } else { self.refusal(which) };
        self.unpark(which);
        self.answer(which, reply, effects);
    }

    pub(super) fn has_parked(&mut self, session: u64, range: RangeId) -> bool {
        let Some(traffic) = self.traffic.get(range.0 as usize) else { return false };
        traffic.parked.iter().any(|which| self.batches[&which.batch].session == session)
    }

    /// A later command of this session was carried out, or may have been: earlier ones that came back must not follow it.
    pub(super) fn refuse_overtaken(&mut self, session: u64, range: RangeId, by: Which, effects: &mut Vec<Effect>) {
        let parked = &self.traffic[range.0 as usize].parked;
        let own = |which: &&Which| self.batches[&which.batch].session == session;
        let late: Vec<Which> = parked.range(..by).filter(own).copied().collect();
        for which in late {
            self.refuse_parked(which, true, effects);
        }
    }

    /// Does not ask the head of this range again at once.
    pub(super) fn hold_back(&mut self, now: Instant, range: RangeId) {
        let traffic = self.traffic_of(range);
        if traffic.not_before.is_some_and(|at| now < at) {
            return;
        }
        traffic.pause = (traffic.pause * 2).clamp(SHORT, LONG);
        let at = now + traffic.pause;
        traffic.not_before = Some(at);
        self.retries.insert((at, range));
    }

    pub(super) fn let_go(&mut self, range: RangeId) {
        let traffic = self.traffic_of(range);
        traffic.pause = Duration::ZERO;
        if let Some(at) = traffic.not_before.take() {
            self.retries.remove(&(at, range));
        }
    }

    /// Does not try this node again at once.
    pub(super) fn block(&mut self, now: Instant, node: NodeId) {
        let path = self.paths.entry(node).or_default();
        if path.is_blocked() {
            return;
        }
        path.pause = (path.pause * 2).clamp(SHORT, LONG);
        path.blocked = Some(now + path.pause);
    }

    /// Whether a client that is sent to this node would probably find nobody there.
    pub(super) fn is_unsettled(&self, now: Instant, node: NodeId) -> bool {
        let broken = self.paths.get(&node).and_then(|path| path.unsettled).is_some_and(|until| now < until);
        let roster = self.adoption.as_ref().map(|adoption| &adoption.published.dictionary.roster);
        let member = roster.and_then(|roster| roster.get(&node));
        broken || member.is_some_and(|member| member.standing == Standing::Suspect)
    }

    pub(super) fn unsettle(&mut self, now: Instant, node: NodeId) {
        let wait = SETTLE.min(self.config.park);
        self.paths.entry(node).or_default().unsettled = Some(now + wait);
    }

    pub(super) fn on_link_up(&mut self, now: Instant, peer: NodeId, effects: &mut Vec<Effect>) {
        let told = self.paths.remove(&peer).and_then(|path| path.told);
        if told.is_some() {
            self.paths.insert(peer, Path { told, ..Path::default() });
        }
        self.resume_all(now, effects);
    }

    pub(super) fn on_adopt(&mut self, now: Instant, adoption: Arc<Adoption>, effects: &mut Vec<Effect>) {
        let known = self.adoption.replace(Arc::clone(&adoption));
        let version = known.map_or(Version(0), |known| known.published.dictionary.version);
        let dictionary = &adoption.published.dictionary;
        if dictionary.version == version {
            return;
        }
        self.paths.retain(|node, _| dictionary.roster.contains_key(node));
        self.forget_lost(effects, now);
        for (range, _) in dictionary.ranges().filter(|(_, chain)| chain.changed > version) {
            self.let_go(range);
        }
        self.follow_heads(now, effects);
        self.resume_all(now, effects);
    }

    /// Goes on with all that can go on.
    pub(super) fn resume_all(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        for range in self.standing.clone() {
            self.resume(now, range, effects);
        }
    }

    /// Goes on with what is parked for a range, in order, as far as it can.
    pub(super) fn resume(&mut self, now: Instant, range: RangeId, effects: &mut Vec<Effect>) {
        let Route::To(to) = self.route(range) else { return };
        if self.traffic_of(range).not_before.is_some_and(|at| now < at) {
            return;
        }
        let flying = self.farthest_flights(range, to);
        let mut waiting: BTreeSet<u64> = BTreeSet::new();
        let parked: Vec<Which> = self.traffic_of(range).parked.iter().copied().collect();
        for which in parked {
            let batch = &self.batches[&which.batch];
            let (session, passes_on) = (batch.session, batch.passes_on);
            let blocked = waiting.contains(&session) || flying.get(&session).is_some_and(|last| *last > which);
            if blocked || !self.go_on(now, which, to, passes_on, effects) {
                waiting.insert(session);
            }
        }
    }

    /// False when the command must stay parked.
    fn go_on(
        &mut self,
        now: Instant,
        which: Which,
        to: Destination,
        passes_on: bool,
        effects: &mut Vec<Effect>,
    ) -> bool {
        if let Destination::There(node, _) = to {
            if !passes_on {
                if self.is_unsettled(now, node) {
                    return false;
                }
                let reply = self.moved(node, which);
                self.unpark(which);
                self.answer(which, reply, effects);
                return true;
            }
            if self.paths.get(&node).is_some_and(Path::is_blocked) {
                return false;
            }
        }
        self.unpark(which);
        self.send(which, to);
        true
    }

    /// Session by session, the last command that flies for a range; beyond all where one flies to somebody else than `to`.
    fn farthest_flights(&mut self, range: RangeId, to: Destination) -> BTreeMap<u64, Which> {
        let mut farthest = BTreeMap::new();
        for flight in &self.traffic_of(range).flying {
            let never = Which { batch: u64::MAX, place: u32::MAX };
            let which = if flight.to == to { flight.which } else { never };
            let last = farthest.entry(flight.session).or_insert(which);
            *last = which.max(*last);
        }
        farthest
    }

    pub(super) fn on_timer(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        while let Some(which) = self.parked.first().copied().filter(|which| self.batches[&which.batch].end <= now) {
            self.refuse_parked(which, false, effects);
        }
        self.give_up_waiting(now, effects);
        while let Some((_, range)) = self.retries.first().copied().filter(|(at, _)| *at <= now) {
            self.retries.pop_first();
            self.traffic_of(range).not_before = None;
            self.resume(now, range, effects);
        }
        if self.open_paths(now) {
            self.resume_all(now, effects);
        }
    }

    /// Ends the pauses that are over. True when there was one.
    fn open_paths(&mut self, now: Instant) -> bool {
        let mut opened = false;
        for path in self.paths.values_mut() {
            for end in [&mut path.blocked, &mut path.unsettled] {
                if end.is_some_and(|at| at <= now) {
                    *end = None;
                    opened = true;
                }
            }
        }
        opened
    }
}
