//! (story to be written by its owner)

use std::sync::Arc;

use crate::machines::heartbeat::{Adoption, Leases};
use crate::messages::chain::ChainFrame;
use crate::messages::client::{Outcome, Request};
use crate::types::{Epoch, Incarnation, NodeId, RangeId};

/// What a store machine can be told.
#[derive(Clone, Debug)]
pub enum Input {
    /// The deadline has come.
    Timer,
    /// This is agreed now (from the heartbeat machine).
    Adopt(Arc<Adoption>),
    /// These leases are held now (from the heartbeat machine).
    Leases(Arc<Leases>),
    /// Carry these out, in order, for ranges of this store. Answered by one or more `Effect::Outcomes`.
    Batch {
        /// Names the batch; chosen by the asker.
        ticket: u64,
        /// The commands.
        requests: Vec<Request>,
    },
    /// Another member of a chain says something.
    Peer {
        /// Who.
        from: NodeId,
        /// In which life.
        incarnation: Incarnation,
        /// What.
        frame: ChainFrame,
    },
    /// The link to a peer was had again, or is new: say Hello where it is a neighbour.
    LinkUp(NodeId),
    /// The link to a peer broke: what was sent and not acknowledged may be lost.
    LinkDown(NodeId),
    /// Hand this range over (G20).
    Park {
        /// Which range.
        range: RangeId,
        /// In which epoch.
        epoch: Epoch,
    },
    /// Do you serve these? (G19)
    Vouch {
        /// Names the asking.
        id: u64,
        /// Range and epoch.
        ranges: Vec<(RangeId, Epoch)>,
    },
}

/// What a store machine can ask for.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// What became of commands of a batch. Every command of a batch is answered once.
    Outcomes {
        /// Which batch.
        ticket: u64,
        /// Place in the batch of the first outcome here.
        from: u32,
        /// One a command, neighbours in the batch.
        outcomes: Vec<Outcome>,
    },
    /// Say this to another member of a chain; in order on a link, lost only with it.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        frame: ChainFrame,
    },
    /// A joiner has all, and this source is bound to it (G15; to ownership here, and to the commander).
    CaughtUp {
        /// Which range.
        range: RangeId,
        /// In which epoch.
        epoch: Epoch,
        /// Who.
        joiner: NodeId,
        /// In which life.
        incarnation: Incarnation,
    },
    /// A range is parked and clean (G20; to ownership).
    Parked {
        /// Which range.
        range: RangeId,
        /// In which epoch.
        epoch: Epoch,
    },
    /// The answer to `Vouch`.
    Vouched {
        /// Which asking.
        id: u64,
        /// For these.
        ranges: Vec<RangeId>,
    },
}
