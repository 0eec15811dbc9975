//! What clients can ask: one table of commands, and one file a family of them.
//!
//! A command that concerns keys is *executed* against the keyspace of its range, which it only reads: what it would change
//! comes back as [`Change`]s, and the head of the chain has these written. So a command runs once, whatever the number of
//! copies, and every copy is made by the same changes.

pub mod mesh;

use bytes::Bytes;

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
pub fn execute(keyspace: &Keyspace, now: Now, words: &[Bytes]) -> Executed {
    let name = words.first().map(|name| name.to_ascii_uppercase()).unwrap_or_default();
    match (&name[..], &words[1..]) {
        (b"GET", [key]) => match keyspace.get(key, now.wall_ms) {
            Some(value) => Executed { reply: Reply::Bulk(value.data.clone()), changes: vec![] },
            None => Executed { reply: Reply::Null, changes: vec![] },
        },
        (b"SET", [key, data]) => Executed {
            reply: Reply::ok(),
            changes: vec![Change::Put(key.clone(), Value { data: data.clone(), expires_ms: None })],
        },
        (b"DEL", keys) => {
            let there: Vec<_> = keys.iter().filter(|key| keyspace.get(key, now.wall_ms).is_some()).collect();
            Executed {
                reply: Reply::Integer(there.len() as i64),
                changes: there.into_iter().map(|key| Change::Delete(key.clone())).collect(),
            }
        }
        _ => Executed { reply: Reply::error("ERR unknown command"), changes: vec![] },
    }
}
