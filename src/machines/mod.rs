//! How the mesh decides: pure state machines, and the contract that all of them keep.
//!
//! A machine is told one thing at one instant and answers with a list of effects. It has no clock, no socket, no thread and
//! no randomness but its own seeded one, and its maps are ordered: the same inputs give the same effects, in production and
//! in `sim`. An actor is its postman: it carries the effects out in the order listed.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use crate::types::{Instant, Now};

pub mod chain;
pub mod chronicle;
pub mod dictionary;
pub mod door;
pub mod election;
pub mod heartbeat;
pub mod joining;
pub mod ownership;
pub mod placement;
pub mod store;

/// What every machine is.
pub trait Machine {
    /// What it can be told. Each has a `Timer` among them, for when the deadline has come.
    type Input;
    /// What it can ask for. Carried out in the order listed: what must be stable stands before what promises it.
    type Effect;

    /// Hears `input` at `now`, and appends what follows to `effects`.
    fn step(&mut self, now: Now, input: Self::Input, effects: &mut Vec<Self::Effect>);

    /// When it wants to be told `Timer`, unless something else comes first.
    fn deadline(&self) -> Option<Instant>;
}
