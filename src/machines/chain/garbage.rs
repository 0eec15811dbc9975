//! Copies that were given up, freed a little at a time: to give much memory back takes long, and clients would wait for it.

use std::time::Duration;

use crate::keyspace::Keyspace;
use crate::machines::chain::backlog::Backlog;
use crate::types::Instant;

/// Between two turns of freeing.
const BETWEEN: Duration = Duration::from_millis(1);

/// In about so many turns all keys that wait are to be freed, however many they are.
const TURNS: usize = 8_192;

/// What is to be freed.
#[derive(Clone, Debug, Default)]
pub(in crate::machines) struct Garbage {
    keyspaces: Vec<Keyspace>,
    backlogs: Vec<Backlog>,
    /// When it is this store's turn to free some.
    due: Option<Instant>,
}

impl Garbage {
    pub(super) fn add_keyspace(&mut self, keyspace: Keyspace) {
        if !keyspace.is_empty() {
            self.keyspaces.push(keyspace);
        }
    }

    pub(super) fn add_backlog(&mut self, backlog: Backlog) {
        if !backlog.is_empty() {
            self.backlogs.push(backlog);
        }
    }

    /// About how much memory is still to be freed.
    pub fn bytes(&self) -> usize {
        let keys = self.keyspaces.iter().map(Keyspace::bytes).sum::<usize>();
        keys + self.backlogs.iter().map(Backlog::bytes).sum::<usize>()
    }

    /// Frees so many keys and writes, if it is time for it, and more where very many wait: they must not become ever more.
    pub fn free_some(&mut self, now: Instant, count: usize) {
        if self.due.is_some_and(|due| now < due) {
            return;
        }
        let keys = self.keyspaces.iter().map(Keyspace::len).sum::<usize>();
        let mut left = count.max(keys / TURNS);
        while let Some(keyspace) = self.keyspaces.last_mut().filter(|_| left > 0) {
            left -= keyspace.forget_some(left);
            self.keyspaces.pop_if(|keyspace| keyspace.is_empty());
        }
        while let Some(backlog) = self.backlogs.last_mut().filter(|_| left > 0) {
            left -= backlog.forget_some(left);
            self.backlogs.pop_if(|backlog| backlog.is_empty());
        }
        let is_done = self.keyspaces.is_empty() && self.backlogs.is_empty();
        self.due = (!is_done).then(|| now + BETWEEN);
    }

    /// When some is to be freed.
    pub fn deadline(&self) -> Option<Instant> {
        self.due
    }
}
