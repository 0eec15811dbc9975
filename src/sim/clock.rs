//! Clocks of a made-up world: one true time that nobody in it can read, and for each node a clock that runs at its own rate.
//!
//! Leases are promises between two clocks, so they are only as good as the worst pair. Each node's clock therefore starts
//! anywhere, runs faster or slower than the truth within a bound, may change its rate, and is never set back; its wall clock,
//! which only expiry times of keys may use, jumps as it likes.

use std::fmt;
use std::ops::Add;
use std::time::Duration;

use crate::types::{Instant, Now};

/// What the true time is worth as a wall clock when a world begins: 2026-01-01, in milliseconds.
const WALL_MS: i64 = 1_767_225_600_000;

/// An instant of the world's true time, in nanoseconds since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

impl Time {
    /// The time from `earlier` to here, or zero if it is later.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Time;

    fn add(self, span: Duration) -> Time {
        Time(self.0.saturating_add(span.as_nanos() as u64))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}s", self.0 as f64 / 1e9)
    }
}

/// The clock of one node.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// At this true time...
    since: Time,
    /// ...it showed this.
    shown: Instant,
    /// Parts per million by which it runs faster than the truth (slower where negative).
    drift_ppm: i64,
    /// By how much its wall clock is wrong, in milliseconds.
    wall_error_ms: i64,
}

impl Clock {
    /// A clock that shows `shown` at the true time `at`.
    pub fn new(at: Time, shown: Instant, drift_ppm: i64) -> Self {
        assert!(drift_ppm.abs() < 500_000, "a clock that runs at half or twice the truth is broken, not drifting");
        Self { since: at, shown, drift_ppm, wall_error_ms: 0 }
    }

    /// What it shows at a true time.
    pub fn read(&self, at: Time) -> Now {
        let wall_ms = WALL_MS + (at.0 / 1_000_000) as i64 + self.wall_error_ms;
        Now { instant: Instant(self.shown.0 + self.scaled(at)), wall_ms: wall_ms.max(0) as u64 }
    }

    /// The first true time, not before `now`, at which it shows `deadline` or more.
    pub fn when(&self, deadline: Instant, now: Time) -> Time {
        let span = deadline.0.saturating_sub(self.shown.0);
        let rate = (1_000_000 + self.drift_ppm) as u128;
        let truth = (u128::from(span) * 1_000_000).div_ceil(rate);
        now.max(Time(self.since.0.saturating_add(u64::try_from(truth).unwrap_or(u64::MAX))))
    }

    /// Lets it run at another rate from now on.
    pub fn set_drift(&mut self, at: Time, drift_ppm: i64) {
        let shown = self.read(at).instant;
        *self = Self { wall_error_ms: self.wall_error_ms, ..Self::new(at, shown, drift_ppm) };
    }

    /// Lets its wall clock jump, forth or back.
    pub fn jump_wall(&mut self, by_ms: i64) {
        self.wall_error_ms += by_ms;
    }

    fn scaled(&self, at: Time) -> u64 {
        let span = u128::from(at.0.saturating_sub(self.since.0));
        (span * (1_000_000 + self.drift_ppm) as u128 / 1_000_000) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_reached_at_the_time_foretold_and_not_before() {
        for drift in [-50_000, -1, 0, 1, 333, 50_000] {
            let clock = Clock::new(Time(7_000), Instant(1_000_000_000), drift);
            for deadline in [1_000_000_001, 1_000_123_457, 9_999_999_999] {
                let at = clock.when(Instant(deadline), Time(7_000));
                assert!(clock.read(at).instant.0 >= deadline);
                assert!(clock.read(Time(at.0 - 2)).instant.0 < deadline, "drift {drift}, deadline {deadline}");
            }
        }
    }

    #[test]
    fn a_change_of_rate_never_sets_it_back() {
        let mut clock = Clock::new(Time(0), Instant(5), 50_000);
        let before = clock.read(Time(1_000_000)).instant;
        clock.set_drift(Time(1_000_000), -50_000);
        assert_eq!(clock.read(Time(1_000_000)).instant, before);
        assert_eq!(clock.read(Time(2_000_000)).instant, before + Duration::from_nanos(950_000));
    }
}
