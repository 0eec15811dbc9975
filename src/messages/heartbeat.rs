//! Signs of life, leases, probes, and reports of silence.

use serde::{Deserialize, Serialize};

use crate::types::{Incarnation, NodeId, Term, Version};

/// Names one asking for leases. Never used again, not even by a later life of the asker (G13).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AskId {
    /// The asker's life.
    pub life: Incarnation,
    /// Rises within it.
    pub number: u64,
}

/// Said between nodes on the control lane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HeartbeatMessage {
    /// I live. One a beat for a pair of nodes, for all they share.
    Beacon(Beacon),
    /// The lease that a beacon asked for.
    Grant(Grant),
    /// Do you live? Asked by the commander before it decides that a node is lost.
    Probe(u64),
    /// Yes.
    Probed(u64),
    /// To the commander: I do not hear this node. It suspects, probes, and decides; a report decides nothing.
    Report {
        /// Who is not heard.
        about: NodeId,
        /// In which life.
        incarnation: Incarnation,
        /// What was missed.
        why: Silence,
    },
}

/// A sign of life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beacon {
    /// The newest term the sender's own election machine knows: never hearsay, or a rumour would outlive its cause.
    pub term: Term,
    /// Who rules in it, if that machine knows.
    pub commander: Option<NodeId>,
    /// The dictionary version the sender has adopted.
    pub version: Version,
    /// Asks the receiver for its leases: for all ranges that the sender heads and in which the receiver is a member,
    /// and, if the receiver commands, for those that the sender holds as the only Serving member.
    pub ask: AskId,
    /// How many roster members the sender hears, itself included: of two candidates the better connected is preferred.
    pub hears: u16,
    /// What does not work in the sender, in words; empty when all its actors are well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ailing: Vec<String>,
    /// Bytes of keys and values that the sender has streamed to joiners in this life.
    #[serde(default)]
    pub streamed: u64,
    /// How far the moves of ranges have come; from the commander, while there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
}

/// How far the moves of ranges have come, since they began or since this commander took them over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Ranges that have come to lie as they should.
    pub done: u32,
    /// Ranges that do not yet.
    pub left: u32,
    /// Bytes of keys and values streamed meanwhile, by all nodes.
    pub bytes: u64,
    /// Bytes a second, lately.
    pub rate: u64,
    /// Seconds to the end, should it go on as so far; none before the first range is through.
    pub remaining_s: Option<u32>,
}

impl Progress {
    /// For people: what is done.
    pub fn moved(&self) -> String {
        let all = self.done.saturating_add(self.left);
        format!("{} of {all} ranges are through, {:.1} MB streamed", self.done, self.bytes as f64 / 1e6)
    }

    /// For people: what is done, how fast, and for how long yet.
    pub fn words(&self) -> String {
        format!("{} ({:.1} MB/s), {}", self.moved(), self.rate as f64 / 1e6, self.end())
    }

    /// For people: when the end is expected.
    pub fn end(&self) -> String {
        match self.remaining_s {
            Some(seconds) => format!("about {seconds}s to go"),
            None => "none is through yet".into(),
        }
    }
}

/// A lease for all ranges that it covers: those whose chain has not changed after `version`, which the receiver heads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Which asking this answers. The lease counts from the instant of asking.
    pub ask: AskId,
    /// The giver's dictionary version.
    pub version: Version,
    /// Set when the giver commands and a quorum confirmed it after the asking: the term.
    pub commanding: Option<Term>,
    /// True when the giver, as a member of chains that the receiver heads, promises not to lead them meanwhile.
    pub as_member: bool,
}

/// Why a node is thought to be silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Silence {
    /// No beacon for a failure_timeout.
    NoBeacon,
    /// The link to it broke, and it could not be had again at once.
    LinkBroken,
    /// A client's command could not be brought to it.
    Unreachable,
    /// An order was not answered.
    Unanswered,
    /// It is heard, but says that it hears nobody.
    Deaf,
}

impl Silence {
    /// In words, for logs and `explain`.
    pub fn words(self) -> &'static str {
        match self {
            Self::NoBeacon => "no beacon",
            Self::LinkBroken => "link broken",
            Self::Unreachable => "unreachable for clients' commands",
            Self::Unanswered => "order unanswered",
            Self::Deaf => "it says that it hears nobody",
        }
    }
}
