//! The way of a client's command: to the node that heads its range, wherever that is, and back.
//!
//! A door never decides who heads a range; it goes by the dictionary, and while that is in motion it holds commands rather
//! than refuse them: a client then sees latency, not errors. A command is *parked* (nothing of it has happened) or *sent*
//! (its fate is the other side's to tell). From this follows the rule of G25: it is sent again only after the other side
//! said that it was not applied, or when none of its bytes had left; a read may be sent again besides. When the holding time
//! is over, a parked command is refused with a word that clients resend on; a sent write whose answer will not come is
//! `UNCERTAIN`, which no client resends by itself.
//!
//! Commands of one session for one range keep their order: none is sent while an earlier one is parked, or flies to another
//! node. One that comes back not applied after a later one was carried out is refused rather than applied out of order.
//!
//! `parking` holds and resumes, `outcomes` hears what became of what was sent, `refusals` are the words. Not here: which
//! range a command belongs to (sessions), and whether a head may answer (`chain`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use self::refusals::Why;
use self::traffic::{Batch, Destination, Entry, Flight, Outgoing, Path, Sent, Traffic, Which};
use crate::machines::Machine;
use crate::machines::heartbeat::Adoption;
use crate::messages::client::{Outcome, Reply, Request};
use crate::types::{Incarnation, Instant, NodeId, Now, RangeId};

mod outcomes;
mod parking;
mod refusals;
#[cfg(test)]
mod tests;
mod traffic;

/// How a door is set up.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// This node.
    pub me: NodeId,
    /// Its life.
    pub incarnation: Incarnation,
    /// How long a command is held while its range changes hands (`client.park`).
    pub park: Duration,
}

/// Over the holding time, how long a command that was sent may stay unanswered: the other side holds it for as long as this
/// one would, and then a link or a stopped process is given this much to be noticed.
const GRACE: Duration = Duration::from_secs(1);

/// The most that is parked in one door; more is refused at once.
const PARKED: usize = 65_536;
/// The same in bytes.
const PARKED_BYTES: usize = 64 << 20;
/// The most commands of one `Carry`.
const CARRY: usize = 512;
/// The most bytes of one `Carry`; a larger command travels alone.
const CARRY_BYTES: usize = 1 << 20;

/// What a door machine can be told.
#[derive(Clone, Debug)]
pub enum Input {
    /// The deadline has come.
    Timer,
    /// This is agreed now (from the heartbeat machine).
    Adopt(Arc<Adoption>),
    /// A session has commands. Answered by one `Effect::Answer` for each, in any order.
    Submit {
        /// Names the batch; unique in this door.
        ticket: u64,
        /// Names the session; unique in this door. Its commands for one range are applied in the order they came in.
        session: u64,
        /// The commands.
        requests: Vec<Request>,
        /// Whether this door passes on what another node heads (plain) or says MOVED (cluster).
        passes_on: bool,
    },
    /// A local store says what became of commands.
    Outcomes {
        /// Which batch: the name that `Effect::Local` gave it.
        ticket: u64,
        /// Place of the first.
        from: u32,
        /// One a command.
        outcomes: Vec<Outcome>,
    },
    /// Another node says what became of commands.
    Carried {
        /// Which node.
        peer: NodeId,
        /// Which batch (`Effect::Carry`).
        id: u64,
        /// Place of the first.
        from: u32,
        /// One a command.
        outcomes: Vec<Outcome>,
    },
    /// A batch could not be handed to the link: none of its bytes has left. Told before the `LinkDown` of the same break,
    /// or what could be sent again is called uncertain.
    NotSent {
        /// To whom.
        peer: NodeId,
        /// Which batch.
        id: u64,
    },
    /// The data link to a node broke: what was sent and not answered is unknown.
    LinkDown(NodeId),
    /// The data link to a node is there.
    LinkUp(NodeId),
}

/// What a door machine can ask for.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// To the local stores: carry these out (the postman splits them by worker if there are several).
    Local {
        /// Names the batch: the door's own name, no session's ticket.
        ticket: u64,
        /// The commands.
        requests: Vec<Request>,
    },
    /// To another node: carry these out (`RelayMessage::Carry`).
    Carry {
        /// To whom.
        to: NodeId,
        /// Names the batch in this door; never used again. A node of several doors makes it unique among them.
        id: u64,
        /// The commands.
        requests: Vec<Request>,
    },
    /// The answer to one command of a session's batch.
    Answer {
        /// Which batch.
        ticket: u64,
        /// Which command of it.
        place: u32,
        /// What it is told.
        reply: Reply,
    },
    /// A node could not be reached for clients' commands (to the heartbeat machine).
    Unreachable(NodeId),
}

/// The machine. One a worker thread.
#[derive(Debug)]
pub struct Door {
    config: Config,
    adoption: Option<Arc<Adoption>>,
    /// What sessions asked and was not wholly answered yet, by our own number.
    batches: BTreeMap<u64, Batch>,
    /// What was sent and not wholly answered yet, oldest first.
    sent: BTreeMap<u64, Sent>,
    batch: u64,
    carry: u64,
    /// Range by range, what is under way.
    traffic: Vec<Traffic>,
    /// All that is parked, oldest first: so also in the order in which it ends.
    parked: BTreeSet<Which>,
    parked_bytes: usize,
    /// Ranges with something parked.
    standing: BTreeSet<RangeId>,
    /// Ranges that are tried again by time.
    retries: BTreeSet<(Instant, RangeId)>,
    paths: BTreeMap<NodeId, Path>,
    /// What this step sends.
    outgoing: Vec<Outgoing>,
}

/// Where a command would go now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    To(Destination),
    /// Nobody who could answer is listed.
    Nobody,
}

/// What is done with a command now.
enum Turn {
    Send(Destination),
    Park(Why),
    Moved(NodeId),
}

impl Machine for Door {
    type Input = Input;
    type Effect = Effect;

    fn step(&mut self, now: Now, input: Input, effects: &mut Vec<Effect>) {
        let now = now.instant;
        match input {
            Input::Timer => self.on_timer(now, effects),
            Input::Adopt(adoption) => self.on_adopt(now, adoption, effects),
            Input::Submit { ticket, session, requests, passes_on } => {
                self.on_submit(now, (ticket, session), requests, passes_on, effects);
            }
            Input::Outcomes { ticket, from, outcomes } => self.on_outcomes(now, None, ticket, from, outcomes, effects),
            Input::Carried { peer, id, from, outcomes } => {
                self.on_outcomes(now, Some(peer), id, from, outcomes, effects)
            }
            Input::NotSent { peer, id } => self.on_not_sent(now, peer, id, effects),
            Input::LinkDown(peer) => self.on_link_down(now, peer, effects),
            Input::LinkUp(peer) => self.on_link_up(now, peer, effects),
        }
        self.perform_send(now, effects);
    }

    fn deadline(&self) -> Option<Instant> {
        let parked = self.parked.first().map(|which| self.batches[&which.batch].end);
        let sent = self.sent.first_key_value().map(|(_, sent)| sent.at + self.bound());
        let retry = self.retries.first().map(|(at, _)| *at);
        let paths = self.paths.values().filter_map(Path::deadline);
        [parked, sent, retry].into_iter().flatten().chain(paths).min()
    }
}

impl Door {
    /// A door that knows no dictionary yet, and parks all.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            adoption: None,
            batches: BTreeMap::new(),
            sent: BTreeMap::new(),
            batch: 0,
            carry: 0,
            traffic: Vec::new(),
            parked: BTreeSet::new(),
            parked_bytes: 0,
            standing: BTreeSet::new(),
            retries: BTreeSet::new(),
            paths: BTreeMap::new(),
            outgoing: Vec::new(),
        }
    }

    /// How long after its sending a command is waited for.
    fn bound(&self) -> Duration {
        self.config.park + GRACE
    }

    fn on_submit(
        &mut self,
        now: Instant,
        (ticket, session): (u64, u64),
        requests: Vec<Request>,
        passes_on: bool,
        effects: &mut Vec<Effect>,
    ) {
        if requests.is_empty() {
            return;
        }
        self.batch += 1;
        let (batch, open) = (self.batch, requests.len() as u32);
        let ranges: Vec<RangeId> = requests.iter().map(|request| request.range).collect();
        let commands = requests.into_iter().map(|request| Entry::new(Request { session, ..request })).collect();
        let end = now + self.config.park;
        self.batches.insert(batch, Batch { ticket, session, end, passes_on, commands, open });
        for (place, range) in ranges.into_iter().enumerate() {
            let which = Which { batch, place: place as u32 };
            match self.turn(now, session, range, passes_on) {
                Turn::Send(to) => self.send(which, to),
                Turn::Park(why) => self.park(now, which, why, effects),
                Turn::Moved(node) => self.answer(which, self.moved(node, which), effects),
            }
        }
    }

    /// What to do with a new command of this session for this range.
    fn turn(&mut self, now: Instant, session: u64, range: RangeId, passes_on: bool) -> Turn {
        let Route::To(to) = self.route(range) else { return Turn::Park(Why::Moving) };
        if let Destination::There(node, _) = to {
            if !passes_on {
                return if self.is_unsettled(now, node) { Turn::Park(Why::Unreachable) } else { Turn::Moved(node) };
            }
            if self.paths.get(&node).is_some_and(Path::is_blocked) {
                return Turn::Park(Why::Unreachable);
            }
        }
        let traffic = self.traffic_of(range);
        if traffic.not_before.is_some_and(|at| now < at) {
            return Turn::Park(Why::Moving);
        }
        let late =
            traffic.elsewhere > 0 && traffic.flying.iter().any(|flight| flight.session == session && flight.to != to);
        if late || self.has_parked(session, range) {
            return Turn::Park(Why::Order);
        }
        Turn::Send(to)
    }

    /// Who heads a range, by the newest dictionary here: none while the listed head is known to be dead, or is an earlier
    /// life of this node.
    fn route(&self, range: RangeId) -> Route {
        let Some(adoption) = &self.adoption else { return Route::Nobody };
        let dictionary = &adoption.published.dictionary;
        let head = dictionary.chains.get(range.0 as usize).and_then(|chain| chain.head());
        match head {
            Some(head) if head.node == self.config.me && head.incarnation == self.config.incarnation => {
                Route::To(Destination::Here)
            }
            Some(head) if head.node != self.config.me && self.may_live(head.node, head.incarnation) => {
                Route::To(Destination::There(head.node, head.incarnation))
            }
            _ => Route::Nobody,
        }
    }

    /// Whether this life is on the roster and not known to be over.
    fn may_live(&self, node: NodeId, incarnation: Incarnation) -> bool {
        self.adoption.as_ref().is_some_and(|adoption| !adoption.published.dictionary.is_dead(node, incarnation))
    }

    fn traffic_of(&mut self, range: RangeId) -> &mut Traffic {
        let place = range.0 as usize;
        if self.traffic.len() <= place {
            self.traffic.resize_with(place + 1, Traffic::default);
        }
        &mut self.traffic[place]
    }

    /// Puts a command on its way; it leaves at the end of this step, with all others of this step that go there.
    fn send(&mut self, which: Which, to: Destination) {
        let Some(batch) = self.batches.get(&which.batch) else { return };
        let Some(request) = batch.commands[which.place as usize].request.clone() else { return };
        let (session, range, bytes) = (batch.session, request.range, refusals::bytes_of(&request));
        let place = self.outgoing.iter().rposition(|outgoing| outgoing.to == to);
        let place = place.filter(|place| to == Destination::Here || self.outgoing[*place].takes(bytes));
        let place = place.unwrap_or_else(|| {
            self.carry += 1;
            self.outgoing.push(Outgoing::new(self.carry, to));
            self.outgoing.len() - 1
        });
        let outgoing = &mut self.outgoing[place];
        let flight = Flight { which, session, to, carry: outgoing.id, slot: outgoing.slots.len() as u32 };
        outgoing.add(which, request, bytes);
        self.traffic_of(range).flying.push_back(flight);
    }

    fn perform_send(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        for Outgoing { id, to, requests, slots, .. } in self.outgoing.drain(..) {
            let open = slots.len() as u32;
            self.sent.insert(id, Sent { to, at: now, slots: slots.into_iter().map(Some).collect(), open });
            effects.push(match to {
                Destination::Here => Effect::Local { ticket: id, requests },
                Destination::There(node, _) => Effect::Carry { to: node, id, requests },
            });
        }
    }

    /// Answers a command; nothing is left of it but flights that will be ignored.
    fn answer(&mut self, which: Which, reply: Reply, effects: &mut Vec<Effect>) {
        let Some(batch) = self.batches.get_mut(&which.batch) else { return };
        let answered = batch.commands[which.place as usize].request.take();
        assert!(answered.is_some(), "command {which:?} is answered twice");
        effects.push(Effect::Answer { ticket: batch.ticket, place: which.place, reply });
        batch.open -= 1;
        if batch.open == 0 {
            self.batches.remove(&which.batch);
        }
    }
}
