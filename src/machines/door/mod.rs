//! (story to be written by its owner)

use std::sync::Arc;

use crate::machines::heartbeat::Adoption;
use crate::messages::client::{Outcome, Reply, Request};
use crate::types::NodeId;

/// What a door machine can be told.
#[derive(Clone, Debug)]
pub enum Input {
    /// The deadline has come.
    Timer,
    /// This is agreed now (from the heartbeat machine).
    Adopt(Arc<Adoption>),
    /// A session has commands. Answered by one `Effect::Answer` for each, in any order.
    Submit {
        /// Names the batch; unique in this door.
        ticket: u64,
        /// Names the session; unique in this door. Its commands for one range are applied in the order they came in.
        session: u64,
        /// The commands.
        requests: Vec<Request>,
        /// Whether this door passes on what another node heads (plain) or says MOVED (cluster).
        passes_on: bool,
    },
    /// A local store says what became of commands.
    Outcomes {
        /// Which batch: the name that `Effect::Local` gave it.
        ticket: u64,
        /// Place of the first.
        from: u32,
        /// One a command.
        outcomes: Vec<Outcome>,
    },
    /// Another node says what became of commands.
    Carried {
        /// Which node.
        peer: NodeId,
        /// Which batch (`Effect::Carry`).
        id: u64,
        /// Place of the first.
        from: u32,
        /// One a command.
        outcomes: Vec<Outcome>,
    },
    /// A batch could not be handed to the link: none of its bytes has left. Told before the `LinkDown` of the same break,
    /// or what could be sent again is called uncertain.
    NotSent {
        /// To whom.
        peer: NodeId,
        /// Which batch.
        id: u64,
    },
    /// The data link to a node broke: what was sent and not answered is unknown.
    LinkDown(NodeId),
    /// The data link to a node is there.
    LinkUp(NodeId),
}

/// What a door machine can ask for.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// To the local stores: carry these out (the postman splits them by worker if there are several).
    Local {
        /// Names the batch: the door's own name, no session's ticket.
        ticket: u64,
        /// The commands.
        requests: Vec<Request>,
    },
    /// To another node: carry these out (`RelayMessage::Carry`).
    Carry {
        /// To whom.
        to: NodeId,
        /// Names the batch in this door; never used again. A node of several doors makes it unique among them.
        id: u64,
        /// The commands.
        requests: Vec<Request>,
    },
    /// The answer to one command of a session's batch.
    Answer {
        /// Which batch.
        ticket: u64,
        /// Which command of it.
        place: u32,
        /// What it is told.
        reply: Reply,
    },
    /// A node could not be reached for clients' commands (to the heartbeat machine).
    Unreachable(NodeId),
}
