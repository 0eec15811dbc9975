//! Who can be spoken to, and by which connection: for all threads.
//!
//! The exchange keeps one link for each peer and lane; whoever has something to say finds its outbox here, encodes the frame
//! on its own thread and puts it in. A peer that is not on the roster as we know it has no link; but when it has called us
//! (we have just joined and wait for the log), what we say goes back by its own connection.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::BytesMut;
use tokio::sync::Notify;

use crate::actors::outbox::{Frame, Kind, Outbox, Standing, Unsaid};
use crate::messages::client::RelayMessage;
use crate::messages::peer::{Lane, PeerMessage};
use crate::types::{Incarnation, Instant, NodeId};
use crate::wire::frame;

/// The outboxes of one peer's three lanes.
#[derive(Clone, Debug)]
pub struct Lanes {
    /// Beacons, votes, the log, orders.
    pub control: Arc<Outbox>,
    /// Clients' commands, forwards, acknowledgements.
    pub data: Arc<Outbox>,
    /// Snapshots and chunks.
    pub bulk: Arc<Outbox>,
}

impl Lanes {
    /// The one of a lane.
    pub fn of(&self, lane: Lane) -> &Arc<Outbox> {
        match lane {
            Lane::Control => &self.control,
            Lane::Data => &self.data,
            Lane::Bulk => &self.bulk,
        }
    }
}

/// A connection by which a peer has called us.
#[derive(Clone, Debug)]
pub struct Call {
    /// In which life.
    pub incarnation: Incarnation,
    /// What leaves on it.
    pub back: Arc<Outbox>,
    /// When something last came by it.
    pub heard: Arc<Heard>,
}

/// The instant at which something last came by a connection.
#[derive(Debug)]
pub struct Heard(AtomicU64);

impl Heard {
    /// Now.
    pub fn new(now: Instant) -> Self {
        Self(AtomicU64::new(now.0))
    }

    /// Again.
    pub fn again(&self, now: Instant) {
        self.0.store(now.0, Ordering::Relaxed);
    }

    /// When.
    pub fn at(&self) -> Instant {
        Instant(self.0.load(Ordering::Relaxed))
    }
}

/// All connections by which something can be said.
#[derive(Debug, Default)]
pub struct Switchboard {
    links: RwLock<BTreeMap<NodeId, Linked>>,
    /// The newest connection by which a peer has called us, lane by lane.
    calls: RwLock<BTreeMap<(NodeId, Lane), Call>>,
    /// Where members were found other than where the roster says.
    found: RwLock<BTreeMap<NodeId, SocketAddr>>,
}

#[derive(Debug)]
struct Linked {
    lanes: Lanes,
    hurry: Arc<Notify>,
}

impl Switchboard {
    /// Says something to a peer, by the lane it belongs to.
    ///
    /// # Errors
    /// When no connection takes it: then no byte of it will leave.
    pub fn say(&self, to: NodeId, message: PeerMessage) -> Result<(), Unsaid> {
        let Some(outbox) = self.outbox(to, message.lane()) else { return Err(Unsaid::Down) };
        push(&outbox, &message)
    }

    fn outbox(&self, to: NodeId, lane: Lane) -> Option<Arc<Outbox>> {
        if let Some(linked) = read(&self.links).get(&to) {
            return Some(linked.lanes.of(lane).clone());
        }
        read(&self.calls).get(&(to, lane)).map(|call| call.back.clone())
    }

    /// A peer has links now; `hurry` ends their pauses.
    pub fn link(&self, peer: NodeId, lanes: Lanes, hurry: Arc<Notify>) {
        write(&self.links).insert(peer, Linked { lanes, hurry });
    }

    /// A peer has none any more.
    pub fn unlink(&self, peer: NodeId) {
        write(&self.links).remove(&peer);
    }

    /// A peer has called: it is there, and need not be waited for.
    pub fn called(&self, peer: NodeId, lane: Lane, call: Call) {
        write(&self.calls).insert((peer, lane), call);
        if let Some(linked) = read(&self.links).get(&peer) {
            linked.hurry.notify_waiters();
        }
    }

    /// A caller's connection has ended. True: it was the newest of its lane.
    pub fn hung_up(&self, peer: NodeId, lane: Lane, back: &Arc<Outbox>) -> bool {
        let mut calls = write(&self.calls);
        let newest = calls.get(&(peer, lane)).is_some_and(|newest| Arc::ptr_eq(&newest.back, back));
        if newest {
            calls.remove(&(peer, lane));
        }
        newest
    }

    /// A member was met at this address.
    pub fn found(&self, peer: NodeId, place: SocketAddr) {
        write(&self.found).insert(peer, place);
        if let Some(linked) = read(&self.links).get(&peer) {
            linked.hurry.notify_waiters();
        }
    }

    /// Where a member was met.
    pub fn found_at(&self, peer: NodeId) -> Option<SocketAddr> {
        read(&self.found).get(&peer).copied()
    }

    /// Who has called us and has been heard on the control lane since then, and in which life.
    pub fn heard_since(&self, since: Instant) -> BTreeMap<NodeId, Incarnation> {
        read(&self.calls)
            .iter()
            .filter(|((_, lane), call)| *lane == Lane::Control && call.heard.at() >= since)
            .map(|((node, _), call)| (*node, call.incarnation))
            .collect()
    }

    /// Which peers have a link on this lane that stands.
    pub fn standing(&self, lane: Lane) -> Vec<NodeId> {
        let links = read(&self.links);
        let up = links.iter().filter(|(_, linked)| linked.lanes.of(lane).standing() == Standing::Up);
        up.map(|(node, _)| *node).collect()
    }
}

// A poisoned lock is no reason to stop here: what it guards is only ever replaced whole.
fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

/// Encodes a message and puts it into an outbox.
///
/// # Errors
/// When it is not taken: then no byte of it will leave.
pub fn push(outbox: &Outbox, message: &PeerMessage) -> Result<(), Unsaid> {
    // Nothing is encoded in vain.
    outbox.may_push(kind(message))?;
    let mut bytes = BytesMut::new();
    if let Err(error) = frame::push_message(message, &mut bytes) {
        tracing::error!(%error, "a message to a peer was too large to be sent");
        return Err(Unsaid::Full);
    }
    outbox.push(Frame { bytes: bytes.freeze(), kind: kind(message) })
}

fn kind(message: &PeerMessage) -> Kind {
    match message {
        PeerMessage::Election(_) | PeerMessage::Heartbeat(_) | PeerMessage::Ownership(_) => Kind::Word,
        PeerMessage::Relay(RelayMessage::Carry { id, .. }) => Kind::Carry(*id),
        PeerMessage::Relay(RelayMessage::Carried { .. }) | PeerMessage::Chain(_) => Kind::InOrder,
    }
}
