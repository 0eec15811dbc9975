//! What clients ask and what they are told, whatever door they came in by, and how it travels between nodes.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::types::{Epoch, RangeId};

/// One command for one range: the words as the client sent them, name first. Keyless commands that concern a range
/// (`FLUSHALL`, `DBSIZE`, `SCAN`) are sent once a range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Where its keys lie.
    pub range: RangeId,
    /// Name and arguments.
    pub words: Vec<Bytes>,
    /// Whether it may change a key: then an unknown outcome must be called so.
    pub write: bool,
    /// Names the session that asks, at the node whose door it came by; the door fills it in. A head that holds some commands
    /// lets those of other sessions pass.
    #[serde(default)]
    pub session: u64,
}

/// An answer, in the terms of RESP3; the encoder puts it into RESP2 where the client speaks that.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    /// `+OK` and its like.
    Simple(std::borrow::Cow<'static, str>),
    /// An error: first its code word, then the text.
    Error(std::borrow::Cow<'static, str>),
    /// A whole number.
    Integer(i64),
    /// Bytes.
    Bulk(Bytes),
    /// Nothing.
    Null,
    /// A sequence.
    Array(Vec<Reply>),
    /// Pairs; in RESP2 a flat array.
    Map(Vec<(Reply, Reply)>),
    /// In RESP2 an array.
    Set(Vec<Reply>),
    /// In RESP2 bytes.
    Double(f64),
    /// In RESP2 1 or 0.
    Boolean(bool),
    /// Text for people; in RESP2 bytes.
    Verbatim(String),
}

impl Reply {
    /// `+OK`.
    pub fn ok() -> Self {
        Self::Simple("OK".into())
    }

    /// Bytes from anything that is bytes.
    pub fn bulk(bytes: impl Into<Bytes>) -> Self {
        Self::Bulk(bytes.into())
    }

    /// Bytes from text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Bulk(Bytes::from(text.into()))
    }

    /// An error; `text` begins with its code word.
    pub fn error(text: impl Into<std::borrow::Cow<'static, str>>) -> Self {
        Self::Error(text.into())
    }
}

/// Between the node that a client asked and the node that heads the range.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum RelayMessage {
    /// Carry these out, in this order. Answered whole.
    Carry {
        /// Names the batch on this link; never used again by the sender.
        id: u64,
        /// The commands.
        requests: Vec<Request>,
    },
    /// What became of them, in the same order. May come in several parts: `from` is the place of the first.
    Carried {
        /// Which batch.
        id: u64,
        /// Place in the batch of the first outcome here.
        from: u32,
        /// One a command.
        outcomes: Vec<Outcome>,
    },
}

/// What became of a command at the node that should head its range.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// Carried out; or refused for a reason that is the client's own.
    Replied(Reply),
    /// Surely not applied, and may be sent on: the reason says what the node knew.
    NotApplied(NotApplied),
    /// Numbered by a head that was dropped before the chain had it: it may or may not have happened.
    Uncertain,
}

/// Why a node did not carry out a command. In each case nothing of it happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NotApplied {
    /// This node does not head the range in the epoch it knows.
    NotHead(Epoch),
    /// It heads the range, but could not answer in the time that commands are held.
    Held,
    /// Its queues are full.
    Busy,
}
