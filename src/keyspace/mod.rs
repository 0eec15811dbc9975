//! What a drone remembers of one range: its keys, what they hold, and when they end.
//!
//! A keyspace is changed by [`Change`]s alone, the same on every member of the chain; it decides nothing. A key whose time
//! has come is *seen as gone* by [`Keyspace::get`] at once, but stays until the head has its deletion written (CHAIN.md, G9),
//! so that members whose clocks differ hold the same.
//!
//! Keys stand in the order of a hash. So a place in that order is a number, and a scan that goes up by places returns every
//! key that was there all the time, whatever else came and went, at whatever member of the chain it goes on.
//! Not here: what a command does (`commands`), who may write (`machines::chain`).

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Included, Unbounded};

use bytes::Bytes;
use twox_hash::XxHash3_64;

use crate::messages::chain::{Change, Contents, Value};

mod place;

#[cfg(test)]
mod tests;

use place::{Place, Placed};

/// How many bits a place of a scan has. Together with the number of a range it fits into the 53 bits that clients written in
/// JavaScript can hold in a number.
pub const PLACE_BITS: u32 = 38;

/// A place is the upper bits of a hash.
const PLACE_SHIFT: u32 = u64::BITS - PLACE_BITS;

/// What an entry costs over the bytes of its key and value, as [`Keyspace::bytes`] counts it.
pub const ENTRY_BYTES: usize = 128;

/// The keys of one range.
#[derive(Clone, Debug)]
pub struct Keyspace {
    entries: BTreeMap<Place, Value>,
    expiries: BTreeSet<(u64, Bytes)>,
    bytes: usize,
    hash: fn(&[u8]) -> u64,
}

/// A step of a scan.
#[derive(Clone, Debug, PartialEq)]
pub struct Scanned<'a> {
    /// What stands at the places that were looked at.
    pub entries: Vec<(&'a Bytes, &'a Value)>,
    /// Where to go on; none at the end.
    pub next: Option<u64>,
}

/// Some keys in a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Portion {
    /// Keys, and what they hold.
    pub entries: Vec<(Bytes, Value)>,
    /// Whether none follows.
    pub last: bool,
}

impl Default for Keyspace {
    fn default() -> Self {
        Self::new()
    }
}

impl Keyspace {
    /// An empty one.
    pub fn new() -> Self {
        Self::with_hash(place::hash)
    }

    fn with_hash(hash: fn(&[u8]) -> u64) -> Self {
        Self { entries: BTreeMap::new(), expiries: BTreeSet::new(), bytes: 0, hash }
    }

    /// What a key holds at this wall clock time. A key whose time has come is gone.
    pub fn get(&self, key: &[u8], wall_ms: u64) -> Option<&Value> {
        self.peek(key).filter(|value| !is_over(value, wall_ms))
    }

    /// What a key holds, whether or not its time has come.
    pub fn peek(&self, key: &[u8]) -> Option<&Value> {
        self.entries.get(&((self.hash)(key), key) as &dyn Placed)
    }

    /// How many keys there are, those whose time has come included.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many keys have an end.
    pub fn expiring(&self) -> usize {
        self.expiries.len()
    }

    /// How much memory the keys take, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many keys are of a kind, those whose time has come included.
    pub fn count(&self, is: impl Fn(&[u8]) -> bool) -> usize {
        self.entries.keys().filter(|place| is(&place.key)).count()
    }

    /// Makes a change. The same changes in the same order give the same keyspace everywhere.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Put(key, value) => self.put(key, value),
            Change::Delete(key) => self.delete(key),
            Change::Expire(key, expires_ms) => self.expire(key, *expires_ms),
            Change::Clear => self.clear(),
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.expiries.clear();
        self.bytes = 0;
    }

    /// A digest of all keys, their values and ends. Equal keyspaces have equal ones, however they came about.
    pub fn digest(&self) -> u64 {
        self.contents(0, None).digest
    }

    /// What stands from one place on up to before another, or to the end.
    pub fn contents(&self, from: u64, to: Option<u64>) -> Contents {
        let mut contents = Contents::default();
        for (place, value) in self.from(from).take_while(|(place, _)| to.is_none_or(|to| place.at() < to)) {
            contents.add(Contents { keys: 1, digest: digest_of(&place.key, value) });
        }
        contents
    }

    /// What stands from a place on, about so many keys and bytes of it, and the place where that ends; none at the end of the
    /// keyspace. Keys of one place come together, so it may be more.
    pub fn some_contents(&self, from: u64, keys: usize, bytes: usize) -> (Contents, Option<u64>) {
        let (mut contents, mut size, mut last) = (Contents::default(), 0, None);
        for (place, value) in self.from(from) {
            let here = place.at();
            let full = contents.keys >= keys.max(1) as u64 || size >= bytes.max(1);
            if full && last != Some(here) {
                return (contents, Some(here));
            }
            contents.add(Contents { keys: 1, digest: digest_of(&place.key, value) });
            size += place.key.len() + value.data.len();
            last = Some(here);
        }
        (contents, None)
    }

    fn from(&self, place: u64) -> impl Iterator<Item = (&Place, &Value)> {
        let first = (place << PLACE_SHIFT, &b""[..]);
        let within = place >> PLACE_BITS == 0;
        let entries = within.then(|| self.entries.range::<dyn Placed, _>((Included(&first as &dyn Placed), Unbounded)));
        entries.into_iter().flatten()
    }

    /// Looks at about `count` keys from `cursor` on; 0 begins. Keys of one place come together, so a step may have more.
    pub fn scan(&self, cursor: u64, count: usize) -> Scanned<'_> {
        let mut entries: Vec<(&Bytes, &Value)> = Vec::new();
        let mut last = None;
        for (place, value) in self.from(cursor) {
            let here = place.at();
            if entries.len() >= count.max(1) && last != Some(here) {
                return Scanned { entries, next: Some(here) };
            }
            entries.push((&place.key, value));
            last = Some(here);
        }
        Scanned { entries, next: None }
    }

    /// Keys whose time has come, at most `limit`, earliest first: for the head, which has their deletion written.
    pub fn expired(&self, wall_ms: u64, limit: usize) -> Vec<Bytes> {
        self.expiries.iter().take_while(|(end, _)| *end <= wall_ms).take(limit).map(|(_, key)| key.clone()).collect()
    }

    /// When the first key ends, in milliseconds since 1970.
    pub fn next_expiry(&self) -> Option<u64> {
        self.expiries.first().map(|(end, _)| *end)
    }

    /// The keys that follow `after` in the order of the keyspace, with what they hold, until they are `limit_bytes` or more.
    /// A value that is larger than that by itself stands alone. `after` need not be there any more.
    pub fn chunk(&self, after: Option<&Bytes>, limit_bytes: usize) -> Portion {
        let after = after.map(|key| ((self.hash)(key), &key[..]));
        let from = match &after {
            Some(place) => Excluded(place as &dyn Placed),
            None => Unbounded,
        };
        let mut size = 0;
        let mut entries = Vec::new();
        for (place, value) in self.entries.range::<dyn Placed, _>((from, Unbounded)) {
            if !entries.is_empty() && (size >= limit_bytes || value.data.len() > limit_bytes) {
                return Portion { entries, last: false };
            }
            entries.push((place.key.clone(), value.clone()));
            size += place.key.len() + value.data.len();
        }
        Portion { entries, last: true }
    }

    fn put(&mut self, key: &Bytes, value: &Value) {
        self.delete(key);
        if let Some(end) = value.expires_ms {
            self.expiries.insert((end, key.clone()));
        }
        self.bytes += cost(key, value);
        self.entries.insert(Place { hash: (self.hash)(key), key: key.clone() }, value.clone());
    }

    /// Forgets some keys, at most so many, whichever come first: for who gives a keyspace up. Says how many.
    pub fn forget_some(&mut self, count: usize) -> usize {
        let count = count.min(self.entries.len());
        for _ in 0..count {
            let (place, value) = self.entries.pop_first().expect("so many are left");
            self.forget(place, &value);
        }
        count
    }

    fn delete(&mut self, key: &[u8]) {
        if let Some((place, value)) = self.entries.remove_entry(&((self.hash)(key), key) as &dyn Placed) {
            self.forget(place, &value);
        }
    }

    /// What is known of an entry besides.
    fn forget(&mut self, place: Place, value: &Value) {
        self.bytes -= cost(&place.key, value);
        if let Some(end) = value.expires_ms {
            self.expiries.remove(&(end, place.key));
        }
    }

    fn expire(&mut self, key: &Bytes, expires_ms: Option<u64>) {
        let Some(value) = self.entries.get_mut(&((self.hash)(key), &key[..]) as &dyn Placed) else { return };
        if let Some(end) = std::mem::replace(&mut value.expires_ms, expires_ms) {
            self.expiries.remove(&(end, key.clone()));
        }
        if let Some(end) = expires_ms {
            self.expiries.insert((end, key.clone()));
        }
    }
}

/// Whether a value's time has come.
pub fn is_over(value: &Value, wall_ms: u64) -> bool {
    value.expires_ms.is_some_and(|end| end <= wall_ms)
}

fn cost(key: &[u8], value: &Value) -> usize {
    ENTRY_BYTES + key.len() + value.data.len()
}

/// XXH3 (Collet) of an entry: its end and its key are the seed for the bytes of its value.
fn digest_of(key: &[u8], value: &Value) -> u64 {
    let end = value.expires_ms.unwrap_or(u64::MAX);
    XxHash3_64::oneshot_with_seed(XxHash3_64::oneshot_with_seed(end, key), &value.data)
}
