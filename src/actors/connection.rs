//! One connection between two nodes, after the handshake: writes what its outbox holds, reads what comes, until it breaks.
//!
//! Both directions live and die together. Reading waits for room in the mailboxes it delivers to, so that a node that is
//! behind slows the sender down through TCP rather than losing what it said.

use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::actors::outbox::{Frame, Kind, Outbox, Taken};
use crate::actors::postroom::Postroom;
use crate::actors::switchboard::Heard;
use crate::io::streams::{Reader, Stream, Writer};
use crate::messages::peer::Lane;
use crate::types::{Incarnation, NodeId};
use crate::wire::frame::{self, FrameError, Frames};

/// About so many bytes are handed to the operating system at once.
const GULP: usize = 128 << 10;

/// A read buffer begins so small, and is given back when it has grown and is empty again.
const READ: usize = 4 << 10;

/// Who is at the other end, and what the connection carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Party {
    /// Which node.
    pub node: NodeId,
    /// In which life.
    pub incarnation: Incarnation,
    /// What is carried.
    pub lane: Lane,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// The other side closed it.
    #[error("closed by the other side")]
    Closed,
    /// The operating system says so.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The other side said what it may not say.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A frame that may not be lost alone found no room on the way out.
    #[error("more to say than the connection carries")]
    Overflow,
    /// The life of the other side that it belonged to is over, or its address has changed.
    #[error("that life of the other side is over")]
    Outlived,
    /// Nothing was said for long.
    #[error("idle")]
    Idle,
    /// What came could not be delivered within a second.
    #[error("this node is too far behind to hear more")]
    Deaf,
}

/// A connection that stands.
pub struct Connection {
    /// Who is at the other end.
    pub party: Party,
    /// Both directions.
    pub stream: Stream,
    /// What came with the last bytes of the handshake, if anything did.
    pub heard: BytesMut,
    /// What is to leave.
    pub outbox: Arc<Outbox>,
    /// When something last came.
    pub last: Arc<Heard>,
}

impl Connection {
    /// Carries both directions until one breaks. Gives back the frames of which no byte has left.
    pub async fn carry(self, postroom: &Postroom) -> (Ended, Vec<Frame>) {
        let (reader, writer) = self.stream.split();
        let mut leaving = Leaving::default();
        let ended = tokio::select! {
            biased;
            ended = read(reader, self.heard, self.party, postroom, &self.outbox, &self.last) => ended,
            ended = write(writer, &self.outbox, &mut leaving) => ended,
        };
        (ended, leaving.untouched())
    }
}

async fn read(
    mut reader: Reader,
    mut buffer: BytesMut,
    party: Party,
    postroom: &Postroom,
    back: &Arc<Outbox>,
    last: &Heard,
) -> Ended {
    let frames = Frames::of(party.lane);
    loop {
        loop {
            let message = match frames.next(&mut buffer) {
                Ok(None) => break,
                Ok(Some(frame)) => match frame::message(&frame, party.lane) {
                    Ok(message) => message,
                    Err(error) => return error.into(),
                },
                Err(error) => return error.into(),
            };
            if !postroom.deliver(party, message, back).await {
                return Ended::Deaf;
            }
        }
        if buffer.is_empty() {
            buffer = BytesMut::new();
        }
        buffer.reserve(READ);
        match reader.read_buf(&mut buffer).await {
            Ok(0) => return Ended::Closed,
            Ok(_) => last.again(postroom.now()),
            Err(error) => return error.into(),
        }
    }
}

/// What was taken from the outbox and is being written.
#[derive(Default)]
struct Leaving {
    bytes: BytesMut,
    /// How much of `bytes` the operating system has taken.
    written: usize,
    /// Where each frame begins that could be given back.
    carries: Vec<(usize, u64)>,
}

impl Leaving {
    fn load(&mut self, frames: Vec<Frame>) {
        self.written = 0;
        self.carries.clear();
        self.bytes.clear();
        for frame in frames {
            if let Kind::Carry(id) = frame.kind {
                self.carries.push((self.bytes.len(), id));
            }
            self.bytes.extend_from_slice(&frame.bytes);
        }
    }

    fn untouched(self) -> Vec<Frame> {
        let untouched = self.carries.iter().filter(|(start, _)| *start >= self.written);
        untouched.map(|(_, id)| Frame { bytes: bytes::Bytes::new(), kind: Kind::Carry(*id) }).collect()
    }
}

async fn write(mut writer: Writer, outbox: &Outbox, leaving: &mut Leaving) -> Ended {
    loop {
        let Taken::Frames(frames) = outbox.take(GULP).await else { return Ended::Overflow };
        leaving.load(frames);
        while leaving.written < leaving.bytes.len() {
            match writer.write(&leaving.bytes[leaving.written..]).await {
                Ok(0) => return Ended::Closed,
                Ok(count) => leaving.written += count,
                Err(error) => return error.into(),
            }
        }
        leaving.carries.clear();
        // A large buffer is not kept by a connection that has nothing to say.
        if leaving.bytes.capacity() > 2 * GULP {
            leaving.bytes = BytesMut::new();
            leaving.written = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_of_which_a_byte_has_left_are_not_given_back() {
        let frame = |id| Frame { bytes: bytes::Bytes::from_static(b"12345"), kind: Kind::Carry(id) };
        let mut leaving = Leaving::default();
        leaving.load(vec![frame(1), frame(2), frame(3)]);
        leaving.written = 6;
        let ids: Vec<Kind> = leaving.untouched().iter().map(|frame| frame.kind).collect();
        assert_eq!(ids, vec![Kind::Carry(3)]);
    }
}
