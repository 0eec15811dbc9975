//! Commands on keys of any kind.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::data::{Scope, integer};
use super::expiry::Unit;
use super::spec::{Flags, Join, KeyPlaces, Route, Spec, Work};
use crate::messages::client::Reply;

const READ: Flags = Flags::READONLY.and(Flags::FAST);
const WRITE: Flags = Flags::WRITE.and(Flags::FAST);
const GENERIC: Spec = Spec { group: "generic", keys: KeyPlaces::ONE, categories: &["keyspace"], ..Spec::BASE };
const MANY: Spec = Spec {
    arity: -2,
    keys: KeyPlaces::ALL,
    tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
    complexity: "O(N) in the number of keys",
    ..GENERIC
};

/// This family's part of the table.
pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        name: "del",
        flags: Flags::WRITE,
        key_flags: &["RM", "delete"],
        summary: "Removes keys and tells how many there were. Not atomic if they lie in several slots.",
        work: Work::Data(Route::Split(Join::Sum), del),
        ..MANY
    },
    Spec {
        name: "unlink",
        flags: WRITE,
        key_flags: &["RM", "delete"],
        since: "4.0.0",
        summary: "Removes keys and tells how many there were, like DEL.",
        work: Work::Data(Route::Split(Join::Sum), del),
        ..MANY
    },
    Spec {
        name: "exists",
        flags: READ,
        key_flags: &["RO"],
        summary: "Tells how many of these keys there are; one named twice counts twice.",
        work: Work::Data(Route::Split(Join::Sum), exists),
        ..MANY
    },
    Spec {
        name: "touch",
        flags: READ,
        key_flags: &["RO"],
        since: "3.2.1",
        summary: "Tells how many of these keys there are, and counts as a use of them.",
        work: Work::Data(Route::Split(Join::Sum), exists),
        ..MANY
    },
    Spec {
        name: "expire",
        arity: -3,
        flags: WRITE,
        key_flags: &["RW", "update"],
        summary: "Has a key end in so many seconds.",
        work: Work::Data(Route::Keys, |scope, words| expire(scope, words, Unit::EX, "expire")),
        ..GENERIC
    },
    Spec {
        name: "pexpire",
        arity: -3,
        flags: WRITE,
        key_flags: &["RW", "update"],
        since: "2.6.0",
        summary: "Has a key end in so many milliseconds.",
        work: Work::Data(Route::Keys, |scope, words| expire(scope, words, Unit::PX, "pexpire")),
        ..GENERIC
    },
    Spec {
        name: "expireat",
        arity: -3,
        flags: WRITE,
        key_flags: &["RW", "update"],
        since: "1.2.0",
        summary: "Has a key end at a time given in seconds since 1970.",
        work: Work::Data(Route::Keys, |scope, words| expire(scope, words, Unit::EXAT, "expireat")),
        ..GENERIC
    },
    Spec {
        name: "pexpireat",
        arity: -3,
        flags: WRITE,
        key_flags: &["RW", "update"],
        since: "2.6.0",
        summary: "Has a key end at a time given in milliseconds since 1970.",
        work: Work::Data(Route::Keys, |scope, words| expire(scope, words, Unit::PXAT, "pexpireat")),
        ..GENERIC
    },
    Spec {
        name: "ttl",
        arity: 2,
        flags: READ,
        key_flags: &["RO", "access"],
        tips: &["nondeterministic_output"],
        summary: "Tells in how many seconds a key ends; -1 never, -2 there is none.",
        work: Work::Data(Route::Keys, |scope, words| Ok(ends(scope, words, Unit::EX))),
        ..GENERIC
    },
    Spec {
        name: "pttl",
        arity: 2,
        flags: READ,
        key_flags: &["RO", "access"],
        tips: &["nondeterministic_output"],
        since: "2.6.0",
        summary: "Tells in how many milliseconds a key ends; -1 never, -2 there is none.",
        work: Work::Data(Route::Keys, |scope, words| Ok(ends(scope, words, Unit::PX))),
        ..GENERIC
    },
    Spec {
        name: "expiretime",
        arity: 2,
        flags: READ,
        key_flags: &["RO", "access"],
        since: "7.0.0",
        summary: "Tells when a key ends, in seconds since 1970; -1 never, -2 there is none.",
        work: Work::Data(Route::Keys, |scope, words| Ok(ends(scope, words, Unit::EXAT))),
        ..GENERIC
    },
    Spec {
        name: "pexpiretime",
        arity: 2,
        flags: READ,
        key_flags: &["RO", "access"],
        since: "7.0.0",
        summary: "Tells when a key ends, in milliseconds since 1970; -1 never, -2 there is none.",
        work: Work::Data(Route::Keys, |scope, words| Ok(ends(scope, words, Unit::PXAT))),
        ..GENERIC
    },
    Spec {
        name: "persist",
        arity: 2,
        flags: WRITE,
        key_flags: &["RW", "update"],
        since: "2.2.0",
        summary: "Has a key never end.",
        work: Work::Data(Route::Keys, persist),
        ..GENERIC
    },
    Spec {
        name: "type",
        arity: 2,
        flags: READ,
        key_flags: &["RO"],
        summary: "Tells what kind of value a key holds.",
        work: Work::Data(Route::Keys, kind),
        ..GENERIC
    },
];

fn del(scope: &mut Scope<'_>, words: &[Bytes]) -> Result<Reply, Reply> {
    let (mut seen, mut removed) = (BTreeSet::new(), 0);
    for key in &words[1..] {
        if seen.insert(key) && scope.get(key).is_some() {
            scope.delete(key);
            removed += 1;
        }
    }
    Ok(Reply::Integer(removed))
}

fn exists(scope: &mut Scope<'_>, words: &[Bytes]) -> Result<Reply, Reply> {
    Ok(Reply::Integer(words[1..].iter().filter(|key| scope.get(key).is_some()).count() as i64))
}

/// When a key may be given another end.
#[derive(Default)]
struct Conditions {
    has_none: bool,
    has_one: bool,
    later: bool,
    earlier: bool,
}

impl Conditions {
    fn read(words: &[Bytes]) -> Result<Self, Reply> {
        let mut conditions = Self::default();
        for word in words {
            match &word.to_ascii_uppercase()[..] {
                b"NX" => conditions.has_none = true,
                b"XX" => conditions.has_one = true,
                b"GT" => conditions.later = true,
                b"LT" => conditions.earlier = true,
                _ => return Err(Reply::error(format!("ERR Unsupported option {}", String::from_utf8_lossy(word)))),
            }
        }
        if conditions.has_none && (conditions.has_one || conditions.later || conditions.earlier) {
            return Err(Reply::error("ERR NX and XX, GT or LT options at the same time are not compatible"));
        }
        if conditions.later && conditions.earlier {
            return Err(Reply::error("ERR GT and LT options at the same time are not compatible"));
        }
        Ok(conditions)
    }

    /// Whether they allow this end. A key that never ends counts as one that ends after all others.
    fn allow(&self, old: Option<u64>, new: i64) -> bool {
        let old_end = old.map_or(i64::MAX, |end| end as i64);
        !(self.has_none && old.is_some()
            || self.has_one && old.is_none()
            || self.later && (old.is_none() || new <= old_end)
            || self.earlier && old.is_some() && new >= old_end)
    }
}

fn expire(scope: &mut Scope<'_>, words: &[Bytes], unit: Unit, command: &str) -> Result<Reply, Reply> {
    let conditions = Conditions::read(&words[3..])?;
    let end = unit.instant(integer(&words[2])?, scope.wall_ms(), command)?;
    let Some(value) = scope.get(&words[1]) else { return Ok(Reply::Integer(0)) };
    if !conditions.allow(value.expires_ms, end) {
        return Ok(Reply::Integer(0));
    }
    scope.expire(&words[1], Some(end.max(0) as u64));
    Ok(Reply::Integer(1))
}

fn ends(scope: &mut Scope<'_>, words: &[Bytes], unit: Unit) -> Reply {
    let Some(value) = scope.get(&words[1]) else { return Reply::Integer(-2) };
    let Some(end) = value.expires_ms else { return Reply::Integer(-1) };
    let time = if unit.absolute { end } else { end - scope.wall_ms() };
    Reply::Integer(if unit.millis { time } else { time.saturating_add(500) / 1000 } as i64)
}

fn persist(scope: &mut Scope<'_>, words: &[Bytes]) -> Result<Reply, Reply> {
    let ends = scope.get(&words[1]).is_some_and(|value| value.expires_ms.is_some());
    if ends {
        scope.expire(&words[1], None);
    }
    Ok(Reply::Integer(ends.into()))
}

fn kind(scope: &mut Scope<'_>, words: &[Bytes]) -> Result<Reply, Reply> {
    Ok(Reply::Simple(if scope.get(&words[1]).is_some() { "string" } else { "none" }.into()))
}
