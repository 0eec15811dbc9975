//! The shared words: what a node, a range, a term and an instant are called everywhere.
//!
//! Newtypes rather than aliases, so that a term is never compared with an epoch. Nothing here knows a socket, a clock or a
//! thread. Words are those of ARCHITECTURE.md, section "Words".

mod ids;
mod slot;
pub mod span;
mod time;

pub use ids::{Epoch, Generation, Incarnation, MeshId, NodeId, Sequence, Stamp, Term, Version};
pub use slot::{RangeId, SLOTS, Slot};
pub use time::{Instant, Now, Timing};
