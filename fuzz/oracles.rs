//! What must hold for whatever bytes come from outside. Each function takes bytes and panics where a claim does not hold.
//!
//! `make fuzz` looks for such bytes for a while; `cargo test --test regress` plays some at random, and all that were ever found
//! (tests/regress, a folder for each function).

// Each target is a program of its own and uses one of these.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use keyval::commands;
use keyval::io::journal::{FILE, Journal, JournalError};
use keyval::keyspace::Keyspace;
use keyval::messages::client::Reply;
use keyval::messages::election::{Entry, HardState, Payload, Recovered, Save, Seats, Snapshot};
use keyval::messages::peer::{Answer, Greeting, Lane, Proof};
use keyval::resp::{Limits, Parser, Protocol, ProtocolError, decode, encode};
use keyval::sim::swarm::{Options, play};
use keyval::types::{Instant, NodeId, Now, Term};
use keyval::wire::frame::{self, Frames, HANDSHAKE_LIMIT};

/// Clients' bytes give the same commands and the same error in whatever pieces they come, and never more than was sent.
pub fn resp_commands(data: &[u8]) {
    let Some((step, input)) = data.split_first() else { return };
    for limits in [Limits::CLIENT, Limits::STRANGER] {
        let whole = read_commands(limits, input, input.len().max(1));
        let pieces = read_commands(limits, input, usize::from(*step) % 7 + 1);
        assert_eq!(whole, pieces, "in pieces of {}", step % 7 + 1);
        let words: usize = whole.0.iter().flatten().map(Bytes::len).sum();
        assert!(words <= input.len());
        assert!(whole.0.iter().all(|words| !words.is_empty() && words.len() <= limits.words));
    }
}

fn read_commands(limits: Limits, input: &[u8], step: usize) -> (Vec<Vec<Bytes>>, Option<ProtocolError>) {
    let (mut parser, mut buffer, mut commands) = (Parser::new(limits), BytesMut::new(), Vec::new());
    for piece in input.chunks(step) {
        buffer.extend_from_slice(piece);
        loop {
            match parser.next(&mut buffer) {
                Ok(Some(words)) => commands.push(words),
                Ok(None) => break,
                Err(error) => return (commands, Some(error)),
            }
        }
    }
    (commands, None)
}

/// A reply that can be read can be written, and is read as the same again; the end of the input is no reply.
pub fn resp_replies(data: &[u8]) {
    let mut input = BytesMut::from(data);
    let Ok(Some(reply)) = decode(&mut input) else { return };
    let used = data.len() - input.len();
    assert!(used > 0 && used <= data.len());
    assert!(!matches!(decode(&mut BytesMut::from(&data[..used - 1])), Ok(Some(_))), "a part is taken for the whole");
    let written = written(&reply);
    let again = decode(&mut written.clone()).expect("what was written is a reply").expect("a whole one");
    assert_eq!(self::written(&again), written);
}

fn written(reply: &Reply) -> BytesMut {
    let mut output = BytesMut::new();
    encode(reply, Protocol::Resp3, &mut output);
    output
}

/// What peers send is refused or understood, never more than that; and what is understood is said again in the same way.
pub fn peer_frames(data: &[u8]) {
    let Some((kind, input)) = data.split_first() else { return };
    let lane = [Lane::Control, Lane::Data, Lane::Bulk][usize::from(*kind) % 3];
    // As a message by itself, and as what comes out of a connection.
    said_again(input, lane);
    let mut buffer = BytesMut::from(input);
    while let Ok(Some(frame)) = Frames::of(lane).next(&mut buffer) {
        said_again(&frame, lane);
    }
    let mut buffer = BytesMut::from(input);
    while let Ok(Some(frame)) = Frames::new(HANDSHAKE_LIMIT).next(&mut buffer) {
        let _ = frame::value::<Greeting>(&frame);
        let _ = frame::value::<Answer>(&frame);
        let _ = frame::value::<Proof>(&frame);
        let _ = frame::join_message(&frame);
    }
}

fn said_again(bytes: &[u8], lane: Lane) {
    let Ok(message) = frame::message(bytes, lane) else { return };
    let mut buffer = BytesMut::new();
    frame::push_message(&message, &mut buffer).expect("what came in a frame fits into one");
    let frame = Frames::of(lane).next(&mut buffer).expect("well formed").expect("whole");
    let again = frame::message(&frame, lane).expect("what was said is understood");
    assert_eq!(again, message);
}

/// Commands do to a keyspace what they do to a plain map.
pub fn commands_model(data: &[u8]) {
    let (mut keyspace, mut model): (Keyspace, BTreeMap<u8, Vec<u8>>) = (Keyspace::new(), BTreeMap::new());
    let now = Now { instant: Instant(1), wall_ms: 1_700_000_000_000 };
    for step in data.chunks_exact(3) {
        let (key, value) = (step[1] % 8, step[2]);
        let name = format!("k{key}");
        let text = value.to_string();
        let (words, expected): (Vec<&str>, Reply) = match step[0] % 9 {
            0 => (vec!["SET", &name, &text], set(&mut model, key, &text)),
            1 => (vec!["GET", &name], model.get(&key).map_or(Reply::Null, |value| Reply::bulk(value.clone()))),
            2 => (vec!["DEL", &name], Reply::Integer(i64::from(model.remove(&key).is_some()))),
            3 => (vec!["EXISTS", &name, &name], Reply::Integer(2 * i64::from(model.contains_key(&key)))),
            4 => (vec!["APPEND", &name, &text], append(&mut model, key, &text)),
            5 => (vec!["INCRBY", &name, &text], add(&mut model, key, i64::from(value))),
            6 => (
                vec!["SETNX", &name, &text],
                match model.contains_key(&key) {
                    true => Reply::Integer(0),
                    false => {
                        set(&mut model, key, &text);
                        Reply::Integer(1)
                    }
                },
            ),
            7 => (vec!["STRLEN", &name], Reply::Integer(model.get(&key).map_or(0, Vec::len) as i64)),
            _ => (vec!["GETDEL", &name], model.remove(&key).map_or(Reply::Null, Reply::bulk)),
        };
        let asked: Vec<Bytes> = words.iter().map(|word| Bytes::copy_from_slice(word.as_bytes())).collect();
        let executed = commands::execute(&keyspace, now, &asked);
        executed.changes.iter().for_each(|change| keyspace.apply(change));
        assert_eq!(executed.reply, expected, "{words:?}");
        assert_eq!(keyspace.len(), model.len(), "{words:?}");
    }
    // Whatever came and went on the way, equal contents are equal, and the memory of what is gone is given back.
    let mut other = Keyspace::new();
    for (key, value) in &model {
        let words = [&b"SET"[..], format!("k{key}").as_bytes(), value].map(Bytes::copy_from_slice);
        commands::execute(&other, now, &words).changes.iter().for_each(|change| other.apply(change));
    }
    assert_eq!((keyspace.digest(), keyspace.bytes()), (other.digest(), other.bytes()));
}

fn set(model: &mut BTreeMap<u8, Vec<u8>>, key: u8, text: &str) -> Reply {
    model.insert(key, text.as_bytes().to_vec());
    Reply::ok()
}

fn append(model: &mut BTreeMap<u8, Vec<u8>>, key: u8, text: &str) -> Reply {
    let value = model.entry(key).or_default();
    value.extend_from_slice(text.as_bytes());
    Reply::Integer(value.len() as i64)
}

fn add(model: &mut BTreeMap<u8, Vec<u8>>, key: u8, by: i64) -> Reply {
    let text = model.get(&key).map_or("0", |value| std::str::from_utf8(value).expect("digits"));
    // As Redis has it: no sign but a minus, no zero before another digit.
    let number = text.parse::<i64>().ok().filter(|number| number.to_string() == text);
    match number.map(|number| number.checked_add(by)) {
        None => commands::errors::not_an_integer(),
        Some(None) => Reply::error("ERR increment or decrement would overflow"),
        Some(Some(sum)) => {
            model.insert(key, sum.to_string().into_bytes());
            Reply::Integer(sum)
        }
    }
}

/// A journal of which any bytes were changed, or that was cut off, is refused by name or gives what was written, never
/// something else.
pub fn journal(data: &[u8]) {
    let (file, expected) = written_journal();
    let directory = tempfile::tempdir().expect("a folder");
    let mut bytes = file.clone();
    for harm in data.chunks_exact(5).take(4) {
        let place = u32::from_le_bytes([harm[0], harm[1], harm[2], harm[3]]) as usize % bytes.len().max(1);
        match harm[4] {
            0 => bytes.truncate(place),
            by => bytes[place] ^= by,
        }
        if bytes.is_empty() {
            break;
        }
    }
    std::fs::write(directory.path().join(FILE), &bytes).expect("it can be written");
    // The journal catches what its library asserts of a file; a fuzzer's hook would end the process before that.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let read = Journal::open(directory.path()).and_then(|journal| journal.recover());
    std::panic::set_hook(hook);
    match read {
        Ok(recovered) => assert!(recovered == *expected || bytes.is_empty(), "another log: {recovered:?}"),
        Err(JournalError::Damaged { .. } | JournalError::Newer { .. }) => {}
        Err(other) => panic!("{other:?}"),
    }
}

fn written_journal() -> &'static (Vec<u8>, Recovered) {
    static WRITTEN: OnceLock<(Vec<u8>, Recovered)> = OnceLock::new();
    WRITTEN.get_or_init(|| {
        let directory = tempfile::tempdir().expect("a folder");
        let mut journal = Journal::open(directory.path()).expect("a new journal");
        let seats = Seats { voters: vec![NodeId(1)], ..Seats::default() };
        let entry = |index| Entry { index, term: Term(1), payload: Payload::Command(vec![index as u8; 40]) };
        let save = Save {
            number: 0,
            hard: Some(HardState { term: Term(1), vote: Some(NodeId(3)), commit: 2 }),
            snapshot: Some(Snapshot { index: 1, term: Term(1), seats, data: vec![7; 100] }),
            entries: (2..=20).map(entry).collect(),
        };
        journal.write(&[save]).expect("it can be written");
        let recovered = journal.recover().expect("it can be read");
        drop(journal);
        (std::fs::read(directory.path().join(FILE)).expect("it is there"), recovered)
    })
}

/// No seed breaks a rule, in however short and small a world.
pub fn worlds(data: &[u8]) {
    let mut seed = [0; 8];
    seed.iter_mut().zip(data).for_each(|(seed, byte)| *seed = *byte);
    let nodes = data.get(8).map(|byte| usize::from(*byte) % 5 + 1);
    let copies = data.get(9).map(|byte| byte % 3 + 1);
    let options = Options { harm: Duration::from_secs(5), nodes, copies, ..Options::default() };
    let outcome = play(u64::from_le_bytes(seed), &options);
    assert_eq!(outcome.violation, None, "seed {}, {nodes:?} nodes, {copies:?} copies", outcome.seed);
}
