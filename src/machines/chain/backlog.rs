//! Recent writes with their stamps: what can be sent again to who missed them, and which keys are dirty.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::messages::chain::{Change, Recipe, Write};
use crate::planted::{self, Bug};
use crate::types::{Sequence, Stamp};

/// What a write costs in the backlog over the bytes of its keys and values.
const WRITE_BYTES: usize = 96;

/// The newest writes of a range, in order and without a gap, from just after `base` on.
#[derive(Clone, Debug, Default)]
pub(super) struct Backlog {
    base: Stamp,
    writes: VecDeque<Kept>,
    /// Bytes of all writes ever let go of; `Kept::until` counts from the same start.
    gone: u64,
}

#[derive(Clone, Debug)]
struct Kept {
    write: Write,
    until: u64,
}

impl Backlog {
    /// Forgets all; the next write follows `base`.
    pub fn begin_after(&mut self, base: Stamp) {
        *self = Self { base, ..Self::default() };
    }

    /// The stamp that the first write kept here follows.
    pub fn base(&self) -> Stamp {
        self.base
    }

    /// The stamp of the newest write.
    pub fn last(&self) -> Stamp {
        self.writes.back().map_or(self.base, |kept| kept.write.stamp)
    }

    pub fn push(&mut self, write: Write) {
        let until = self.total() + size(&write) as u64;
        self.writes.push_back(Kept { write, until });
    }

    /// Whether this stamp is a place in this history: the base or one of the writes, epoch and sequence both (G6).
    pub fn knows(&self, stamp: Stamp) -> bool {
        let found = self.stamp_at(stamp.sequence);
        found == Some(stamp) || planted::is(Bug::StampBySequence) && found.is_some()
    }

    /// The stamp at a place, if the backlog reaches it.
    pub fn stamp_at(&self, sequence: Sequence) -> Option<Stamp> {
        match sequence.0.checked_sub(self.base.sequence.0)? {
            0 => Some(self.base),
            after => self.writes.get(after as usize - 1).map(|kept| kept.write.stamp),
        }
    }

    /// The writes behind a place, oldest first. The backlog must reach it.
    pub fn after(&self, sequence: Sequence) -> impl Iterator<Item = &Write> {
        let skip = sequence.0.saturating_sub(self.base.sequence.0) as usize;
        self.writes.range(skip.min(self.writes.len())..).map(|kept| &kept.write)
    }

    /// The writes behind a place until they are `limit` bytes or more; at least one, unless there is none. As values.
    pub fn batch_after(&self, sequence: Sequence, limit: usize) -> Vec<Write> {
        let values = |write: &Write| Write { recipe: None, ..write.clone() };
        self.some_after(sequence, limit).map(values).collect()
    }

    /// The same for a member that serves: behind `values_until`, where there is a recipe, that alone.
    pub fn recipes_after(&self, sequence: Sequence, values_until: Sequence, limit: usize) -> Vec<Write> {
        let short = |write: &Write| match &write.recipe {
            Some(recipe) if write.stamp.sequence > values_until => {
                Write { stamp: write.stamp, changes: Vec::new(), recipe: Some(recipe.clone()) }
            }
            _ => Write { recipe: None, ..write.clone() },
        };
        self.some_after(sequence, limit).map(short).collect()
    }

    fn some_after(&self, sequence: Sequence, limit: usize) -> impl Iterator<Item = &Write> {
        let mut bytes = 0;
        self.after(sequence).take_while(move |write| {
            let fits = bytes < limit;
            bytes += size(write);
            fits
        })
    }

    /// How many bytes the writes behind a place take.
    pub fn bytes_after(&self, sequence: Sequence) -> usize {
        let skip = sequence.0.saturating_sub(self.base.sequence.0) as usize;
        let before = match skip {
            0 => self.gone,
            _ => self.writes.get(skip - 1).map_or(self.total(), |kept| kept.until),
        };
        (self.total() - before) as usize
    }

    /// Lets go of the oldest writes up to `floor`, as far as more than `bytes` and `count` are kept.
    pub fn trim(&mut self, floor: Sequence, bytes: usize, count: usize) {
        while let Some(first) = self.writes.front() {
            let too_many = self.writes.len() > count || (self.total() - self.gone) as usize > bytes;
            if !too_many || first.write.stamp.sequence > floor {
                return;
            }
            self.base = first.write.stamp;
            self.gone = first.until;
            self.writes.pop_front();
        }
    }

    /// Whether no write is kept.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// About how much memory the writes take.
    pub fn bytes(&self) -> usize {
        (self.total() - self.gone) as usize
    }

    /// Forgets some writes, at most so many, the oldest first: for who gives a backlog up. Says how many.
    pub fn forget_some(&mut self, count: usize) -> usize {
        let count = count.min(self.writes.len());
        self.gone = self.writes.get(count.wrapping_sub(1)).map_or(self.gone, |last| last.until);
        self.writes.drain(..count).count()
    }

    fn total(&self) -> u64 {
        self.writes.back().map_or(self.gone, |kept| kept.until)
    }
}

/// Which keys were written above clean, deleted ones too. Every member keeps it, for each may have to lead.
#[derive(Clone, Debug, Default)]
pub(super) struct Dirty {
    keys: BTreeMap<Bytes, Sequence>,
    /// All keys were written here: by a Clear, or since the copy was taken from another and what is clean is not known yet.
    all: Sequence,
}

impl Dirty {
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// All keys are dirty up to here.
    pub fn note_all(&mut self, sequence: Sequence) {
        self.all = self.all.max(sequence);
    }

    pub fn note(&mut self, write: &Write) {
        for change in &write.changes {
            match key_of(change) {
                Some(key) => drop(self.keys.insert(key.clone(), write.stamp.sequence)),
                None => self.all = write.stamp.sequence,
            }
        }
    }

    /// These writes are clean now, and `clean` is the last of them.
    pub fn settle<'a>(&mut self, writes: impl Iterator<Item = &'a Write>, clean: Sequence) {
        for change in writes.take_while(|write| write.stamp.sequence <= clean).flat_map(|write| &write.changes) {
            let Some(key) = key_of(change) else { continue };
            if self.keys.get(key).is_some_and(|last| *last <= clean) {
                self.keys.remove(key);
            }
        }
    }

    /// Whether a key was written above clean.
    pub fn has(&self, key: &[u8], clean: Sequence) -> bool {
        self.all > clean || self.keys.get(key).is_some_and(|last| *last > clean)
    }
}

fn key_of(change: &Change) -> Option<&Bytes> {
    match change {
        Change::Put(key, _) | Change::Delete(key) | Change::Expire(key, _) => Some(key),
        Change::Clear => None,
    }
}

/// What a write costs in memory and on the wire, about.
pub(super) fn size(write: &Write) -> usize {
    let bytes = |change: &Change| match change {
        Change::Put(key, value) => key.len() + value.data.len(),
        Change::Delete(key) | Change::Expire(key, _) => key.len(),
        Change::Clear => 0,
    };
    let recipe = write.recipe.as_ref().map_or(0, Recipe::size);
    WRITE_BYTES + recipe + write.changes.iter().map(bytes).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Epoch;

    fn stamp(epoch: u64, sequence: u64) -> Stamp {
        Stamp { epoch: Epoch(epoch), sequence: Sequence(sequence) }
    }

    fn backlog() -> Backlog {
        let mut backlog = Backlog::default();
        backlog.begin_after(stamp(1, 3));
        for sequence in 4..=8 {
            let changes = vec![Change::Delete(Bytes::from(format!("k{sequence}")))];
            backlog.push(Write { stamp: stamp(2, sequence), changes, recipe: None });
        }
        backlog
    }

    #[test]
    fn a_place_is_known_by_epoch_and_sequence_both() {
        let backlog = backlog();
        assert!(backlog.knows(stamp(1, 3)) && backlog.knows(stamp(2, 4)) && backlog.knows(stamp(2, 8)));
        assert!(!backlog.knows(stamp(1, 4)) && !backlog.knows(stamp(1, 2)) && !backlog.knows(stamp(2, 9)));
        assert_eq!(backlog.last(), stamp(2, 8));
    }

    #[test]
    fn it_is_trimmed_as_far_as_the_floor_allows() {
        let mut backlog = backlog();
        let each = WRITE_BYTES + 2;
        assert_eq!(backlog.bytes_after(Sequence(3)), 5 * each);
        assert_eq!(backlog.bytes_after(Sequence(6)), 2 * each);
        backlog.trim(Sequence(5), 0, 0);
        assert_eq!((backlog.base(), backlog.writes.len()), (stamp(2, 5), 3));
        assert_eq!(backlog.bytes_after(Sequence(5)), 3 * each);
        assert_eq!(backlog.after(Sequence(6)).count(), 2);
        assert_eq!(backlog.batch_after(Sequence(5), 1).len(), 1);
        backlog.trim(Sequence(8), 2 * each, 100);
        assert_eq!(backlog.writes.len(), 2);
    }

    #[test]
    fn a_key_is_dirty_until_its_last_write_is_clean() {
        let key = Bytes::from_static(b"k");
        let writes: Vec<Write> = (1..=2)
            .map(|n| Write { stamp: stamp(1, n), changes: vec![Change::Delete(key.clone())], recipe: None })
            .collect();
        let mut dirty = Dirty::default();
        writes.iter().for_each(|write| dirty.note(write));
        dirty.settle(writes.iter(), Sequence(1));
        assert!(dirty.has(b"k", Sequence(1)) && !dirty.has(b"other", Sequence(1)));
        dirty.settle(writes[1..].iter(), Sequence(2));
        assert!(!dirty.has(b"k", Sequence(2)));
        dirty.note(&Write { stamp: stamp(1, 3), changes: vec![Change::Clear], recipe: None });
        assert!(dirty.has(b"other", Sequence(2)) && !dirty.has(b"other", Sequence(3)));
    }
}
