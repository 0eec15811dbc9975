//! Clients that work by themselves: each sets registers to values of its own, and reads them, through any node.
//!
//! A client asks for one thing at a time, or for a few at once, waits for the answers as long as it has patience, thinks for a
//! moment, and goes on at another node now and then. What it asked and learnt becomes an operation of the history that is
//! checked (`checker`). Some count instead, do all that can be done to a string (`objects`), or do what only the equality of
//! the copies shows: keys that end, grow, are deleted and come again.

mod objects;
mod values;

use std::time::Duration;

use bytes::Bytes;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

pub use objects::Eras;

use super::checker::{Asked, Call, Came, Counted, Kind, Operation};
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
    /// In so many slots all keys lie, so that a range has many; 0 for a slot of its own for each.
    pub crowd: u32,
    /// Of 100 operations so many write.
    pub writes: u32,
    /// Of 100 operations so many are none of registers or objects: half of these count, the others are of all kinds.
    pub others: u32,
    /// Of 100 that are left so many are of objects, the others of registers.
    pub objects: u32,
    /// Of 100 values so many are long.
    pub long: u32,
    /// Of 100 times that it asks so often it asks for several things at once.
    pub batches: u32,
    /// Of 100 times that it asks so often it asks the node that heads the key, as it has heard, and at its cluster door.
    pub straight: u32,
    /// Of 100 writes of unknown outcome so many are followed by another of the same key, with another value at another node.
    pub again: u32,
    /// How long it thinks between two.
    pub think: (Duration, Duration),
    /// How long it waits for an answer.
    pub patience: Duration,
}

impl Habits {
    /// Registers alone, one thing at a time.
    pub const PLAIN: Self = Self {
        keys: 24,
        crowd: 0,
        writes: 50,
        others: 0,
        objects: 0,
        long: 0,
        batches: 0,
        straight: 0,
        again: 0,
        think: (Duration::from_millis(20), Duration::from_millis(300)),
        patience: Duration::from_secs(4),
    };
}

impl Habits {
    /// A key, by its number and the rest of its name.
    fn name(&self, number: u32, rest: &str) -> Bytes {
        Bytes::from(match self.crowd {
            0 => rest.to_string(),
            slots => format!("{{{}}}{rest}", number % slots),
        })
    }
}

impl Default for Habits {
    fn default() -> Self {
        Self::PLAIN
    }
}

/// One client.
#[derive(Clone, Debug)]
pub struct Client {
    /// How it works.
    pub habits: Habits,
    /// Where it is connected.
    pub at: Host,
    /// Whether it goes on once its present operations are over.
    pub works: bool,
    /// When it acts next.
    pub due: Time,
    name: u64,
    count: u64,
    /// What it waits for, in the order in which it asked.
    busy: Vec<Option<Busy>>,
    /// What it writes next, for nobody knows what came of the last write.
    again: Option<Target>,
    /// How many of its operations had an answer.
    pub answered: u64,
    /// How many had an error, or none.
    pub unanswered: u64,
}

#[derive(Clone, Debug)]
struct Busy {
    what: What,
    range: RangeId,
    start: (Time, Generation),
}

#[derive(Clone, Debug)]
enum What {
    /// A register is written, or read.
    Register(u32, Option<u64>),
    /// A counter counts.
    Counter(u32),
    /// Something is done to an object.
    Object((u32, u32), Asked),
    /// Whatever it is, its answer tells nothing.
    Other,
}

#[derive(Clone, Copy, Debug)]
enum Target {
    Register(u32),
    Object(u32),
}

/// What a client learnt.
#[derive(Clone, Debug)]
pub enum Learnt {
    /// Of a register.
    Operation(Operation),
    /// Of a counter.
    Counted(Counted),
    /// Of an object.
    Called(Call),
}

impl Client {
    /// A client of this number, connected there.
    pub fn new(name: u64, at: Host, habits: Habits) -> Self {
        Self {
            habits,
            at,
            works: true,
            due: Time(0),
            name,
            count: 0,
            busy: Vec::new(),
            again: None,
            answered: 0,
            unanswered: 0,
        }
    }

    /// Whether it waits for an answer.
    pub fn is_busy(&self) -> bool {
        self.busy.iter().any(Option::is_some)
    }

    /// Its next commands: one, or several at once.
    pub fn act(
        &mut self,
        now: Time,
        ranges: usize,
        generation: impl Fn(RangeId) -> Generation,
        eras: &mut Eras,
        random: &mut ChaCha8Rng,
    ) -> Vec<Vec<Bytes>> {
        let count = if chance(self.habits.batches, random) { random.gen_range(2..=5) } else { 1 };
        self.busy.clear();
        (0..count)
            .map(|_| {
                let (what, words) = self.choose(eras, random);
                let range = RangeId::of_key(&words[1], ranges);
                self.busy.push(Some(Busy { what, range, start: (now, generation(range)) }));
                words
            })
            .collect()
    }

    fn choose(&mut self, eras: &mut Eras, random: &mut ChaCha8Rng) -> (What, Vec<Bytes>) {
        match self.again.take().filter(|_| self.habits.writes > 0) {
            Some(Target::Register(key)) => return self.register(key, true, random),
            Some(Target::Object(object)) => return self.object(object, true, eras, random),
            None => {}
        }
        let key = random.gen_range(0..self.habits.keys);
        let draw = random.gen_range(0..100);
        // Clients without other habits draw as they always did.
        if chance(self.habits.others, random) {
            return match draw < 50 {
                true => (What::Counter(key), vec![Bytes::from_static(b"INCR"), self.name_of("counter", key)]),
                false => (What::Other, other(&self.name_of("other", key % 8), random)),
            };
        }
        let writes = draw < self.habits.writes;
        match chance(self.habits.objects, random) {
            true => self.object(key % objects::OBJECTS, writes, eras, random),
            false => self.register(key, writes, random),
        }
    }

    fn register(&mut self, key: u32, writes: bool, random: &mut ChaCha8Rng) -> (What, Vec<Bytes>) {
        let name = self.name_of("key", key);
        if !writes {
            return (What::Register(key, None), vec![Bytes::from_static(b"GET"), name]);
        }
        self.count += 1;
        let value = self.name << 32 | self.count;
        let text = values::text(value, chance(self.habits.long, random));
        (What::Register(key, Some(value)), vec![Bytes::from_static(b"SET"), name, text])
    }

    fn object(&mut self, object: u32, writes: bool, eras: &mut Eras, random: &mut ChaCha8Rng) -> (What, Vec<Bytes>) {
        let key = eras.ask(object);
        let asked = if writes {
            self.count += 1;
            // With room for those who count from there.
            let value = (self.name << 24 | self.count) * 1_000;
            objects::change(object, (value, chance(self.habits.long, random)), eras, random)
        } else {
            Asked::Get
        };
        let words = asked.words(&self.habits.name(object, &objects::name(key)));
        (What::Object(key, asked), words)
    }

    /// Registers, counters and other keys have names of their own.
    fn name_of(&self, kind: &str, key: u32) -> Bytes {
        self.habits.name(key, &format!("{kind}:{key}"))
    }

    /// The ranges of all that it waits for.
    pub fn ranges(&self) -> impl Iterator<Item = RangeId> {
        self.busy.iter().flatten().map(|busy| busy.range)
    }

    /// The range of what it asked for at this place, while it waits for it.
    pub fn waits_for(&self, place: usize) -> Option<RangeId> {
        self.busy.get(place)?.as_ref().map(|busy| busy.range)
    }

    /// It learns what came of a command. What that adds to the history.
    pub fn hear(&mut self, now: (Time, Generation), place: usize, told: &Told, eras: &mut Eras) -> Option<Learnt> {
        let Busy { what, start, .. } = self.busy.get_mut(place)?.take()?;
        let end = now;
        let answered = matches!(told, Told::Reply(reply) if !matches!(reply, Reply::Error(_)));
        self.answered += u64::from(answered);
        self.unanswered += u64::from(!answered);
        let came = came_of(told);
        self.again = match &what {
            _ if came != Came::Unknown => self.again,
            What::Register(key, Some(_)) => Some(Target::Register(*key)),
            What::Object((object, _), asked) if *asked != Asked::Get => Some(Target::Object(*object)),
            _ => self.again,
        };
        match what {
            What::Register(key, value) => {
                let kind = kind_of(value, came)?;
                Some(Learnt::Operation(Operation { key, kind, start, end }))
            }
            What::Counter(key) => {
                let Came::Answer(Reply::Integer(number)) = came else { return None };
                Some(Learnt::Counted(Counted { key, number: number.unsigned_abs(), start, end }))
            }
            What::Object(key, asked) => {
                let call = Call { key, asked, came, start, end };
                eras.hear(&call);
                Some(Learnt::Called(call))
            }
            What::Other => None,
        }
    }

    /// Whether it goes on elsewhere with a write of the same key, for it does not know what came of the last.
    pub fn tries_again(&mut self, random: &mut ChaCha8Rng) -> bool {
        self.again = self.again.filter(|_| chance(self.habits.again, random));
        self.again.is_some()
    }

    /// How long it thinks now.
    pub fn think(&self, random: &mut ChaCha8Rng) -> Duration {
        between(random, self.habits.think)
    }
}

/// True in so many of 100 cases. Draws nothing where it never is.
pub(super) fn chance(of_100: u32, random: &mut ChaCha8Rng) -> bool {
    of_100 > 0 && random.gen_range(0..100) < of_100
}

fn came_of(told: &Told) -> Came {
    match told {
        Told::Reply(Reply::Error(error)) if is_refusal(error) => Came::Refused,
        Told::Reply(Reply::Error(error)) if !error.starts_with("ERR") => Came::Unknown,
        Told::Reply(reply) => Came::Answer(reply.clone()),
        _ => Came::Unknown,
    }
}

/// What that says of a register; nothing of a read without an answer.
fn kind_of(written: Option<u64>, came: Came) -> Option<Kind> {
    Some(match (written, came) {
        (Some(value), Came::Answer(Reply::Simple(_))) => Kind::Wrote(value),
        (Some(value), Came::Refused) => Kind::Refused(value),
        (Some(value), _) => Kind::MayWrite(value),
        (None, Came::Answer(Reply::Null)) => Kind::Read(None),
        (None, Came::Answer(Reply::Bulk(bytes))) => Kind::Read(Some(values::number(&bytes))),
        (None, _) => return None,
    })
}

/// The words that say "surely not applied". Everything else but an error of the command itself means that nobody knows.
fn is_refusal(error: &str) -> bool {
    ["TRYAGAIN", "CLUSTERDOWN", "MOVED", "LOADING"].iter().any(|word| error.starts_with(word))
}

/// Some command on a key of which no history is kept. Few such keys, so that the commands meet.
fn other(name: &[u8], random: &mut ChaCha8Rng) -> Vec<Bytes> {
    let name = String::from_utf8_lossy(name).into_owned();
    let span = random.gen_range(1..4_000).to_string();
    let words = match random.gen_range(0..9) {
        // Longer than what changes it.
        0 => vec!["SET", &name, "a value that is longer than the words of the commands that change it", "PX", &span],
        1 | 8 => vec!["APPEND", &name, "+"],
        2 => vec!["DEL", &name],
        3 => vec!["PEXPIRE", &name, &span],
        4 => vec!["SETNX", &name, &span],
        5 => vec!["GETDEL", &name],
        6 => vec!["PERSIST", &name],
        _ => vec!["GETEX", &name, "PX", &span],
    };
    words.into_iter().map(|word| Bytes::from(word.to_string())).collect()
}
