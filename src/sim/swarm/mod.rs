//! Swarms: the seed decides what happens to a mesh, and the rules are checked throughout.
//!
//! Each seed draws a mesh, its weather, its clocks, and a mix of faults (swarm testing after Groce and others, 2012: a run that
//! does not do everything does what it does more thoroughly). First comes *safety*: faults as they please, clients at work,
//! every rule checked. Then *liveness*, as TigerBeetle does it: everything is healed, and within a stated time the mesh must be
//! whole again: somebody commands, all agree, every range is served, the seats are filled and the shares are even. Then
//! it is left in peace for a while, and the history of every register is checked.
//!
//! A seed is a run: [`play`] gives the same digest each time.

mod aimed;
mod nemesis;
mod operators;
mod recovery;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::checker::Violation;
use super::network::{Host, Weather};
use super::trace::{Happening, Keep};
use super::world::{Spec, World};
use crate::machines::store::Limits;
use crate::messages::ownership::ReplicationMode::{Command, Value};
use crate::messages::ownership::{GiveUp, MeshSettings, Role};
use crate::types::Timing;
use nemesis::Nemesis;
pub use nemesis::{Harm, harms};

/// Within so much after the last fault the mesh must be whole again, but for the shares.
pub const HEALED_WITHIN: Duration = Duration::from_secs(45);

/// Within so many failure_timeouts after that the shares must be even too: two nodes that did not reach each other are not
/// put into one chain for 120 of them.
pub const EVEN_WITHIN: u32 = 160;

/// For so long clients only read then.
const READING: Duration = Duration::from_secs(3);

/// For so long it is left in peace then.
const PEACE: Duration = Duration::from_secs(5);

/// How many nodes a mesh has at first, as often as each stands here.
const NODES: [usize; 15] = [3, 3, 3, 3, 4, 4, 4, 5, 5, 5, 5, 6, 7, 8, 9];

/// How many holders a mesh keeps, as often as each stands here.
const COPIES: [u8; 6] = [1, 2, 2, 2, 3, 3];

/// What does not depend on the seed.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long a mesh is harmed.
    pub harm: Duration,
    /// How many nodes it has at first; the seed decides if nobody does.
    pub nodes: Option<usize>,
    /// How many holders each range should have; the seed decides if nobody does.
    pub copies: Option<u8>,
    /// How many clients work at once.
    pub clients: usize,
    /// The only harm that is done; the seed decides if nobody does.
    pub faults: Option<Vec<Harm>>,
    /// How much is kept for a person to read.
    pub keep: Keep,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            harm: Duration::from_secs(600),
            nodes: None,
            copies: None,
            clients: 4,
            faults: None,
            keep: Keep::Nothing,
        }
    }
}

/// What came of a seed.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Which.
    pub seed: u64,
    /// Of everything that happened.
    pub digest: [u8; 32],
    /// How much time passed in it.
    pub simulated: Duration,
    /// How many things happened.
    pub events: u64,
    /// What was done to the mesh, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Operations of clients that were answered, and those that were not.
    pub operations: (u64, u64),
    /// How many histories could not be judged, for that would have taken too long.
    pub unfinished: u64,
    /// The first rule that was broken, if one was.
    pub violation: Option<Violation>,
    /// What happened, as far as it was asked for.
    pub happenings: Vec<Happening>,
}

/// Plays one seed. A machine that panics breaks a rule too, where panics can be caught at all.
pub fn play(seed: u64, options: &Options) -> Outcome {
    let (mut world, mut nemesis) = begin(seed, options);
    let run = AssertUnwindSafe(|| run(&mut world, &mut nemesis, options));
    if let Err(panic) = catch_unwind(run) {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_string()));
        let now = world.now();
        world.checkers.violate(now, "beliefs", text.unwrap_or_else(|| "a machine panicked".into()));
    }
    let (answered, unanswered) =
        world.clients.iter().fold((0, 0), |sum, client| (sum.0 + client.answered, sum.1 + client.unanswered));
    Outcome {
        seed,
        digest: world.trace.digest(),
        simulated: world.now().since(super::clock::Time(0)),
        events: world.trace.events(),
        faults: nemesis.counts(&world),
        operations: (answered, unanswered),
        unfinished: world.checkers.unfinished(),
        violation: world.checkers.violation().cloned(),
        happenings: world.trace.take(),
    }
}

/// Draws a mesh.
fn begin(seed: u64, options: &Options) -> (World, Nemesis) {
    let mut random = ChaCha8Rng::seed_from_u64(seed ^ 0x5EED);
    // Drawn in any case, so that a seed that is played with other nodes or copies is much the same in all else.
    let drawn = *pick(&mut random, &NODES);
    let nodes = options.nodes.unwrap_or(drawn);
    let (drawn, least, mode) =
        (*pick(&mut random, &COPIES), random.gen_range(1..=3), *pick(&mut random, &[Value, Command]));
    let copies = options.copies.unwrap_or(drawn);
    let failure_timeout = Duration::from_millis(*pick(&mut random, &[500, 500, 500, 500, 500, 200, 1000, 1000]));
    let settings = MeshSettings {
        ranges: *pick(&mut random, &[16, 16, 32, 64]),
        timing: Timing { failure_timeout, ..Timing::default() },
        factor: copies,
        // More often than not a mesh says yes as soon as anybody has a write.
        min_copies: if random.gen_ratio(1, 3) { copies.min(least) } else { 1 },
        mode,
        repair_after: Duration::from_secs(*pick(&mut random, &[0, 2, 15])),
        give_up: GiveUp::ByCopies,
        voters: *pick(&mut random, &[5, 5, 3]),
        node_expiry: Duration::from_secs(*pick(&mut random, &[900, 120, 40])),
        ..MeshSettings::default()
    };
    let mut world = World::new(seed, settings);
    world.trace.keep(options.keep);
    world.sites = options.faults.is_none();
    let witness = nodes >= 3 && random.gen_ratio(1, 5);
    let together = random.gen_ratio(1, 3);
    let limits = limits(&mut random);
    let names: Vec<String> = (1..=nodes).map(|number| format!("n{number}:16234")).collect();
    for index in 0..nodes {
        let join = if index == 0 && !together { vec![] } else { others(&names, index) };
        world.add_place(Spec {
            role: if witness && index == nodes - 1 { Role::Witness } else { Role::Drone },
            weight: *pick(&mut random, &[100, 100, 100, 50, 200]),
            workers: *pick(&mut random, &[1, 1, 2]),
            join,
            found: together && index == 0,
            limits,
            ..Spec::default()
        });
    }
    world.network.weather = weather(&mut random);
    let drifts = random.gen_ratio(1, 2);
    let nemesis = Nemesis::new(random, drifts, options.faults.as_deref());
    (world, nemesis)
}

fn run(world: &mut World, nemesis: &mut Nemesis, options: &Options) {
    for host in world.hosts().collect::<Vec<_>>() {
        world.start(host);
    }
    let habits = nemesis.draw_habits();
    for index in 0..options.clients {
        let at = Host(index % world.places.len());
        world.add_client(habits, at);
    }
    let until = world.now() + options.harm;
    while world.now() < until && world.checkers.violation().is_none() {
        nemesis.act(world);
    }
    if world.checkers.violation().is_none() {
        recovery::heal(world, nemesis);
    }
    if world.checkers.violation().is_none() {
        world.advance(PEACE);
        world.look_quietly();
    }
    let now = world.now();
    world.checkers.finish(now);
}

/// In every other mesh all that is bounded is so small that the bounds are met: copies go in many parts, members that
/// were away have missed more than is kept, heads have more dirty writes than they may.
fn limits(random: &mut ChaCha8Rng) -> Limits {
    let wide = Limits::default();
    let narrow = Limits {
        backlog_bytes: *pick(random, &[200, 1 << 10, 8 << 10]),
        backlog_writes: *pick(random, &[1, 4, 64]),
        dirty_bytes: *pick(random, &[150, 600, 2 << 10]),
        // More than the longest value: a joiner to which that much is new is streamed anew, and would never be through.
        streaming_bytes: *pick(random, &[8 << 10, 32 << 10]),
        chunk_bytes: *pick(random, &[16, 64, 512]),
        parts_a_joiner: *pick(random, &[1, 2, 4]),
        parts_a_store: *pick(random, &[2, 8]),
        moving: *pick(random, &[Some(32 << 10), Some(256 << 10), None]),
        waiting_a_range: *pick(random, &[2, 16]),
        waiting: *pick(random, &[8, 64]),
        waiting_bytes: *pick(random, &[400, 8 << 10]),
        keys_a_step: *pick(random, &[1, 16]),
        counted_a_step: (*pick(random, &[1, 16]), 256),
        freed_a_step: *pick(random, &[1, 16]),
    };
    if random.gen_ratio(1, 2) { narrow } else { wide }
}

fn weather(random: &mut ChaCha8Rng) -> Weather {
    let calm = Weather::default();
    match random.gen_range(0..4) {
        0 => Weather { delay: (Duration::from_millis(1), Duration::from_millis(8)), ..calm },
        1 => Weather { late: 200, late_by: Duration::from_millis(60), ..calm },
        2 => Weather { breaks: *pick(random, &[20, 200]), ..calm },
        _ => calm,
    }
}

fn others(names: &[String], index: usize) -> Vec<String> {
    names.iter().filter(|name| **name != names[index]).cloned().collect()
}

fn pick<'a, T>(random: &mut ChaCha8Rng, all: &'a [T]) -> &'a T {
    &all[random.gen_range(0..all.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A short budget for every build; `keyval sim run` is for the long ones.
    #[test]
    fn some_seeds_break_no_rule_and_are_the_same_twice() {
        let options = Options { harm: Duration::from_secs(60), ..Options::default() };
        for seed in 1..=8 {
            let outcome = play(seed, &options);
            assert_eq!(outcome.violation, None, "seed {seed}");
            assert_eq!(outcome.unfinished, 0, "seed {seed}: not all was judged");
            assert!(outcome.operations.0 > 0, "seed {seed}: nobody was served");
            if seed <= 2 {
                assert_eq!(play(seed, &options).digest, outcome.digest, "seed {seed} is not one run");
            }
        }
    }
}
