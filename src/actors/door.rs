//! The postman of a door machine: one on each worker thread, for the sessions of that thread.
//!
//! A session hands in the commands of one read as one batch. The machine says what goes to the stores of this node (split by
//! worker where there are several) and what is carried to others; its answers of one step leave as one message a session.

use std::collections::HashMap;
use std::sync::Arc;

use actix::{Actor, Addr, AsyncContext, Context, Handler, Message};

use crate::actors::heartbeat::Begin;
use crate::actors::node::Node;
use crate::actors::post::{Desk, Postman, deliver, offer};
use crate::actors::session::Session;
use crate::actors::store::{Asker, Batch};
use crate::machines::door::{self, Effect, Input};
use crate::machines::heartbeat;
use crate::messages::client::{RelayMessage, Reply, Request};
use crate::messages::heartbeat::Silence;
use crate::messages::peer::PeerMessage;
use crate::types::Now;

impl Message for Input {
    type Result = ();
}

/// A session has commands.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Submit {
    /// Which session.
    pub session: Addr<Session>,
    /// Its number.
    pub client: u64,
    /// The commands.
    pub requests: Vec<Request>,
    /// Whether this is the plain door.
    pub passes_on: bool,
}

/// What commands of a session's batch are told.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Answers(pub Vec<(u32, Reply)>);

struct Asked {
    session: Addr<Session>,
    left: usize,
}

/// The actor around a door machine.
pub struct Door {
    node: Arc<Node>,
    worker: usize,
    desk: Desk<door::Door>,
    last: u64,
    asked: HashMap<u64, Asked>,
    /// Answers of this step.
    answers: Vec<(u64, Vec<(u32, Reply)>)>,
}

impl Door {
    /// The one of this worker.
    pub fn new(node: Arc<Node>, worker: usize, machine: door::Door) -> Self {
        Self { node, worker, desk: Desk::new(machine), last: 0, asked: HashMap::new(), answers: Vec::new() }
    }

    fn keep(&mut self, ticket: u64, place: u32, reply: Reply) {
        match self.answers.last_mut() {
            Some((last, answers)) if *last == ticket => answers.push((place, reply)),
            _ => self.answers.push((ticket, vec![(place, reply)])),
        }
    }

    fn answer(&mut self, ticket: u64, answers: Vec<(u32, Reply)>) {
        let Some(asked) = self.asked.get_mut(&ticket) else { return };
        asked.left = asked.left.saturating_sub(answers.len());
        deliver(&asked.session, Answers(answers));
        if asked.left == 0 {
            self.asked.remove(&ticket);
        }
    }

    /// To the stores of this node, each its own.
    fn ask_stores(&self, ticket: u64, requests: Vec<Request>, context: &Context<Self>) {
        let asker = Asker::Door { door: context.address(), ticket };
        for (store, batch) in split(requests, self.node.workers, &asker) {
            // Bounded by the clients of this node, as what they hand in is.
            deliver(&self.node.crew().stores[store], batch);
        }
    }
}

/// A batch as its parts, store by store.
pub fn split(requests: Vec<Request>, workers: usize, asker: &Asker) -> Vec<(usize, Batch)> {
    if workers == 1 {
        return vec![(0, Batch { asker: asker.clone(), requests, places: None })];
    }
    let mut parts: Vec<(Vec<Request>, Vec<u32>)> = (0..workers).map(|_| (Vec::new(), Vec::new())).collect();
    for (place, request) in requests.into_iter().enumerate() {
        let (requests, places) = &mut parts[request.range.0 as usize % workers];
        requests.push(request);
        places.push(place as u32);
    }
    parts
        .into_iter()
        .enumerate()
        .filter(|(_, (requests, _))| !requests.is_empty())
        .map(|(store, (requests, places))| (store, Batch { asker: asker.clone(), requests, places: Some(places) }))
        .collect()
}

impl Actor for Door {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        context.set_mailbox_capacity(self.node.surroundings.mailbox());
    }

    fn stopped(&mut self, _context: &mut Context<Self>) {
        self.node.end_by_error("a door actor stopped");
    }
}

impl Handler<Begin> for Door {
    type Result = ();

    fn handle(&mut self, _: Begin, context: &mut Context<Self>) {
        self.wind(context);
    }
}

impl Handler<Submit> for Door {
    type Result = ();

    fn handle(&mut self, submit: Submit, context: &mut Context<Self>) {
        self.last += 1;
        let ticket = self.last;
        self.asked.insert(ticket, Asked { session: submit.session.clone(), left: submit.requests.len() });
        let Submit { client: session, requests, passes_on, .. } = submit;
        let input = Input::Submit { ticket, session, requests, passes_on };
        self.tell(input, context);
    }
}

impl Handler<Input> for Door {
    type Result = ();

    fn handle(&mut self, input: Input, context: &mut Context<Self>) {
        self.tell(input, context);
    }
}

impl Postman for Door {
    type Machine = door::Door;

    fn now(&self) -> Now {
        self.node.now()
    }

    fn desk(&mut self) -> &mut Desk<Self::Machine> {
        &mut self.desk
    }

    fn timer() -> Input {
        Input::Timer
    }

    fn perform(&mut self, effect: Effect, context: &mut Context<Self>) {
        match effect {
            Effect::Local { ticket, requests } => self.ask_stores(ticket, requests, context),
            Effect::Carry { to, id, requests } => {
                // Outcomes must find the way back to this door: its number travels in the batch's.
                let number = id * self.node.workers as u64 + self.worker as u64;
                let message = PeerMessage::Relay(RelayMessage::Carry { id: number, requests });
                if self.node.say(to, message).is_err() {
                    context.notify(Input::NotSent { peer: to, id });
                }
            }
            Effect::Answer { ticket, place, reply } => self.keep(ticket, place, reply),
            Effect::Unreachable(peer) => {
                let input = heartbeat::Input::Unreachable(peer, Silence::Unreachable);
                offer(&self.node.crew().heartbeat, input);
            }
        }
    }

    fn performed(&mut self, _context: &mut Context<Self>) {
        for (ticket, answers) in std::mem::take(&mut self.answers) {
            self.answer(ticket, answers);
        }
    }
}
