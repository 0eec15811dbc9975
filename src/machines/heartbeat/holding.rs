//! The leases this node holds: what it asked when, and what was granted.
//!
//! A lease runs from the instant *before* its asking left, by this node's clock, and is counted shorter than it was given
//! (G13). So whatever the network did to the asking or the grant, the lease ends here before its giver is free again.

use std::collections::BTreeMap;

use super::{Lease, Leases};
use crate::messages::heartbeat::{AskId, Grant};
use crate::messages::ownership::MeshSettings;
use crate::planted::{self, Bug};
use crate::types::{Incarnation, Instant, NodeId, Timing, Version};

/// More askings than this are never remembered: those of the longest lease are about twenty, plus some out of turn.
const ASKS: usize = 128;

/// More leases of one giver than this are never kept. An older one matters only while chains change at every beat.
const LEASES: usize = 8;

/// Askings and the leases they brought.
#[derive(Debug)]
pub(super) struct Holding {
    life: Incarnation,
    number: u64,
    asks: BTreeMap<AskId, Instant>,
    commander: Vec<Lease>,
    members: BTreeMap<NodeId, Vec<Lease>>,
    /// When the newest asking left that a confirmed commander has answered (G24).
    heard: Option<Instant>,
}

impl Holding {
    pub fn new(life: Incarnation) -> Self {
        Self { life, number: 0, asks: BTreeMap::new(), commander: Vec::new(), members: BTreeMap::new(), heard: None }
    }

    /// A new asking, about to leave.
    pub fn ask(&mut self, now: Instant, timing: &Timing) -> AskId {
        self.number += 1;
        let ask = AskId { life: self.life, number: self.number };
        // A grant of an asking older than the longest lease would have run out on arrival.
        let useless = now - timing.sole_lease();
        while self.asks.first_key_value().is_some_and(|(_, asked)| *asked < useless) || self.asks.len() >= ASKS {
            self.asks.pop_first();
        }
        self.asks.insert(ask, now);
        ask
    }

    /// Takes in what a life of a node granted. False when nothing is held by it that was not held before.
    pub fn on_grant(&mut self, now: Instant, giver: (NodeId, Incarnation), grant: &Grant, timing: &Timing) -> bool {
        let Some(asked) = self.asks.get(&grant.ask).copied() else { return false };
        let asked = if planted::is(Bug::LeaseFromArrival) { now } else { asked };
        let lease = |until| Lease { giver: giver.1, version: grant.version, until };
        if grant.as_member {
            self.members.entry(giver.0).or_default().push(lease(asked + timing.holder(timing.lease())));
        }
        if grant.commanding.is_some() {
            self.commander.push(lease(asked + timing.holder(timing.sole_lease())));
            self.heard = self.heard.max(Some(asked));
        }
        grant.as_member || grant.commanding.is_some()
    }

    /// All that is held, for a node that has adopted this version and these settings.
    pub fn leases(&mut self, now: Instant, adopted: Version, settings: &MeshSettings) -> Leases {
        prune(&mut self.commander, now, adopted);
        self.members.retain(|_, leases| {
            prune(leases, now, adopted);
            !leases.is_empty()
        });
        Leases {
            // One given at a version that is not adopted here yet counts later; the one before it counts now.
            commander: self.commander.iter().filter(|lease| lease.version <= adopted).max_by_key(|l| l.until).copied(),
            members: self.members.clone(),
            silent_after: self.silent_after(settings),
        }
    }

    /// Until when this node may answer and grant, if that ends by itself (G24). Before a commander was heard at all,
    /// that instant is long past.
    pub fn silent_after(&self, settings: &MeshSettings) -> Option<Instant> {
        let span = settings.timing.holder(settings.give_up_after()?);
        Some(self.heard.map_or(Instant(0), |heard| heard + span))
    }

    /// When the newest asking left that a confirmed commander has answered.
    pub fn heard(&self) -> Option<Instant> {
        self.heard
    }
}

/// Drops what has run out and what another lease covers; keeps the rest, oldest first.
fn prune(leases: &mut Vec<Lease>, now: Instant, adopted: Version) {
    leases.retain(|lease| now < lease.until);
    leases.sort_by_key(|lease| lease.until);
    let mut place = 0;
    while place < leases.len() {
        let covered = leases[place + 1..].iter().any(|other| covers(other, &leases[place], adopted));
        if covered {
            leases.remove(place);
        } else {
            place += 1;
        }
    }
    if leases.len() > LEASES {
        leases.drain(..leases.len() - LEASES);
    }
}

/// Whether `newer`, which ends no earlier, counts wherever `older` does. One of a version that is not adopted here yet
/// counts for nothing yet, and covers only its equals.
fn covers(newer: &Lease, older: &Lease, adopted: Version) -> bool {
    newer.giver == older.giver
        && newer.version >= older.version
        && (newer.version <= adopted || newer.version == older.version)
}
