//! What the ownership machine hears, and what it can ask for.

use std::sync::Arc;
use std::time::Duration;

use crate::machines::election::Proposed;
use crate::machines::heartbeat::Adoption;
use crate::messages::chain::Counted;
use crate::messages::events::Event;
use crate::messages::ownership::{Candidate, Command, JoinAnswer, Order, OwnershipMessage};
use crate::messages::status::Verification;
use crate::types::{Epoch, Incarnation, NodeId, RangeId};

/// What the ownership machine can be told.
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
        message: OwnershipMessage,
    },
    /// This is agreed now (from the heartbeat machine).
    Adopt(Arc<Adoption>),
    /// A stranger asks to join (see `JoinMessage`). Answered by `Effect::Answer`.
    Joining {
        /// Names the connection.
        connection: u64,
        /// Who asks.
        candidate: Candidate,
    },
    /// The heartbeat machine's verdicts, on the commander.
    Suspect {
        /// Whom.
        node: NodeId,
        /// In which life.
        incarnation: Incarnation,
        /// Why.
        evidence: String,
        /// Its process has ended, as far as can be seen, rather than being paused or cut off.
        gone: bool,
    },
    /// A node is heard.
    Alive {
        /// Whom.
        node: NodeId,
        /// In which life.
        incarnation: Incarnation,
        /// What does not work in it.
        ailing: Vec<String>,
    },
    /// An incarnation has been silent for so long that it is given up (G24).
    Expired {
        /// Whom.
        node: NodeId,
        /// In which life.
        incarnation: Incarnation,
        /// For how long.
        silent_for: Duration,
    },
    /// A node that the commander hears was missed by another, which it hears too. Said again as long as it is so.
    Apart {
        /// Who missed it.
        by: NodeId,
        /// Whom.
        about: NodeId,
        /// It is not that one of them was cut off from all a moment ago.
        lasting: bool,
    },
    /// What became of a proposal.
    Proposed {
        /// Which.
        request: u64,
        /// What.
        outcome: Proposed,
    },
    /// An operator at this node orders something. Answered by `Effect::Ordered`.
    Order {
        /// Names the order.
        id: u64,
        /// What.
        order: Order,
    },
    /// A local store says that a joiner has all (G15).
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
    /// A local store says that a range is parked (G20).
    Parked {
        /// Which range.
        range: RangeId,
        /// In which epoch.
        epoch: Epoch,
    },
    /// An operator at this node asks whether all holders hold the same. Answered by `Effect::Verified`.
    Verify {
        /// Names the question.
        id: u64,
        /// Of this range, or of all.
        range: Option<RangeId>,
    },
    /// A local store says what it holds of an interval.
    Counted {
        /// Who asked.
        asker: NodeId,
        /// Its name for the asking.
        id: u64,
        /// What.
        counted: Counted,
    },
    /// A local store's answer to `Effect::Vouch`.
    Vouched {
        /// Which asking.
        id: u64,
        /// For these.
        ranges: Vec<RangeId>,
    },
}

/// What the ownership machine can ask for.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Say this to a roster member; may be lost.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        message: OwnershipMessage,
    },
    /// Put this into the log (to the election machine).
    Propose {
        /// Names it.
        request: u64,
        /// What.
        command: Command,
    },
    /// Hand the command over (to the election machine).
    StepDown {
        /// To whom.
        to: Option<NodeId>,
    },
    /// Answer one that asked to join.
    Answer {
        /// In which connection.
        connection: u64,
        /// What.
        answer: JoinAnswer,
    },
    /// Answer an operator at this node.
    Ordered {
        /// Which order.
        id: u64,
        /// Lines for the operator, or why not.
        result: Result<Vec<String>, String>,
    },
    /// To the local store of this range: hand over (G20).
    Park {
        /// Which range.
        range: RangeId,
        /// In which epoch.
        epoch: Epoch,
    },
    /// To all local stores: do you serve these? (G19)
    Vouch {
        /// Names the asking.
        id: u64,
        /// Range and epoch.
        ranges: Vec<(RangeId, Epoch)>,
    },
    /// To the local store of this range: what do the members of its chain hold?
    Count {
        /// Who asks.
        asker: NodeId,
        /// Its name for the asking.
        id: u64,
        /// Which range.
        range: RangeId,
        /// In which epoch.
        epoch: Epoch,
        /// From which place on.
        from: u64,
    },
    /// Tell an operator at this node how copies compare.
    Verified {
        /// Which question.
        id: u64,
        /// How, or why that was not looked at.
        result: Result<Verification, String>,
    },
    /// So many ranges have come to lie as they should since there was something to move, and so many do not yet (to the heartbeat
    /// machine, which tells everybody).
    Moves {
        /// As they should.
        done: u32,
        /// Not yet.
        left: u32,
    },
    /// Something to remember for people.
    Note(Event),
    /// The mesh counts this life of the node as over (G24), so it can be no member of anything any more: the process must
    /// begin another one, with the same data directory, the next incarnation and empty memory. Why, in words.
    BeginAgain(String),
}
