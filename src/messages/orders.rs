//! What operators order, on its way to the commander.

use serde::{Deserialize, Serialize};

use crate::types::{Incarnation, NodeId};

/// What operators can order. Each is acknowledged, and doing it twice does no harm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// The commander hands over, to a named node if wished.
    StepDown {
        /// To whom.
        to: Option<NodeId>,
    },
    /// The operator vouches that this node's process has ended: off the roster at once.
    Drop {
        /// Whom.
        node: NodeId,
    },
    /// Clients' writes wait from now on, in the whole mesh; reads go on.
    Pause {
        /// When that was asked, in milliseconds since 1970.
        since_ms: u64,
    },
    /// Clients' writes go on.
    Resume,
    /// This node gives away all it holds, then leaves the roster.
    Drain {
        /// Which.
        node: NodeId,
    },
    /// A node that drains stays after all.
    Abort {
        /// Which.
        node: NodeId,
    },
    /// Nothing is done: which moves would a drain of this node make, or which are outstanding?
    Preview {
        /// Which node would be drained, if any.
        drain: Option<NodeId>,
    },
    /// Moves that were put off, for a head that was busy or for nodes that did not reach each other, are tried at once.
    Rebalance,
    /// This node votes, as soon as it has the whole log; if there is no seat for it, instead of another.
    Promote {
        /// Which.
        node: NodeId,
    },
    /// This node does not vote.
    Demote {
        /// Which.
        node: NodeId,
    },
    /// A node says that its process is about to end, and will be back: nobody shall wait for it meanwhile.
    Rest {
        /// Which.
        node: NodeId,
        /// In which life.
        incarnation: Incarnation,
    },
    /// This node takes such a share of the data from now on, whatever its own settings say.
    Weigh {
        /// Which.
        node: NodeId,
        /// Its weight; none: as it says itself.
        weight: Option<u32>,
    },
    /// This node is in this zone, whatever its own settings say.
    Zone {
        /// Which.
        node: NodeId,
        /// Its zone, empty for none; none: as it says itself.
        zone: Option<String>,
    },
}
