//! The keyspace against a model that is obviously right: an ordered map from key to value.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

type Model = BTreeMap<Bytes, Value>;

/// A hash under which many keys stand in one place, as hostile keys might.
fn weak_hash(key: &[u8]) -> u64 {
    u64::from(key.first().copied().unwrap_or(0) % 3) << 62
}

fn change(model: &mut Model, change: &Change) {
    match change {
        Change::Put(key, value) => drop(model.insert(key.clone(), value.clone())),
        Change::Delete(key) => drop(model.remove(key)),
        Change::Expire(key, end) => {
            if let Some(value) = model.get_mut(key) {
                value.expires_ms = *end;
            }
        }
        Change::Clear => model.clear(),
    }
}

fn any_key() -> impl Strategy<Value = Bytes> {
    (0u8..30).prop_map(|number| Bytes::from(vec![number]))
}

fn any_end() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![Just(None), (0u64..100).prop_map(Some)]
}

fn any_change() -> impl Strategy<Value = Change> {
    let value = (vec(any::<u8>(), 0..8), any_end());
    prop_oneof![
        6 => (any_key(), value)
            .prop_map(|(key, (data, expires_ms))| Change::Put(key, Value { data: data.into(), expires_ms })),
        3 => any_key().prop_map(Change::Delete),
        2 => (any_key(), any_end()).prop_map(|(key, end)| Change::Expire(key, end)),
        1 => Just(Change::Clear),
    ]
}

fn built(hash: fn(&[u8]) -> u64, changes: &[Change]) -> (Keyspace, Model) {
    let (mut keyspace, mut model) = (Keyspace::with_hash(hash), Model::new());
    for one in changes {
        keyspace.apply(one);
        change(&mut model, one);
    }
    (keyspace, model)
}

/// All keys as a stream of chunks gives them.
fn streamed(keyspace: &Keyspace, limit: usize) -> Vec<(Bytes, Value)> {
    let mut all: Vec<(Bytes, Value)> = Vec::new();
    loop {
        let portion = keyspace.chunk(all.last().map(|(key, _)| key), limit);
        all.extend(portion.entries);
        if portion.last {
            return all;
        }
    }
}

#[test]
fn a_value_larger_than_a_portion_stands_alone() {
    let mut keyspace = Keyspace::with_hash(|key| u64::from(key[0]));
    for (key, size) in [("a", 3), ("b", 3), ("c", 50), ("d", 3)] {
        let value = Value { data: Bytes::from(vec![b'x'; size]), expires_ms: None };
        keyspace.apply(&Change::Put(Bytes::from_static(key.as_bytes()), value));
    }
    let keys = |after: Option<&'static str>| {
        let portion = keyspace.chunk(after.map(|key| Bytes::from_static(key.as_bytes())).as_ref(), 10);
        let keys: Vec<Bytes> = portion.entries.into_iter().map(|(key, _)| key).collect();
        (keys, portion.last)
    };
    assert_eq!(keys(None), (vec!["a".into(), "b".into()], false));
    assert_eq!(keys(Some("b")), (vec!["c".into()], false));
    assert_eq!(keys(Some("c")), (vec!["d".into()], true));
}

#[test]
fn a_key_whose_time_has_come_is_gone() {
    let mut keyspace = Keyspace::new();
    let key = Bytes::from_static(b"k");
    keyspace.apply(&Change::Put(key.clone(), Value { data: Bytes::from_static(b"v"), expires_ms: Some(10) }));
    assert!(keyspace.get(b"k", 9).is_some());
    assert!(keyspace.get(b"k", 10).is_none());
    assert!(keyspace.peek(b"k").is_some());
    assert_eq!(keyspace.next_expiry(), Some(10));
    assert_eq!(keyspace.expired(9, 5), Vec::<Bytes>::new());
    assert_eq!(keyspace.expired(10, 5), vec![key]);
}

#[test]
fn places_are_the_same_on_every_node() {
    // Recorded once: a cursor must mean the same after an upgrade, too.
    assert_eq!(place::hash(b""), 0xefd0_1f60_ba99_2926);
    assert_eq!(place::hash(b"a"), 0x82a2_a958_a9be_ce5b);
}

#[test]
fn a_cursor_from_nowhere_finds_nothing() {
    let (keyspace, _) =
        built(place::hash, &[Change::Put(Bytes::from_static(b"a"), Value { data: Bytes::new(), expires_ms: None })]);
    assert_eq!(keyspace.scan(u64::MAX, 10), Scanned { entries: vec![], next: None });
}

proptest! {
    #[test]
    fn it_is_an_ordered_map(changes in vec(any_change(), 0..120), weak in any::<bool>(), now in 0u64..120) {
        let (keyspace, model) = built(if weak { weak_hash } else { place::hash }, &changes);
        prop_assert_eq!(keyspace.len(), model.len());
        prop_assert_eq!(keyspace.is_empty(), model.is_empty());
        for number in 0..31 {
            let key = [number];
            let held = model.get(&key[..]);
            prop_assert_eq!(keyspace.peek(&key), held);
            prop_assert_eq!(keyspace.get(&key, now), held.filter(|value| value.expires_ms.is_none_or(|end| end > now)));
        }
        let bytes: usize = model.iter().map(|(key, value)| cost(key, value)).sum();
        prop_assert_eq!(keyspace.bytes(), bytes);

        let mut over: Vec<(u64, Bytes)> =
            model.iter().filter_map(|(key, value)| Some((value.expires_ms.filter(|end| *end <= now)?, key.clone()))).collect();
        over.sort();
        let over: Vec<Bytes> = over.into_iter().map(|(_, key)| key).collect();
        prop_assert_eq!(keyspace.expired(now, usize::MAX), over.clone());
        prop_assert_eq!(keyspace.expired(now, 3), &over[..over.len().min(3)]);
        prop_assert_eq!(keyspace.expiring(), model.values().filter(|value| value.expires_ms.is_some()).count());
    }

    #[test]
    fn chunks_give_all_and_build_the_same(changes in vec(any_change(), 0..120), limit in 0usize..40) {
        let (keyspace, model) = built(place::hash, &changes);
        let all = streamed(&keyspace, limit);
        prop_assert_eq!(all.iter().cloned().collect::<Model>(), model.clone());
        prop_assert_eq!(all.len(), model.len());
        // In another order, and after other values, it is the same keyspace.
        let mut copy = Keyspace::new();
        for (key, value) in all.into_iter().rev() {
            copy.apply(&Change::Put(key.clone(), Value { data: Bytes::from_static(b"old"), expires_ms: Some(1) }));
            copy.apply(&Change::Put(key, value));
        }
        prop_assert_eq!(copy.digest(), keyspace.digest());
        prop_assert_eq!(copy.bytes(), keyspace.bytes());
        if let Some(key) = model.keys().next() {
            copy.apply(&Change::Expire(key.clone(), Some(101)));
            prop_assert_ne!(copy.digest(), keyspace.digest());
        }
    }

    #[test]
    fn intervals_make_up_the_whole(changes in vec(any_change(), 0..120), keys in 0usize..8, weak in any::<bool>()) {
        let (keyspace, model) = built(if weak { weak_hash } else { place::hash }, &changes);
        let (mut from, mut all) = (0, Contents::default());
        loop {
            let (contents, to) = keyspace.some_contents(from, keys, 40);
            prop_assert_eq!(keyspace.contents(from, to), contents);
            prop_assert!(weak || contents.keys <= keys.max(1) as u64);
            all.add(contents);
            let Some(to) = to else { break };
            prop_assert!(to > from);
            from = to;
        }
        prop_assert_eq!(all, Contents { keys: model.len() as u64, digest: keyspace.digest() });
    }

    #[test]
    fn a_scan_finds_what_was_there_all_the_time(
        first in vec(any_change(), 0..120),
        meanwhile in vec(vec(any_change(), 0..4), 1..20),
        count in 1usize..8,
        weak in any::<bool>(),
    ) {
        let (mut keyspace, mut model) = built(if weak { weak_hash } else { place::hash }, &first);
        let mut stayed: Vec<Bytes> = model.keys().cloned().collect();
        let mut found: Vec<Bytes> = Vec::new();
        let mut cursor = 0;
        let mut changes = meanwhile.iter().cycle();
        loop {
            let step = keyspace.scan(cursor, count);
            found.extend(step.entries.iter().map(|(key, _)| (*key).clone()));
            prop_assert!(weak || step.entries.len() <= count);
            let Some(next) = step.next else { break };
            prop_assert!(next > cursor && next >> PLACE_BITS == 0);
            cursor = next;
            for one in changes.next().expect("at least one list") {
                keyspace.apply(one);
                change(&mut model, one);
                stayed.retain(|key| model.contains_key(key));
            }
        }
        for key in &stayed {
            prop_assert!(found.contains(key), "{:?} was there all the time", key);
        }
        let mut once = found.clone();
        once.sort();
        once.dedup();
        prop_assert_eq!(once.len(), found.len(), "a place is passed once, so no key comes twice");
    }
}
