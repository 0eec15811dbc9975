//! Where messages from peers are brought: each to the actor that hears it.
//!
//! What the control plane cannot take is lost, which its machines bear. What the data plane cannot take is waited for, a
//! second at most: then the connection breaks, and both ends know that something is missing.

use std::sync::Arc;
use std::time::Duration;

use actix::dev::{MessageResponse, ToEnvelope};
use actix::{Actor, Addr, Handler, Message};
use actix_rt::time::sleep;

use crate::actors::connection::Party;
use crate::actors::door::split;
use crate::actors::node::Node;
use crate::actors::outbox::Outbox;
use crate::actors::post::offer;
use crate::actors::store::Asker;
use crate::machines::{door, election, heartbeat, ownership, store};
use crate::messages::chain::ChainFrame;
use crate::messages::client::RelayMessage;
use crate::messages::peer::PeerMessage;
use crate::types::Instant;

/// How long what came waits for room in a mailbox.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where messages from peers are brought.
#[derive(Clone)]
pub struct Postroom {
    node: Arc<Node>,
}

impl Postroom {
    /// The one of this node.
    pub fn new(node: Arc<Node>) -> Self {
        Self { node }
    }

    /// This instant, as this node sees it.
    pub fn now(&self) -> Instant {
        self.node.now().instant
    }

    /// Brings a message to whom it concerns. False: it could not be, and may not be lost.
    pub async fn deliver(&self, from: Party, message: PeerMessage, back: &Arc<Outbox>) -> bool {
        let Party { node: peer, incarnation, .. } = from;
        let crew = self.node.crew();
        match message {
            PeerMessage::Heartbeat(message) => {
                offer(&crew.heartbeat, heartbeat::Input::Peer { from: peer, incarnation, message });
                true
            }
            PeerMessage::Ownership(message) => {
                offer(&crew.ownership, ownership::Input::Peer { from: peer, incarnation, message });
                true
            }
            PeerMessage::Election(message) => {
                // Before this node has joined a mesh nobody here listens yet; it is said again.
                if let Some(election) = self.node.election() {
                    offer(election, election::Input::Peer { from: peer, message });
                }
                true
            }
            PeerMessage::Chain(frame) => self.on_chain(from, frame).await,
            PeerMessage::Relay(message) => self.on_relay(from, message, back).await,
        }
    }

    async fn on_chain(&self, from: Party, frame: ChainFrame) -> bool {
        let store = &self.node.crew().stores[frame.range.0 as usize % self.node.workers];
        let input = store::Input::Peer { from: from.node, incarnation: from.incarnation, frame };
        patiently(store, input).await
    }

    async fn on_relay(&self, from: Party, message: RelayMessage, back: &Arc<Outbox>) -> bool {
        let crew = self.node.crew();
        let workers = self.node.workers;
        match message {
            RelayMessage::Carry { id, requests } => {
                let asker = Asker::Peer { node: from.node, back: back.clone(), id };
                for (store, batch) in split(requests, workers, &asker) {
                    if !patiently(&crew.stores[store], batch).await {
                        return false;
                    }
                }
                true
            }
            RelayMessage::Carried { id, from: place, outcomes } => {
                let door = &crew.doors[(id % workers as u64) as usize];
                let id = id / workers as u64;
                patiently(door, door::Input::Carried { peer: from.node, id, from: place, outcomes }).await
            }
        }
    }
}

async fn patiently<A, M>(to: &Addr<A>, message: M) -> bool
where
    A: Actor + Handler<M>,
    A::Context: ToEnvelope<A, M>,
    M: Message + Send + 'static,
    M::Result: Send + MessageResponse<A, M>,
{
    let mut message = message;
    let step = Duration::from_millis(1);
    let mut waited = Duration::ZERO;
    loop {
        match to.try_send(message) {
            Ok(()) => return true,
            Err(actix::prelude::SendError::Closed(_)) => return false,
            Err(actix::prelude::SendError::Full(back)) if waited < PATIENCE => message = back,
            Err(actix::prelude::SendError::Full(_)) => return false,
        }
        sleep(step).await; // not a guess: between two looks
        waited += step;
    }
}
