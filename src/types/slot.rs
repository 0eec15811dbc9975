//! Slots, the clients' unit, and ranges of them, the mesh's unit.

use std::fmt;

use crc::{CRC_16_XMODEM, Crc};
use serde::{Deserialize, Serialize};

/// How many slots there are: the number that Redis Cluster's clients know.
pub const SLOTS: u16 = 16_384;

const CRC16: Crc<u16> = Crc::<u16>::new(&CRC_16_XMODEM);

/// CRC16 of a key, or of the tag in it, modulo [`SLOTS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Slot(pub u16);

/// A run of neighbouring slots: the unit of ownership, placement, replication and movement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RangeId(pub u16);

impl Slot {
    /// The slot of a key. Where the key has a `{tag}` that is not empty, the tag alone counts (Redis Cluster
    /// specification, "Hash tags"), so that keys can be kept together.
    pub fn of_key(key: &[u8]) -> Self {
        Self(CRC16.checksum(tag(key)) % SLOTS)
    }

    /// The range this slot lies in, in a mesh of `ranges` ranges (a power of two).
    pub fn range(self, ranges: usize) -> RangeId {
        RangeId((self.0 as usize * ranges / SLOTS as usize) as u16)
    }
}

impl RangeId {
    /// The range of a key.
    pub fn of_key(key: &[u8], ranges: usize) -> Self {
        Slot::of_key(key).range(ranges)
    }

    /// The first and the last slot of this range, both included.
    pub fn slots(self, ranges: usize) -> (Slot, Slot) {
        let width = SLOTS as usize / ranges;
        let first = self.0 as usize * width;
        (Slot(first as u16), Slot((first + width - 1) as u16))
    }
}

fn tag(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|byte| *byte == b'{') else { return key };
    match key[open + 1..].iter().position(|byte| *byte == b'}') {
        Some(length) if length > 0 => &key[open + 1..open + 1 + length],
        _ => key,
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for RangeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis_cluster() {
        // The specification's own check value, and slots as redis-cli prints them.
        assert_eq!(CRC16.checksum(b"123456789"), 0x31C3);
        assert_eq!(Slot::of_key(b"a"), Slot(15495));
        assert_eq!(Slot::of_key(b"foo"), Slot(12182));
        assert_eq!(Slot::of_key(b"{user1000}.following"), Slot::of_key(b"user1000"));
        assert_eq!(Slot::of_key(b"foo{}{bar}"), Slot(CRC16.checksum(b"foo{}{bar}") % SLOTS));
        assert_eq!(Slot::of_key(b"foo{{bar}}zap"), Slot(CRC16.checksum(b"{bar") % SLOTS));
    }

    #[test]
    fn ranges_cover_all_slots_once() {
        for ranges in [1usize, 16, 1024, 16_384] {
            for slot in 0..SLOTS {
                let (first, last) = Slot(slot).range(ranges).slots(ranges);
                assert!(first.0 <= slot && slot <= last.0);
            }
        }
    }
}
