//! Stories of the election machine, told in a small world of its own: seeded, with slow disks that forget what was not
//! synced, clocks that differ, links that lose, and processes that are paused.

mod commands;
mod elections;
mod faults;
mod roster;
mod rules;
mod world;
