//! What is under way: commands, the batches they came in, the batches they left in, and the order of one range.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::refusals::Why;
use super::{CARRY, CARRY_BYTES};
use crate::messages::client::Request;
use crate::types::{Incarnation, Instant, NodeId};

/// A command: in the order of coming in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Which {
    pub batch: u64,
    pub place: u32,
}

/// A head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Destination {
    /// The stores of this node.
    Here,
    /// Another node, in the life that the dictionary lists.
    There(NodeId, Incarnation),
}

/// What a session asked at once.
#[derive(Debug)]
pub(super) struct Batch {
    pub ticket: u64,
    pub session: u64,
    /// What is parked then is refused.
    pub end: Instant,
    pub passes_on: bool,
    pub commands: Vec<Entry>,
    pub open: u32,
}

/// One command of it.
#[derive(Debug)]
pub(super) struct Entry {
    /// None once it is answered.
    pub request: Option<Request>,
    /// Why it was parked last.
    pub why: Why,
}

impl Entry {
    pub fn new(request: Request) -> Self {
        Self { request: Some(request), why: Why::Moving }
    }
}

/// What left as one message.
#[derive(Debug)]
pub(super) struct Sent {
    pub to: Destination,
    pub at: Instant,
    /// The commands in it; none where the outcome has come or is not waited for any more.
    pub slots: Vec<Option<Which>>,
    pub open: u32,
}

/// What will leave as one message.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub id: u64,
    pub to: Destination,
    pub requests: Vec<Request>,
    pub slots: Vec<Which>,
    bytes: usize,
}

impl Outgoing {
    pub fn new(id: u64, to: Destination) -> Self {
        Self { id, to, requests: Vec::new(), slots: Vec::new(), bytes: 0 }
    }

    pub fn takes(&self, bytes: usize) -> bool {
        self.requests.len() < CARRY && self.bytes + bytes <= CARRY_BYTES
    }

    pub fn add(&mut self, which: Which, request: Request, bytes: usize) {
        self.slots.push(which);
        self.requests.push(request);
        self.bytes += bytes;
    }
}

/// A command that was sent and is waited for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flight {
    pub which: Which,
    pub session: u64,
    pub to: Destination,
    /// The message it left in.
    pub carry: u64,
    /// Its place there.
    pub slot: u32,
}

/// What is under way for one range.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    /// In the order of sending.
    pub flying: VecDeque<Flight>,
    /// How many of those fly to somebody else than the present head.
    pub elsewhere: usize,
    /// In the order of coming in.
    pub parked: BTreeSet<Which>,
    /// The head said no: it is not asked again before this instant, unless the chain changes.
    pub not_before: Option<Instant>,
    pub pause: Duration,
}

impl Traffic {
    /// Takes out a flight. The oldest is usually the one that is answered.
    pub fn land(&mut self, which: Which) -> Option<Flight> {
        let place = self.flying.iter().position(|flight| flight.which == which)?;
        self.flying.remove(place)
    }

    pub fn count_elsewhere(&mut self, head: Option<Destination>) {
        self.elsewhere = self.flying.iter().filter(|flight| Some(flight.to) != head).count();
    }
}

/// The way to another node.
#[derive(Debug, Default)]
pub(super) struct Path {
    /// Nothing is sent there before this instant.
    pub blocked: Option<Instant>,
    pub pause: Duration,
    /// Its link broke lately: until this instant clients are not sent there.
    pub unsettled: Option<Instant>,
    /// When the heartbeat machine was last told that it cannot be reached.
    pub told: Option<Instant>,
}

impl Path {
    pub fn is_blocked(&self) -> bool {
        self.blocked.is_some()
    }

    pub fn deadline(&self) -> Option<Instant> {
        self.blocked.into_iter().chain(self.unsettled).min()
    }
}
