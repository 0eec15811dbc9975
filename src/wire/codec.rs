//! CBOR, the one encoding of everything that leaves a process but clients' bytes.
//!
//! serde_cbor is archived upstream (RUSTSEC-2021-0127), so nothing outside this file names it, and it is shown no bytes
//! that [`check`] has not walked before: a walk that allocates nothing and refuses what is too deep, what declares more
//! than there is, and every form of CBOR that this encoder never writes (RFC 8949, section 3). So no number from a socket
//! ever sizes an allocation.
//!
//! The packed form is used: fields and variants are numbers, so both are only ever added at the end. A field that the
//! reader does not know is skipped.

use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// How deep items may lie in each other. Our deepest honest value is a client's reply of nested arrays, far below this,
/// and the decoder itself recurses once a level.
pub const MAX_DEPTH: usize = 64;

/// What could not be decoded, in words.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not what was expected: {0}")]
pub struct CodecError(String);

/// The bytes of a value.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_into(value, &mut bytes);
    bytes
}

/// Appends the bytes of a value to what is there.
///
/// # Panics
/// When the value holds what CBOR cannot say, as a whole number above 64 bits: no message may.
pub fn encode_into<T: Serialize>(value: &T, writer: impl io::Write) {
    let mut serializer = serde_cbor::Serializer::new(serde_cbor::ser::IoWrite::new(writer)).packed_format();
    value.serialize(&mut serializer).expect("plain data always has an encoding");
}

/// The value of bytes; all of them must belong to it.
///
/// # Errors
/// When the bytes are not the encoding of a `T`, or break a limit of [`check`].
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    check(bytes, MAX_DEPTH)?;
    serde_cbor::from_slice(bytes).map_err(|error| CodecError(error.to_string()))
}

/// Walks the bytes without spending memory: they must be exactly one item, whole, no deeper than `max_depth`, of the forms
/// that [`encode`] writes.
///
/// # Errors
/// Where the first break of these rules is, and which.
pub fn check(bytes: &[u8], max_depth: usize) -> Result<(), CodecError> {
    let mut walk = Walk { bytes, place: 0 };
    let walked = walk.item(max_depth).and_then(|()| match walk.left() {
        0 => Ok(()),
        _ => Err("bytes after the end of the item"),
    });
    walked.map_err(|what| CodecError(format!("{what}, at byte {} of {}", walk.place, bytes.len())))
}

struct Walk<'a> {
    bytes: &'a [u8],
    place: usize,
}

impl Walk<'_> {
    fn item(&mut self, depth_left: usize) -> Result<(), &'static str> {
        if depth_left == 0 {
            return Err("items lie too deep in each other");
        }
        let first = self.byte()?;
        let (kind, low) = (first >> 5, first & 0x1f);
        let argument = self.argument(low)?;
        match kind {
            // A number, above or below zero.
            0 | 1 => Ok(()),
            // Bytes or text.
            2 | 3 => self.skip(argument),
            4 => self.items(argument, depth_left),
            // Twice as many items as pairs; a count that overflows is surely more than there is.
            5 => self.items(argument.saturating_mul(2), depth_left),
            // Simple values: false, true, null, and floats; `low` says how long those are, and they are behind us already.
            7 if (20..=22).contains(&low) || (25..=27).contains(&low) => Ok(()),
            _ => Err("a form of item that no node writes"),
        }
    }

    fn items(&mut self, count: u64, depth_left: usize) -> Result<(), &'static str> {
        // Each item has a byte at least: what declares more than is left lies.
        if count > self.left() {
            return Err("more items declared than there are bytes");
        }
        for _ in 0..count {
            self.item(depth_left - 1)?;
        }
        Ok(())
    }

    fn argument(&mut self, low: u8) -> Result<u64, &'static str> {
        match low {
            0..=23 => Ok(u64::from(low)),
            24..=27 => {
                let mut argument = 0;
                for _ in 0..1u32 << (low - 24) {
                    argument = argument << 8 | u64::from(self.byte()?);
                }
                Ok(argument)
            }
            _ => Err("an item without a length"),
        }
    }

    fn skip(&mut self, length: u64) -> Result<(), &'static str> {
        if length > self.left() {
            return Err("longer than the bytes that are there");
        }
        self.place += length as usize;
        Ok(())
    }

    fn byte(&mut self) -> Result<u8, &'static str> {
        let byte = *self.bytes.get(self.place).ok_or("ends too early")?;
        self.place += 1;
        Ok(byte)
    }

    fn left(&self) -> u64 {
        (self.bytes.len() - self.place) as u64
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;
    use crate::messages::client::{Outcome, RelayMessage, Reply, Request};
    use crate::messages::election::{ElectionMessage, Entry, MessageKind, Payload, Save};
    use crate::messages::heartbeat::{Beacon, HeartbeatMessage, Progress};
    use crate::messages::ownership::{Cause, Command, GiveUp, JoinAnswer, MeshSettings, OwnershipMessage, SetChain};
    use crate::messages::peer::{Answer, Greeting, PeerMessage};
    use crate::types::{Epoch, MeshId, NodeId, RangeId, Term};

    #[test]
    fn a_mesh_id_of_all_its_bits_survives() {
        let id = MeshId(u128::MAX - 1);
        assert_eq!(decode::<MeshId>(&encode(&id)), Ok(id));
        assert_eq!(serde_json::from_str::<MeshId>(&serde_json::to_string(&id).unwrap()).unwrap(), id);
    }

    #[test]
    fn trailing_bytes_are_refused() {
        let mut bytes = encode(&Term(7));
        bytes.push(0);
        assert!(decode::<Term>(&bytes).unwrap_err().to_string().contains("after the end"));
    }

    #[test]
    fn depth_is_bounded_before_the_decoder_sees_it() {
        let nested = |levels: usize| [vec![0x81; levels], vec![0]].concat();
        assert_eq!(check(&nested(MAX_DEPTH - 1), MAX_DEPTH), Ok(()));
        assert!(check(&nested(MAX_DEPTH), MAX_DEPTH).unwrap_err().to_string().contains("too deep"));
        // A megabyte of openings must not use up the stack either.
        assert!(decode::<Reply>(&vec![0x81; 1 << 20]).is_err());
    }

    #[test]
    fn declared_lengths_are_believed_only_where_the_bytes_are_there() {
        // Bytes, text, an array and a map that each declare 2^64 - 1.
        for first in [0x5b, 0x7b, 0x9b, 0xbb] {
            let bytes = [vec![first], vec![0xff; 8]].concat();
            assert!(check(&bytes, MAX_DEPTH).is_err(), "{first:x}");
            assert!(decode::<Vec<Bytes>>(&bytes).is_err());
        }
    }

    #[test]
    fn forms_that_no_node_writes_are_refused() {
        // Indefinite array, indefinite bytes, a tag, an unassigned simple value, a break.
        for bytes in [&[0x9f, 0xff][..], &[0x5f, 0xff], &[0xc0, 0x00], &[0xf8, 0x20], &[0xff]] {
            assert!(check(bytes, MAX_DEPTH).is_err(), "{bytes:x?}");
        }
    }

    #[test]
    fn a_field_that_is_not_known_is_skipped() {
        #[derive(Serialize)]
        struct Newer {
            a: u8,
            b: String,
            c: Vec<u8>,
        }
        #[derive(Debug, PartialEq, Deserialize)]
        struct Older {
            a: u8,
            b: String,
        }
        let newer = Newer { a: 1, b: "b".into(), c: vec![1, 2, 3] };
        assert_eq!(decode::<Older>(&encode(&newer)), Ok(Older { a: 1, b: "b".into() }));
    }

    #[test]
    fn a_big_value_is_not_copied_into_more_than_itself() {
        let value = Bytes::from(vec![7; 1 << 20]);
        let request =
            Request { range: RangeId(3), words: vec!["SET".into(), "k".into(), value], write: true, session: 0 };
        let bytes = encode(&PeerMessage::Relay(RelayMessage::Carry { id: 1, requests: vec![request] }));
        assert!(bytes.len() < (1 << 20) + 64, "{}", bytes.len());
    }

    #[test]
    fn messages_survive() {
        let beacon = Beacon {
            term: Term(3),
            commander: None,
            version: Default::default(),
            ask: Default::default(),
            hears: 3,
            ailing: vec!["disk".into()],
            streamed: 9,
            progress: None,
        };
        survives(PeerMessage::Heartbeat(HeartbeatMessage::Beacon(Beacon {
            progress: Some(Progress { done: 1, left: 2, bytes: u64::MAX, rate: 3, remaining_s: None }),
            ..beacon.clone()
        })));
        survives(PeerMessage::Heartbeat(HeartbeatMessage::Beacon(beacon)));
        survives(PeerMessage::Relay(RelayMessage::Carried {
            id: u64::MAX,
            from: 0,
            outcomes: vec![Outcome::Replied(Reply::Map(vec![(Reply::ok(), Reply::Double(1.5))])), Outcome::Uncertain],
        }));
        survives(OwnershipMessage::Ordered { id: 1, result: Err("no".into()) });
        survives(JoinAnswer::Admitted { mesh: MeshId(u128::MAX), settings: MeshSettings::default() });
        survives(Command::Configure { key: "a".into(), value: "b".into() });
        survives(Save {
            number: 4,
            entries: vec![Entry { index: 1, term: Term(1), payload: Payload::Command(vec![1, 2, 3]) }],
            ..Save::default()
        });
        let settings = MeshSettings { give_up: GiveUp::After(Duration::from_millis(2500)), ..MeshSettings::default() };
        survives(settings);
    }

    fn survives<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: T) {
        assert_eq!(decode::<T>(&encode(&value)).as_ref(), Ok(&value));
    }

    // Whatever arrives: an error or a value, and a value that says the same again.
    fn stands<T: Serialize + DeserializeOwned>(bytes: &[u8]) {
        if let Ok(value) = decode::<T>(bytes) {
            let again = encode(&value);
            let value = decode::<T>(&again).expect("what was encoded here is decoded here");
            assert_eq!(encode(&value), again);
        }
    }

    fn election_message() -> ElectionMessage {
        ElectionMessage {
            kind: MessageKind::Append,
            term: Term(5),
            log_term: 4,
            index: 3,
            entries: vec![Entry { index: 1, term: Term(1), payload: Payload::Empty }],
            commit: 2,
            commit_term: 1,
            snapshot: None,
            reject: false,
            reject_hint: 0,
            context: vec![1, 2],
            priority: -1,
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_error_or_a_value(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            stands::<PeerMessage>(&bytes);
            stands::<Greeting>(&bytes);
            stands::<Answer>(&bytes);
            stands::<Save>(&bytes);
            stands::<Reply>(&bytes);
            stands::<Vec<Option<f64>>>(&bytes);
        }

        // Closer to what is honest, and so deeper into the decoder, than bytes at random.
        #[test]
        fn damaged_messages_are_an_error_or_a_value(place in 0usize..200, byte in any::<u8>(), cut in 0usize..200) {
            let mut bytes = encode(&PeerMessage::Election(election_message()));
            let place = place % bytes.len();
            bytes[place] = byte;
            stands::<PeerMessage>(&bytes);
            bytes.truncate(cut);
            stands::<PeerMessage>(&bytes);
        }

        #[test]
        fn encoding_is_the_same_each_time(data in prop::collection::vec(any::<u8>(), 0..100), number in any::<i64>()) {
            let reply = Reply::Array(vec![Reply::bulk(data), Reply::Integer(number), Reply::Null]);
            let bytes = encode(&reply);
            prop_assert_eq!(check(&bytes, MAX_DEPTH), Ok(()));
            let decoded: Reply = decode(&bytes).unwrap();
            prop_assert_eq!(&decoded, &reply);
            prop_assert_eq!(encode(&decoded), bytes);
        }
    }

    fn change(range: u16, cause: Cause) -> SetChain {
        SetChain { range: RangeId(range), expected: Epoch(3), holders: Vec::new(), anew: false, cause }
    }

    #[test]
    fn a_cause_that_many_share_is_written_once_and_read_with_each() {
        let lost = Cause::Lost { node: NodeId(7), evidence: "no beacon for 512 ms; probe 9 unanswered".into() };
        let command = |ranges: u16| {
            let cause = |range| if range == 1 { Cause::CalledOff } else { lost.clone() };
            Command::SetChains((0..ranges).map(|range| change(range, cause(range))).collect())
        };
        let bytes = encode(&command(20));
        assert_eq!(decode::<Command>(&bytes).expect("it is one"), command(20));
        assert!(bytes.len() < encode(&command(1)).len() + 20 * 10, "{} bytes", bytes.len());
    }

    #[test]
    fn a_change_that_names_no_cause_is_refused() {
        let bytes = encode(&Command::SetChains(vec![change(1, Cause::CalledOff)]));
        let at = bytes.len() - 1;
        let broken: Vec<u8> = bytes[..at].iter().copied().chain([bytes[at] + 1]).collect();
        assert!(decode::<Command>(&broken).is_err());
    }
}
