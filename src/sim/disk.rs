//! A made-up disk: writes become stable in order, later; a crash forgets what had not; a bad disk is slow, full or fails.
//!
//! It keeps what `io::journal` keeps and by the same rules. A write is all of it or nothing (the journal is transactional),
//! so what a crash leaves is a prefix of the writes: at least those that were answered, at most all that were asked for.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::messages::election::{Recovered, Save};
use crate::messages::ownership::MeshSettings;
use crate::types::{Incarnation, MeshId, NodeId, Term};

/// How a disk behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// A sync takes a fraction of a millisecond, seldom more.
    #[default]
    Well,
    /// A sync takes up to this long.
    Slow(Duration),
    /// Writes are refused: no space is left.
    Full,
    /// Writes are refused: an error of the device.
    Fails,
}

impl Health {
    /// Why a write is refused, if it is.
    pub fn refusal(self) -> Option<&'static str> {
        match self {
            Self::Well | Self::Slow(_) => None,
            Self::Full => Some("no space left on device"),
            Self::Fails => Some("input/output error"),
        }
    }
}

/// Who the owner of a data directory is.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    /// Made once.
    pub node: NodeId,
    /// The life that wrote this last.
    pub incarnation: Incarnation,
    /// The mesh, once it is known, with its settings.
    pub mesh: Option<(MeshId, MeshSettings)>,
}

/// The disk of one node.
#[derive(Debug, Default)]
pub struct Disk {
    /// How it behaves now.
    pub health: Health,
    identity: Option<Identity>,
    journal: Recovered,
    waiting: VecDeque<Save>,
    synced: u64,
    /// The last record that it held at the end of each term. A slow disk may be many behind.
    reached: BTreeMap<Term, u64>,
}

impl Disk {
    /// The identity in the data directory, if there is one.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// Keeps an identity, at once and for good.
    pub fn keep_identity(&mut self, identity: Identity) {
        self.identity = Some(identity);
    }

    /// What is stable of the journal.
    pub fn stable(&self) -> &Recovered {
        &self.journal
    }

    /// What is stable of the journal: what a process that starts finds.
    pub fn recover(&self) -> Recovered {
        self.journal.clone()
    }

    /// What the journal holds once all that was asked for is stable.
    pub fn written(&self) -> Recovered {
        let mut written = self.journal.clone();
        self.waiting.iter().for_each(|save| written.absorb(save));
        written
    }

    /// How many writes were asked for and are not stable.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// How many writes became stable.
    pub fn synced(&self) -> u64 {
        self.synced
    }

    /// A write is asked for. It becomes stable by [`Disk::sync`].
    pub fn write(&mut self, save: Save) {
        self.waiting.push_back(save);
    }

    /// How long the next sync takes.
    pub fn sync_time(&self, random: &mut ChaCha8Rng) -> Duration {
        let usual = match random.gen_range(0..100) {
            0 => random.gen_range(2_000_000..20_000_000),
            1..=9 => random.gen_range(300_000..2_000_000),
            _ => random.gen_range(50_000..300_000),
        };
        match self.health {
            Health::Slow(bound) => {
                Duration::from_nanos(random.gen_range(usual / 4..=(bound.as_nanos() as u64).max(usual)))
            }
            _ => Duration::from_nanos(usual),
        }
    }

    /// The first `count` writes become stable together, as one sync of the journal makes them. Answers the last one's number.
    pub fn sync(&mut self, count: usize) -> Option<u64> {
        let mut last = None;
        for save in self.waiting.drain(..count).collect::<Vec<_>>() {
            last = Some(save.number);
            self.apply(save);
        }
        last
    }

    /// The process or the machine ends: of the writes under way any number may have become stable, the first ones first.
    pub fn crash(&mut self, random: &mut ChaCha8Rng) {
        let kept = if self.health.refusal().is_some() { 0 } else { random.gen_range(0..=self.waiting.len()) };
        for save in std::mem::take(&mut self.waiting).into_iter().take(kept) {
            self.apply(save);
        }
    }

    /// The data directory is lost; the disk itself is as it was.
    pub fn wipe(&mut self) {
        *self = Self { health: self.health, ..Self::default() };
    }

    /// The last record that it held when it knew of no later term than this.
    pub fn reached(&self, term: Term) -> u64 {
        self.reached.range(..=term).next_back().map_or(0, |(_, last)| *last)
    }

    fn apply(&mut self, save: Save) {
        self.synced += 1;
        self.journal.absorb(&save);
        self.reached.insert(self.journal.hard.term, self.journal.last());
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::messages::election::{Entry, HardState, Payload, Seats, Snapshot};

    fn save(number: u64, indexes: std::ops::RangeInclusive<u64>) -> Save {
        let entries = indexes.map(|index| Entry { index, term: Term(number), payload: Payload::Empty }).collect();
        Save { number, entries, ..Save::default() }
    }

    fn indexes(disk: &Disk) -> Vec<(u64, u64)> {
        disk.recover().entries.iter().map(|entry| (entry.index, entry.term.0)).collect()
    }

    #[test]
    fn later_records_replace_the_tail() {
        let mut disk = Disk::default();
        disk.write(save(1, 1..=4));
        disk.write(save(2, 3..=3));
        assert_eq!(disk.sync(2), Some(2));
        assert_eq!(indexes(&disk), [(1, 1), (2, 1), (3, 2)]);
    }

    #[test]
    fn a_snapshot_replaces_what_it_contains_or_everything() {
        for (index, left) in [(2, vec![(3, 1)]), (9, vec![])] {
            let mut disk = Disk::default();
            disk.write(save(1, 1..=3));
            let snapshot = Snapshot { index, term: Term(1), seats: Seats::default(), data: vec![] };
            disk.write(Save { number: 2, snapshot: Some(snapshot), ..Save::default() });
            disk.sync(2);
            assert_eq!(indexes(&disk), left);
        }
    }

    #[test]
    fn a_crash_keeps_what_was_answered_and_a_prefix_of_the_rest() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..50 {
            let mut disk = Disk::default();
            disk.write(save(1, 1..=1));
            disk.sync(1);
            disk.write(save(2, 2..=2));
            disk.write(Save {
                number: 3,
                hard: Some(HardState { term: Term(7), vote: None, commit: 0 }),
                ..save(3, 3..=3)
            });
            disk.crash(&mut ChaCha8Rng::seed_from_u64(seed));
            let recovered = disk.recover();
            assert_eq!(recovered.hard.term == Term(7), recovered.entries.len() == 3, "a write is all or nothing");
            seen.insert(recovered.entries.len());
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [1, 2, 3]);
    }

    #[test]
    fn how_far_the_log_reached_in_an_older_term_is_remembered() {
        let mut disk = Disk::default();
        let in_term = |term, indexes| Save {
            hard: Some(HardState { term: Term(term), vote: None, commit: 0 }),
            ..save(term, indexes)
        };
        disk.write(in_term(1, 1..=4));
        disk.write(in_term(3, 2..=2));
        disk.sync(2);
        assert_eq!([1, 2, 3, 4].map(|term| disk.reached(Term(term))), [4, 4, 2, 2]);
        disk.wipe();
        assert_eq!(disk.reached(Term(1)), 0);
    }

    #[test]
    fn a_lost_directory_is_empty() {
        let mut disk = Disk::default();
        disk.keep_identity(Identity { node: NodeId(1), incarnation: Incarnation(3), mesh: None });
        disk.write(save(1, 1..=1));
        disk.sync(1);
        disk.wipe();
        assert_eq!((disk.identity(), disk.recover()), (None, Recovered::default()));
    }
}
