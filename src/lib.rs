//! Keyval: an in-memory key-value mesh. See ARCHITECTURE.md for the map of this code.
//!
//! The layers, lowest first; each knows those above it alone (tests/tidy.rs checks).

pub mod planted;
pub mod sites;

pub mod types;

pub mod messages;

pub mod commands;
pub mod keyspace;
pub mod machines;
pub mod resp;
pub mod wire;

pub mod io;
pub mod settings;

pub mod sim;

pub mod actors;

#[cfg(test)]
mod ring;

pub mod cli;
