//! Clients that work by themselves: each sets registers to values of its own, and reads them, through any node.
//!
//! A client does one thing at a time, waits for the answer as long as it has patience, thinks for a moment, and goes on at
//! another node now and then. What it asked and learnt becomes an operation of the history that is checked (`checker`).

use std::time::Duration;

use bytes::Bytes;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::checker::{Kind, Operation};
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
    key: u32,
    value: Option<u64>,
    start: (Time, Generation),
}

impl Client {
    /// A client of this number, connected there.
    pub fn new(name: u64, at: Host, habits: Habits) -> Self {
        Self { habits, at, works: true, name, count: 0, busy: None, answered: 0, unanswered: 0 }
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
        let value = (random.gen_range(0..100) < self.habits.writes).then(|| {
            self.count += 1;
            self.name << 32 | self.count
        });
        let start = (now, generation(range_of(key, ranges)));
        self.busy = Some(Busy { key, value, start });
        let key = Bytes::from(key_name(key));
        match value {
            Some(value) => vec![Bytes::from_static(b"SET"), key, Bytes::from(value.to_string())],
            None => vec![Bytes::from_static(b"GET"), key],
        }
    }

    /// It learns what came of its command. What that adds to the history.
    pub fn hear(
        &mut self,
        now: Time,
        ranges: usize,
        generation: impl Fn(RangeId) -> Generation,
        told: &Told,
    ) -> Option<Operation> {
        let Busy { key, value, start } = self.busy.take()?;
        let end = (now, generation(range_of(key, ranges)));
        let kind = match (value, told) {
            (Some(value), Told::Reply(Reply::Simple(_))) => Kind::Wrote(value),
            (Some(value), Told::Reply(Reply::Error(error))) if is_refusal(error) => Kind::Refused(value),
            (Some(value), _) => Kind::MayWrite(value),
            (None, Told::Reply(Reply::Null)) => Kind::Read(None),
            (None, Told::Reply(Reply::Bulk(bytes))) => Kind::Read(Some(number(bytes))),
            (None, _) => {
                self.unanswered += 1;
                return None;
            }
        };
        match kind {
            Kind::Wrote(_) | Kind::Read(_) => self.answered += 1,
            Kind::MayWrite(_) | Kind::Refused(_) => self.unanswered += 1,
        }
        Some(Operation { key, kind, start, end })
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

fn key_name(key: u32) -> String {
    format!("key:{key}")
}

/// The range of a client's register.
pub fn range_of(key: u32, ranges: usize) -> RangeId {
    RangeId::of_key(key_name(key).as_bytes(), ranges)
}

fn number(bytes: &Bytes) -> u64 {
    std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok()).expect("clients write numbers alone")
}
