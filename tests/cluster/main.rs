//! Stories with real processes and real sockets: what a user would see, asked from outside.
//!
//! One mesh at a time, since times are measured. Each story plays a few rounds; what the README promises is measured with
//! `make build` and then `KEYVAL_BINARY=$PWD/target/release/keyval KEYVAL_ROUNDS=20 cargo test --test cluster -- --nocapture`.
//! `KEYVAL_SECONDS` and `KEYVAL_SEED` say how long the bad days last, and which they are; `KEYVAL_KEYS` and `KEYVAL_MEGABYTES` how
//! much there is to repair or to move, `KEYVAL_RATE` how many writes a second go on meanwhile.

mod bad_days;
mod chaos;
mod client;
mod cut_link;
mod failover;
mod front_door;
mod growth;
mod losses;
mod mesh;
mod orders;
mod paused_holder;
mod places;
mod refusals;
mod repair;
mod roster;
mod siege;

use keyval::cli::chaos::proxy;

/// How often a story repeats its fault.
fn rounds(usual: usize) -> usize {
    number_from_environment("KEYVAL_ROUNDS", usual as u64) as usize
}

/// How much of something there is to be, unless it is as usual.
fn number_from_environment(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(usual)
}
