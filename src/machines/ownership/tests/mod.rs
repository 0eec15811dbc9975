//! What the commander does, told in a small world.

mod drain;
mod large;
pub(in crate::machines::ownership) mod world;

use std::sync::Arc;
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::machines::ownership::evidence::{Evidence, Life};
use crate::messages::events::EventKind;
use crate::messages::ownership::{Candidate, Chain, Command, Holder, JoinAnswer, Order, Role, Standing};
use crate::types::{Instant, NodeId, RangeId};

use world::{RANGES, World, candidate};

#[test]
fn drones_that_join_get_their_share_and_nothing_is_lost() {
    for factor in 1..=3 {
        let mut world = World::grown(3, factor);
        world.assert_balanced(&[1, 2, 3]);
        world.join(4);
        world.join(5);
        world.settle();
        world.assert_balanced(&[1, 2, 3, 4, 5]);
        assert_eq!(world.lost(), 0);
    }
}

#[test]
fn how_far_moves_have_come_is_told_from_the_first_to_the_last() {
    let mut world = World::grown(3, 2);
    world.moves.clear();
    world.join(4);
    world.settle();
    let moves = std::mem::take(&mut world.moves);
    assert!(matches!(moves.first(), Some((0, left)) if *left > 0), "{moves:?}");
    assert!(moves.windows(2).all(|pair| pair[0].0 <= pair[1].0), "{moves:?}");
    assert!(matches!(moves.last(), Some((done, 0)) if *done as usize >= world.held(4)), "{moves:?}");
    world.run(Duration::from_secs(5));
    assert!(world.moves.is_empty(), "nothing moves");
}

#[test]
fn ranges_that_cannot_be_moved_are_not_counted_as_through() {
    let mut world = World::grown(3, 1);
    world.deaf_stores = true;
    world.join(4);
    world.run(Duration::from_secs(1));
    let (_, left) = *world.moves.last().expect("some are to move");
    assert!(left > 0);
    (2..=4).for_each(|id| world.pause(id));
    world.moves.clear();
    world.run(Duration::from_secs(1));
    assert_eq!(world.moves.last().map_or(0, |(done, _)| *done), 0, "{:?}", world.moves);
}

#[test]
fn a_weight_that_cannot_be_agreed_any_more_is_refused_and_holds_up_nobody() {
    let mut world = World::grown(3, 1);
    let witness =
        Candidate { role: Role::Witness, weight: 0, incarnation: crate::types::Incarnation(2), ..candidate(3, 1) };
    // The first proposal comes to nothing, and before the next the node has become what cannot have a weight.
    world.unknown = 2;
    let ordered = world.order(1, Order::Weigh { node: NodeId(3), weight: Some(200) });
    assert!(!world.ordered.contains_key(&ordered), "it could be agreed when it was wanted");
    world.apply(&Command::Admit(witness));
    world.unknown = 0;
    world.run(Duration::from_secs(1));
    assert!(world.ordered[&ordered].as_ref().is_err_and(|why| why.contains("witness")), "{:?}", world.ordered);
    let ordered = world.order(1, Order::Zone { node: NodeId(2), zone: Some("east".into()) });
    world.run(Duration::from_secs(1));
    assert!(world.ordered[&ordered].is_ok());
    assert_eq!(world.dictionary.member(NodeId(2)).map(|member| member.zone()), Some("east"));
}

#[test]
fn the_ranges_of_a_lost_drone_go_to_all_others() {
    let mut world = World::grown(5, 1);
    let lost = world.headed(4);
    world.kill(4);
    world.run(Duration::from_secs(1));
    assert_eq!((world.dictionary.unserved(), world.lost()), (lost, 0), "silence is no death");
    assert!(world.notes.iter().any(|note| note.contains("given up after")), "{:?}", world.notes);
    let before = [1, 2, 3, 5].map(|id| world.headed(id));
    world.run(Duration::from_millis(1_500));
    assert_eq!((world.dictionary.unserved(), world.lost()), (0, lost));
    for (id, before) in [1, 2, 3, 5].into_iter().zip(before) {
        assert!(world.headed(id) > before, "n{id} takes some");
    }
    world.settle();
    world.assert_balanced(&[1, 2, 3, 5]);
    let told = world.events.iter().filter(|event| event.kind == EventKind::RangesLost);
    assert_eq!(told.map(|event| event.ranges.len()).sum::<usize>(), lost);
}

#[test]
fn with_more_copies_a_lost_drone_costs_nothing() {
    for factor in 2..=3 {
        let mut world = World::grown(5, factor);
        world.kill(2);
        world.run(Duration::from_secs(1));
        assert_eq!(world.dictionary.unserved(), 0);
        world.settle();
        assert_eq!(world.lost(), 0);
        world.assert_balanced(&[1, 3, 4, 5]);
        world.restart(2);
        world.settle();
        assert_eq!(world.lost(), 0);
        world.assert_balanced(&[1, 2, 3, 4, 5]);
    }
}

/// Which ranges a node is a member of, and the other members.
fn ranges_of(world: &World, id: u64) -> Vec<(RangeId, Vec<NodeId>)> {
    let with = |chain: &Chain| chain.holders.iter().any(|holder| holder.node == NodeId(id));
    let others =
        |chain: &Chain| chain.holders.iter().map(|holder| holder.node).filter(|node| *node != NodeId(id)).collect();
    world.dictionary.ranges().filter(|(_, chain)| with(chain)).map(|(range, chain)| (range, others(chain))).collect()
}

#[test]
fn a_silent_holder_keeps_its_place_for_a_while() {
    for factor in 2..=3 {
        let mut world = World::grown(5, factor);
        let its = ranges_of(&world, 2);
        let before = world.dictionary.chains.clone();
        world.pause(2);
        world.run(Duration::from_secs(10));
        assert_eq!((world.dictionary.unserved(), ranges_of(&world, 2).len()), (0, 0));
        for (range, chain) in world.dictionary.ranges() {
            let nodes = |chain: &Chain| chain.holders.iter().map(|holder| holder.node).collect::<Vec<_>>();
            match its.iter().find(|(its, _)| *its == range) {
                Some((_, others)) => assert_eq!(&nodes(chain), others, "nobody else receives a copy"),
                None => assert_eq!(nodes(chain), nodes(&before[usize::from(range.0)]), "nothing is moved for balance"),
            }
        }
        assert!(world.notes.iter().any(|note| note.contains("may soon be back")), "{:?}", world.notes);
        world.resume(2);
        let first_seen = world.events.len();
        world.settle();
        let moved = world.events[first_seen..].iter().filter(|event| event.text.contains("has left")).count();
        assert_eq!(moved, 0, "nobody has to leave for one that is back");
        let again = ranges_of(&world, 2).into_iter().map(|(range, _)| range).collect::<Vec<_>>();
        assert_eq!(again, its.into_iter().map(|(range, _)| range).collect::<Vec<_>>());
        world.assert_balanced(&[1, 2, 3, 4, 5]);
        // Another commander knows nothing of the first one's waiting, and waits itself.
        world.pause(2);
        world.run(Duration::from_secs(10));
        world.elect(3);
        world.run(Duration::from_secs(10));
        assert!(world.dictionary.chains.iter().any(|chain| chain.holders.len() < usize::from(factor)));
        world.settle();
        world.assert_balanced(&[1, 3, 4, 5]);
    }
}

#[test]
fn a_parked_head_is_let_go_when_what_it_waits_for_takes_its_time() {
    let mut world = World::grown(5, 2);
    world.pause(2);
    world.run(Duration::from_secs(2));
    // A commander before this one told the head of a range to park, and now a member of it is waited for.
    let waits = |chain: &Chain| chain.holders.len() == 1 && chain.former.iter().any(|copy| copy.node == NodeId(2));
    let (range, chain) = world.dictionary.ranges().find(|(_, chain)| waits(chain)).expect("one waits for n2");
    let (head, epoch) = (chain.holders[0].node, chain.epoch);
    world.park(head, range, epoch);
    world.run(Duration::from_secs(1));
    assert!(world.dictionary.chain(range).epoch > epoch, "it stays parked until a later epoch");
}

#[test]
fn heads_that_were_told_to_park_together_wait_for_each_other_but_not_for_long() {
    let dictionary = World::grown(2, 1).dictionary;
    let (now, ms) = (Instant(0), Duration::from_millis(1));
    let ranges = [RangeId(0), RangeId(1)].map(|range| (range, dictionary.chain(range)));
    let mut evidence = Evidence::default();
    for (range, chain) in ranges {
        assert!(evidence.order_park(now, range, chain.epoch, NodeId(9), ms));
    }
    let waits = |evidence: &Evidence, at| evidence.parked_by(now + ms * at, &dictionary, ms * 3);
    for (range, chain) in ranges {
        assert_eq!((waits(&evidence, 1), waits(&evidence, 3)), (Some(now + ms * 3), None));
        let Holder { node, incarnation, .. } = chain.holders[0];
        assert!(evidence.on_parked(range, chain.epoch, Life { node, incarnation }));
    }
    assert_eq!(waits(&evidence, 1), None);
}

#[test]
fn a_copy_that_writes_wait_for_is_made_at_once() {
    let mut world = World::grown(5, 2);
    let set = |key: &str, value: &str| Command::Configure { key: key.into(), value: value.into() };
    world.apply(&set("replication.min_copies", "2"));
    world.pause(2);
    world.run(Duration::from_secs(4));
    for (range, chain) in world.dictionary.ranges() {
        assert_eq!(chain.serving().count(), 2, "range {range}: {chain:?}");
    }
    world.resume(2);
    world.settle();
    world.assert_balanced(&[1, 2, 3, 4, 5]);
}

#[test]
fn what_an_ended_process_held_is_copied_at_once() {
    let mut world = World::grown(5, 2);
    world.kill(2);
    world.run(Duration::from_secs(4));
    for (range, chain) in world.dictionary.ranges() {
        assert_eq!(chain.serving().count(), 2, "range {range}: {chain:?}");
    }
}

#[test]
fn survivors_keep_their_order() {
    let mut world = World::grown(3, 3);
    let before: Vec<Vec<NodeId>> =
        world.dictionary.chains.iter().map(|chain| chain.holders.iter().map(|h| h.node).collect()).collect();
    world.kill(2);
    world.settle();
    for (old, chain) in before.iter().zip(&world.dictionary.chains) {
        let kept: Vec<NodeId> = old.iter().copied().filter(|node| *node != NodeId(2)).collect();
        let mut now: Vec<NodeId> = chain.holders.iter().map(|holder| holder.node).collect();
        if old[0] == NodeId(2) {
            // The load of heading was evened out by hand-over since, which is the only other change of order.
            now.sort();
            let mut kept = kept.clone();
            kept.sort();
            assert_eq!(now, kept);
        } else {
            assert_eq!(now, kept);
        }
    }
}

#[test]
fn a_drone_that_started_anew_holds_nothing_until_it_has_joined_again() {
    let mut world = World::grown(3, 1);
    let lost = world.headed(3);
    world.restart(3);
    world.settle();
    assert_eq!(world.lost(), lost, "its memory was the only copy");
    world.assert_balanced(&[1, 2, 3]);
    let mut world = World::grown(3, 2);
    world.restart(3);
    world.settle();
    assert_eq!(world.lost(), 0);
    world.assert_balanced(&[1, 2, 3]);
}

#[test]
fn all_restart_at_once_and_the_mesh_goes_on() {
    let mut world = World::grown(5, 1);
    for id in 1..=5 {
        world.restart(id);
    }
    world.elect(3);
    world.settle();
    assert_eq!(world.dictionary.unserved(), 0);
    world.assert_balanced(&[1, 2, 3, 4, 5]);
}

#[test]
fn of_two_that_do_not_reach_each_other_one_goes() {
    let mut world = World::grown(3, 2);
    world.cut.insert((2, 3));
    world.run(Duration::from_secs(5));
    let together = |world: &World| {
        let both = |chain: &Arc<Chain>| [2, 3].iter().all(|id| chain.holders.iter().any(|h| h.node == NodeId(*id)));
        world.dictionary.chains.iter().filter(|chain| both(chain)).count()
    };
    assert_eq!((together(&world), world.lost(), world.dictionary.unserved()), (0, 0, 0));
    assert_eq!(world.dictionary.short_of_copies(), 0, "node 1 stands in for either");
    world.cut.clear();
    world.run(Duration::from_secs(70));
    world.settle();
    world.assert_balanced(&[1, 2, 3]);
}

#[test]
fn a_move_between_two_that_do_not_reach_each_other_waits() {
    let mut world = World::grown(2, 1);
    world.cut.insert((1, 3));
    world.join(3);
    world.run(Duration::from_secs(5));
    assert!(world.dictionary.chains.iter().all(|chain| chain.holders.len() == 1), "no head waits for a joiner");
    assert!(world.headed(3) > 0, "node 2 gives its share");
    world.cut.clear();
    world.run(Duration::from_secs(70));
    world.settle();
    world.assert_balanced(&[1, 2, 3]);
    assert_eq!(world.lost(), 0);
}

#[test]
fn a_commander_that_started_anew_admits_itself() {
    let mut world = World::grown(1, 1);
    world.restart(1);
    world.elect(1);
    world.settle();
    assert_eq!(world.dictionary.member(NodeId(1)).map(|member| member.node.incarnation.0), Some(2));
    world.assert_balanced(&[1]);
}

/// Random kills, pauses, restarts, elections and lost answers; then all is healed, and it must come to rest.
#[test]
fn whatever_happens_it_comes_to_rest() {
    for seed in 0..60u64 {
        let mut dice = ChaCha8Rng::seed_from_u64(seed);
        let factor = dice.gen_range(1..=3);
        let nodes = dice.gen_range(3..=6u64);
        let mut world = World::grown(nodes, factor);
        for _ in 0..dice.gen_range(5..40) {
            let id = dice.gen_range(1..=nodes);
            let up = world.nodes[&NodeId(id)].up;
            let commands = world.commander == NodeId(id);
            match dice.gen_range(0..8) {
                0 if up && !commands => world.kill(id),
                1 if up && !commands => world.pause(id),
                2 | 3 if !up && world.nodes[&NodeId(id)].has_memory() => world.resume(id),
                2..=4 if !commands => world.restart(id),
                5 if up => world.elect(id),
                6 => world.unknown = dice.gen_range(0..4),
                _ => {}
            }
            world.run(Duration::from_millis(dice.gen_range(0..15) * 100));
        }
        world.unknown = 0;
        for id in 1..=nodes {
            if !world.nodes[&NodeId(id)].up {
                world.restart(id);
            }
        }
        world.settle();
        let given_up = |id: &u64| world.nodes[&NodeId(*id)].begun_again;
        let again: Vec<u64> = (1..=nodes).filter(given_up).collect();
        for id in again {
            world.restart(id);
        }
        world.settle();
        world.assert_balanced(&(1..=nodes).collect::<Vec<_>>());
    }
}

#[test]
fn whoever_commands_next_goes_on_in_the_middle() {
    for factor in 1..=2 {
        // Count the steps of the whole change once, then let the commander change after each of them.
        let mut world = World::grown(3, factor);
        let before = world.applied;
        world.join(4);
        world.kill(3);
        world.settle();
        let steps = world.applied - before;
        assert!(steps >= 5, "{steps}");
        for at in 0..steps {
            let mut world = World::grown(3, factor);
            let until = world.applied + at;
            world.join(4);
            world.kill(3);
            let mut beats = 0;
            while world.applied < until && beats < 100 {
                world.beat();
                beats += 1;
            }
            world.elect(2);
            world.settle();
            world.assert_balanced(&[1, 2, 4]);
            assert!(factor == 1 || world.lost() == 0);
        }
    }
}

#[test]
fn commanders_take_turns_at_every_beat_and_still_it_ends() {
    let mut world = World::grown(3, 2);
    for id in 4..=9 {
        world.join(id);
    }
    for turn in 0..60 {
        world.beat();
        world.elect(1 + turn % 3);
    }
    world.settle();
    world.assert_balanced(&[1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(world.lost(), 0);
}

#[test]
fn proposals_of_unknown_outcome_are_looked_at_again() {
    let mut world = World::found(2);
    world.unknown = 9;
    for id in 2..=4 {
        world.join(id);
    }
    world.run(Duration::from_secs(2));
    world.unknown = 20;
    world.settle();
    world.assert_balanced(&[1, 2, 3, 4]);
}

#[test]
fn nobody_is_dropped_before_somebody_who_stays_has_spoken() {
    let mut world = World::grown(2, 2);
    world.deaf_stores = true;
    world.kill(2);
    let epochs: Vec<_> = world.dictionary.chains.iter().map(|chain| chain.epoch).collect();
    world.run(Duration::from_secs(3));
    assert_eq!(epochs, world.dictionary.chains.iter().map(|chain| chain.epoch).collect::<Vec<_>>());
    world.deaf_stores = false;
    world.settle();
    assert_eq!((world.held(1), world.held(2)), (usize::from(RANGES), 0));
}

#[test]
fn a_head_that_does_not_park_is_let_go() {
    let mut world = World::grown(2, 1);
    world.never_park = true;
    world.join(3);
    world.run(Duration::from_secs(4));
    assert_eq!(world.headed(3), 0);
    assert!(world.events.iter().any(|event| event.text.contains("called off")));
    world.never_park = false;
    world.run(Duration::from_secs(10));
    world.settle();
    world.assert_balanced(&[1, 2, 3]);
    assert_eq!(world.lost(), 0);
}

#[test]
fn a_short_silence_changes_no_chain() {
    for factor in 1..=2 {
        let mut world = World::grown(3, factor);
        let epochs: Vec<_> = world.dictionary.chains.iter().map(|chain| chain.epoch).collect();
        world.pause(2);
        world.run(Duration::from_millis(if factor == 1 { 1_500 } else { 400 }));
        world.resume(2);
        world.settle();
        assert_eq!(epochs, world.dictionary.chains.iter().map(|chain| chain.epoch).collect::<Vec<_>>());
        let standing = world.dictionary.member(NodeId(2)).map(|member| member.standing);
        assert_eq!(standing, Some(Standing::Up));
    }
}

#[test]
fn a_life_that_was_given_up_must_begin_again() {
    let mut world = World::grown(3, 1);
    world.pause(2);
    world.run(Duration::from_secs(3));
    world.resume(2);
    world.settle();
    assert!(world.nodes[&NodeId(2)].begun_again);
    assert_eq!(world.held(2), 0, "it is heard, but is no member in this life");
    world.restart(2);
    world.settle();
    world.assert_balanced(&[1, 2, 3]);
}

#[test]
fn strangers_are_told_where_to_ask() {
    let mut world = World::grown(3, 1);
    world.ask_to_join(2, 77, candidate(9, 1));
    let elsewhere = JoinAnswer::Elsewhere { peer: "10.0.0.1:16234".into(), term: world.term };
    assert_eq!(world.answers[&77], elsewhere);
    world.kill(3);
    world.run(Duration::from_secs(3));
    let drop = world.order(2, Order::Drop { node: NodeId(3) });
    world.run(Duration::from_secs(1));
    assert_eq!(world.ordered[&drop], Ok(vec!["node 0000000000000003 is off the roster".into()]));
    world.ask_to_join(1, 78, candidate(3, 2));
    assert!(matches!(&world.answers[&78], JoinAnswer::Refused(why) if why.contains("removed")), "{:?}", world.answers);
}

#[test]
fn many_may_ask_at_once() {
    let mut world = World::found(1);
    for id in 2..=20 {
        world.start(id, 1);
        world.ask_to_join(1, id, candidate(id, 1));
    }
    world.settle();
    assert_eq!(world.dictionary.roster.len(), 20);
    world.assert_balanced(&(1..=20).collect::<Vec<_>>());
}

#[test]
fn a_witness_is_admitted_and_holds_nothing() {
    let mut world = World::grown(2, 2);
    let witness = Candidate { role: Role::Witness, ..candidate(3, 1) };
    world.start_as(witness.clone());
    world.ask_to_join(1, 3, witness);
    world.settle();
    assert!(matches!(world.answers[&3], JoinAnswer::Admitted { .. }));
    world.assert_balanced(&[1, 2]);
}

#[test]
fn a_living_only_holder_is_not_dropped() {
    let mut world = World::grown(3, 1);
    let alive = world.order(2, Order::Drop { node: NodeId(3) });
    assert!(matches!(&world.ordered[&alive], Err(why) if why.contains("stop its process")), "{:?}", world.ordered);
    let unknown = world.order(2, Order::Drop { node: NodeId(44) });
    assert!(matches!(&world.ordered[&unknown], Err(why) if why.contains("no node")));
    let myself = world.order(2, Order::Drop { node: NodeId(1) });
    assert!(matches!(&world.ordered[&myself], Err(why) if why.contains("commands")));
    world.kill(3);
    world.run(Duration::from_secs(1));
    let dropped = world.order(2, Order::Drop { node: NodeId(3) });
    world.run(Duration::from_secs(1));
    assert!(world.ordered[&dropped].is_ok(), "{:?}", world.ordered);
    let again = world.order(1, Order::Drop { node: NodeId(3) });
    assert!(matches!(&world.ordered[&again], Ok(lines) if lines[0].contains("already")));
    world.settle();
    world.assert_balanced(&[1, 2]);
}

#[test]
fn three_nine_three() {
    let mut world = World::grown(3, 1);
    (4..=9).for_each(|id| world.join(id));
    world.settle();
    for id in 4..=9 {
        world.kill(id);
        world.run(Duration::from_secs(1));
        let order = world.order(2, Order::Drop { node: NodeId(id) });
        world.run(Duration::from_secs(1));
        assert!(world.ordered[&order].is_ok(), "{:?}", world.ordered[&order]);
    }
    world.settle();
    world.assert_balanced(&[1, 2, 3]);
    assert_eq!(world.dictionary.roster.len(), 3);
}

#[test]
fn the_absent_leave_the_roster_after_node_expiry() {
    let mut world = World::grown(3, 1);
    world.kill(3);
    world.run(Duration::from_secs(3));
    assert_eq!(world.dictionary.roster.len(), 3);
    world.run(Duration::from_secs(15 * 60));
    assert_eq!(world.dictionary.roster.len(), 2);
    assert!(world.dictionary.gone.contains_key(&NodeId(3)));
}

#[test]
fn stepping_down_is_done_once() {
    let mut world = World::grown(3, 1);
    let order = world.order(2, Order::StepDown { to: Some(NodeId(3)) });
    assert_eq!(world.stepped_down, [(NodeId(1), Some(NodeId(3)))]);
    assert!(world.ordered[&order].is_ok());
    let nobody = world.order(2, Order::StepDown { to: Some(NodeId(8)) });
    assert!(world.ordered[&nobody].is_err());
    let any = world.order(1, Order::StepDown { to: None });
    assert_eq!(world.stepped_down.len(), 2);
    assert!(world.ordered[&any].is_ok());
}

#[test]
fn an_order_without_a_commander_is_answered_in_words() {
    let mut world = World::grown(3, 1);
    world.kill(1);
    let order = world.order(2, Order::Drop { node: NodeId(3) });
    world.run(Duration::from_secs(6));
    assert!(matches!(&world.ordered[&order], Err(why) if why.contains("has not answered")), "{:?}", world.ordered);
}
