//! What the consensus library may look at: the log and the state that was applied, in memory.
//!
//! The journal on disk holds the same and is read once, at the start; after that the library reads here. What was
//! appended here is not yet stable: the machine lets nothing leave that depends on it before the journal says so. A tail
//! of the log is kept beyond the newest snapshot, so that one who is a little behind needs no snapshot.

use std::sync::Arc;

use raft::eraftpb as lib;
use raft::{Error, GetEntriesContext, RaftState, Result, Storage, StorageError};

use super::convert;
use crate::machines::dictionary::Dictionary;
use crate::messages::election::{HardState, Recovered, Seats, Snapshot};
use crate::sites::{self, Site};
use crate::types::{NodeId, Term};
use crate::wire::codec;

/// After so many records, or so many bytes of them, the applied state is written as a snapshot.
const SNAPSHOT_RECORDS: u64 = 1_000;
const SNAPSHOT_BYTES: usize = 1 << 20;
/// So many records behind the snapshot, or so many bytes of them, stay in memory.
const TAIL_RECORDS: usize = 256;
const TAIL_BYTES: usize = SNAPSHOT_BYTES / 2;

/// A record's place in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub index: u64,
    pub term: u64,
}

/// The log in memory, with the state that its records have made so far.
#[derive(Debug)]
pub(super) struct Mirror {
    hard: HardState,
    /// The place before the first record kept.
    truncated: Place,
    entries: Vec<lib::Entry>,
    /// The last record applied, and what it made.
    applied: Place,
    seats: Seats,
    dictionary: Option<Arc<Dictionary>>,
    /// Up to where the newest snapshot reaches, and the size of the records applied since.
    snapshot_index: u64,
    bytes_since_snapshot: usize,
}

impl Mirror {
    /// What a journal held.
    ///
    /// # Errors
    /// When it contradicts itself or cannot be read, in words.
    pub(super) fn new(recovered: Recovered) -> std::result::Result<Self, String> {
        let mut mirror = Self {
            hard: recovered.hard,
            truncated: Place::default(),
            entries: Vec::new(),
            applied: Place::default(),
            seats: Seats::default(),
            dictionary: None,
            snapshot_index: 0,
            bytes_since_snapshot: 0,
        };
        if let Some(snapshot) = recovered.snapshot {
            let dictionary = read_dictionary(&snapshot.data)?;
            mirror.begin_at(&snapshot, Arc::new(dictionary));
        }
        for (place, entry) in recovered.entries.into_iter().enumerate() {
            let expected = mirror.truncated.index + 1 + place as u64;
            if entry.index != expected {
                return Err(format!("the log has record {} where {expected} should be", entry.index));
            }
            mirror.entries.push(convert::entry_in(entry));
        }
        if mirror.hard.commit > mirror.last().index {
            return Err(format!(
                "record {} was committed, but the log ends at {}",
                mirror.hard.commit,
                mirror.last().index
            ));
        }
        if mirror.hard.term.0 < mirror.last().term {
            return Err(format!(
                "the log reaches term {}, the vote only term {}",
                mirror.last().term,
                mirror.hard.term
            ));
        }
        mirror.hard.commit = mirror.hard.commit.max(mirror.truncated.index);
        Ok(mirror)
    }

    pub(super) fn dictionary(&self) -> Option<&Arc<Dictionary>> {
        self.dictionary.as_ref()
    }

    /// For the next record to apply: changed in place where nobody else holds it.
    pub(super) fn dictionary_mut(&mut self) -> Option<&mut Dictionary> {
        self.dictionary.as_mut().map(Arc::make_mut)
    }

    /// The newest term the journal knew, and up to where it knew the log to be committed.
    pub(super) fn initial(&self) -> (u64, u64) {
        (self.hard.term.0, self.hard.commit)
    }

    pub(super) fn seats(&self) -> &Seats {
        &self.seats
    }

    pub(super) fn set_seats(&mut self, seats: Seats) {
        self.seats = seats;
    }

    pub(super) fn applied(&self) -> Place {
        self.applied
    }

    /// Notes that a record has been applied.
    pub(super) fn set_applied(&mut self, entry: &lib::Entry) {
        assert!(entry.index == self.applied.index + 1, "applied {} after {:?}", entry.index, self.applied);
        self.applied = Place { index: entry.index, term: entry.term };
        self.bytes_since_snapshot += size(entry);
    }

    pub(super) fn last(&self) -> Place {
        self.entries.last().map_or(self.truncated, |entry| Place { index: entry.index, term: entry.term })
    }

    /// The term of the record at a place, if it is known here.
    pub(super) fn term_at(&self, index: u64) -> Option<u64> {
        if index == self.truncated.index {
            return Some(self.truncated.term);
        }
        self.entries.get(index.checked_sub(self.truncated.index + 1)? as usize).map(|entry| entry.term)
    }

    /// Appends records; any record at or after the first one's place goes.
    pub(super) fn append(&mut self, entries: &[lib::Entry]) {
        let Some(first) = entries.first() else { return };
        assert!(first.index > self.truncated.index, "record {} lies before {:?}", first.index, self.truncated);
        self.entries.truncate((first.index - self.truncated.index - 1) as usize);
        assert!(first.index == self.last().index + 1, "a gap before record {}", first.index);
        self.entries.extend_from_slice(entries);
    }

    /// Forgets the log, and begins with what another node has made of it.
    pub(super) fn begin_at(&mut self, snapshot: &Snapshot, dictionary: Arc<Dictionary>) {
        self.truncated = Place { index: snapshot.index, term: snapshot.term.0 };
        self.entries.clear();
        self.applied = self.truncated;
        self.seats = snapshot.seats.clone();
        self.dictionary = Some(dictionary);
        self.snapshot_index = snapshot.index;
        self.bytes_since_snapshot = 0;
    }

    /// The log without most of its records, if it has grown long: what replaces them.
    pub(super) fn compact(&mut self) -> Option<Snapshot> {
        let records = self.applied.index - self.snapshot_index;
        let early = records > 0 && sites::fires(Site::EarlySnapshot);
        if records < SNAPSHOT_RECORDS && self.bytes_since_snapshot < SNAPSHOT_BYTES && !early {
            return None;
        }
        let snapshot = self.take_snapshot()?;
        self.snapshot_index = snapshot.index;
        self.bytes_since_snapshot = 0;
        self.cut_tail(snapshot.index);
        Some(snapshot)
    }

    /// Forgets what lies so far behind the newest snapshot that whoever lacks it is better served with the snapshot.
    fn cut_tail(&mut self, snapshot_index: u64) {
        let behind = &self.entries[..(snapshot_index - self.truncated.index) as usize];
        let mut bytes = 0;
        let kept = behind.iter().rev().take(TAIL_RECORDS).take_while(|entry| {
            bytes += size(entry);
            bytes <= TAIL_BYTES
        });
        let dropped = behind.len() - kept.count();
        if let Some(last) = self.entries[..dropped].last() {
            self.truncated = Place { index: last.index, term: last.term };
            self.entries.drain(..dropped);
        }
    }

    fn take_snapshot(&self) -> Option<Snapshot> {
        let dictionary = self.dictionary.as_ref()?;
        Some(Snapshot {
            index: self.applied.index,
            term: Term(self.applied.term),
            seats: self.seats.clone(),
            data: codec::encode(&**dictionary),
        })
    }
}

fn size(entry: &lib::Entry) -> usize {
    entry.data.len() + entry.context.len() + 16
}

/// A snapshot's data.
///
/// # Errors
/// In words, when the bytes are no dictionary.
pub(super) fn read_dictionary(data: &[u8]) -> std::result::Result<Dictionary, String> {
    codec::decode(data).map_err(|error| format!("the snapshot of the dictionary cannot be read: {error}"))
}

impl Storage for Mirror {
    fn initial_state(&self) -> Result<RaftState> {
        Ok(RaftState::new(convert::hard_in(self.hard), convert::seats_in(&self.seats)))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> Result<Vec<lib::Entry>> {
        if low <= self.truncated.index {
            return Err(Error::Store(StorageError::Compacted));
        }
        let place = |index: u64| (index - self.truncated.index - 1) as usize;
        let mut entries = self.entries[place(low)..place(high)].to_vec();
        raft::util::limit_size(&mut entries, max_size.into());
        Ok(entries)
    }

    fn term(&self, index: u64) -> Result<u64> {
        self.term_at(index).ok_or_else(|| {
            let lost = index < self.truncated.index;
            Error::Store(if lost { StorageError::Compacted } else { StorageError::Unavailable })
        })
    }

    fn first_index(&self) -> Result<u64> {
        Ok(self.truncated.index + 1)
    }

    fn last_index(&self) -> Result<u64> {
        Ok(self.last().index)
    }

    /// The applied state, taken now. A receiver ignores a snapshot whose seats do not name it, and nobody would send
    /// another: until the record that names it has been applied, there is none for it.
    fn snapshot(&self, request_index: u64, to: u64) -> Result<lib::Snapshot> {
        let to = NodeId(to);
        let seated = self.seats.votes(to) || self.seats.learners.contains(&to);
        let fresh = self.applied.index >= request_index;
        match self.take_snapshot().filter(|_| seated && fresh) {
            Some(snapshot) => Ok(convert::snapshot_in(snapshot)),
            None => Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable)),
        }
    }
}
