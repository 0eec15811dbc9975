//! What clients can ask: one table of commands, and one file a family of them. Pure.
//!
//! A session asks [`admit`] what the words are, then [`plan()`] who must carry them out. What concerns the connection or the
//! node it does by itself ([`connection::run`], from a [`view::View`]); what concerns keys goes as a
//! [`Request`](crate::messages::client::Request) to the head of each range, which [`execute`]s it against its keyspace.
//! Executing only reads: what a command would change comes back as changes, which the head has written down its chain. So a
//! command runs once, whatever the number of copies, and every copy is made by the same changes.
//!
//! Replies, errors and their texts are those of Redis 7, byte for byte where a client could tell (`tests/commands`
//! compares). Not here: bytes (`resp`), leases and order (`machines::chain`), patience (`machines::door`).

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod cluster;
mod configuration;
pub mod connection;
mod data;
pub mod errors;
mod expiry;
mod flush;
mod generic;
mod glob;
mod info;
mod introspection;
pub mod mesh;
mod plan;
mod scan;
mod spec;
mod strings;
mod table;
pub mod view;

#[cfg(test)]
mod tests;

pub use data::{Executed, Scope, execute};
pub use plan::{Merge, Plan, Reach, plan};
pub use spec::{Flags, Join, KeyPlaces, Route, Spec, Work};
pub use table::{TABLE, admit, keys, lookup, resolve};
