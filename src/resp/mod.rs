//! What clients speak, RESP2 and RESP3: their bytes to commands, replies to bytes. Pure.
//!
//! After the protocol's description at redis.io/docs/latest/develop/reference/protocol-spec. Input comes in pieces of any
//! size, cut anywhere; the same bytes give the same commands and the same error however they were cut. A word of a command is
//! a slice of the buffer it arrived in. Nothing is allocated in a size that a number from the wire asks for, only in the size
//! of what has arrived, and the limits are stricter while the client has not said who it is.
//! Not here: what the words mean (`commands`), when input is read and output written (`actors::session`).

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod decode;
mod encode;
mod inline;
mod parser;

#[cfg(test)]
mod tests;

pub use decode::decode;
pub use encode::{encode, encode_flat};
pub use parser::Parser;
pub(crate) use parser::integer;

/// The version of the protocol in which a connection is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// What a connection begins with.
    #[default]
    Resp2,
    /// Asked for by `HELLO 3`.
    Resp3,
}

impl Protocol {
    /// As `HELLO` counts.
    pub fn number(self) -> i64 {
        match self {
            Self::Resp2 => 2,
            Self::Resp3 => 3,
        }
    }
}

/// How much a client may ask us to hold for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Words of one command.
    pub words: usize,
    /// Bytes of one word.
    pub word: usize,
    /// Bytes of one inline command.
    pub inline: usize,
    /// Bytes of one whole command.
    pub command: usize,
}

impl Limits {
    /// Before the client has said who it is.
    pub const STRANGER: Self = Self { words: 10, word: 16 << 10, inline: 16 << 10, command: 1 << 20 };
    /// Afterwards.
    pub const CLIENT: Self = Self { words: 1 << 20, word: 512 << 20, inline: 64 << 10, command: 1 << 30 };
}

/// Why a connection's input cannot be understood any further. Told to the client, then the connection is closed: after such
/// an error nobody knows where the next command begins.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// An inline command without an end.
    #[error("too big inline request")]
    InlineTooBig,
    /// A quote that is not closed, or is followed by something.
    #[error("unbalanced quotes in request")]
    Quotes,
    /// A browser that was tricked into talking to us.
    #[error("this is not HTTP")]
    Http,
    /// A count of words without an end.
    #[error("too big mbulk count string")]
    CountTooBig,
    /// A count of words that is no number or too large.
    #[error("invalid multibulk length")]
    Count,
    /// More words than a stranger may send.
    #[error("unauthenticated multibulk length")]
    StrangerCount,
    /// A length of a word without an end.
    #[error("too big bulk count string")]
    LengthTooBig,
    /// Something else where a word should begin.
    #[error("expected '$', got '{0}'")]
    Expected(char),
    /// A length of a word that is no number or too large.
    #[error("invalid bulk length")]
    Length,
    /// A longer word than a stranger may send.
    #[error("unauthenticated bulk length")]
    StrangerLength,
    /// A word that does not end where its length says.
    #[error("expected CRLF after a bulk string")]
    End,
    /// A command that is larger than all a client may have us hold.
    #[error("too big request")]
    CommandTooBig,
    /// A reply of an unknown kind, or one that contradicts itself.
    #[error("invalid reply")]
    Reply,
    /// A reply that is nested deeper than any of ours.
    #[error("too deeply nested reply")]
    Depth,
}

impl ProtocolError {
    /// What the client is told before the connection is closed.
    pub fn reply(&self) -> crate::messages::client::Reply {
        crate::messages::client::Reply::error(format!("ERR Protocol error: {self}"))
    }
}
