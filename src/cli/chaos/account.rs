//! What clients have done and learnt, key by key: how many operations there were, and how long no write was acknowledged.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::hand::{Deed, What};
use crate::sim::checker::Kind;
use crate::sim::clock::Time;

/// A key that clients work on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its name.
    pub name: String,
    /// Whether it is a counter, else a register.
    pub counts: bool,
}

/// The history of a siege.
pub struct Account {
    pub(super) keys: Vec<Key>,
    /// When it began, by the clock on the wall.
    wall: SystemTime,
    /// Per key, by the end of operations.
    pub(super) histories: BTreeMap<usize, Vec<Deed>>,
    /// Keys that could not be deleted, and will end by themselves.
    pub left: Vec<String>,
}

/// A time in which no write of a register was acknowledged.
#[derive(Clone, Debug)]
pub struct Gap {
    /// Its key.
    pub key: String,
    /// When the last write before it was acknowledged.
    pub from: Time,
    /// When the first one after it was.
    pub to: Time,
    /// The same by the clock on the wall, in milliseconds since 1970.
    pub wall_ms: (u64, u64),
}

impl Gap {
    /// How long it was.
    pub fn length(&self) -> Duration {
        self.to.since(self.from)
    }
}

impl Account {
    /// Of a siege of these keys that began then.
    pub fn new(keys: Vec<Key>, wall: SystemTime) -> Self {
        Self { keys, wall, histories: BTreeMap::new(), left: Vec::new() }
    }

    /// Adds what a client did.
    pub fn enter(&mut self, deeds: Vec<Deed>) {
        for deed in deeds {
            self.histories.entry(deed.key).or_default().push(deed);
        }
        for history in self.histories.values_mut() {
            history.sort_by_key(|deed| deed.end);
        }
    }

    /// How many operations of a kind there were.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for deed in self.histories.values().flatten() {
            match deed.what {
                What::Register(Kind::Wrote(_)) => counts.acknowledged += 1,
                What::Register(Kind::MayWrite(_)) => counts.unknown += 1,
                What::Register(Kind::Refused(_)) => counts.refused += 1,
                What::Counted(_) => counts.counted += 1,
                What::MayCount => counts.unknown += 1,
                What::NotCounted => counts.refused += 1,
                What::Register(Kind::Read(_)) | What::Stood(_) | What::Strange(_) => counts.reads += 1,
            }
        }
        counts
    }

    /// Every time longer than `limit` in which no write of a register was acknowledged, and that had not ended before `after`;
    /// the longest first.
    pub fn gaps(&self, after: Time, limit: Duration) -> Vec<Gap> {
        let mut gaps = Vec::new();
        for (key, history) in self.histories.iter().filter(|(key, _)| !self.keys[**key].counts) {
            let mut acknowledged: Vec<Time> = history
                .iter()
                .filter(|deed| matches!(deed.what, What::Register(Kind::Wrote(_))))
                .map(|deed| deed.end)
                .collect();
            // A key that was never written again has a gap that never ended.
            acknowledged.extend(history.last().map(|last| last.end));
            let pairs = acknowledged.windows(2).filter(|pair| pair[1] >= after && pair[1].since(pair[0]) > limit);
            gaps.extend(pairs.map(|pair| self.gap(*key, pair[0], pair[1])));
        }
        gaps.sort_by_key(|gap| std::cmp::Reverse(gap.length()));
        gaps
    }

    /// The longest time in which no write of one register was acknowledged, of those that had not ended before `after`.
    pub fn longest_gap(&self, after: Time) -> Option<Gap> {
        self.gaps(after, Duration::ZERO).into_iter().next()
    }

    fn gap(&self, key: usize, from: Time, to: Time) -> Gap {
        let began = self.wall.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        let wall = |at: Time| began + at.0 / 1_000_000;
        Gap { key: self.keys[key].name.clone(), from, to, wall_ms: (wall(from), wall(to)) }
    }

    /// What was done to a key around a gap, for whoever has to find out why it was so long.
    pub fn tell(&self, gap: &Gap) -> String {
        let key = self.keys.iter().position(|key| key.name == gap.key);
        let mut told = format!("{gap}:");
        for deed in key.and_then(|key| self.histories.get(&key)).into_iter().flatten() {
            let around = deed.end + Duration::from_millis(20) >= gap.from && deed.start <= gap.to;
            if around && !matches!(deed.what, What::Register(Kind::Read(_))) {
                told += &format!("\n  {deed}");
            }
        }
        told
    }
}

/// Operations by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Writes that were acknowledged.
    pub acknowledged: usize,
    /// Counts (INCR) that were answered.
    pub counted: usize,
    /// Reads that were answered.
    pub reads: usize,
    /// Writes and counts of unknown outcome.
    pub unknown: usize,
    /// Writes and counts that surely did not happen.
    pub refused: usize,
}

impl Counts {
    /// All of them.
    pub fn total(&self) -> usize {
        self.acknowledged + self.counted + self.reads + self.unknown + self.refused
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { acknowledged, counted, reads, unknown, refused } = self;
        write!(f, "{acknowledged} writes acknowledged, ")?;
        if *counted > 0 {
            write!(f, "{counted} counts answered, ")?;
        }
        write!(f, "{unknown} unknown, {refused} refused; {reads} reads")
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from {} to {} ({:?})", self.key, self.from, self.to, self.length())
    }
}
