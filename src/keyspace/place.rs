//! Where a key stands in its keyspace: by a hash of it, so that a cursor of a few bits can say "from here on".
//!
//! The hash is the same on every node and in every life: a `SCAN` begun at one head goes on at the next.

use std::borrow::Borrow;
use std::cmp::Ordering;

use bytes::Bytes;

/// A key with its hash; ordered by the hash first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) hash: u64,
    pub(super) key: Bytes,
}

impl Place {
    /// What a cursor says of it.
    pub(super) fn at(&self) -> u64 {
        self.hash >> super::PLACE_SHIFT
    }
}

/// What can be looked up as a place without owning a key.
pub(super) trait Placed {
    fn place(&self) -> (u64, &[u8]);
}

impl Placed for Place {
    fn place(&self) -> (u64, &[u8]) {
        (self.hash, &self.key)
    }
}

impl Placed for (u64, &[u8]) {
    fn place(&self) -> (u64, &[u8]) {
        *self
    }
}

impl<'a> Borrow<dyn Placed + 'a> for Place {
    fn borrow(&self) -> &(dyn Placed + 'a) {
        self
    }
}

impl PartialEq for dyn Placed + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place()
    }
}

impl Eq for dyn Placed + '_ {}

impl PartialOrd for dyn Placed + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for dyn Placed + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place().cmp(&other.place())
    }
}

/// The hash of a key: FNV-1a (Fowler, Noll, Vo), stirred by the finisher of MurmurHash3 (Appleby) so that its upper bits,
/// which are what a cursor holds, depend on every byte.
pub(super) fn hash(key: &[u8]) -> u64 {
    let mut hash = key
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}
