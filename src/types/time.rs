//! Time as machines are told it.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::planted::{self, Bug};

/// An instant of one node's monotonic clock that goes on while the machine sleeps (CLOCK_BOOTTIME), in nanoseconds.
/// Instants of two nodes are never compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Instant(pub u64);

/// What a machine is told of the time, at each step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For leases, deadlines and all that must not jump.
    pub instant: Instant,
    /// Milliseconds since 1970, for expiry times of keys alone. May jump.
    pub wall_ms: u64,
}

/// The times that follow from one `failure_timeout` T. The same on all nodes of a mesh: leases depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// T: how long a node may be silent before it is suspected.
    #[serde(with = "super::span")]
    pub failure_timeout: Duration,
    /// By how much two clocks may run apart, in parts per million.
    pub drift_ppm: u32,
}

impl Default for Timing {
    fn default() -> Self {
        Self { failure_timeout: Duration::from_millis(500), drift_ppm: 50_000 }
    }
}

impl Timing {
    /// T/5: between two beacons, and how long a probe may take.
    pub fn beat(&self) -> Duration {
        self.failure_timeout / 5
    }

    /// T: how long a lease between members of a chain lasts.
    pub fn lease(&self) -> Duration {
        self.failure_timeout
    }

    /// 4 T: how long the commander's lease to a head without Serving peers lasts, so that an election does not stop it.
    pub fn sole_lease(&self) -> Duration {
        self.failure_timeout * 4
    }

    /// 10 T: after so long a silence a voter's seat goes to a learner.
    pub fn seat_timeout(&self) -> Duration {
        self.failure_timeout * 10
    }

    /// A span as its holder must count it: shorter, in case this clock runs slowly.
    pub fn holder(&self, span: Duration) -> Duration {
        span - self.margin(span)
    }

    /// A span as its giver must count it: longer, in case this clock runs fast.
    pub fn giver(&self, span: Duration) -> Duration {
        span + self.margin(span)
    }

    fn margin(&self, span: Duration) -> Duration {
        if planted::is(Bug::DriftIgnored) {
            return Duration::ZERO;
        }
        Duration::from_nanos((span.as_nanos() * u128::from(self.drift_ppm) / 1_000_000) as u64)
    }
}

impl Instant {
    /// The time from `earlier` to here, or zero if it is later.
    pub fn since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, span: Duration) -> Instant {
        Instant(self.0.saturating_add(span.as_nanos() as u64))
    }
}

impl Sub<Duration> for Instant {
    type Output = Instant;

    fn sub(self, span: Duration) -> Instant {
        Instant(self.0.saturating_sub(span.as_nanos() as u64))
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}s", self.0 as f64 / 1e9)
    }
}
