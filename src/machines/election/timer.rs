//! When this node stops waiting for a commander and stands itself, and how much it insists on being preferred.
//!
//! The library would draw its timeout from the process's random source; so its timer is set never to fire, and this one,
//! seeded, takes its place. The first timeout lies in [T, 1.5 T], earlier for a node that hears more of the others. An
//! election that failed is tried again sooner than that (nobody can be deposed when nobody rules), at a random instant of
//! a window that doubles with each failure: so a tie ends, and slow disks get the time they need.
//!
//! Of two candidates with equal logs the better connected is preferred: a node refuses its vote to one that hears fewer
//! nodes than itself, and then stands soon. After a few failures it votes for anyone, for a preference must never cost
//! the mesh its commander.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::types::{NodeId, Timing};

/// T in the library's ticks, which are so a thousandth of T.
pub(super) const TICKS: u64 = 1_000;

/// After so many elections without a commander a node insists on nothing.
const INSISTENT_ROUNDS: u32 = 3;
/// The window of a second try, in ticks; it doubles with each further one, up to the last.
const FIRST_WINDOW: u64 = TICKS / 2;
const LAST_WINDOW: u64 = TICKS * 4;
/// A failed candidate waits at least this long, in ticks.
const PAUSE: u64 = TICKS / 4;

/// The election timer.
pub(super) struct Patience {
    rng: ChaCha8Rng,
    /// Elections this node has begun since it last heard a commander.
    rounds: u32,
    /// So many ticks without a commander are too many.
    limit: u64,
    /// Who is heard, of how many; nothing until the heartbeat machine says something.
    hears: BTreeSet<NodeId>,
}

impl Patience {
    pub(super) fn new(seed: u64) -> Self {
        let mut patience = Self { rng: ChaCha8Rng::seed_from_u64(seed), rounds: 0, limit: 0, hears: BTreeSet::new() };
        patience.draw(1);
        patience
    }

    /// After how many ticks without a commander this node stands.
    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    pub(super) fn set_hears(&mut self, hears: BTreeSet<NodeId>) {
        self.hears = hears;
    }

    /// A commander is heard.
    pub(super) fn calm(&mut self, roster: usize) {
        if self.rounds > 0 {
            self.rounds = 0;
            self.draw(roster);
        }
    }

    /// An election begins here.
    pub(super) fn stand(&mut self, roster: usize) {
        self.rounds += 1;
        self.draw(roster);
    }

    /// A vote was refused because this node hears more than the candidate: it should stand soon itself. Answers how many
    /// ticks are to pass before.
    pub(super) fn hasten(&mut self) -> u64 {
        self.rng.gen_range(0..TICKS / 10)
    }

    /// How many nodes this one hears, the lost commander apart, which some notice earlier than others. Zero insists on
    /// nothing.
    pub(super) fn preference(&self, lost: Option<NodeId>) -> i64 {
        if self.rounds >= INSISTENT_ROUNDS {
            return 0;
        }
        self.hears.iter().filter(|node| Some(**node) != lost).count() as i64
    }

    fn draw(&mut self, roster: usize) {
        self.limit = match self.rounds {
            0 => {
                // A fifth of the window for what this node does not hear, the rest by chance.
                let missed = roster.saturating_sub(self.hears.len()).min(roster) as u64;
                let handicap = if self.hears.is_empty() { 0 } else { TICKS / 10 * missed / roster.max(1) as u64 };
                TICKS + handicap + self.rng.gen_range(0..=TICKS * 4 / 10)
            }
            failed => {
                let window = FIRST_WINDOW.saturating_mul(1 << (failed - 1).min(10)).min(LAST_WINDOW);
                PAUSE + self.rng.gen_range(0..=window)
            }
        };
    }
}

/// Whole ticks in a span.
pub(super) fn ticks(span: Duration, timing: &Timing) -> u64 {
    (span.as_nanos() * u128::from(TICKS) / timing.failure_timeout.as_nanos().max(1)) as u64
}

/// How long so many ticks are, rounded up: one who waits so long has seen them pass.
pub(super) fn span(ticks: u64, timing: &Timing) -> Duration {
    let nanos = u128::from(ticks) * timing.failure_timeout.as_nanos();
    Duration::from_nanos(nanos.div_ceil(u128::from(TICKS)) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_lie_between_t_and_one_and_a_half() {
        for seed in 0..500 {
            let mut patience = Patience::new(seed);
            assert!((TICKS..=TICKS * 3 / 2).contains(&patience.limit()));
            patience.set_hears(BTreeSet::from([NodeId(1), NodeId(2)]));
            patience.stand(9);
            patience.calm(9);
            assert!((TICKS..=TICKS * 3 / 2).contains(&patience.limit()));
        }
    }

    #[test]
    fn ticks_and_spans_agree() {
        for millis in [100, 333, 500, 7_001] {
            let timing = Timing { failure_timeout: Duration::from_millis(millis), ..Timing::default() };
            for count in [0, 1, 7, 999, 1_000, 123_456] {
                assert_eq!(ticks(span(count, &timing), &timing), count);
            }
        }
    }

    #[test]
    fn who_failed_often_insists_on_nothing() {
        let mut patience = Patience::new(1);
        patience.set_hears(BTreeSet::from([NodeId(1), NodeId(2), NodeId(3)]));
        assert_eq!(patience.preference(Some(NodeId(3))), 2);
        for _ in 0..INSISTENT_ROUNDS {
            patience.stand(3);
        }
        assert_eq!(patience.preference(None), 0);
        patience.calm(3);
        assert_eq!(patience.preference(None), 3);
    }
}
