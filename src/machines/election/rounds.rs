//! Quorum rounds: whether this node still commands, asked of a majority after somebody wanted to know.
//!
//! All askings that come while a round is under way share the next one, and rounds are paced, the more nodes the slower, for
//! each is spoken to: so the cost does not grow with the number of those who ask. Some of them wait with a range that stands still,
//! so the pace is no slower than that. A round that is not answered in time, or meets the end of the reign, answers
//! "again": the library forgets such rounds without a word.

use std::mem;
use std::time::Duration;

use super::Effect;
use crate::types::{Instant, Timing};

/// Between two rounds at least, for each node of the mesh: what it costs to speak to one and to be answered, many times over.
const FOR_EACH: Duration = Duration::from_micros(50);

/// The askings of one reign.
#[derive(Default)]
pub(super) struct Rounds {
    /// Names the round under way, or the last one.
    number: u64,
    /// What the round under way is for; empty when none is.
    current: Vec<u64>,
    /// What the next one is for.
    waiting: Vec<u64>,
    begun: Option<Instant>,
    /// How many nodes are spoken to.
    nodes: u32,
    /// Up to where the log must be applied before the round counts, once a majority has answered.
    confirmed: Option<u64>,
}

impl Rounds {
    /// Names of rounds are never used twice in a life: rounds of a new reign go on counting.
    pub(super) fn after(number: u64) -> Self {
        Self { number, ..Self::default() }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn ask(&mut self, ask: u64) {
        self.waiting.push(ask);
    }

    /// Begins a round if one is due, which speaks to so many nodes: its name, for the library.
    pub(super) fn begin(&mut self, now: Instant, timing: &Timing, nodes: usize) -> Option<Vec<u8>> {
        self.nodes = u32::try_from(nodes).unwrap_or(u32::MAX);
        if !self.current.is_empty() || self.waiting.is_empty() || self.next_begin(timing).is_some_and(|due| now < due) {
            return None;
        }
        self.number += 1;
        self.current = mem::take(&mut self.waiting);
        self.begun = Some(now);
        self.confirmed = None;
        Some(self.number.to_be_bytes().to_vec())
    }

    /// A majority answered the round of this name; what was committed when it began ends at `index`.
    pub(super) fn on_majority(&mut self, name: &[u8], index: u64) {
        if name == self.number.to_be_bytes() && !self.current.is_empty() {
            self.confirmed = Some(index);
        }
    }

    /// The askings that are answered now, the log being applied up to `applied`.
    pub(super) fn finish(&mut self, applied: u64) -> Vec<u64> {
        match self.confirmed {
            Some(index) if index <= applied => {
                self.confirmed = None;
                mem::take(&mut self.current)
            }
            _ => Vec::new(),
        }
    }

    /// Gives up a round that has taken too long.
    pub(super) fn expire(&mut self, now: Instant, timing: &Timing, effects: &mut Vec<Effect>) {
        if self.expires(timing).is_some_and(|due| now >= due) {
            self.confirmed = None;
            effects.extend(mem::take(&mut self.current).into_iter().map(|ask| Effect::Again { ask }));
        }
    }

    /// The reign is over.
    pub(super) fn fail(self, effects: &mut Vec<Effect>) {
        effects.extend(self.current.into_iter().chain(self.waiting).map(|ask| Effect::Again { ask }));
    }

    /// When something is due here.
    pub(super) fn deadline(&self, timing: &Timing) -> Option<Instant> {
        if !self.current.is_empty() {
            return self.expires(timing);
        }
        if self.waiting.is_empty() { None } else { Some(self.next_begin(timing).unwrap_or_default()) }
    }

    fn next_begin(&self, timing: &Timing) -> Option<Instant> {
        self.begun.map(|begun| begun + timing.beat() / 32 + FOR_EACH * self.nodes)
    }

    fn expires(&self, timing: &Timing) -> Option<Instant> {
        self.begun.filter(|_| !self.current.is_empty()).map(|begun| begun + timing.failure_timeout)
    }
}
