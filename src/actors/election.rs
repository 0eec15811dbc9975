//! The postman of the election machine, and the thread that makes its writes stable.
//!
//! The machine asks for writes and goes on; what depends on them leaves only after `Persisted`. The disk thread takes all
//! writes that wait, puts them into one transaction with one sync, and answers with the highest number. So a slow disk
//! delays what must wait for it, and no beacon.

use std::sync::Arc;

use actix::{Actor, Addr, Context, Handler};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::actors::node::Node;
use crate::actors::post::{Desk, Postman, deliver, offer};
use crate::io::journal::Journal;
use crate::machines::election::{self, Effect, Input};
use crate::machines::{heartbeat, ownership};
use crate::messages::election::Save;
use crate::messages::peer::PeerMessage;
use crate::types::Now;

impl actix::Message for Input {
    type Result = ();
}

/// The actor around the election machine.
pub struct Election {
    node: Arc<Node>,
    desk: Desk<election::Election>,
    disk: UnboundedSender<Save>,
}

impl Election {
    /// With a machine that has been given what `journal` held.
    pub fn new(node: Arc<Node>, machine: election::Election, journal: Journal, me: Addr<Election>) -> Self {
        let (disk, saves) = unbounded_channel();
        node.surroundings.start_disk(Disk { journal, saves, election: me });
        Self { node, desk: Desk::new(machine), disk }
    }
}

impl Actor for Election {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        context.set_mailbox_capacity(self.node.surroundings.mailbox());
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
            Effect::Removed(reason) => node.end_removed(reason),
        }
    }
}

/// What the disk does: makes writes stable, as long as there are any.
pub struct Disk {
    journal: Journal,
    saves: UnboundedReceiver<Save>,
    election: Addr<Election>,
}

impl Disk {
    /// On a thread of its own, until nobody writes any more, or the disk fails.
    pub fn keep(mut self) {
        while let Some(first) = self.saves.blocking_recv() {
            if self.write(first).is_err() {
                return;
            }
        }
    }

    /// The same beside others on one thread. What is asked for while a write takes its time becomes stable with it, or is lost with it.
    #[cfg(test)]
    pub async fn keep_beside(mut self, made_up: Arc<dyn crate::actors::surroundings::MadeUp>) {
        while let Some(first) = self.saves.recv().await {
            actix_rt::time::sleep(made_up.sync_takes()).await; // not a guess: the span itself is what counts
            if self.write(first).is_err() {
                return;
            }
        }
    }

    /// Everything that waits, in one transaction. The election is told; an error, when nothing more can be written.
    fn write(&mut self, first: Save) -> Result<(), ()> {
        let mut batch = vec![first];
        batch.extend(std::iter::from_fn(|| self.saves.try_recv().ok()));
        let highest = batch.iter().map(|save| save.number).max().expect("one at least");
        let written = self.journal.write(&batch);
        let failed = written.as_ref().err().map(ToString::to_string);
        deliver(&self.election, failed.map_or(Input::Persisted(highest), Input::DiskFailed));
        written.map_err(drop)
    }
}
