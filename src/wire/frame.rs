//! Frames: where one message ends and the next begins.
//!
//! A frame is a length, four bytes with the highest first, and so many bytes of CBOR. The limit depends on what the
//! connection carries. The length is a promise of a stranger: it is compared with the limit and then only waited for; memory
//! grows with the bytes that have come, never by what was promised.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::codec::{self, CodecError};
use crate::messages::ownership::JoinMessage;
use crate::messages::peer::{Lane, PeerMessage, PeerRefusal};

/// A greeting and its answers take some two hundred bytes; who has not been recognised gets no more than this.
pub const HANDSHAKE_LIMIT: usize = 4 << 10;

/// For beacons, votes, appended log records and orders. An append carries a bounded number of commands; one of
/// placement may set all 16,384 chains at once, which takes about 2 MiB.
pub const CONTROL_LIMIT: usize = 16 << 20;

/// For clients' commands, forwards and chunks: the largest value that clients may store (512 MiB, as in Redis), and what is around it.
pub const DATA_LIMIT: usize = (512 << 20) + (16 << 20);

const PREFIX: usize = 4;

/// Why bytes are no frame, or a message none that may be sent.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than this connection carries.
    #[error("a frame of {length} bytes, where {limit} are allowed")]
    TooLong {
        /// As declared, or as it would be.
        length: usize,
        /// What is allowed.
        limit: usize,
    },
    /// Empty: nothing is said in no bytes.
    #[error("an empty frame")]
    Empty,
    /// Not the message it should be.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// A message of another lane.
    #[error("a message of the {said:?} lane on the {lane:?} lane")]
    WrongLane {
        /// Where it belongs.
        said: Lane,
        /// Where it came.
        lane: Lane,
    },
}

impl From<FrameError> for PeerRefusal {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::WrongLane { .. } => Self::Unexpected,
            other => Self::Malformed(other.to_string()),
        }
    }
}

/// How long a frame may be on a lane.
pub fn limit(lane: Lane) -> usize {
    match lane {
        Lane::Control => CONTROL_LIMIT,
        Lane::Data | Lane::Bulk => DATA_LIMIT,
    }
}

/// Cuts what has come in a connection into frames.
#[derive(Clone, Copy, Debug)]
pub struct Frames {
    limit: usize,
}

impl Frames {
    /// For frames up to `limit` bytes, the prefix not counted.
    pub fn new(limit: usize) -> Self {
        Self { limit }
    }

    /// For the messages of a lane.
    pub fn of(lane: Lane) -> Self {
        Self::new(limit(lane))
    }

    /// Takes the next whole frame out of the buffer: its content, without copying it. `None` until all of it is there.
    ///
    /// # Errors
    /// When the frame is empty or too long; nothing after it can be read then.
    pub fn next(self, buffer: &mut BytesMut) -> Result<Option<Bytes>, FrameError> {
        let Some(prefix) = buffer.first_chunk::<PREFIX>() else { return Ok(None) };
        let length = u32::from_be_bytes(*prefix) as usize;
        if length == 0 {
            return Err(FrameError::Empty);
        }
        if length > self.limit {
            return Err(FrameError::TooLong { length, limit: self.limit });
        }
        if buffer.len() < PREFIX + length {
            return Ok(None);
        }
        buffer.advance(PREFIX);
        Ok(Some(buffer.split_to(length).freeze()))
    }
}

/// Appends a value as a frame.
///
/// # Errors
/// When it would be longer than `limit`; the buffer is then as it was.
pub fn push<T: Serialize>(value: &T, limit: usize, buffer: &mut BytesMut) -> Result<(), FrameError> {
    let start = buffer.len();
    buffer.put_u32(0);
    codec::encode_into(value, buffer.writer());
    let length = buffer.len() - start - PREFIX;
    if length > limit {
        buffer.truncate(start);
        return Err(FrameError::TooLong { length, limit });
    }
    buffer[start..start + PREFIX].copy_from_slice(&(length as u32).to_be_bytes());
    Ok(())
}

/// Appends a message as a frame of its own lane.
///
/// # Errors
/// When it is longer than its lane allows.
pub fn push_message(message: &PeerMessage, buffer: &mut BytesMut) -> Result<(), FrameError> {
    push(message, limit(message.lane()), buffer)
}

/// The message of a frame that came on `lane`.
///
/// # Errors
/// When it is none, or belongs on another lane: a frame there could pass one it must follow.
pub fn message(frame: &[u8], lane: Lane) -> Result<PeerMessage, FrameError> {
    let message: PeerMessage = codec::decode(frame)?;
    let said = message.lane();
    if said == lane { Ok(message) } else { Err(FrameError::WrongLane { said, lane }) }
}

/// The one kind of message that travels on the connection of a node that belongs to no mesh.
///
/// # Errors
/// When the frame holds anything else.
pub fn join_message(frame: &[u8]) -> Result<JoinMessage, FrameError> {
    value(frame)
}

/// The value of a frame.
///
/// # Errors
/// When it holds anything but a `T`.
pub fn value<T: DeserializeOwned>(frame: &[u8]) -> Result<T, FrameError> {
    Ok(codec::decode(frame)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::messages::client::{RelayMessage, Request};
    use crate::messages::heartbeat::HeartbeatMessage;
    use crate::types::RangeId;

    fn probe() -> PeerMessage {
        PeerMessage::Heartbeat(HeartbeatMessage::Probe(7))
    }

    #[test]
    fn frames_come_out_as_they_went_in_however_they_are_cut() {
        let mut sent = BytesMut::new();
        for _ in 0..3 {
            push_message(&probe(), &mut sent).unwrap();
        }
        let (mut buffer, mut heard) = (BytesMut::new(), 0);
        for byte in sent {
            buffer.put_u8(byte);
            while let Some(frame) = Frames::of(Lane::Control).next(&mut buffer).unwrap() {
                assert_eq!(message(&frame, Lane::Control), Ok(probe()));
                heard += 1;
            }
        }
        assert_eq!((heard, buffer.len()), (3, 0));
    }

    #[test]
    fn a_frame_past_the_limit_is_refused_by_its_first_four_bytes() {
        let mut buffer = BytesMut::from(&((CONTROL_LIMIT + 1) as u32).to_be_bytes()[..]);
        let error = Frames::of(Lane::Control).next(&mut buffer).unwrap_err();
        assert_eq!(error, FrameError::TooLong { length: CONTROL_LIMIT + 1, limit: CONTROL_LIMIT });
        assert_eq!(PeerRefusal::from(error).code(), "Malformed");
    }

    #[test]
    fn a_promise_of_much_takes_no_memory() {
        let mut buffer = BytesMut::from(&(DATA_LIMIT as u32).to_be_bytes()[..]);
        assert_eq!(Frames::of(Lane::Data).next(&mut buffer), Ok(None));
        assert!(buffer.capacity() < 1024, "{}", buffer.capacity());
    }

    #[test]
    fn an_empty_frame_is_refused() {
        let mut buffer = BytesMut::from(&[0, 0, 0, 0][..]);
        assert_eq!(Frames::of(Lane::Control).next(&mut buffer), Err(FrameError::Empty));
    }

    #[test]
    fn what_is_too_long_is_not_sent_and_leaves_no_trace() {
        let mut buffer = BytesMut::from(&b"before"[..]);
        assert!(matches!(push(&vec![1u64; 100], 50, &mut buffer), Err(FrameError::TooLong { .. })));
        assert_eq!(&buffer[..], b"before");
    }

    #[test]
    fn a_message_of_another_lane_is_unexpected() {
        let error = message(&codec::encode(&probe()), Lane::Data).unwrap_err();
        assert_eq!(PeerRefusal::from(error), PeerRefusal::Unexpected);
    }

    #[test]
    fn the_largest_value_fits() {
        const { assert!(DATA_LIMIT <= u32::MAX as usize) };
        // The overhead of a command around its value, which is all that the limit adds.
        let request =
            Request { range: RangeId(1), words: vec![Bytes::from(vec![0; 1 << 16]); 2], write: true, session: 0 };
        let message = PeerMessage::Relay(RelayMessage::Carry { id: u64::MAX, requests: vec![request] });
        let overhead = codec::encode(&message).len() - (2 << 16);
        assert!((512 << 20) + overhead < DATA_LIMIT);
    }

    proptest! {
        #[test]
        fn any_bytes_are_cut_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(frame)) = Frames::new(100).next(&mut buffer) {
                prop_assert!(!frame.is_empty() && frame.len() <= 100);
                let _ = message(&frame, Lane::Control);
            }
        }
    }
}
