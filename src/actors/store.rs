//! The postman of a store machine: one on each worker thread, which owns the ranges whose number, modulo the workers, is its own.
//!
//! It is asked in batches, by the doors of this node and by other nodes, and answers in parts as things become certain. All
//! outcomes of one step that follow each other in a batch leave as one message.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::{Actor, Addr, Context, Handler, Message};

use crate::actors::door::Door;
use crate::actors::heartbeat::{AreYouWell, Begin, Well};
use crate::actors::node::Node;
use crate::actors::outbox::Outbox;
use crate::actors::post::{Desk, Postman, deliver, offer};
use crate::actors::switchboard;
use crate::machines::store::{self, Effect, Input, Transfers};
use crate::machines::{door, ownership};
use crate::messages::client::{Outcome, RelayMessage, Request};
use crate::messages::peer::PeerMessage;
use crate::types::{Instant, NodeId, Now, RangeId};

impl Message for Input {
    type Result = ();
}

/// How often what is held is counted.
const COUNTING: Duration = Duration::from_secs(1);

/// Carry these out.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Batch {
    /// Who asks.
    pub asker: Asker,
    /// The commands, all of this store's ranges.
    pub requests: Vec<Request>,
    /// Where they stood in the asker's batch, when that was split between several stores.
    pub places: Option<Vec<u32>>,
}

/// Who waits for outcomes.
#[derive(Clone, Debug)]
pub enum Asker {
    /// A door of this node.
    Door {
        /// Which.
        door: Addr<Door>,
        /// Its name for the batch.
        ticket: u64,
    },
    /// Another node, over the connection by which it asked. When that has ended, it knows.
    Peer {
        /// Which.
        node: NodeId,
        /// What leaves on that connection.
        back: Arc<Outbox>,
        /// Its name for the batch.
        id: u64,
    },
}

/// A batch that is not wholly answered.
struct Asked {
    asker: Asker,
    places: Option<Vec<u32>>,
    left: usize,
}

/// Outcomes that follow each other in a batch.
struct Run {
    ticket: u64,
    from: u32,
    outcomes: Vec<Outcome>,
}

/// The actor around a store machine.
pub struct Store {
    node: Arc<Node>,
    worker: usize,
    desk: Desk<store::Store>,
    last: u64,
    asked: HashMap<u64, Asked>,
    /// What became certain in this step.
    runs: Vec<Run>,
    /// When what is held was last counted.
    counted: Cell<Instant>,
}

impl Store {
    /// The one of this worker.
    pub fn new(node: Arc<Node>, worker: usize, machine: store::Store) -> Self {
        Self {
            node,
            worker,
            desk: Desk::new(machine),
            last: 0,
            asked: HashMap::new(),
            runs: Vec::new(),
            counted: Cell::default(),
        }
    }

    /// Keeps outcomes until the step is over, beside those they follow.
    fn keep(&mut self, ticket: u64, from: u32, outcomes: Vec<Outcome>) {
        match self.runs.last_mut() {
            Some(run) if run.ticket == ticket && run.from as usize + run.outcomes.len() == from as usize => {
                run.outcomes.extend(outcomes);
            }
            _ => self.runs.push(Run { ticket, from, outcomes }),
        }
    }

    /// Counts what is held, for `INFO`.
    fn count(&self) {
        let now = self.node.now().instant;
        if now.since(self.counted.get()) < COUNTING {
            return;
        }
        self.counted.set(now);
        let Some(published) = self.node.published() else { return };
        let machine = self.desk.machine();
        let me = (self.node.me.id, self.node.me.incarnation);
        let heads = |range: &RangeId| {
            let chain = published.dictionary.chains.get(usize::from(range.0));
            chain.and_then(|chain| chain.head()).is_some_and(|head| (head.node, head.incarnation) == me)
        };
        let headed = machine.ranges().filter(heads).filter_map(|range| machine.keyspace(range));
        let (keys, expiring) =
            headed.fold((0, 0), |(keys, ends), keyspace| (keys + keyspace.len(), ends + keyspace.expiring()));
        let tally = &self.node.tallies[self.worker];
        tally.keys.store(keys as u64, Ordering::Relaxed);
        tally.expiring.store(expiring as u64, Ordering::Relaxed);
        tally.bytes.store(machine.memory() as u64, Ordering::Relaxed);
        let Transfers { entries_streamed, bytes_streamed, writes_repaired, streamings, recipes_sent, recipes_refused } =
            machine.transfers();
        tally.entries_streamed.store(entries_streamed, Ordering::Relaxed);
        tally.bytes_streamed.store(bytes_streamed, Ordering::Relaxed);
        tally.writes_repaired.store(writes_repaired, Ordering::Relaxed);
        tally.streamings.store(streamings, Ordering::Relaxed);
        tally.recipes_sent.store(recipes_sent, Ordering::Relaxed);
        tally.recipes_refused.store(recipes_refused, Ordering::Relaxed);
    }

    fn answer(&mut self, run: Run) {
        let Some(asked) = self.asked.get_mut(&run.ticket) else { return };
        asked.left = asked.left.saturating_sub(run.outcomes.len());
        let asker = asked.asker.clone();
        let places = asked.places.take();
        match &places {
            None => asker.answer(run.from, run.outcomes),
            Some(places) => {
                for (from, outcomes) in spread(places, run.from, run.outcomes) {
                    asker.answer(from, outcomes);
                }
            }
        }
        if asked.left == 0 {
            self.asked.remove(&run.ticket);
        } else {
            asked.places = places;
        }
    }
}

/// Outcomes of a part, as runs in the batch it was cut from.
fn spread(places: &[u32], from: u32, outcomes: Vec<Outcome>) -> Vec<(u32, Vec<Outcome>)> {
    let mut runs: Vec<(u32, Vec<Outcome>)> = Vec::new();
    for (place, outcome) in places[from as usize..].iter().zip(outcomes) {
        match runs.last_mut() {
            Some((from, run)) if *from as usize + run.len() == *place as usize => run.push(outcome),
            _ => runs.push((*place, vec![outcome])),
        }
    }
    runs
}

impl Asker {
    /// Says what became of commands.
    pub fn answer(&self, from: u32, outcomes: Vec<Outcome>) {
        match self {
            Self::Door { door, ticket } => {
                deliver(door, door::Input::Outcomes { ticket: *ticket, from, outcomes });
            }
            Self::Peer { back, id, .. } => {
                let message = PeerMessage::Relay(RelayMessage::Carried { id: *id, from, outcomes });
                // Not taken: the connection is gone or will be broken, and the asker calls the outcome unknown.
                let _ = switchboard::push(back, &message);
            }
        }
    }
}

impl Actor for Store {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        context.set_mailbox_capacity(self.node.surroundings.mailbox());
    }

    fn stopped(&mut self, _context: &mut Context<Self>) {
        self.node.end_by_error("a store actor stopped");
    }
}

impl Handler<Begin> for Store {
    type Result = ();

    fn handle(&mut self, _: Begin, context: &mut Context<Self>) {
        self.wind(context);
    }
}

impl Handler<AreYouWell> for Store {
    type Result = ();

    fn handle(&mut self, _: AreYouWell, _context: &mut Context<Self>) {
        self.count();
        offer(&self.node.crew().heartbeat, Well { worker: self.worker });
    }
}

impl Handler<Batch> for Store {
    type Result = ();

    fn handle(&mut self, batch: Batch, context: &mut Context<Self>) {
        self.last += 1;
        let ticket = self.last;
        let asked = Asked { asker: batch.asker, places: batch.places, left: batch.requests.len() };
        let from = match &asked.asker {
            Asker::Door { .. } => self.node.me.id,
            Asker::Peer { node, .. } => *node,
        };
        self.asked.insert(ticket, asked);
        self.tell(Input::Batch { ticket, from, requests: batch.requests }, context);
    }
}

impl Handler<Input> for Store {
    type Result = ();

    fn handle(&mut self, input: Input, context: &mut Context<Self>) {
        self.tell(input, context);
    }
}

impl Postman for Store {
    type Machine = store::Store;

    fn now(&self) -> Now {
        self.node.now()
    }

    fn desk(&mut self) -> &mut Desk<Self::Machine> {
        &mut self.desk
    }

    fn timer() -> Input {
        Input::Timer
    }

    fn perform(&mut self, effect: Effect, _context: &mut Context<Self>) {
        match effect {
            Effect::Outcomes { ticket, from, outcomes } => self.keep(ticket, from, outcomes),
            Effect::Send { to, frame } => {
                // Not taken: there is no connection, or it will be broken for this; the machine hears of both.
                let _ = self.node.say(to, PeerMessage::Chain(frame));
            }
            Effect::CaughtUp { range, epoch, joiner, incarnation } => {
                let input = ownership::Input::CaughtUp { range, epoch, joiner, incarnation };
                deliver(&self.node.crew().ownership, input);
            }
            Effect::Parked { range, epoch } => {
                deliver(&self.node.crew().ownership, ownership::Input::Parked { range, epoch });
            }
            Effect::Vouched { id, ranges } => {
                deliver(&self.node.crew().ownership, ownership::Input::Vouched { id, ranges });
            }
            Effect::Counted { asker, id, counted } => {
                deliver(&self.node.crew().ownership, ownership::Input::Counted { asker, id, counted });
            }
        }
    }

    fn performed(&mut self, _context: &mut Context<Self>) {
        for run in std::mem::take(&mut self.runs) {
            self.answer(run);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::client::Reply;

    #[test]
    fn outcomes_of_a_part_find_their_places() {
        let outcome = |n: i64| Outcome::Replied(Reply::Integer(n));
        let runs = spread(&[0, 2, 3, 7], 1, vec![outcome(2), outcome(3), outcome(7)]);
        assert_eq!(runs, vec![(2, vec![outcome(2), outcome(3)]), (7, vec![outcome(7)])]);
    }
}
