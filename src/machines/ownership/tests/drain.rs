//! Nodes that are told to leave.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::messages::ownership::{Chain, Order, Standing};
use crate::types::NodeId;

use super::world::World;

fn drain(id: u64) -> Order {
    Order::Drain { node: NodeId(id) }
}

/// Runs until a node is off the roster.
fn until_gone(world: &mut World, id: u64) {
    for _ in 0..600 {
        if !world.dictionary.roster.contains_key(&NodeId(id)) {
            return world.settle();
        }
        world.run(Duration::from_millis(100));
    }
    panic!("n{id} is still there: {:?}", world.dictionary.tally(NodeId(id)));
}

fn lines(world: &World, order: u64) -> &[String] {
    world.ordered[&order].as_ref().expect("it is done")
}

#[test]
fn a_drained_node_gives_away_all_it_holds_and_leaves() {
    for factor in 1..=3 {
        let mut world = World::grown(5, factor);
        let order = world.order(2, drain(4));
        world.run(Duration::from_millis(50));
        assert!(lines(&world, order)[0].starts_with("n4 drains: "), "{:?}", world.ordered);
        // Once more does no harm, while it goes on and when it is over.
        let again = world.order(3, drain(4));
        world.run(Duration::from_millis(50));
        assert!(lines(&world, again)[0].starts_with("n4 drains: "));
        until_gone(&mut world, 4);
        world.assert_balanced(&[1, 2, 3, 5]);
        assert_eq!(world.lost(), 0);
        let over = world.order(3, drain(4));
        assert!(lines(&world, over)[0].contains("already"));
    }
}

#[test]
fn a_preview_names_what_the_drain_then_does() {
    for factor in 1..=3 {
        let mut world = World::grown(5, factor);
        let before = holders(&world);
        let preview = world.order(2, Order::Preview { drain: Some(NodeId(4)) });
        let told = lines(&world, preview).to_vec();
        assert_eq!(holders(&world), before, "nothing was done");
        world.order(2, drain(4));
        until_gone(&mut world, 4);
        let mut expected = before;
        for line in &told[1..] {
            let (ranges, to) = line.trim_start_matches("range ").split_once(": ").expect("ranges: from -> to");
            let (first, last) = ranges.split_once('-').unwrap_or((ranges, ranges));
            let to = to.split_once(" -> ").expect("from -> to").1;
            let to: Vec<u64> = to.split(", ").map(|name| name[1..].parse().expect("a name")).collect();
            for range in first.parse::<u16>().expect("a range")..=last.parse().expect("a range") {
                expected.insert(range, to.clone());
            }
        }
        let sorted = |all: BTreeMap<u16, Vec<u64>>| -> Vec<(u64, Vec<u64>)> {
            // Head first; the order of the others is of no account.
            let order = |mut nodes: Vec<u64>| {
                nodes[1..].sort_unstable();
                (nodes[0], nodes)
            };
            all.into_values().map(order).collect()
        };
        assert_eq!(sorted(holders(&world)), sorted(expected), "{factor} copies");
    }
}

fn holders(world: &World) -> BTreeMap<u16, Vec<u64>> {
    let nodes = |chain: &Chain| chain.holders.iter().map(|holder| holder.node.0).collect();
    world.dictionary.ranges().map(|(range, chain)| (range.0, nodes(chain))).collect()
}

#[test]
fn a_drain_that_is_called_off_ends_where_it_stands() {
    let mut world = World::grown(4, 2);
    world.order(2, drain(4));
    world.run(Duration::from_millis(60));
    let order = world.order(3, Order::Abort { node: NodeId(4) });
    world.run(Duration::from_millis(60));
    assert_eq!(lines(&world, order), ["n4 stays"]);
    world.settle();
    world.assert_balanced(&[1, 2, 3, 4]);
    assert_eq!(world.dictionary.roster[&NodeId(4)].standing, Standing::Up);
}

/// Whoever commands goes on with it: it is agreed, and each step is derived from what is.
#[test]
fn a_drain_outlives_its_commanders_and_the_node_itself() {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    for seed in 0..20 {
        let mut world = World::grown(5, 2);
        world.order(2, drain(4));
        for _ in 0..6 {
            world.run(Duration::from_millis(random.gen_range(1..120)));
            match random.gen_range(0..4) {
                0 if world.dictionary.roster.contains_key(&NodeId(4)) => world.restart(4),
                _ => world.elect([1, 2, 3, 5][random.gen_range(0..4)]),
            }
        }
        until_gone(&mut world, 4);
        world.assert_balanced(&[1, 2, 3, 5]);
        assert_eq!(world.lost(), 0, "seed {seed}");
    }
}

#[test]
fn a_node_cannot_leave_where_nobody_could_take_what_it_holds() {
    let mut world = World::grown(2, 2);
    let order = world.order(2, drain(2));
    world.run(Duration::from_millis(50));
    assert!(lines(&world, order)[0].starts_with("n2 drains"));
    let last = world.order(2, drain(1));
    assert!(
        matches!(&world.ordered[&last], Err(why) if why.contains("start another node first")),
        "{:?}",
        world.ordered
    );
    until_gone(&mut world, 2);
    world.assert_balanced(&[1]);
    let unknown = world.order(1, drain(9));
    assert!(matches!(&world.ordered[&unknown], Err(why) if why.contains("no node")));
}

fn rest(world: &World, id: u64) -> Order {
    Order::Rest { node: NodeId(id), incarnation: world.nodes[&NodeId(id)].life }
}

#[test]
fn who_rests_is_waited_for_by_nobody_and_gets_its_place_back() {
    let mut world = World::grown(5, 2);
    let before = holders(&world);
    let order = world.order(4, rest(&world, 4));
    world.run(Duration::from_secs(1));
    assert_eq!(lines(&world, order), ["no range waits for this node"]);
    assert_eq!((world.held(4), world.dictionary.unserved()), (0, 0));
    world.restart(4);
    world.settle();
    world.assert_balanced(&[1, 2, 3, 4, 5]);
    assert_eq!(world.lost(), 0);
    // It is to head its share again, and may be given ranges for that which it did not hold; no more than that.
    let sorted = |nodes: &Vec<u64>| nodes.iter().copied().collect::<BTreeSet<u64>>();
    let moved = holders(&world).into_iter().filter(|(range, nodes)| sorted(nodes) != sorted(&before[range]));
    let moved: Vec<u16> = moved.map(|(range, _)| range).collect();
    assert!(moved.len() <= world.headed(4), "{moved:?}");
}

#[test]
fn who_rests_for_long_is_missed() {
    let mut world = World::grown(4, 2);
    world.order(4, rest(&world, 4));
    world.run(Duration::from_secs(1));
    world.kill(4);
    world.run(Duration::from_secs(2));
    assert!(world.dictionary.short_of_copies() > 0, "its place is kept for a while");
    world.run(Duration::from_secs(20));
    assert_eq!(world.dictionary.short_of_copies(), 0);
    world.assert_balanced(&[1, 2, 3]);
    assert_eq!(world.lost(), 0);
}

#[test]
fn who_has_what_nobody_else_has_is_waited_for() {
    let mut alone = World::grown(3, 1);
    let order = alone.order(3, rest(&alone, 3));
    alone.run(Duration::from_millis(200));
    assert!(lines(&alone, order)[0].contains("which nobody else holds"), "{:?}", alone.ordered);
    assert!(alone.held(3) > 0);
}
