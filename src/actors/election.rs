//! The postman of the election machine, and the thread that makes its writes stable.
//!
//! The machine asks for writes and goes on; what depends on them leaves only after `Persisted`. The disk thread takes all
//! writes that wait, puts them into one transaction with one sync, and answers with the highest number. So a slow disk
//! delays what must wait for it, and no beacon.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use actix::{Actor, Addr, Context, Handler};

use crate::actors::node::Node;
use crate::actors::post::{Desk, MAILBOX, Postman, deliver, offer};
use crate::io::journal::Journal;
use crate::machines::election::{self, Effect, Input};
use crate::machines::{heartbeat, ownership};
use crate::messages::election::Save;
use crate::messages::peer::PeerMessage;

impl actix::Message for Input {
    type Result = ();
}

/// The actor around the election machine.
pub struct Election {
    node: Arc<Node>,
    desk: Desk<election::Election>,
    disk: Sender<Save>,
}

impl Election {
    /// With a machine that has been given what `journal` held.
    pub fn new(node: Arc<Node>, machine: election::Election, journal: Journal, me: Addr<Election>) -> Self {
        let (disk, saves) = channel();
        thread::Builder::new()
            .name("disk".into())
            .stack_size(256 * 1024)
            .spawn(move || keep(journal, &saves, &me))
            .expect("a thread can be had when the process starts");
        Self { node, desk: Desk::new(machine), disk }
    }
}

impl Actor for Election {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        context.set_mailbox_capacity(MAILBOX);
        self.wind(context);
    }

    fn stopped(&mut self, _context: &mut Context<Self>) {
        self.node.end_by_error("the election actor stopped");
    }
}

impl Handler<Input> for Election {
    type Result = ();

    fn handle(&mut self, input: Input, context: &mut Context<Self>) {
        self.tell(input, context);
    }
}

impl Postman for Election {
    type Machine = election::Election;

    fn desk(&mut self) -> &mut Desk<Self::Machine> {
        &mut self.desk
    }

    fn timer() -> Input {
        Input::Timer
    }

    fn perform(&mut self, effect: Effect, _context: &mut Context<Self>) {
        let node = &self.node;
        match effect {
            Effect::Persist(save) => {
                if self.disk.send(save).is_err() {
                    node.end_by_error("the disk thread ended");
                }
            }
            Effect::Send { to, message } => {
                let _ = node.say(to, PeerMessage::Election(message));
            }
            Effect::Publish(published) => {
                node.publish(&published);
                deliver(&node.crew().exchange, crate::actors::exchange::Roster(published.clone()));
                deliver(&node.crew().heartbeat, heartbeat::Input::Published(published));
            }
            Effect::Proposed { request, outcome } => {
                deliver(&node.crew().ownership, ownership::Input::Proposed { request, outcome });
            }
            Effect::Confirmed { ask, term, version } => {
                offer(&node.crew().heartbeat, heartbeat::Input::Confirmed { ask, term, version });
            }
            Effect::Again { ask } => {
                offer(&node.crew().heartbeat, heartbeat::Input::Again { ask });
            }
            Effect::Note(event) => node.note(event),
            Effect::End(reason) => node.end_by_error(reason),
        }
    }
}

/// The disk thread: until nobody writes any more, or the disk fails.
fn keep(mut journal: Journal, saves: &Receiver<Save>, election: &Addr<Election>) {
    while let Ok(first) = saves.recv() {
        let mut batch = vec![first];
        batch.extend(saves.try_iter());
        let highest = batch.iter().map(|save| save.number).max().expect("one at least");
        match journal.write(&batch) {
            Ok(()) => deliver(election, Input::Persisted(highest)),
            Err(error) => return deliver(election, Input::DiskFailed(error.to_string())),
        }
    }
}
