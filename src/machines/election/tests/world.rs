//! A mesh of election machines on made-up disks and links, watched by checkers at every step.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::sync::Arc;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::machines::Machine;
use crate::machines::dictionary::Dictionary;
use crate::machines::election::{Config, Effect, Election, Input, Proposed, Published, founding};
use crate::messages::election::{ElectionMessage, MessageKind, Recovered, Save};
use crate::messages::events::{Event, EventKind};
use crate::messages::ownership::{Addresses, Applied, Candidate, Cause, Command, MeshSettings, Role, Standing};
use crate::types::{Incarnation, Instant, MeshId, NodeId, Now, Timing, Version};

pub const MS: u64 = 1_000_000;

/// One node: its machine, its disk, its clock.
pub struct Node {
    pub machine: Option<Election>,
    pub disk: Recovered,
    /// Writes asked for and not yet stable.
    queue: VecDeque<Save>,
    pub role: Role,
    pub life: u64,
    /// How long a sync takes, at most.
    pub disk_ms: u64,
    /// By how many parts per million the clock runs too fast.
    pub drift: i64,
    offset: u64,
    paused: bool,
    backlog: VecDeque<Input>,
    pub published: Option<Arc<Published>>,
    pub ended: Option<String>,
    pub notes: Vec<Event>,
    /// Terms in which it asked for votes, for real.
    pub candidacies: u64,
}

enum Happening {
    Wake(NodeId, u64),
    Message { from: NodeId, to: NodeId, life: u64, message: ElectionMessage },
    Synced(NodeId, u64, u64),
}

struct Due(u64, u64, Happening);

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

type Filter = Box<dyn FnMut(NodeId, NodeId, &ElectionMessage) -> bool>;

/// The world.
pub struct World {
    pub nodes: BTreeMap<NodeId, Node>,
    pub now: u64,
    pub rng: ChaCha8Rng,
    queue: BinaryHeap<Reverse<Due>>,
    count: u64,
    /// Links that carry nothing, one way.
    pub cuts: BTreeSet<(NodeId, NodeId)>,
    /// Messages lost, of a thousand.
    pub loss: u32,
    pub latency_us: u64,
    /// What proposals and askings came to, by node and request.
    pub outcomes: BTreeMap<(NodeId, u64), Proposed>,
    pub confirmed: BTreeMap<(NodeId, u64), Version>,
    pub again: BTreeSet<(NodeId, u64)>,
    /// At the time of each asking: the newest version anybody knew, and the newest term anybody commanded in.
    asked: BTreeMap<(NodeId, u64), (Version, u64)>,
    next_request: u64,
    /// Who commanded in which term.
    pub commanders: BTreeMap<u64, NodeId>,
    agreed: BTreeMap<Version, Arc<Dictionary>>,
    terms: BTreeMap<NodeId, u64>,
    /// A message is shown here before it travels; false loses it.
    pub filter: Filter,
    pub sent: u64,
    seed: u64,
    pub wakes: u64,
    pub settings: MeshSettings,
    /// Whether a liar is among them: then only the machines themselves are watched.
    pub trusting: bool,
}

pub fn id(node: u64) -> NodeId {
    NodeId(node)
}

pub fn candidate(node: u64, life: u64, role: Role) -> Candidate {
    Candidate {
        id: id(node),
        incarnation: Incarnation(life),
        name: format!("n{node}"),
        addresses: Addresses { peer: format!("n{node}:16234"), ..Addresses::default() },
        zone: String::new(),
        weight: 100,
        role,
    }
}

impl World {
    /// A founder alone.
    pub fn new(seed: u64) -> Self {
        Self::with_settings(seed, MeshSettings { ranges: 16, ..MeshSettings::default() })
    }

    pub fn with_settings(seed: u64, settings: MeshSettings) -> Self {
        let mut world = Self {
            nodes: BTreeMap::new(),
            now: 0,
            rng: ChaCha8Rng::seed_from_u64(seed),
            queue: BinaryHeap::new(),
            count: 0,
            cuts: BTreeSet::new(),
            loss: 0,
            latency_us: 1_000,
            outcomes: BTreeMap::new(),
            confirmed: BTreeMap::new(),
            again: BTreeSet::new(),
            asked: BTreeMap::new(),
            next_request: 0,
            commanders: BTreeMap::new(),
            agreed: BTreeMap::new(),
            terms: BTreeMap::new(),
            filter: Box::new(|_, _, _| true),
            sent: 0,
            seed,
            wakes: 0,
            settings: settings.clone(),
            trusting: false,
        };
        let dictionary = Dictionary::found(MeshId(1), settings, candidate(1, 1, Role::Drone));
        world.add(1, Role::Drone);
        let mut disk = Recovered::default();
        disk.absorb(&founding(&dictionary));
        world.node(1).disk = disk;
        world.boot(1);
        world
    }

    /// A mesh of so many drones, all admitted, up to five of them voters.
    pub fn of(seed: u64, nodes: u64) -> Self {
        let mut world = Self::new(seed);
        for node in 2..=nodes {
            world.join(node, Role::Drone);
        }
        let voters = if nodes == 2 { 2 } else { nodes.min(5) - (nodes.min(5) + 1) % 2 };
        world.wait("all voters vote", |world| {
            world.commander().is_some_and(|commander| {
                let seats = &world.published(commander).seats;
                seats.voters.len() == voters as usize
                    && seats.outgoing.is_empty()
                    && seats.learners.len() == (nodes - voters) as usize
            })
        });
        world.run(500);
        world
    }

    pub fn node(&mut self, node: u64) -> &mut Node {
        self.nodes.get_mut(&id(node)).expect("a node of this world")
    }

    pub fn add(&mut self, node: u64, role: Role) {
        let offset = self.rng.gen_range(1..1_000_000) * MS;
        self.nodes.insert(
            id(node),
            Node {
                machine: None,
                disk: Recovered::default(),
                queue: VecDeque::new(),
                role,
                life: 0,
                disk_ms: 1,
                drift: 0,
                offset,
                paused: false,
                backlog: VecDeque::new(),
                published: None,
                ended: None,
                notes: Vec::new(),
                candidacies: 0,
            },
        );
    }

    /// Starts a process on what its disk holds.
    pub fn boot(&mut self, node: u64) {
        let seed = self.seed * 1_000 + node * 10;
        let now = self.local(id(node));
        let timing = Timing::default();
        let state = self.node(node);
        assert!(state.machine.is_none());
        state.life += 1;
        let config = Config { me: id(node), role: state.role, timing, voters: 5, seed: seed + state.life };
        state.machine = Some(Election::new(config, state.disk.clone(), now));
        // A version may fall from one life to the next: the new life has leases of nobody and serves nothing yet.
        (state.ended, state.published) = (None, None);
        self.step(id(node), Input::Timer);
    }

    /// Kills a process. What was not synced is lost, but for as much as the disk had happened to write.
    pub fn crash(&mut self, node: u64) {
        let lucky = self.rng.gen_range(0..4);
        let state = self.node(node);
        state.machine = None;
        state.paused = false;
        state.backlog.clear();
        for _ in 0..lucky {
            let Some(save) = state.queue.pop_front() else { break };
            state.disk.absorb(&save);
        }
        state.queue.clear();
    }

    pub fn pause(&mut self, node: u64) {
        self.node(node).paused = true;
    }

    pub fn resume(&mut self, node: u64) {
        self.node(node).paused = false;
        let backlog = std::mem::take(&mut self.node(node).backlog);
        for input in backlog {
            self.step(id(node), input);
        }
        self.step(id(node), Input::Timer);
    }

    pub fn cut(&mut self, a: u64, b: u64) {
        self.cuts.insert((id(a), id(b)));
        self.cuts.insert((id(b), id(a)));
    }

    /// Cuts all links between these and the others.
    pub fn partition(&mut self, side: &[u64]) {
        let others: Vec<NodeId> = self.nodes.keys().copied().filter(|node| !side.contains(&node.0)).collect();
        for inside in side {
            for outside in &others {
                self.cut(*inside, outside.0);
            }
        }
    }

    pub fn heal(&mut self) {
        self.cuts.clear();
    }

    pub fn tell_hears(&mut self, node: u64, hears: &[u64]) {
        self.step(id(node), Input::Hears(hears.iter().map(|node| id(*node)).collect()));
    }

    pub fn timing(&self) -> Timing {
        self.settings.timing
    }

    pub fn local(&self, node: NodeId) -> Now {
        let state = &self.nodes[&node];
        let passed = i128::from(self.now) * (1_000_000 + i128::from(state.drift)) / 1_000_000;
        Now { instant: Instant(state.offset + passed as u64), wall_ms: 0 }
    }

    fn global(&self, node: NodeId, instant: Instant) -> u64 {
        let state = &self.nodes[&node];
        let passed = i128::from(instant.0.saturating_sub(state.offset)) * 1_000_000;
        (passed / (1_000_000 + i128::from(state.drift))) as u64 + 1
    }

    fn plan(&mut self, at: u64, what: Happening) {
        self.count += 1;
        self.queue.push(Reverse(Due(at.max(self.now), self.count, what)));
    }

    /// Tells a machine something, and does what it wants.
    pub fn step(&mut self, node: NodeId, input: Input) {
        let now = self.local(node);
        let state = self.nodes.get_mut(&node).expect("a node of this world");
        let Some(machine) = &mut state.machine else { return };
        if state.paused {
            state.backlog.push_back(input);
            return;
        }
        let mut effects = Vec::new();
        machine.step(now, input, &mut effects);
        let snapshot = state.disk.snapshot.as_ref().map_or(0, |snapshot| snapshot.index);
        let stable = state.disk.entries.last().map_or(snapshot, |entry| entry.index);
        let applied = machine.mirror().applied().index;
        assert!(machine.desk.is_deaf() || applied <= stable, "{node:?} applied {applied}, {stable} is stable");
        let (deadline, life) = (machine.deadline(), state.life);
        if let Some(deadline) = deadline {
            let at = self.global(node, deadline);
            self.plan(at, Happening::Wake(node, life));
        }
        for effect in effects {
            self.perform(node, effect);
        }
    }

    fn perform(&mut self, node: NodeId, effect: Effect) {
        match effect {
            Effect::Persist(save) => self.persist(node, save),
            Effect::Send { to, message } => self.send(node, to, message),
            Effect::Publish(published) => self.publish(node, published),
            Effect::Proposed { request, outcome } => {
                let before = self.outcomes.insert((node, request), outcome);
                assert!(before.is_none(), "answered twice: {before:?}");
            }
            Effect::Confirmed { ask, version, term } => {
                let commander = self.commanders.get(&term.0);
                assert!(self.trusting || commander == Some(&node), "confirmed by one that does not command");
                let (known, commanded) = self.asked[&(node, ask)];
                assert!(
                    self.trusting || version >= known && term.0 >= commanded,
                    "confirmed by a round begun before the asking"
                );
                self.confirmed.insert((node, ask), version);
            }
            Effect::Again { ask } => {
                self.again.insert((node, ask));
            }
            Effect::Note(event) => self.nodes.get_mut(&node).unwrap().notes.push(event),
            Effect::End(reason) | Effect::Removed(reason) => {
                self.crash(node.0);
                self.node(node.0).ended = Some(reason);
            }
        }
    }

    fn persist(&mut self, node: NodeId, save: Save) {
        let longest = self.nodes[&node].disk_ms * 1_000;
        let took = self.rng.gen_range(longest / 4..=longest) * 1_000;
        let state = self.nodes.get_mut(&node).unwrap();
        let (number, life) = (save.number, state.life);
        state.queue.push_back(save);
        self.plan(self.now + took, Happening::Synced(node, life, number));
    }

    /// Nothing leaves that depends on what is not stable.
    fn send(&mut self, node: NodeId, to: NodeId, message: ElectionMessage) {
        let disk = &self.nodes[&node].disk;
        let preliminary = matches!(message.kind, MessageKind::RequestPreVote | MessageKind::RequestPreVoteResponse);
        assert!(preliminary || message.term <= disk.hard.term, "a term that is not stable leaves: {message:?}");
        if message.kind == MessageKind::RequestVoteResponse && !message.reject {
            assert!(disk.hard.term > message.term || disk.hard.vote == Some(to), "a vote that is not stable leaves");
        }
        if message.kind == MessageKind::AppendResponse && !message.reject && message.term == disk.hard.term {
            let snapshot = disk.snapshot.as_ref().map_or(0, |snapshot| snapshot.index);
            let last = disk.entries.last().map_or(snapshot, |entry| entry.index);
            assert!(message.index <= last, "an acknowledgement of what is not stable leaves");
        }
        if message.kind == MessageKind::RequestVote {
            self.node(node.0).candidacies += 1;
        }
        self.sent += 1;
        let lost = self.cuts.contains(&(node, to)) || self.rng.gen_range(0..1_000) < self.loss;
        if lost || !self.nodes.contains_key(&to) || !(self.filter)(node, to, &message) {
            return;
        }
        let took = self.rng.gen_range(self.latency_us / 4..=self.latency_us) * 1_000;
        let life = self.nodes[&to].life;
        self.plan(self.now + took, Happening::Message { from: node, to, life, message });
    }

    fn publish(&mut self, node: NodeId, published: Arc<Published>) {
        let state = self.nodes.get_mut(&node).unwrap();
        if self.trusting {
            state.published = Some(published);
            return;
        }
        let stable = state.disk.hard.term;
        assert!(published.term <= stable, "a term that is not stable is published");
        let newest = self.terms.entry(node).or_default();
        assert!(published.term.0 >= *newest, "{node:?}: the term fell from {newest} to {}", published.term);
        *newest = published.term.0;
        if let Some(before) = &state.published {
            assert!(published.dictionary.version >= before.dictionary.version, "{node:?}: the version fell");
        }
        if published.commanding {
            assert_eq!(published.commander, Some(node));
            let other = self.commanders.insert(published.term.0, node);
            assert!(other.is_none_or(|other| other == node), "two commanders in term {}", published.term);
        }
        let version = published.dictionary.version;
        let agreed = self.agreed.entry(version).or_insert_with(|| Arc::clone(&published.dictionary));
        assert_eq!(**agreed, *published.dictionary, "two dictionaries of version {version}");
        state.published = Some(published);
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Wake(node, life) => {
                let due = self.nodes[&node].machine.as_ref().and_then(Machine::deadline);
                let now = self.local(node).instant;
                if self.nodes[&node].life == life && due.is_some_and(|due| due <= now) {
                    self.wakes += 1;
                    self.step(node, Input::Timer);
                }
            }
            Happening::Message { from, to, life, message } => {
                if self.nodes[&to].life == life && !self.cuts.contains(&(from, to)) {
                    self.step(to, Input::Peer { from, message });
                }
            }
            Happening::Synced(node, life, number) => {
                let state = self.nodes.get_mut(&node).unwrap();
                if state.life != life || state.machine.is_none() {
                    return;
                }
                while state.queue.front().is_some_and(|save| save.number <= number) {
                    let save = state.queue.pop_front().unwrap();
                    state.disk.absorb(&save);
                }
                self.step(node, Input::Persisted(number));
            }
        }
    }

    /// Lets so many milliseconds pass.
    pub fn run(&mut self, ms: u64) {
        let end = self.now + ms * MS;
        while let Some(Reverse(Due(at, ..))) = self.queue.peek() {
            if *at > end {
                break;
            }
            self.tick();
        }
        self.now = end;
    }

    fn tick(&mut self) {
        if let Some(Reverse(Due(at, _, what))) = self.queue.pop() {
            self.now = at;
            self.happen(what);
        }
    }

    /// Lets time pass until something is so; how long it took, in milliseconds.
    pub fn wait_for(&mut self, ms: u64, what: &str, holds: impl Fn(&Self) -> bool) -> u64 {
        let begun = self.now;
        while !holds(self) {
            assert!(self.now - begun <= ms * MS && !self.queue.is_empty(), "in vain: {what}\n{}", self.picture());
            self.tick();
        }
        (self.now - begun) / MS
    }

    pub fn wait(&mut self, what: &str, holds: impl Fn(&Self) -> bool) -> u64 {
        self.wait_for(60_000, what, holds)
    }

    pub fn picture(&self) -> String {
        let line = |(node, state): (&NodeId, &Node)| {
            let published = state.published.as_ref().map(|p| {
                let members = p.dictionary.roster.keys().collect::<Vec<_>>();
                format!(
                    "term {} commander {:?} commanding {} version {} roster {members:?} {:?}",
                    p.term, p.commander, p.commanding, p.dictionary.version, p.seats
                )
            });
            format!("{node:?} up {} paused {} {published:?} {:?}", state.machine.is_some(), state.paused, state.ended)
        };
        self.nodes.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    pub fn published(&self, node: u64) -> &Published {
        self.nodes[&id(node)].published.as_ref().expect("something published")
    }

    /// The node that commands in the newest term, if it runs.
    pub fn commander(&self) -> Option<u64> {
        let commands = |(node, state): (&NodeId, &Node)| {
            let running = state.machine.is_some() && !state.paused;
            let published = state.published.as_ref().filter(|published| running && published.commanding)?;
            Some((published.term, node.0))
        };
        self.nodes.iter().filter_map(commands).max().map(|(_, node)| node)
    }

    pub fn wait_commander(&mut self) -> u64 {
        self.wait("a commander", |world| world.commander().is_some());
        self.commander().unwrap()
    }

    pub fn term(&self) -> u64 {
        self.nodes.values().filter_map(|state| state.published.as_ref()).map(|p| p.term.0).max().unwrap_or(0)
    }

    /// Proposes at a node; the request's name.
    pub fn propose(&mut self, node: u64, command: Command) -> u64 {
        self.next_request += 1;
        let request = self.next_request;
        self.step(id(node), Input::Propose { request, command });
        request
    }

    pub fn confirm(&mut self, node: u64) -> u64 {
        self.next_request += 1;
        let ask = self.next_request;
        let known = self.agreed.keys().next_back().copied().unwrap_or(Version(0));
        let commanded = self.commanders.keys().next_back().copied().unwrap_or(0);
        self.asked.insert((id(node), ask), (known, commanded));
        self.step(id(node), Input::Confirm { ask });
        ask
    }

    pub fn outcome(&self, node: u64, request: u64) -> Option<&Proposed> {
        self.outcomes.get(&(id(node), request))
    }

    /// Proposes at whoever commands until it is in the dictionary.
    pub fn decide(&mut self, command: &Command) -> Version {
        for _ in 0..20 {
            let commander = self.wait_commander();
            let request = self.propose(commander, command.clone());
            let started = self.now;
            self.wait("an outcome", |world| {
                world.outcome(commander, request).is_some()
                    || world.nodes[&id(commander)].machine.is_none()
                    || world.now > started + 5_000 * MS
            });
            match self.outcome(commander, request) {
                Some(Proposed::Applied(Applied::Changed(version))) => return *version,
                Some(Proposed::Applied(Applied::Nothing(_))) => return self.published(commander).dictionary.version,
                _ => self.run(50),
            }
        }
        panic!("never decided: {command:?}\n{}", self.picture());
    }

    /// Some change of the dictionary that can be made again and again.
    pub fn change(&mut self) -> Version {
        let command = self.some_command();
        self.decide(&command)
    }

    pub fn some_command(&mut self) -> Command {
        self.next_request += 1;
        let mut candidate = candidate(1, 1, Role::Drone);
        candidate.zone = format!("z{}", self.next_request);
        Command::Admit(candidate)
    }

    pub fn join(&mut self, node: u64, role: Role) {
        self.add(node, role);
        self.boot(node);
        self.decide(&Command::Admit(candidate(node, 1, role)));
        self.decide(&Command::Stand {
            node: id(node),
            incarnation: Incarnation(1),
            standing: Standing::Up,
            evidence: "heard".into(),
        });
    }

    /// What an operator's drop of a node that has ended comes to.
    pub fn drop(&mut self, node: u64) {
        let life = Incarnation(1);
        self.decide(&Command::Bury { node: id(node), incarnation: life, cause: Cause::Dropped(id(node)) });
        self.decide(&Command::Remove { node: id(node), cause: Cause::Dropped(id(node)) });
    }

    pub fn noted(&self, node: u64, kind: EventKind, text: &str) -> bool {
        self.nodes[&id(node)].notes.iter().any(|event| event.kind == kind && event.text.contains(text))
    }

    pub fn running(&self) -> Vec<u64> {
        self.nodes.iter().filter(|(_, state)| state.machine.is_some()).map(|(node, _)| node.0).collect()
    }

    /// T in milliseconds.
    pub fn t(&self) -> u64 {
        self.timing().failure_timeout.as_millis() as u64
    }
}
