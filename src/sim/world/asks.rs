//! What clients and operators ask of processes, and what they learn: an answer, a broken connection, or nothing in time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rand::Rng;

use super::{Event, World};
use crate::commands::view::{ConnectionState, Door, Identity, View};
use crate::commands::{self, Merge, Plan, Reach};
use crate::machines::{door, ownership};
use crate::messages::client::{Reply, Request};
use crate::messages::ownership::Order;
use crate::messages::status::Verification;
use crate::sim::checker::Fact;
use crate::sim::client::{Client, Habits, Learnt, chance};
use crate::sim::clock::Time;
use crate::sim::network::{Host, between};
use crate::sim::node::Mail;
use crate::types::RangeId;

/// What an asker learns.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// An answer.
    Reply(Reply),
    /// An operator's order was carried out, or why not.
    Ordered(Result<Vec<String>, String>),
    /// How copies compare, or why that was not looked at.
    Verified(Result<Verification, String>),
    /// The connection broke before an answer came.
    Lost,
    /// Nothing, for as long as it waited.
    Nothing,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// A story, which looks for the answer itself.
    Story,
    /// A client that works by itself.
    Client(usize),
}

/// What is asked.
#[derive(Clone, Debug)]
pub(super) enum What {
    Words(Vec<Vec<Bytes>>, Door),
    Order(Order),
    Verify(Option<RangeId>),
}

/// Something asked of a process and not settled: one thing, or several commands at once, whose names follow one another.
#[derive(Debug)]
pub(super) struct Ask {
    asker: Asker,
    host: Host,
    process: u64,
    what: What,
    each: Vec<One>,
}

/// One of them.
#[derive(Debug, Default)]
struct One {
    /// Whether its asker knows what came of it.
    told: bool,
    /// Where its parts stand among all that the door was given.
    from: usize,
    /// Of a command that concerns several ranges: what each was told so far, and how that becomes one answer.
    parts: Vec<Option<Reply>>,
    merge: Option<Merge>,
}

impl World {
    /// A client asks a command at the plain door of a place, and waits for so long. Names the asking.
    pub fn ask(&mut self, host: Host, words: Vec<Bytes>, asker: Asker, patience: Duration) -> u64 {
        self.ask_for(host, What::Words(vec![words], Door::Plain), asker, patience)
    }

    /// An operator orders something at a place.
    pub fn order(&mut self, host: Host, order: Order, patience: Duration) -> u64 {
        self.ask_for(host, What::Order(order), Asker::Story, patience)
    }

    /// An operator at a place asks how the copies of a range, or of all, compare.
    pub fn verify(&mut self, host: Host, range: Option<RangeId>, patience: Duration) -> u64 {
        self.ask_for(host, What::Verify(range), Asker::Story, patience)
    }

    fn ask_for(&mut self, host: Host, what: What, asker: Asker, patience: Duration) -> u64 {
        let count = if let What::Words(all, _) = &what { all.len() } else { 1 };
        let names: Vec<u64> = (0..count).map(|_| self.next()).collect();
        let (name, process) = (names[0], self.places[host.0].process);
        let each = names.into_iter().map(|_| One::default()).collect();
        self.asks.insert(name, Ask { asker, host, process, what, each });
        let trip = self.trip();
        match self.places[host.0].node {
            Some(_) => self.later(trip, Event::Submitted(host, process, name)),
            None => self.later(trip, Event::Told(name, Told::Lost)),
        }
        self.later(patience, Event::GivenUp(name));
        name
    }

    /// What a story's asking was told, and when, if it was.
    pub fn told(&mut self, name: u64) -> Option<(Time, Told)> {
        self.told.remove(&name)
    }

    pub(super) fn on_submitted(&mut self, host: Host, process: u64, name: u64) {
        self.fold(b'C', host, name);
        if self.places[host.0].process != process {
            return;
        }
        let Some(ask) = self.asks.get(&name) else { return };
        match ask.what.clone() {
            What::Order(order) => {
                self.tell_process(host, process, Mail::Ownership(ownership::Input::Order { id: name, order }));
            }
            What::Verify(range) => {
                self.tell_process(host, process, Mail::Ownership(ownership::Input::Verify { id: name, range }));
            }
            What::Words(all, door) => self.on_batch(host, process, name, all, door),
        }
    }

    /// What a session does with the commands it has read, `actors::session` too.
    fn on_batch(&mut self, host: Host, process: u64, name: u64, all: Vec<Vec<Bytes>>, door: Door) {
        let mut requests = Vec::new();
        for (place, words) in all.into_iter().enumerate() {
            match self.on_words(host, name, words) {
                Ok((parts, merge)) => {
                    let ask = self.asks.get_mut(&name).expect("it was looked up");
                    let (told, from) = (false, requests.len());
                    ask.each[place] = One { told, from, parts: vec![None; parts.len()], merge };
                    requests.extend(parts);
                }
                Err(reply) => self.reply(name + place as u64, reply),
            }
        }
        if !requests.is_empty() {
            let passes_on = door == Door::Plain;
            let input = door::Input::Submit { ticket: name, session: name, requests, passes_on };
            self.tell_process(host, process, Mail::Door(input));
        }
    }

    /// What a command asks of which ranges; or its answer, where none has to be asked.
    fn on_words(&self, host: Host, name: u64, words: Vec<Bytes>) -> Result<(Vec<Request>, Option<Merge>), Reply> {
        let view = self.view_of(host).expect("only a process reads commands");
        let mut state = ConnectionState::new(name, false);
        let spec = commands::admit(&state, &words)?;
        let ranges = view.published.as_ref().map_or(usize::from(self.settings.ranges), |it| it.dictionary.chains.len());
        let (requests, merge) = match commands::plan(spec, words.clone(), ranges, Reach::Mesh)? {
            Plan::Connection => {
                let ran = commands::connection::run(&mut state, &view, spec, &words);
                return Err(ran.reply);
            }
            Plan::Mesh => return Err(Reply::error("ERR no operator's command is rendered here")),
            Plan::One(request) => (vec![request], None),
            Plan::Many(requests, merge) => (requests, Some(merge)),
        };
        if let (true, Some(merge)) = (requests.is_empty(), merge.clone()) {
            return Err(merge.finish(Vec::new()));
        }
        Ok((requests, merge))
    }

    fn view_of(&self, host: Host) -> Option<View> {
        let node = self.places[host.0].node.as_ref()?;
        let candidate = &node.setup.candidate;
        let me = Identity {
            node: candidate.id,
            incarnation: candidate.incarnation,
            name: candidate.name.clone(),
            role: candidate.role,
            addresses: candidate.addresses.clone(),
            process: 0,
            password: None,
            settings: BTreeMap::new(),
        };
        let (me, published, now) = (Arc::new(me), node.known().cloned(), self.read(host));
        Some(View { me, published, door: Door::Plain, now, clients: Vec::new(), facts: None })
    }

    fn reply(&mut self, name: u64, reply: Reply) {
        let trip = self.trip();
        self.later(trip, Event::Told(name, Told::Reply(reply)));
    }

    pub(super) fn on_answer(&mut self, host: Host, ticket: u64, place: u32, reply: Reply) {
        self.fold(b'R', host, ticket);
        // The client may have stopped waiting.
        let Some(ask) = self.asks.get_mut(&ticket) else { return };
        let place = place as usize;
        let index = ask.each.iter().position(|one| (one.from..one.from + one.parts.len()).contains(&place));
        let index = index.expect("what is answered was asked");
        let one = &mut ask.each[index];
        let part = &mut one.parts[place - one.from];
        assert!(part.is_none(), "one command was answered twice: {part:?}, then {reply:?}");
        *part = Some(reply);
        if one.parts.iter().any(Option::is_none) {
            return;
        }
        let mut replies: Vec<Reply> = one.parts.iter_mut().filter_map(Option::take).collect();
        let reply = match one.merge.take() {
            Some(merge) => merge.finish(replies),
            None => replies.remove(0),
        };
        self.reply(ticket + index as u64, reply);
    }

    pub(super) fn on_ordered(&mut self, host: Host, id: u64, result: Result<Vec<String>, String>) {
        self.fold(b'O', host, id);
        let trip = self.trip();
        self.later(trip, Event::Told(id, Told::Ordered(result)));
    }

    pub(super) fn on_verified(&mut self, host: Host, id: u64, result: Result<Verification, String>) {
        self.fold(b'Y', host, id);
        let trip = self.trip();
        self.later(trip, Event::Told(id, Told::Verified(result)));
    }

    pub(super) fn on_told(&mut self, name: u64, told: Told) {
        let found = self.asks.range_mut(..=name).next_back();
        let Some((first, ask)) = found.filter(|(first, ask)| name - **first < ask.each.len() as u64) else { return };
        // Without a connection, or patience, none of them will be answered.
        let all = matches!(told, Told::Lost | Told::Nothing);
        let (first, asker) = (*first, ask.asker);
        let places = if all { 0..ask.each.len() } else { (name - first) as usize..(name - first) as usize + 1 };
        let news: Vec<usize> = places.filter(|place| !std::mem::replace(&mut ask.each[*place].told, true)).collect();
        if ask.each.iter().all(|one| one.told) {
            self.asks.remove(&first);
        }
        match asker {
            Asker::Story => drop(self.told.insert(first, (self.queue.now(), told))),
            Asker::Client(client) => news.into_iter().for_each(|place| self.client_told(client, place, &told)),
        }
    }

    /// A process has ended: whoever waits for it learns that the connection broke.
    pub(super) fn lose_asks(&mut self, host: Host) {
        let process = self.places[host.0].process;
        let lost: Vec<u64> = self
            .asks
            .iter()
            .filter(|(_, ask)| ask.host == host && ask.process != process)
            .map(|(name, _)| *name)
            .collect();
        for name in lost {
            let trip = self.trip();
            self.later(trip, Event::Told(name, Told::Lost));
        }
    }

    /// A client begins, or goes on.
    pub fn add_client(&mut self, habits: Habits, at: Host) {
        let index = self.clients.len();
        self.clients.push(Client::new(index as u64 + 1, at, habits));
        self.wake_client(index, Duration::ZERO);
    }

    /// All clients that think act now.
    pub fn hurry_clients(&mut self) {
        for index in 0..self.clients.len() {
            if !self.clients[index].is_busy() {
                self.wake_client(index, Duration::ZERO);
            }
        }
    }

    /// Whether clients have ever asked for anything of a range.
    pub fn is_asked_for(&self, range: RangeId) -> bool {
        self.asked.contains(&range)
    }

    fn wake_client(&mut self, index: usize, pause: Duration) {
        self.clients[index].due = self.now() + pause;
        self.later(pause, Event::Client(index));
    }

    /// All clients stop once their present operations are over.
    pub fn rest_clients(&mut self) {
        self.clients.iter_mut().for_each(|client| client.works = false);
    }

    pub(super) fn on_client(&mut self, index: usize) {
        let client = &self.clients[index];
        // It may have been hurried since this was to come.
        if !client.works || client.is_busy() || client.due != self.now() {
            return;
        }
        let mut client = self.clients[index].clone();
        // Now and then, and whenever its own is gone, a client goes to another node.
        let gone = self.places[client.at.0].node.is_none();
        if gone || self.random.gen_ratio(1, 20) {
            client.at = Host(self.random.gen_range(0..self.places.len()));
        }
        let (now, ranges) = (self.now(), usize::from(self.settings.ranges));
        let (mut random, mut eras) = (self.random.clone(), std::mem::take(&mut self.eras));
        let all = client.act(now, ranges, |range| self.generation(range), &mut eras, &mut random);
        (self.random, self.eras) = (random, eras);
        let straight = chance(client.habits.straight, &mut self.random);
        let head = client.waits_for(0).filter(|_| straight).and_then(|range| self.head_by(client.at, range));
        let (at, door) = head.map_or((client.at, Door::Plain), |head| (head, Door::Cluster));
        let patience = client.habits.patience;
        self.asked.extend(client.ranges());
        self.clients[index] = client;
        self.ask_for(at, What::Words(all, door), Asker::Client(index), patience);
    }

    /// Where the head of a range is, as the node at a place knows.
    fn head_by(&self, at: Host, range: RangeId) -> Option<Host> {
        let dictionary = &self.places[at.0].node.as_ref()?.known()?.dictionary;
        let head = dictionary.roster.get(&dictionary.chain(range).head()?.node)?;
        self.host(&head.node.name)
    }

    fn client_told(&mut self, index: usize, place: usize, told: &Told) {
        let mut client = self.clients[index].clone();
        let Some(range) = client.waits_for(place) else { return };
        let now = (self.now(), self.generation(range));
        let fact = client.hear(now, place, told, &mut self.eras);
        match &fact {
            Some(Learnt::Operation(operation)) => self.checkers.observe(now.0, &Fact::Operation(operation)),
            Some(Learnt::Counted(counted)) => self.checkers.observe(now.0, &Fact::Counted(counted)),
            Some(Learnt::Called(call)) => self.checkers.observe(now.0, &Fact::Called(call)),
            None => {}
        }
        if let Some(host) = self.moved(told) {
            client.at = host;
        }
        let again = client.tries_again(&mut self.random);
        if again || *told == Told::Lost {
            client.at = Host(self.random.gen_range(0..self.places.len()));
        }
        if client.is_busy() {
            self.clients[index] = client;
            return;
        }
        let pause = client.think(&mut self.random);
        self.clients[index] = client;
        self.wake_client(index, pause);
    }

    /// Where a cluster door sends a client.
    fn moved(&self, told: &Told) -> Option<Host> {
        let Told::Reply(Reply::Error(error)) = told else { return None };
        let (_, address) = error.strip_prefix("MOVED ")?.split_once(' ')?;
        self.host(address.split_once(':')?.0)
    }

    fn trip(&mut self) -> Duration {
        between(&mut self.random, (Duration::from_micros(20), Duration::from_micros(200)))
    }
}
