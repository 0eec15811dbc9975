//! Random worlds: crashes, pauses, cuts, losses, slow disks that forget, roster changes; the world's checkers watch.

use rand::Rng;

use super::world::*;
use crate::machines::election::{Input, Proposed};
use crate::messages::election::{ElectionMessage, Entry, MessageKind, Payload, SeatsChange};
use crate::messages::ownership::{Applied, Cause, Command, Role};
use crate::types::{Incarnation, Term, Version};

/// One random life of a mesh. Everything that was acknowledged is there at the end, and the mesh works again once it is
/// left alone.
fn live(seed: u64) {
    let mut world = World::of(seed, 3 + seed % 3);
    world.loss = [0, 0, 20, 200][(seed % 4) as usize];
    let mut newest = Version(0);
    let mut pending: Vec<(u64, u64)> = Vec::new();
    let mut next_node = 20;
    for _ in 0..60 {
        let nodes: Vec<u64> = world.nodes.keys().map(|node| node.0).collect();
        let node = nodes[world.rng.gen_range(0..nodes.len())];
        let up = world.nodes[&id(node)].machine.is_some();
        match world.rng.gen_range(0..14) {
            0 | 1 if up => world.crash(node),
            0..=3 if !up && world.nodes[&id(node)].ended.is_none() => world.boot(node),
            2 => world.pause(node),
            3 | 4 => nodes.iter().for_each(|node| world.resume(*node)),
            5 => {
                let other = nodes[world.rng.gen_range(0..nodes.len())];
                world.cuts.insert((id(node), id(other)));
            }
            6 => world.partition(&[node]),
            7 => world.heal(),
            8 => world.node(node).disk_ms = [1, 10, 100, 1_000][world.rng.gen_range(0..4)],
            9 => world.node(node).drift = world.rng.gen_range(-50_000..=50_000),
            10 => world.step(id(node), Input::TimeOut),
            11 if nodes.len() < 9 => {
                next_node += 1;
                world.add(next_node, if next_node % 4 == 0 { Role::Witness } else { Role::Drone });
                world.boot(next_node);
            }
            12 if node != 1 => {
                if let Some(commander) = world.commander() {
                    let (life, cause) = (Incarnation(1), Cause::Dropped(id(node)));
                    world.propose(commander, Command::Bury { node: id(node), incarnation: life, cause: cause.clone() });
                    world.propose(commander, Command::Remove { node: id(node), cause });
                }
            }
            _ => world.step(id(node), Input::StepDown { to: None }),
        }
        if let Some(commander) = world.commander() {
            let command = world.some_command();
            pending.push((commander, world.propose(commander, command)));
            world.confirm(commander);
            for (node, state) in world.nodes.iter().map(|(node, state)| (node.0, state.role)).collect::<Vec<_>>() {
                if node > 20 && !world.published(commander).dictionary.gone.contains_key(&id(node)) {
                    world.propose(commander, Command::Admit(candidate(node, 1, state)));
                }
            }
        }
        let span = world.rng.gen_range(1..1_500);
        world.run(span);
        for (node, request) in &pending {
            if let Some(Proposed::Applied(Applied::Changed(version))) = world.outcome(*node, *request) {
                newest = newest.max(*version);
            }
        }
    }
    world.heal();
    world.loss = 0;
    for node in world.nodes.keys().map(|node| node.0).collect::<Vec<_>>() {
        world.node(node).disk_ms = 1;
        if world.nodes[&id(node)].machine.is_none() && world.nodes[&id(node)].ended.is_none() {
            world.boot(node);
        }
        world.resume(node);
    }
    world.wait_for(60_000, "a commander", |world| world.commander().is_some());
    let last = world.change();
    assert!(last > newest, "seed {seed}: {newest} was acknowledged, {last} is newest");
    world.wait_for(60_000, "all on the roster have it", |world| {
        let Some(commander) = world.commander() else { return false };
        let roster = &world.published(commander).dictionary.roster;
        roster.keys().all(|node| {
            world.nodes[node].published.as_ref().is_some_and(|published| published.dictionary.version >= last)
        })
    });
}

/// `ELECTION_SEEDS=A..B` plays these instead.
fn seeds(usual: std::ops::Range<u64>) -> std::ops::Range<u64> {
    let asked = std::env::var("ELECTION_SEEDS").ok().and_then(|range| {
        let (from, to) = range.split_once("..")?;
        Some(from.parse().ok()?..to.parse().ok()?)
    });
    asked.unwrap_or(usual)
}

#[test]
fn random_lives() {
    seeds(0..60).for_each(live);
}

/// A broken peer says whatever comes to its mind, with numbers near those that are true: nobody panics. It may end a
/// node, with a reason, for the node cannot know whether a commander or itself has lost something.
#[test]
fn nonsense_from_a_peer_panics_nobody() {
    use MessageKind::*;
    let kinds = [
        Append,
        AppendResponse,
        RequestVote,
        RequestVoteResponse,
        RequestPreVote,
        RequestPreVoteResponse,
        Snapshot,
        Heartbeat,
        HeartbeatResponse,
        TimeoutNow,
    ];
    let (mut heard, mut ends) = (0, 0);
    for seed in seeds(0..60) {
        let mut world = World::of(seed, 3);
        // What a liar makes others believe may well contradict: the world's checkers would only say that it lied.
        world.trusting = true;
        let real = world.nodes[&id(1)].disk.snapshot.clone().unwrap();
        for _ in 0..300 {
            let term = world.term();
            let near = |rng: &mut rand_chacha::ChaCha8Rng, about: u64| match rng.gen_range(0..20) {
                0 => u64::MAX - rng.gen_range(0..2),
                1 => 0,
                2 => 1 << rng.gen_range(0..64),
                _ => (about + rng.gen_range(0..4)).saturating_sub(2),
            };
            let rng = &mut world.rng;
            let (index, now) = (near(rng, 20), near(rng, term));
            let mut at = if rng.gen_bool(0.8) { index } else { near(rng, 20) };
            let entry = |rng: &mut rand_chacha::ChaCha8Rng, at: u64| Entry {
                index: at,
                term: Term(near(rng, term)),
                payload: match rng.gen_range(0..3) {
                    0 => Payload::Empty,
                    1 => Payload::Command(vec![0xff; rng.gen_range(0..4)]),
                    _ => Payload::Seats(SeatsChange { gone: vec![id(rng.gen_range(0..4))], ..SeatsChange::default() }),
                },
            };
            let count = rng.gen_range(0..4);
            let entries = (0..count).map(|_| {
                at = at.saturating_add(1);
                entry(rng, at)
            });
            let entries = entries.collect();
            let mut snapshot = real.clone();
            (snapshot.index, snapshot.term) = (near(rng, 20), Term(near(rng, term)));
            if rng.gen_bool(0.3) {
                snapshot.seats.learners = vec![id(rng.gen_range(0..4)), id(rng.gen_range(0..4))];
            }
            let kind = kinds[rng.gen_range(0..kinds.len())];
            let message = ElectionMessage {
                kind,
                term: Term(now),
                log_term: near(rng, term),
                index,
                entries: if kind == Append || rng.gen_bool(0.1) { entries } else { vec![] },
                commit: near(rng, 20),
                commit_term: near(rng, term),
                snapshot: (kind == Snapshot || rng.gen_bool(0.05)).then(|| Box::new(snapshot)),
                reject: rng.gen_bool(0.5),
                reject_hint: near(rng, 20),
                context: vec![0; rng.gen_range(0..9) * 8],
                priority: rng.gen_range(-3..9),
            };
            let (from, to) = (rng.gen_range(0..5), rng.gen_range(1..=3));
            let span = rng.gen_range(0..30);
            world.step(id(to), Input::Peer { from: id(from), message });
            world.run(span);
            heard += 1;
            for node in 1..=3 {
                if world.node(node).ended.take().is_some() || world.node(node).machine.is_none() {
                    ends += 1;
                    world.boot(node);
                }
            }
        }
    }
    assert!(ends * 10 < heard, "{heard} messages, {ends} ends");
}
