//! Votes and the agreed log: what voters say to each other and what they keep on disk.
//!
//! These are our own plain types. The consensus library's types stay inside `machines::election`, so the wire and the disk
//! do not depend on it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::types::{NodeId, Term};

/// One message of the consensus, from one node of the roster to another. What is as usual does not travel: most are
/// signs of life, and say little.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ElectionMessage {
    /// The library's message kind, one of ours each.
    pub kind: MessageKind,
    /// The sender's term (zero for some local kinds).
    pub term: Term,
    /// Term of the log entry at `index`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub log_term: u64,
    /// A place in the log; its meaning depends on the kind.
    #[serde(default, skip_serializing_if = "is_default")]
    pub index: u64,
    /// Entries to append.
    #[serde(default, skip_serializing_if = "is_default")]
    pub entries: Vec<Entry>,
    /// How far the sender knows the log to be committed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub commit: u64,
    /// Term of the entry at `commit`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub commit_term: u64,
    /// The state up to a place, for one who is too far behind. Rare and large: in a box, so that all other messages are small.
    #[serde(default, skip_serializing_if = "is_default")]
    pub snapshot: Option<Box<Snapshot>>,
    /// Whether the sender says no.
    #[serde(default, skip_serializing_if = "is_default")]
    pub reject: bool,
    /// Where a rejecting follower would continue.
    #[serde(default, skip_serializing_if = "is_default")]
    pub reject_hint: u64,
    /// Names a quorum round.
    #[serde(default, with = "bytes_as_blob", skip_serializing_if = "is_default")]
    pub context: Vec<u8>,
    /// How many nodes the sender hears, for elections between equals; zero where it does not say.
    #[serde(default, skip_serializing_if = "is_default")]
    pub priority: i64,
}

/// Whether it is what is read where nothing was said.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl ElectionMessage {
    /// Whether this belongs on the bulk lane.
    pub fn is_bulk(&self) -> bool {
        self.snapshot.is_some()
    }
}

/// The kinds of consensus messages that travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are those of Raft's messages")]
pub enum MessageKind {
    Append,
    AppendResponse,
    RequestVote,
    RequestVoteResponse,
    RequestPreVote,
    RequestPreVoteResponse,
    Snapshot,
    Heartbeat,
    HeartbeatResponse,
    TimeoutNow,
}

/// One record of the agreed log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its place.
    pub index: u64,
    /// The term in which it was proposed.
    pub term: Term,
    /// What it says.
    pub payload: Payload,
}

/// What a record of the log says.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Payload {
    /// Nothing: the first record of a term.
    Empty,
    /// A command for the dictionary, encoded by `wire`.
    Command(#[serde(with = "bytes_as_blob")] Vec<u8>),
    /// A change of voters and learners.
    Seats(SeatsChange),
}

/// A change of who counts. One that changes more than one seat takes two steps (joint consensus): in between both the old
/// and the new majority must agree. The empty change is the second step: from now on the new majority alone counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeatsChange {
    /// Who votes from now on.
    pub voters: Vec<NodeId>,
    /// Who learns from now on, and does not vote.
    pub learners: Vec<NodeId>,
    /// Who does neither.
    pub gone: Vec<NodeId>,
    /// Why, as one line for an operator.
    pub why: String,
}

impl SeatsChange {
    /// Whether this is the second step of a change.
    pub fn completes(&self) -> bool {
        self.voters.is_empty() && self.learners.is_empty() && self.gone.is_empty()
    }
}

/// The dictionary as of one place of the log, with who counted there.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The last record it contains.
    pub index: u64,
    /// That record's term.
    pub term: Term,
    /// Who counts as of there.
    pub seats: Seats,
    /// The encoded dictionary.
    #[serde(with = "bytes_as_blob")]
    pub data: Vec<u8>,
}

/// Who counts in elections. While `outgoing` is not empty, a majority of both sets is needed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seats {
    /// Who votes.
    pub voters: Vec<NodeId>,
    /// Who receives the log and does not count.
    pub learners: Vec<NodeId>,
    /// Who voted before the change under way.
    pub outgoing: Vec<NodeId>,
    /// Who becomes a learner once the change under way is complete.
    pub learners_next: Vec<NodeId>,
    /// Whether the change under way completes by itself.
    pub auto_leave: bool,
}

impl Seats {
    /// Whether this node votes, now or until the change under way is complete.
    pub fn votes(&self, node: NodeId) -> bool {
        self.voters.contains(&node) || self.outgoing.contains(&node)
    }
}

/// What must be on disk before anything that depends on it leaves: term, vote and what is known to be committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HardState {
    /// The newest term seen.
    pub term: Term,
    /// Who got this node's vote in it.
    pub vote: Option<NodeId>,
    /// How far the log is known to be committed.
    pub commit: u64,
}

/// One write to the journal, all of it or nothing. Writes are stable in the order of their numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Save {
    /// Names this write; rises by one.
    pub number: u64,
    /// The new hard state, if it changed.
    pub hard: Option<HardState>,
    /// A snapshot. Where the log holds the snapshot's last record (same place, same term), records up to that place are
    /// dropped; otherwise the log has taken another course, and all records are.
    pub snapshot: Option<Snapshot>,
    /// Records to append; any record at or after the first one's place is removed before.
    pub entries: Vec<Entry>,
}

/// What a journal holds when a node starts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovered {
    /// Term, vote, commit.
    pub hard: HardState,
    /// The newest snapshot.
    pub snapshot: Option<Snapshot>,
    /// The records after it, without gap.
    pub entries: Vec<Entry>,
}

impl Recovered {
    /// Where its log ends.
    pub fn last(&self) -> u64 {
        let in_snapshot = || self.snapshot.as_ref().map(|taken| taken.index);
        self.entries.last().map(|entry| entry.index).or_else(in_snapshot).unwrap_or(0)
    }

    /// What a journal holds after one more write: the meaning of [`Save`], for every journal there is.
    pub fn absorb(&mut self, save: &Save) {
        if let Some(hard) = save.hard {
            self.hard = hard;
        }
        if let Some(snapshot) = &save.snapshot {
            let reached = self.entries.iter().any(|entry| entry.index == snapshot.index && entry.term == snapshot.term);
            self.entries.retain(|entry| reached && entry.index > snapshot.index);
            self.snapshot = Some(snapshot.clone());
        }
        if let Some(first) = save.entries.first() {
            self.entries.retain(|entry| entry.index < first.index);
            self.entries.extend(save.entries.iter().cloned());
        }
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Command(data) => write!(f, "Command({} bytes)", data.len()),
            Self::Seats(change) => {
                write!(f, "Seats(voters {:?}, learners {:?}, gone {:?})", change.voters, change.learners, change.gone)
            }
        }
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Snapshot {{ index: {}, term: {}, seats: {:?}, {} bytes }}",
            self.index,
            self.term,
            self.seats,
            self.data.len()
        )
    }
}

/// Byte vectors as CBOR byte strings, not as lists of numbers.
mod bytes_as_blob {
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(data: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(data)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        Bytes::deserialize(deserializer).map(Vec::from)
    }
}
