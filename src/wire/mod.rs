//! Peers' frames to messages and back, and records of the log and the disk: CBOR behind one module, with its limits. Pure.

pub mod codec;
