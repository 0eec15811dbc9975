//! `SCAN`: all keys, a few at a time. What the client holds as a cursor is a place in a range; see `plan` for the ranges.

use bytes::Bytes;

use super::data::{Scope, integer};
use super::spec::{Flags, Route, Spec, Work};
use super::{errors, glob};
use crate::messages::client::Reply;

/// How many keys are looked at in a step, unless the client says.
pub(super) const COUNT: usize = 10;
/// How many at most, whatever the client says: a step never takes long.
const MOST: usize = 10_000;

/// This family's part of the table.
pub(super) const COMMANDS: &[Spec] = &[Spec {
    name: "scan",
    arity: -2,
    flags: Flags::READONLY,
    categories: &["keyspace"],
    tips: &["nondeterministic_output", "request_policy:special"],
    group: "generic",
    since: "2.8.0",
    summary: "Lists all keys, a few at a time. A key that is there all the time is listed.",
    complexity: "O(1) for a step, O(N) in the number of keys for all",
    work: Work::Data(Route::Scan, scan),
    ..Spec::BASE
}];

/// What a scan was asked.
pub(super) struct Scan<'a> {
    pub(super) cursor: u64,
    pub(super) count: usize,
    pattern: Option<&'a [u8]>,
    kind: Option<&'a [u8]>,
}

impl<'a> Scan<'a> {
    pub(super) fn read(words: &'a [Bytes]) -> Result<Self, Reply> {
        let cursor = std::str::from_utf8(&words[1]).ok().and_then(|text| text.parse().ok());
        let cursor = cursor.ok_or_else(|| Reply::error("ERR invalid cursor"))?;
        let mut scan = Self { cursor, count: COUNT, pattern: None, kind: None };
        for option in words[2..].chunks(2) {
            let [name, value] = option else { return Err(errors::syntax()) };
            match &name.to_ascii_uppercase()[..] {
                b"COUNT" => match integer(value)? {
                    count if count < 1 => return Err(errors::syntax()),
                    count => scan.count = count.min(MOST as i64) as usize,
                },
                b"MATCH" => scan.pattern = Some(value),
                b"TYPE" => scan.kind = Some(value),
                _ => return Err(errors::syntax()),
            }
        }
        Ok(scan)
    }
}

/// One step in one range. The cursor is the place in it; 0 in the answer: this range is through.
fn scan(scope: &mut Scope<'_>, words: &[Bytes]) -> Result<Reply, Reply> {
    let scan = Scan::read(words)?;
    let step = scope.keyspace().scan(scan.cursor, scan.count);
    let wanted = |key: &Bytes| scan.pattern.is_none_or(|pattern| glob::matches(pattern, key));
    let of_kind = scan.kind.is_none_or(|kind| kind.eq_ignore_ascii_case(b"string"));
    let keys = step
        .entries
        .iter()
        .filter(|(key, value)| of_kind && !crate::keyspace::is_over(value, scope.wall_ms()) && wanted(key));
    let keys = keys.map(|(key, _)| Reply::Bulk((*key).clone())).collect();
    Ok(Reply::Array(vec![Reply::text(step.next.unwrap_or(0).to_string()), Reply::Array(keys)]))
}
