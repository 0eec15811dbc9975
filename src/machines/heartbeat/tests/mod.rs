//! Small facts of beacons, leases and suspicion, one machine at a time; and two clocks that drift apart.

mod beacons;
mod clocks;
mod leases;
mod progress;
mod silence;

use super::*;
use crate::machines::dictionary::Dictionary;
use crate::messages::election::Seats;
use crate::messages::ownership::{
    Addresses, Candidate, Cause, Chain, Former, GiveUp, Holder, HolderState, Member, Role, Standing,
};
use crate::types::{Epoch, Generation, MeshId};

const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);
const THREE: NodeId = NodeId(3);
const LIFE: Incarnation = Incarnation(1);

fn ms(ms: u64) -> Instant {
    Instant(ms * 1_000_000)
}

fn holder(node: NodeId) -> Holder {
    Holder { node, incarnation: LIFE, state: HolderState::Serving }
}

fn chain(holders: &[NodeId], changed: u64) -> Arc<Chain> {
    Arc::new(Chain {
        epoch: Epoch(changed),
        generation: Generation(1),
        changed: Version(changed),
        holders: holders.iter().copied().map(holder).collect(),
        former: Vec::new(),
        revived: None,
        cause: Cause::Founded,
    })
}

fn member(id: NodeId) -> Member {
    let node = Candidate {
        id,
        incarnation: LIFE,
        name: format!("drone-{}", id.0),
        addresses: Addresses::default(),
        zone: String::new(),
        weight: 100,
        role: Role::Drone,
    };
    Member::new(id.0 as u16, node, Standing::Up)
}

/// Nodes 1, 2, 3; `chains` at `version`; never given up by time.
fn published(version: u64, chains: &[Arc<Chain>], commander: Option<NodeId>, me: NodeId) -> Published {
    let settings = MeshSettings { give_up: GiveUp::Never, ..MeshSettings::default() };
    let roster = [ONE, TWO, THREE].map(|id| (id, member(id))).into();
    let dictionary = Dictionary::assembled(MeshId(7), Version(version), settings, roster, chains.to_vec());
    let seats = Seats { voters: vec![ONE, TWO, THREE], ..Seats::default() };
    let commanding = commander == Some(me);
    Published { dictionary: Arc::new(dictionary), term: Term(5), commander, commanding, seats }
}

fn with_give_up(mut published: Published, span: Option<Duration>) -> Published {
    let mut dictionary = (*published.dictionary).clone();
    dictionary.settings.give_up = span.map_or(GiveUp::Never, GiveUp::After);
    published.dictionary = Arc::new(dictionary);
    published
}

struct Node {
    machine: Heartbeat,
    now: Instant,
}

impl Node {
    fn new(me: NodeId) -> Self {
        Self { machine: Heartbeat::new(me, LIFE, 42), now: ms(10_000) }
    }

    /// Node 1 in command of chains held by 1 and 2.
    fn commander(chains: &[Arc<Chain>]) -> Self {
        let mut node = Self::new(ONE);
        node.publish(published(1, chains, Some(ONE), ONE));
        node
    }

    fn step(&mut self, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.machine.step(Now { instant: self.now, wall_ms: 0 }, input, &mut effects);
        effects
    }

    fn publish(&mut self, published: Published) -> Vec<Effect> {
        self.step(Input::Published(Arc::new(published)))
    }

    fn hear(&mut self, from: NodeId, message: HeartbeatMessage) -> Vec<Effect> {
        self.hear_life(from, LIFE, message)
    }

    fn hear_life(&mut self, from: NodeId, incarnation: Incarnation, message: HeartbeatMessage) -> Vec<Effect> {
        self.step(Input::Peer { from, incarnation, message })
    }

    fn report(&mut self, from: NodeId, about: NodeId) -> Vec<Effect> {
        self.hear(from, HeartbeatMessage::Report { about, incarnation: LIFE, why: Silence::Unreachable })
    }

    /// Lets time pass as an actor would: told at each deadline, at its very instant.
    fn until(&mut self, end: Instant) -> Vec<(Instant, Effect)> {
        let mut seen = Vec::new();
        while let Some(at) = self.machine.deadline().filter(|at| *at <= end) {
            self.now = at.max(self.now);
            let effects = self.step(Input::Timer);
            seen.extend(effects.into_iter().map(|effect| (self.now, effect)));
            assert!(self.machine.deadline().is_none_or(|next| next > self.now), "a deadline is not met by its timer");
        }
        self.now = end;
        seen
    }
}

fn beacon(number: u64) -> HeartbeatMessage {
    beacon_of(LIFE, number)
}

fn beacon_of(life: Incarnation, number: u64) -> HeartbeatMessage {
    HeartbeatMessage::Beacon(Beacon {
        term: Term(5),
        commander: Some(ONE),
        version: Version(1),
        ask: AskId { life, number },
        hears: 3,
        ailing: Vec::new(),
        streamed: 0,
        progress: None,
    })
}

fn grants(effects: &[Effect]) -> Vec<(NodeId, Grant)> {
    let grant = |effect: &Effect| match effect {
        Effect::Send { to, message: HeartbeatMessage::Grant(grant) } => Some((*to, grant.clone())),
        _ => None,
    };
    effects.iter().filter_map(grant).collect()
}

fn asks(effects: &[Effect]) -> Vec<(NodeId, AskId)> {
    let ask = |effect: &Effect| match effect {
        Effect::Send { to, message: HeartbeatMessage::Beacon(beacon) } => Some((*to, beacon.ask)),
        _ => None,
    };
    effects.iter().filter_map(ask).collect()
}

fn rounds(effects: &[Effect]) -> Vec<u64> {
    let round = |effect: &Effect| match effect {
        Effect::Confirm { ask } => Some(*ask),
        _ => None,
    };
    effects.iter().filter_map(round).collect()
}

fn leases(effects: &[Effect]) -> Option<Arc<Leases>> {
    effects.iter().rev().find_map(|effect| match effect {
        Effect::Leases(leases) => Some(Arc::clone(leases)),
        _ => None,
    })
}

fn adoption(effects: &[Effect]) -> Arc<Adoption> {
    let adopted = effects.iter().find_map(|effect| match effect {
        Effect::Adopt(adoption) => Some(Arc::clone(adoption)),
        _ => None,
    });
    adopted.expect("an adoption")
}

fn probes(effects: &[Effect], whom: NodeId) -> Vec<u64> {
    let probe = |effect: &Effect| match effect {
        Effect::Send { to, message: HeartbeatMessage::Probe(id) } if *to == whom => Some(*id),
        _ => None,
    };
    effects.iter().filter_map(probe).collect()
}

fn only(effects: Vec<(Instant, Effect)>) -> Vec<Effect> {
    effects.into_iter().map(|(_, effect)| effect).collect()
}

fn confirmed(ask: u64, version: u64) -> Input {
    Input::Confirmed { ask, term: Term(5), version: Version(version) }
}

// Leases given
