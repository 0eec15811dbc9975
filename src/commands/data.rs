//! How a command works on the keyspace of a range without changing it.

use bytes::Bytes;

use super::spec::Work;
use super::table;
use crate::keyspace::Keyspace;
use crate::messages::chain::{Change, Value};
use crate::messages::client::Reply;
use crate::types::Now;

/// What a command came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Executed {
    /// What the client is told, once the changes are clean.
    pub reply: Reply,
    /// What it makes of the keyspace, in this order. None: it is answered like a read.
    pub changes: Vec<Change>,
}

/// Carries out a command of one range, as it stands `now`. Changes nothing itself: the caller applies the changes.
///
/// A key whose time has come is gone for the command, and its deletion is among the changes, even of a read: so all members
/// of the chain learn it from the head (CHAIN.md, G9). What is put into changes is copied out of the buffers that the words
/// lie in, so that a small value never keeps a large buffer alive.
pub fn execute(keyspace: &Keyspace, now: Now, words: &[Bytes]) -> Executed {
    let run = match table::resolve(words) {
        Ok(spec) => match spec.work {
            Work::Data(_, run) => run,
            _ => return refused(Reply::error(format!("ERR '{}' concerns no range", spec.name))),
        },
        Err(reply) => return refused(reply),
    };
    let mut scope = Scope { keyspace, wall_ms: now.wall_ms, changes: Vec::new() };
    match run(&mut scope, words) {
        Ok(reply) => Executed { reply, changes: scope.changes },
        Err(reply) => refused(reply),
    }
}

fn refused(reply: Reply) -> Executed {
    Executed { reply, changes: Vec::new() }
}

/// What a command of the data sees and does.
pub struct Scope<'a> {
    keyspace: &'a Keyspace,
    wall_ms: u64,
    changes: Vec<Change>,
}

impl<'a> Scope<'a> {
    /// Milliseconds since 1970.
    pub(super) fn wall_ms(&self) -> u64 {
        self.wall_ms
    }

    /// The keyspace, for commands that look at all of it.
    pub(super) fn keyspace(&self) -> &'a Keyspace {
        self.keyspace
    }

    /// What a key holds; that it is gone, if its time has come. Does not see what this command has changed itself.
    pub(super) fn get(&mut self, key: &Bytes) -> Option<&'a Value> {
        let value = self.keyspace.peek(key)?;
        if !crate::keyspace::is_over(value, self.wall_ms) {
            return Some(value);
        }
        let deletion = Change::Delete(owned(key));
        if self.changes.last() != Some(&deletion) {
            self.changes.push(deletion);
        }
        None
    }

    /// The key shall hold this. With an end that has passed, it is gone at once.
    pub(super) fn put(&mut self, key: &Bytes, data: Bytes, expires_ms: Option<u64>) {
        if expires_ms.is_some_and(|end| end <= self.wall_ms) {
            return self.delete(key);
        }
        // A deletion because its time had come is overtaken by the new value.
        if matches!(self.changes.last(), Some(Change::Delete(last)) if last == key) {
            self.changes.pop();
        }
        self.changes.push(Change::Put(owned(key), Value { data, expires_ms }));
    }

    /// The key shall be gone.
    pub(super) fn delete(&mut self, key: &Bytes) {
        if self.keyspace.peek(key).is_some()
            && !matches!(self.changes.last(), Some(Change::Delete(last)) if last == key)
        {
            self.changes.push(Change::Delete(owned(key)));
        }
    }

    /// The key, which is there, shall end then, or never.
    pub(super) fn expire(&mut self, key: &Bytes, expires_ms: Option<u64>) {
        match expires_ms {
            Some(end) if end <= self.wall_ms => self.delete(key),
            _ => self.changes.push(Change::Expire(owned(key), expires_ms)),
        }
    }

    /// All keys shall be gone.
    pub(super) fn clear(&mut self) {
        if !self.keyspace.is_empty() {
            self.changes.push(Change::Clear);
        }
    }
}

/// The bytes in memory of their own.
pub(super) fn owned(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

/// A word that must be a whole number.
pub(super) fn integer(word: &[u8]) -> Result<i64, Reply> {
    crate::resp::integer(word).ok_or_else(super::errors::not_an_integer)
}
