//! What is proposed and confirmed, and what becomes of it.

use super::world::*;
use crate::machines::election::{Input, Proposed};
use crate::messages::election::MessageKind;
use crate::messages::ownership::Applied;

#[test]
fn what_was_committed_survives_the_commander() {
    for seed in 0..30 {
        let mut world = World::of(seed, 3);
        let version = world.change();
        let commander = world.commander().unwrap();
        world.crash(commander);
        let new = world.wait_commander();
        assert!(world.published(new).dictionary.version >= version, "seed {seed}");
    }
}

#[test]
fn a_loser_changed_nothing() {
    let mut world = World::of(2, 3);
    let commander = world.commander().unwrap();
    let loser = (1..=3).find(|node| *node != commander).unwrap();
    let before = world.published(loser).dictionary.clone();
    world.partition(&[loser]);
    world.run(3_000);
    let command = world.some_command();
    let request = world.propose(loser, command);
    assert_eq!(world.outcome(loser, request), Some(&Proposed::NotCommander));
    assert_eq!(world.published(loser).dictionary, before);
}

#[test]
fn many_proposals_are_made_one_by_one() {
    let mut world = World::of(3, 3);
    let commander = world.commander().unwrap();
    let before = world.published(commander).dictionary.version.0;
    let requests: Vec<u64> = (0..200)
        .map(|_| {
            let command = world.some_command();
            world.propose(commander, command)
        })
        .collect();
    world.wait("all applied", |world| requests.iter().all(|request| world.outcome(commander, *request).is_some()));
    for (place, request) in requests.iter().enumerate() {
        let Some(Proposed::Applied(Applied::Changed(version))) = world.outcome(commander, *request) else {
            panic!("{:?}", world.outcome(commander, *request))
        };
        assert_eq!(version.0, before + 1 + place as u64);
    }
}

#[test]
fn a_flood_of_proposals_is_bounded() {
    let mut world = World::of(3, 3);
    let commander = world.commander().unwrap();
    let others: Vec<u64> = (1..=3).filter(|node| *node != commander).collect();
    world.partition(&[commander]);
    let mut refused = 0;
    for _ in 0..12 {
        let mut big = candidate(1, 1, crate::messages::ownership::Role::Drone);
        big.zone = "z".repeat(1 << 20);
        let request = world.propose(commander, crate::messages::ownership::Command::Admit(big));
        refused += u32::from(world.outcome(commander, request) == Some(&Proposed::NotCommander));
    }
    assert!(refused >= 3, "{refused}");
    world.heal();
    let _ = others;
    world.wait_commander();
    world.change();
}

#[test]
fn askings_share_rounds_and_name_the_version() {
    let mut world = World::of(4, 5);
    let commander = world.commander().unwrap();
    let version = world.change();
    let sent = world.sent;
    let asks: Vec<u64> = (0..100).map(|_| world.confirm(commander)).collect();
    let took = world
        .wait("all confirmed", |world| asks.iter().all(|ask| world.confirmed.contains_key(&(id(commander), *ask))));
    assert!(took <= 60, "{took} ms");
    assert!(asks.iter().all(|ask| world.confirmed[&(id(commander), *ask)] >= version));
    assert!(world.sent - sent <= 40, "{} messages", world.sent - sent);
}

#[test]
fn a_sole_voter_confirms_at_once() {
    let mut world = World::new(5);
    world.wait_commander();
    let ask = world.confirm(1);
    assert!(world.confirmed.contains_key(&(id(1), ask)));
}

#[test]
fn a_deposed_commander_confirms_nothing() {
    for seed in 0..10 {
        let mut world = World::of(seed, 3);
        let old = world.commander().unwrap();
        world.partition(&[old]);
        let ask = world.confirm(old);
        world.wait("another rules", |world| world.commander().is_some_and(|node| node != old));
        world.change();
        world.wait("it is told", |world| world.again.contains(&(id(old), ask)));
        assert!(!world.confirmed.contains_key(&(id(old), ask)));
    }
}

/// Who asks while a round is under way is not answered by it: what it proves may have ended since.
#[test]
fn a_round_answers_nobody_who_came_after_it_began() {
    let mut world = World::of(5, 3);
    world.latency_us = 20_000;
    let commander = world.commander().unwrap();
    let first = world.confirm(commander);
    // The others have answered, and their answers are on their way.
    world.run(22);
    world.filter = Box::new(|_, _, _| false);
    let second = world.confirm(commander);
    world.wait("the second is answered", |world| world.again.contains(&(id(commander), second)));
    assert!(world.confirmed.contains_key(&(id(commander), first)));
}

#[test]
fn commits_are_written_without_a_sync_of_their_own() {
    let mut world = World::of(6, 3);
    let commander = world.commander().unwrap();
    world.run(1_000);
    let follower = (1..=3).find(|node| *node != commander).unwrap();
    let before = world.nodes[&id(follower)].disk.hard.commit;
    world.change();
    world.run(1_000);
    // Written a beat later all the same, so that a node that starts again knows most of what it knew.
    assert!(world.nodes[&id(follower)].disk.hard.commit > before);
    world.step(id(follower), Input::Timer);
}

#[test]
fn a_log_that_has_grown_long_is_compacted_and_a_newcomer_still_learns_it() {
    let mut world = World::of(7, 3);
    let commander = world.commander().unwrap();
    for _ in 0..12 {
        let requests: Vec<u64> = (0..100)
            .map(|_| {
                let command = world.some_command();
                world.propose(commander, command)
            })
            .collect();
        world.wait("applied", |world| requests.iter().all(|request| world.outcome(commander, *request).is_some()));
    }
    world.run(500);
    for node in 1..=3 {
        let disk = &world.nodes[&id(node)].disk;
        assert!(disk.snapshot.as_ref().unwrap().index > 1_000, "{:?}", disk.snapshot);
        assert!(disk.entries.len() < 400, "{}", disk.entries.len());
    }
    let snapshots = std::rc::Rc::new(std::cell::Cell::new(0));
    let seen = snapshots.clone();
    world.filter = Box::new(move |_, _, message| {
        seen.set(seen.get() + u32::from(message.kind == MessageKind::Snapshot));
        true
    });
    world.join(4, crate::messages::ownership::Role::Drone);
    let version = world.change();
    world.wait("it has all", |world| {
        world.nodes[&id(4)].published.as_ref().is_some_and(|published| published.dictionary.version == version)
    });
    assert_eq!(snapshots.get(), 1);
    // And a node that starts again has it from its own disk.
    world.crash(2);
    world.boot(2);
    assert!(world.published(2).dictionary.version.0 + 200 > version.0);
}
