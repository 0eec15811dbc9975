//! Stories with real processes and real sockets: what a user would see, asked from outside.
//!
//! One mesh at a time, since times are measured. `KEYVAL_ROUNDS=20 cargo test --release --test cluster` measures what the
//! README promises; without it each story plays a few rounds.

mod client;
mod failover;
mod front_door;
mod mesh;
mod refusals;
mod roster;

/// How often a story repeats its fault.
fn rounds(usual: usize) -> usize {
    std::env::var("KEYVAL_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(usual)
}
