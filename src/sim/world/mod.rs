//! The made-up world: places where nodes run, what is between them, and the queue of all that is to come.
//!
//! Whoever drives a world (a story, a swarm) starts processes, harms them, asks them as clients do, and lets time pass
//! ([`World::advance`]). Everything else follows from the seed. `hosts` starts and ends processes, `wires` carries what they
//! say to each other, `asks` brings clients' commands, `sight` looks at all of it from outside, `watch` stops at an instant.

mod asks;
mod hosts;
mod sight;
mod watch;
mod wires;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub use asks::{Asker, Told};
pub use hosts::{Place, Spec};
pub use sight::Standing;
pub use watch::{Deed, Watch};

use super::checker::{Checkers, Fact};
use super::client::{Client, Eras};
use super::clock::Time;
use super::network::{self, Host, Network, between};
use super::node::{Mail, Node, Out, Room};
use super::queue::Queue;
use super::trace::Trace;
use crate::machines::dictionary::Dictionary;
use crate::machines::election::Published;
use crate::machines::{election, joining};
use crate::messages::client::Reply;
use crate::messages::events;
use crate::messages::ownership::{Chain, JoinAnswer, MeshSettings};
use crate::types::{Generation, NodeId, Now, RangeId};
use asks::Ask;

/// How often all nodes are looked at.
const SAMPLE: Duration = Duration::from_millis(50);

/// One look of so many goes through all keys.
const WHOLE_SAMPLES: u64 = 40;

/// A timer rings up to so much late.
const LATE: Duration = Duration::from_millis(1);

/// What is to come.
#[derive(Clone, Debug)]
enum Event {
    /// Something on the network.
    Network(network::Event),
    /// A timer of a process.
    Wake(Host, u64, Time),
    /// A sync of a process's journal is over.
    Synced(Host, u64),
    /// A process that looks for a mesh is heard at an address.
    JoinAsked(Host, u64, String, Host),
    /// It is told.
    JoinTold(Host, u64, String, Result<JoinAnswer, String>),
    /// Nobody has answered it.
    JoinUnanswered(u64),
    /// A client's command reaches a process.
    Submitted(Host, u64, u64),
    /// A client is told.
    Told(u64, Told),
    /// A client stops waiting.
    GivenUp(u64),
    /// A client acts.
    Client(usize),
    /// All nodes are looked at.
    Sample,
    /// A process that ended to begin again begins.
    Begin(Host, u64),
    /// A process that knows of no commander asks those it joined by whether it still belongs to them.
    Introduce(Host, u64, Duration),
    /// A machine hears again.
    Unstall(Host, u64, Room),
}

/// One that asked to join and waits for an answer.
#[derive(Debug)]
struct Joiner {
    host: Host,
    process: u64,
    address: String,
    asked: (Host, u64),
}

/// A made-up world.
#[derive(Debug)]
pub struct World {
    /// What all meshes here are founded with.
    pub settings: MeshSettings,
    /// The network.
    pub network: Network,
    /// The rules.
    pub checkers: Checkers,
    /// The record.
    pub trace: Trace,
    /// Everybody's luck.
    pub random: ChaCha8Rng,
    /// The places, in order.
    pub places: Vec<Place>,
    /// Clients that work by themselves.
    pub clients: Vec<Client>,
    /// Whether fault sites are on in processes that start.
    pub sites: bool,
    eras: Eras,
    queue: Queue<Event>,
    names: BTreeMap<NodeId, String>,
    joiners: BTreeMap<u64, Joiner>,
    asks: BTreeMap<u64, Ask>,
    /// The ranges that clients have asked for.
    asked: BTreeSet<RangeId>,
    told: BTreeMap<u64, (Time, Told)>,
    newest: Option<Arc<Published>>,
    fired: BTreeMap<&'static str, u64>,
    watched: Option<Watch>,
    /// Room for what leaves the machines of a process, used again and again.
    spare: Vec<Out>,
    counter: u64,
    samples: u64,
}

impl World {
    /// A world of this seed, with no places yet.
    pub fn new(seed: u64, settings: MeshSettings) -> Self {
        let mut world = Self {
            settings,
            network: Network::default(),
            checkers: Checkers::default(),
            trace: Trace::default(),
            random: ChaCha8Rng::seed_from_u64(seed),
            places: Vec::new(),
            clients: Vec::new(),
            sites: false,
            eras: Eras::default(),
            queue: Queue::default(),
            names: BTreeMap::new(),
            joiners: BTreeMap::new(),
            asks: BTreeMap::new(),
            asked: BTreeSet::new(),
            told: BTreeMap::new(),
            newest: None,
            fired: BTreeMap::new(),
            watched: None,
            spare: Vec::new(),
            counter: 0,
            samples: 0,
        };
        world.later(SAMPLE, Event::Sample);
        world
    }

    /// The true time.
    pub fn now(&self) -> Time {
        self.queue.now()
    }

    /// Lets time pass.
    pub fn advance(&mut self, span: Duration) {
        let until = self.now() + span;
        while self.queue.next_at().is_some_and(|at| at <= until) {
            self.step();
        }
        self.queue.pass(until);
    }

    /// Lets time pass until something holds, for as long as that at most. Whether it came to hold.
    pub fn until(&mut self, within: Duration, holds: impl FnMut(&mut Self) -> bool) -> bool {
        self.until_each(Duration::from_millis(1), within, holds)
    }

    /// The same, for a condition that is dear to evaluate: it is looked at once in such a span.
    pub fn until_each(&mut self, span: Duration, within: Duration, mut holds: impl FnMut(&mut Self) -> bool) -> bool {
        let until = self.now() + within;
        loop {
            if holds(self) {
                return true;
            }
            let next = (self.now() + span).min(until);
            if self.now() >= until {
                return false;
            }
            self.advance(next.since(self.now()));
        }
    }

    /// The same, and all stands still at the very event after which it holds.
    pub fn until_event(&mut self, within: Duration, mut holds: impl FnMut(&Self) -> bool) -> bool {
        let until = self.now() + within;
        while !holds(self) {
            if self.queue.next_at().is_none_or(|at| at > until) {
                self.queue.pass(until);
                return false;
            }
            self.step();
        }
        true
    }

    /// The next thing happens.
    fn step(&mut self) {
        let Some(event) = self.queue.pop() else { return };
        let listener = event.listener();
        if let Some(place) = listener.map(|host| &mut self.places[host.0]).filter(|place| place.is_paused()) {
            place.stash(event);
            return;
        }
        self.perform(event);
        if let Some(host) = listener {
            self.wind(host);
        }
    }

    fn perform(&mut self, event: Event) {
        match event {
            Event::Network(event) => self.on_network(event),
            Event::Wake(host, process, at) => self.on_wake(host, process, at),
            Event::Synced(host, process) => self.on_synced(host, process),
            Event::JoinAsked(host, process, address, asked) => self.on_join_asked(host, process, address, asked),
            Event::JoinTold(host, process, address, answer) => {
                self.fold(b'J', host, process);
                let input = joining::Input::Answered { address, answer };
                self.tell_process(host, process, Mail::Joining(input));
            }
            Event::JoinUnanswered(connection) => self.on_join_unanswered(connection),
            Event::Submitted(host, process, ask) => self.on_submitted(host, process, ask),
            Event::Told(ask, told) => self.on_told(ask, told),
            Event::GivenUp(ask) => self.on_told(ask, Told::Nothing),
            Event::Client(client) => self.on_client(client),
            Event::Sample => self.on_sample(),
            Event::Introduce(host, process, pause) => self.on_introduce(host, process, pause),
            Event::Begin(host, process) => {
                if self.places[host.0].process == process && self.places[host.0].node.is_none() {
                    self.start(host);
                }
            }
            Event::Unstall(host, process, room) => {
                let now = self.read(host);
                if let Some(node) = self.process(host, process) {
                    let mut out = Vec::new();
                    node.unstall(room, now, &mut out);
                    self.carry_out(host, out);
                }
            }
        }
    }

    fn on_sample(&mut self) {
        self.later(SAMPLE, Event::Sample);
        self.samples += 1;
        let views = if self.samples.is_multiple_of(WHOLE_SAMPLES) { self.whole_views() } else { self.views() };
        self.checkers.observe(self.queue.now(), &Fact::Sample(&views));
    }

    fn on_wake(&mut self, host: Host, process: u64, at: Time) {
        let place = &mut self.places[host.0];
        if place.process != process || place.wake != Some(at) {
            return;
        }
        place.wake = None;
        self.fold(b'W', host, process);
        let now = self.read(host);
        let mut out = std::mem::take(&mut self.spare);
        if let Some(node) = &mut self.places[host.0].node {
            node.on_timer(now, &mut out);
        }
        self.carry_out(host, out);
    }

    /// Sets a process's alarm for its next deadline.
    fn wind(&mut self, host: Host) {
        let now = self.now();
        let place = &mut self.places[host.0];
        let Some(deadline) = place.node.as_ref().and_then(Node::deadline) else { return };
        let due = place.clock.when(deadline, now);
        // An alarm that rings about then does for both.
        if place.wake.is_some_and(|at| at <= due + LATE) {
            return;
        }
        let at = due + between(&mut self.random, (Duration::ZERO, LATE));
        place.wake = Some(at);
        let process = place.process;
        self.queue.push(at, &mut self.random, Event::Wake(host, process, at));
    }

    /// Tells a machine of a process something, if that process still runs.
    fn tell_process(&mut self, host: Host, process: u64, mail: Mail) {
        let now = self.read(host);
        let mut out = std::mem::take(&mut self.spare);
        if let Some(node) = self.process(host, process) {
            node.hear(mail, now, &mut out);
        }
        self.carry_out(host, out);
    }

    /// Tells a machine of the process at this place something now.
    pub fn tell(&mut self, host: Host, mail: Mail) {
        let process = self.places[host.0].process;
        self.tell_process(host, process, mail);
        self.wind(host);
    }

    /// Ends a node's election timeout now.
    pub fn time_out(&mut self, host: Host) {
        self.tell_of(host, || "has waited long enough for a commander".into());
        self.tell(host, Mail::Election(election::Input::TimeOut));
    }

    /// A machine's mail waits for a while, as an actor's does whose thread is busy.
    pub fn stall(&mut self, host: Host, room: Room, span: Duration) {
        let process = self.places[host.0].process;
        self.tell_of(host, || format!("stalls: {room:?} hears nothing for {span:?}"));
        if let Some(node) = &mut self.places[host.0].node {
            node.stall(room);
            self.later(span, Event::Unstall(host, process, room));
        }
    }

    fn process(&mut self, host: Host, process: u64) -> Option<&mut Node> {
        let place = &mut self.places[host.0];
        place.node.as_mut().filter(|_| place.process == process)
    }

    /// Carries out what left the machines of a process, in order.
    fn carry_out(&mut self, host: Host, mut out: Vec<Out>) {
        for out in out.drain(..) {
            // Something before it ended the process: what comes after it does not happen.
            if self.places[host.0].node.is_none() {
                return;
            }
            match out {
                Out::Send(to, message) => self.send(host, to, &message),
                Out::SendBack(connection, message) => self.send_back(connection, &message),
                Out::Persist(save) => self.on_persist(host, save),
                Out::Ask(address) => self.on_ask_to_join(host, address),
                Out::Found => self.on_found(host),
                Out::Joined(mesh, settings) => self.on_joined(host, mesh, settings),
                Out::JoinAnswer(connection, answer) => self.on_join_answer(connection, answer),
                Out::Answer(ticket, place, reply) => self.on_answer(host, ticket, place, reply),
                Out::Ordered(id, result) => self.on_ordered(host, id, result),
                Out::Verified(id, result) => self.on_verified(host, id, result),
                Out::Published(published) => self.on_published(host, published),
                Out::Proposed(command) => self.on_proposed(host, &command),
                Out::Executed(range, chain) => self.on_executed(host, range, &chain),
                Out::Note(event) => self.on_note(host, event),
                Out::Say(text) => {
                    self.tell_of(host, || format!("says: {text}"));
                }
                Out::End(reason) => self.on_end(host, reason),
                Out::BeginAgain(reason) => self.on_begin_again(host, reason),
            }
        }
        self.spare = out;
    }

    fn on_published(&mut self, host: Host, published: Arc<Published>) {
        let Some((node, life)) = self.places[host.0].node.as_ref().map(Node::me) else { return };
        self.fold(b'P', host, published.dictionary.version.0 << 20 ^ published.term.0);
        self.trace.line(self.queue.now(), || {
            let Published { dictionary, term, commander, commanding, seats } = &*published;
            format!(
                "{node:?}/{life} publishes version {} term {term} commander {commander:?} commanding {commanding} seats {seats:?}",
                dictionary.version
            )
        });
        self.checkers.observe(self.queue.now(), &Fact::Published { node, life, published: &published });
        // Seats change without a new version; of those the commander knows first.
        let is_newer = |old: &Arc<Published>| {
            let (old, new) = ((old.dictionary.version, old.term), (published.dictionary.version, published.term));
            old < new || old == new && published.commanding
        };
        if self.newest.as_ref().is_none_or(is_newer) {
            let before = self.newest.replace(published.clone());
            self.on_agreed(before.as_deref(), &published.dictionary);
        }
        self.on_roster(host, &published.dictionary);
    }

    /// A dictionary is agreed that nobody had published before: which chains are new in it.
    fn on_agreed(&mut self, before: Option<&Published>, dictionary: &Dictionary) {
        for (range, chain) in dictionary.ranges() {
            let known = before.map(|before| before.dictionary.chain(range));
            if known.is_none_or(|known| known.epoch < chain.epoch) {
                let copies = &self.copies(range);
                self.checkers.observe(self.queue.now(), &Fact::Agreed { range, dictionary, copies });
            }
        }
    }

    fn on_executed(&mut self, host: Host, range: RangeId, chain: &Chain) {
        let place = &self.places[host.0];
        let Some(node) = &place.node else { return };
        let (id, life) = node.me();
        let others = self.answerers(range).into_iter().filter(|other| *other != id).collect();
        let Some(newest) = self.newest.as_ref().map(|newest| newest.dictionary.chain(range)) else { return };
        let copies = &self.copies(range);
        let fact = Fact::Answered { node: id, life, range, chain, newest, copies, others };
        self.checkers.observe(self.queue.now(), &fact);
    }

    fn on_note(&mut self, host: Host, event: events::Event) {
        let now = self.now();
        let place = &mut self.places[host.0];
        let name = &place.name;
        self.trace.tell(now, Some(name), || format!("notes {:?}: {}", event.kind, event.text));
        place.note(now, event);
    }

    /// The generation of a range, as known to be agreed by anybody.
    pub fn generation(&self, range: RangeId) -> Generation {
        self.newest.as_ref().map_or(Generation(0), |newest| newest.dictionary.chain(range).generation)
    }

    /// The newest that any node has published.
    pub fn newest(&self) -> Option<&Arc<Published>> {
        self.newest.as_ref()
    }

    /// What a node is called: by its place; with a letter from the second node there on.
    pub fn name(&self, node: NodeId) -> String {
        self.names.get(&node).cloned().unwrap_or_else(|| format!("{node:?}"))
    }

    /// A text of a machine, with nodes' ids as their names.
    pub fn named(&self, text: &str) -> String {
        let ids = self.names.iter().map(|(id, name)| (format!("{id}"), name));
        ids.fold(text.to_string(), |text, (id, name)| text.replace(&id, name))
    }

    fn later(&mut self, span: Duration, event: Event) {
        let at = self.now() + span;
        self.queue.push(at, &mut self.random, event);
    }

    /// What the clock of a place shows.
    pub fn clock(&self, host: Host) -> Now {
        self.read(host)
    }

    fn read(&self, host: Host) -> Now {
        self.places[host.0].clock.read(self.now())
    }

    /// Tells something about a place to whoever reads what happened.
    pub fn tell_of(&mut self, host: Host, text: impl FnOnce() -> String) {
        self.trace.tell(self.queue.now(), Some(&self.places[host.0].name), text);
    }

    fn fold(&mut self, kind: u8, host: Host, what: u64) {
        self.trace.fold(self.queue.now(), kind, host.0 as u64, what);
    }

    fn next(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// Draws a number.
    pub fn draw(&mut self, bounds: std::ops::Range<u64>) -> u64 {
        self.random.gen_range(bounds)
    }
}

impl Event {
    fn listener(&self) -> Option<Host> {
        match self {
            Self::Network(event) => event.listener(),
            Self::Wake(host, ..)
            | Self::Synced(host, _)
            | Self::JoinTold(host, ..)
            | Self::Submitted(host, ..)
            | Self::Introduce(host, ..)
            | Self::Unstall(host, ..) => Some(*host),
            Self::JoinAsked(.., asked) => Some(*asked),
            Self::JoinUnanswered(_)
            | Self::Told(..)
            | Self::GivenUp(_)
            | Self::Client(_)
            | Self::Begin(..)
            | Self::Sample => None,
        }
    }
}

/// The text of an answer, as a story shows it.
pub fn words(reply: &Reply) -> String {
    match reply {
        Reply::Simple(text) => text.to_string(),
        Reply::Error(text) => format!("({text})"),
        Reply::Integer(number) => number.to_string(),
        Reply::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Reply::Null => "nothing".into(),
        Reply::Array(all) | Reply::Set(all) => all.iter().map(words).collect::<Vec<_>>().join(", "),
        Reply::Map(pairs) => {
            pairs.iter().map(|(key, value)| format!("{} {}", words(key), words(value))).collect::<Vec<_>>().join(", ")
        }
        Reply::Double(number) => number.to_string(),
        Reply::Boolean(yes) => yes.to_string(),
        Reply::Verbatim(text) => text.clone(),
    }
}
