//! A small world for the ownership machine: a log that applies at once, stores that catch up, park and vouch, a heartbeat
//! that notices who is down. After each change it is checked that whoever serves has the data.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::machines::Machine;
use crate::machines::dictionary::Dictionary;
use crate::machines::election::{Proposed, Published};
use crate::machines::heartbeat::Adoption;
use crate::machines::ownership::{Effect, Input, Ownership};
use crate::messages::election::Seats;
use crate::messages::events::Event;
use crate::messages::ownership::{
    Addresses, Applied, Candidate, Chain, HolderState, JoinAnswer, MeshSettings, Order, Role,
};
use crate::types::{Epoch, Generation, Incarnation, Instant, MeshId, NodeId, Now, RangeId, Term};
use crate::wire::codec;

pub const RANGES: u16 = 64;

/// After so long a silence the heartbeat machine speaks.
const SUSPECTED: Duration = Duration::from_millis(600);

pub fn candidate(id: u64, life: u64) -> Candidate {
    Candidate {
        id: NodeId(id),
        incarnation: Incarnation(life),
        name: format!("n{id}"),
        addresses: Addresses { peer: format!("10.0.0.{id}:16234"), ..Addresses::default() },
        zone: String::new(),
        weight: 100,
        role: Role::Drone,
    }
}

/// One node: its machine, and what its fake stores remember.
pub struct Fake {
    machine: Ownership,
    pub life: Incarnation,
    pub up: bool,
    /// What it has complete, and of which generation.
    data: BTreeMap<RangeId, Generation>,
    parked: BTreeMap<RangeId, Epoch>,
    silent_since: Instant,
    pub begun_again: bool,
    killed: bool,
}

impl Fake {
    /// A process that was paused and not killed.
    pub fn has_memory(&self) -> bool {
        !self.killed
    }
}

pub struct World {
    pub now: Instant,
    pub dictionary: Arc<Dictionary>,
    pub term: Term,
    pub commander: NodeId,
    reign_since: Instant,
    told: BTreeSet<(NodeId, Incarnation, &'static str)>,
    pub nodes: BTreeMap<NodeId, Fake>,
    queue: VecDeque<(NodeId, Input)>,
    pub events: Vec<Event>,
    pub notes: Vec<String>,
    pub answers: BTreeMap<u64, JoinAnswer>,
    pub ordered: BTreeMap<u64, Result<Vec<String>, String>>,
    pub stepped_down: Vec<(NodeId, Option<NodeId>)>,
    /// Commands that changed something.
    pub applied: usize,
    /// As the log has them.
    pub bytes: usize,
    /// How far moves have come, as told.
    pub moves: Vec<(u32, u32)>,
    /// So many of the next proposals have an unknown outcome; every other one is applied nevertheless.
    pub unknown: usize,
    pub deaf_stores: bool,
    pub never_park: bool,
    /// Two nodes that do not reach each other, lower id first.
    pub cut: BTreeSet<(u64, u64)>,
    orders: u64,
}

impl World {
    pub fn found(factor: u8) -> Self {
        let settings = MeshSettings { ranges: RANGES, factor, ..MeshSettings::default() };
        Self::of(Dictionary::found(MeshId(7), settings, candidate(1, 1)))
    }

    /// A mesh in which all on the roster are up and have what the dictionary says, commanded by the first of them.
    pub fn of(dictionary: Dictionary) -> Self {
        let first = *dictionary.roster.keys().next().expect("a mesh has a node");
        let mut world = Self {
            now: Instant(0),
            dictionary: Arc::new(dictionary),
            term: Term(1),
            commander: first,
            reign_since: Instant(0),
            told: BTreeSet::new(),
            nodes: BTreeMap::new(),
            queue: VecDeque::new(),
            events: Vec::new(),
            notes: Vec::new(),
            answers: BTreeMap::new(),
            ordered: BTreeMap::new(),
            stepped_down: Vec::new(),
            applied: 0,
            bytes: 0,
            moves: Vec::new(),
            unknown: 0,
            deaf_stores: false,
            never_park: false,
            cut: BTreeSet::new(),
            orders: 0,
        };
        let dictionary = Arc::clone(&world.dictionary);
        dictionary.roster.values().for_each(|member| world.start_as(member.node.clone()));
        for (range, chain) in dictionary.ranges() {
            for holder in chain.serving() {
                let fake = world.nodes.get_mut(&holder.node).expect("a holder is on the roster");
                fake.data.insert(range, chain.generation);
            }
        }
        world.adopt_all();
        world
    }

    /// A mesh of so many nodes that has come to rest.
    pub fn grown(nodes: u64, factor: u8) -> Self {
        let mut world = Self::found(factor);
        (2..=nodes).for_each(|id| world.join(id));
        world.settle();
        world
    }

    fn fake(&mut self, id: u64) -> &mut Fake {
        self.nodes.get_mut(&NodeId(id)).expect("a node")
    }

    /// A process starts, with empty memory.
    pub fn start(&mut self, id: u64, life: u64) {
        self.start_as(candidate(id, life));
    }

    pub fn start_as(&mut self, candidate: Candidate) {
        let (id, life) = (candidate.id, candidate.incarnation);
        let fake = Fake {
            machine: Ownership::new(candidate, id.0).of_mesh(MeshId(7)),
            life,
            up: true,
            data: BTreeMap::new(),
            parked: BTreeMap::new(),
            silent_since: self.now,
            begun_again: false,
            killed: false,
        };
        self.nodes.insert(id, fake);
    }

    /// A new process asks the commander to be admitted, and gets the log once it is.
    pub fn join(&mut self, id: u64) {
        self.start(id, 1);
        let (connection, candidate) = (id, candidate(id, 1));
        self.queue.push_back((self.commander, Input::Joining { connection, candidate }));
        self.drain();
    }

    pub fn kill(&mut self, id: u64) {
        let now = self.now;
        let fake = self.fake(id);
        fake.up = false;
        fake.silent_since = now;
        fake.data.clear();
        fake.killed = true;
    }

    /// Cut off or paused: its memory stays.
    pub fn pause(&mut self, id: u64) {
        let now = self.now;
        let fake = self.fake(id);
        fake.up = false;
        fake.silent_since = now;
    }

    pub fn resume(&mut self, id: u64) {
        self.fake(id).up = true;
        self.told.retain(|(node, ..)| *node != NodeId(id));
        self.adopt(NodeId(id));
        self.drain();
    }

    pub fn restart(&mut self, id: u64) {
        let life = self.nodes[&NodeId(id)].life.next();
        self.start(id, life.0);
        self.adopt(NodeId(id));
        self.drain();
    }

    /// Another commander is elected.
    pub fn elect(&mut self, id: u64) {
        self.term = self.term.next();
        self.commander = NodeId(id);
        self.reign_since = self.now;
        self.told.clear();
        self.adopt_all();
        self.drain();
    }

    pub fn order(&mut self, at: u64, order: Order) -> u64 {
        self.orders += 1;
        let id = self.orders;
        self.queue.push_back((NodeId(at), Input::Order { id, order }));
        self.drain();
        id
    }

    pub fn ask_to_join(&mut self, at: u64, connection: u64, candidate: Candidate) {
        self.queue.push_back((NodeId(at), Input::Joining { connection, candidate }));
        self.drain();
    }

    /// Goes on until nothing has changed for three seconds, and nobody is waited for who is merely silent; at most for a
    /// minute.
    pub fn settle(&mut self) {
        let mut quiet = 0;
        for _ in 0..600 {
            let before = self.applied;
            self.beat();
            let repair_after = self.dictionary.settings.repair_after;
            let since = |fake: &Fake| self.now.since(fake.silent_since.max(self.reign_since));
            let waits = self.nodes.values().any(|it| !it.up && it.has_memory() && since(it) < repair_after + SUSPECTED);
            quiet = if self.applied == before && !waits { quiet + 1 } else { 0 };
            if quiet >= 30 {
                return;
            }
        }
        panic!("it does not come to rest: {:?}", self.events.iter().rev().take(5).collect::<Vec<_>>());
    }

    pub fn run(&mut self, span: Duration) {
        let until = self.now + span;
        while self.now < until {
            self.beat();
        }
    }

    /// A tenth of a second: heartbeats, stores, timers.
    pub fn beat(&mut self) {
        let end = self.now + Duration::from_millis(100);
        self.judge();
        self.report_cuts();
        if !self.deaf_stores {
            self.stores_speak();
        }
        self.drain();
        while let Some((at, node)) = self.next_timer().filter(|(at, _)| *at <= end) {
            self.now = self.now.max(at);
            self.queue.push_back((node, Input::Timer));
            self.drain();
        }
        self.now = end;
    }

    fn next_timer(&self) -> Option<(Instant, NodeId)> {
        let up = self.nodes.iter().filter(|(_, fake)| fake.up);
        up.filter_map(|(node, fake)| Some((fake.machine.deadline()?, *node))).min()
    }

    /// What the commander's heartbeat machine says.
    fn judge(&mut self) {
        let settings = self.dictionary.settings.clone();
        for member in self.dictionary.clone().roster.values() {
            let node = member.node.id;
            let Some(fake) = self.nodes.get(&node) else { continue };
            let (life, listed) = (fake.life, member.node.incarnation);
            if fake.up {
                if self.told.insert((node, life, "alive")) {
                    self.queue
                        .push_back((self.commander, Input::Alive { node, incarnation: life, ailing: Vec::new() }));
                }
                continue;
            }
            let silent = self.now.since(fake.silent_since.max(self.reign_since));
            if silent >= SUSPECTED && self.told.insert((node, listed, "suspect")) {
                let evidence = "no beacon; probe unanswered".into();
                let gone = fake.killed;
                self.queue.push_back((self.commander, Input::Suspect { node, incarnation: listed, evidence, gone }));
            }
            let give_up = settings.give_up_after().map(|span| settings.timing.giver(span));
            if give_up.is_some_and(|span| silent >= span) && self.told.insert((node, listed, "expired")) {
                let expired = Input::Expired { node, incarnation: listed, silent_for: silent };
                self.queue.push_back((self.commander, expired));
            }
        }
    }

    /// Neighbours in chains that do not reach each other report it.
    fn report_cuts(&mut self) {
        for (one, other) in self.cut.clone() {
            let (by, about) = (NodeId(one), NodeId(other));
            let both = |chain: &Chain| [by, about].iter().all(|node| chain.holders.iter().any(|h| h.node == *node));
            let up = self.nodes[&by].up && self.nodes[&about].up;
            if up && self.dictionary.chains.iter().any(|chain| both(chain)) {
                self.queue.push_back((self.commander, Input::Apart { by, about, lasting: true }));
            }
        }
    }

    fn is_cut(&self, one: NodeId, other: NodeId) -> bool {
        self.cut.contains(&(one.0.min(other.0), one.0.max(other.0)))
    }

    /// What stores repeat each beat.
    fn stores_speak(&mut self) {
        for (node, fake) in self.nodes.iter().filter(|(_, fake)| fake.up) {
            let parked = fake.parked.iter().filter(|(range, epoch)| self.dictionary.chain(**range).epoch == **epoch);
            self.queue.extend(parked.map(|(range, epoch)| (*node, Input::Parked { range: *range, epoch: *epoch })));
        }
        for (range, chain) in self.dictionary.clone().ranges() {
            self.catch_up(range, chain);
        }
    }

    /// The last member that serves sends all it has to the joiner, and says so.
    fn catch_up(&mut self, range: RangeId, chain: &Chain) {
        let Some(joiner) = chain.holders.last().filter(|holder| holder.state == HolderState::Loading) else { return };
        let Some(source) = chain.serving().last() else { return };
        let node = source.node;
        let Some(fake) = self.nodes.get(&node).filter(|fake| fake.up) else { return };
        let is_source = fake.life == source.incarnation;
        let there = |fake: &&Fake| fake.up && fake.life == joiner.incarnation;
        if !is_source || self.is_cut(node, joiner.node) || self.nodes.get(&joiner.node).filter(there).is_none() {
            return;
        }
        assert_eq!(fake.data.get(&range), Some(&chain.generation), "a source without data");
        self.nodes.get_mut(&joiner.node).expect("just seen").data.insert(range, chain.generation);
        let epoch = chain.epoch;
        let (joiner, incarnation) = (joiner.node, joiner.incarnation);
        self.queue.push_back((node, Input::CaughtUp { range, epoch, joiner, incarnation }));
    }

    fn drain(&mut self) {
        while let Some((node, input)) = self.queue.pop_front() {
            let now = Now { instant: self.now, wall_ms: 0 };
            let Some(fake) = self.nodes.get_mut(&node).filter(|fake| fake.up) else { continue };
            let mut effects = Vec::new();
            fake.machine.step(now, input, &mut effects);
            effects.into_iter().for_each(|effect| self.perform(node, effect));
        }
    }

    fn perform(&mut self, node: NodeId, effect: Effect) {
        let life = self.nodes[&node].life;
        match effect {
            Effect::Send { to, message } => {
                self.queue.push_back((to, Input::Peer { from: node, incarnation: life, message }));
            }
            Effect::Propose { request, command } => {
                let outcome = if node != self.commander {
                    Proposed::NotCommander
                } else if self.unknown > 0 {
                    self.unknown -= 1;
                    if self.unknown.is_multiple_of(2) {
                        self.apply(&command);
                    }
                    Proposed::Unknown
                } else {
                    Proposed::Applied(self.apply(&command))
                };
                self.queue.push_back((node, Input::Proposed { request, outcome }));
            }
            Effect::StepDown { to } => self.stepped_down.push((node, to)),
            Effect::Answer { connection, answer } => {
                if matches!(answer, JoinAnswer::Admitted { .. }) && self.nodes.contains_key(&NodeId(connection)) {
                    self.adopt(NodeId(connection));
                }
                self.answers.insert(connection, answer);
            }
            Effect::Ordered { id, result } => {
                self.ordered.insert(id, result);
            }
            Effect::Park { range, epoch } => self.park(node, range, epoch),
            Effect::Vouch { id, ranges } => self.vouch(node, id, &ranges),
            Effect::Note(event) => self.notes.push(event.text),
            // No operator compares copies here.
            Effect::Count { .. } | Effect::Verified { .. } => {}
            Effect::Moves { done, left } => self.moves.push((done, left)),
            Effect::BeginAgain(_) => self.nodes.get_mut(&node).expect("it spoke").begun_again = true,
        }
    }

    pub fn park(&mut self, node: NodeId, range: RangeId, epoch: Epoch) {
        let chain = self.dictionary.chain(range).clone();
        let life = self.nodes[&node].life;
        let heads = chain.head().is_some_and(|head| head.node == node && head.incarnation == life);
        if heads && chain.epoch == epoch && !self.never_park {
            self.nodes.get_mut(&node).expect("it heard").parked.insert(range, epoch);
            self.queue.push_back((node, Input::Parked { range, epoch }));
        }
    }

    fn vouch(&mut self, node: NodeId, id: u64, ranges: &[(RangeId, Epoch)]) {
        if self.deaf_stores {
            return;
        }
        let life = self.nodes[&node].life;
        let serves = |(range, epoch): &(RangeId, Epoch)| {
            let chain = self.dictionary.chain(*range);
            let serves = chain.holder(node, life).is_some_and(|holder| holder.state.serves());
            (chain.epoch == *epoch && serves).then_some(*range)
        };
        // Two stores, each for its half.
        let (even, odd): (Vec<RangeId>, Vec<RangeId>) =
            ranges.iter().filter_map(serves).partition(|range| range.0 % 2 == 0);
        self.queue.push_back((node, Input::Vouched { id, ranges: even }));
        self.queue.push_back((node, Input::Vouched { id, ranges: odd }));
    }

    pub fn apply(&mut self, command: &crate::messages::ownership::Command) -> Applied {
        let mut dictionary = (*self.dictionary).clone();
        let before = Arc::clone(&self.dictionary);
        let (applied, events) = dictionary.apply(command);
        if matches!(applied, Applied::Changed(_)) {
            self.applied += 1;
            self.bytes += codec::encode(command).len();
            self.events.extend(events);
            self.dictionary = Arc::new(dictionary);
            self.begin_generations(&before);
            self.check();
            self.adopt_all();
        }
        applied
    }

    /// A range begun anew has what its holder kept, or is empty.
    fn begin_generations(&mut self, before: &Dictionary) {
        for (range, chain) in self.dictionary.clone().ranges() {
            let old = before.chain(range).generation;
            if chain.generation == old {
                continue;
            }
            for (node, fake) in &mut self.nodes {
                let kept = fake.data.remove(&range);
                if *node == chain.holders[0].node {
                    assert!(chain.revived.is_none() || kept == Some(old), "revived from a copy that is not there");
                    fake.data.insert(range, chain.generation);
                }
            }
        }
    }

    /// Whoever is listed as serving and lives in its listed life has the data.
    fn check(&self) {
        for (range, chain) in self.dictionary.ranges() {
            for holder in chain.serving() {
                let fake = self.nodes.get(&holder.node).filter(|fake| fake.up && fake.life == holder.incarnation);
                let has = fake.is_none_or(|fake| fake.data.get(&range) == Some(&chain.generation));
                assert!(has, "range {range}: {holder:?} serves without data: {chain:?}");
            }
        }
    }

    fn adopt_all(&mut self) {
        let on_roster = |node: &&NodeId| self.dictionary.roster.contains_key(node);
        let nodes: Vec<NodeId> = self.nodes.keys().filter(on_roster).copied().collect();
        nodes.into_iter().for_each(|node| self.adopt(node));
    }

    fn adopt(&mut self, node: NodeId) {
        let seats = Seats { voters: self.dictionary.roster.keys().copied().take(5).collect(), ..Seats::default() };
        let published = Arc::new(Published {
            dictionary: Arc::clone(&self.dictionary),
            term: self.term,
            commander: Some(self.commander),
            commanding: node == self.commander,
            seats,
        });
        let adoption = Adoption { published, promises: BTreeMap::new() };
        self.queue.push_back((node, Input::Adopt(Arc::new(adoption))));
    }

    // What tests look at.

    pub fn headed(&self, id: u64) -> usize {
        self.dictionary.tally(NodeId(id)).headed
    }

    pub fn held(&self, id: u64) -> usize {
        self.dictionary.tally(NodeId(id)).held
    }

    /// Ranges that were begun anew at least once.
    pub fn lost(&self) -> usize {
        self.dictionary.chains.iter().filter(|chain| chain.generation > Generation(1)).count()
    }

    /// Every range has its holders, all alive and heard, nobody on the way, and each node its share.
    pub fn assert_balanced(&self, ids: &[u64]) {
        let factor = usize::from(self.dictionary.settings.factor).min(ids.len());
        for (range, chain) in self.dictionary.ranges() {
            assert_eq!(chain.holders.len(), factor, "range {range}: {chain:?}");
            assert!(chain.holders.iter().all(|holder| holder.state == HolderState::Serving), "{chain:?}");
        }
        assert_eq!(self.dictionary.unserved(), 0);
        let share = usize::from(RANGES) / ids.len();
        for id in ids {
            let (headed, held) = (self.headed(*id), self.held(*id));
            assert!(headed.abs_diff(share) <= 1, "n{id} heads {headed} of {share}");
            assert!(held.abs_diff(share * factor) <= factor, "n{id} holds {held} of {}", share * factor);
        }
    }
}
