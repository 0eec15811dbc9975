//! Who counts, while nodes come and go.

use super::world::*;
use crate::machines::election::{Input, Proposed};
use crate::messages::events::EventKind;
use crate::messages::ownership::{Cause, Command, Role};
use crate::types::Incarnation;

fn seats_settled(world: &World, voters: usize, learners: usize) -> bool {
    world.commander().is_some_and(|commander| {
        let seats = &world.published(commander).seats;
        seats.outgoing.is_empty() && seats.voters.len() == voters && seats.learners.len() == learners
    })
}

#[test]
fn seats_grow_from_odd_to_odd() {
    for (nodes, voters) in [(1, 1), (2, 2), (3, 3), (4, 3), (5, 5), (6, 5), (9, 5)] {
        let mut world = World::of(nodes, nodes);
        world.run(3_000);
        assert!(seats_settled(&world, voters, nodes as usize - voters), "{nodes}\n{}", world.picture());
    }
}

#[test]
fn ten_joins_at_once() {
    let mut world = World::new(1);
    world.wait_commander();
    for node in 2..=10 {
        world.add(node, Role::Drone);
        world.boot(node);
        world.propose(1, Command::Admit(candidate(node, 1, Role::Drone)));
    }
    world.wait_for(10_000, "five vote, five learn", |world| seats_settled(world, 5, 5));
    assert_eq!(world.published(world.commander().unwrap()).dictionary.roster.len(), 10);
}

#[test]
fn a_cut_off_learner_is_not_promoted() {
    let mut world = World::of(2, 3);
    world.add(4, Role::Drone);
    world.boot(4);
    world.join(5, Role::Drone);
    world.partition(&[4]);
    world.decide(&Command::Admit(candidate(4, 1, Role::Drone)));
    world.run(20_000);
    assert!(seats_settled(&world, 3, 2), "{}", world.picture());
    world.heal();
    world.wait_for(10_000, "all five vote", |world| seats_settled(world, 5, 0));
}

#[test]
fn a_silent_voter_gives_its_seat_to_a_learner() {
    let mut world = World::of(3, 4);
    let commander = world.commander().unwrap();
    let seats = world.published(commander).seats.clone();
    let learner = seats.learners[0];
    let dead = *seats.voters.iter().find(|node| node.0 != commander).unwrap();
    world.crash(dead.0);
    world.run(9 * world.t());
    assert!(world.published(commander).seats.votes(dead), "not before ten times T");
    world.wait_for(2 * world.t() + 1_000, "the seat has gone to the learner", |world| {
        let seats = &world.published(commander).seats;
        seats.outgoing.is_empty() && seats.voters.contains(&learner) && seats.learners.contains(&dead)
    });
    assert!(world.noted(commander, EventKind::SeatsChanged, "has been silent for long"));
    // It comes back and learns; three vote.
    world.boot(dead.0);
    world.run(3_000);
    assert!(seats_settled(&world, 3, 1));
    world.crash(commander);
    world.wait_commander();
}

#[test]
fn two_of_five_dead_voters_leave_three() {
    let mut world = World::of(4, 5);
    let commander = world.commander().unwrap();
    let dead: Vec<u64> = (1..=5).filter(|node| *node != commander).take(2).collect();
    dead.iter().for_each(|node| world.crash(*node));
    world.wait_for(15 * world.t(), "three vote", |world| seats_settled(world, 3, 2));
    // So another may die.
    let next = (1..=5).find(|node| *node != commander && !dead.contains(node)).unwrap();
    world.crash(next);
    world.change();
    // Below three it never goes.
    world.run(20 * world.t());
    assert_eq!(world.published(commander).seats.voters.len(), 3);
    dead.iter().for_each(|node| world.boot(*node));
    world.boot(next);
    world.wait_for(10_000, "five vote again", |world| seats_settled(world, 5, 0));
}

/// Scaling 3 -> 9 -> 3 by removal never locks the mesh: the commander is killed after it, and a new one rules.
#[test]
fn three_nine_three_then_the_commander_dies() {
    for (seed, polite) in [(1, true), (2, false), (3, true), (4, false)] {
        let mut world = World::of(seed, 9);
        for leaver in [9, 2, 7, 4, 5, 3] {
            if world.commander() == Some(leaver) {
                world.step(id(leaver), Input::StepDown { to: None });
                world.wait("another rules", |world| world.commander().is_some_and(|node| node != leaver));
            }
            if !polite {
                world.crash(leaver);
                world.wait_commander();
            }
            world.drop(leaver);
            if polite {
                world.wait("it ends by itself", |world| world.nodes[&id(leaver)].ended.is_some());
                assert!(world.nodes[&id(leaver)].ended.as_ref().unwrap().contains("removed from the roster"));
            }
        }
        world.wait_for(10_000, "three vote, nobody else has a seat", |world| seats_settled(world, 3, 0));
        world.run(500);
        let commander = world.commander().unwrap();
        world.crash(commander);
        let took = world.wait("a new one rules", |world| world.commander().is_some());
        assert!(took < 1_500, "{took} ms");
        world.change();
    }
}

/// A change of the roster and of seats is finished by whoever rules next, wherever the commander dies.
#[test]
fn kill_at_each_step() {
    for step in 0..40 {
        let mut world = World::of(step, 4);
        let commander = world.commander().unwrap();
        let seats = world.published(commander).seats.clone();
        let leaver = seats.voters.iter().find(|node| node.0 != commander).unwrap().0;
        world.decide(&Command::Bury {
            node: id(leaver),
            incarnation: Incarnation(1),
            cause: Cause::Dropped(id(leaver)),
        });
        let commander = world.commander().unwrap();
        world.propose(commander, Command::Remove { node: id(leaver), cause: Cause::Dropped(id(leaver)) });
        let moment = world.now + step * 250_000;
        world.wait("the moment", |world| world.now >= moment);
        world.crash(commander);
        world.wait("another rules", |world| world.commander().is_some_and(|node| node != commander));
        world.boot(commander);
        // The next commander's own plan would propose it again.
        world.decide(&Command::Remove { node: id(leaver), cause: Cause::Dropped(id(leaver)) });
        world.wait_for(10_000, "three vote, nobody else has a seat", |world| seats_settled(world, 3, 0));
        let roster = world.published(world.commander().unwrap()).dictionary.roster.len();
        assert_eq!(roster, 3);
    }
}

/// An election at each moment of a joint change: old and new majority must agree, so it is safe.
#[test]
fn election_during_change() {
    for step in 0..40 {
        let mut world = World::of(step, 3);
        let commander = world.commander().unwrap();
        for node in [4, 5] {
            world.add(node, Role::Drone);
            world.boot(node);
            world.propose(commander, Command::Admit(candidate(node, 1, Role::Drone)));
        }
        let moment = world.now + step * 5 * MS;
        world.wait("the moment", |world| world.now >= moment);
        for node in 1..=5 {
            world.step(id(node), Input::TimeOut);
        }
        if step % 2 == 0 {
            world.pause(commander);
            world.wait("another rules", |world| world.commander().is_some_and(|node| node != commander));
            world.resume(commander);
        }
        for node in [4, 5] {
            world.decide(&Command::Admit(candidate(node, 1, Role::Drone)));
        }
        world.wait_for(20_000, "five vote", |world| seats_settled(world, 5, 0));
    }
}

#[test]
fn of_two_voters_one_leaves() {
    let mut world = World::of(5, 2);
    let commander = world.commander().unwrap();
    let leaver = 3 - commander;
    let life = Incarnation(1);
    world.decide(&Command::Bury { node: id(leaver), incarnation: life, cause: Cause::Dropped(id(leaver)) });
    world.decide(&Command::Remove { node: id(leaver), cause: Cause::Dropped(id(leaver)) });
    world.wait("it ends", |world| world.nodes[&id(leaver)].ended.is_some());
    world.wait("one votes", |world| seats_settled(world, 1, 0));
    world.change();
}

#[test]
fn a_commander_that_is_to_be_removed_hands_over_first() {
    let mut world = World::of(6, 3);
    let old = world.commander().unwrap();
    let life = Incarnation(1);
    world.decide(&Command::Bury { node: id(old), incarnation: life, cause: Cause::Dropped(id(old)) });
    let request = world.propose(old, Command::Remove { node: id(old), cause: Cause::Dropped(id(old)) });
    assert_eq!(world.outcome(old, request), Some(&Proposed::NotCommander));
    let took = world.wait("another rules", |world| world.commander().is_some_and(|node| node != old));
    assert!(took < 100, "{took} ms");
    world.decide(&Command::Remove { node: id(old), cause: Cause::Dropped(id(old)) });
    world.wait("it ends", |world| world.nodes[&id(old)].ended.is_some());
    world.wait("two vote", |world| seats_settled(world, 2, 0));
    world.change();
}

#[test]
fn a_draining_commander_hands_over() {
    let mut world = World::of(7, 4);
    let old = world.commander().unwrap();
    world.decide(&Command::Drain { node: id(old), drains: true });
    world.wait_for(2_000, "another rules", |world| world.commander().is_some_and(|node| node != old));
    world.wait_for(3_000, "its seat has gone to the learner", |world| {
        seats_settled(world, 3, 1) && !world.published(world.commander().unwrap()).seats.votes(id(old))
    });
}

/// A removed node that does not know it asks for votes for ever: nobody's term changes.
#[test]
fn removed_but_running() {
    let mut world = World::of(8, 4);
    let commander = world.commander().unwrap();
    let leaver = (1..=4).find(|node| *node != commander).unwrap();
    world.partition(&[leaver]);
    world.drop(leaver);
    world.run(2_000);
    world.heal();
    let (commander, term) = (world.commander(), world.term());
    for _ in 0..60 {
        world.step(id(leaver), Input::TimeOut);
        world.run(1_000);
    }
    assert_eq!((world.commander(), world.term()), (commander, term));
    // Not even while nobody rules.
    world.crash(commander.unwrap());
    world.step(id(leaver), Input::TimeOut);
    assert_ne!(world.wait_commander(), leaver);
}

#[test]
fn the_setting_of_voters_is_followed() {
    let mut world = World::of(9, 5);
    world.decide(&Command::Configure { key: "election.voters".into(), value: "3".into() });
    world.wait_for(3_000, "three vote", |world| seats_settled(world, 3, 2));
    world.decide(&Command::Configure { key: "election.voters".into(), value: "5".into() });
    world.wait_for(3_000, "five vote", |world| seats_settled(world, 5, 0));
}

#[test]
fn all_killed_at_once_and_restarted() {
    for seed in 0..10 {
        let mut world = World::of(seed, 5);
        let version = world.change();
        let term = world.term();
        (1..=5).for_each(|node| world.crash(node));
        (1..=5).for_each(|node| world.boot(node));
        let commander = world.wait_commander();
        let published = world.published(commander);
        assert!(published.dictionary.version >= version && published.term.0 > term);
        assert_eq!(published.dictionary.roster.len(), 5);
        world.wait_for(5_000, "five vote", |world| seats_settled(world, 5, 0));
    }
}
