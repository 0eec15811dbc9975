//! Peers' frames to messages and back, and records of the log and the disk: CBOR behind one module, with its limits. Pure.
//!
//! A peer connection is: the four bytes of the protocol from each side, the handshake's frames, then frames of messages
//! until it breaks. `codec` turns values into bytes, `frame` marks where one ends, `handshake` decides who is heard.
//! docs/protocol.md tells the whole. Not here: sockets and their time limits (`actors`).

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod codec;
pub mod frame;
pub mod handshake;
