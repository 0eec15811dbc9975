//! What a siege has shown: gaps, lost writes, and whether some order of all operations explains every reply.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use keyval::sim::checker::{Checker, Fact, Kind, Operation, Registers};
use keyval::sim::clock::Time;

/// The history of a siege.
pub struct Account {
    keys: Vec<String>,
    /// When it began, by the clock on the wall.
    wall: SystemTime,
    /// Per key, by the end of operations.
    histories: BTreeMap<u32, Vec<Operation>>,
}

/// A time in which no write of a key was acknowledged.
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
    pub(super) fn new(keys: Vec<String>, wall: SystemTime) -> Self {
        Self { keys, wall, histories: BTreeMap::new() }
    }

    pub(super) fn enter(&mut self, operations: Vec<Operation>) {
        for operation in operations {
            let history = self.histories.entry(operation.key).or_default();
            history.push(operation);
        }
        for history in self.histories.values_mut() {
            history.sort_by_key(|operation| operation.end.0);
        }
    }

    /// How many operations of a kind there were: writes acknowledged, of unknown outcome, refused, and reads.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for operation in self.histories.values().flatten() {
            match operation.kind {
                Kind::Wrote(_) => counts.acknowledged += 1,
                Kind::MayWrite(_) => counts.unknown += 1,
                Kind::Refused(_) => counts.refused += 1,
                Kind::Read(_) => counts.reads += 1,
            }
        }
        counts
    }

    /// Every time longer than `limit` in which no write of a key was acknowledged, and that had not ended before `after`; the
    /// longest first.
    pub fn gaps(&self, after: Time, limit: Duration) -> Vec<Gap> {
        let mut gaps = Vec::new();
        for (key, history) in &self.histories {
            let mut acknowledged: Vec<Time> =
                history.iter().filter(|it| matches!(it.kind, Kind::Wrote(_))).map(|it| it.end.0).collect();
            // A key that was never written again has a gap that never ended.
            acknowledged.extend(history.last().map(|last| last.end.0));
            let pairs = acknowledged.windows(2).filter(|pair| pair[1] >= after && pair[1].since(pair[0]) > limit);
            gaps.extend(pairs.map(|pair| self.gap(*key, pair[0], pair[1])));
        }
        gaps.sort_by_key(|gap| std::cmp::Reverse(gap.length()));
        gaps
    }

    /// The longest time in which no write of one key was acknowledged, of those that had not ended before `after`.
    pub fn longest_gap(&self, after: Time) -> Gap {
        self.gaps(after, Duration::ZERO).into_iter().next().expect("every key is written more than once")
    }

    fn gap(&self, key: u32, from: Time, to: Time) -> Gap {
        let began = self.wall.duration_since(SystemTime::UNIX_EPOCH).expect("a clock that was set").as_millis() as u64;
        let wall = |at: Time| began + at.0 / 1_000_000;
        Gap { key: self.keys[key as usize].clone(), from, to, wall_ms: (wall(from), wall(to)) }
    }

    /// What was done to a key around a gap, for whoever has to find out why it was so long.
    pub fn tell(&self, gap: &Gap) -> String {
        let key = self.keys.iter().position(|key| *key == gap.key).expect("a key of ours") as u32;
        let mut told = format!("{gap}:");
        for operation in &self.histories[&key] {
            let around = operation.end.0 + Duration::from_millis(20) >= gap.from && operation.start.0 <= gap.to;
            if around && !matches!(operation.kind, Kind::Read(_)) {
                told += &format!("\n  {} to {}: {:?}", operation.start.0, operation.end.0, operation.kind);
            }
        }
        told
    }

    /// Panics unless the history is that of linearizable registers, and each key ends with the last value that was
    /// acknowledged, or one whose outcome nobody learnt.
    pub fn check(&self) {
        let lost: Vec<String> = self.histories.iter().filter_map(|(key, history)| self.lost(*key, history)).collect();
        assert!(lost.is_empty(), "{} keys have lost acknowledged writes:\n{}", lost.len(), lost.join("\n"));
        let mut registers = Registers::default();
        for operation in self.histories.values().flatten() {
            registers.observe(operation.end.0, &Fact::Operation(operation)).expect("registers are judged at the end");
        }
        if let Err(why) = registers.finish() {
            panic!("not linearizable: {why}");
        }
    }

    fn lost(&self, key: u32, history: &[Operation]) -> Option<String> {
        let last =
            history.iter().rev().find_map(|it| if let Kind::Wrote(value) = it.kind { Some(value) } else { None });
        let Some(Operation { kind: Kind::Read(found), .. }) = history.last() else {
            return Some(format!("{} was not read at the end", self.keys[key as usize]));
        };
        let unknown = |value: &u64| history.iter().any(|it| it.kind == Kind::MayWrite(*value));
        let is_lawful = *found == last || found.as_ref().is_some_and(unknown);
        (!is_lawful)
            .then(|| format!("{}: {last:?} was acknowledged last, and {found:?} is there", self.keys[key as usize]))
    }
}

/// Operations by kind.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Writes that were acknowledged.
    pub acknowledged: usize,
    /// Writes of unknown outcome.
    pub unknown: usize,
    /// Writes that surely did not happen.
    pub refused: usize,
    /// Reads that were answered.
    pub reads: usize,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { acknowledged, unknown, refused, reads } = self;
        write!(f, "{acknowledged} writes acknowledged, {unknown} unknown, {refused} refused; {reads} reads")
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from {} to {} ({:?})", self.key, self.from, self.to, self.length())
    }
}
