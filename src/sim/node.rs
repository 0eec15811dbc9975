//! One process of a made-up world: the machines of production, wired as `actors` wires them.
//!
//! A node is its machines and the mail between them. [`Mail`] names who can be told what; its routes say, machine by
//! machine, to whom each effect goes, either to another machine here or out of the process ([`Out`]). Mail is delivered in the
//! order in which it was written, at one instant; a machine may be made to stall, and its mail then waits, as that of an actor
//! does whose thread is busy.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::machines::door::Door;
use crate::machines::election::{Election, Published};
use crate::machines::heartbeat::{Adoption, Heartbeat};
use crate::machines::joining::Joining;
use crate::machines::ownership::Ownership;
use crate::machines::store::{Limits, Store};
use crate::machines::{Machine, door, election, heartbeat, joining, ownership, store};
use crate::messages::chain::Change;
use crate::messages::client::{Outcome, RelayMessage, Reply, Request};
use crate::messages::election::{Recovered, Save};
use crate::messages::events::Event;
use crate::messages::heartbeat::Silence;
use crate::messages::ownership::{Candidate, Chain, Command, JoinAnswer, MeshSettings};
use crate::messages::peer::{Lane, PeerMessage};
use crate::messages::status::Verification;
use crate::sim::network::FRAMES;
use crate::sites::{self, Luck};
use crate::types::{Incarnation, Instant, MeshId, NodeId, Now, RangeId};

/// A write of a made-up client takes no more than this, and the last write may exceed a bound.
const ONE_WRITE: usize = 3 << 10;

/// What made-up clients store, with what is kept beside it and what is still to be freed, takes no more than this.
const MEMORY: usize = 4 << 20;

/// A message on its way to a machine of this process.
#[derive(Clone, Debug)]
pub enum Mail {
    /// To the machine that looks for a mesh.
    Joining(joining::Input),
    /// To the consensus.
    Election(election::Input),
    /// To the one that says who lives.
    Heartbeat(heartbeat::Input),
    /// To the one that plans.
    Ownership(ownership::Input),
    /// To the store of a worker.
    Store(usize, store::Input),
    /// To the door.
    Door(door::Input),
}

/// What leaves the machines of a process.
#[derive(Debug)]
pub enum Out {
    /// To another node, by the lane it belongs to.
    Send(NodeId, PeerMessage),
    /// To another node, by the connection on which it asked.
    SendBack(u64, PeerMessage),
    /// To the disk.
    Persist(Save),
    /// To whoever listens at an address: may I join?
    Ask(String),
    /// A mesh is to be founded.
    Found,
    /// This node belongs to this mesh now.
    Joined(MeshId, MeshSettings),
    /// To one that asked to join, in this connection.
    JoinAnswer(u64, JoinAnswer),
    /// To a client: batch, place, answer.
    Answer(u64, u32, Reply),
    /// To an operator.
    Ordered(u64, Result<Vec<String>, String>),
    /// To an operator who asked how copies compare.
    Verified(u64, Result<Verification, String>),
    /// This is agreed now, as far as this node knows.
    Published(Arc<Published>),
    /// As commander, this node asks for this change.
    Proposed(Command),
    /// A command of this range was carried out here, by a store that goes by this chain; the answer leaves now.
    Executed(RangeId, Arc<Chain>),
    /// Something to remember for people.
    Note(Event),
    /// Something for the operator of a node that is not in a mesh yet.
    Say(String),
    /// This process ends, and why.
    End(String),
    /// This process ends and another begins with the same disk, and why.
    BeginAgain(String),
}

/// How a node begins.
#[derive(Clone, Debug)]
pub struct Setup {
    /// As it presents itself.
    pub candidate: Candidate,
    /// What it would found a mesh with, and what it goes by until it knows one.
    pub settings: MeshSettings,
    /// Where to ask for a mesh.
    pub join: Vec<String>,
    /// `mesh.found`.
    pub found: bool,
    /// How many stores.
    pub workers: usize,
    /// How long commands are held.
    pub park: Duration,
    /// What its stores keep at most.
    pub limits: Limits,
    /// Where its luck comes from.
    pub seed: u64,
    /// Which fault sites are on in it.
    pub luck: Luck,
}

/// Who waits for the outcomes of a batch that a store was given.
#[derive(Clone, Copy, Debug)]
enum Asker {
    Door { ticket: u64 },
    Peer { node: NodeId, connection: u64, id: u64 },
}

/// A batch at a store: who asked, and where its commands stand in the asker's batch.
#[derive(Debug)]
struct Asked {
    asker: Asker,
    commands: Vec<(u32, RangeId)>,
    left: usize,
}

/// What one store gets of a batch: where each command stood in it, and the commands.
type Part = (Vec<(u32, RangeId)>, Vec<Request>);

/// One process.
pub struct Node {
    /// How it began.
    pub setup: Setup,
    /// The newest that it published.
    pub published: Option<Arc<Published>>,
    /// What its stores go by.
    pub adopted: Option<Arc<Adoption>>,
    mesh: Option<MeshId>,
    joining: Option<Joining>,
    election: Option<Election>,
    heartbeat: Heartbeat,
    ownership: Ownership,
    stores: Vec<Store>,
    door: Door,
    asked: BTreeMap<u64, Asked>,
    tickets: u64,
    mail: VecDeque<Mail>,
    spare: Spare,
    stalled: BTreeMap<Room, VecDeque<Mail>>,
    /// When each machine wants to be told that time has passed, in the order of rooms; looked up anew when it has heard
    /// something.
    deadlines: Vec<Option<Instant>>,
    heard: u32,
}

/// Room for the effects of machines, used again and again.
#[derive(Default)]
struct Spare {
    election: Vec<election::Effect>,
    heartbeat: Vec<heartbeat::Effect>,
    ownership: Vec<ownership::Effect>,
    store: Vec<store::Effect>,
    door: Vec<door::Effect>,
}

/// A machine, as somebody whose mail may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Room {
    /// That of the joining machine.
    Joining,
    /// That of the election machine.
    Election,
    /// That of the heartbeat machine.
    Heartbeat,
    /// That of the ownership machine.
    Ownership,
    /// That of a store.
    Store(usize),
    /// That of the door.
    Door,
}

impl Mail {
    fn room(&self) -> Room {
        match self {
            Self::Joining(_) => Room::Joining,
            Self::Election(_) => Room::Election,
            Self::Heartbeat(_) => Room::Heartbeat,
            Self::Ownership(_) => Room::Ownership,
            Self::Store(worker, _) => Room::Store(*worker),
            Self::Door(_) => Room::Door,
        }
    }
}

/// How many machines a node has beside its stores.
const OTHERS: usize = 5;

impl Room {
    /// Where it stands among all.
    fn place(self) -> usize {
        match self {
            Self::Joining => 0,
            Self::Election => 1,
            Self::Heartbeat => 2,
            Self::Ownership => 3,
            Self::Door => 4,
            Self::Store(worker) => OTHERS + worker,
        }
    }

    fn at(place: usize) -> Self {
        match place {
            0 => Self::Joining,
            1 => Self::Election,
            2 => Self::Heartbeat,
            3 => Self::Ownership,
            4 => Self::Door,
            _ => Self::Store(place - OTHERS),
        }
    }
}

impl Node {
    /// A process that begins: as a member of a mesh if its disk knows one, else as one that looks for one.
    pub fn start(setup: Setup, known: Option<(MeshId, MeshSettings, Recovered)>, now: Now, out: &mut Vec<Out>) -> Self {
        let Candidate { id: me, incarnation, .. } = setup.candidate;
        let store = |worker| {
            let config = store::Config { me, incarnation, worker, workers: setup.workers, park: setup.park };
            Store::with_limits(config, setup.limits)
        };
        let mut node = Self {
            published: None,
            adopted: None,
            mesh: None,
            joining: None,
            election: None,
            heartbeat: Heartbeat::new(me, incarnation, setup.seed ^ 1),
            ownership: Ownership::new(setup.candidate.clone(), setup.seed ^ 2),
            stores: (0..setup.workers).map(store).collect(),
            door: Door::new(door::Config { me, incarnation, park: setup.park }),
            asked: BTreeMap::new(),
            tickets: 0,
            mail: VecDeque::new(),
            spare: Spare::default(),
            stalled: BTreeMap::new(),
            deadlines: vec![None; OTHERS + setup.workers],
            heard: u32::MAX,
            setup,
        };
        match known {
            Some((mesh, settings, recovered)) => node.enter(mesh, &settings, recovered, now),
            None => {
                let Setup { join, found, candidate, .. } = node.setup.clone();
                node.joining = Some(Joining::new(join, found, candidate, now));
            }
        }
        node.on_timer(now, out);
        node
    }

    /// The mesh is known: the consensus begins with what the disk holds.
    pub fn enter(&mut self, mesh: MeshId, settings: &MeshSettings, recovered: Recovered, now: Now) {
        let Candidate { id: me, role, .. } = self.setup.candidate;
        let config =
            election::Config { me, role, timing: settings.timing, voters: settings.voters, seed: self.setup.seed ^ 3 };
        self.mesh = Some(mesh);
        self.joining = None;
        self.ownership = Ownership::new(self.setup.candidate.clone(), self.setup.seed ^ 2).of_mesh(mesh);
        self.election = Some(Election::new(config, recovered, now));
        self.heard = u32::MAX;
    }

    /// The mesh this node belongs to, once it knows it.
    pub fn mesh(&self) -> Option<MeshId> {
        self.mesh
    }

    /// What sessions go by: what was adopted, which may hold news of a commander that the log has not brought yet.
    pub fn known(&self) -> Option<&Arc<Published>> {
        self.adopted.as_ref().map(|adoption| &adoption.published).or(self.published.as_ref())
    }

    /// Who this is.
    pub fn me(&self) -> (NodeId, Incarnation) {
        (self.setup.candidate.id, self.setup.candidate.incarnation)
    }

    /// Brings mail, and whatever mail follows from it.
    pub fn hear(&mut self, mail: Mail, now: Now, out: &mut Vec<Out>) {
        self.mail.push_back(mail);
        self.deliver(now, out);
    }

    /// Tells each machine whose deadline has come. It must then wait for something else, or for a later instant.
    pub fn on_timer(&mut self, now: Now, out: &mut Vec<Out>) {
        self.look_up_deadlines();
        for place in 0..self.deadlines.len() {
            let due = |deadline: &Instant| *deadline <= now.instant;
            let Some(deadline) = self.deadlines[place].filter(due) else { continue };
            let room = Room::at(place);
            if room == Room::Heartbeat {
                let streamed = self.stores.iter().map(|store| store.transfers().bytes_streamed).sum();
                self.mail.push_back(Mail::Heartbeat(heartbeat::Input::Streamed(streamed)));
            }
            self.hear(self.timer_of(room), now, out);
            if let Some(next) = self.deadlines[place].filter(due) {
                assert!(next > deadline, "{room:?} was told that its deadline {deadline} has come, and wants {next}");
            }
        }
    }

    fn timer_of(&self, room: Room) -> Mail {
        match room {
            Room::Joining => Mail::Joining(joining::Input::Timer),
            Room::Election => Mail::Election(election::Input::Timer),
            Room::Heartbeat => Mail::Heartbeat(heartbeat::Input::Timer),
            Room::Ownership => Mail::Ownership(ownership::Input::Timer),
            Room::Store(worker) => Mail::Store(worker, store::Input::Timer),
            Room::Door => Mail::Door(door::Input::Timer),
        }
    }

    fn deadline_of(&self, room: Room) -> Option<Instant> {
        if !self.stalled.is_empty() && self.stalled.contains_key(&room) {
            return None;
        }
        match room {
            Room::Joining => self.joining.as_ref().and_then(Machine::deadline),
            Room::Election => self.election.as_ref().and_then(Machine::deadline),
            Room::Heartbeat => self.heartbeat.deadline(),
            Room::Ownership => self.ownership.deadline(),
            Room::Store(worker) => self.stores[worker].deadline(),
            Room::Door => self.door.deadline(),
        }
    }

    /// When a machine wants to be told that time has passed.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadlines.iter().flatten().min().copied()
    }

    fn look_up_deadlines(&mut self) {
        let heard = std::mem::take(&mut self.heard);
        for place in (0..self.deadlines.len()).filter(|place| heard & (1 << place) != 0) {
            self.deadlines[place] = self.deadline_of(Room::at(place));
        }
    }

    /// Another node says something.
    pub fn on_peer(
        &mut self,
        from: (NodeId, Incarnation),
        connection: u64,
        message: PeerMessage,
        now: Now,
        out: &mut Vec<Out>,
    ) {
        let (peer, incarnation) = from;
        let mail = match message {
            PeerMessage::Election(message) => Mail::Election(election::Input::Peer { from: peer, message }),
            PeerMessage::Heartbeat(message) => {
                Mail::Heartbeat(heartbeat::Input::Peer { from: peer, incarnation, message })
            }
            PeerMessage::Ownership(message) => {
                Mail::Ownership(ownership::Input::Peer { from: peer, incarnation, message })
            }
            PeerMessage::Chain(frame) => {
                let worker = self.worker(frame.range);
                Mail::Store(worker, store::Input::Peer { from: peer, incarnation, frame })
            }
            PeerMessage::Relay(RelayMessage::Carry { id, requests }) => {
                self.ask_stores(Asker::Peer { node: peer, connection, id }, requests);
                return self.deliver(now, out);
            }
            PeerMessage::Relay(RelayMessage::Carried { id, from, outcomes }) => {
                Mail::Door(door::Input::Carried { peer, id, from, outcomes })
            }
        };
        self.hear(mail, now, out);
    }

    /// A link of this node is there, or broke.
    pub fn on_link(&mut self, peer: NodeId, lane: Lane, up: bool, now: Now, out: &mut Vec<Out>) {
        if lane == Lane::Control {
            return;
        }
        if lane == Lane::Data {
            let input = if up { door::Input::LinkUp(peer) } else { door::Input::LinkDown(peer) };
            self.hear(Mail::Door(input), now, out);
        }
        for worker in 0..self.stores.len() {
            let input = if up { store::Input::LinkUp(peer) } else { store::Input::LinkDown(peer) };
            self.hear(Mail::Store(worker, input), now, out);
        }
    }

    /// A peer has called by the data lane, or its call has ended: what it said to our stores may be lost.
    pub fn on_call(&mut self, peer: NodeId, up: bool, now: Now, out: &mut Vec<Out>) {
        for worker in 0..self.stores.len() {
            let input = if up { store::Input::LinkUp(peer) } else { store::Input::LinkDown(peer) };
            self.hear(Mail::Store(worker, input), now, out);
        }
    }

    /// A machine's mail waits from now on.
    pub fn stall(&mut self, room: Room) {
        self.stalled.entry(room).or_default();
        self.heard |= 1 << room.place();
        self.look_up_deadlines();
    }

    /// A machine hears what has waited for it.
    pub fn unstall(&mut self, room: Room, now: Now, out: &mut Vec<Out>) {
        self.mail.extend(self.stalled.remove(&room).unwrap_or_default());
        self.heard |= 1 << room.place();
        self.deliver(now, out);
    }

    /// What its ownership machine is doing about what is not as it should be, and which machines are stalled.
    pub fn doing(&self) -> String {
        let stalled: Vec<&Room> = self.stalled.keys().collect();
        format!("{:?}, stalled {stalled:?}", self.ownership.doing())
    }

    /// The store machines, for checkers.
    pub fn stores(&self) -> &[Store] {
        &self.stores
    }

    /// Changes a copy behind everybody's back.
    pub fn tamper(&mut self, range: RangeId, change: &Change) {
        let worker = self.worker(range);
        self.stores[worker].tamper(range, change);
    }

    /// The store that owns a range.
    pub fn store_of(&self, range: RangeId) -> &Store {
        &self.stores[self.worker(range)]
    }

    /// What waits here: what kind, how many, and how many may.
    pub fn queues(&self) -> Vec<(&'static str, usize, usize)> {
        let stalled = self.stalled.values().map(VecDeque::len).max().unwrap_or(0);
        let held = self.stores.iter().map(Store::waiting).sum();
        let Limits { backlog_bytes, dirty_bytes, streaming_bytes, chunk_bytes, .. } = self.setup.limits;
        let most = backlog_bytes + dirty_bytes.max(streaming_bytes) + chunk_bytes + ONE_WRITE;
        vec![
            ("batches asked of stores", self.asked.len(), FRAMES),
            ("letters to one machine", stalled, FRAMES),
            ("commands and answers waiting in stores", held, FRAMES),
            (
                "bytes of recent writes of a range",
                self.stores.iter().map(Store::largest_backlog).max().unwrap_or(0),
                most,
            ),
            ("bytes of all it stores", self.stores.iter().map(Store::memory).sum(), MEMORY),
        ]
    }

    fn worker(&self, range: RangeId) -> usize {
        usize::from(range.0) % self.stores.len()
    }

    fn deliver(&mut self, now: Now, out: &mut Vec<Out>) {
        let mut luck = self.setup.luck;
        sites::with(&mut luck, || self.deliver_all(now, out));
        self.setup.luck = luck;
        self.look_up_deadlines();
    }

    fn deliver_all(&mut self, now: Now, out: &mut Vec<Out>) {
        while let Some(mail) = self.mail.pop_front() {
            let room = mail.room();
            if let Some(waiting) = self.stalled.get_mut(&room) {
                waiting.push_back(mail);
                continue;
            }
            self.heard |= 1 << room.place();
            self.step(mail, now, out);
        }
    }

    fn step(&mut self, mail: Mail, now: Now, out: &mut Vec<Out>) {
        match mail {
            Mail::Joining(input) => {
                let Some(machine) = &mut self.joining else { return };
                let mut effects = Vec::new();
                machine.step(now, input, &mut effects);
                effects.into_iter().for_each(|effect| self.route_joining(effect, out));
            }
            Mail::Election(input) => {
                // Before this node belongs to a mesh nobody listens here; it is said again.
                let Some(machine) = &mut self.election else { return };
                let mut effects = std::mem::take(&mut self.spare.election);
                machine.step(now, input, &mut effects);
                effects.drain(..).for_each(|effect| self.route_election(effect, out));
                self.spare.election = effects;
            }
            Mail::Heartbeat(input) => {
                let mut effects = std::mem::take(&mut self.spare.heartbeat);
                self.heartbeat.step(now, input, &mut effects);
                effects.drain(..).for_each(|effect| self.route_heartbeat(effect, out));
                self.spare.heartbeat = effects;
            }
            Mail::Ownership(input) => {
                let mut effects = std::mem::take(&mut self.spare.ownership);
                self.ownership.step(now, input, &mut effects);
                effects.drain(..).for_each(|effect| self.route_ownership(effect, out));
                self.spare.ownership = effects;
            }
            Mail::Store(worker, input) => {
                if let store::Input::Adopt(adoption) = &input {
                    self.adopted = Some(adoption.clone());
                }
                let mut effects = std::mem::take(&mut self.spare.store);
                self.stores[worker].step(now, input, &mut effects);
                effects.drain(..).for_each(|effect| self.route_store(effect, out));
                self.spare.store = effects;
            }
            Mail::Door(input) => {
                let mut effects = std::mem::take(&mut self.spare.door);
                self.door.step(now, input, &mut effects);
                effects.drain(..).for_each(|effect| self.route_door(effect, out));
                self.spare.door = effects;
            }
        }
    }

    // Who hears of what. The postmen in `actors` follow the same table.

    fn route_joining(&mut self, effect: joining::Effect, out: &mut Vec<Out>) {
        match effect {
            joining::Effect::Ask(address) => out.push(Out::Ask(address)),
            joining::Effect::Found => out.push(Out::Found),
            joining::Effect::Joined { mesh, settings } => out.push(Out::Joined(mesh, settings)),
            joining::Effect::Note(text) => out.push(Out::Say(text)),
            joining::Effect::End(reason) => out.push(Out::End(reason)),
        }
    }

    fn route_election(&mut self, effect: election::Effect, out: &mut Vec<Out>) {
        match effect {
            election::Effect::Persist(save) => out.push(Out::Persist(save)),
            election::Effect::Send { to, message } => self.send(to, PeerMessage::Election(message), out),
            election::Effect::Publish(published) => {
                self.published = Some(published.clone());
                out.push(Out::Published(published.clone()));
                self.mail.push_back(Mail::Heartbeat(heartbeat::Input::Published(published)));
            }
            election::Effect::Proposed { request, outcome } => {
                self.mail.push_back(Mail::Ownership(ownership::Input::Proposed { request, outcome }));
            }
            election::Effect::Confirmed { ask, term, version } => {
                self.mail.push_back(Mail::Heartbeat(heartbeat::Input::Confirmed { ask, term, version }));
            }
            election::Effect::Again { ask } => {
                self.mail.push_back(Mail::Heartbeat(heartbeat::Input::Again { ask }));
            }
            election::Effect::Note(event) => out.push(Out::Note(event)),
            election::Effect::End(reason) | election::Effect::Removed(reason) => out.push(Out::End(reason)),
        }
    }

    fn route_heartbeat(&mut self, effect: heartbeat::Effect, out: &mut Vec<Out>) {
        match effect {
            heartbeat::Effect::Send { to, message } => self.send(to, PeerMessage::Heartbeat(message), out),
            heartbeat::Effect::Confirm { ask } => {
                self.mail.push_back(Mail::Election(election::Input::Confirm { ask }));
            }
            heartbeat::Effect::Adopt(adoption) => {
                self.tell_stores(|| store::Input::Adopt(adoption.clone()));
                self.mail.push_back(Mail::Door(door::Input::Adopt(adoption.clone())));
                self.mail.push_back(Mail::Ownership(ownership::Input::Adopt(adoption)));
            }
            heartbeat::Effect::Leases(leases) => self.tell_stores(|| store::Input::Leases(leases.clone())),
            heartbeat::Effect::Hears(nodes) => {
                self.mail.push_back(Mail::Election(election::Input::Hears(nodes)));
            }
            heartbeat::Effect::Suspect { node, incarnation, evidence, gone } => {
                self.mail.push_back(Mail::Ownership(ownership::Input::Suspect { node, incarnation, evidence, gone }));
            }
            heartbeat::Effect::Alive { node, incarnation, ailing } => {
                self.mail.push_back(Mail::Ownership(ownership::Input::Alive { node, incarnation, ailing }));
            }
            heartbeat::Effect::Apart { by, about, lasting } => {
                self.mail.push_back(Mail::Ownership(ownership::Input::Apart { by, about, lasting }));
            }
            heartbeat::Effect::Expired { node, incarnation, silent_for } => {
                self.mail.push_back(Mail::Ownership(ownership::Input::Expired { node, incarnation, silent_for }));
            }
            // Nobody looks at it here; at the end of long moves there is a note.
            heartbeat::Effect::Progress(_) => {}
            heartbeat::Effect::Note(event) => out.push(Out::Note(event)),
        }
    }

    fn route_ownership(&mut self, effect: ownership::Effect, out: &mut Vec<Out>) {
        match effect {
            ownership::Effect::Send { to, message } => self.send(to, PeerMessage::Ownership(message), out),
            ownership::Effect::Propose { request, command } => {
                out.push(Out::Proposed(command.clone()));
                self.mail.push_back(Mail::Election(election::Input::Propose { request, command }));
            }
            ownership::Effect::StepDown { to } => self.mail.push_back(Mail::Election(election::Input::StepDown { to })),
            ownership::Effect::Answer { connection, answer } => out.push(Out::JoinAnswer(connection, answer)),
            ownership::Effect::Ordered { id, result } => out.push(Out::Ordered(id, result)),
            ownership::Effect::Park { range, epoch } => {
                self.mail.push_back(Mail::Store(self.worker(range), store::Input::Park { range, epoch }));
            }
            ownership::Effect::Vouch { id, ranges } => {
                self.tell_stores(|| store::Input::Vouch { id, ranges: ranges.clone() });
            }
            ownership::Effect::Count { asker, id, range, epoch, from } => {
                let input = store::Input::Count { asker, id, range, epoch, from };
                self.mail.push_back(Mail::Store(self.worker(range), input));
            }
            ownership::Effect::Verified { id, result } => out.push(Out::Verified(id, result)),
            ownership::Effect::Moves { done, left } => {
                self.mail.push_back(Mail::Heartbeat(heartbeat::Input::Moves { done, left }));
            }
            ownership::Effect::Note(event) => out.push(Out::Note(event)),
            ownership::Effect::BeginAgain(reason) => out.push(Out::BeginAgain(reason)),
        }
    }

    fn route_store(&mut self, effect: store::Effect, out: &mut Vec<Out>) {
        match effect {
            store::Effect::Outcomes { ticket, from, outcomes } => self.on_outcomes(ticket, from, outcomes, out),
            store::Effect::Send { to, frame } => self.send(to, PeerMessage::Chain(frame), out),
            store::Effect::CaughtUp { range, epoch, joiner, incarnation } => {
                let input = ownership::Input::CaughtUp { range, epoch, joiner, incarnation };
                self.mail.push_back(Mail::Ownership(input));
            }
            store::Effect::Parked { range, epoch } => {
                self.mail.push_back(Mail::Ownership(ownership::Input::Parked { range, epoch }));
            }
            store::Effect::Vouched { id, ranges } => {
                self.mail.push_back(Mail::Ownership(ownership::Input::Vouched { id, ranges }));
            }
            store::Effect::Counted { asker, id, counted } => {
                self.mail.push_back(Mail::Ownership(ownership::Input::Counted { asker, id, counted }));
            }
        }
    }

    fn route_door(&mut self, effect: door::Effect, out: &mut Vec<Out>) {
        match effect {
            door::Effect::Local { ticket, requests } => self.ask_stores(Asker::Door { ticket }, requests),
            door::Effect::Carry { to, id, requests } => {
                self.send(to, PeerMessage::Relay(RelayMessage::Carry { id, requests }), out);
            }
            door::Effect::Answer { ticket, place, reply } => out.push(Out::Answer(ticket, place, reply)),
            door::Effect::Unreachable(peer) => {
                self.mail.push_back(Mail::Heartbeat(heartbeat::Input::Unreachable(peer, Silence::Unreachable)));
            }
        }
    }

    fn tell_stores(&mut self, input: impl Fn() -> store::Input) {
        self.mail.extend((0..self.stores.len()).map(|worker| Mail::Store(worker, input())));
    }

    /// What a node says to itself does not leave it.
    fn send(&mut self, to: NodeId, message: PeerMessage, out: &mut Vec<Out>) {
        let (me, incarnation) = self.me();
        if to != me {
            return out.push(Out::Send(to, message));
        }
        let mail = match message {
            PeerMessage::Election(message) => Mail::Election(election::Input::Peer { from: me, message }),
            PeerMessage::Heartbeat(message) => {
                Mail::Heartbeat(heartbeat::Input::Peer { from: me, incarnation, message })
            }
            PeerMessage::Ownership(message) => {
                Mail::Ownership(ownership::Input::Peer { from: me, incarnation, message })
            }
            PeerMessage::Chain(_) | PeerMessage::Relay(_) => panic!("{me:?} forwards to itself: {message:?}"),
        };
        self.mail.push_back(mail);
    }

    /// A batch goes to the stores in parts, each its own.
    fn ask_stores(&mut self, asker: Asker, requests: Vec<Request>) {
        let from = match asker {
            Asker::Door { .. } => self.me().0,
            Asker::Peer { node, .. } => node,
        };
        let mut parts: BTreeMap<usize, Part> = BTreeMap::new();
        for (place, request) in requests.into_iter().enumerate() {
            let part = parts.entry(self.worker(request.range)).or_default();
            part.0.push((place as u32, request.range));
            part.1.push(request);
        }
        for (worker, (commands, requests)) in parts {
            self.tickets += 1;
            let ticket = self.tickets;
            self.asked.insert(ticket, Asked { asker, left: commands.len(), commands });
            self.mail.push_back(Mail::Store(worker, store::Input::Batch { ticket, from, requests }));
        }
    }

    fn on_outcomes(&mut self, ticket: u64, from: u32, outcomes: Vec<Outcome>, out: &mut Vec<Out>) {
        let asked = self.asked.get_mut(&ticket).expect("outcomes belong to a batch, each to one command");
        asked.left = asked.left.checked_sub(outcomes.len()).expect("every command has one outcome");
        let asker = asked.asker;
        let commands: Vec<(u32, RangeId)> = asked.commands[from as usize..][..outcomes.len()].to_vec();
        if asked.left == 0 {
            self.asked.remove(&ticket);
        }
        for ((place, range), outcome) in commands.into_iter().zip(outcomes) {
            if matches!(outcome, Outcome::Replied(_)) {
                // Now, for it may hear of another before what it has said is looked at.
                let chain = self.store_of(range).chain(range).cloned();
                out.extend(chain.map(|chain| Out::Executed(range, chain)));
            }
            let outcomes = vec![outcome];
            match asker {
                Asker::Door { ticket } => {
                    self.mail.push_back(Mail::Door(door::Input::Outcomes { ticket, from: place, outcomes }));
                }
                Asker::Peer { connection, id, .. } => {
                    let carried = RelayMessage::Carried { id, from: place, outcomes };
                    out.push(Out::SendBack(connection, PeerMessage::Relay(carried)));
                }
            }
        }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("setup", &self.setup).field("published", &self.published).finish_non_exhaustive()
    }
}
