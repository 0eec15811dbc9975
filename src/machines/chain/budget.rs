//! How much of a store goes into copies for joiners: so many bytes a second, and for ranges that lack a copy more.
//!
//! Ranges take turns, a part each, so that clients hardly notice it (`placement.budget`). What is paid for is what the keys
//! take in memory, for many small ones are as much work as their bytes are not. A turn that comes late says that the
//! machine has more to do than it can: then copies take less of it, until turns come in time again.

use std::collections::VecDeque;
use std::time::Duration;

use crate::types::{Instant, RangeId};

/// A turn that comes later than this was kept waiting: timers alone are late by a millisecond or two.
const LATE: Duration = Duration::from_millis(3);

/// After so many turns in time, as much is sent again as before.
const IN_TIME: u32 = 8;

/// How often what is sent a second is halved at most.
const LEAST: u32 = 3;

/// Who may send the next part, and when.
#[derive(Clone, Debug, Default)]
pub(in crate::machines) struct Budget {
    /// When what was sent is paid for.
    next: Instant,
    /// Those that lack a copy before those that do not.
    waiting: VecDeque<(RangeId, bool)>,
    /// Whose turn it is.
    called: Option<RangeId>,
    /// How often what is sent a second is halved, and how many turns since came in time.
    halved: u32,
    in_time: u32,
}

impl Budget {
    /// Whether a range may send a part now; it is called when it may, else.
    pub(super) fn may_send(&mut self, now: Instant, range: RangeId, lacks: bool) -> bool {
        let is_called = self.called == Some(range);
        let is_next = is_called || self.called.is_none() && self.waiting.is_empty();
        let may = is_next && self.next <= now;
        if may && is_called {
            self.note(now.since(self.next));
        }
        if !may && !self.waiting.iter().any(|(known, _)| *known == range) {
            let place = if lacks { self.waiting.partition_point(|(_, lacks)| *lacks) } else { self.waiting.len() };
            self.waiting.insert(place, (range, lacks));
        }
        may
    }

    /// So many bytes were sent, of so many a second. What was sent out of turn puts off no turn that is due later already.
    pub(super) fn spend(&mut self, now: Instant, bytes: usize, a_second: u64) {
        if self.next <= now {
            let nanos = ((bytes as u128) << self.halved) * 1_000_000_000 / u128::from(a_second.max(1));
            self.next = now + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        }
    }

    /// The next range, if its time has come.
    pub fn call(&mut self, now: Instant) -> Option<RangeId> {
        let is_due = self.next <= now;
        self.called = self.waiting.pop_front_if(|_| is_due).map(|(range, _)| range);
        self.called
    }

    /// How late a turn came.
    fn note(&mut self, late: Duration) {
        self.in_time = if late > LATE { 0 } else { self.in_time + 1 };
        if late > LATE {
            self.halved = (self.halved + 1).min(LEAST);
        } else if self.in_time >= IN_TIME {
            (self.halved, self.in_time) = (self.halved.saturating_sub(1), 0);
        }
    }

    /// When the next range is to be called.
    pub fn deadline(&self) -> Option<Instant> {
        (!self.waiting.is_empty()).then_some(self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u64 = 1_000;

    #[test]
    fn ranges_take_turns_and_what_was_sent_is_waited_for() {
        let mut budget = Budget::default();
        let at = |ms: u64| Instant(0) + Duration::from_millis(ms);
        let may = |budget: &mut Budget, ms: u64, range: u16| budget.may_send(at(ms), RangeId(range), false);
        assert!(may(&mut budget, 0, 1));
        budget.spend(at(0), 10, RATE);
        assert!(!may(&mut budget, 0, 1) && !may(&mut budget, 0, 2));
        assert_eq!((budget.deadline(), budget.call(at(9))), (Some(at(10)), None));
        // Whoever happens to be looked at meanwhile does not push in.
        assert!(!may(&mut budget, 10, 3));
        assert_eq!(budget.call(at(10)), Some(RangeId(1)));
        assert!(may(&mut budget, 10, 1));
        budget.spend(at(10), 5, RATE);
        assert!(!may(&mut budget, 10, 1), "one part a turn");
        // What goes out of turn costs those that wait nothing.
        budget.spend(at(12), 1_000, RATE);
        assert_eq!(budget.call(at(15)), Some(RangeId(2)));
        // It has nothing to send any more: the next is called at once.
        assert_eq!(budget.call(at(15)), Some(RangeId(3)));
        assert_eq!(budget.call(at(15)), Some(RangeId(1)));
        assert_eq!((budget.call(at(15)), budget.deadline()), (None, None));
    }

    #[test]
    fn ranges_that_lack_a_copy_go_first_and_take_turns_among_themselves() {
        let mut budget = Budget::default();
        let now = Instant(0);
        budget.spend(now, 10, RATE);
        for (range, lacks) in [(1, false), (2, true), (3, false), (4, true)] {
            assert!(!budget.may_send(now, RangeId(range), lacks));
        }
        let later = now + Duration::from_millis(10);
        let order: Vec<u16> = std::iter::from_fn(|| budget.call(later)).map(|range| range.0).collect();
        assert_eq!(order, [2, 4, 1, 3]);
    }

    #[test]
    fn turns_that_come_late_cost_more_until_they_come_in_time_again() {
        let mut budget = Budget::default();
        let mut now = Instant(0);
        let mut turn = |late: u64| {
            let before = budget.deadline().unwrap_or(now);
            now = before + Duration::from_millis(late);
            budget.call(now);
            assert!(budget.may_send(now, RangeId(1), false));
            budget.spend(now, 10, RATE);
            assert!(!budget.may_send(now, RangeId(1), false));
            budget.deadline().expect("it waits").since(now).as_millis()
        };
        assert_eq!((turn(0), turn(2)), (10, 10));
        assert_eq!((turn(4), turn(9), turn(4), turn(50)), (20, 40, 80, 80));
        let spans: Vec<u128> = (0..24).map(|_| turn(1)).collect();
        assert_eq!((spans[6], spans[7], spans[15], spans[23]), (80, 40, 20, 10));
    }

    #[test]
    fn an_hour_of_rest_buys_no_burst() {
        let mut budget = Budget::default();
        let later = Instant(0) + Duration::from_secs(3_600);
        budget.spend(later, 10, RATE);
        assert!(!budget.may_send(later, RangeId(1), false));
    }
}
