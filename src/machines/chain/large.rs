//! Values that are larger than a chunk: they go to a joiner in pieces, so that no frame and no step is longer than others.
//!
//! The pieces are of one value, read when the first was sent. Before each, all writes until then have gone down the same
//! lane. So a key that holds another value by now needs no more pieces: the joiner has the new value, or its deletion, as a
//! write. A mere change of its end came to nothing there, for the key was not there yet; so the last piece says when it ends.

use bytes::Bytes;

use crate::keyspace::Keyspace;
use crate::machines::chain::{Context, Holding};
use crate::messages::chain::{ChainMessage, Change, Value};

/// A large value on its way to a joiner.
#[derive(Clone, Debug)]
pub(super) struct Large {
    key: Bytes,
    data: Bytes,
    sent: usize,
}

/// A piece of a large value.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub key: Bytes,
    /// Where it begins.
    pub offset: u64,
    pub data: Bytes,
    /// Of the last piece: when the key ends, if it does.
    pub end: Option<Option<u64>>,
}

/// A large value that is coming.
#[derive(Clone, Debug)]
pub(super) struct Assembling {
    key: Bytes,
    data: Vec<u8>,
}

impl Large {
    pub fn new(key: Bytes, data: Bytes) -> Self {
        Self { key, data, sent: 0 }
    }

    pub fn key(&self) -> &Bytes {
        &self.key
    }

    /// The next piece, and what is left after it; none if the key holds another value by now.
    pub fn next(mut self, keyspace: &Keyspace, limit: usize) -> Option<(Piece, Option<Self>)> {
        let value = keyspace.peek(&self.key)?;
        // The same bytes in memory, which cannot have been used again while they are held here.
        if (value.data.as_ptr(), value.data.len()) != (self.data.as_ptr(), self.data.len()) {
            return None;
        }
        let (from, until) = (self.sent, self.data.len().min(self.sent + limit));
        self.sent = until;
        let end = (until == self.data.len()).then_some(value.expires_ms);
        let piece = Piece { key: self.key.clone(), offset: from as u64, data: self.data.slice(from..until), end };
        Some((piece, end.is_none().then_some(self)))
    }
}

impl Piece {
    pub fn say(self, streaming: u32, part: u32) -> ChainMessage {
        let Self { key, offset, data, end } = self;
        let (last, expires_ms) = (end.is_some(), end.flatten());
        ChainMessage::Piece { streaming, part, key, offset, data, last, expires_ms }
    }
}

impl Holding {
    /// From the source: a piece of a large value.
    pub(super) fn on_piece(&mut self, streaming: u32, part: u32, piece: Piece, ctx: &mut Context) {
        if self.serves() || !self.is_next_part(streaming, part, ctx) {
            return;
        }
        let Some(predecessor) = &mut self.predecessor else { return };
        if piece.offset == 0 {
            predecessor.assembling = Some(Assembling { key: piece.key.clone(), data: Vec::new() });
        }
        let fits = |it: &&mut Assembling| it.key == piece.key && it.data.len() as u64 == piece.offset;
        // What does not follow is not taken, and so not answered: the source begins anew after a while.
        let Some(assembling) = predecessor.assembling.as_mut().filter(fits) else { return };
        assembling.data.extend_from_slice(&piece.data);
        if let Some(expires_ms) = piece.end {
            let mut data = std::mem::take(&mut assembling.data);
            data.shrink_to_fit();
            predecessor.assembling = None;
            self.keyspace.apply(&Change::Put(piece.key, Value { data: data.into(), expires_ms }));
        }
        self.took_part(false, ctx);
    }

    /// Other keys follow: of the value that was coming in pieces no more will come.
    pub(super) fn forget_pieces(&mut self) {
        if let Some(predecessor) = &mut self.predecessor {
            predecessor.assembling = None;
        }
    }
}
