//! What happened to the mesh, for people: kept by each node, told by `explain` and `watch`, and written to the log.

use serde::{Deserialize, Serialize};

use crate::types::{NodeId, RangeId, Term, Version};

/// One thing that happened, with its cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// What kind of thing.
    pub kind: EventKind,
    /// The term in which it was noticed.
    pub term: Term,
    /// The dictionary version it made, or that held when it happened.
    pub version: Version,
    /// Whom it concerns, if one node.
    pub node: Option<NodeId>,
    /// The ranges it concerns, if any.
    pub ranges: Vec<RangeId>,
    /// What happened and why, as one line for an operator.
    pub text: String,
}

/// Kinds of events, as `watch` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum EventKind {
    /// A commander rules.
    CommanderElected,
    /// The commander this node followed is not heard any more, or stepped down.
    CommanderLost,
    /// A node is on the roster, or is back with a new incarnation.
    NodeAdmitted,
    /// A node is heard.
    NodeUp,
    /// A node was probed in vain.
    NodeSuspect,
    /// An incarnation is dead for certain, or was given up.
    NodeLost,
    /// A node is off the roster.
    NodeRemoved,
    /// Voters or learners changed.
    SeatsChanged,
    /// Chains changed.
    ChainsChanged,
    /// All holders of ranges were gone: what was lost.
    RangesLost,
    /// A mesh-wide setting changed.
    SettingChanged,
    /// Something this node noticed of itself: a slow disk, a contradiction in its settings.
    Noticed,
    /// A node was told to give away what it holds and leave, or to stay after all.
    NodeDraining,
}
