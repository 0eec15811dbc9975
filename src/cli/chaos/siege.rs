//! Clients that do not let go of a mesh while it is harmed, and remember all they asked and learnt.
//!
//! Each register has one writer, and each write a value of its own, greater than all before; readers go around the registers;
//! two clients count at each counter. All know the cluster doors: they go where the map says, follow MOVED, and fetch the map
//! anew after an error or a reply that did not come in time. The history is judged afterwards (`account`, `verdict`).
//!
//! Every key is below one prefix, ends by itself after a time, and is deleted at the end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use super::account::{Account, Key};
use super::hand::{Deed, Hand};
use super::route::Route;
use crate::sim::clock::Time;

/// Between two tries of what has to succeed in the end.
const PAUSE: Duration = Duration::from_millis(5);

/// How long a writer tries to end with a write that is acknowledged, and how long it is tried to read and to delete all keys.
const LAST: Duration = Duration::from_secs(20);

/// How many clients count at one counter.
pub const COUNTING: usize = 2;

/// How much clients ask for.
#[derive(Clone, Debug)]
pub struct Load {
    /// What the names of all keys begin with.
    pub prefix: String,
    /// How many registers there are, each with a writer.
    pub registers: usize,
    /// How many readers there are; each goes around its share of the registers.
    pub readers: usize,
    /// How many counters there are.
    pub counters: usize,
    /// Between two operations of one client.
    pub pace: Duration,
    /// After so long a key that nobody deletes ends by itself.
    pub ttl: Duration,
}

impl Load {
    /// How many clients that makes.
    pub fn clients(&self) -> usize {
        self.registers + self.readers + COUNTING * self.counters
    }
}

/// When registers were last written, and the longest time in which one was not.
#[derive(Debug, Default)]
struct Pulse {
    written: Vec<Time>,
    longest: Option<(usize, Time, Time)>,
}

impl Pulse {
    fn beat(&mut self, key: usize, at: Time) {
        let from = std::mem::replace(&mut self.written[key], at);
        let is_longer = |(_, before, after): (usize, Time, Time)| at.since(from) > after.since(before);
        // Before the first write there is no gap.
        if from > Time(0) && self.longest.is_none_or(is_longer) {
            self.longest = Some((key, from, at));
        }
    }
}

/// A mesh under siege.
pub struct Siege {
    keys: Vec<Key>,
    ttl_ms: String,
    began: Instant,
    wall: SystemTime,
    route: Arc<Route>,
    over: Arc<AtomicBool>,
    pulse: Arc<Mutex<Pulse>>,
    clients: Vec<JoinHandle<Vec<Deed>>>,
}

impl Siege {
    /// Begins. What clients cannot do yet they try again and again.
    pub fn lay(route: Route, load: &Load) -> Self {
        let (began, wall) = (Instant::now(), SystemTime::now());
        let named = |sort: &str, number: usize| format!("{}:{sort}{number}", load.prefix);
        let registers = (0..load.registers).map(|number| Key { name: named("r", number), counts: false });
        let counters = (0..load.counters).map(|number| Key { name: named("c", number), counts: true });
        let pulse = Pulse { written: vec![Time(0); load.registers], longest: None };
        let mut siege = Self {
            keys: registers.chain(counters).collect(),
            ttl_ms: load.ttl.as_millis().to_string(),
            began,
            wall,
            route: Arc::new(route),
            over: Arc::default(),
            pulse: Arc::new(Mutex::new(pulse)),
            clients: Vec::new(),
        };
        (0..load.registers).for_each(|key| siege.start_writer(key, load.pace));
        let share = |reader: usize| (reader..load.registers).step_by(load.readers).collect();
        (0..load.readers).for_each(|reader| siege.start_reader(share(reader), load.pace));
        let counters = load.registers..siege.keys.len();
        counters.flat_map(|key| [key; COUNTING]).for_each(|key| siege.start_counting(key, load.pace));
        siege
    }

    fn hand(&self, client: usize, key: usize) -> Hand {
        Hand::new(client as u32, key, &self.keys[key].name, self.began, &self.route)
    }

    fn start_writer(&mut self, key: usize, pace: Duration) {
        let mut hand = self.hand(self.clients.len(), key);
        let (over, pulse, ttl_ms) = (Arc::clone(&self.over), Arc::clone(&self.pulse), self.ttl_ms.clone());
        let patience = self.route.manners.patience;
        self.clients.push(thread::spawn(move || {
            // The last write of each is one that was acknowledged, so that the end of every gap is seen; a mesh that
            // never answers again is noticed too.
            let mut asked_to_end = None;
            for value in 1.. {
                let asked = hand.now();
                let done = hand.write(value, &ttl_ms);
                if done {
                    lock(&pulse).beat(key, hand.now());
                }
                if over.load(Ordering::Relaxed) {
                    let asked = *asked_to_end.get_or_insert_with(Instant::now);
                    if done || asked.elapsed() > LAST {
                        break;
                    }
                }
                // Whoever has waited for a reply in vain has waited enough.
                if hand.now().since(asked) < patience {
                    thread::sleep(pace); // not a guess: the pace itself
                }
            }
            hand.history
        }));
    }

    fn start_reader(&mut self, keys: Vec<usize>, pace: Duration) {
        let client = self.clients.len();
        let mut hands: Vec<Hand> = keys.into_iter().map(|key| self.hand(client, key)).collect();
        let over = Arc::clone(&self.over);
        self.clients.push(thread::spawn(move || {
            while !over.load(Ordering::Relaxed) && !hands.is_empty() {
                for hand in &mut hands {
                    hand.read();
                    thread::sleep(pace); // not a guess: the pace itself
                }
            }
            hands.into_iter().flat_map(|hand| hand.history).collect()
        }));
    }

    fn start_counting(&mut self, key: usize, pace: Duration) {
        let mut hand = self.hand(self.clients.len(), key);
        let (over, ttl_ms) = (Arc::clone(&self.over), self.ttl_ms.clone());
        self.clients.push(thread::spawn(move || {
            while !over.load(Ordering::Relaxed) && !hand.begin_counter(&ttl_ms) {
                thread::sleep(PAUSE.max(pace)); // not a guess: the pace itself
            }
            while !over.load(Ordering::Relaxed) {
                hand.count();
                thread::sleep(pace); // not a guess: the pace itself
            }
            hand.history
        }));
    }

    /// Which registers no write of has been acknowledged after an instant.
    pub fn unwritten_after(&self, at: Time) -> Vec<&str> {
        let pulse = lock(&self.pulse);
        let late = pulse.written.iter().enumerate().filter(|(_, written)| **written <= at);
        late.map(|(key, _)| self.keys[key].name.as_str()).collect()
    }

    /// The longest time without an acknowledged write of one register that has ended since the last call, and whose.
    pub fn longest_since(&self) -> Option<(Duration, &str)> {
        let (key, from, to) = lock(&self.pulse).longest.take()?;
        Some((to.since(from), &self.keys[key].name))
    }

    /// How long it has lasted.
    pub fn now(&self) -> Time {
        Time(self.began.elapsed().as_nanos() as u64)
    }

    /// The name of a key.
    pub fn key(&self, key: usize) -> &str {
        &self.keys[key].name
    }

    /// Ends, reads every key once more, deletes all, and gives account.
    pub fn lift(mut self) -> Account {
        self.over.store(true, Ordering::Relaxed);
        let mut account = Account::new(self.keys.clone(), self.wall);
        let last = self.clients.len();
        for client in std::mem::take(&mut self.clients) {
            account.enter(client.join().expect("a client does not panic"));
        }
        let mut hands: Vec<Hand> = (0..self.keys.len()).map(|key| self.hand(last, key)).collect();
        let deadline = Instant::now() + LAST;
        for (hand, key) in hands.iter_mut().zip(&self.keys) {
            try_until(deadline, || if key.counts { hand.stand() } else { hand.read() });
        }
        let deadline = Instant::now() + LAST;
        for (hand, key) in hands.iter_mut().zip(&self.keys) {
            if !try_until(deadline, || hand.delete()) {
                account.left.push(key.name.clone());
            }
        }
        hands.into_iter().for_each(|hand| account.enter(hand.history));
        account
    }
}

/// Tries at least once. Whether it succeeded.
fn try_until(deadline: Instant, mut act: impl FnMut() -> bool) -> bool {
    loop {
        if act() {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(PAUSE); // between looks
    }
}

fn lock(pulse: &Mutex<Pulse>) -> MutexGuard<'_, Pulse> {
    pulse.lock().unwrap_or_else(PoisonError::into_inner)
}
