//! The same machines in a made-up world: one seed decides everything that happens to them.
//!
//! Production steps its machines by actors, sockets, files and timers. Here one queue of events does: true time, a clock for
//! each node, a network and disks with faults. Whatever leaves a machine for another node travels in the production codec. One
//! generator, seeded once, draws every delay and every fault, and nothing else is random, so a seed is a run: the same seed gives
//! the same digest (`trace`), and a run that breaks a rule (`checker`) can be had again.
//!
//! Two ways lead in: stories (`script`), in which somebody says what happens and reads what came of it, and swarms
//! (`swarm`), in which the seed does. What is not simulated: threads, sockets, files, and the postmen themselves; `node` says how
//! the machines of one process are wired, as `actors` wires them.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod checker;
pub mod client;
pub mod clock;
pub mod disk;
pub mod network;
pub mod node;
pub mod queue;
pub mod script;
pub mod swarm;
pub mod trace;
pub mod world;
