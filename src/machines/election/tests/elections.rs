//! Who comes to command, and who does not.

use std::cell::Cell;
use std::rc::Rc;

use super::world::*;
use crate::machines::election::Input;
use crate::messages::election::MessageKind;
use crate::messages::events::EventKind;
use crate::messages::ownership::Role;

#[test]
fn a_founder_commands_at_once() {
    let mut world = World::new(1);
    let took = world.wait("a commander", |world| world.commander() == Some(1));
    assert!(took < 50, "{took} ms");
    world.change();
}

#[test]
fn another_rules_within_a_second_of_a_crash() {
    let mut slow = 0;
    for seed in 0..20 {
        let mut world = World::of(seed, 5);
        let commander = world.commander().unwrap();
        world.crash(commander);
        let took = world.wait("another commander", |world| world.commander().is_some());
        slow += u32::from(took >= 1_000);
        let version = world.change();
        world.wait("all have it", |world| {
            world.running().iter().all(|node| world.published(*node).dictionary.version == version)
        });
    }
    assert!(slow <= 1, "{slow} of 20 took longer");
}

#[test]
fn stable_while_nothing_fails() {
    let mut world = World::of(3, 3);
    let (commander, term) = (world.commander(), world.term());
    world.run(20 * world.t() * 3 / 2);
    assert_eq!((world.commander(), world.term()), (commander, term));
}

/// All splits of 3 to 7 nodes in two: never two commanders in a term (the world checks), and a minority never has one.
#[test]
fn no_two_winners() {
    for nodes in 3..=7u64 {
        let mut world = World::of(nodes, nodes);
        for split in 1..1u64 << (nodes - 1) {
            let side: Vec<u64> = (0..nodes).filter(|bit| split >> bit & 1 == 1).map(|bit| bit + 1).collect();
            let voters = world.published(world.commander().unwrap()).seats.voters.clone();
            world.partition(&side);
            world.run(900);
            // Whoever commanded in the minority has noticed by now.
            world.run(300);
            for node in 1..=nodes {
                let published = world.published(node);
                let same_side = |other: &u64| side.contains(other) == side.contains(&node);
                let votes = voters.iter().filter(|voter| same_side(&voter.0)).count();
                assert!(!published.commanding || votes * 2 > voters.len(), "{nodes} {side:?}\n{}", world.picture());
            }
            world.heal();
            world.wait_commander();
            world.wait("all follow", |world| {
                let commander = world.commander().map(id);
                commander.is_some() && (1..=nodes).all(|node| world.published(node).commander == commander)
            });
        }
    }
}

#[test]
fn voter_restarts_and_votes_once_a_term() {
    for seed in 0..10 {
        let mut world = World::of(seed, 3);
        let commander = world.commander().unwrap();
        let others: Vec<u64> = (1..=3).filter(|node| *node != commander).collect();
        let (candidate, voter) = (others[0], others[1]);
        world.crash(commander);
        world.run(600);
        // The voter is killed at some point of every election it votes in, and is back at once; what was stable is kept,
        // nothing else. The world checks that no vote leaves before it is on disk, and that no term has two commanders.
        for _ in 0..20 {
            world.step(id(candidate), Input::TimeOut);
            let moment = seed % 5 + 1;
            world.run(moment);
            let vote = world.nodes[&id(voter)].disk.hard;
            world.crash(voter);
            world.boot(voter);
            let hard = world.nodes[&id(voter)].disk.hard;
            assert!(hard.term >= vote.term && (hard.term > vote.term || vote.vote.is_none() || hard.vote == vote.vote));
            world.step(id(voter), Input::TimeOut);
            world.run(20);
        }
        world.wait_commander();
        world.change();
    }
}

#[test]
fn one_cut_link_does_not_change_the_term() {
    for seed in 0..4 {
        let mut world = World::of(seed, 5);
        let (commander, term) = (world.commander().unwrap(), world.term());
        let other = (1..=5).find(|node| *node != commander).unwrap();
        world.cut(commander, other);
        world.run(60_000);
        assert_eq!((world.commander(), world.term()), (Some(commander), term));
        // One direction alone, either way.
        world.heal();
        world.cuts.insert((id(commander), id(other)));
        world.run(20_000);
        world.heal();
        world.cuts.insert((id(other), id(commander)));
        world.run(20_000);
        assert_eq!((world.commander(), world.term()), (Some(commander), term));
        world.heal();
        world.run(1_000);
        assert_eq!(world.published(other).commander, Some(id(commander)));
        assert_eq!(world.term(), term);
    }
}

#[test]
fn a_cut_off_commander_steps_down_in_time() {
    let mut world = World::of(5, 3);
    let commander = world.commander().unwrap();
    world.partition(&[commander]);
    let took = world.wait("it steps down", |world| !world.published(commander).commanding);
    assert!(took <= world.t() * 3 / 2, "{took} ms");
    assert!(world.noted(commander, EventKind::CommanderLost, "no majority has been heard"));
}

#[test]
fn a_paused_commander_is_replaced_and_does_no_harm_when_resumed() {
    for seed in 0..10 {
        let mut world = World::of(seed, 3);
        let commander = world.commander().unwrap();
        world.pause(commander);
        let took = world.wait("another commander", |world| world.commander().is_some());
        assert!(took < 1_500, "{took} ms");
        let (another, term) = (world.commander().unwrap(), world.term());
        world.run(10_000);
        let asked = world.confirm(commander);
        let request_of_old = {
            let command = world.some_command();
            world.propose(commander, command)
        };
        world.resume(commander);
        // It gave up at its first step, before it heard anyone: neither asking nor proposal came to anything.
        assert!(world.again.contains(&(id(commander), asked)));
        assert_eq!(world.outcome(commander, request_of_old), Some(&crate::machines::election::Proposed::NotCommander));
        assert!(!world.published(commander).commanding);
        world.run(5_000);
        assert_eq!((world.commander(), world.term()), (Some(another), term), "seed {seed}");
        assert_eq!(world.published(commander).commander, Some(id(another)));
    }
}

/// Answers that came before the pause are read after it: they are no sign that anybody follows now.
#[test]
fn a_paused_and_cut_off_commander_does_not_believe_old_answers() {
    for seed in 0..5 {
        let mut world = World::of(seed, 3);
        world.latency_us = 20_000;
        let commander = world.commander().unwrap();
        world.change();
        let command = world.some_command();
        world.propose(commander, command);
        world.run(15);
        world.pause(commander);
        world.run(60);
        world.partition(&[commander]);
        world.run(10_000);
        world.resume(commander);
        assert!(!world.published(commander).commanding);
    }
}

/// A founder that nobody but learners hears is elected without a word to anyone: what it says in its new term must wait
/// for the disk all the same, or it would rule twice in one term.
#[test]
fn a_sole_voter_rules_once_a_term() {
    for seed in 0..30 {
        let mut world = World::new(seed);
        world.wait_commander();
        // Learns, and is never heard, so that it never votes.
        world.add(2, Role::Drone);
        world.boot(2);
        world.cuts.insert((id(2), id(1)));
        world.decide(&crate::messages::ownership::Command::Admit(candidate(2, 1, Role::Drone)));
        // So long that its disk knows of the learner.
        world.run(500);
        world.node(1).disk_ms = 40;
        for round in 0..10 {
            world.crash(1);
            world.boot(1);
            world.run((seed * 7 + round * 13) % 90);
        }
        world.wait_commander();
        world.heal();
        world.wait("both vote", |world| world.published(1).seats.voters.len() == 2);
    }
}

#[test]
fn a_paused_follower_disturbs_nobody_when_resumed() {
    for seed in 0..10 {
        let mut world = World::of(seed, 3);
        let (commander, term) = (world.commander().unwrap(), world.term());
        let follower = (1..=3).find(|node| *node != commander).unwrap();
        world.pause(follower);
        world.run(10_000);
        world.resume(follower);
        world.run(2_000);
        assert_eq!((world.commander(), world.term()), (Some(commander), term));
        assert_eq!(world.nodes[&id(follower)].candidacies, 0);
    }
}

#[test]
fn a_stale_commander_returns_and_follows() {
    for seed in 0..5 {
        let mut world = World::of(seed, 5);
        let old = world.commander().unwrap();
        let friend = (1..=5).find(|node| *node != old).unwrap();
        world.partition(&[old, friend]);
        world.wait("another rules the majority", |world| {
            world.commander().is_some_and(|node| node != old && node != friend)
        });
        // It lists many, and comes back with a lower term all the same.
        world.tell_hears(old, &[1, 2, 3, 4, 5]);
        let version = world.change();
        world.run(2_000);
        let (another, term) = (world.commander(), world.term());
        world.heal();
        world.wait("it follows", |world| world.published(old).dictionary.version == version);
        world.run(2_000);
        assert_eq!((world.commander(), world.term()), (another, term));
    }
}

/// Four against two heard nodes, standing at the same instant: the better connected one wins.
#[test]
fn more_drones_wins() {
    let mut wins = 0;
    for seed in 0..20 {
        let mut world = World::of(seed, 5);
        let old = world.commander().unwrap();
        let others: Vec<u64> = (1..=5).filter(|node| *node != old).collect();
        let (well, badly) = (others[(seed % 4) as usize], others[((seed + 1) % 4) as usize]);
        for node in &others {
            let heard: Vec<u64> = if *node == badly { vec![badly, well] } else { others.clone() };
            world.tell_hears(*node, &heard);
        }
        world.crash(old);
        world.run(world.t() + 20);
        world.step(id(badly), Input::TimeOut);
        world.step(id(well), Input::TimeOut);
        let new = world.wait_commander();
        assert_ne!(new, badly);
        wins += u32::from(new == well);
    }
    assert!(wins >= 15, "{wins} of 20");
}

/// Drones that share no range hear only the commander, and each other as soon as it is lost. Who was encouraged to stand is
/// not refused for having heard nobody yet.
#[test]
fn who_was_encouraged_is_voted_for_whatever_is_heard_meanwhile() {
    let mut at_once = 0;
    for seed in 0..20 {
        let mut world = World::of(seed, 5);
        let (old, term) = (world.commander().unwrap(), world.term());
        let others: Vec<u64> = (1..=5).filter(|node| *node != old).collect();
        others.iter().for_each(|node| world.tell_hears(*node, &[old, *node]));
        world.crash(old);
        let first = Rc::new(Cell::new(None));
        let asks = Rc::clone(&first);
        world.filter = Box::new(move |from, _, message| {
            if message.kind == MessageKind::RequestVote && asks.get().is_none() {
                asks.set(Some(from.0));
            }
            true
        });
        world.wait("somebody asks for votes", |_| first.get().is_some());
        let candidate = first.get().unwrap();
        others.iter().filter(|node| **node != candidate).for_each(|node| world.tell_hears(*node, &others));
        at_once += u32::from((world.wait_commander(), world.term()) == (candidate, term + 1));
    }
    // Now and then two stand at the same moment.
    assert!(at_once >= 17, "{at_once} of 20");
}

/// A preference must not cost the mesh its commander: here the best connected by far has a worse log and cannot win.
#[test]
fn who_is_preferred_and_cannot_win_does_not_stand_in_the_way() {
    let mut world = World::of(7, 3);
    let old = world.commander().unwrap();
    let others: Vec<u64> = (1..=3).filter(|node| *node != old).collect();
    let (ahead, behind) = (others[0], others[1]);
    world.cut(old, behind);
    world.change();
    world.run(200);
    world.crash(old);
    world.heal();
    world.tell_hears(behind, &[1, 2, 3, 4, 5, 6, 7, 8, 9]);
    world.tell_hears(ahead, &[ahead]);
    assert_eq!(world.wait_commander(), ahead);
}

#[test]
fn forced_ties_end() {
    for (voters, seeds) in [(4u64, 0..25u64), (6, 25..50)] {
        for seed in seeds {
            let mut world = World::of(seed, 5);
            // An even number of candidates that all stand at the same instant, round after round.
            let old = world.commander().unwrap();
            if voters == 4 {
                world.crash(old);
            } else {
                world.cut(old, (1..=5).find(|node| *node != old).unwrap());
                world.crash(old);
            }
            world.run(world.t() + 10);
            let before = world.term();
            for node in world.running() {
                world.step(id(node), Input::TimeOut);
            }
            let took = world.wait("a commander", |world| world.commander().is_some());
            assert!(world.term() - before <= 5, "seed {seed}: {} terms", world.term() - before);
            assert!(took < 5_000, "seed {seed}: {took} ms");
        }
    }
}

#[test]
fn learners_never_win() {
    for seed in 0..5 {
        let mut world = World::of(seed, 6);
        let commander = world.commander().unwrap();
        let learners = world.published(commander).seats.learners.clone();
        assert_eq!(learners.len(), 1);
        world.crash(commander);
        for learner in &learners {
            world.step(*learner, Input::TimeOut);
            world.tell_hears(learner.0, &[1, 2, 3, 4, 5, 6]);
        }
        let new = world.wait_commander();
        assert!(!learners.contains(&id(new)));
        assert!(learners.iter().all(|learner| world.nodes[learner].candidacies == 0));
    }
}

#[test]
fn a_witness_votes_and_never_stands() {
    for seed in 0..5 {
        let mut world = World::new(seed);
        world.join(2, Role::Drone);
        world.join(3, Role::Witness);
        world.wait("three voters", |world| {
            world.commander().is_some_and(|node| world.published(node).seats.voters.len() == 3)
        });
        world.run(500);
        let commander = world.commander().unwrap();
        world.step(id(commander), Input::StepDown { to: Some(id(3)) });
        assert!(world.noted(commander, EventKind::Noticed, "is a witness and never stands"));
        // Even if somebody told it to.
        world.step(id(3), Input::TimeOut);
        world.run(1_000);
        assert_eq!(world.commander(), Some(commander));
        world.crash(commander);
        world.wait("the other drone rules", |world| world.commander().is_some_and(|node| node != commander));
        world.change();
        assert_eq!(world.nodes[&id(3)].candidacies, 0);
        // The witness alone killed: nothing stops.
        world.boot(commander);
        world.run(1_000);
        world.crash(3);
        world.run(2_000);
        world.change();
    }
}

#[test]
fn a_witness_that_alone_has_the_newest_log_passes_it_on() {
    for seed in 0..5 {
        let mut world = World::new(seed);
        world.join(2, Role::Drone);
        world.join(3, Role::Witness);
        world.wait("three voters", |world| {
            world.commander().is_some_and(|node| world.published(node).seats.voters.len() == 3)
        });
        world.run(500);
        let commander = world.commander().unwrap();
        let other = 3 - commander;
        // The other drone misses a change; then the commander and its disk are gone for good.
        world.cut(other, commander);
        world.cut(other, 3);
        let version = world.change();
        world.crash(commander);
        world.heal();
        world.wait_for(20_000, "the other drone rules, and has the change", |world| {
            world.commander() == Some(other) && world.published(other).dictionary.version >= version
        });
        assert!(!world.published(3).commanding, "a witness commands nothing");
    }
}

#[test]
fn a_step_down_takes_a_few_beats() {
    for seed in 0..5 {
        let mut world = World::of(seed, 3);
        let commander = world.commander().unwrap();
        let heir = (1..=3).find(|node| *node != commander).unwrap();
        world.step(id(commander), Input::StepDown { to: Some(id(heir)) });
        let took = world.wait("the heir rules", |world| world.commander() == Some(heir));
        assert!(took <= 50, "{took} ms");
        world.step(id(heir), Input::StepDown { to: None });
        let took = world.wait("another rules", |world| world.commander().is_some_and(|node| node != heir));
        assert!(took <= 50, "{took} ms");
        world.change();
    }
}

#[test]
fn a_step_down_to_one_that_is_gone_is_called_off() {
    let mut world = World::of(3, 3);
    let commander = world.commander().unwrap();
    let heir = (1..=3).find(|node| *node != commander).unwrap();
    world.crash(heir);
    world.step(id(commander), Input::StepDown { to: Some(id(heir)) });
    world.run(2_000);
    assert_eq!(world.commander(), Some(commander));
    assert!(world.noted(commander, EventKind::Noticed, "did not take over in time"));
    world.change();
    world.step(id(commander), Input::StepDown { to: Some(id(heir)) });
    assert!(world.noted(commander, EventKind::Noticed, "has not been heard lately"));
    world.step(id(commander), Input::StepDown { to: Some(id(77)) });
    assert!(world.noted(commander, EventKind::Noticed, "does not vote"));
}

#[test]
fn a_commander_with_a_slow_disk_hands_over() {
    let mut world = World::of(4, 3);
    let commander = world.commander().unwrap();
    world.node(commander).disk_ms = 20_000;
    let command = world.some_command();
    world.propose(commander, command);
    let took = world.wait("another rules", |world| world.commander().is_some_and(|node| node != commander));
    assert!(took <= 2 * world.t(), "{took} ms");
    assert!(world.noted(commander, EventKind::Noticed, "the disk has not finished a write"));
}

#[test]
fn news_of_a_commander_reach_the_term_of_all() {
    let mut world = World::of(6, 5);
    let first = world.commander().unwrap();
    world.crash(first);
    world.wait_commander();
    world.boot(first);
    world.wait("the old one follows", |world| {
        world.commander().is_some_and(|node| world.published(first).commander == Some(id(node)))
    });
}

/// An idle mesh costs little: beats, their answers, and no wake-up without a reason.
#[test]
fn idle_nodes_wake_only_for_beats() {
    let mut world = World::of(8, 5);
    world.run(2_000);
    let (sent, wakes) = (world.sent, world.wakes);
    world.run(10_000);
    assert!(world.sent - sent <= 4 * 2 * 10 * 11, "{} messages", world.sent - sent);
    assert!(world.wakes - wakes <= 10 * 11, "{} wakes", world.wakes - wakes);
}

#[test]
fn clocks_that_run_apart_change_nothing() {
    let mut world = World::of(9, 3);
    for (node, drift) in [(1, 50_000), (2, -50_000), (3, 20_000)] {
        world.node(node).drift = drift;
    }
    world.run(1_500);
    let term = world.term();
    world.run(30_000);
    assert_eq!(world.term(), term);
}

#[test]
fn vote_requests_of_a_transfer_come_from_the_named_heir_alone() {
    let mut world = World::of(10, 3);
    let commander = world.commander().unwrap();
    let heir = (1..=3).find(|node| *node != commander).unwrap();
    let other = 6 - commander - heir;
    // One that does not command says "stand now": nobody obeys.
    let forged = crate::messages::election::ElectionMessage {
        kind: MessageKind::TimeoutNow,
        term: world.published(1).term,
        log_term: 0,
        index: 0,
        entries: vec![],
        commit: 0,
        commit_term: 0,
        snapshot: None,
        reject: false,
        reject_hint: 0,
        context: vec![],
        priority: 0,
    };
    let term = world.term();
    world.step(id(heir), Input::Peer { from: id(other), message: forged });
    world.run(1_000);
    assert_eq!((world.commander(), world.term()), (Some(commander), term));
}
