//! What time it is: the one place that asks.
//!
//! Leases must not stand still while the machine is suspended, so the monotonic time is CLOCK_BOOTTIME, not the
//! standard library's `Instant`. The wall clock may jump, and serves the expiry times of keys alone.

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use crate::types::{Instant, Now};

/// This instant, by both clocks.
pub fn now() -> Now {
    let boot = clock_gettime(ClockId::Boottime);
    Now { instant: Instant(boot.tv_sec as u64 * 1_000_000_000 + boot.tv_nsec as u64), wall_ms: wall_ms() }
}

/// Milliseconds since 1970; a clock set before that counts as 1970.
pub(super) fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on() {
        let before = now();
        let mut after = now();
        while after.instant == before.instant {
            after = now();
        }
        assert!(after.instant > before.instant);
        assert!(after.wall_ms > 1_600_000_000_000, "{after:?}");
    }
}
