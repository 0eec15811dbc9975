//! Values larger than a chunk: how they reach a joiner, and what may happen to them on the way.

use super::*;
use crate::wire::codec;

const CHUNK: usize = 1000;

/// A heads a range with a large value between small ones; B begins to load it.
fn world() -> World {
    let limits = Limits { chunk_bytes: CHUNK, parts_a_joiner: 3, ..unhurried() };
    let mut world = World::with_limits(2, 2, limits);
    world.adopt_all();
    world.advance(600);
    world.lease(A);
    for n in 0..20 {
        world.at_once(A, &format!("SET k{n} small"));
    }
    world.at_once(A, &format!("SET large {}", "y".repeat(20_000)));
    world.commit_join(B);
    world.adopt(A);
    world.adopt(B);
    world
}

/// One frame each way; says whether anything was said.
fn exchange(world: &mut World) -> bool {
    world.deliver_one(B, A, false) | world.deliver_one(A, B, true) | world.deliver_one(A, B, false)
}

#[test]
fn no_frame_to_a_joiner_is_much_larger_than_a_chunk() {
    let mut world = world();
    let mut largest = 0;
    while exchange(&mut world) {
        let waiting = world.links.get(&(A, B, true)).into_iter().flatten();
        largest = waiting.map(|(_, frame)| codec::encode(frame).len()).fold(largest, usize::max);
    }
    assert!((CHUNK..CHUNK + 300).contains(&largest), "{largest} bytes");
    world.equal(&[A, B]);
    assert_eq!(world.nodes[&A].store.transfers().entries_streamed, 21);
}

#[test]
fn whatever_is_written_to_it_meanwhile_the_joiner_ends_with_the_same() {
    let other = "z".repeat(5_000);
    let writes = [
        "SET large small",
        &format!("SET large {other}"),
        "DEL large",
        "PEXPIRE large 100000",
        "FLUSHALL",
        "SET k3 changed",
    ];
    for write in writes {
        for second in ["", "PEXPIRE large 200000", "PERSIST large", &format!("SET large {other}"), "DEL large"] {
            for after in (0..40).step_by(3) {
                let mut world = world();
                for _ in 0..after {
                    exchange(&mut world);
                }
                world.ask(A, write);
                exchange(&mut world);
                if !second.is_empty() {
                    world.ask(A, second);
                }
                world.deliver();
                assert!(world.see(B).whole, "{write}, then {second}, after {after} exchanges");
                world.equal(&[A, B]);
            }
        }
    }
}

#[test]
fn a_streaming_that_breaks_in_the_middle_of_a_value_begins_anew() {
    let mut world = world();
    for _ in 0..12 {
        exchange(&mut world);
    }
    world.break_link(A, B);
    world.mend_link(A, B);
    world.deliver();
    assert!(world.see(B).whole);
    world.equal(&[A, B]);
    assert_eq!(world.nodes[&A].store.transfers().streamings, 2);
}
