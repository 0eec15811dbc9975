//! Commands on strings.

use bytes::{Bytes, BytesMut};

use super::data::{Scope, integer, owned};
use super::errors;
use super::expiry::Unit;
use super::spec::{Flags, Join, KeyPlaces, Route, Spec, Work};
use crate::messages::client::Reply;
use crate::resp::Limits;

const READ: Flags = Flags::READONLY.and(Flags::FAST);
const WRITE: Flags = Flags::WRITE.and(Flags::DENYOOM);
const WRITE_FAST: Flags = WRITE.and(Flags::FAST);
const STRING: Spec = Spec { group: "string", keys: KeyPlaces::ONE, categories: &["string"], ..Spec::BASE };

/// This family's part of the table.
pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        name: "get",
        arity: 2,
        flags: READ,
        key_flags: &["RO", "access"],
        summary: "Tells what a key holds.",
        work: Work::Data(Route::Keys, get),
        ..STRING
    },
    Spec {
        name: "set",
        arity: -3,
        flags: WRITE,
        key_flags: &["RW", "access", "update", "variable_flags"],
        summary: "Has a key hold a value, if a condition is met, for a while if wished.",
        work: Work::Data(Route::Keys, set),
        ..STRING
    },
    Spec {
        name: "setnx",
        arity: 3,
        flags: WRITE_FAST,
        key_flags: &["OW", "insert"],
        summary: "Has a key hold a value if it holds none.",
        work: Work::Data(Route::Keys, setnx),
        ..STRING
    },
    Spec {
        name: "setex",
        arity: 4,
        flags: WRITE,
        key_flags: &["OW", "update"],
        since: "2.0.0",
        summary: "Has a key hold a value for so many seconds.",
        work: Work::Data(Route::Keys, setex),
        ..STRING
    },
    Spec {
        name: "psetex",
        arity: 4,
        flags: WRITE,
        key_flags: &["OW", "update"],
        since: "2.6.0",
        summary: "Has a key hold a value for so many milliseconds.",
        work: Work::Data(Route::Keys, psetex),
        ..STRING
    },
    Spec {
        name: "getset",
        arity: 3,
        flags: WRITE_FAST,
        key_flags: &["RW", "access", "update"],
        summary: "Has a key hold a value and tells what it held before.",
        deprecated: Some(("6.2.0", "`SET` with the `GET` option")),
        work: Work::Data(Route::Keys, getset),
        ..STRING
    },
    Spec {
        name: "getdel",
        arity: 2,
        flags: Flags::WRITE.and(Flags::FAST),
        key_flags: &["RW", "access", "delete"],
        since: "6.2.0",
        summary: "Tells what a key holds and removes it.",
        work: Work::Data(Route::Keys, getdel),
        ..STRING
    },
    Spec {
        name: "getex",
        arity: -2,
        flags: Flags::WRITE.and(Flags::FAST),
        key_flags: &["RW", "access", "update"],
        since: "6.2.0",
        summary: "Tells what a key holds and changes when it ends.",
        work: Work::Data(Route::Keys, getex),
        ..STRING
    },
    Spec {
        name: "append",
        arity: 3,
        flags: WRITE_FAST,
        key_flags: &["RW", "insert"],
        since: "2.0.0",
        summary: "Puts bytes behind those that a key holds.",
        complexity: "O(N) in the length of the value",
        work: Work::Data(Route::Keys, append),
        ..STRING
    },
    Spec {
        name: "strlen",
        arity: 2,
        flags: READ,
        key_flags: &["RO"],
        since: "2.2.0",
        summary: "Tells how many bytes a key holds.",
        work: Work::Data(Route::Keys, strlen),
        ..STRING
    },
    Spec {
        name: "mget",
        arity: -2,
        flags: READ,
        keys: KeyPlaces::ALL,
        key_flags: &["RO", "access"],
        tips: &["request_policy:multi_shard"],
        summary: "Tells what several keys hold. Not atomic if they lie in several slots.",
        complexity: "O(N) in the number of keys",
        work: Work::Data(Route::Split(Join::Values), mget),
        ..STRING
    },
    Spec {
        name: "mset",
        arity: -3,
        flags: WRITE,
        keys: KeyPlaces::PAIRS,
        key_flags: &["OW", "update"],
        tips: &["request_policy:multi_shard", "response_policy:all_succeeded"],
        since: "1.0.1",
        summary: "Has several keys hold values. Not atomic if they lie in several slots.",
        complexity: "O(N) in the number of keys",
        work: Work::Data(Route::Split(Join::Ok), mset),
        ..STRING
    },
    Spec {
        name: "incr",
        arity: 2,
        flags: WRITE_FAST,
        key_flags: &["RW", "access", "update"],
        summary: "Adds one to the number that a key holds.",
        work: Work::Data(Route::Keys, |scope, words| add(scope, &words[1], 1)),
        ..STRING
    },
    Spec {
        name: "decr",
        arity: 2,
        flags: WRITE_FAST,
        key_flags: &["RW", "access", "update"],
        summary: "Takes one from the number that a key holds.",
        work: Work::Data(Route::Keys, |scope, words| add(scope, &words[1], -1)),
        ..STRING
    },
    Spec {
        name: "incrby",
        arity: 3,
        flags: WRITE_FAST,
        key_flags: &["RW", "access", "update"],
        summary: "Adds to the number that a key holds.",
        work: Work::Data(Route::Keys, |scope, words| add(scope, &words[1], integer(&words[2])?)),
        ..STRING
    },
    Spec {
        name: "decrby",
        arity: 3,
        flags: WRITE_FAST,
        key_flags: &["RW", "access", "update"],
        summary: "Takes from the number that a key holds.",
        work: Work::Data(Route::Keys, decrby),
        ..STRING
    },
];

fn get(scope: &mut Scope<'_>, words: &[Bytes]) -> Result<Reply, Reply> {
    Ok(held(scope, &words[1]))
}

/// What a key holds, as a reply.
fn held(scope: &mut Scope<'_>, key: &Bytes) -> Reply {
    scope.get(key).map_or(Reply::Null, |value| Reply::Bulk(value.data.clone()))
}

/// What `SET` was asked besides key and value.
#[derive(Default)]
struct SetOptions<'a> {
    condition: Option<Condition<'a>>,
    tell: bool,
    keep: bool,
    expiry: Option<(Unit, &'a Bytes)>,
}

enum Condition<'a> {
    Absent,
    Present,
    Equal(&'a Bytes),
}

impl Condition<'_> {
    fn is_met(&self, old: Option<&Bytes>) -> bool {
        match self {
            Self::Absent => old.is_none(),
            Self::Present => old.is_some(),
            Self::Equal(value) => old == Some(value),
        }
    }
}

fn set(scope: &mut Scope<'_>, words: &[Bytes]) -> Result<Reply, Reply> {
    let options = set_options(&words[3..])?;
    let expires_ms = match options.expiry {
        Some((unit, time)) => Some(unit.positive(integer(time)?, scope.wall_ms(), "set")?),
        None => None,
    };
    let old = scope.get(&words[1]);
    let before = old.map_or(Reply::Null, |value| Reply::Bulk(value.data.clone()));
    if options.condition.is_some_and(|condition| !condition.is_met(old.map(|value| &value.data))) {
        return Ok(if options.tell { before } else { Reply::Null });
    }
    let kept = old.and_then(|value| value.expires_ms).filter(|_| options.keep);
    scope.put(&words[1], owned(&words[2]), expires_ms.or(kept));
    Ok(if options.tell { before } else { Reply::ok() })
}

fn set_options(words: &[Bytes]) -> Result<SetOptions<'_>, Reply> {
    let mut options = SetOptions::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
        let free = options.condition.is_none();
        match word {
            // The same condition twice is one condition.
            _ if is("NX") && (free || matches!(options.condition, Some(Condition::Absent))) => {
                options.condition = Some(Condition::Absent);
            }
            _ if is("XX") && (free || matches!(options.condition, Some(Condition::Present))) => {
                options.condition = Some(Condition::Present);
            }
            _ if is("IFEQ") && free => {
                options.condition = Some(Condition::Equal(words.next().ok_or_else(errors::syntax)?));
            }
            _ if is("GET") => options.tell = true,
            _ if is("KEEPTTL") && options.expiry.is_none() => options.keep = true,
            _ => match Unit::of_option(word) {
                // The same unit twice is no contradiction: the later time counts.
                Some(unit) if options.expiry.is_none_or(|(before, _)| before == unit) && !options.keep => {
                    options.expiry = Some((unit, words.next().ok_or_else(errors::syntax)?));
                }
                _ => return Err(errors::syntax()),
            },
        }
    }
    Ok(options)
}

fn setnx(scope: &mut Scope<'_>, words: &[Bytes]) -> Result<Reply, Reply> {
    if scope.get(&words[1]).is_some() {
        return Ok(Reply::Integer(0));
    }
    scope.put(&words[1], owned(&words[2]), None);
    Ok(Reply::Integer(1))
}

fn setex(scope: &mut Scope<'_>, words: &[Bytes]) -> Result<Reply, Reply> {
    set_for(scope, words, Unit::EX, "setex")
}

fn psetex(scope: &mut Scope<'_>, words: &[Bytes]) -> Result<Reply, Reply> {
    set_for(scope, words, Unit::PX, "psetex")
}

fn set_for(scope: &mut Scope<'_>, words: &[Bytes], unit: Unit, command: &str) -> Result<Reply, Reply> {
    let expires_ms = unit.positive(integer(&words[2])?, scope.wall_ms(), command)?;
    scope.put(&words[1], owned(&words[3]), Some(expires_ms));
    Ok(Reply::ok())
}

fn getset(scope: &mut Scope<'_>, words: &[Bytes]) -> Result<Reply, Reply> {
    let before = held(scope, &words[1]);
    scope.put(&words[1], owned(&words[2]), None);
    Ok(before)
}

fn getdel(scope: &mut Scope<'_>, words: &[Bytes]) -> Result<Reply, Reply> {
    let before = held(scope, &words[1]);
    scope.delete(&words[1]);
    Ok(before)
}

fn getex(scope: &mut Scope<'_>, words: &[Bytes]) -> Result<Reply, Reply> {
    let change = getex_options(&words[2..])?;
    let Some(value) = scope.get(&words[1]) else { return Ok(Reply::Null) };
    match change {
        None => {}
        Some(None) if value.expires_ms.is_none() => {}
        Some(None) => scope.expire(&words[1], None),
        Some(Some((unit, time))) => {
            let expires_ms = unit.positive(integer(time)?, scope.wall_ms(), "getex")?;
            scope.expire(&words[1], Some(expires_ms));
        }
    }
    Ok(Reply::Bulk(value.data.clone()))
}

/// None: the end stays. Otherwise the new one, if any.
fn getex_options(words: &[Bytes]) -> Result<Option<Option<(Unit, &Bytes)>>, Reply> {
    let mut change: Option<Option<(Unit, &Bytes)>> = None;
    let mut words = words.iter();
    while let Some(word) = words.next() {
        change = match (Unit::of_option(word), change) {
            (None, None | Some(None)) if word.eq_ignore_ascii_case(b"PERSIST") => Some(None),
            (Some(unit), None) => Some(Some((unit, words.next().ok_or_else(errors::syntax)?))),
            (Some(unit), Some(Some((before, _)))) if before == unit => {
                Some(Some((unit, words.next().ok_or_else(errors::syntax)?)))
            }
            _ => return Err(errors::syntax()),
        };
    }
    Ok(change)
}

fn append(scope: &mut Scope<'_>, words: &[Bytes]) -> Result<Reply, Reply> {
    let old = scope.get(&words[1]);
    let length = old.map_or(0, |value| value.data.len()) + words[2].len();
    if length > Limits::CLIENT.word {
        return Err(Reply::error("ERR string exceeds maximum allowed size (proto-max-bulk-len)"));
    }
    let mut data = BytesMut::with_capacity(length);
    data.extend_from_slice(old.map_or(&[], |value| &value.data));
    data.extend_from_slice(&words[2]);
    scope.put(&words[1], data.freeze(), old.and_then(|value| value.expires_ms));
    Ok(Reply::Integer(length as i64))
}

fn strlen(scope: &mut Scope<'_>, words: &[Bytes]) -> Result<Reply, Reply> {
    Ok(Reply::Integer(scope.get(&words[1]).map_or(0, |value| value.data.len() as i64)))
}

fn mget(scope: &mut Scope<'_>, words: &[Bytes]) -> Result<Reply, Reply> {
    Ok(Reply::Array(words[1..].iter().map(|key| held(scope, key)).collect()))
}

fn mset(scope: &mut Scope<'_>, words: &[Bytes]) -> Result<Reply, Reply> {
    if words.len().is_multiple_of(2) {
        return Err(errors::wrong_number("mset"));
    }
    for pair in words[1..].chunks_exact(2) {
        scope.put(&pair[0], owned(&pair[1]), None);
    }
    Ok(Reply::ok())
}

fn decrby(scope: &mut Scope<'_>, words: &[Bytes]) -> Result<Reply, Reply> {
    let less = integer(&words[2])?.checked_neg().ok_or_else(|| Reply::error("ERR decrement would overflow"))?;
    add(scope, &words[1], less)
}

fn add(scope: &mut Scope<'_>, key: &Bytes, more: i64) -> Result<Reply, Reply> {
    let old = scope.get(key);
    let number = old.map_or(Ok(0), |value| integer(&value.data))?;
    let sum = number.checked_add(more).ok_or_else(|| Reply::error("ERR increment or decrement would overflow"))?;
    scope.put(key, Bytes::from(sum.to_string()), old.and_then(|value| value.expires_ms));
    Ok(Reply::Integer(sum))
}
