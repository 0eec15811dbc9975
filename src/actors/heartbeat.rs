//! The postman of the heartbeat machine; also asks the workers, twice in a failure_timeout, whether they still answer.
//!
//! Election and ownership share this actor's thread: were they stuck, no beacon would leave, and the mesh would know. The
//! workers have threads of their own, so what they do not answer is said in the beacons (`Ailing`).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::{Actor, AsyncContext, Context, Handler, Message};

use crate::actors::node::Node;
use crate::actors::post::{Desk, Postman, deliver, offer};
use crate::machines::heartbeat::{self, Effect, Input};
use crate::machines::{door, election, ownership, store};
use crate::messages::peer::PeerMessage;
use crate::types::{Instant, Now};

impl Message for Input {
    type Result = ();
}

/// Begin: all actors know each other now.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Begin;

/// A worker is well.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Well {
    /// Which.
    pub worker: usize,
}

/// Are you well? To a store, which answers `Well`.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct AreYouWell;

/// The actor around the heartbeat machine.
pub struct Heartbeat {
    node: Arc<Node>,
    desk: Desk<heartbeat::Heartbeat>,
    /// When each worker last said that it is well.
    well: Vec<Instant>,
    ailing: Vec<String>,
}

impl Heartbeat {
    /// With a machine that has heard nothing yet.
    pub fn new(node: Arc<Node>, machine: heartbeat::Heartbeat) -> Self {
        let well = vec![node.now().instant; node.workers];
        Self { node, desk: Desk::new(machine), well, ailing: Vec::new() }
    }

    /// Asks the workers how they are, and tells the machine when that has changed.
    fn on_round(&mut self, context: &mut Context<Self>) {
        let now = self.node.now().instant;
        self.node.clients.measure(now);
        let timing = self.node.timing();
        let patience = timing.failure_timeout * 2;
        let ailing: Vec<String> = self
            .well
            .iter()
            .enumerate()
            .filter(|(_, at)| now.since(**at) > patience)
            .map(|(worker, at)| format!("worker {worker} has not answered for {:.1} s", now.since(*at).as_secs_f32()))
            .collect();
        // The wording has the time in it: it is said anew when the number of ailing workers changes.
        if ailing.len() != self.ailing.len() {
            self.ailing = ailing.clone();
            self.node.ails(ailing.clone());
            self.tell(Input::Ailing(ailing), context);
        }
        for store in &self.node.crew().stores {
            offer(store, AreYouWell);
        }
        let streamed = self.node.tallies.iter().map(|tally| tally.bytes_streamed.load(Ordering::Relaxed)).sum();
        self.tell(Input::Streamed(streamed), context);
        let round = (timing.failure_timeout / 2).max(Duration::from_millis(100));
        context.run_later(round, Self::on_round);
    }
}

impl Actor for Heartbeat {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        context.set_mailbox_capacity(self.node.surroundings.mailbox());
    }

    fn stopped(&mut self, _context: &mut Context<Self>) {
        self.node.end_by_error("the heartbeat actor stopped");
    }
}

impl Handler<Begin> for Heartbeat {
    type Result = ();

    fn handle(&mut self, _: Begin, context: &mut Context<Self>) {
        self.wind(context);
        self.on_round(context);
    }
}

impl Handler<Well> for Heartbeat {
    type Result = ();

    fn handle(&mut self, well: Well, _context: &mut Context<Self>) {
        self.well[well.worker] = self.node.now().instant;
    }
}

impl Handler<Input> for Heartbeat {
    type Result = ();

    fn handle(&mut self, input: Input, context: &mut Context<Self>) {
        self.tell(input, context);
    }
}

impl Postman for Heartbeat {
    type Machine = heartbeat::Heartbeat;

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
        let node = &self.node;
        let crew = node.crew();
        match effect {
            Effect::Send { to, message } => {
                let _ = node.say(to, PeerMessage::Heartbeat(message));
            }
            Effect::Confirm { ask } => {
                if let Some(election) = node.election() {
                    offer(election, election::Input::Confirm { ask });
                }
            }
            Effect::Adopt(adoption) => {
                for store in &crew.stores {
                    deliver(store, store::Input::Adopt(adoption.clone()));
                }
                for door in &crew.doors {
                    deliver(door, door::Input::Adopt(adoption.clone()));
                }
                node.adopt(&adoption);
                deliver(&crew.ownership, ownership::Input::Adopt(adoption));
            }
            Effect::Leases(leases) => {
                for store in &crew.stores {
                    deliver(store, store::Input::Leases(leases.clone()));
                }
            }
            Effect::Hears(nodes) => {
                if let Some(election) = node.election() {
                    deliver(election, election::Input::Hears(nodes));
                }
            }
            Effect::Suspect { node, incarnation, evidence, gone } => {
                deliver(&crew.ownership, ownership::Input::Suspect { node, incarnation, evidence, gone });
            }
            Effect::Alive { node, incarnation, ailing } => {
                deliver(&crew.ownership, ownership::Input::Alive { node, incarnation, ailing });
            }
            Effect::Apart { by, about, lasting } => {
                deliver(&crew.ownership, ownership::Input::Apart { by, about, lasting });
            }
            Effect::Expired { node, incarnation, silent_for } => {
                deliver(&crew.ownership, ownership::Input::Expired { node, incarnation, silent_for });
            }
            Effect::Progress(progress) => node.show_progress(progress),
            Effect::Note(event) => node.note(event),
        }
    }
}
