//! Replication of one range between the members of its chain.
//!
//! Each frame carries the range's epoch; it is heard at an equal epoch only, between neighbours, in their listed
//! incarnations (G4). The connection knows the sender's incarnation.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::types::{Epoch, NodeId, RangeId, Sequence, Stamp};

/// One message about one range.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChainFrame {
    /// Which range.
    pub range: RangeId,
    /// The sender's epoch of it.
    pub epoch: Epoch,
    /// What is said.
    pub message: ChainMessage,
}

impl ChainFrame {
    /// Whether this belongs on the bulk lane: what is streamed to a joiner before it has caught up (G8).
    pub fn is_bulk(&self) -> bool {
        use ChainMessage::{Chunk, Piece, Streamed};
        matches!(&self.message, Chunk { .. } | Piece { .. } | Streamed { .. })
    }
}

/// What members of a chain say to each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ChainMessage {
    /// To the predecessor, on each new link and epoch, and each beat until it is answered: this is the last write I applied.
    Hello {
        /// Its stamp; zero for an empty copy.
        applied: Stamp,
        /// The newest streaming of this epoch that came to nothing here: begin another. Zero for none.
        refused: u32,
    },
    /// To the successor: apply these after `previous`. Without writes it asks: is that the last you applied?
    Forward {
        /// Stamp of the write before the first.
        previous: Stamp,
        /// In order.
        writes: Vec<Write>,
    },
    /// To the predecessor: applied and acknowledged by all behind me, up to here.
    Ack {
        /// The last of them.
        sequence: Sequence,
    },
    /// To a joiner, in the order in which the source read them: replaces these keys. The first drops what was there.
    Chunk {
        /// Which streaming; counts from 1 in an epoch, so that what is left of an earlier one is known as such.
        streaming: u32,
        /// Counts from 0 in one streaming, chunks, pieces and streamed writes together.
        part: u32,
        /// Keys and what they hold.
        entries: Vec<(Bytes, Value)>,
        /// Set in the last chunk: the stamp up to which the copy is now complete.
        complete: Option<Stamp>,
    },
    /// To a joiner, in place of a chunk: a piece of a value that is larger than one. With the last piece it replaces the key.
    Piece {
        /// Which streaming.
        streaming: u32,
        /// Counts with the chunks.
        part: u32,
        /// Whose value.
        key: Bytes,
        /// Where in the value the piece begins.
        offset: u64,
        /// The piece.
        data: Bytes,
        /// Whether it is the last.
        last: bool,
        /// When the key ends, as of now.
        expires_ms: Option<u64>,
    },
    /// To a joiner while it is being streamed: writes that happened meanwhile, in the same lane (G8).
    Streamed {
        /// Which streaming.
        streaming: u32,
        /// Counts with the chunks.
        part: u32,
        /// The writes, in order.
        writes: Vec<Write>,
    },
    /// From a joiner that is being streamed: I have applied parts up to here, send more.
    Received {
        /// Which streaming.
        streaming: u32,
        /// The part.
        part: u32,
    },
    /// From a parked head to the others: I never answer in this epoch again (G21).
    Released,
    /// To the successor that serves, right behind the writes sent so far: tell the asker what you hold of this interval now,
    /// and pass it on. So all of them look at the same stamp.
    Mark {
        /// Who compares.
        asker: NodeId,
        /// Its name for the asking.
        id: u64,
        /// The first place of the interval.
        from: u64,
        /// The place at which it ends; none for the end of the keyspace.
        to: Option<u64>,
    },
}

/// What a copy holds between two places of its keyspace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Contents {
    /// How many keys.
    pub keys: u64,
    /// The sum of the digests of each with its value and end, so that their order does not matter.
    pub digest: u64,
}

impl Contents {
    /// These and those.
    pub fn add(&mut self, more: Self) {
        self.keys += more.keys;
        self.digest = self.digest.wrapping_add(more.digest);
    }
}

/// What a member that serves says of an interval of its copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// Of which range.
    pub range: RangeId,
    /// In which epoch.
    pub epoch: Epoch,
    /// The last write it had applied.
    pub applied: Stamp,
    /// Where the interval ends; none for the end of the keyspace.
    pub to: Option<u64>,
    /// What it holds there.
    pub contents: Contents,
}

/// One write of a range: what it made of its keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Write {
    /// Which.
    pub stamp: Stamp,
    /// What changed. Empty on the wire where a recipe is sent instead.
    pub changes: Vec<Change>,
    /// How a member that has all that was before makes the same changes by itself.
    #[serde(default)]
    pub recipe: Option<Recipe>,
}

/// A command, to be carried out again as the head did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// Name and arguments.
    pub words: Vec<Bytes>,
    /// The wall clock of the head when it did.
    pub wall_ms: u64,
    /// A digest of the changes that it made.
    pub digest: u64,
}

/// What a write made of the keyspace, in a form that gives the same on every member.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Change {
    /// The key now holds this.
    Put(Bytes, Value),
    /// The key is gone.
    Delete(Bytes),
    /// The key's expiry changed, its value did not.
    Expire(Bytes, Option<u64>),
    /// All keys of the range are gone.
    Clear,
}

/// What a key holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Value {
    /// The bytes.
    pub data: Bytes,
    /// Milliseconds since 1970 at which it ends, if it does.
    pub expires_ms: Option<u64>,
}
