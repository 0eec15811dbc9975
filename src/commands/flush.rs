//! Commands on all keys at once.

use bytes::Bytes;

use super::data::Scope;
use super::errors;
use super::spec::{Flags, Join, Route, Spec, Work};
use crate::messages::client::Reply;

const FLUSH: Spec = Spec {
    arity: -1,
    flags: Flags::WRITE,
    categories: &["keyspace", "dangerous"],
    tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
    complexity: "O(N) in the number of keys",
    work: Work::Data(Route::Every(Join::Ok), flush),
    ..Spec::BASE
};

/// This family's part of the table.
pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        name: "dbsize",
        flags: Flags::READONLY.and(Flags::FAST),
        categories: &["keyspace"],
        tips: &["request_policy:all_shards", "response_policy:agg_sum"],
        summary: "Tells how many keys there are.",
        work: Work::Data(Route::Every(Join::Sum), dbsize),
        ..Spec::BASE
    },
    Spec { name: "flushall", summary: "Removes all keys. Not atomic.", ..FLUSH },
    Spec { name: "flushdb", summary: "Removes all keys, like FLUSHALL.", ..FLUSH },
];

fn dbsize(scope: &mut Scope<'_>, _: &[Bytes]) -> Result<Reply, Reply> {
    Ok(Reply::Integer(scope.keyspace().len() as i64))
}

fn flush(scope: &mut Scope<'_>, words: &[Bytes]) -> Result<Reply, Reply> {
    check_flush(words)?;
    scope.clear();
    Ok(Reply::ok())
}

/// Whether these are words of a flush: alone, or with how to do it, which makes no difference here.
pub(super) fn check_flush(words: &[Bytes]) -> Result<(), Reply> {
    match &words[1..] {
        [] => Ok(()),
        [how] if how.eq_ignore_ascii_case(b"ASYNC") || how.eq_ignore_ascii_case(b"SYNC") => Ok(()),
        _ => Err(errors::syntax()),
    }
}
