//! The command in place of the values it made: `replication.mode = command`.
//!
//! `APPEND` of ten bytes to a megabyte makes a megabyte anew. A member that serves has what its predecessor had before a
//! write (G6), so it can be told the command and the head's wall clock instead, and make the same of its own copy: what a
//! command does follows from keyspace, clock and words alone (`commands::Work::Data`). Each member keeps what the command
//! made in its backlog, like any write. So who is sent what it missed, and a joiner, which may lack the keys (G9), is always
//! sent values.
//!
//! With the command goes a digest of what the head made. A member that makes something else, because it runs another version
//! or its copy is damaged, does not apply it, and asks for what it misses: values then.

use bytes::Bytes;
use twox_hash::XxHash3_64;

use crate::commands;
use crate::machines::chain::{Context, Holding};
use crate::messages::chain::{Change, Recipe, Write};
use crate::messages::ownership::ReplicationMode;
use crate::types::Now;

/// What a word, or a key with its value, takes on the wire over its own bytes, about; and the rest of a recipe.
const WORD_BYTES: usize = 3;
const CHANGE_BYTES: usize = 10;
const RECIPE_BYTES: usize = 20;

impl Holding {
    /// The recipe of what a command made, where the mesh wants that, the next member can follow it, and it is shorter.
    pub(super) fn recipe(&self, words: &[Bytes], changes: &[Change], ctx: &Context) -> Option<Recipe> {
        let wanted = ctx.around.mode == ReplicationMode::Command
            && self.successor.as_ref().is_some_and(|successor| successor.serves)
            && size_of_words(words) < changes.iter().map(size_of_change).sum();
        // Copied, so that a short word does not keep the client's whole buffer alive.
        let copied = || words.iter().map(|word| Bytes::copy_from_slice(word)).collect();
        wanted.then(|| Recipe { words: copied(), wall_ms: ctx.now.wall_ms, digest: digest(changes) })
    }

    /// A write as it is kept: with what its recipe makes of this copy. None if that is not what the head made.
    pub(super) fn follow(&self, write: Write, ctx: &Context) -> Option<Write> {
        let Some(recipe) = &write.recipe else { return Some(write) };
        if !self.serves() {
            return None;
        }
        let now = Now { wall_ms: recipe.wall_ms, ..ctx.now };
        let changes = commands::execute(&self.keyspace, now, &recipe.words).changes;
        (digest(&changes) == recipe.digest).then_some(Write { changes, ..write })
    }
}

impl Recipe {
    /// About how many bytes it takes.
    pub(super) fn size(&self) -> usize {
        size_of_words(&self.words)
    }
}

fn size_of_words(words: &[Bytes]) -> usize {
    RECIPE_BYTES + words.iter().map(|word| WORD_BYTES + word.len()).sum::<usize>()
}

fn size_of_change(change: &Change) -> usize {
    CHANGE_BYTES
        + match change {
            Change::Put(key, value) => key.len() + value.data.len(),
            Change::Delete(key) | Change::Expire(key, _) => key.len(),
            Change::Clear => 0,
        }
}

/// XXH3 (Collet) of changes, each the seed for the next.
fn digest(changes: &[Change]) -> u64 {
    let hash = XxHash3_64::oneshot_with_seed;
    changes.iter().fold(0, |seed, change| {
        let end = |end: &Option<u64>| end.unwrap_or(u64::MAX).to_le_bytes();
        match change {
            Change::Put(key, value) => hash(hash(hash(seed ^ 1, key), &end(&value.expires_ms)), &value.data),
            Change::Delete(key) => hash(seed ^ 2, key),
            Change::Expire(key, expires_ms) => hash(hash(seed ^ 3, key), &end(expires_ms)),
            Change::Clear => hash(seed ^ 4, &[]),
        }
    })
}
