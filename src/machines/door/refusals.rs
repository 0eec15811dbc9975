//! The words in which a door refuses. docs/errors.md lists the codes; clients act on them, so they do not change.
//!
//! `TRYAGAIN` and `CLUSTERDOWN` are resent by half of all clients, so they are said only when nothing of the command has
//! happened. `UNCERTAIN` is known to none and so resent by none.

use super::{Door, Route, Which};
use crate::messages::client::{Reply, Request};
use crate::types::{NodeId, RangeId, Slot};

/// Why a command is parked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// The range changes hands.
    Moving,
    /// The head has the range, but could not answer in time.
    Held,
    /// The queues of the head are full.
    Busy,
    /// The head cannot be reached.
    Unreachable,
    /// An earlier command of the session comes first.
    Order,
}

/// What a request costs to keep.
pub(super) fn bytes_of(request: &Request) -> usize {
    64 + request.words.iter().map(|word| word.len() + 32).sum::<usize>()
}

pub(super) fn overfull() -> Reply {
    Reply::error("TRYAGAIN too many commands are held at this node; nothing of this one was carried out")
}

pub(super) fn overtaken() -> Reply {
    Reply::error(
        "TRYAGAIN its range changed hands and a later command of this connection was carried out first; nothing of this one was",
    )
}

pub(super) fn link_broke(name: &str) -> Reply {
    Reply::error(format!(
        "UNCERTAIN the link to {name} broke before it answered; this command may or may not have been carried out"
    ))
}

pub(super) fn unanswered(name: &str) -> Reply {
    Reply::error(format!(
        "UNCERTAIN {name} has not answered in time; this command may or may not have been carried out"
    ))
}

pub(super) fn head_dropped() -> Reply {
    Reply::error(
        "UNCERTAIN its head was dropped before its chain had it; this command may or may not have been carried out",
    )
}

pub(super) fn life_ended(name: &str) -> Reply {
    Reply::error(format!(
        "UNCERTAIN {name} was lost before it answered; this command may or may not have been carried out"
    ))
}

impl Door {
    /// The refusal of a command that was held as long as may be.
    pub(super) fn refusal(&self, which: Which) -> Reply {
        let Some(batch) = self.batches.get(&which.batch) else { return overfull() };
        let entry = &batch.commands[which.place as usize];
        let Some(range) = entry.request.as_ref().map(|request| request.range) else { return overfull() };
        if !batch.passes_on
            && let Route::To(super::Destination::There(node, _)) = self.route(range)
        {
            return self.moved(node, which);
        }
        let Some(adoption) = &self.adoption else {
            return Reply::error(
                "CLUSTERDOWN this node knows no dictionary yet; nothing of this command was carried out",
            );
        };
        let slots = self.slots(range);
        if self.route(range) == Route::Nobody {
            let commander = if adoption.published.commander.is_none() { ", and no commander is known" } else { "" };
            return Reply::error(format!(
                "CLUSTERDOWN nobody serves {slots} now{commander}; nothing of this command was carried out"
            ));
        }
        if adoption.published.commander.is_none() {
            return Reply::error(format!(
                "CLUSTERDOWN no commander is known who could settle who serves {slots}; nothing of this command was carried out"
            ));
        }
        let write = entry.request.as_ref().is_some_and(|request| request.write);
        if write && entry.why == Why::Held && adoption.published.dictionary.paused.is_some() {
            return Reply::error(
                "TRYAGAIN writes are paused by an operator (keyval ctl resume, or MESH RESUME, lets them go on); nothing of this command was carried out",
            );
        }
        let cause = match entry.why {
            Why::Moving | Why::Order => "change hands",
            Why::Held => "could not be answered by their head in time",
            Why::Busy => "are headed by a node whose queues are full",
            Why::Unreachable => "are headed by a node that cannot be reached",
        };
        Reply::error(format!("TRYAGAIN {slots} {cause}; nothing of this command was carried out"))
    }

    /// Where the cluster door sends a client: always a concrete address.
    pub(super) fn moved(&self, node: NodeId, which: Which) -> Reply {
        let entry = self.batches.get(&which.batch).map(|batch| &batch.commands[which.place as usize]);
        let slot = entry.and_then(|entry| entry.request.as_ref()).map_or(Slot(0), |request| self.slot(request));
        let roster = self.adoption.as_ref().map(|adoption| &adoption.published.dictionary.roster);
        match roster.and_then(|roster| roster.get(&node)) {
            Some(member) => Reply::error(format!("MOVED {slot} {}", member.node.addresses.cluster)),
            None => Reply::error("TRYAGAIN the head of its slot is unknown; nothing of this command was carried out"),
        }
    }

    /// The slot a client is told: that of the first word that lies in the command's range. It is the key, but for words
    /// before it that lie there by chance, and then it is another slot of the same head.
    fn slot(&self, request: &Request) -> Slot {
        let ranges = self.ranges();
        let slots = request.words.iter().skip(1).map(|word| Slot::of_key(word));
        let mut own = slots.filter(|slot| slot.range(ranges) == request.range);
        own.next().unwrap_or_else(|| request.range.slots(ranges).0)
    }

    fn ranges(&self) -> usize {
        self.adoption.as_ref().map_or(1, |adoption| adoption.published.dictionary.chains.len().max(1))
    }

    fn slots(&self, range: RangeId) -> String {
        let (first, last) = range.slots(self.ranges());
        format!("slots {first}-{last}")
    }

    /// A node's name for people.
    pub(super) fn name(&self, node: NodeId) -> String {
        let roster = self.adoption.as_ref().map(|adoption| &adoption.published.dictionary.roster);
        let member = roster.and_then(|roster| roster.get(&node));
        member.map_or_else(|| format!("node {node}"), |member| member.node.name.clone())
    }
}
