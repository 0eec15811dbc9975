//! Writers and readers that do not let go of a mesh while it is harmed, and remember all they asked and learnt.
//!
//! Each key has one writer, and each write a value of its own, greater than all before. Writers and readers know the cluster
//! doors: they go where the map says, follow MOVED, and fetch the map anew after an error or a reply that did not come in
//! time. What nobody knows the outcome of is noted so, and never sent again. The history is judged afterwards (`account`).

mod account;
mod flood;
mod route;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use keyval::sim::checker::{Kind, Operation};
use keyval::sim::clock::Time;
use keyval::types::{Generation, Slot};

use crate::client::{Client, Reply};
use crate::mesh::{Mesh, until};
pub use account::{Account, Gap};
pub use flood::{Flood, missing};
use route::Route;

/// How long a writer waits for a reply.
const PATIENCE: Duration = Duration::from_millis(300);

/// Between two operations of one writer or reader, so that the mesh is asked all the time and yet has time to heal itself on
/// a small machine.
const PACE: Duration = Duration::from_millis(5);

/// How many readers there are; each goes around its share of the keys.
const READERS: usize = 4;

/// How many there were in this process.
static SIEGES: AtomicUsize = AtomicUsize::new(0);

/// A mesh under siege.
pub struct Siege {
    keys: Vec<String>,
    start: Instant,
    wall: SystemTime,
    route: Arc<Route>,
    over: Arc<AtomicBool>,
    /// When a write of each key was last acknowledged, in nanoseconds since the start.
    written: Arc<Vec<AtomicU64>>,
    writers: Vec<JoinHandle<Vec<Operation>>>,
    readers: Vec<JoinHandle<Vec<Operation>>>,
}

impl Siege {
    /// Begins, with one writer for each of so many keys, and waits until a write of each has been acknowledged.
    pub fn lay(mesh: &Mesh, keys: usize) -> Self {
        let doors = mesh.nodes.iter().map(|node| node.cluster.clone()).collect();
        let route = Arc::new(Route::new(doors, PATIENCE));
        let over = Arc::new(AtomicBool::new(false));
        let start = Instant::now();
        let wall = SystemTime::now();
        // Keys of its own for each: what an earlier one wrote would be nobody's.
        let number = SIEGES.fetch_add(1, Ordering::Relaxed);
        let keys: Vec<String> = (0..keys).map(|key| format!("siege:{number}:{key}")).collect();
        let hand = |key: usize| Hand {
            key: key as u32,
            name: keys[key].clone(),
            slot: Slot::of_key(keys[key].as_bytes()).0,
            start,
            route: Arc::clone(&route),
            lines: BTreeMap::new(),
            history: Vec::new(),
        };
        let written: Arc<Vec<AtomicU64>> = Arc::new((0..keys.len()).map(|_| AtomicU64::new(0)).collect());
        let writers = (0..keys.len()).map(|key| {
            let (mut hand, over, written) = (hand(key), Arc::clone(&over), Arc::clone(&written));
            let mut value = 0;
            thread::spawn(move || {
                // The last write of each is one that was acknowledged, so that the end of every gap is seen; a mesh that
                // never answers again is noticed too.
                let mut asked_to_end = None;
                loop {
                    value += 1;
                    let asked = hand.now();
                    let done = hand.write(value);
                    if done {
                        written[key].store(hand.now().0, Ordering::Relaxed);
                    }
                    if over.load(Ordering::Relaxed) {
                        let asked = *asked_to_end.get_or_insert_with(Instant::now);
                        if done || asked.elapsed() > Duration::from_secs(20) {
                            return hand.history;
                        }
                    }
                    // Whoever has waited for a reply in vain has waited enough.
                    if hand.now().since(asked) < PATIENCE {
                        thread::sleep(PACE); // not a guess: the pace itself
                    }
                }
            })
        });
        let writers = writers.collect();
        let readers = (0..READERS.min(keys.len())).map(|reader| {
            let mut hands: Vec<Hand> = (reader..keys.len()).step_by(READERS).map(hand).collect();
            let over = Arc::clone(&over);
            thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    for hand in &mut hands {
                        hand.read();
                        thread::sleep(PACE); // not a guess: the pace itself
                    }
                }
                hands.into_iter().flat_map(|hand| hand.history).collect()
            })
        });
        let readers = readers.collect();
        let siege = Self { keys, start, wall, route, over, written, writers, readers };
        siege.until_written_after(Time(0));
        siege
    }

    /// Waits until a write of each key has been acknowledged after an instant.
    pub fn until_written_after(&self, at: Time) {
        until("every key takes writes", Duration::from_secs(60), || {
            self.written.iter().all(|written| written.load(Ordering::Relaxed) > at.0)
        });
    }

    /// How long it has lasted.
    pub fn now(&self) -> Time {
        Time(self.start.elapsed().as_nanos() as u64)
    }

    /// The name of a key.
    pub fn key(&self, key: usize) -> &str {
        &self.keys[key]
    }

    /// Ends, reads every key once more, and gives account of all.
    pub fn lift(self) -> Account {
        self.over.store(true, Ordering::Relaxed);
        let mut account = Account::new(self.keys.clone(), self.wall);
        for hand in self.writers.into_iter().chain(self.readers) {
            account.enter(hand.join().expect("a writer or reader does not panic"));
        }
        for (key, name) in self.keys.iter().enumerate() {
            let slot = Slot::of_key(name.as_bytes()).0;
            let (key, name, route) = (key as u32, name.clone(), Arc::clone(&self.route));
            let mut hand =
                Hand { key, name, slot, start: self.start, route, lines: BTreeMap::new(), history: Vec::new() };
            let deadline = Instant::now() + Duration::from_secs(10);
            while !hand.read() {
                assert!(Instant::now() < deadline, "nobody tells what {} holds", hand.name);
                thread::sleep(PACE); // between looks
            }
            account.enter(hand.history);
        }
        account
    }
}

/// What one writer or reader has to do with one key.
struct Hand {
    key: u32,
    name: String,
    slot: u16,
    start: Instant,
    route: Arc<Route>,
    /// Connections that stand, by door.
    lines: BTreeMap<String, Client>,
    history: Vec<Operation>,
}

/// What became of one command.
enum Asked {
    Answered(Reply),
    /// No byte of it has left.
    NotSent,
    /// It was sent, and no reply came.
    Unknown,
}

impl Hand {
    fn now(&self) -> Time {
        Time(self.start.elapsed().as_nanos() as u64)
    }

    /// True: acknowledged.
    fn write(&mut self, value: u64) -> bool {
        let start = self.now();
        let name = self.name.clone();
        let kind = match self.ask(&["SET", &name, &value.to_string()]) {
            Asked::Answered(Reply::Simple(_)) => Kind::Wrote(value),
            Asked::Answered(Reply::Error(text)) if text.starts_with("UNCERTAIN") => Kind::MayWrite(value),
            Asked::Answered(_) | Asked::NotSent => Kind::Refused(value),
            Asked::Unknown => Kind::MayWrite(value),
        };
        self.note(kind, start);
        matches!(kind, Kind::Wrote(_))
    }

    /// True: it was told.
    fn read(&mut self) -> bool {
        let start = self.now();
        let name = self.name.clone();
        let value = match self.ask(&["GET", &name]) {
            Asked::Answered(Reply::Bulk(text)) => Some(text.parse().expect("only our own values are there")),
            Asked::Answered(Reply::Null) => None,
            _ => return false,
        };
        self.note(Kind::Read(value), start);
        true
    }

    fn note(&mut self, kind: Kind, start: Time) {
        // What is lost with a range that was begun anew counts as lost: the mesh is never harmed so much that it may.
        let generation = Generation(0);
        let end = self.now();
        self.history.push(Operation { key: self.key, kind, start: (start, generation), end: (end, generation) });
    }

    /// One command to the door that should have the key, and what is to be learnt from the reply.
    fn ask(&mut self, words: &[&str]) -> Asked {
        let (edition, door) = self.route.door(self.slot);
        let Some(door) = door else {
            self.route.refresh(edition, None);
            return Asked::NotSent;
        };
        let asked = self.ask_at(&door, words);
        match &asked {
            Asked::Answered(Reply::Error(text)) => match text.strip_prefix("MOVED ") {
                Some(rest) => self.route.moved(self.slot, rest.split(' ').nth(1).unwrap_or_default()),
                None => self.route.refresh(edition, None),
            },
            Asked::Answered(_) => {}
            Asked::NotSent | Asked::Unknown => self.route.refresh(edition, Some(&door)),
        }
        asked
    }

    fn ask_at(&mut self, door: &str, words: &[&str]) -> Asked {
        let line = match self.lines.remove(door) {
            Some(line) => Ok(line),
            None => Client::connect(door, PATIENCE),
        };
        let Ok(mut line) = line else { return Asked::NotSent };
        let replied: io::Result<Reply> = line.ask(words);
        match replied {
            Ok(reply) => {
                self.lines.insert(door.to_owned(), line);
                Asked::Answered(reply)
            }
            // The connection goes with the reply that did not come: it would be taken for the next one's.
            Err(_) => Asked::Unknown,
        }
    }
}
