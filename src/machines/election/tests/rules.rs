//! The ten rules of living with the library, each learnt from a failure.

use std::sync::{Arc, Mutex};

use raft::Storage;

use super::world::*;
use crate::machines::election::storage::Mirror;
use crate::machines::election::{Input, Proposed, quiet};
use crate::messages::election::{MessageKind, SeatsChange};
use crate::messages::ownership::Role;

/// Rule 1: The library would draw its timeout from the process's own randomness.
#[test]
fn rule_1_the_timer_is_ours_and_the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let mut world = World::of(seed, 5);
        world.loss = 50;
        let mut story = Vec::new();
        for _ in 0..6 {
            if let Some(commander) = world.commander() {
                world.crash(commander);
                world.run(1_500);
                world.boot(commander);
            }
            world.run(1_500);
            story.push((world.commander(), world.term(), world.sent, world.wakes));
        }
        story
    };
    assert_eq!(run(11), run(11));
    assert_ne!(run(11), run(12));
    // And a story sets a node's timeout by one input.
    let mut world = World::of(13, 3);
    let old = world.commander().unwrap();
    let chosen = (1..=3).find(|node| *node != old).unwrap();
    world.crash(old);
    world.run(world.t() - 20);
    world.step(id(chosen), Input::TimeOut);
    world.run(40);
    world.step(id(chosen), Input::TimeOut);
    world.run(20);
    assert_eq!(world.commander(), Some(chosen));
}

/// Rule 2: A receiver ignores a snapshot whose seats do not name it, and nobody would send another.
#[test]
fn rule_2_a_snapshot_names_its_receiver() {
    let world = World::of(1, 3);
    let mirror = Mirror::new(world.nodes[&id(1)].disk.clone()).unwrap();
    // As of its start only the founder is seated.
    assert!(mirror.snapshot(0, 1).is_ok());
    for stranger in [2, 3, 9] {
        let unavailable = raft::Error::Store(raft::StorageError::SnapshotTemporarilyUnavailable);
        assert_eq!(mirror.snapshot(0, stranger).unwrap_err(), unavailable);
    }
    assert!(mirror.snapshot(1_000, 1).is_err());
}

/// Rule 3: A lost snapshot message is never retried by the library.
#[test]
fn rule_3_a_lost_snapshot_is_sent_again() {
    let mut world = World::of(2, 3);
    let left = Arc::new(Mutex::new(3));
    let losses = left.clone();
    world.filter = Box::new(move |_, _, message| {
        let mut left = losses.lock().unwrap();
        let lose = message.kind == MessageKind::Snapshot && *left > 0;
        *left -= u32::from(lose);
        !lose
    });
    world.join(4, Role::Drone);
    world.wait_for(15_000, "it has the dictionary", |world| world.nodes[&id(4)].published.is_some());
    assert_eq!(*left.lock().unwrap(), 0);
}

/// Rule 4: A node that is given a snapshot must neither apply it, nor hear anything, before it is stable.
#[test]
fn rule_4_deaf_until_a_received_snapshot_is_stable() {
    let mut world = World::of(3, 3);
    world.add(4, Role::Drone);
    world.node(4).disk_ms = 1_500;
    world.boot(4);
    let commander = world.commander().unwrap();
    world.propose(commander, crate::messages::ownership::Command::Admit(candidate(4, 1, Role::Drone)));
    for _ in 0..40 {
        let command = world.some_command();
        world.propose(commander, command);
        world.run(50);
        let disk_has = world.nodes[&id(4)].disk.snapshot.is_some();
        let published = world.nodes[&id(4)].published.is_some();
        assert!(disk_has || !published, "published before it is stable");
        world.step(id(4), Input::Timer);
        world.step(id(4), Input::TimeOut);
    }
    world.node(4).disk_ms = 1;
    let version = world.change();
    world.wait("it has all", |world| {
        world.nodes[&id(4)].published.as_ref().is_some_and(|published| published.dictionary.version >= version)
    });
}

/// Rule 5: A commander that has lost its seat would go on leading, and then panic.
#[test]
fn rule_5_a_removed_commander_leads_no_more() {
    let mut world = World::of(4, 3);
    let commander = world.commander().unwrap();
    let change = SeatsChange { gone: vec![id(commander)], ..SeatsChange::default() };
    world.node(commander).machine.as_mut().unwrap().propose_seats(&change);
    world.step(id(commander), Input::Timer);
    world.wait("another rules", |world| world.commander().is_some_and(|node| node != commander));
    assert!(!world.published(commander).commanding);
    // It is on the roster still, so it gets a seat again.
    world.wait("it learns again", |world| {
        world.commander().is_some_and(|node| world.published(node).seats.votes(id(commander)))
    });
    world.change();
}

/// Rule 6: Rounds are dropped without a word before the first commit of a term, and when the lead changes.
#[test]
fn rule_6_every_asking_is_answered() {
    let mut world = World::of(5, 3);
    let old = world.commander().unwrap();
    let follower = (1..=3).find(|node| *node != old).unwrap();
    let ask = world.confirm(follower);
    assert!(world.again.contains(&(id(follower), ask)), "it does not command");
    // Elected, but nothing of its term can be committed: all appends are lost.
    world.crash(old);
    world.filter = Box::new(|_, _, message| message.kind != MessageKind::Append);
    world.wait("somebody leads", |world| {
        (1..=3).any(|node| node != old && world.published(node).commander == Some(id(node)))
    });
    let leader = (1..=3).find(|node| *node != old && world.published(*node).commander == Some(id(*node))).unwrap();
    let ask = world.confirm(leader);
    assert!(world.again.contains(&(id(leader), ask)), "nothing of its term is committed");
    world.filter = Box::new(|_, _, _| true);
    let commander = world.wait_commander();
    // A round whose messages are lost is given up after T.
    world.filter = Box::new(|_, _, message| message.context.is_empty());
    let ask = world.confirm(commander);
    let took = world.wait("answered", |world| world.again.contains(&(id(commander), ask)));
    assert!(took <= 2 * world.t(), "{took} ms");
}

/// Rule 7: A joint change is completed by an empty record; three of five seats change hands so.
#[test]
fn rule_7_a_joint_change_is_completed() {
    let world = World::of(6, 5);
    let commander = world.commander().unwrap();
    let events = &world.nodes[&id(commander)].notes;
    let texts: Vec<&str> = events.iter().map(|event| event.text.as_str()).collect();
    assert!(texts.iter().any(|text| text.contains("together with")), "{texts:#?}");
    assert!(texts.iter().any(|text| text.ends_with("the change is complete")), "{texts:#?}");
    assert!(world.published(commander).seats.outgoing.is_empty());
}

/// Rule 8: What a deposed commander proposed is unknown to it: it may yet be committed. And no answer is given twice, or to the
/// wrong proposal.
#[test]
fn rule_8_unknown_is_never_called_failed() {
    let (mut committed, mut lost) = (0, 0);
    for seed in 0..40 {
        let mut world = World::of(seed, 3);
        let old = world.commander().unwrap();
        let command = world.some_command();
        let before = world.published(old).dictionary.version;
        // Some of these reach a follower, some do not.
        world.latency_us = 4_000;
        let request = world.propose(old, command);
        world.run(seed % 8 / 2);
        world.partition(&[old]);
        world.wait("answered", |world| world.outcome(old, request).is_some());
        match world.outcome(old, request) {
            Some(Proposed::Unknown) => {}
            Some(Proposed::Applied(_)) => continue,
            other => panic!("{other:?}"),
        }
        world.wait("another rules", |world| world.commander().is_some_and(|node| node != old));
        let new = world.commander().unwrap();
        if world.published(new).dictionary.version > before { committed += 1 } else { lost += 1 }
    }
    assert!(committed > 0 && lost > 0, "committed {committed}, lost {lost}: unknown was both");
}

/// Rule 9: A false belief ends the process: here a commander that was acknowledged more than this disk has.
#[test]
fn rule_9_a_false_belief_ends_the_process() {
    let mut world = World::of(7, 3);
    let commander = world.commander().unwrap();
    let follower = (1..=3).find(|node| *node != commander).unwrap();
    for _ in 0..5 {
        world.change();
    }
    world.run(300);
    let old_copy = world.nodes[&id(follower)].disk.clone();
    for _ in 0..5 {
        world.change();
    }
    world.run(300);
    world.crash(follower);
    world.node(follower).disk = old_copy;
    world.boot(follower);
    world.wait("it ends", |world| world.nodes[&id(follower)].ended.is_some());
    let reason = world.nodes[&id(follower)].ended.clone().unwrap();
    assert!(reason.contains("older copy"), "{reason}");
    world.change();
}

/// Rule 10: The library logs through slog, and much of it.
#[test]
fn rule_10_the_library_is_heard_in_our_log_and_formats_nothing_unheard() {
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    struct Never;
    impl std::fmt::Display for Never {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            panic!("formatted, though nobody listens")
        }
    }
    let lines = Lines::default();
    let target = lines.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_writer(move || target.clone()).finish();
    tracing::subscriber::with_default(subscriber, || {
        let logger = quiet::logger();
        slog::info!(logger, "became follower at term {}", 3; "from" => 5);
        slog::trace!(logger, "{}", Never);
    });
    let lines = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert!(lines.contains("DEBUG") && lines.contains("became follower at term 3, from: 5"), "{lines}");
}
