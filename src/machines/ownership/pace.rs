//! How soon ranges begin to move: as many a second as the commander's `placement.budget` has room for.
//!
//! Each change of a chain holds up its range's clients for some milliseconds, and a move takes three: so what merely moves is
//! held back, that few of all operations meet a change and their p99 hardly moves. Moves off a node that is to leave go at
//! twice the pace, for somebody waits for it. A range that has fewer copies than it should is never held back.
//! Not here: how fast the keys of a range are streamed (`machines::chain::budget`).

use std::time::Duration;

use crate::types::Instant;

/// What `placement.budget` is where nobody says otherwise.
const USUAL: u64 = 8 << 20;

/// What a move is taken to cost of the budget, whatever the range holds: its three changes of the dictionary and of the chain
/// are work for every node.
const COST: u64 = 128 << 10;

/// A small budget does not keep empty ranges from where they belong for minutes.
const AT_LEAST_A_SECOND: u64 = 16;

/// How many may begin at once after a rest.
const AT_ONCE: u32 = 16;

/// The most ranges that one drone loads at a time. Each is streamed in bounded chunks, so this bounds what a newcomer must
/// keep in flight, while empty ranges still move by the hundred in a second.
const LOADING_EACH: usize = 16;

/// The same for ranges that are merely moved.
const MOVING_EACH: usize = 12;

/// Holds moves back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// The time from one to the next. None: no budget, so nothing is held back.
    step: Option<Duration>,
    /// When the next would begin if none had been held back.
    next: Instant,
}

impl Default for Pace {
    fn default() -> Self {
        Self::of(Some(USUAL))
    }
}

impl Pace {
    /// The pace of so many bytes a second; none: as fast as may be.
    pub fn of(budget: Option<u64>) -> Self {
        let step = budget.map(|bytes| {
            let each = u128::from(COST) * 1_000_000_000 / u128::from(bytes.max(1));
            let most = 1_000_000_000 / AT_LEAST_A_SECOND;
            Duration::from_nanos(u64::try_from(each).unwrap_or(most).min(most))
        });
        Self { step, next: Instant(0) }
    }

    /// Whether one more range may begin to move now. `leaving`: off a node that is to leave.
    pub fn may_begin(&mut self, now: Instant, leaving: bool) -> bool {
        let Some(step) = self.step.map(|step| if leaving { step / 2 } else { step }) else { return true };
        let next = self.next.max(now);
        let may = next.since(now) < step * AT_ONCE;
        if may {
            self.next = next + step;
        }
        may
    }

    /// The most ranges that one drone loads at a time. `is_short`: those that have fewer copies than they should.
    pub fn at_a_time(&self, is_short: bool) -> usize {
        if is_short || self.step.is_none() { LOADING_EACH } else { MOVING_EACH }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many begin within ten seconds, if it is asked each millisecond.
    fn in_ten_seconds(budget: Option<u64>, leaving: bool) -> usize {
        let mut pace = Pace::of(budget);
        let instants = (0..10_000).map(|ms| Instant(0) + Duration::from_millis(ms));
        instants.filter(|now| pace.may_begin(*now, leaving)).count()
    }

    #[test]
    fn the_budget_says_how_many_begin_to_move_and_twice_as_many_off_a_leaver() {
        let at_once = AT_ONCE as usize;
        assert_eq!(in_ten_seconds(Some(8 << 20), false), 640 + at_once);
        assert_eq!(in_ten_seconds(Some(8 << 20), true), 1_280 + at_once);
        assert_eq!(in_ten_seconds(Some(32 << 20), false), 2_560 + at_once);
        assert_eq!(in_ten_seconds(None, false), 10_000, "as often as it is asked");
    }

    #[test]
    fn a_tiny_budget_lets_some_begin_all_the_same() {
        assert_eq!(in_ten_seconds(Some(1), false), 160 + AT_ONCE as usize);
    }

    #[test]
    fn without_a_budget_or_with_copies_lacking_more_load_at_a_time() {
        assert_eq!((Pace::of(None).at_a_time(false), Pace::of(Some(1)).at_a_time(true)), (LOADING_EACH, LOADING_EACH));
        assert_eq!(Pace::of(Some(1)).at_a_time(false), MOVING_EACH);
    }
}
