//! `CONFIG`: what is set, for people and for clients that ask. Settings are changed in the file and by `keyval ctl`.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::connection::Ran;
use super::glob;
use super::spec::{Flags, Spec, Work};
use super::view::{ConnectionState, Door, View};
use crate::messages::client::Reply;

const CONFIG: Spec = Spec { since: "2.0.0", ..Spec::BASE };

/// This family's part of the table.
pub(super) const COMMANDS: &[Spec] = &[Spec {
    name: "config",
    arity: -2,
    summary: "About settings.",
    complexity: "See the subcommands",
    subcommands: &[
        Spec {
            name: "config|get",
            arity: -3,
            flags: Flags::ADMIN.and(Flags::NOSCRIPT).and(Flags::LOADING).and(Flags::STALE),
            summary: "Tells the settings whose names fit one of the patterns.",
            complexity: "O(N) in the number of settings",
            work: Work::Connection(get),
            ..CONFIG
        },
        Spec {
            name: "config|help",
            arity: 2,
            flags: Flags::LOADING.and(Flags::STALE),
            since: "5.0.0",
            summary: "Lists the subcommands.",
            work: Work::Connection(super::introspection::help),
            ..CONFIG
        },
    ],
    ..CONFIG
}];

/// What clients and tools of Redis ask for, as far as it has an answer here that is true.
const OF_REDIS: [(&str, &str); 11] = [
    ("appendfsync", "no"),
    ("appendonly", "no"),
    ("databases", "1"),
    ("lazyfree-lazy-expire", "no"),
    ("maxmemory", "0"),
    ("maxmemory-policy", "noeviction"),
    ("maxmemory-samples", "5"),
    ("notify-keyspace-events", ""),
    ("proto-max-bulk-len", "536870912"),
    ("save", ""),
    ("timeout", "0"),
];

fn get(_: &mut ConnectionState, view: &View, words: &[Bytes]) -> Ran {
    let patterns: Vec<Vec<u8>> = words[2..].iter().map(|pattern| pattern.to_ascii_lowercase()).collect();
    let is_asked = |name: &str| patterns.iter().any(|pattern| glob::matches(pattern, name.as_bytes()));
    let enabled = if view.door == Door::Cluster { "yes" } else { "no" };
    let mut all: BTreeMap<&str, &str> = OF_REDIS.into_iter().chain([("cluster-enabled", enabled)]).collect();
    all.extend(view.me.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let told = all.into_iter().filter(|(name, _)| is_asked(name) && !is_secret(name));
    Reply::Map(told.map(|(name, value)| (Reply::text(name), Reply::text(value))).collect()).into()
}

fn is_secret(name: &str) -> bool {
    name.ends_with("password") || name.ends_with("secret")
}
