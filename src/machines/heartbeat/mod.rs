//! Signs of life: who is late, who is gone, and the leases that go with them.
//!
//! One beacon a beat for a pair of nodes says that the sender lives and asks for all leases the two share; the answer is one
//! grant. Between the election machine and the data plane this machine is a lock: what is agreed is *adopted* here first,
//! together with the promises this node has given, and only then heard by stores; so no grant contradicts what was adopted
//! before it. Leases and promises are CHAIN.md's (G12, G13, sole holders, G24); holding and giving them stands in `holding`
//! and `giving`.
//!
//! Silence is suspected, never believed. Whoever misses somebody reports it to the commander; the commander probes and
//! then says its verdict (`watch`). Not here: what follows from a verdict (`ownership`), and who commands (`election`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use self::facts::Facts;
use self::giving::{Asked, Giving};
use self::holding::Holding;
use self::peers::{Peer, Rumour};
use self::progress::Moves;
use crate::machines::Machine;
use crate::machines::election::Published;
use crate::messages::events::{Event, EventKind};
use crate::messages::heartbeat::{AskId, Beacon, Grant, HeartbeatMessage, Progress, Silence};
use crate::messages::ownership::MeshSettings;
use crate::sites::{self, Site};
use crate::types::{Incarnation, Instant, NodeId, Now, Term, Timing, Version};

mod facts;
mod giving;
mod holding;
mod peers;
mod progress;
#[cfg(test)]
mod tests;
mod watch;

/// Up to so many nodes, all speak to all while nobody is known to command, and each passes on who does once a term.
const SMALL_MESH: usize = 50;

/// A lease as its holder keeps it: counts for a range when the chain has not changed after `version`, and the holder
/// has adopted at least that version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The giver's life; a lease of one that is not listed counts for nothing.
    pub giver: Incarnation,
    /// The giver's dictionary version.
    pub version: Version,
    /// It ends here, by the holder's clock.
    pub until: Instant,
}

/// All leases this node holds. A new set replaces the old.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leases {
    /// From the commander, for ranges this node holds as the only Serving member.
    pub commander: Option<Lease>,
    /// From other members, for the ranges in which they are and which this node heads. The newest grants of each giver,
    /// oldest first: an older one may cover a range that a newer does not.
    pub members: BTreeMap<NodeId, Vec<Lease>>,
    /// With `replication.give_up`: past this instant this node neither answers nor grants, unless a commander is heard
    /// again (G24). None where nothing is given up by time.
    pub silent_after: Option<Instant>,
}

/// What is agreed, with what this node has promised about it. Heard by stores in the order of versions.
#[derive(Clone, Debug, PartialEq)]
pub struct Adoption {
    /// What is agreed.
    pub published: Arc<Published>,
    /// Until when this node has promised each head not to lead the ranges it shared with it, at the time of adoption.
    /// Whoever adopts an epoch must wait out the promise made to the head of the epoch adopted before (G13).
    pub promises: BTreeMap<NodeId, Instant>,
}

/// What the heartbeat machine can be told.
#[derive(Clone, Debug)]
pub enum Input {
    /// The deadline has come.
    Timer,
    /// Another roster member says something.
    Peer {
        /// Who.
        from: NodeId,
        /// In which life.
        incarnation: Incarnation,
        /// What.
        message: HeartbeatMessage,
    },
    /// This is agreed now (from the election machine).
    Published(Arc<Published>),
    /// The control link to a peer broke, and dialling again at once failed.
    LinkBroken(NodeId),
    /// Clients' commands or chain frames cannot be brought to a node.
    Unreachable(NodeId, Silence),
    /// A quorum confirmed that this node commands, in a round begun after the asking (from the election machine).
    Confirmed {
        /// Which asking.
        ask: u64,
        /// In which term.
        term: Term,
        /// At which dictionary version.
        version: Version,
    },
    /// It could not be confirmed.
    Again {
        /// Which asking.
        ask: u64,
    },
    /// What does not work in this process; empty when all is well.
    Ailing(Vec<String>),
    /// How many bytes of copies this process has streamed.
    Streamed(u64),
    /// On the commander, how many ranges have come to lie as they should, and how many do not yet (from ownership).
    Moves {
        /// Since there was something to move, or this node commands.
        done: u32,
        /// Of these, none: all is through.
        left: u32,
    },
}

/// What the heartbeat machine can ask for.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Say this to a roster member; may be lost.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        message: HeartbeatMessage,
    },
    /// Have it confirmed that this node commands (to the election machine).
    Confirm {
        /// Names the asking.
        ask: u64,
    },
    /// Adopt this: to all stores, doors, and ownership. No grant that contradicts it is given afterwards.
    Adopt(Arc<Adoption>),
    /// These leases are held now: to all stores.
    Leases(Arc<Leases>),
    /// These roster members are heard now: to the election machine, when the set changes.
    Hears(BTreeSet<NodeId>),
    /// The commander's verdict: probed in vain (to ownership).
    Suspect {
        /// Whom.
        node: NodeId,
        /// In which life.
        incarnation: Incarnation,
        /// What was missed, by whom, and the probe, in words.
        evidence: String,
        /// Its process has ended, as far as can be seen, rather than being paused or cut off.
        gone: bool,
    },
    /// The commander hears this node, in this life (to ownership; on each change of either).
    Alive {
        /// Whom.
        node: NodeId,
        /// In which life.
        incarnation: Incarnation,
        /// What does not work in it.
        ailing: Vec<String>,
    },
    /// A node that the commander hears was missed by another for a failure_timeout: the two may not reach each other (to
    /// ownership). Said with each report, so it counts for something only when it is said again.
    Apart {
        /// Who missed it.
        by: NodeId,
        /// Whom.
        about: NodeId,
        /// Both have been heard for so long that the links between them would be mended, if they could be.
        lasting: bool,
    },
    /// This incarnation has been silent to the commander for so long that it has ended by itself, and with it all before
    /// (G24; to ownership). Counted anew from this commander's election; said once in a reign and never taken back in it,
    /// and only of a node that ranges wait for: a holder, or a former one of a range whose Serving members are all dead.
    Expired {
        /// Whom.
        node: NodeId,
        /// In which life.
        incarnation: Incarnation,
        /// For how long.
        silent_for: Duration,
    },
    /// How far the moves of ranges have come; none when there are none, or nothing is known of any.
    Progress(Option<Progress>),
    /// Something to remember for people.
    Note(Event),
}

/// The machine. One a node.
#[derive(Debug)]
pub struct Heartbeat {
    me: NodeId,
    incarnation: Incarnation,
    rng: ChaCha8Rng,
    /// What the election machine said last. Before that this machine knows nobody and only answers probes.
    published: Option<Arc<Published>>,
    facts: Facts,
    /// The roster but this node.
    peers: BTreeMap<NodeId, Peer>,
    /// Who gets a beacon each beat.
    targets: BTreeSet<NodeId>,
    hears: BTreeSet<NodeId>,
    holding: Holding,
    held: Arc<Leases>,
    giving: Giving,
    rumour: Option<Rumour>,
    ailing: Vec<String>,
    /// Bytes of copies that this node has streamed, and that all have since this one first heard of them.
    streamed: u64,
    streamed_everywhere: u64,
    /// What this node reckons as commander.
    moves: Option<Moves>,
    /// As last shown.
    progress: Option<Progress>,
    beat: Instant,
    probes: u64,
    /// Since when this node has commanded in its term.
    reign: Option<Instant>,
    /// The version at which `give_up` was seen to become shorter: a node that has not adopted it does not end by itself
    /// so early.
    shortened: Option<Version>,
    /// Whether people were told that this node has stopped by itself (G24).
    silenced: bool,
    last_step: Instant,
}

impl Machine for Heartbeat {
    type Input = Input;
    type Effect = Effect;

    fn step(&mut self, now: Now, input: Input, effects: &mut Vec<Effect>) {
        let now = now.instant;
        self.notice_absence(now);
        match input {
            Input::Timer => self.on_timer(now, effects),
            Input::Peer { from, incarnation, message } => self.on_peer(now, (from, incarnation), message, effects),
            Input::Published(published) => self.on_published(now, published, effects),
            Input::LinkBroken(node) => self.on_link_broken(now, node, effects),
            Input::Unreachable(node, why) => self.miss(now, node, why, effects),
            Input::Confirmed { ask, term, version } => self.on_confirmed(now, ask, term, version, effects),
            Input::Again { ask } => self.giving.on_again(ask),
            Input::Ailing(ailing) => self.on_ailing(ailing, effects),
            Input::Streamed(bytes) => self.on_streamed(bytes),
            Input::Moves { done, left } => self.on_moves(now, done, left, effects),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let published = self.published.as_ref()?;
        let settings = &published.dictionary.settings;
        let stops = self.holding.silent_after(settings).filter(|_| !self.silenced && self.holding.heard().is_some());
        [Some(self.beat), self.giving.deadline(&settings.timing), stops, self.watch_deadline(), self.hears_deadline()]
            .into_iter()
            .flatten()
            .chain(self.rumour.as_ref().map(|rumour| rumour.until))
            .min()
    }
}

impl Heartbeat {
    /// The machine of one life of a node. `seed` spreads the beats of many nodes.
    pub fn new(me: NodeId, incarnation: Incarnation, seed: u64) -> Self {
        Self {
            me,
            incarnation,
            rng: ChaCha8Rng::seed_from_u64(seed),
            published: None,
            facts: Facts::default(),
            peers: BTreeMap::new(),
            targets: BTreeSet::new(),
            hears: BTreeSet::new(),
            holding: Holding::new(incarnation),
            held: Arc::default(),
            giving: Giving::default(),
            rumour: None,
            ailing: Vec::new(),
            streamed: 0,
            streamed_everywhere: 0,
            moves: None,
            progress: None,
            beat: Instant(0),
            probes: 0,
            reign: None,
            shortened: None,
            silenced: false,
            last_step: Instant(0),
        }
    }

    fn on_timer(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let Some(timing) = self.timing() else { return };
        if self.rumour.as_ref().is_some_and(|rumour| rumour.until <= now) {
            self.rumour = None;
            self.adopt(now, effects);
            self.retarget(now, false, effects);
        }
        if self.beat <= now {
            self.perform_beat(now, &timing, effects);
        }
        self.giving.on_timer(now, &timing, effects);
        self.watch(now, effects);
        self.tell_hears(now, effects);
        self.tell_silence(now, effects);
    }

    fn perform_beat(&mut self, now: Instant, timing: &Timing, effects: &mut Vec<Effect>) {
        // After a pause the beats that were missed are not made up for.
        let next = self.beat + timing.beat();
        self.beat = if next <= now { now + timing.beat() } else { next };
        self.reckon(now, effects);
        if !sites::fires(Site::NoBeacon) {
            let targets = self.targets.clone();
            self.send_beacons(now, &targets, effects);
        }
        if self.reign.is_some() {
            self.ask_myself(now, timing);
            self.giving.confirm(now, effects);
        }
    }

    /// The commander is a drone too, and holds its own lease by the same round as all others.
    fn ask_myself(&mut self, now: Instant, timing: &Timing) {
        let ask = self.holding.ask(now, timing);
        self.giving.on_ask(self.me, Asked { incarnation: self.incarnation, ask });
    }

    /// One asking for all: each giver answers for itself.
    fn send_beacons(&mut self, now: Instant, to: &BTreeSet<NodeId>, effects: &mut Vec<Effect>) {
        let Some(published) = self.published.clone().filter(|_| !to.is_empty()) else { return };
        let beacon = Beacon {
            term: published.term,
            commander: published.commander,
            version: published.dictionary.version,
            ask: self.holding.ask(now, &published.dictionary.settings.timing),
            hears: u16::try_from(self.hears.len()).unwrap_or(u16::MAX),
            ailing: self.ailing.clone(),
            streamed: self.streamed,
            progress: self.progress.filter(|_| self.reign.is_some()),
        };
        effects.extend(to.iter().map(|to| send(*to, HeartbeatMessage::Beacon(beacon.clone()))));
    }

    fn on_peer(
        &mut self,
        now: Instant,
        from: (NodeId, Incarnation),
        message: HeartbeatMessage,
        effects: &mut Vec<Effect>,
    ) {
        // Answered whatever else is known: a node that waits for its first dictionary lives.
        if let HeartbeatMessage::Probe(id) = message {
            effects.push(send(from.0, HeartbeatMessage::Probed(id)));
        }
        if !self.note_sign(now, from) {
            return;
        }
        let is_proof = self.proves_life(from, &message);
        match message {
            HeartbeatMessage::Beacon(beacon) => self.on_beacon(now, from, beacon, effects),
            HeartbeatMessage::Grant(grant) => self.on_grant(now, from, &grant, effects),
            HeartbeatMessage::Probe(_) | HeartbeatMessage::Probed(_) => {}
            HeartbeatMessage::Report { about, incarnation, why } => {
                self.on_report(now, from.0, (about, incarnation), why, effects);
            }
        }
        if is_proof {
            self.pardon(from.0, effects);
        } else {
            self.complain(now, from.0, from.0, Silence::Deaf, effects);
        }
        if !self.hears.contains(&from.0) {
            self.tell_hears(now, effects);
        }
    }

    fn on_beacon(&mut self, now: Instant, from: (NodeId, Incarnation), beacon: Beacon, effects: &mut Vec<Effect>) {
        if beacon.ask.life != from.1 {
            return;
        }
        let peer = self.peers.get_mut(&from.0).expect("a sign was noted");
        peer.asked = Some((beacon.ask, now));
        peer.version = beacon.version;
        peer.ailing.clone_from(&beacon.ailing);
        self.hear_progress(from.0, beacon.streamed, beacon.progress, effects);
        self.grant_as_member(now, from, beacon.ask, effects);
        if self.reign.is_some() && !self.is_given_up(from) {
            self.giving.on_ask(from.0, Asked { incarnation: from.1, ask: beacon.ask });
            let timing = self.timing().expect("commanding");
            self.giving.on_timer(now, &timing, effects);
        }
        self.hear_news(now, from.0, &beacon, effects);
    }

    /// A grant for the adopted version, if the asker heads a chain that this node is in, and a promise with it.
    fn grant_as_member(&mut self, now: Instant, to: (NodeId, Incarnation), ask: AskId, effects: &mut Vec<Effect>) {
        let Some(published) = &self.published else { return };
        let settings = &published.dictionary.settings;
        let silent = self.holding.silent_after(settings).is_some_and(|after| after <= now);
        if silent || !self.facts.heads.contains(&to) {
            return;
        }
        self.giving.promise(now, to.0, &settings.timing);
        let grant = Grant { ask, version: published.dictionary.version, commanding: None, as_member: true };
        effects.push(send(to.0, HeartbeatMessage::Grant(grant)));
    }

    fn on_confirmed(&mut self, now: Instant, round: u64, term: Term, version: Version, effects: &mut Vec<Effect>) {
        for (node, asked) in self.giving.on_confirmed(round) {
            // A round that outlived its reign still says what was true when it began; but who was given up since then
            // must not be held alive by it.
            if self.is_given_up((node, asked.incarnation)) {
                continue;
            }
            let grant = Grant { ask: asked.ask, version, commanding: Some(term), as_member: false };
            if node == self.me {
                self.on_grant(now, (node, asked.incarnation), &grant, effects);
            } else {
                effects.push(send(node, HeartbeatMessage::Grant(grant)));
            }
        }
    }

    fn on_grant(&mut self, now: Instant, from: (NodeId, Incarnation), grant: &Grant, effects: &mut Vec<Effect>) {
        let Some(timing) = self.timing().filter(|_| !sites::fires(Site::GrantUnheard)) else { return };
        if self.holding.on_grant(now, from, grant, &timing) {
            self.tell_leases(now, effects);
            self.tell_silence(now, effects);
        }
    }

    fn tell_leases(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let Some(published) = &self.published else { return };
        let leases = self.holding.leases(now, published.dictionary.version, &published.dictionary.settings);
        if leases != *self.held {
            self.held = Arc::new(leases);
            effects.push(Effect::Leases(Arc::clone(&self.held)));
        }
    }

    fn on_ailing(&mut self, ailing: Vec<String>, effects: &mut Vec<Effect>) {
        if self.ailing == ailing {
            return;
        }
        self.ailing = ailing;
        if self.reign.is_some() {
            self.tell_own_life(effects);
        }
    }

    fn on_published(&mut self, now: Instant, published: Arc<Published>, effects: &mut Vec<Effect>) {
        let known = self.published.replace(Arc::clone(&published));
        let version = known.as_ref().map_or(Version(0), |known| known.dictionary.version);
        assert!(version <= published.dictionary.version, "the dictionary falls from {version}");
        if known.is_none() {
            // Beats of nodes that started together spread over one.
            self.beat = now + published.dictionary.settings.timing.beat().mul_f64(self.rng.gen_range(0.0..1.0));
        }
        let changed = known.is_none() || version < published.dictionary.version;
        if changed {
            let facts = Facts::of(&published.dictionary, (self.me, self.incarnation), version);
            let before = std::mem::replace(&mut self.facts, facts);
            self.note_shortening(known.as_deref(), &published);
            self.follow_roster(now, &before.neighbours);
        }
        if self.rumour.as_ref().is_some_and(|rumour| !rumour.tells_more_than(&published)) {
            self.rumour = None;
        }
        self.adopt(now, effects);
        self.tell_leases(now, effects);
        self.follow_reign(now, known.as_deref(), effects);
        if changed {
            self.grant_fresh(now, effects);
        }
        let same = known.is_some_and(|known| (known.term, known.commander) == (published.term, published.commander));
        if !same {
            self.forget_progress(effects);
        }
        let news = published.commander.is_some() && !same;
        self.retarget(now, news, effects);
        self.tell_hears(now, effects);
    }

    /// What the election machine knows, or what others have told of a newer commander.
    fn adopt(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let Some(published) = &self.published else { return };
        let published = match &self.rumour {
            Some(rumour) => Arc::new(rumour.laid_over(published)),
            None => Arc::clone(published),
        };
        effects.push(Effect::Adopt(Arc::new(Adoption { published, promises: self.giving.promises(now) })));
    }

    /// Chains that are new stand still until their heads have been granted anew: their last askings will do.
    fn grant_fresh(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let recent = now - self.timing().expect("just adopted").failure_timeout;
        let fresh = self.facts.fresh_heads.clone();
        for head in fresh {
            let asked = self.peers.get(&head.0).and_then(|peer| peer.asked).filter(|(_, at)| *at >= recent);
            if let Some((ask, _)) = asked.filter(|(ask, _)| ask.life == head.1) {
                self.grant_as_member(now, head, ask, effects);
            }
        }
        if self.reign.is_some() {
            self.confirm_fresh(now, recent, effects);
        }
    }

    fn confirm_fresh(&mut self, now: Instant, recent: Instant, effects: &mut Vec<Effect>) {
        let timing = self.timing().expect("commanding");
        for (node, incarnation) in self.facts.fresh_sole.clone() {
            if node == self.me {
                let ask = self.holding.ask(now, &timing);
                self.giving.hurry(node, Asked { incarnation: self.incarnation, ask });
                continue;
            }
            let asked = self.peers.get(&node).and_then(|peer| peer.asked).filter(|(_, at)| *at >= recent);
            if let Some((ask, _)) = asked.filter(|(ask, _)| ask.life == incarnation) {
                self.giving.hurry(node, Asked { incarnation, ask });
            }
        }
        self.giving.on_timer(now, &timing, effects);
    }

    /// G24 is felt by every client of this node, so people are told when it begins and ends.
    fn tell_silence(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let Some(published) = &self.published else { return };
        let Some(heard) = self.holding.heard() else { return };
        let silent = self.holding.silent_after(&published.dictionary.settings).is_some_and(|after| after <= now);
        if silent == self.silenced {
            return;
        }
        self.silenced = silent;
        let text = if silent {
            let span = now.since(heard).as_secs_f64();
            format!(
                "no commander confirmed by a majority was heard for {span:.3}s: this node answers and grants nothing"
            )
        } else {
            "a commander confirmed by a majority is heard again: this node answers".to_owned()
        };
        effects.push(Effect::Note(self.event(EventKind::Noticed, Some(self.me), text)));
    }

    fn event(&self, kind: EventKind, node: Option<NodeId>, text: String) -> Event {
        let (term, version) = match &self.published {
            Some(published) => (published.term, published.dictionary.version),
            None => (Term(0), Version(0)),
        };
        Event { kind, term, version, node, ranges: Vec::new(), text }
    }

    fn settings(&self) -> Option<&MeshSettings> {
        self.published.as_ref().map(|published| &published.dictionary.settings)
    }

    fn timing(&self) -> Option<Timing> {
        self.settings().map(|settings| settings.timing)
    }
}

fn send(to: NodeId, message: HeartbeatMessage) -> Effect {
    Effect::Send { to, message }
}
