//! The other nodes of the roster: whom to send signs of life, who is heard, and what they tell of a newer commander.

use std::collections::BTreeSet;
use std::time::Duration;

use super::watch::Suspicion;
use super::{Effect, Heartbeat, SMALL_MESH};
use crate::machines::election::Published;
use crate::messages::heartbeat::{AskId, Beacon};
use crate::types::{Incarnation, Instant, NodeId, Term, Version};

/// Another node of the roster.
#[derive(Debug)]
pub(super) struct Peer {
    /// Its newest life known, by the roster or from itself. Older ones are not heard any more.
    pub incarnation: Incarnation,
    /// The last sign of that life.
    pub heard: Option<Instant>,
    /// Since when no two signs of it were a failure_timeout apart.
    pub heard_since: Instant,
    /// Its silence is not counted from before this instant.
    pub since: Instant,
    /// Its last asking, and when it came.
    pub asked: Option<(AskId, Instant)>,
    /// What it had adopted when it asked.
    pub version: Version,
    /// What does not work in it.
    pub ailing: Vec<String>,
    /// Bytes of copies that it has streamed, as it last said.
    pub streamed: Option<u64>,
    /// When it last got a beacon out of turn, for it lacked news.
    told: Option<Instant>,
    /// The link to it broke and was not to be had again at once: its process has ended, as far as one can see from here.
    /// One that is paused or cut off is merely silent.
    pub gone: bool,
    /// What is thought of its silence.
    pub suspicion: Suspicion,
}

impl Peer {
    fn new(now: Instant, incarnation: Incarnation) -> Self {
        Self {
            incarnation,
            heard: None,
            heard_since: now,
            since: now,
            asked: None,
            version: Version(0),
            ailing: Vec::new(),
            streamed: None,
            told: None,
            gone: false,
            suspicion: Suspicion::default(),
        }
    }

    /// From when its silence counts.
    pub fn last(&self) -> Instant {
        self.heard.map_or(self.since, |heard| heard.max(self.since))
    }

    /// Whatever was due while this node was paused is not held against the others.
    fn begin_anew(&mut self, now: Instant) {
        self.since = now;
        self.suspicion.forget_probe();
    }

    fn on_life(&mut self, incarnation: Incarnation) {
        self.incarnation = incarnation;
        self.asked = None;
        self.ailing.clear();
        self.streamed = None;
    }
}

/// What others say of a commander that this node's own election machine does not know (K15): a node that is cut off from
/// the commander alone learns its name so. Ends when nobody repeats it.
#[derive(Debug)]
pub(super) struct Rumour {
    term: Term,
    commander: NodeId,
    /// Believed until then.
    pub until: Instant,
}

impl Rumour {
    /// Whether it is news to one who knows this.
    pub fn tells_more_than(&self, published: &Published) -> bool {
        self.term > published.term || (self.term == published.term && published.commander.is_none())
    }

    /// What is known, with this believed. It gives nobody a right: who commands, commands by the log alone.
    pub fn laid_over(&self, published: &Published) -> Published {
        let mut published = published.clone();
        published.term = self.term;
        published.commander = Some(self.commander);
        published.commanding = false;
        published
    }
}

impl Heartbeat {
    /// After a step that came far too late this node was paused: others may have spoken, and wait to be heard.
    pub(super) fn notice_absence(&mut self, now: Instant) {
        let last = std::mem::replace(&mut self.last_step, now);
        let absent = self.timing().is_some_and(|timing| now.since(last) > timing.failure_timeout / 2);
        if absent {
            self.peers.values_mut().for_each(|peer| peer.begin_anew(now));
        }
    }

    /// Notes that this life of a node was heard. False when it is none of the roster, or a life that has ended.
    pub(super) fn note_sign(&mut self, now: Instant, (from, incarnation): (NodeId, Incarnation)) -> bool {
        let patience = self.timing().map_or(Duration::ZERO, |timing| timing.failure_timeout);
        let Some(peer) = self.peers.get_mut(&from) else { return false };
        if incarnation < peer.incarnation {
            return false;
        }
        let is_new = incarnation > peer.incarnation;
        if is_new {
            peer.on_life(incarnation);
        }
        if is_new || peer.heard.is_none_or(|heard| now.since(heard) >= patience) {
            peer.heard_since = now;
        }
        peer.heard = Some(now);
        peer.gone = false;
        true
    }

    /// Keeps one peer for each other node of the roster. Who was no neighbour before had no cause to be heard.
    pub(super) fn follow_roster(&mut self, now: Instant, neighbours: &BTreeSet<NodeId>) {
        let Some(published) = self.published.clone() else { return };
        let roster = &published.dictionary.roster;
        self.peers.retain(|node, _| roster.contains_key(node));
        for (node, member) in roster.iter().filter(|(node, _)| **node != self.me) {
            let listed = member.node.incarnation;
            let peer = self.peers.entry(*node).or_insert_with(|| Peer::new(now, listed));
            if listed > peer.incarnation {
                peer.on_life(listed);
            }
            if self.facts.neighbours.contains(node) && !neighbours.contains(node) && self.reign.is_none() {
                peer.since = now;
            }
        }
    }

    /// Recomputes who gets beacons; those who are new get one at once, and with `news` everybody does.
    pub(super) fn retarget(&mut self, now: Instant, news: bool, effects: &mut Vec<Effect>) {
        let targets = self.wanted_targets();
        let mut at_once: BTreeSet<NodeId> = targets.difference(&self.targets).copied().collect();
        if news && self.peers.len() < SMALL_MESH {
            at_once.extend(self.peers.keys());
        }
        self.targets = targets;
        self.send_beacons(now, &at_once, effects);
    }

    fn wanted_targets(&self) -> BTreeSet<NodeId> {
        let Some(published) = &self.published else { return BTreeSet::new() };
        let all = || self.peers.keys().copied().collect::<BTreeSet<_>>();
        let neighbours = || self.facts.neighbours.iter().copied();
        let mut targets: BTreeSet<NodeId> = match published.commander {
            Some(commander) if commander == self.me => all(),
            Some(commander) => neighbours().chain([commander]).collect(),
            // Nobody is known to command: whoever is heard now decides who will.
            None if self.peers.len() < SMALL_MESH => all(),
            None => {
                let seats = &published.seats;
                neighbours().chain(seats.voters.iter().chain(&seats.outgoing).copied()).collect()
            }
        };
        targets.extend(self.rumour.as_ref().map(|rumour| rumour.commander));
        targets.retain(|node| self.peers.contains_key(node));
        targets
    }

    /// Compares what a beacon tells of the commander with what is known here: the one who knows less learns.
    pub(super) fn hear_news(&mut self, now: Instant, from: NodeId, beacon: &Beacon, effects: &mut Vec<Effect>) {
        let Some(published) = self.published.clone() else { return };
        let (timing, mine) = (published.dictionary.settings.timing, (published.term, published.commander.is_some()));
        if (beacon.term, beacon.commander.is_some()) < mine {
            let peer = self.peers.get_mut(&from).expect("a sign was noted");
            let due = peer.told.is_none_or(|told| told + timing.beat() <= now);
            // Whoever gets a beacon each beat learns it by that.
            if due && !self.targets.contains(&from) {
                peer.told = Some(now);
                self.send_beacons(now, &BTreeSet::from([from]), effects);
            }
            return;
        }
        let Some(commander) = beacon.commander else { return };
        let rumour = Rumour { term: beacon.term, commander, until: now + timing.failure_timeout };
        let older = self.rumour.as_ref().is_some_and(|known| known.term > rumour.term);
        if older || commander == self.me || !rumour.tells_more_than(&published) {
            return;
        }
        let known = self.rumour.as_ref().map(|known| (known.term, known.commander));
        let new = known != Some((rumour.term, rumour.commander));
        self.rumour = Some(rumour);
        if new {
            self.adopt(now, effects);
            self.retarget(now, false, effects);
        }
    }

    /// Tells the election machine who is heard, when that changes.
    pub(super) fn tell_hears(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let Some(timing) = self.timing() else { return };
        let heard = |at: Instant| now < at + timing.failure_timeout;
        let peers = self.peers.iter().filter(|(_, peer)| peer.heard.is_some_and(heard));
        let hears: BTreeSet<NodeId> = peers.map(|(node, _)| *node).chain([self.me]).collect();
        if hears != self.hears {
            self.hears.clone_from(&hears);
            effects.push(Effect::Hears(hears));
        }
    }

    /// When somebody who is heard falls silent.
    pub(super) fn hears_deadline(&self) -> Option<Instant> {
        let timeout = self.timing()?.failure_timeout;
        let heard = self.hears.iter().filter_map(|node| self.peers.get(node)?.heard);
        heard.map(|heard| heard + timeout).min()
    }
}
