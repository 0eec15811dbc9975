//! The real actors of several nodes on one thread, under a clock that stands still while anybody has something to do.
//!
//! The simulator (`sim`) plays the machines and leaves out the actors around them. Here it is the other way round: nothing of a
//! node is left out but what `actors::surroundings` names: the clock, chance, threads, sockets, the disk under the journal, and
//! signals. So mailboxes, the order of start and end, links, sessions, and the supervisor are those of production, and still one
//! seed is one run: the same digest each time.
//!
//! A process is a set of tasks: it is killed by dropping them, and paused by not polling them. A panic ends the process in which
//! it happens, as in production, and fails the run unless it was planted. What a seed does stands in `nemesis`; what is looked
//! at, in `book`. `KEYVAL_SEED=7 cargo test --lib ring::tests::seeds_1_to_12 -- --nocapture` plays one seed again.

mod book;
mod client;
mod disk;
mod nemesis;
mod network;
mod place;
mod tests;
mod world;
