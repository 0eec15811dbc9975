//! Commands in place of the values they made: what travels, who may follow, and what becomes of a copy that cannot.

use super::*;
use crate::messages::chain::{ChainMessage, Change, Value, Write};
use crate::messages::ownership::ReplicationMode;

/// Three members that serve, or two with a joiner, in a mesh that sends commands.
fn chain_of(members: &[NodeId]) -> World {
    let mut world = World::chain_of(members, 4, 3);
    let mut dictionary = Dictionary::clone(&world.dictionary);
    dictionary.settings.mode = ReplicationMode::Command;
    world.dictionary = Arc::new(dictionary);
    world.adopt_all();
    world
}

fn long() -> String {
    "x".repeat(100_000)
}

/// The writes of all forwards that wait on a link.
fn under_way(world: &World, from: NodeId, to: NodeId) -> Vec<Write> {
    let frames = world.links.get(&(from, to, false)).into_iter().flatten();
    let writes = frames.filter_map(|(_, frame)| match &frame.message {
        ChainMessage::Forward { writes, .. } => Some(writes.clone()),
        _ => None,
    });
    writes.flatten().collect()
}

fn counters(world: &World, node: NodeId) -> (u64, u64) {
    let transfers = world.nodes[&node].store.transfers();
    (transfers.recipes_sent, transfers.recipes_refused)
}

#[test]
fn a_command_travels_where_it_is_shorter_than_what_it_made() {
    let mut world = chain_of(&[A, B, C]);
    world.at_once(A, &format!("SET k {}", long()));
    world.at_once(A, "SET n 41");
    world.at_once(A, "INCR n");
    assert_eq!(counters(&world, A), (0, 0), "none of these is shorter");
    let ticket = world.ask(A, "APPEND k y");
    for (from, to) in [(A, B), (B, C)] {
        let writes = under_way(&world, from, to);
        assert!(writes[0].changes.is_empty() && writes[0].recipe.is_some());
        assert!(crate::wire::codec::encode(&writes).len() < 100);
        world.deliver_one(from, to, false);
    }
    world.deliver();
    assert_eq!(world.outcome(ticket), Some(&Outcome::Replied(Reply::Integer(100_001))));
    assert_eq!((counters(&world, A), counters(&world, B)), ((1, 0), (1, 0)));
    world.equal(&[A, B, C]);
}

#[test]
fn it_is_carried_out_by_the_clock_of_the_head() {
    let mut world = chain_of(&[A, B]);
    world.at_once(A, &format!("SET k {} PX 5000", long()));
    world.ask(A, "APPEND k y");
    // For the member its time has come before the command does.
    world.now.wall_ms += 10_000;
    world.deliver_one(A, B, false);
    assert_eq!((world.see(B).len, counters(&world, B)), (1, (0, 0)));
    assert_eq!(world.see(A).digest, world.see(B).digest);
}

#[test]
fn a_joiner_and_who_missed_something_are_sent_values() {
    let mut world = chain_of(&[A, B]);
    world.at_once(A, &format!("SET k {}", long()));
    world.break_link(A, B);
    world.ask(A, "APPEND k missed");
    world.mend_link(A, B);
    world.deliver();
    assert_eq!(counters(&world, A), (0, 0));
    world.equal(&[A, B]);
    // From there on it follows again; behind it a joiner does not.
    world.lease(A);
    world.commit_join(C);
    world.adopt_all();
    world.lease(A);
    world.at_once(A, "APPEND k both");
    assert_eq!((counters(&world, A), counters(&world, B)), ((1, 0), (0, 0)));
    world.equal(&[A, B, C]);
}

#[test]
fn a_copy_that_makes_something_else_asks_for_values() {
    let mut world = chain_of(&[A, B, C]);
    world.at_once(A, &format!("SET k {}", long()));
    let value = Value { data: Bytes::from_static(b"damaged"), expires_ms: None };
    let damage = Change::Put(Bytes::from_static(b"k"), value);
    world.nodes.get_mut(&B).expect("B").store.tamper(R, &damage);
    let ticket = world.ask_batch(A, &["APPEND k y", "SET other v"]);
    world.deliver();
    assert!(world.ok(ticket + 1));
    assert_eq!((counters(&world, A), counters(&world, B).1), ((1, 0), 1));
    world.equal(&[A, B, C]);
    world.at_once(A, "APPEND k z");
    assert_eq!((counters(&world, A), counters(&world, B).1), ((2, 0), 1));
}
