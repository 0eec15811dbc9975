//! Places and the processes that run there: how they start, end, pause, and what their disks do meanwhile.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use rand::Rng;

use super::{Event, World};
use crate::machines::dictionary::Dictionary;
use crate::machines::election;
use crate::machines::store::Limits;
use crate::messages::chain::Change;
use crate::messages::election::{Recovered, Save};
use crate::messages::events;
use crate::messages::ownership::{Addresses, Candidate, MeshSettings, Role};
use crate::sim::checker::Fact;
use crate::sim::clock::{Clock, Time};
use crate::sim::disk::{Disk, Identity};
use crate::sim::network::{Context, Host};
use crate::sim::node::{Mail, Node, Out, Setup};
use crate::sites::Luck;
use crate::types::{Incarnation, Instant, MeshId, NodeId, RangeId};
use crate::wire::codec;

/// After so long without the log a node asks whether it still belongs to its mesh, and then again with growing pauses.
pub(super) const INTRODUCTION: Duration = Duration::from_secs(2);

/// How many notes of a process are kept.
const NOTES: usize = 1_000;

/// What a node at a place is given.
#[derive(Clone, Debug)]
pub struct Spec {
    /// What it does.
    pub role: Role,
    /// Its zone.
    pub zone: String,
    /// Its share.
    pub weight: u32,
    /// Where it asks for a mesh.
    pub join: Vec<String>,
    /// Whether it founds one if nobody it asked knows one.
    pub found: bool,
    /// How many stores it has.
    pub workers: usize,
    /// How long it holds commands.
    pub park: Duration,
    /// What its stores keep at most.
    pub limits: Limits,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            role: Role::Drone,
            zone: String::new(),
            weight: 100,
            join: Vec::new(),
            found: false,
            workers: 1,
            park: Duration::from_millis(1500),
            limits: Limits::default(),
        }
    }
}

/// A place where a node runs: a clock, a disk, an address, and a process, if it lives.
#[derive(Debug)]
pub struct Place {
    /// n1, n2...
    pub name: String,
    /// What a node here is given.
    pub spec: Spec,
    /// Its clock.
    pub clock: Clock,
    /// Its disk.
    pub disk: Disk,
    /// The process, while it lives.
    pub node: Option<Node>,
    /// Counts the processes that ran here.
    pub process: u64,
    /// Why the last process ended, if it did by itself.
    pub ended: Option<String>,
    /// Who was last heard on a control connection, in which life, and when.
    pub heard: BTreeMap<NodeId, (Incarnation, Time)>,
    pub(super) wake: Option<Time>,
    pub(super) syncing: usize,
    paused: bool,
    stashed: VecDeque<Event>,
    notes: VecDeque<(Time, events::Event)>,
    nodes: u64,
}

impl Place {
    /// Whether its process is paused.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Whether a process runs here, and is not paused.
    pub fn runs(&self) -> bool {
        self.node.is_some() && !self.paused
    }

    /// What its processes noted for people, oldest first.
    pub fn notes(&self) -> impl Iterator<Item = &(Time, events::Event)> {
        self.notes.iter()
    }

    /// The address at which it can be asked to join.
    pub fn peer_address(&self) -> String {
        format!("{}:16234", self.name)
    }

    pub(super) fn stash(&mut self, event: Event) {
        self.stashed.push_back(event);
    }

    pub(super) fn note(&mut self, at: Time, event: events::Event) {
        if self.notes.len() == NOTES {
            self.notes.pop_front();
        }
        self.notes.push_back((at, event));
    }
}

impl World {
    /// One place more, where nothing runs yet.
    pub fn add_place(&mut self, spec: Spec) -> Host {
        let host = Host(self.places.len());
        let shown = Instant(self.random.gen_range(1_000_000_000..1_000_000_000_000));
        self.places.push(Place {
            name: format!("n{}", host.0 + 1),
            spec,
            clock: Clock::new(self.queue.now(), shown, 0),
            disk: Disk::default(),
            node: None,
            process: 0,
            ended: None,
            heard: BTreeMap::new(),
            wake: None,
            syncing: 0,
            paused: false,
            stashed: VecDeque::new(),
            notes: VecDeque::new(),
            nodes: 0,
        });
        host
    }

    /// The place of this name.
    pub fn host(&self, name: &str) -> Option<Host> {
        let number: usize = name.strip_prefix('n')?.parse().ok()?;
        let host = Host(number.checked_sub(1)?);
        self.places.get(host.0).map(|_| host)
    }

    /// All places.
    pub fn hosts(&self) -> impl Iterator<Item = Host> + use<> {
        (0..self.places.len()).map(Host)
    }

    /// Starts a process, with what the disk holds.
    pub fn start(&mut self, host: Host) {
        assert!(self.places[host.0].node.is_none(), "two processes with one data directory");
        let (known, recovered) = self.open_disk(host);
        let setup = self.setup(host, &known);
        let (node, life) = (known.node, known.incarnation);
        self.fold(b'+', host, node.0 << 16 | life.0);
        self.tell_of(host, || format!("starts as {node:?}/{life}"));
        let fact = Fact::Started { node, life, term: recovered.hard.term };
        self.checkers.observe(self.queue.now(), &fact);
        let now = self.read(host);
        let mut out = Vec::new();
        let known = known.mesh.map(|(mesh, settings)| (mesh, settings, recovered));
        let process = Node::start(setup, known, now, &mut out);
        let place = &mut self.places[host.0];
        place.node = Some(process);
        place.ended = None;
        let process = place.process;
        self.later(INTRODUCTION, Event::Introduce(host, process, INTRODUCTION));
        self.carry_out(host, out);
        self.wind(host);
    }

    /// The identity on the disk, with a new life; a new one on an empty disk.
    fn open_disk(&mut self, host: Host) -> (Identity, Recovered) {
        let counter = self.next();
        let place = &mut self.places[host.0];
        place.process = counter;
        let identity = match place.disk.identity() {
            Some(known) => Identity { incarnation: known.incarnation.next(), ..known.clone() },
            None => {
                place.nodes += 1;
                // The first node of a place has the place's number, so that a record can be read.
                let node = NodeId((place.nodes - 1) << 8 | (host.0 as u64 + 1));
                let letter = (place.nodes > 1).then(|| char::from(b'a' + (place.nodes - 1) as u8 % 26));
                self.names.insert(node, place.name.chars().chain(letter).collect());
                Identity { node, incarnation: Incarnation(1), mesh: None }
            }
        };
        place.disk.keep_identity(identity.clone());
        // What the journal holds has to survive its encoding.
        let recovered = codec::decode(&codec::encode(&place.disk.recover())).expect("what was encoded can be decoded");
        (identity, recovered)
    }

    fn setup(&mut self, host: Host, identity: &Identity) -> Setup {
        let Place { name, spec, .. } = &self.places[host.0];
        let addresses = Addresses {
            peer: format!("{name}:16234"),
            client: format!("{name}:6234"),
            cluster: format!("{name}:7234"),
            console: format!("{name}:8234"),
        };
        let candidate = Candidate {
            id: identity.node,
            incarnation: identity.incarnation,
            name: name.clone(),
            addresses,
            zone: spec.zone.clone(),
            // As a real one says: it holds nothing.
            weight: if spec.role == Role::Witness { 0 } else { spec.weight },
            role: spec.role,
        };
        let (join, found, workers, park) = (spec.join.clone(), spec.found, spec.workers, spec.park);
        let limits = spec.limits;
        let settings = self.settings.clone();
        let seed = self.random.r#gen();
        let luck = if self.sites { Luck::of(seed) } else { Luck::default() };
        Setup { candidate, settings, join, found, workers, park, limits, seed, luck }
    }

    /// Adds what a life has met to what all have.
    fn count_fired(&mut self, luck: &Luck) {
        for (site, times) in luck.fired().filter(|(_, times)| *times > 0) {
            *self.fired.entry(site.name()).or_default() += u64::from(times);
        }
    }

    /// How often each fault site has fired.
    pub fn fired(&self) -> BTreeMap<&'static str, u64> {
        let mut fired = self.fired.clone();
        let lives = self.places.iter().filter_map(|place| place.node.as_ref());
        for (site, times) in lives.flat_map(|node| node.setup.luck.fired()).filter(|(_, times)| *times > 0) {
            *fired.entry(site.name()).or_default() += u64::from(times);
        }
        fired
    }

    /// Switches fault sites off, in all that runs and all that will.
    pub fn calm_sites(&mut self) {
        self.sites = false;
        self.places.iter_mut().filter_map(|place| place.node.as_mut()).for_each(|node| node.setup.luck.calm());
    }

    /// Ends a process: what it had not synced may be lost. Where its machine goes down too, nobody is told so.
    pub fn kill(&mut self, host: Host, silently: bool) {
        let Some(ended) = self.places[host.0].node.take() else { return };
        let (node, life) = ended.me();
        self.count_fired(&ended.setup.luck);
        self.checkers.observe(self.queue.now(), &Fact::Ended { node, life });
        self.fold(b'-', host, u64::from(silently));
        self.tell_of(host, || if silently { "ends, with its machine".into() } else { "ends".into() });
        let process = self.next();
        let place = &mut self.places[host.0];
        place.disk.crash(&mut self.random);
        place.process = process;
        place.wake = None;
        place.syncing = 0;
        place.paused = false;
        place.heard.clear();
        // What its sockets had received dies with it; what others wait for is settled by themselves.
        let stashed = std::mem::take(&mut place.stashed);
        for event in stashed.into_iter().filter(|event| matches!(event, Event::JoinAsked(..))) {
            self.later(Duration::ZERO, event);
        }
        self.on_network_change(|network, context| network.end(host, silently, context));
        self.lose_asks(host);
    }

    /// A process ends by itself.
    pub(super) fn on_end(&mut self, host: Host, reason: String) {
        self.tell_of(host, || format!("gives up: {reason}"));
        self.kill(host, false);
        self.places[host.0].ended = Some(reason);
    }

    /// A process ends, and another begins as soon as the operating system lets it.
    pub(super) fn on_begin_again(&mut self, host: Host, reason: String) {
        self.on_end(host, reason);
        let process = self.places[host.0].process;
        self.later(Duration::from_millis(5), Event::Begin(host, process));
    }

    /// A copy in a process changes, and nobody is told.
    pub fn tamper(&mut self, host: Host, range: RangeId, change: &Change) {
        self.fold(b'T', host, u64::from(range.0));
        self.tell_of(host, || format!("has its copy of range {range} tampered with"));
        self.places[host.0].node.iter_mut().for_each(|node| node.tamper(range, change));
    }

    /// The process does not run on; its sockets still receive.
    pub fn pause(&mut self, host: Host) {
        if self.places[host.0].runs() {
            self.fold(b'.', host, 0);
            self.tell_of(host, || "is paused".into());
            self.places[host.0].paused = true;
        }
    }

    /// The process runs on, and meets what has come meanwhile.
    pub fn resume(&mut self, host: Host) {
        if !std::mem::take(&mut self.places[host.0].paused) {
            return;
        }
        self.fold(b'>', host, 0);
        self.tell_of(host, || "runs on".into());
        let mut stashed = std::mem::take(&mut self.places[host.0].stashed);
        // Timers and sockets are looked at in no certain order.
        if let Some(place) = stashed.iter().position(|event| matches!(event, Event::Wake(..)))
            && let Some(wake) = stashed.remove(place)
        {
            let place = self.random.gen_range(0..=stashed.len());
            stashed.insert(place, wake);
        }
        for event in stashed {
            self.perform(event);
        }
        self.wind(host);
    }

    /// The data directory of a place where nothing runs is lost. Its operator names the others to it, so that it comes back to
    /// them and founds no mesh of its own.
    pub fn lose_disk(&mut self, host: Host) {
        assert!(self.places[host.0].node.is_none(), "a running process would notice");
        self.tell_of(host, || "has lost its data directory".into());
        let others = self.hosts().filter(|other| *other != host).map(|other| self.places[other.0].peer_address());
        let join = others.collect();
        let place = &mut self.places[host.0];
        place.disk.wipe();
        place.spec.join = join;
        place.spec.found = false;
    }

    pub(super) fn on_persist(&mut self, host: Host, save: Save) {
        self.fold(b'D', host, save.number);
        self.places[host.0].disk.write(save);
        self.begin_sync(host);
    }

    /// All that waits when a sync begins becomes stable together.
    fn begin_sync(&mut self, host: Host) {
        let place = &mut self.places[host.0];
        if place.syncing == 0 && place.disk.waiting() > 0 {
            place.syncing = place.disk.waiting();
            let span = place.disk.sync_time(&mut self.random);
            let process = place.process;
            self.later(span, Event::Synced(host, process));
        }
    }

    pub(super) fn on_synced(&mut self, host: Host, process: u64) {
        let place = &mut self.places[host.0];
        if place.process != process || place.node.is_none() {
            return;
        }
        let count = std::mem::take(&mut place.syncing);
        let input = match place.disk.health.refusal() {
            Some(reason) => election::Input::DiskFailed(reason.into()),
            None => election::Input::Persisted(place.disk.sync(count).expect("something was asked for")),
        };
        self.fold(b'S', host, count as u64);
        self.tell_process(host, process, Mail::Election(input));
        self.begin_sync(host);
    }

    /// A mesh is founded: its first record is stable before anything else happens.
    pub(super) fn on_found(&mut self, host: Host) {
        let mesh = MeshId(self.random.r#gen());
        let Some(node) = &self.places[host.0].node else { return };
        let (settings, candidate) = (node.setup.settings.clone(), node.setup.candidate.clone());
        let dictionary = Dictionary::found(mesh, settings.clone(), candidate);
        let disk = &mut self.places[host.0].disk;
        disk.write(election::founding(&dictionary));
        disk.sync(1);
        self.enter(host, mesh, settings);
    }

    pub(super) fn on_joined(&mut self, host: Host, mesh: MeshId, settings: MeshSettings) {
        self.enter(host, mesh, settings);
    }

    fn enter(&mut self, host: Host, mesh: MeshId, settings: MeshSettings) {
        let now = self.read(host);
        let place = &mut self.places[host.0];
        let Some(node) = &mut place.node else { return };
        let (id, incarnation) = node.me();
        place.disk.keep_identity(Identity { node: id, incarnation, mesh: Some((mesh, settings.clone())) });
        node.enter(mesh, &settings, place.disk.recover(), now);
        let process = place.process;
        self.later(INTRODUCTION, Event::Introduce(host, process, INTRODUCTION));
        let Some(node) = &mut self.places[host.0].node else { return };
        let mut out: Vec<Out> = Vec::new();
        node.on_timer(now, &mut out);
        self.carry_out(host, out);
    }

    /// Changes the network, and tells whoever has to be told.
    pub(super) fn on_network_change(
        &mut self,
        change: impl FnOnce(&mut crate::sim::network::Network, &mut Context<'_>),
    ) {
        let (mut later, mut news) = (Vec::new(), Vec::new());
        let now = self.queue.now();
        let context = &mut Context { now, later: &mut later, news: &mut news, random: &mut self.random };
        change(&mut self.network, context);
        for (at, event) in later {
            self.queue.push(at, &mut self.random, Event::Network(event));
        }
        self.on_news(news);
    }
}
