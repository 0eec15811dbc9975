//! Spans of time as whole nanoseconds, for `#[serde(with = "span")]`: serde's own form of a `Duration` names its fields, and the
//! packed form of CBOR has no names.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer};

/// The span as a number of nanoseconds; 584 years at most.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX))
}

/// The span of a number of nanoseconds.
///
/// # Errors
/// When there is no number.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_nanos)
}
