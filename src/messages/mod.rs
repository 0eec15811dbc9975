//! All that crosses a boundary, as plain data: between nodes, between actors, to and from the disk.
//!
//! One file a topic. Nothing here decides, and nothing here knows how it travels: `wire` turns peer messages into frames,
//! `resp` turns client messages into bytes, `actors` wrap them for their mailboxes.

mod causes_once;
pub mod chain;
pub mod client;
pub mod election;
pub mod events;
pub mod heartbeat;
pub mod orders;
pub mod ownership;
pub mod peer;
pub mod status;
