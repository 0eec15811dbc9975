//! A made-up network: connections that deliver in order and lose only by breaking, one for each ordered pair of nodes and lane.
//!
//! What TCP gives is what is simulated. A frame arrives, late perhaps, or the connection breaks and with it everything under
//! way; each side learns of that by itself, after a moment. A cut holds what is under way, as resending does: where it heals in
//! time the frames arrive late, and where it does not the connection breaks. New connections need both directions, since a
//! handshake does. A cut one way leaves the connections of the other way as they are, which is harsher than most networks.
//!
//! A node says what it has to say by the connection it dialled, its *link*; on one that the other side dialled only answers go
//! back, and what is said to a node of which it knows no address yet. After a break it dials again at once, and then after
//! growing pauses for as long as it wants the link. The postmen of production (`actors::link`) do the same. Here is no
//! knowledge of what frames say: the world encodes and decodes them.

mod holds;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::BytesMut;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::clock::Time;
use crate::messages::peer::{Lane, PeerRefusal};
use crate::types::{Incarnation, NodeId};

/// How many frames a connection may have under way, and a link may keep while it dials. Beyond it, the connection breaks.
pub const FRAMES: usize = 4096;

/// How many broken connections are remembered, for what may still arrive.
const BROKEN: usize = 100;

/// How long a dialling node waits for an answer.
const DIAL_TIMEOUT: Duration = Duration::from_millis(400);

/// The pause before a failed dialling is repeated: at first, and at most.
const REDIAL: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(800));

/// One place where a node may run, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host(pub usize);

/// One life of a node at its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Side {
    /// Where.
    pub host: Host,
    /// Who.
    pub node: NodeId,
    /// In which life.
    pub life: Incarnation,
}

/// How the network behaves when nothing is cut.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// A frame takes at least and usually at most this long.
    pub delay: (Duration, Duration),
    /// Of 10,000 frames so many are late...
    pub late: u32,
    /// ...by up to this much.
    pub late_by: Duration,
    /// Of a million frames so many break their connection.
    pub breaks: u32,
    /// For how long a cut connection with frames under way lasts, at least and at most.
    pub patience: (Duration, Duration),
}

impl Default for Weather {
    fn default() -> Self {
        Self {
            delay: (Duration::from_micros(50), Duration::from_micros(300)),
            late: 10,
            late_by: Duration::from_millis(5),
            breaks: 0,
            patience: (Duration::from_millis(800), Duration::from_secs(3)),
        }
    }
}

/// What the network has to be told when its time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A frame is at its receiver.
    Arrive {
        /// The receiver.
        to: Host,
        /// On which connection.
        connection: u64,
        /// Which way: [`THERE`] or [`BACK`].
        way: usize,
    },
    /// Somebody learns that a connection is broken.
    Notice {
        /// Who.
        host: Host,
        /// Which connection.
        connection: u64,
        /// Who had dialled, and who was dialled.
        ends: [Side; 2],
        /// What it carried.
        lane: Lane,
    },
    /// A dialling is answered, or not.
    Dialled {
        /// Who dialled.
        from: Host,
        /// Which link.
        link: (NodeId, Lane),
        /// Which attempt of it.
        attempt: u64,
        /// Whether this is the end of waiting in vain.
        timed_out: bool,
    },
    /// A pause after a failed dialling is over.
    Redial {
        /// Who dials.
        from: Host,
        /// Which link.
        link: (NodeId, Lane),
        /// After which attempt.
        attempt: u64,
    },
    /// A cut connection has waited for long enough.
    Patience {
        /// Which connection.
        connection: u64,
        /// Which way.
        way: usize,
        /// The cut it waits for.
        cut: u64,
    },
}

impl Event {
    /// Whose process has to be awake to hear this; nobody's if it happens in between.
    pub fn listener(&self) -> Option<Host> {
        match *self {
            Self::Arrive { to, .. } => Some(to),
            Self::Notice { host, .. } => Some(host),
            Self::Dialled { from, .. } | Self::Redial { from, .. } => Some(from),
            Self::Patience { .. } => None,
        }
    }
}

/// What the network tells.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// A frame has come.
    Frame {
        /// To whom.
        to: Host,
        /// From whom.
        from: Side,
        /// On which connection; answers may go back on it.
        connection: u64,
        /// On which lane.
        lane: Lane,
        /// What.
        bytes: BytesMut,
    },
    /// A link of this node is there.
    Up {
        /// For whom.
        host: Host,
        /// With whom.
        peer: NodeId,
        /// For what.
        lane: Lane,
    },
    /// A link of this node broke.
    Down {
        /// For whom.
        host: Host,
        /// With whom.
        peer: NodeId,
        /// For what.
        lane: Lane,
    },
    /// Another node has dialled, and was welcomed.
    Called {
        /// For whom.
        host: Host,
        /// Who.
        caller: Side,
        /// For what.
        lane: Lane,
    },
    /// The newest connection that another node had dialled broke.
    HungUp {
        /// For whom.
        host: Host,
        /// Who had dialled.
        caller: Side,
        /// For what.
        lane: Lane,
    },
    /// A dialling failed.
    Unreached {
        /// Who dialled.
        host: Host,
        /// Whom.
        peer: NodeId,
        /// For what.
        lane: Lane,
        /// Whether it was the one right after a break.
        after_break: bool,
        /// What the other side said, if it refused to speak.
        refusal: Option<PeerRefusal>,
    },
    /// Clients' commands could not be handed to a connection: nothing of them has left.
    NotSent {
        /// Whose.
        host: Host,
        /// To whom.
        peer: NodeId,
        /// The sender's names for the batches.
        carries: Vec<u64>,
    },
}

/// What becomes of a dialling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// The handshake succeeded: who called, and who was called.
    Welcome(Side, Side),
    /// Nobody listens there, or one side will not have the other.
    Refused(Option<PeerRefusal>),
    /// No answer: the process does not run on, or its machine is gone.
    Silent,
}

/// What a frame is, as far as its loss is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// May be lost: a word of the control plane.
    Word,
    /// Clients' commands, by the number of their batch: given back if none of their bytes has left.
    Carry(u64),
    /// Lost only with its connection, and not kept for another.
    InOrder,
}

/// Where the network puts what is to come, and draws its luck.
#[derive(Debug)]
pub struct Context<'a> {
    /// The true time.
    pub now: Time,
    /// Events to come.
    pub later: &'a mut Vec<(Time, Event)>,
    /// What to tell now, in order.
    pub news: &'a mut Vec<News>,
    /// The seed.
    pub random: &'a mut ChaCha8Rng,
}

/// From the node that dialled.
pub const THERE: usize = 0;

/// To the node that dialled.
pub const BACK: usize = 1;

#[derive(Debug)]
struct Connection {
    lane: Lane,
    /// Who dialled, and who was dialled.
    ends: [Side; 2],
    ways: [Way; 2],
    broken: bool,
}

#[derive(Debug, Default)]
struct Way {
    under_way: VecDeque<BytesMut>,
    last: Time,
    held: usize,
    cut: u64,
    stopped: bool,
}

#[derive(Debug)]
enum State {
    Idle,
    Dialling {
        after_break: bool,
        /// Nothing has come back, and nothing will.
        lost: bool,
    },
    Open(u64),
    Resting,
}

#[derive(Debug)]
struct Link {
    host: Host,
    state: State,
    attempt: u64,
    failures: u32,
    waiting: VecDeque<(BytesMut, Kind)>,
}

/// The network.
#[derive(Debug, Default)]
pub struct Network {
    /// How it behaves when nothing is cut.
    pub weather: Weather,
    links: BTreeMap<(Host, NodeId, Lane), Link>,
    accepted: BTreeMap<(Host, NodeId, Lane), u64>,
    /// Broken ones too, for as long as something of them is on its way.
    connections: BTreeMap<u64, Connection>,
    cuts: BTreeMap<(Host, Host), u64>,
    holds: BTreeSet<(Host, Host, Lane)>,
    count: u64,
    broken: u64,
    /// How many of the connections are broken.
    fading: usize,
}

impl Network {
    /// Whether nothing gets from one place to the other.
    pub fn is_cut(&self, from: Host, to: Host) -> bool {
        self.cuts.contains_key(&(from, to))
    }

    /// How many connections broke so far.
    pub fn broken(&self) -> u64 {
        self.broken
    }

    /// Cuts one direction.
    pub fn cut(&mut self, from: Host, to: Host, context: &mut Context<'_>) {
        self.count += 1;
        let cut = self.count;
        self.cuts.insert((from, to), cut);
        for (id, connection) in self.connections.iter_mut() {
            let Some(way) = connection.way_from(from, to) else { continue };
            connection.ways[way].cut = cut;
            if connection.broken {
                continue;
            }
            let at = context.now + between(context.random, self.weather.patience);
            context.later.push((at, Event::Patience { connection: *id, way, cut }));
        }
    }

    /// Heals one direction: what was held goes on.
    pub fn heal(&mut self, from: Host, to: Host, context: &mut Context<'_>) {
        if self.cuts.remove(&(from, to)).is_none() {
            return;
        }
        for (id, connection) in self.connections.iter_mut() {
            let Some(way) = connection.way_from(from, to) else { continue };
            connection.ways[way].cut = 0;
            let delay = self.weather.draw(context.random);
            connection.go_on(*id, way, delay, context);
        }
    }

    /// Heals everything.
    pub fn heal_all(&mut self, context: &mut Context<'_>) {
        for (from, to) in self.cuts.keys().copied().collect::<Vec<_>>() {
            self.heal(from, to, context);
        }
    }

    /// From now on `from` keeps a link to that node at that place, and dials until it has one.
    pub fn want(&mut self, from: Host, to: Host, node: NodeId, lane: Lane, context: &mut Context<'_>) {
        let link = self.links.entry((from, node, lane)).or_insert_with(|| Link::to(to));
        if link.host != to {
            link.host = to;
            link.failures = 0;
        } else if !matches!(link.state, State::Idle) {
            return;
        }
        if matches!(link.state, State::Idle | State::Resting) {
            self.dial(from, (node, lane), false, context);
        }
    }

    /// `from` keeps links to those alone of whom this holds.
    pub fn keep_links(&mut self, from: Host, is_kept: impl Fn(NodeId) -> bool, context: &mut Context<'_>) {
        let ends = |(host, node, _): &&(Host, NodeId, Lane)| *host == from && !is_kept(*node);
        for key in self.links.keys().filter(ends).copied().collect::<Vec<_>>() {
            let Some(link) = self.links.remove(&key) else { continue };
            if let State::Open(id) = link.state {
                self.break_connection(id, Break::Closed, context);
            }
            let (_, peer, lane) = key;
            not_sent(from, peer, link.waiting, context);
            context.news.push(News::Down { host: from, peer, lane });
        }
    }

    /// `host` closes its connections with whoever's life is over, by its own roster.
    pub fn close(&mut self, host: Host, is_over: impl Fn(NodeId, Incarnation) -> bool, context: &mut Context<'_>) {
        let ends = |it: &Connection| {
            let other = if it.ends[0].host == host { it.ends[1] } else { it.ends[0] };
            it.ends.iter().any(|end| end.host == host) && is_over(other.node, other.life)
        };
        let ids: Vec<u64> = self.connections.iter().filter(|(_, it)| ends(it)).map(|(id, _)| *id).collect();
        for id in ids {
            self.break_connection(id, Break::Closed, context);
        }
    }

    /// The process at this place has ended. Where its machine went down with it, nobody is told so.
    pub fn end(&mut self, host: Host, silently: bool, context: &mut Context<'_>) {
        let how = if silently { Break::Silent } else { Break::Closed };
        let has_end = |it: &Connection| it.ends.iter().any(|end| end.host == host);
        let ids: Vec<u64> = self.connections.iter().filter(|(_, it)| has_end(it)).map(|(id, _)| *id).collect();
        for id in ids {
            self.break_connection(id, how, context);
        }
        self.links.retain(|(from, ..), _| *from != host);
        self.accepted.retain(|(to, ..), _| *to != host);
        // Nobody hears what is still on its way there.
        for connection in self.connections.values_mut() {
            for way in [THERE, BACK] {
                if connection.ends[1 - way].host == host {
                    connection.ways[way].under_way.clear();
                }
            }
        }
    }

    /// Sends a frame by the link of its lane; dials first where there is none. While a link rests after a failure frames are
    /// not kept.
    pub fn send(
        &mut self,
        from: Host,
        to: (Host, NodeId),
        lane: Lane,
        frame: (BytesMut, Kind),
        context: &mut Context<'_>,
    ) {
        let link = self.links.entry((from, to.1, lane)).or_insert_with(|| Link::to(to.0));
        link.host = to.0;
        match link.state {
            State::Open(id) => self.transmit(id, THERE, frame, context),
            State::Resting => not_sent(from, to.1, [frame], context),
            State::Idle | State::Dialling { .. } => {
                if link.waiting.len() >= FRAMES || frame.1 == Kind::InOrder {
                    not_sent(from, to.1, [frame], context);
                } else {
                    link.waiting.push_back(frame);
                }
                if matches!(link.state, State::Idle) {
                    self.dial(from, (to.1, lane), false, context);
                }
            }
        }
    }

    /// Sends a frame to a node to which there is no link, by the connection it dialled; lost if there is none.
    pub fn send_to_caller(
        &mut self,
        from: Host,
        to: NodeId,
        lane: Lane,
        frame: (BytesMut, Kind),
        context: &mut Context<'_>,
    ) {
        match self.accepted.get(&(from, to, lane)).copied() {
            Some(id) => self.transmit(id, BACK, frame, context),
            None => not_sent(from, to, [frame], context),
        }
    }

    /// Sends an answer by the connection on which the question came; lost if that is gone.
    pub fn send_back(&mut self, connection: u64, bytes: BytesMut, context: &mut Context<'_>) {
        self.transmit(connection, BACK, (bytes, Kind::InOrder), context);
    }

    /// Lets an event of the network happen. `greet` plays the handshake of a dialling.
    pub fn on_event(
        &mut self,
        event: Event,
        greet: impl FnOnce(Host, (Host, NodeId), Lane) -> Greeting,
        context: &mut Context<'_>,
    ) {
        match event {
            Event::Arrive { to, connection, way } => self.on_arrive(to, connection, way, context),
            Event::Notice { host, connection, ends, lane } => self.on_notice(host, connection, ends, lane, context),
            Event::Patience { connection, way, cut } => self.on_patience(connection, way, cut, context),
            Event::Redial { from, link, attempt } => {
                let known = self.links.get(&(from, link.0, link.1));
                if known.is_some_and(|it| it.attempt == attempt && matches!(it.state, State::Resting)) {
                    self.dial(from, link, false, context);
                }
            }
            Event::Dialled { from, link, attempt, timed_out } => {
                self.on_dialled(from, link, attempt, timed_out, greet, context);
            }
        }
    }

    fn on_arrive(&mut self, to: Host, id: u64, way: usize, context: &mut Context<'_>) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.ways[way].cut != 0 || connection.ways[way].stopped {
            connection.ways[way].held += 1;
            return;
        }
        let frame = connection.ways[way].under_way.pop_front();
        assert!(frame.is_some() || connection.broken, "one frame for each arrival");
        let Some(bytes) = frame else { return };
        let (from, lane) = (connection.ends[way], connection.lane);
        context.news.push(News::Frame { to, from, connection: id, lane, bytes });
    }

    fn on_patience(&mut self, id: u64, way: usize, cut: u64, context: &mut Context<'_>) {
        let waits = |it: &&Connection| !it.broken && it.ways[way].cut == cut;
        let Some(connection) = self.connections.get(&id).filter(waits) else { return };
        // Nothing is under way, so nothing is missed: TCP would not notice either.
        if connection.ways[way].under_way.is_empty() {
            let at = context.now + between(context.random, self.weather.patience);
            context.later.push((at, Event::Patience { connection: id, way, cut }));
            return;
        }
        self.break_connection(id, Break::Closed, context);
    }

    fn on_notice(&mut self, host: Host, id: u64, ends: [Side; 2], lane: Lane, context: &mut Context<'_>) {
        let [caller, called] = ends;
        if host != caller.host {
            // Unless a newer one has come.
            let key = (called.host, caller.node, lane);
            if self.accepted.get(&key) == Some(&id) {
                self.accepted.remove(&key);
                context.news.push(News::HungUp { host: called.host, caller, lane });
            }
            return;
        }
        let Some(link) = self.links.get_mut(&(host, called.node, lane)) else { return };
        if matches!(link.state, State::Open(open) if open == id) {
            link.state = State::Idle;
            context.news.push(News::Down { host, peer: called.node, lane });
            self.dial(host, (called.node, lane), true, context);
        }
    }

    fn on_dialled(
        &mut self,
        from: Host,
        link: (NodeId, Lane),
        attempt: u64,
        timed_out: bool,
        greet: impl FnOnce(Host, (Host, NodeId), Lane) -> Greeting,
        context: &mut Context<'_>,
    ) {
        let Some(known) = self.links.get(&(from, link.0, link.1)).filter(|it| it.attempt == attempt) else { return };
        let State::Dialling { after_break, .. } = known.state else { return };
        let to = known.host;
        if timed_out {
            return self.unreached(from, link, (after_break, None), context);
        }
        let blocked = self.is_cut(from, to) || self.is_cut(to, from);
        match if blocked { Greeting::Silent } else { greet(from, (to, link.0), link.1) } {
            Greeting::Welcome(caller, called) => self.open(caller, called, link.1, context),
            Greeting::Refused(refusal) => self.unreached(from, link, (after_break, refusal), context),
            Greeting::Silent => {
                let known = self.links.get_mut(&(from, link.0, link.1)).expect("it was dialled");
                known.state = State::Dialling { after_break, lost: true };
                let event = Event::Dialled { from, link, attempt, timed_out: true };
                context.later.push((context.now + DIAL_TIMEOUT, event));
            }
        }
    }

    fn open(&mut self, caller: Side, called: Side, lane: Lane, context: &mut Context<'_>) {
        // Whoever calls anew has given the old connection up; what is on its way there may still be heard, even later than
        // what comes on the new one.
        if let Some(old) = self.accepted.get(&(called.host, caller.node, lane)).copied() {
            self.break_connection(old, Break::Closed, context);
        }
        self.count += 1;
        let id = self.count;
        let way = |from: Side, to: Side| {
            let stopped = self.holds.contains(&(from.host, to.host, lane));
            Way { last: context.now, stopped, ..Way::default() }
        };
        let ways = [way(caller, called), way(called, caller)];
        self.connections.insert(id, Connection { lane, ends: [caller, called], ways, broken: false });
        self.accepted.insert((called.host, caller.node, lane), id);
        context.news.push(News::Called { host: called.host, caller, lane });
        context.news.push(News::Up { host: caller.host, peer: called.node, lane });
        let link = self.links.get_mut(&(caller.host, called.node, lane)).expect("it was dialled");
        link.state = State::Open(id);
        link.failures = 0;
        for frame in std::mem::take(&mut link.waiting) {
            self.transmit(id, THERE, frame, context);
        }
        // Who calls is there: no need to wait any longer before calling back.
        for lane in [Lane::Control, Lane::Data, Lane::Bulk] {
            match self.links.get(&(called.host, caller.node, lane)).map(|link| &link.state) {
                Some(State::Resting) => self.dial(called.host, (caller.node, lane), false, context),
                Some(State::Dialling { after_break, lost: true }) => {
                    self.dial(called.host, (caller.node, lane), *after_break, context);
                }
                _ => {}
            }
        }
    }

    fn unreached(
        &mut self,
        from: Host,
        link: (NodeId, Lane),
        how: (bool, Option<PeerRefusal>),
        context: &mut Context<'_>,
    ) {
        let known = self.links.get_mut(&(from, link.0, link.1)).expect("it was dialled");
        known.state = State::Resting;
        known.failures += 1;
        let waiting = std::mem::take(&mut known.waiting);
        let pause = (REDIAL.0 * 2u32.saturating_pow(known.failures - 1)).min(REDIAL.1);
        let at = context.now + pause + between(context.random, (Duration::ZERO, pause / 4));
        context.later.push((at, Event::Redial { from, link, attempt: known.attempt }));
        let (peer, (after_break, refusal)) = (link.0, how);
        context.news.push(News::Unreached { host: from, peer, lane: link.1, after_break, refusal });
        not_sent(from, peer, waiting, context);
    }

    fn dial(&mut self, from: Host, link: (NodeId, Lane), after_break: bool, context: &mut Context<'_>) {
        // Attempts are numbered throughout, so that what is on its way for a link that was dropped is known as such.
        self.count += 1;
        let attempt = self.count;
        let known = self.links.get_mut(&(from, link.0, link.1)).expect("somebody wants it");
        known.state = State::Dialling { after_break, lost: false };
        known.attempt = attempt;
        // There, back, and the proofs: two round trips.
        let at = context.now + 4 * self.weather.draw(context.random);
        context.later.push((at, Event::Dialled { from, link, attempt, timed_out: false }));
    }

    fn transmit(&mut self, id: u64, way: usize, frame: (BytesMut, Kind), context: &mut Context<'_>) {
        let delay = self.weather.draw(context.random);
        // Broken, and the sender does not know it yet: lost.
        let Some(connection) = self.connections.get_mut(&id).filter(|it| !it.broken) else { return };
        let (from, to) = (connection.ends[way], connection.ends[1 - way]);
        let on = &mut connection.ways[way];
        if on.under_way.len() >= FRAMES {
            match frame.1 {
                Kind::InOrder => self.break_connection(id, Break::Closed, context),
                Kind::Word | Kind::Carry(_) => not_sent(from.host, to.node, [frame], context),
            }
            return;
        }
        on.under_way.push_back(frame.0);
        let at = (context.now + delay).max(on.last + Duration::from_nanos(1));
        on.last = at;
        context.later.push((at, Event::Arrive { to: to.host, connection: id, way }));
        if self.weather.breaks > 0 && context.random.gen_range(0..1_000_000) < self.weather.breaks {
            self.break_connection(id, Break::Closed, context);
        }
    }

    /// What was handed to the connection before may still arrive, wholly or in part: a process that ends leaves it to its
    /// operating system, and a reset loses it.
    fn break_connection(&mut self, id: u64, how: Break, context: &mut Context<'_>) {
        let Some(connection) = self.connections.get_mut(&id).filter(|it| !it.broken) else { return };
        self.broken += 1;
        connection.broken = true;
        let (ends, lane) = (connection.ends, connection.lane);
        let mut last = context.now;
        for way in &mut connection.ways {
            let left = match how {
                Break::Closed if way.stopped => way.under_way.len(),
                Break::Closed if way.cut == 0 && context.random.gen_ratio(1, 2) => way.under_way.len(),
                Break::Closed if way.cut == 0 => context.random.gen_range(0..=way.under_way.len()),
                _ => 0,
            };
            way.under_way.truncate(left);
            last = last.max(way.last);
        }
        for (host, other) in [(ends[0].host, ends[1].host), (ends[1].host, ends[0].host)] {
            let told = matches!(how, Break::Closed) && !self.is_cut(other, host);
            let after = match told {
                true => between(context.random, (Duration::from_micros(20), Duration::from_millis(3))),
                false => between(context.random, self.weather.patience),
            };
            let at = (context.now + after).max(last);
            context.later.push((at, Event::Notice { host, connection: id, ends, lane }));
        }
        self.forget_broken();
    }

    fn forget_broken(&mut self) {
        self.fading += 1;
        if self.fading > 2 * BROKEN {
            let mut broken: Vec<u64> = self.connections.iter().filter(|(_, it)| it.broken).map(|(id, _)| *id).collect();
            broken.truncate(broken.len().saturating_sub(BROKEN));
            self.fading -= broken.len();
            broken.into_iter().for_each(|id| drop(self.connections.remove(&id)));
        }
    }
}

impl Link {
    fn to(host: Host) -> Self {
        Self { host, state: State::Idle, attempt: 0, failures: 0, waiting: VecDeque::new() }
    }
}

impl Connection {
    fn way_from(&self, from: Host, to: Host) -> Option<usize> {
        [THERE, BACK].into_iter().find(|way| (self.ends[*way].host, self.ends[1 - way].host) == (from, to))
    }
}

#[derive(Clone, Copy, Debug)]
enum Break {
    Closed,
    Silent,
}

impl Weather {
    /// How long a frame takes.
    pub fn draw(&self, random: &mut ChaCha8Rng) -> Duration {
        let usual = between(random, self.delay);
        match self.late > 0 && random.gen_range(0..10_000) < self.late {
            true => usual + between(random, (Duration::ZERO, self.late_by)),
            false => usual,
        }
    }
}

fn not_sent(host: Host, peer: NodeId, frames: impl IntoIterator<Item = (BytesMut, Kind)>, context: &mut Context<'_>) {
    let carry = |(_, kind)| if let Kind::Carry(id) = kind { Some(id) } else { None };
    let carries: Vec<u64> = frames.into_iter().filter_map(carry).collect();
    if !carries.is_empty() {
        context.news.push(News::NotSent { host, peer, carries });
    }
}

/// A span drawn between two, both included.
pub fn between(random: &mut ChaCha8Rng, bounds: (Duration, Duration)) -> Duration {
    let (low, high) = (bounds.0.as_nanos() as u64, bounds.1.as_nanos() as u64);
    Duration::from_nanos(random.gen_range(low..=high.max(low)))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::sim::queue::Queue;

    /// Two places, a node at each, and what they were told.
    struct Pair {
        network: Network,
        queue: Queue<Event>,
        random: ChaCha8Rng,
        runs: [bool; 2],
        told: Vec<News>,
    }

    const A: Host = Host(0);
    const B: Host = Host(1);

    fn side(host: Host) -> Side {
        Side { host, node: NodeId(host.0 as u64 + 1), life: Incarnation(1) }
    }

    impl Pair {
        fn new(seed: u64) -> Self {
            let random = ChaCha8Rng::seed_from_u64(seed);
            let (network, queue) = (Network::default(), Queue::default());
            Self { network, queue, random, runs: [true; 2], told: vec![] }
        }

        fn act(&mut self, act: impl FnOnce(&mut Network, &mut Context<'_>)) {
            let (mut later, mut news) = (vec![], vec![]);
            let now = self.queue.now();
            let context = &mut Context { now, later: &mut later, news: &mut news, random: &mut self.random };
            act(&mut self.network, context);
            self.told.extend(news);
            for (at, event) in later {
                self.queue.push(at, &mut self.random, event);
            }
        }

        fn send(&mut self, byte: u8) {
            let frame = (BytesMut::from(&[byte][..]), Kind::Carry(u64::from(byte)));
            self.act(|network, context| network.send(A, (B, NodeId(2)), Lane::Data, frame, context));
        }

        /// Runs for a while, and answers what was told meanwhile.
        fn run(&mut self, span: Duration) -> Vec<News> {
            let until = self.queue.now() + span;
            while self.queue.next_at().is_some_and(|at| at <= until) {
                let event = self.queue.pop().unwrap();
                let runs = self.runs;
                self.act(|network, context| {
                    let greet = |from, to: (Host, NodeId), _| match runs[to.0.0] {
                        true => Greeting::Welcome(side(from), side(to.0)),
                        false => Greeting::Refused(None),
                    };
                    network.on_event(event, greet, context);
                });
            }
            self.queue.pass(until);
            std::mem::take(&mut self.told)
        }
    }

    fn frames(news: &[News]) -> Vec<u8> {
        news.iter().filter_map(|it| if let News::Frame { bytes, .. } = it { Some(bytes[0]) } else { None }).collect()
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn frames_arrive_in_order() {
        for seed in 0..20 {
            let mut pair = Pair::new(seed);
            pair.network.weather.late = 3_000;
            (0..100).for_each(|byte| pair.send(byte));
            assert_eq!(frames(&pair.run(SECOND)), (0..100).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_short_cut_delays_and_a_long_one_breaks() {
        for (length, arrive) in [(Duration::from_millis(300), true), (SECOND * 20, false)] {
            let mut pair = Pair::new(1);
            pair.send(1);
            pair.run(SECOND);
            pair.act(|network, context| network.cut(A, B, context));
            pair.send(2);
            pair.send(3);
            let meanwhile = pair.run(length);
            assert_eq!(frames(&meanwhile), [0; 0]);
            pair.act(|network, context| network.heal(A, B, context));
            let after = pair.run(SECOND);
            let all = [meanwhile, after].concat();
            assert_eq!(frames(&all), if arrive { vec![2, 3] } else { vec![] });
            let (host, peer, lane) = (A, NodeId(2), Lane::Data);
            assert_eq!(all.contains(&News::Down { host, peer, lane }), !arrive);
            assert_eq!(all.contains(&News::Up { host, peer, lane }), !arrive);
            assert_eq!(all.contains(&News::HungUp { host: B, caller: side(A), lane }), !arrive);
        }
    }

    #[test]
    fn what_is_held_arrives_when_it_is_let_go_even_after_a_reset() {
        for reset in [false, true] {
            let mut pair = Pair::new(1);
            pair.send(1);
            pair.run(SECOND);
            pair.act(|network, _| network.hold(A, B, Lane::Data));
            pair.send(2);
            assert_eq!(frames(&pair.run(SECOND * 20)), [0; 0]);
            if reset {
                pair.act(|network, context| network.reset(A, B, context));
                assert_eq!(frames(&pair.run(SECOND)), [0; 0]);
            }
            pair.send(3);
            assert_eq!(frames(&pair.run(SECOND)), [0; 0], "a new connection is held, too");
            pair.act(|network, context| network.let_all_go(context));
            assert_eq!(frames(&pair.run(SECOND)), [2, 3]);
        }
    }

    #[test]
    fn a_process_that_ends_breaks_its_links_and_is_not_reached() {
        let mut pair = Pair::new(1);
        pair.send(1);
        pair.run(SECOND);
        pair.runs[1] = false;
        pair.act(|network, context| network.end(B, false, context));
        let news = pair.run(Duration::from_millis(20));
        let (host, peer, lane) = (A, NodeId(2), Lane::Data);
        assert_eq!(news[0], News::Down { host, peer, lane });
        assert_eq!(news[1], News::Unreached { host, peer, lane, after_break: true, refusal: None });
        pair.send(2);
        assert_eq!(pair.run(Duration::ZERO), [News::NotSent { host, peer, carries: vec![2] }]);
        pair.runs[1] = true;
        assert!(pair.run(SECOND).contains(&News::Up { host, peer, lane }));
        pair.send(3);
        assert_eq!(frames(&pair.run(SECOND)), [3]);
    }

    #[test]
    fn answers_go_back_on_the_connection_of_the_question_and_die_with_it() {
        let mut pair = Pair::new(1);
        pair.send(1);
        let news = pair.run(SECOND);
        let connection =
            news.iter().find_map(|it| if let News::Frame { connection, .. } = it { Some(*connection) } else { None });
        let connection = connection.unwrap();
        pair.act(|network, context| network.send_back(connection, BytesMut::from(&[7][..]), context));
        assert_eq!(frames(&pair.run(SECOND)), [7]);
        pair.act(|network, context| network.keep_links(A, |_| false, context));
        pair.act(|network, context| network.send_back(connection, BytesMut::from(&[8][..]), context));
        assert_eq!(frames(&pair.run(SECOND)), [0; 0]);
        pair.send(2);
        assert_eq!(frames(&pair.run(SECOND)), [2]);
        pair.act(|network, context| network.send_back(connection, BytesMut::from(&[9][..]), context));
        assert_eq!(frames(&pair.run(SECOND)), [0; 0]);
    }

    #[test]
    fn frames_that_wait_for_a_dialling_in_vain_are_said_to_be_not_sent() {
        let mut pair = Pair::new(1);
        pair.act(|network, context| network.cut(B, A, context));
        pair.send(1);
        let news = pair.run(SECOND);
        assert!(news.contains(&News::NotSent { host: A, peer: NodeId(2), carries: vec![1] }));
        assert_eq!(frames(&news), [0; 0]);
    }
}
