//! (story to be written by its owner)

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::machines::election::Published;
use crate::messages::events::Event;
use crate::messages::heartbeat::{HeartbeatMessage, Silence};
use crate::types::{Incarnation, Instant, NodeId, Term, Version};

/// A lease as its holder keeps it: counts for a range when the chain has not changed after `version`, and the holder
/// has adopted at least that version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The giver's life; a lease of one that is not listed counts for nothing.
    pub giver: Incarnation,
    /// The giver's dictionary version.
    pub version: Version,
    /// It ends here, by the holder's clock.
    pub until: Instant,
}

/// All leases this node holds. A new set replaces the old.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leases {
    /// From the commander, for ranges this node holds as the only Serving member.
    pub commander: Option<Lease>,
    /// From other members, for the ranges in which they are and which this node heads. The newest grants of each giver,
    /// oldest first: an older one may cover a range that a newer does not.
    pub members: BTreeMap<NodeId, Vec<Lease>>,
    /// With `replication.give_up`: past this instant this node neither answers nor grants, unless a commander is heard
    /// again (G24). None where nothing is given up by time.
    pub silent_after: Option<Instant>,
}

/// What is agreed, with what this node has promised about it. Heard by stores in the order of versions.
#[derive(Clone, Debug, PartialEq)]
pub struct Adoption {
    /// What is agreed.
    pub published: Arc<Published>,
    /// Until when this node has promised each head not to lead the ranges it shared with it, at the time of adoption.
    /// Whoever adopts an epoch must wait out the promise made to the head of the epoch adopted before (G13).
    pub promises: BTreeMap<NodeId, Instant>,
}

/// What the heartbeat machine can be told.
#[derive(Clone, Debug)]
pub enum Input {
    /// The deadline has come.
    Timer,
    /// Another roster member says something.
    Peer {
        /// Who.
        from: NodeId,
        /// In which life.
        incarnation: Incarnation,
        /// What.
        message: HeartbeatMessage,
    },
    /// This is agreed now (from the election machine).
    Published(Arc<Published>),
    /// The control link to a peer broke, and dialling again at once failed.
    LinkBroken(NodeId),
    /// Clients' commands or chain frames cannot be brought to a node.
    Unreachable(NodeId, Silence),
    /// A quorum confirmed that this node commands, in a round begun after the asking (from the election machine).
    Confirmed {
        /// Which asking.
        ask: u64,
        /// In which term.
        term: Term,
        /// At which dictionary version.
        version: Version,
    },
    /// It could not be confirmed.
    Again {
        /// Which asking.
        ask: u64,
    },
    /// What does not work in this process; empty when all is well.
    Ailing(Vec<String>),
}

/// What the heartbeat machine can ask for.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Say this to a roster member; may be lost.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        message: HeartbeatMessage,
    },
    /// Have it confirmed that this node commands (to the election machine).
    Confirm {
        /// Names the asking.
        ask: u64,
    },
    /// Adopt this: to all stores, doors, and ownership. No grant that contradicts it is given afterwards.
    Adopt(Arc<Adoption>),
    /// These leases are held now: to all stores.
    Leases(Arc<Leases>),
    /// These roster members are heard now: to the election machine, when the set changes.
    Hears(BTreeSet<NodeId>),
    /// The commander's verdict: probed in vain (to ownership).
    Suspect {
        /// Whom.
        node: NodeId,
        /// In which life.
        incarnation: Incarnation,
        /// What was missed, by whom, and the probe, in words.
        evidence: String,
    },
    /// The commander hears this node, in this life (to ownership; on each change of either).
    Alive {
        /// Whom.
        node: NodeId,
        /// In which life.
        incarnation: Incarnation,
        /// What does not work in it.
        ailing: Vec<String>,
    },
    /// This incarnation has been silent to the commander for so long that it has ended by itself (G24; to ownership).
    /// Counted anew from this commander's election.
    Expired {
        /// Whom.
        node: NodeId,
        /// In which life.
        incarnation: Incarnation,
        /// For how long.
        silent_for: Duration,
    },
    /// Something to remember for people.
    Note(Event),
}
