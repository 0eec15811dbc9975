//! What is believed of a message before the library hears it.
//!
//! The library asserts what it believes and ends the process when a belief is false; a broken peer must not be able to
//! make it so. What merely cannot be true is refused without a word. What proves that this node has lost something it
//! had promised is worse: then this node must not go on.

use std::collections::BTreeSet;

use super::storage;
use crate::messages::election::{ElectionMessage, Entry, MessageKind, Seats, Snapshot};
use crate::types::NodeId;

/// No honest counter comes near this; sums of two stay below 64 bits.
const HIGHEST: u64 = 1 << 56;
/// Longer than any name of a round or of a campaign.
const LONGEST_CONTEXT: usize = 64;

/// What this node knows of its own log.
pub(super) struct Known<'a> {
    pub me: NodeId,
    pub term: u64,
    pub commander: u64,
    pub leads: bool,
    pub committed: u64,
    pub last: u64,
    pub term_at: &'a dyn Fn(u64) -> Option<u64>,
}

/// Why a message is not heard.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It cannot be true, or is not for this node to hear.
    Refused(&'static str),
    /// If it is true, this node must end; why.
    Fatal(String),
}

use Fault::{Fatal, Refused};

/// Whether the library may hear this.
pub(super) fn check(from: NodeId, message: &ElectionMessage, known: &Known<'_>) -> Result<(), Fault> {
    if from == known.me || from.0 == 0 {
        return Err(Refused("from nobody else"));
    }
    numbers(message)?;
    if message.snapshot.is_some() != (message.kind == MessageKind::Snapshot) {
        return Err(Refused("a snapshot where none belongs"));
    }
    if !message.entries.is_empty() && message.kind != MessageKind::Append {
        return Err(Refused("records where none belong"));
    }
    match message.kind {
        MessageKind::Append => append(message, known),
        MessageKind::Heartbeat => heartbeat(message, known),
        MessageKind::Snapshot => message.snapshot.as_ref().map_or(Ok(()), |taken| snapshot(taken, message, known)),
        MessageKind::AppendResponse if !message.reject && known.leads && message.index > known.last => {
            Err(Refused("acknowledges what was not sent"))
        }
        MessageKind::TimeoutNow if message.term.0 != known.term || from.0 != known.commander => {
            Err(Refused("asked to stand by one that does not command"))
        }
        _ => Ok(()),
    }
}

fn numbers(message: &ElectionMessage) -> Result<(), Fault> {
    let numbers =
        [message.term.0, message.log_term, message.index, message.commit, message.commit_term, message.reject_hint];
    if numbers.iter().any(|number| *number > HIGHEST) {
        return Err(Refused("a number out of all reason"));
    }
    if message.term.0 == 0 {
        return Err(Refused("no term"));
    }
    if message.context.len() > LONGEST_CONTEXT {
        return Err(Refused("a name too long"));
    }
    Ok(())
}

fn append(message: &ElectionMessage, known: &Known<'_>) -> Result<(), Fault> {
    if message.term.0 < known.term {
        return Ok(());
    }
    if known.leads && message.term.0 == known.term {
        return Err(Refused("another commander in this term"));
    }
    // The library takes a place outside of its log for one of term zero.
    if (message.index == 0) != (message.log_term == 0) {
        return Err(Refused("a place without a term"));
    }
    let (mut index, mut term) = (message.index, message.log_term);
    for Entry { index: next, term: of, .. } in &message.entries {
        if *next != index + 1 || of.0 < term || of.0 > message.term.0 {
            return Err(Refused("records out of order"));
        }
        (index, term) = (*next, of.0);
        if *next <= known.committed && (known.term_at)(*next).is_some_and(|mine| mine != of.0) {
            return Err(Fatal(format!(
                "record {next} is committed here with another term than the commander's: this data directory and the mesh \
                 contradict each other; start this node with an empty data directory to join as a new one"
            )));
        }
    }
    Ok(())
}

fn heartbeat(message: &ElectionMessage, known: &Known<'_>) -> Result<(), Fault> {
    if message.term.0 < known.term {
        return Ok(());
    }
    if known.leads && message.term.0 == known.term {
        return Err(Refused("another commander in this term"));
    }
    // A commander says this only of records that this node acknowledged to it, in its term, when they were stable here.
    if message.commit > known.last {
        return Err(Fatal(format!(
            "this node had acknowledged the log up to record {}, and now has {}: its data directory is an older copy or lost \
             what was synced; start it with an empty data directory to join as a new one",
            message.commit, known.last
        )));
    }
    Ok(())
}

fn snapshot(taken: &Snapshot, message: &ElectionMessage, known: &Known<'_>) -> Result<(), Fault> {
    if message.term.0 < known.term {
        return Ok(());
    }
    if known.leads && message.term.0 == known.term {
        return Err(Refused("another commander in this term"));
    }
    if taken.index == 0 || taken.index > HIGHEST || taken.term > message.term || taken.term.0 == 0 {
        return Err(Refused("a snapshot of nowhere"));
    }
    if !sound(&taken.seats) {
        return Err(Refused("seats that contradict themselves"));
    }
    storage::read_dictionary(&taken.data).map(|_| ()).map_err(|error| {
        Fatal(format!("{error}; the commander runs another version? Upgrade this node; nothing here was changed"))
    })
}

/// Whether seats keep the rules of joint consensus.
pub(super) fn sound(seats: &Seats) -> bool {
    let set = |nodes: &[NodeId]| nodes.iter().copied().collect::<BTreeSet<NodeId>>();
    let (voters, learners) = (set(&seats.voters), set(&seats.learners));
    let (outgoing, next) = (set(&seats.outgoing), set(&seats.learners_next));
    let all = [&seats.voters, &seats.learners, &seats.outgoing, &seats.learners_next];
    let sets = [&voters, &learners, &outgoing, &next];
    !voters.is_empty()
        && all.iter().zip(sets).all(|(listed, set)| listed.len() == set.len() && !set.contains(&NodeId(0)))
        && learners.is_disjoint(&voters)
        && learners.is_disjoint(&outgoing)
        && next.is_subset(&outgoing)
        && next.is_disjoint(&voters)
        && (!outgoing.is_empty() || (next.is_empty() && !seats.auto_leave))
}
