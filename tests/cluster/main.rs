//! Stories with real processes and real sockets: what a user would see, asked from outside.
//!
//! One mesh at a time, since times are measured. Each story plays a few rounds; what the README promises is measured with
//! `make build` and then `KEYVAL_BINARY=$PWD/target/release/keyval KEYVAL_ROUNDS=20 cargo test --test cluster -- --nocapture`.
//! `KEYVAL_SECONDS` and `KEYVAL_SEED` say how long the bad days last, and which they are.

mod bad_days;
mod client;
mod failover;
mod front_door;
mod losses;
mod mesh;
mod orders;
mod paused_holder;
mod places;
mod proxy;
mod refusals;
mod roster;
mod siege;

/// How often a story repeats its fault.
fn rounds(usual: usize) -> usize {
    std::env::var("KEYVAL_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(usual)
}
