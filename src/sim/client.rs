//! Clients that work by themselves: each sets registers to values of its own, and reads them, through any node.
//!
//! A client does one thing at a time, waits for the answer as long as it has patience, thinks for a moment, and goes on at
//! another node now and then. What it asked and learnt becomes an operation of the history that is checked (`checker`).
//! Some count instead, or do what only the equality of the copies shows: keys that end, grow, are deleted and come again.

use std::time::Duration;

use bytes::Bytes;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::checker::{Counted, Kind, Operation};
use super::clock::Time;
use super::network::{Host, between};
use super::world::Told;
use crate::messages::client::Reply;
use crate::types::{Generation, RangeId};

/// How a client works.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// How many registers there are.
    pub keys: u32,
    /// Of 100 operations so many write.
    pub writes: u32,
    /// Of 100 operations so many are none of registers: half of these count, the others are of all kinds.
    pub others: u32,
    /// How long it thinks between two.
    pub think: (Duration, Duration),
    /// How long it waits for an answer.
    pub patience: Duration,
}

impl Default for Habits {
    fn default() -> Self {
        Self {
            keys: 24,
            writes: 50,
            others: 0,
            think: (Duration::from_millis(20), Duration::from_millis(300)),
            patience: Duration::from_secs(4),
        }
    }
}

/// One client.
#[derive(Clone, Debug)]
pub struct Client {
    /// How it works.
    pub habits: Habits,
    /// Where it is connected.
    pub at: Host,
    /// Whether it goes on once its present operation is over.
    pub works: bool,
    /// When it acts next.
    pub due: Time,
    name: u64,
    count: u64,
    busy: Option<Busy>,
    /// How many of its operations had an answer.
    pub answered: u64,
    /// How many had an error, or none.
    pub unanswered: u64,
}

#[derive(Clone, Copy, Debug)]
struct Busy {
    what: What,
    key: u32,
    start: (Time, Generation),
}

#[derive(Clone, Copy, Debug)]
enum What {
    /// A register is written, or read.
    Register(Option<u64>),
    /// A counter counts.
    Counter,
    /// Whatever it is, its answer tells nothing.
    Other,
}

/// What a client learnt.
#[derive(Clone, Copy, Debug)]
pub enum Learnt {
    /// Of a register.
    Operation(Operation),
    /// Of a counter.
    Counted(Counted),
}

impl Client {
    /// A client of this number, connected there.
    pub fn new(name: u64, at: Host, habits: Habits) -> Self {
        Self { habits, at, works: true, due: Time(0), name, count: 0, busy: None, answered: 0, unanswered: 0 }
    }

    /// Whether it waits for an answer.
    pub fn is_busy(&self) -> bool {
        self.busy.is_some()
    }

    /// Its next command.
    pub fn act(
        &mut self,
        now: Time,
        ranges: usize,
        generation: impl Fn(RangeId) -> Generation,
        random: &mut ChaCha8Rng,
    ) -> Vec<Bytes> {
        let key = random.gen_range(0..self.habits.keys);
        let draw = random.gen_range(0..100);
        // Clients without other habits draw as they always did.
        let others = self.habits.others > 0 && random.gen_range(0..100) < self.habits.others;
        let (what, words) = match others {
            true if draw < 50 => (What::Counter, vec![Bytes::from_static(b"INCR"), name_of(What::Counter, key)]),
            true => (What::Other, other(key, random)),
            false => {
                let value = (draw < self.habits.writes).then(|| {
                    self.count += 1;
                    self.name << 32 | self.count
                });
                let name = name_of(What::Register(value), key);
                let words = match value {
                    Some(value) => vec![Bytes::from_static(b"SET"), name, Bytes::from(value.to_string())],
                    None => vec![Bytes::from_static(b"GET"), name],
                };
                (What::Register(value), words)
            }
        };
        let start = (now, generation(range_of(&words[1], ranges)));
        self.busy = Some(Busy { what, key, start });
        words
    }

    /// It learns what came of its command. What that adds to the history.
    pub fn hear(
        &mut self,
        now: Time,
        ranges: usize,
        generation: impl Fn(RangeId) -> Generation,
        told: &Told,
    ) -> Option<Learnt> {
        let Busy { what, key, start } = self.busy.take()?;
        let end = (now, generation(range_of(&name_of(what, key), ranges)));
        let answered = matches!(told, Told::Reply(reply) if !matches!(reply, Reply::Error(_)));
        self.answered += u64::from(answered);
        self.unanswered += u64::from(!answered);
        let kind = match (what, told) {
            (What::Register(Some(value)), Told::Reply(Reply::Simple(_))) => Kind::Wrote(value),
            (What::Register(Some(value)), Told::Reply(Reply::Error(error))) if is_refusal(error) => {
                Kind::Refused(value)
            }
            (What::Register(Some(value)), _) => Kind::MayWrite(value),
            (What::Register(None), Told::Reply(Reply::Null)) => Kind::Read(None),
            (What::Register(None), Told::Reply(Reply::Bulk(bytes))) => Kind::Read(Some(number(bytes))),
            (What::Counter, Told::Reply(Reply::Integer(number))) => {
                return Some(Learnt::Counted(Counted { key, number: number.unsigned_abs(), start, end }));
            }
            _ => return None,
        };
        Some(Learnt::Operation(Operation { key, kind, start, end }))
    }

    /// How long it thinks now.
    pub fn think(&self, random: &mut ChaCha8Rng) -> Duration {
        between(random, self.habits.think)
    }
}

/// The words that say "surely not applied". Everything else means that nobody knows.
fn is_refusal(error: &str) -> bool {
    ["TRYAGAIN", "CLUSTERDOWN", "MOVED", "LOADING"].iter().any(|word| error.starts_with(word))
}

/// Registers, counters and other keys have names of their own.
fn name_of(what: What, key: u32) -> Bytes {
    let kind = match what {
        What::Register(_) => "key",
        What::Counter => "counter",
        What::Other => "other",
    };
    Bytes::from(format!("{kind}:{key}"))
}

/// Some command on a key of which no history is kept. Few such keys, so that the commands meet.
fn other(key: u32, random: &mut ChaCha8Rng) -> Vec<Bytes> {
    let name = String::from_utf8_lossy(&name_of(What::Other, key % 8)).into_owned();
    let span = random.gen_range(1..4_000).to_string();
    let words = match random.gen_range(0..8) {
        0 => vec!["SET", &name, "a value", "PX", &span],
        1 => vec!["APPEND", &name, "+"],
        2 => vec!["DEL", &name],
        3 => vec!["PEXPIRE", &name, &span],
        4 => vec!["SETNX", &name, &span],
        5 => vec!["GETDEL", &name],
        6 => vec!["PERSIST", &name],
        _ => vec!["GETEX", &name, "PX", &span],
    };
    words.into_iter().map(|word| Bytes::from(word.to_string())).collect()
}

fn range_of(key: &[u8], ranges: usize) -> RangeId {
    RangeId::of_key(key, ranges)
}

fn number(bytes: &Bytes) -> u64 {
    std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok()).expect("clients write numbers alone")
}
