//! A made-up network: connections, one for each ordered pair of nodes and lane, that deliver in order and lose only by breaking.
//!
//! What TCP gives is what is simulated. A frame arrives, late perhaps, or the connection breaks and with it everything under
//! way; each side learns of that by itself, after a moment. A cut holds what is under way, as resending does: where it heals in
//! time the frames arrive late, and where it does not the connection breaks. New connections need both directions, since a
//! handshake does. A cut one way leaves the connections of the other way as they are, which is harsher than most networks.
//!
//! Each connection has a sender, who dialled, and a receiver, who accepted it. A sender dials again at once after a break, and
//! then after growing pauses for as long as it wants the link. The postmen of production (`actors::link`) do the same.
//! Here is no knowledge of what frames say: the world encodes and decodes them.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::clock::Time;
use crate::messages::peer::Lane;
use crate::types::{Incarnation, NodeId};

/// How many frames a connection may have under way, and a link may keep while it dials. Beyond it, the connection breaks.
pub const FRAMES: usize = 4096;

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
    },
    /// Somebody learns that a connection is broken.
    Notice {
        /// Who.
        host: Host,
        /// Which connection.
        connection: u64,
    },
    /// A dialling is answered, or not.
    Dialled {
        /// Who dialled.
        from: Host,
        /// Which link.
        link: (Host, Lane),
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
        link: (Host, Lane),
        /// After which attempt.
        attempt: u64,
    },
    /// A cut connection has waited for long enough.
    Patience {
        /// Which connection.
        connection: u64,
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
        /// What.
        bytes: Vec<u8>,
    },
    /// A connection is there, in one direction or the other.
    Up {
        /// For whom.
        host: Host,
        /// With whom.
        peer: NodeId,
        /// For what.
        lane: Lane,
    },
    /// A connection broke, in one direction or the other.
    Down {
        /// For whom.
        host: Host,
        /// With whom.
        peer: NodeId,
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
    },
    /// Frames could not be handed to a connection: nothing of them has left.
    NotSent {
        /// Whose.
        host: Host,
        /// To whom.
        peer: NodeId,
        /// The sender's names for them.
        tags: Vec<u64>,
    },
}

/// What the called side says in the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// All is well; this is who accepted.
    Welcome(Side),
    /// Nobody listens there, or the called side will not have the caller.
    Refused,
    /// No answer: the process does not run on, or the machine is gone.
    Silent,
}

#[derive(Debug)]
struct Connection {
    lane: Lane,
    sender: Side,
    receiver: Side,
    under_way: VecDeque<Vec<u8>>,
    last: Time,
    held: usize,
    cut: u64,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Idle,
    Dialling {
        after_break: bool,
    },
    Open(u64),
    Resting,
}

#[derive(Debug, Default)]
struct Link {
    wanted: Option<NodeId>,
    state: State,
    attempt: u64,
    failures: u32,
    waiting: VecDeque<(Vec<u8>, Option<u64>)>,
}

/// A frame to be sent.
#[derive(Debug)]
pub struct Frame {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The sender's name for it, if it wants to be told when it could not be sent.
    pub tag: Option<u64>,
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

/// The network.
#[derive(Debug)]
pub struct Network {
    /// How it behaves when nothing is cut.
    pub weather: Weather,
    links: BTreeMap<(Host, Host, Lane), Link>,
    accepted: BTreeMap<(Host, Host, Lane), u64>,
    connections: BTreeMap<u64, Connection>,
    parted: BTreeMap<u64, (Side, Side, Lane)>,
    cuts: BTreeMap<(Host, Host), u64>,
    count: u64,
    broken: u64,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            weather: Weather::default(),
            links: BTreeMap::new(),
            accepted: BTreeMap::new(),
            connections: BTreeMap::new(),
            parted: BTreeMap::new(),
            cuts: BTreeMap::new(),
            count: 0,
            broken: 0,
        }
    }
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

    /// The most frames under way on one connection.
    pub fn longest(&self) -> usize {
        self.connections.values().map(|connection| connection.under_way.len()).max().unwrap_or(0)
    }

    /// Cuts one direction.
    pub fn cut(&mut self, from: Host, to: Host, context: &mut Context<'_>) {
        self.count += 1;
        let cut = self.count;
        self.cuts.insert((from, to), cut);
        let patience = self.weather.patience;
        for (id, connection) in self.connections.iter_mut() {
            if (connection.sender.host, connection.receiver.host) == (from, to) {
                connection.cut = cut;
                let at = context.now + between(context.random, patience);
                context.later.push((at, Event::Patience { connection: *id, cut }));
            }
        }
    }

    /// Heals one direction: what was held goes on.
    pub fn heal(&mut self, from: Host, to: Host, context: &mut Context<'_>) {
        if self.cuts.remove(&(from, to)).is_none() {
            return;
        }
        let weather = self.weather;
        for (id, connection) in self.connections.iter_mut() {
            if (connection.sender.host, connection.receiver.host) == (from, to) {
                connection.cut = 0;
                let mut at = context.now + weather.draw(context.random);
                for _ in 0..std::mem::take(&mut connection.held) {
                    context.later.push((at, Event::Arrive { to, connection: *id }));
                    at = at + Duration::from_micros(1);
                }
                connection.last = connection.last.max(at);
            }
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
        let link = self.links.entry((from, to, lane)).or_default();
        if link.wanted == Some(node) {
            return;
        }
        link.wanted = Some(node);
        link.failures = 0;
        if matches!(link.state, State::Idle | State::Resting) {
            self.dial(from, (to, lane), false, context);
        }
    }

    /// `host` wants no links to that place any more, and hears nothing from there.
    pub fn part(&mut self, host: Host, other: Host, context: &mut Context<'_>) {
        for lane in [Lane::Control, Lane::Data, Lane::Bulk] {
            if let Some(link) = self.links.get_mut(&(host, other, lane)) {
                *link = Link { attempt: link.attempt + 1, ..Link::default() };
            }
        }
        let ends = |side: &Connection| {
            let pair = (side.sender.host, side.receiver.host);
            pair == (host, other) || pair == (other, host)
        };
        let ids: Vec<u64> = self.connections.iter().filter(|(_, it)| ends(it)).map(|(id, _)| *id).collect();
        for id in ids {
            self.break_connection(id, Break::Closed, context);
        }
    }

    /// The process at this place has ended. Where its machine went down with it, nobody is told so.
    pub fn end(&mut self, host: Host, silently: bool, context: &mut Context<'_>) {
        let how = if silently { Break::Silent } else { Break::Closed };
        let ids: Vec<u64> = self
            .connections
            .iter()
            .filter(|(_, it)| it.sender.host == host || it.receiver.host == host)
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            self.break_connection(id, how, context);
        }
        for ((from, ..), link) in self.links.iter_mut() {
            if *from == host {
                *link = Link { attempt: link.attempt + 1, ..Link::default() };
            }
        }
        self.accepted.retain(|(to, ..), _| *to != host);
    }

    /// Sends a frame; dials first where there is no connection. While a link rests after a failure frames are not kept.
    pub fn send(&mut self, from: Host, to: (Host, NodeId), lane: Lane, frame: Frame, context: &mut Context<'_>) {
        let link = self.links.entry((from, to.0, lane)).or_default();
        link.wanted = Some(to.1);
        match link.state {
            State::Open(id) => self.transmit(id, frame.bytes, context),
            State::Resting => not_sent(from, to.1, frame.tag.into_iter().collect(), context),
            State::Idle | State::Dialling { .. } => {
                if link.waiting.len() >= FRAMES {
                    return not_sent(from, to.1, frame.tag.into_iter().collect(), context);
                }
                link.waiting.push_back((frame.bytes, frame.tag));
                if matches!(link.state, State::Idle) {
                    self.dial(from, (to.0, lane), false, context);
                }
            }
        }
    }

    /// Lets an event of the network happen. `greet` plays the handshake of a dialling.
    pub fn on_event(
        &mut self,
        event: Event,
        greet: impl FnOnce(Host, (Host, NodeId)) -> (Side, Greeting),
        context: &mut Context<'_>,
    ) {
        match event {
            Event::Arrive { to, connection } => self.on_arrive(to, connection, context),
            Event::Notice { host, connection } => self.on_notice(host, connection, context),
            Event::Patience { connection, cut } => self.on_patience(connection, cut, context),
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

    fn on_arrive(&mut self, to: Host, id: u64, context: &mut Context<'_>) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.cut != 0 {
            connection.held += 1;
            return;
        }
        let bytes = connection.under_way.pop_front().expect("one frame for each arrival");
        context.news.push(News::Frame { to, from: connection.sender, bytes });
    }

    fn on_patience(&mut self, id: u64, cut: u64, context: &mut Context<'_>) {
        let Some(connection) = self.connections.get(&id).filter(|it| it.cut == cut) else { return };
        // Nothing is under way, so nothing is missed: TCP would not notice either.
        if connection.under_way.is_empty() {
            let at = context.now + between(context.random, self.weather.patience);
            context.later.push((at, Event::Patience { connection: id, cut }));
            return;
        }
        self.break_connection(id, Break::Closed, context);
    }

    fn on_notice(&mut self, host: Host, id: u64, context: &mut Context<'_>) {
        let Some((sender, receiver, lane)) = self.parted.get(&id).copied() else { return };
        if host == sender.host {
            let Some(link) = self.links.get_mut(&(host, receiver.host, lane)) else { return };
            if !matches!(link.state, State::Open(open) if open == id) {
                return;
            }
            link.state = State::Idle;
            context.news.push(News::Down { host, peer: receiver.node, lane });
            self.dial(host, (receiver.host, lane), true, context);
        } else {
            self.hang_up(host, sender, lane, Some(id), context);
        }
    }

    /// The receiving side gives a connection up, because it learnt that it is broken or because a newer one has come.
    fn hang_up(&mut self, host: Host, sender: Side, lane: Lane, which: Option<u64>, context: &mut Context<'_>) {
        let key = (host, sender.host, lane);
        let Some(known) = self.accepted.get(&key).copied() else { return };
        if which.is_none_or(|id| id == known) {
            self.accepted.remove(&key);
            let peer = self.parted.get(&known).map_or(sender.node, |(sender, ..)| sender.node);
            context.news.push(News::Down { host, peer, lane });
        }
    }

    fn on_dialled(
        &mut self,
        from: Host,
        link: (Host, Lane),
        attempt: u64,
        timed_out: bool,
        greet: impl FnOnce(Host, (Host, NodeId)) -> (Side, Greeting),
        context: &mut Context<'_>,
    ) {
        let blocked = self.is_cut(from, link.0) || self.is_cut(link.0, from);
        let Some(known) = self.links.get_mut(&(from, link.0, link.1)).filter(|it| it.attempt == attempt) else {
            return;
        };
        let (State::Dialling { after_break }, Some(node)) = (&known.state, known.wanted) else { return };
        let after_break = *after_break;
        let (caller, greeting) = greet(from, (link.0, node));
        match greeting {
            Greeting::Welcome(called) if !blocked && !timed_out => self.open(caller, called, link.1, context),
            Greeting::Refused if !blocked => self.unreached(from, link, node, after_break, context),
            _ if timed_out => self.unreached(from, link, node, after_break, context),
            _ => {
                let event = Event::Dialled { from, link, attempt, timed_out: true };
                context.later.push((context.now + DIAL_TIMEOUT, event));
            }
        }
    }

    fn open(&mut self, sender: Side, receiver: Side, lane: Lane, context: &mut Context<'_>) {
        // Whoever calls anew has given the old connection up. The accepting side learns that first.
        if let Some(old) = self.accepted.get(&(receiver.host, sender.host, lane)).copied() {
            self.break_connection(old, Break::Closed, context);
            self.hang_up(receiver.host, sender, lane, Some(old), context);
        }
        self.count += 1;
        let id = self.count;
        let connection =
            Connection { lane, sender, receiver, under_way: VecDeque::new(), last: context.now, held: 0, cut: 0 };
        self.connections.insert(id, connection);
        self.accepted.insert((receiver.host, sender.host, lane), id);
        context.news.push(News::Up { host: receiver.host, peer: sender.node, lane });
        context.news.push(News::Up { host: sender.host, peer: receiver.node, lane });
        let link = self.links.get_mut(&(sender.host, receiver.host, lane)).expect("it was dialled");
        link.state = State::Open(id);
        link.failures = 0;
        for (bytes, _) in std::mem::take(&mut link.waiting) {
            self.transmit(id, bytes, context);
        }
    }

    fn unreached(
        &mut self,
        from: Host,
        link: (Host, Lane),
        peer: NodeId,
        after_break: bool,
        context: &mut Context<'_>,
    ) {
        let known = self.links.get_mut(&(from, link.0, link.1)).expect("it was dialled");
        known.state = State::Resting;
        known.failures += 1;
        let tags = std::mem::take(&mut known.waiting).into_iter().filter_map(|(_, tag)| tag).collect();
        let pause = (REDIAL.0 * 2u32.saturating_pow(known.failures - 1)).min(REDIAL.1);
        let at = context.now + pause + between(context.random, (Duration::ZERO, pause / 4));
        context.later.push((at, Event::Redial { from, link, attempt: known.attempt }));
        context.news.push(News::Unreached { host: from, peer, lane: link.1, after_break });
        not_sent(from, peer, tags, context);
    }

    fn dial(&mut self, from: Host, link: (Host, Lane), after_break: bool, context: &mut Context<'_>) {
        let known = self.links.get_mut(&(from, link.0, link.1)).expect("somebody wants it");
        known.state = State::Dialling { after_break };
        known.attempt += 1;
        let attempt = known.attempt;
        // There, back, and the proofs: two round trips.
        let at = context.now + 4 * self.weather.draw(context.random);
        context.later.push((at, Event::Dialled { from, link, attempt, timed_out: false }));
    }

    fn transmit(&mut self, id: u64, bytes: Vec<u8>, context: &mut Context<'_>) {
        let delay = self.weather.draw(context.random);
        // Broken, and the sender does not know it yet: lost.
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.under_way.push_back(bytes);
        let at = (context.now + delay).max(connection.last + Duration::from_nanos(1));
        connection.last = at;
        context.later.push((at, Event::Arrive { to: connection.receiver.host, connection: id }));
        let unlucky = self.weather.breaks > 0 && context.random.gen_range(0..1_000_000) < self.weather.breaks;
        if unlucky || connection.under_way.len() > FRAMES {
            self.break_connection(id, Break::Closed, context);
        }
    }

    fn break_connection(&mut self, id: u64, how: Break, context: &mut Context<'_>) {
        let Some(connection) = self.connections.remove(&id) else { return };
        self.broken += 1;
        let (sender, receiver) = (connection.sender, connection.receiver);
        self.parted.insert(id, (sender, receiver, connection.lane));
        if self.parted.len() > 10_000 {
            self.parted.pop_first();
        }
        for (host, other) in [(sender.host, receiver.host), (receiver.host, sender.host)] {
            let told = matches!(how, Break::Closed) && !self.is_cut(other, host);
            let after = match told {
                true => between(context.random, (Duration::from_micros(20), Duration::from_millis(3))),
                false => between(context.random, self.weather.patience),
            };
            context.later.push((context.now + after, Event::Notice { host, connection: id }));
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Break {
    Closed,
    Silent,
}

impl Weather {
    fn draw(&self, random: &mut ChaCha8Rng) -> Duration {
        let usual = between(random, self.delay);
        match self.late > 0 && random.gen_range(0..10_000) < self.late {
            true => usual + between(random, (Duration::ZERO, self.late_by)),
            false => usual,
        }
    }
}

fn not_sent(host: Host, peer: NodeId, tags: Vec<u64>, context: &mut Context<'_>) {
    if !tags.is_empty() {
        context.news.push(News::NotSent { host, peer, tags });
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
            let frame = Frame { bytes: vec![byte], tag: Some(u64::from(byte)) };
            self.act(|network, context| network.send(A, (B, NodeId(2)), Lane::Data, frame, context));
        }

        /// Runs for a while, and answers what was told meanwhile.
        fn run(&mut self, span: Duration) -> Vec<News> {
            let until = self.queue.now() + span;
            while self.queue.next_at().is_some_and(|at| at <= until) {
                let event = self.queue.pop().unwrap();
                let runs = self.runs;
                self.act(|network, context| {
                    let greet = |from: Host, to: (Host, NodeId)| {
                        let greeting = if runs[to.0.0] { Greeting::Welcome(side(to.0)) } else { Greeting::Refused };
                        (side(from), greeting)
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
            for host in [A, B] {
                let peer = side(Host(1 - host.0)).node;
                assert_eq!(all.contains(&News::Down { host, peer, lane: Lane::Data }), !arrive);
                assert_eq!(all.contains(&News::Up { host, peer, lane: Lane::Data }), !arrive);
            }
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
        assert_eq!(news[1], News::Unreached { host, peer, lane, after_break: true });
        pair.send(2);
        assert_eq!(pair.run(Duration::ZERO), [News::NotSent { host, peer, tags: vec![2] }]);
        pair.runs[1] = true;
        assert!(pair.run(SECOND).contains(&News::Up { host, peer, lane }));
        pair.send(3);
        assert_eq!(frames(&pair.run(SECOND)), [3]);
    }

    #[test]
    fn frames_that_wait_for_a_dialling_in_vain_are_said_to_be_not_sent() {
        let mut pair = Pair::new(1);
        pair.act(|network, context| network.cut(B, A, context));
        pair.send(1);
        let news = pair.run(SECOND);
        assert!(news.contains(&News::NotSent { host: A, peer: NodeId(2), tags: vec![1] }));
        assert_eq!(frames(&news), [0; 0]);
    }
}
