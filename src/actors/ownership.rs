//! The postman of the ownership machine: brings it strangers who ask to join and operators' orders, and their answers back.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix::{Actor, Context, Handler, Message};
use tokio::sync::oneshot;

use crate::actors::heartbeat::Begin;
use crate::actors::node::Node;
use crate::actors::post::{Desk, Postman, deliver};
use crate::actors::supervisor::Ending;
use crate::machines::ownership::{self, Effect, Input};
use crate::machines::{election, heartbeat, store};
use crate::messages::ownership::{Candidate, JoinAnswer, Order};
use crate::messages::peer::PeerMessage;
use crate::messages::status::Verification;
use crate::types::{Now, RangeId};

impl Message for Input {
    type Result = ();
}

/// A stranger asks to join, in a connection that waits for the answer.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct AskToJoin {
    /// Who asks.
    pub candidate: Candidate,
    /// Where the answer goes.
    pub answer: oneshot::Sender<JoinAnswer>,
}

/// An operator at this node orders something, and waits.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Ordering {
    /// What.
    pub order: Order,
    /// Where the answer goes: lines for the operator, or why not.
    pub answer: oneshot::Sender<Result<Vec<String>, String>>,
}

/// An operator at this node asks how copies compare, and waits.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Verifying {
    /// Of this range, or of all.
    pub range: Option<RangeId>,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Result<Verification, String>>,
}

/// The actor around the ownership machine.
pub struct Ownership {
    node: Arc<Node>,
    desk: Desk<ownership::Ownership>,
    /// Names given to connections and orders.
    last: u64,
    joining: BTreeMap<u64, oneshot::Sender<JoinAnswer>>,
    orders: BTreeMap<u64, oneshot::Sender<Result<Vec<String>, String>>>,
    verifying: BTreeMap<u64, oneshot::Sender<Result<Verification, String>>>,
    /// Askings that not all stores have answered: how many have, and for which ranges.
    vouching: BTreeMap<u64, (usize, Vec<RangeId>)>,
}

impl Ownership {
    /// With a machine that has heard nothing yet.
    pub fn new(node: Arc<Node>, machine: ownership::Ownership) -> Self {
        Self {
            node,
            desk: Desk::new(machine),
            last: 0,
            joining: BTreeMap::new(),
            orders: BTreeMap::new(),
            verifying: BTreeMap::new(),
            vouching: BTreeMap::new(),
        }
    }

    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// The machine asked this node, not a store: it is told when all of them have answered.
    fn on_vouched(&mut self, id: u64, ranges: Vec<RangeId>, context: &mut Context<Self>) {
        let Some((answered, all)) = self.vouching.get_mut(&id) else { return };
        *answered += 1;
        all.extend(ranges);
        if *answered == self.node.workers
            && let Some((_, mut ranges)) = self.vouching.remove(&id)
        {
            ranges.sort_unstable();
            self.tell(Input::Vouched { id, ranges }, context);
        }
    }

    fn store_of(&self, range: RangeId) -> usize {
        range.0 as usize % self.node.workers
    }
}

impl Actor for Ownership {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        context.set_mailbox_capacity(self.node.surroundings.mailbox());
    }

    fn stopped(&mut self, _context: &mut Context<Self>) {
        self.node.end_by_error("the ownership actor stopped");
    }
}

impl Handler<Begin> for Ownership {
    type Result = ();

    fn handle(&mut self, _: Begin, context: &mut Context<Self>) {
        self.wind(context);
    }
}

impl Handler<Input> for Ownership {
    type Result = ();

    fn handle(&mut self, input: Input, context: &mut Context<Self>) {
        match input {
            Input::Vouched { id, ranges } => self.on_vouched(id, ranges, context),
            input => self.tell(input, context),
        }
    }
}

impl Handler<AskToJoin> for Ownership {
    type Result = ();

    fn handle(&mut self, ask: AskToJoin, context: &mut Context<Self>) {
        // Those whose connection has ended wait for nothing any more.
        self.joining.retain(|_, answer| !answer.is_closed());
        let connection = self.next();
        self.joining.insert(connection, ask.answer);
        self.tell(Input::Joining { connection, candidate: ask.candidate }, context);
    }
}

impl Handler<Ordering> for Ownership {
    type Result = ();

    fn handle(&mut self, ordering: Ordering, context: &mut Context<Self>) {
        self.orders.retain(|_, answer| !answer.is_closed());
        let id = self.next();
        self.orders.insert(id, ordering.answer);
        self.tell(Input::Order { id, order: ordering.order }, context);
    }
}

impl Handler<Verifying> for Ownership {
    type Result = ();

    fn handle(&mut self, verifying: Verifying, context: &mut Context<Self>) {
        let id = self.next();
        self.verifying.insert(id, verifying.answer);
        self.tell(Input::Verify { id, range: verifying.range }, context);
    }
}

impl Postman for Ownership {
    type Machine = ownership::Ownership;

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
        let crew = self.node.crew();
        match effect {
            Effect::Send { to, message } => {
                let _ = self.node.say(to, PeerMessage::Ownership(message));
            }
            Effect::Propose { request, command } => {
                if let Some(election) = self.node.election() {
                    deliver(election, election::Input::Propose { request, command });
                }
            }
            Effect::StepDown { to } => {
                if let Some(election) = self.node.election() {
                    deliver(election, election::Input::StepDown { to });
                }
            }
            Effect::Answer { connection, answer } => {
                if let Some(waiting) = self.joining.remove(&connection) {
                    let _ = waiting.send(answer);
                }
            }
            Effect::Ordered { id, result } => {
                if let Some(waiting) = self.orders.remove(&id) {
                    let _ = waiting.send(result);
                }
            }
            Effect::Park { range, epoch } => {
                deliver(&crew.stores[self.store_of(range)], store::Input::Park { range, epoch });
            }
            Effect::Vouch { id, ranges } => {
                self.vouching.insert(id, (0, Vec::new()));
                for store in &crew.stores {
                    deliver(store, store::Input::Vouch { id, ranges: ranges.clone() });
                }
            }
            Effect::Count { asker, id, range, epoch, from } => {
                let input = store::Input::Count { asker, id, range, epoch, from };
                deliver(&crew.stores[self.store_of(range)], input);
            }
            Effect::Verified { id, result } => {
                if let Some(waiting) = self.verifying.remove(&id) {
                    let _ = waiting.send(result);
                }
            }
            Effect::Moves { done, left } => {
                deliver(&crew.heartbeat, heartbeat::Input::Moves { done, left });
            }
            Effect::Note(event) => self.node.note(event),
            Effect::BeginAgain(why) => self.node.end(why, Ending::BeginAgain),
        }
    }
}
