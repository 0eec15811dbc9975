//! A small world of stores: queues for links, a dictionary that is handed round by hand, leases given on demand.

mod exhaustive;
mod guards;
mod large;
mod random;
mod recipes;
mod waiting;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::machines::Machine;
use crate::machines::chain::{Inspect, Limits};
use crate::machines::dictionary::Dictionary;
use crate::machines::election::Published;
use crate::machines::heartbeat::{Adoption, Lease, Leases};
use crate::machines::store::{Config, Effect, Input, Store};
use crate::messages::chain::{ChainFrame, Counted};
use crate::messages::client::{NotApplied, Outcome, Reply, Request};
use crate::messages::election::Seats;
use crate::messages::ownership::{
    Addresses, Applied, Candidate, Cause, Chain, Command, Holder, HolderState, MeshSettings, Role, SetChain,
};
use crate::types::{Epoch, Incarnation, Instant, MeshId, NodeId, Now, RangeId, Sequence, Stamp, Term, Timing, Version};

pub(super) const A: NodeId = NodeId(1);
pub(super) const B: NodeId = NodeId(2);
pub(super) const C: NodeId = NodeId(3);
/// The range that all stories are about.
pub(super) const R: RangeId = RangeId(0);

pub(super) const PARK: Duration = Duration::from_millis(1500);

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub incarnation: Incarnation,
    /// How its clock runs, in parts per million of the world's.
    pub rate_ppm: u64,
    pub store: Store,
    /// The dictionary this node has adopted.
    pub dictionary: Option<Arc<Dictionary>>,
    /// What this node has promised to heads.
    pub promises: BTreeMap<NodeId, Instant>,
    pub leases: Leases,
    pub caught_up: Vec<(Epoch, NodeId, Incarnation)>,
    pub parked: Vec<Epoch>,
    pub vouched: Vec<(u64, Vec<RangeId>)>,
    pub counted: Vec<Counted>,
}

#[derive(Clone, Debug)]
pub(super) struct World {
    pub now: Now,
    pub dictionary: Arc<Dictionary>,
    pub nodes: BTreeMap<NodeId, Node>,
    /// By sender, receiver, and whether it is the bulk lane.
    pub links: BTreeMap<(NodeId, NodeId, bool), VecDeque<(Incarnation, ChainFrame)>>,
    /// Links that lose everything, in both directions.
    pub cut: BTreeSet<(NodeId, NodeId)>,
    pub outcomes: BTreeMap<u64, Outcome>,
    pub tickets: u64,
    limits: Limits,
}

/// No budget: messages are delivered one by one here, and time stands still meanwhile.
pub fn unhurried() -> Limits {
    Limits { moving: None, ..Limits::default() }
}

impl World {
    /// So many nodes; the first founds the mesh and heads all ranges alone.
    pub fn new(nodes: u64, factor: u8) -> Self {
        Self::with_limits(nodes, factor, unhurried())
    }

    pub fn with_limits(nodes: u64, factor: u8, limits: Limits) -> Self {
        let settings = MeshSettings { ranges: 16, factor, ..MeshSettings::default() };
        let mut dictionary = Dictionary::found(MeshId(7), settings, candidate(A, Incarnation(1)));
        for node in 2..=nodes {
            let (applied, _) = dictionary.apply(&Command::Admit(candidate(NodeId(node), Incarnation(1))));
            assert!(matches!(applied, Applied::Changed(_)), "{applied:?}");
        }
        let now = Now { instant: Instant(1_000_000_000), wall_ms: 1_700_000_000_000 };
        let mut world = Self {
            now,
            dictionary: Arc::new(dictionary),
            nodes: BTreeMap::new(),
            links: BTreeMap::new(),
            cut: BTreeSet::new(),
            outcomes: BTreeMap::new(),
            tickets: 0,
            limits,
        };
        for node in 1..=nodes {
            world.start(NodeId(node), Incarnation(1));
        }
        world
    }

    /// A, B, ... in a chain, all serving, with leases and past their quiet time.
    pub fn chain_of(members: &[NodeId], nodes: u64, factor: u8) -> Self {
        let mut world = Self::new(nodes, factor);
        world.adopt_all();
        for joiner in &members[1..] {
            world.join(*joiner);
            world.promote(*joiner);
        }
        world.advance(600);
        world.lease_all();
        world.deliver();
        world
    }

    /// What a node's clock shows.
    pub fn now_of(&self, id: NodeId) -> Now {
        clock(self.now, self.nodes[&id].rate_ppm)
    }

    pub fn timing(&self) -> Timing {
        self.dictionary.settings.timing
    }

    fn start(&mut self, id: NodeId, incarnation: Incarnation) {
        let config = Config { me: id, incarnation, worker: 0, workers: 1, park: PARK };
        let node = Node {
            incarnation,
            rate_ppm: self.nodes.get(&id).map_or(1_000_000, |node| node.rate_ppm),
            store: Store::with_limits(config, self.limits),
            dictionary: None,
            promises: BTreeMap::new(),
            leases: Leases::default(),
            caught_up: Vec::new(),
            parked: Vec::new(),
            vouched: Vec::new(),
            counted: Vec::new(),
        };
        self.nodes.insert(id, node);
    }

    /// The process ends and starts again, with nothing.
    pub fn restart(&mut self, id: NodeId) {
        let incarnation = self.nodes[&id].incarnation.next();
        let peers: Vec<NodeId> = self.nodes.keys().copied().filter(|peer| *peer != id).collect();
        peers.iter().for_each(|peer| self.break_link(id, *peer));
        self.start(id, incarnation);
        peers.iter().for_each(|peer| self.mend_link(id, *peer));
    }

    /// Tells one node something, and takes what it says.
    pub fn tell(&mut self, id: NodeId, input: Input) {
        let mut effects = Vec::new();
        let node = self.nodes.get_mut(&id).expect("a node");
        node.store.step(clock(self.now, node.rate_ppm), input, &mut effects);
        let incarnation = node.incarnation;
        for effect in effects {
            match effect {
                Effect::Outcomes { ticket, from, outcomes } => {
                    for (place, outcome) in outcomes.into_iter().enumerate() {
                        let known = self.outcomes.insert(ticket + u64::from(from) + place as u64, outcome);
                        assert!(known.is_none(), "answered twice");
                    }
                }
                Effect::Send { to, frame } => {
                    assert!(to != id, "says something to itself: {frame:?}");
                    if !self.cut.contains(&(id, to)) {
                        self.links.entry((id, to, frame.is_bulk())).or_default().push_back((incarnation, frame));
                    }
                }
                Effect::CaughtUp { range, epoch, joiner, incarnation } if range == R => {
                    self.nodes.get_mut(&id).expect("a node").caught_up.push((epoch, joiner, incarnation));
                }
                Effect::Parked { range, epoch } if range == R => {
                    self.nodes.get_mut(&id).expect("a node").parked.push(epoch);
                }
                Effect::Vouched { id: asking, ranges } => {
                    self.nodes.get_mut(&id).expect("a node").vouched.push((asking, ranges));
                }
                Effect::Counted { counted, .. } => {
                    self.nodes.get_mut(&id).expect("a node").counted.push(counted);
                }
                Effect::CaughtUp { .. } | Effect::Parked { .. } => {}
            }
        }
    }

    /// Delivers the next frame of one lane. Says whether there was one.
    pub fn deliver_one(&mut self, from: NodeId, to: NodeId, bulk: bool) -> bool {
        let Some(queue) = self.links.get_mut(&(from, to, bulk)) else { return false };
        let Some((incarnation, frame)) = queue.pop_front() else { return false };
        // Every frame goes through the codec, as it would on a link.
        let frame = crate::wire::codec::decode(&crate::wire::codec::encode(&frame)).expect("what was encoded");
        self.tell(to, Input::Peer { from, incarnation, frame });
        true
    }

    /// Delivers everything until nothing more is said.
    pub fn deliver(&mut self) {
        for _ in 0..100_000 {
            let lanes: Vec<_> =
                self.links.iter().filter(|(_, queue)| !queue.is_empty()).map(|(lane, _)| *lane).collect();
            if lanes.is_empty() {
                return;
            }
            for (from, to, bulk) in lanes {
                self.deliver_one(from, to, bulk);
            }
        }
        panic!("they never stop talking");
    }

    /// Lets time pass, and rings who wants to be rung.
    pub fn advance(&mut self, ms: u64) {
        let end = self.now.instant + Duration::from_millis(ms);
        loop {
            let next = self.nodes.iter().filter_map(|(id, node)| Some((node.store.deadline()?, *id))).min();
            let Some((deadline, id)) = next.filter(|(deadline, _)| *deadline <= end) else { break };
            self.pass_to(deadline.max(self.now.instant));
            self.tell(id, Input::Timer);
        }
        self.pass_to(end);
    }

    pub fn pass_to(&mut self, instant: Instant) {
        self.now.wall_ms += instant.since(self.now.instant).as_millis() as u64;
        self.now.instant = instant;
    }

    pub fn break_link(&mut self, one: NodeId, other: NodeId) {
        self.links.retain(|(from, to, _), _| (*from, *to) != (one, other) && (*from, *to) != (other, one));
        self.cut.extend([(one, other), (other, one)]);
        self.tell(one, Input::LinkDown(other));
        self.tell(other, Input::LinkDown(one));
    }

    pub fn mend_link(&mut self, one: NodeId, other: NodeId) {
        self.cut.remove(&(one, other));
        self.cut.remove(&(other, one));
        self.tell(one, Input::LinkUp(other));
        self.tell(other, Input::LinkUp(one));
    }

    pub fn adopt(&mut self, id: NodeId) {
        let dictionary = Arc::clone(&self.dictionary);
        let node = self.nodes.get_mut(&id).expect("a node");
        node.dictionary = Some(Arc::clone(&dictionary));
        let published =
            Published { dictionary, term: Term(1), commander: None, commanding: false, seats: Seats::default() };
        let adoption = Adoption { published: Arc::new(published), promises: node.promises.clone() };
        self.tell(id, Input::Adopt(Arc::new(adoption)));
    }

    pub fn adopt_all(&mut self) {
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        ids.into_iter().for_each(|id| self.adopt(id));
        self.deliver();
    }

    /// Commits a change of the chain, as `[(A, Serving), (B, Loading)]`.
    pub fn commit(&mut self, members: &[(NodeId, HolderState)], cause: Cause) {
        let holders: Vec<Holder> = members
            .iter()
            .map(|(node, state)| {
                let listed = self.chain().holders.iter().find(|holder| holder.node == *node);
                let incarnation = listed.map_or(self.nodes[node].incarnation, |holder| holder.incarnation);
                Holder { node: *node, incarnation, state: *state }
            })
            .collect();
        let anew = matches!(cause, Cause::BegunAnew { .. });
        let expected = self.chain().epoch;
        let command = Command::SetChains(vec![SetChain { range: R, expected, holders, anew, cause }]);
        self.apply(&command);
    }

    pub fn serving(&mut self, members: &[NodeId]) {
        let members: Vec<_> = members.iter().map(|node| (*node, HolderState::Serving)).collect();
        self.commit(&members, Cause::Placement);
    }

    pub fn apply(&mut self, command: &Command) {
        let mut dictionary = Dictionary::clone(&self.dictionary);
        let (applied, _) = dictionary.apply(command);
        assert!(matches!(applied, Applied::Changed(_)), "{applied:?} of {command:?}");
        self.dictionary = Arc::new(dictionary);
    }

    pub fn chain(&self) -> &Arc<Chain> {
        self.dictionary.chain(R)
    }

    /// Commits a node as Loading, and lets it load.
    pub fn join(&mut self, joiner: NodeId) {
        self.commit_join(joiner);
        self.adopt_all();
    }

    pub fn commit_join(&mut self, joiner: NodeId) {
        let mut members: Vec<_> = self.chain().holders.iter().map(|h| (h.node, h.state)).collect();
        members.push((joiner, HolderState::Loading));
        self.commit(&members, Cause::Placement);
    }

    /// Commits the joiner as Serving, because its source has said so in this epoch.
    pub fn promote(&mut self, joiner: NodeId) {
        let (epoch, incarnation) = (self.chain().epoch, self.nodes[&joiner].incarnation);
        let said = self.nodes.values().any(|node| node.caught_up.contains(&(epoch, joiner, incarnation)));
        assert!(said, "{joiner:?} has not caught up in epoch {epoch}");
        self.commit_promotion(joiner);
        self.adopt_all();
    }

    pub fn commit_promotion(&mut self, joiner: NodeId) {
        let members: Vec<_> = self.chain().holders.iter().map(|holder| holder.node).collect();
        let members: Vec<_> = members.into_iter().map(|node| (node, HolderState::Serving)).collect();
        self.commit(&members, Cause::CaughtUp(joiner));
    }

    /// One node asks all others, and the commander, for leases, and has them at once.
    pub fn lease(&mut self, id: NodeId) {
        let givers: Vec<NodeId> = self.nodes.keys().copied().filter(|giver| *giver != id).collect();
        givers.into_iter().for_each(|giver| self.grant(giver, id));
        self.grant_sole(id);
    }

    pub fn lease_all(&mut self) {
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        ids.into_iter().for_each(|id| self.lease(id));
    }

    /// One member's lease to a head.
    pub fn grant(&mut self, giver: NodeId, to: NodeId) {
        let timing = self.timing();
        let Some(version) = self.nodes[&giver].dictionary.as_ref().map(|dictionary| dictionary.version) else { return };
        let node = self.nodes.get_mut(&giver).expect("a node");
        node.promises.insert(to, self.now.instant + timing.giver(timing.lease()));
        let until = self.now.instant + timing.holder(timing.lease());
        let lease = Lease { giver: node.incarnation, version, until };
        self.give(to, giver, lease);
    }

    /// A lease that was granted arrives. The last few of each giver are kept, as the heartbeat machine does.
    pub fn give(&mut self, to: NodeId, giver: NodeId, lease: Lease) {
        let node = self.nodes.get_mut(&to).expect("a node");
        let given = node.leases.members.entry(giver).or_default();
        given.push(lease);
        if given.len() > 4 {
            given.remove(0);
        }
        let leases = Arc::new(node.leases.clone());
        self.tell(to, Input::Leases(leases));
    }

    /// The commander's lease, confirmed at the newest version.
    pub fn grant_sole(&mut self, to: NodeId) {
        let timing = self.timing();
        let until = self.now.instant + timing.holder(timing.sole_lease());
        let lease = Lease { giver: Incarnation(1), version: self.dictionary.version, until };
        self.give_sole(to, lease);
    }

    pub fn give_sole(&mut self, to: NodeId, lease: Lease) {
        let node = self.nodes.get_mut(&to).expect("a node");
        node.leases.commander = Some(lease);
        let leases = Arc::new(node.leases.clone());
        self.tell(to, Input::Leases(leases));
    }

    /// A client's command.
    pub fn ask(&mut self, at: NodeId, words: &str) -> u64 {
        self.ask_batch(at, &[words])
    }

    /// Commands that came together. Their outcomes stand under the ticket and the numbers that follow it.
    pub fn ask_batch(&mut self, at: NodeId, commands: &[&str]) -> u64 {
        let ticket = self.tickets;
        self.tickets += commands.len() as u64;
        let requests = commands.iter().map(|words| request(words)).collect();
        self.tell(at, Input::Batch { ticket, from: at, requests });
        ticket
    }

    pub fn outcome(&self, ticket: u64) -> Option<&Outcome> {
        self.outcomes.get(&ticket)
    }

    pub fn ok(&self, ticket: u64) -> bool {
        self.outcome(ticket) == Some(&Outcome::Replied(Reply::ok()))
    }

    /// Asks, lets everything travel, and gives what became of it.
    pub fn at_once(&mut self, at: NodeId, words: &str) -> Option<Outcome> {
        let ticket = self.ask(at, words);
        self.deliver();
        self.outcomes.get(&ticket).cloned()
    }

    /// What a key holds, asked at a node that must answer.
    pub fn read(&mut self, at: NodeId, key: &str) -> Option<String> {
        match self.at_once(at, &format!("GET {key}")) {
            Some(Outcome::Replied(Reply::Bulk(data))) => Some(String::from_utf8(data.to_vec()).expect("text")),
            Some(Outcome::Replied(Reply::Null)) => None,
            other => panic!("{at:?} did not answer: {other:?}"),
        }
    }

    pub fn see(&self, id: NodeId) -> Inspect {
        self.nodes[&id].store.inspect(R, self.now_of(id)).expect("it holds the range")
    }

    pub fn answers(&self, id: NodeId) -> bool {
        self.nodes[&id].store.answers(R, self.now_of(id))
    }

    /// All copies of these nodes are equal.
    pub fn equal(&self, ids: &[NodeId]) {
        let seen: BTreeSet<_> = ids.iter().map(|id| (self.see(*id).applied, self.see(*id).digest)).collect();
        assert!(seen.len() == 1, "copies differ: {:?}", ids.iter().map(|id| self.see(*id)).collect::<Vec<_>>());
    }
}

fn clock(now: Now, rate_ppm: u64) -> Now {
    Now { instant: Instant((u128::from(now.instant.0) * u128::from(rate_ppm) / 1_000_000) as u64), ..now }
}

pub(super) fn candidate(id: NodeId, incarnation: Incarnation) -> Candidate {
    Candidate {
        id,
        incarnation,
        name: format!("n{}", id.0),
        addresses: Addresses { peer: format!("n{}:16234", id.0), ..Addresses::default() },
        zone: String::new(),
        weight: 100,
        role: Role::Drone,
    }
}

pub(super) fn request(words: &str) -> Request {
    let words: Vec<Bytes> = words.split(' ').map(|word| Bytes::from(word.to_owned())).collect();
    let write = !matches!(&words[0][..], b"GET" | b"EXISTS" | b"DBSIZE");
    Request { range: R, words, write, session: 0 }
}

pub(super) fn stamp(epoch: u64, sequence: u64) -> Stamp {
    Stamp { epoch: Epoch(epoch), sequence: Sequence(sequence) }
}

pub(super) fn held() -> Outcome {
    Outcome::NotApplied(NotApplied::Held)
}

pub(super) fn version_of(world: &World, id: NodeId) -> Version {
    world.nodes[&id].store.version()
}
