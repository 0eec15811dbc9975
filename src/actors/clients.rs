//! Who is connected: what `CLIENT LIST`, `INFO` and the limits go by, for all threads.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::commands::view::{ClientInfo, ConnectionState, Door};
use crate::types::Instant;

/// How many codes of errors are counted: those of a keyspace's commands are few, but a script could make up its own.
const MOST_CODES: usize = 128;

/// A connected client.
#[derive(Debug)]
pub struct Client {
    /// Counts from 1, never given twice.
    pub id: u64,
    /// Its address.
    pub from: SocketAddr,
    /// The address at which it came.
    pub local: SocketAddr,
    /// By which door.
    pub door: Door,
    since_ms: u64,
    active_ms: AtomicU64,
    /// Until when something must happen; zero: no such instant.
    deadline: AtomicU64,
    /// What it says of itself, as of its last batch, and the last command of that.
    about: Mutex<(ConnectionState, &'static str)>,
}

/// All clients of this node.
#[derive(Debug, Default)]
pub struct Clients {
    all: Mutex<BTreeMap<u64, Arc<Client>>>,
    count: AtomicUsize,
    last: AtomicU64,
    refused: AtomicU64,
    commands: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    errors: Mutex<BTreeMap<String, u64>>,
    /// When the rate was last measured, commands until then, and the rate.
    measured: Mutex<(Instant, u64, u64)>,
}

impl Client {
    /// It has sent a batch of commands.
    pub fn is_active(&self, wall_ms: u64, state: &ConnectionState, command: &'static str) {
        self.active_ms.store(wall_ms, Ordering::Relaxed);
        let mut about = self.about.lock().unwrap_or_else(PoisonError::into_inner);
        about.1 = command;
        if about.0 != *state {
            about.0 = state.clone();
        }
    }

    /// Something must happen until then.
    pub fn set_deadline(&self, deadline: Option<Instant>) {
        self.deadline.store(deadline.map_or(0, |deadline| deadline.0), Ordering::Relaxed);
    }

    /// Until when something must happen.
    pub fn deadline(&self) -> Option<Instant> {
        Some(Instant(self.deadline.load(Ordering::Relaxed))).filter(|deadline| deadline.0 > 0)
    }

    fn info(&self) -> ClientInfo {
        let (state, command) = self.about.lock().unwrap_or_else(PoisonError::into_inner).clone();
        ClientInfo {
            state,
            address: self.from.to_string(),
            door_address: self.local.to_string(),
            since_ms: self.since_ms,
            active_ms: self.active_ms.load(Ordering::Relaxed),
            command: command.into(),
            ..ClientInfo::default()
        }
    }
}

impl Clients {
    /// One more, since now.
    pub fn enter(&self, from: SocketAddr, local: SocketAddr, door: Door, since_ms: u64) -> Arc<Client> {
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let about = Mutex::new((ConnectionState::new(id, false), ""));
        let (active_ms, deadline) = (AtomicU64::new(since_ms), AtomicU64::new(0));
        let client = Arc::new(Client { id, from, local, door, since_ms, active_ms, deadline, about });
        self.lock().insert(id, client.clone());
        self.count.fetch_add(1, Ordering::Relaxed);
        client
    }

    /// One less.
    pub fn leave(&self, id: u64) {
        if self.lock().remove(&id).is_some() {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// One was not let in.
    pub fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// A batch was read.
    pub fn heard(&self, commands: u64, bytes: u64) {
        self.commands.fetch_add(commands, Ordering::Relaxed);
        self.bytes_in.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Replies were written.
    pub fn told(&self, bytes: u64) {
        self.bytes_out.fetch_add(bytes, Ordering::Relaxed);
    }

    /// An error was told.
    pub fn erred(&self, text: &str) {
        let code = text.split(' ').next().unwrap_or_default();
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = errors.get_mut(code) {
            *count += 1;
        } else if errors.len() < MOST_CODES {
            errors.insert(code.into(), 1);
        }
    }

    /// Errors told, by their codes.
    pub fn errors(&self) -> BTreeMap<String, u64> {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Measures the rate of commands, a second at least after the last time.
    pub fn measure(&self, now: Instant) {
        let mut measured = self.measured.lock().unwrap_or_else(PoisonError::into_inner);
        let span = now.since(measured.0);
        if span >= Duration::from_secs(1) {
            let commands = self.commands.load(Ordering::Relaxed);
            let rate = (commands - measured.1) as f64 / span.as_secs_f64();
            *measured = (now, commands, rate as u64);
        }
    }

    /// Commands a second, as last measured.
    pub fn rate(&self) -> u64 {
        self.measured.lock().unwrap_or_else(PoisonError::into_inner).2
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// How many there have been, and how many were refused.
    pub fn entered(&self) -> (u64, u64) {
        (self.last.load(Ordering::Relaxed), self.refused.load(Ordering::Relaxed))
    }

    /// Commands, bytes in and bytes out since the start.
    pub fn traffic(&self) -> (u64, u64, u64) {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (load(&self.commands), load(&self.bytes_in), load(&self.bytes_out))
    }

    /// All of them, oldest first.
    pub fn list(&self) -> Vec<ClientInfo> {
        self.lock().values().map(|client| client.info()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Client>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
