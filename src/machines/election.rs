//! (story to be written by its owner)

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::machines::dictionary::Dictionary;
use crate::messages::election::{ElectionMessage, Save, Seats};
use crate::messages::events::Event;
use crate::messages::ownership::{Applied, Command};
use crate::types::{NodeId, Term, Version};

/// What this node knows to be agreed. Published whole at each change; the data plane reads it and never asks.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    /// The dictionary as applied here.
    pub dictionary: Arc<Dictionary>,
    /// The newest term this node knows.
    pub term: Term,
    /// Who rules in it, as far as known.
    pub commander: Option<NodeId>,
    /// Whether this node does, and has committed in its own term: only then may it act as commander.
    pub commanding: bool,
    /// Who counts, as applied here.
    pub seats: Seats,
}

/// What the election machine can be told.
#[derive(Clone, Debug)]
pub enum Input {
    /// The deadline has come.
    Timer,
    /// Another roster member says something.
    Peer {
        /// Who.
        from: NodeId,
        /// What.
        message: ElectionMessage,
    },
    /// The write of this number, and all before it, are stable.
    Persisted(u64),
    /// The disk refused a write.
    DiskFailed(String),
    /// Put this into the log. Answered by `Effect::Proposed`.
    Propose {
        /// The asker's name for it; unique within this incarnation.
        request: u64,
        /// What.
        command: Command,
    },
    /// Confirm with a quorum round begun now that this node commands. Answered by `Confirmed` or `Again`.
    Confirm {
        /// The asker's name for it.
        ask: u64,
    },
    /// Hand the command to another voter: the best one, or this one.
    StepDown {
        /// To whom.
        to: Option<NodeId>,
    },
    /// The roster members that are heard now, this node included (from the heartbeat machine).
    Hears(BTreeSet<NodeId>),
    /// For stories: this node's election timeout is over now.
    TimeOut,
}

/// What the election machine can ask for.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Make this stable, then say `Persisted`.
    Persist(Save),
    /// Say this to a roster member; may be lost.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        message: ElectionMessage,
    },
    /// This is agreed now.
    Publish(Arc<Published>),
    /// What became of a proposal.
    Proposed {
        /// Which.
        request: u64,
        /// What.
        outcome: Proposed,
    },
    /// A quorum confirmed it, in a round begun after the asking: it commands in this term, and this is the applied version.
    Confirmed {
        /// Which asking.
        ask: u64,
        /// The term.
        term: Term,
        /// The dictionary version applied here, which holds all that was committed when the round began.
        version: Version,
    },
    /// It could not be confirmed: ask again later.
    Again {
        /// Which asking.
        ask: u64,
    },
    /// Something to remember for people.
    Note(Event),
    /// This process must end now, and why: a false belief, a disk that fails, removal from the roster.
    End(String),
}

/// What became of a proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proposed {
    /// It is committed and applied.
    Applied(Applied),
    /// The command was lost, or may yet be committed: unknown (never "failed").
    Unknown,
    /// Surely not proposed: this node does not command.
    NotCommander,
}
