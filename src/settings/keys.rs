//! The one table of keys: name, where its value stands, how it is read and shown.

use super::Settings;
use super::text::{Bytes, Drift, Text};

/// A key as it is written in a file, `section.name`.
pub struct Key {
    /// Its whole name.
    pub name: &'static str,
    /// Whether it belongs to the node or to the mesh.
    pub scope: Scope,
    /// Whether its value is never shown.
    pub secret: bool,
    /// Whether it holds a list.
    pub list: bool,
    /// Puts a value in its place; what is wanted, where this is none.
    pub(super) read: fn(&mut Settings, &str) -> Result<(), String>,
    /// The value as it could be written in a file.
    pub(super) show: fn(&Settings) -> String,
}

/// Whose a setting is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Each node has its own.
    Node,
    /// The founder's holds for all.
    Mesh,
    /// Laid down when the mesh is founded, for good.
    Founding,
}

macro_rules! keys {
    ($($scope:ident $name:literal $($place:ident).+ $(as $wrap:ident)?),* $(,)?) => {
        const KEYS: &[Key] = &[$(Key {
            name: $name,
            scope: Scope::$scope,
            secret: keys!(@secret $($place).+),
            list: keys!(@list $($place).+),
            read: |settings, text| {
                settings.$($place).+ = keys!(@read text $(, $wrap)?)?;
                Ok(())
            },
            show: |settings| keys!(@show settings.$($place).+ $(, $wrap)?),
        }),*];
    };
    (@read $text:ident) => { Text::read($text) };
    (@read $text:ident, $wrap:ident) => { $wrap::read($text).map($wrap::into) };
    (@show $value:expr) => { Text::show(&$value) };
    (@show $value:expr, $wrap:ident) => { $wrap::from($value.clone()).show() };
    (@secret client.password) => { true };
    (@secret mesh.secret) => { true };
    (@secret $($other:ident).+) => { false };
    (@list mesh.join) => { true };
    (@list $($other:ident).+) => { false };
}

keys! {
    Founding "clock_drift" times.clock_drift as Drift,
    Founding "failure_timeout" times.failure_timeout,
    Mesh "node_expiry" times.node_expiry,
    Node "node.name" node.name,
    Node "node.role" node.role,
    Node "node.data_dir" node.data_dir,
    Node "node.zone" node.zone,
    Node "node.weight" node.weight,
    Node "node.workers" node.workers,
    Node "node.on_term" node.on_term,
    Node "node.grace" node.grace,
    Node "client.listen" client.listen,
    Node "client.announce" client.announce,
    Node "client.park" client.park,
    Node "client.password" client.password,
    Node "client.protected" client.protected,
    Node "client.max_clients" client.max_clients,
    Node "client.output_limit" client.output_limit as Bytes,
    Node "client.query_limit" client.query_limit as Bytes,
    Node "client.idle_timeout" client.idle_timeout,
    Node "cluster.listen" cluster.listen,
    Node "cluster.announce" cluster.announce,
    Node "console.listen" console.listen,
    Node "console.announce" console.announce,
    Node "peer.listen" peer.listen,
    Node "peer.announce" peer.announce,
    Node "mesh.join" mesh.join,
    Node "mesh.found" mesh.found,
    Node "mesh.secret" mesh.secret,
    Founding "mesh.ranges" mesh.ranges,
    Mesh "replication.factor" replication.factor,
    Mesh "replication.min_copies" replication.min_copies,
    Mesh "replication.mode" replication.mode,
    Mesh "replication.on_total_loss" replication.on_total_loss,
    Mesh "replication.give_up" replication.give_up,
    Mesh "replication.repair_after" replication.repair_after,
    Node "placement.budget" placement.budget as Bytes,
    Mesh "election.voters" election.voters,
    Node "log.level" log.level,
    Node "log.format" log.format,
}

/// All keys.
pub fn keys() -> &'static [Key] {
    KEYS
}

/// The key that is spelled most like this one, if it is near enough to be meant.
pub(super) fn near(name: &str) -> Option<&'static str> {
    let (distance, key) = KEYS.iter().map(|key| (edits(name, key.name), key.name)).min()?;
    (distance <= 1 + key.len() / 5).then_some(key)
}

/// How many letters must be put in, taken out or changed to make one of the other (Levenshtein, 1966).
fn edits(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, letter) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, opposite) in other.iter().enumerate() {
            let changed = diagonal + usize::from(letter != *opposite);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[other.len()]
}
