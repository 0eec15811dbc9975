//! When keys end: how commands say it, and the instant that they mean.

use super::errors;
use crate::messages::client::Reply;

/// How a time is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unit {
    /// Milliseconds rather than seconds.
    pub(super) millis: bool,
    /// Since 1970 rather than from now on.
    pub(super) absolute: bool,
}

impl Unit {
    pub(super) const EX: Self = Self { millis: false, absolute: false };
    pub(super) const PX: Self = Self { millis: true, absolute: false };
    pub(super) const EXAT: Self = Self { millis: false, absolute: true };
    pub(super) const PXAT: Self = Self { millis: true, absolute: true };

    /// The unit that an option of `SET` or `GETEX` stands for.
    pub(super) fn of_option(option: &[u8]) -> Option<Self> {
        let units = [("EX", Self::EX), ("PX", Self::PX), ("EXAT", Self::EXAT), ("PXAT", Self::PXAT)];
        units.into_iter().find(|(name, _)| name.as_bytes().eq_ignore_ascii_case(option)).map(|(_, unit)| unit)
    }

    /// The instant meant by `time`, in milliseconds since 1970; negative if it lies before.
    ///
    /// # Errors
    /// When it is beyond 64 bits.
    pub(super) fn instant(self, time: i64, wall_ms: u64, command: &str) -> Result<i64, Reply> {
        let time = if self.millis { Some(time) } else { time.checked_mul(1000) };
        let base = if self.absolute { 0 } else { wall_ms as i64 };
        time.and_then(|time| time.checked_add(base)).ok_or_else(|| errors::invalid_expire(command))
    }

    /// The instant meant by `time`, which must be above zero.
    pub(super) fn positive(self, time: i64, wall_ms: u64, command: &str) -> Result<u64, Reply> {
        if time <= 0 {
            return Err(errors::invalid_expire(command));
        }
        self.instant(time, wall_ms, command).map(|instant| instant as u64)
    }
}
