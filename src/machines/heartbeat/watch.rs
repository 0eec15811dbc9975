//! Silence: a drone reports it, the commander probes and then says its verdict.
//!
//! A report decides nothing: however many come about a node that lives, they cost one probe each T/5 and change nothing. Any
//! sign of life later than a complaint settles it; but for those of a node that is heard and hears nobody, which grants no
//! lease and takes no write, so that its chains stand still as if it were dead. It is probed like a silent one. What was missed, by whom, and how long the probe went unanswered is told
//! with the verdict, so that every later change of a chain can be explained.

use std::time::Duration;

use super::facts::Life;
use super::{Effect, Heartbeat, Published, send};
use crate::messages::heartbeat::{HeartbeatMessage, Silence};
use crate::types::{Incarnation, Instant, NodeId, Timing};

/// More complaints than this about one silence are not told.
const MISSES: usize = 8;

/// After so many failure_timeouts, but not before so long, links are mended after a cut that has healed: a connection that has lost
/// its other end lasts four, and a second at least; then it is dialled again, which may take a second, after a pause of one at most.
const MENDED: (u32, Duration) = (6, Duration::from_secs(3));

/// What is thought of one node's silence.
#[derive(Debug, Default)]
pub(super) struct Suspicion {
    /// Commander: the verdict was said, and no sign has come since.
    suspect: bool,
    /// Commander: in which life, and with what ailments, it was last said to be alive.
    told: Option<(Incarnation, Vec<String>)>,
    /// Complaints since the last sign. Who does not command keeps them for the case that it soon will.
    misses: Vec<Miss>,
    /// Commander: it said that it hears nobody, and nothing has come since that shows the contrary.
    deaf: bool,
    /// Commander: the probe that is under way.
    probe: Option<Probe>,
    /// Commander: when the last probe left.
    probed: Option<Instant>,
    /// Commander: the life that was given up in this reign (G24).
    given_up: Option<Incarnation>,
    /// Drone: when it was last reported.
    reported: Option<Instant>,
}

#[derive(Debug)]
struct Miss {
    by: NodeId,
    why: Silence,
    /// When it was said last.
    at: Instant,
    /// Both have been heard here for long.
    lasting: bool,
}

#[derive(Debug)]
struct Probe {
    id: u64,
    sent: Instant,
}

impl Suspicion {
    fn note(&mut self, miss: Miss) {
        if let Some(known) = self.misses.iter_mut().find(|known| known.by == miss.by && known.why == miss.why) {
            *known = miss;
        } else if self.misses.len() < MISSES {
            self.misses.push(miss);
        }
    }

    /// What is left of it when a reign begins or ends: the complaints that were said after `since`.
    fn begin_anew(&mut self, since: Instant) {
        let mut misses = std::mem::take(&mut self.misses);
        misses.retain(|miss| miss.at >= since);
        *self = Self { misses, ..Self::default() };
    }

    /// The answer may be waiting to be heard.
    pub(super) fn forget_probe(&mut self) {
        self.probe = None;
        self.probed = None;
    }

    /// When the commander has something to do about a node whose silence counts from `last`, giving up apart.
    fn deadline(&self, last: Instant, timing: &Timing) -> Option<Instant> {
        match &self.probe {
            _ if self.suspect => None,
            Some(probe) => Some(probe.sent + timing.beat()),
            None if self.misses.is_empty() => Some(last + timing.failure_timeout),
            // Deferred, not dropped: the node may have died right after it answered the last one.
            None => Some(self.probed.map_or(last, |probed| probed + timing.beat())),
        }
    }
}

impl Heartbeat {
    /// Begins or ends to watch as commander. A new one gives everybody a fresh grace, and knows of nobody given up: what the
    /// one before said of that is in the log by now, or came to nothing. But who is missed already is probed at once: drones
    /// report to an elected commander before it has committed in its own term, and most often it misses its predecessor
    /// itself.
    pub(super) fn follow_reign(&mut self, now: Instant, known: Option<&Published>, effects: &mut Vec<Effect>) {
        let Some(published) = self.published.clone() else { return };
        let was = known.filter(|known| known.commanding).map(|known| known.term);
        let is = published.commanding.then_some(published.term);
        if was == is {
            return;
        }
        self.giving.forget_reign();
        self.reign = is.map(|_| now);
        let timing = published.dictionary.settings.timing;
        for peer in self.peers.values_mut() {
            let silent = peer.heard.is_some() && peer.last() + timing.failure_timeout <= now;
            peer.since = now;
            peer.suspicion.begin_anew(now - timing.failure_timeout);
            if silent && is.is_some() {
                peer.suspicion.note(Miss { by: self.me, why: Silence::NoBeacon, at: now, lasting: false });
            }
        }
        if is.is_some() {
            self.tell_own_life(effects);
            self.ask_myself(now, &timing);
            self.giving.on_timer(now, &timing, effects);
            self.watch(now, effects);
        }
    }

    /// A node cannot start anew while it is given up by itself, so a longer wait needs no care, but a shorter one does.
    pub(super) fn note_shortening(&mut self, known: Option<&Published>, published: &Published) {
        let Some(known) = known else { return };
        let before = known.dictionary.settings.give_up_after().unwrap_or(Duration::MAX);
        let after = published.dictionary.settings.give_up_after().unwrap_or(Duration::MAX);
        if after < before {
            self.shortened = Some(published.dictionary.version);
        }
    }

    pub(super) fn tell_own_life(&self, effects: &mut Vec<Effect>) {
        effects.push(Effect::Alive { node: self.me, incarnation: self.incarnation, ailing: self.ailing.clone() });
    }

    pub(super) fn on_link_broken(&mut self, now: Instant, about: NodeId, effects: &mut Vec<Effect>) {
        if let Some(peer) = self.peers.get_mut(&about) {
            peer.gone = true;
        }
        self.miss(now, about, Silence::LinkBroken, effects);
    }

    /// This node misses another.
    pub(super) fn miss(&mut self, now: Instant, about: NodeId, why: Silence, effects: &mut Vec<Effect>) {
        if self.reign.is_some() {
            self.complain(now, about, self.me, why, effects);
        } else {
            self.report(now, about, why, effects);
        }
    }

    /// Another node misses one.
    pub(super) fn on_report(&mut self, now: Instant, by: NodeId, about: Life, why: Silence, effects: &mut Vec<Effect>) {
        let Some(peer) = self.peers.get_mut(&about.0).filter(|peer| peer.incarnation <= about.1) else { return };
        if self.reign.is_some() {
            self.complain(now, about.0, by, why, effects);
        } else {
            peer.suspicion.note(Miss { by, why, at: now, lasting: false });
        }
    }

    /// Whether a message shows that its sender lives and hears, as far as that is this node's to judge. One that the commander
    /// has not yet known for alive may begin with hearing nobody.
    pub(super) fn proves_life(&mut self, from: Life, message: &HeartbeatMessage) -> bool {
        let commanding = self.reign.is_some();
        let Some(peer) = self.peers.get_mut(&from.0).filter(|_| commanding) else { return true };
        let suspicion = &mut peer.suspicion;
        let known = suspicion.told.as_ref().is_some_and(|(life, _)| *life == from.1);
        match message {
            HeartbeatMessage::Beacon(beacon) => suspicion.deaf = known && beacon.hears <= 1,
            // What a deaf one misses it can still say.
            HeartbeatMessage::Report { .. } => {}
            _ => suspicion.deaf = false,
        }
        !suspicion.deaf
    }

    /// A sign of life came: complaints before it are settled.
    pub(super) fn pardon(&mut self, node: NodeId, effects: &mut Vec<Effect>) {
        let commanding = self.reign.is_some();
        let Some(peer) = self.peers.get(&node) else { return };
        let given_up = self.is_given_up((node, peer.incarnation));
        let peer = self.peers.get_mut(&node).expect("just seen");
        let suspicion = &mut peer.suspicion;
        let misses = std::mem::take(&mut suspicion.misses);
        suspicion.probe = None;
        suspicion.reported = None;
        if !commanding || given_up {
            return;
        }
        // It lives, and yet another waited for its beacons in vain.
        let missed_by = misses.iter().filter(|miss| miss.why == Silence::NoBeacon && miss.by != self.me);
        effects.extend(missed_by.map(|miss| Effect::Apart { by: miss.by, about: node, lasting: miss.lasting }));
        let told =
            suspicion.told.as_ref().is_some_and(|(life, ailing)| (*life, ailing) == (peer.incarnation, &peer.ailing));
        if told && !suspicion.suspect {
            return;
        }
        suspicion.suspect = false;
        suspicion.told = Some((peer.incarnation, peer.ailing.clone()));
        effects.push(Effect::Alive { node, incarnation: peer.incarnation, ailing: peer.ailing.clone() });
    }

    /// Whether this life must not be kept alive by the commander: off the roster, dead by the log, or given up just now.
    pub(super) fn is_given_up(&self, (node, incarnation): Life) -> bool {
        let given_up = self.peers.get(&node).and_then(|peer| peer.suspicion.given_up);
        let dead = self.published.as_ref().is_none_or(|known| known.dictionary.is_dead(node, incarnation));
        dead || given_up.is_some_and(|dead| incarnation <= dead)
    }

    /// Does what silence makes due.
    pub(super) fn watch(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let nodes: Vec<NodeId> = self.peers.keys().copied().collect();
        for node in nodes {
            if self.reign.is_some() {
                self.judge(now, node, effects);
                self.give_up(now, node, effects);
            } else if self.report_at(node).is_some_and(|at| at <= now) {
                self.report(now, node, Silence::NoBeacon, effects);
            }
        }
    }

    /// When silence next makes something due.
    pub(super) fn watch_deadline(&self) -> Option<Instant> {
        let timing = self.timing()?;
        if self.reign.is_none() {
            return self.facts.neighbours.iter().filter_map(|node| self.report_at(*node)).min();
        }
        let verdicts = self.peers.values().filter_map(|peer| peer.suspicion.deadline(peer.last(), &timing));
        let ends = self.peers.keys().filter_map(|node| self.give_up_at(*node));
        verdicts.chain(ends).min()
    }

    fn report(&mut self, now: Instant, about: NodeId, why: Silence, effects: &mut Vec<Effect>) {
        let Some(published) = &self.published else { return };
        // Of the commander's own silence the election machine thinks its part.
        let Some(commander) = published.commander.filter(|commander| *commander != about && *commander != self.me)
        else {
            return;
        };
        let beat = published.dictionary.settings.timing.beat();
        let Some(peer) = self.peers.get_mut(&about) else { return };
        if peer.suspicion.reported.is_some_and(|reported| now < reported + beat) {
            return;
        }
        peer.suspicion.reported = Some(now);
        let report = HeartbeatMessage::Report { about, incarnation: peer.incarnation, why };
        effects.push(send(commander, report));
    }

    /// When a neighbour's silence is reported, or reported again.
    fn report_at(&self, node: NodeId) -> Option<Instant> {
        let published = self.published.as_ref()?;
        let told = published.commander.is_some_and(|commander| commander != node && commander != self.me);
        let peer = self.peers.get(&node).filter(|_| told && self.facts.neighbours.contains(&node))?;
        let last = peer.suspicion.reported.map_or(peer.last(), |reported| reported.max(peer.last()));
        Some(last + published.dictionary.settings.timing.failure_timeout)
    }

    pub(super) fn complain(
        &mut self,
        now: Instant,
        about: NodeId,
        by: NodeId,
        why: Silence,
        effects: &mut Vec<Effect>,
    ) {
        let lasting = self.have_been_heard(now, [about, by]);
        let Some(peer) = self.peers.get_mut(&about).filter(|peer| !peer.suspicion.suspect) else { return };
        peer.suspicion.note(Miss { by, why, at: now, lasting });
        self.judge(now, about, effects);
    }

    /// Whether others were heard by this node for so long that what a cut has left of the links between them is mended: who was
    /// cut off from all is not back with all in one instant.
    fn have_been_heard(&self, now: Instant, nodes: [NodeId; 2]) -> bool {
        let Some(timing) = self.timing() else { return false };
        let span = (timing.failure_timeout * MENDED.0).max(MENDED.1);
        nodes.iter().all(|node| self.peers.get(node).is_some_and(|peer| now.since(peer.heard_since) >= span))
    }

    fn judge(&mut self, now: Instant, node: NodeId, effects: &mut Vec<Effect>) {
        let Some(timing) = self.timing() else { return };
        let Some(peer) = self.peers.get_mut(&node) else { return };
        let due = peer.suspicion.deadline(peer.last(), &timing).is_some_and(|at| at <= now);
        if !due {
            return;
        }
        if peer.suspicion.probe.is_some() {
            let evidence = self.evidence(now, node);
            let peer = self.peers.get_mut(&node).expect("just seen");
            let gone = peer.gone || peer.suspicion.misses.iter().any(|miss| miss.why == Silence::LinkBroken);
            peer.suspicion.suspect = true;
            peer.suspicion.probe = None;
            peer.suspicion.misses.clear();
            effects.push(Effect::Suspect { node, incarnation: peer.incarnation, evidence, gone });
            return;
        }
        if peer.last() + timing.failure_timeout <= now {
            peer.suspicion.note(Miss { by: self.me, why: Silence::NoBeacon, at: now, lasting: false });
        }
        self.probes += 1;
        peer.suspicion.probe = Some(Probe { id: self.probes, sent: now });
        peer.suspicion.probed = Some(now);
        effects.push(send(node, HeartbeatMessage::Probe(self.probes)));
    }

    fn evidence(&self, now: Instant, node: NodeId) -> String {
        let peer = &self.peers[&node];
        let silent = match peer.heard.filter(|heard| *heard >= peer.since) {
            Some(heard) => format!("last heard {:.3}s ago", now.since(heard).as_secs_f64()),
            None => format!(
                "not heard in the {:.3}s since this commander waits for it",
                now.since(peer.since).as_secs_f64()
            ),
        };
        let misses = peer.suspicion.misses.iter().map(|miss| match miss.by {
            by if by == self.me => format!("; {}", miss.why.words()),
            by => format!("; {} reports: {}", self.name(by), miss.why.words()),
        });
        let probe =
            peer.suspicion.probe.as_ref().map(|probe| {
                format!("; probe {} unanswered for {:.3}s", probe.id, now.since(probe.sent).as_secs_f64())
            });
        [silent].into_iter().chain(misses).chain(probe).collect()
    }

    fn name(&self, node: NodeId) -> String {
        let member = self.published.as_ref().and_then(|known| known.dictionary.roster.get(&node));
        member.map_or_else(|| node.to_string(), |member| member.node.name.clone())
    }

    /// Says once that a life has ended by itself (G24). It has: its last lease from a commander, of whatever term, was asked
    /// for before its last sign came here, or before this commander was elected. It is the life that the roster lists: a later one,
    /// which was heard and has not presented itself, has nothing to be given up, and may be heard again.
    fn give_up(&mut self, now: Instant, node: NodeId, effects: &mut Vec<Effect>) {
        if self.give_up_at(node).is_none_or(|at| now < at) {
            return;
        }
        let Some(incarnation) = self.listed(node) else { return };
        let peer = self.peers.get_mut(&node).expect("it has a deadline");
        let silent_for = now.since(peer.last());
        peer.suspicion.given_up = Some(incarnation);
        effects.push(Effect::Expired { node, incarnation, silent_for });
    }

    /// The life of a node that the roster lists.
    fn listed(&self, node: NodeId) -> Option<Incarnation> {
        Some(self.published.as_ref()?.dictionary.roster.get(&node)?.node.incarnation)
    }

    /// When silence ends a life by itself. Only one that ranges wait for: any other may come back as it is.
    fn give_up_at(&self, node: NodeId) -> Option<Instant> {
        let dictionary = &self.published.as_ref()?.dictionary;
        let settings = &dictionary.settings;
        let span = settings.timing.giver(settings.give_up_after()?);
        let peer = self.peers.get(&node)?;
        let present = self.listed(node)?;
        let counts = dictionary.lists(node, present) || self.facts.keepers.contains(&(node, present));
        let unaware = peer.heard >= self.reign && self.shortened.is_some_and(|version| peer.version < version);
        let settled = unaware || dictionary.is_dead(node, present) || self.is_given_up((node, present));
        (counts && !settled).then(|| peer.last() + span)
    }
}
