//! The clock that machines are told: CLOCK_BOOTTIME for leases and deadlines, the wall's for expiry times of keys.
//!
//! The standard library's instants stand still while the machine sleeps (CLOCK_MONOTONIC), and a lease that sleeps with its
//! holder would outlive what its giver promised. Where there is no CLOCK_BOOTTIME (macOS), the monotonic one must do, and the
//! manual says so.

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use crate::types::{Instant, Now};

#[cfg(target_os = "linux")]
const LEASES: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const LEASES: ClockId = ClockId::Monotonic;

/// This instant, and the wall's time.
pub fn now() -> Now {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now { instant: instant(), wall_ms: since_1970.as_millis() as u64 }
}

/// This instant.
pub fn instant() -> Instant {
    let time = clock_gettime(LEASES);
    Instant(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_forward() {
        let (first, second) = (now(), now());
        assert!(first.instant > Instant(0) && second.instant >= first.instant);
        assert!(first.wall_ms > 1_600_000_000_000, "milliseconds since 1970: {}", first.wall_ms);
    }
}
