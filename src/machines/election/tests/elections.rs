//! Who comes to command, and who does not.

use super::world::*;

#[test]
fn a_founder_commands_at_once() {
    let mut world = World::new(1);
    let took = world.wait("a commander", |world| world.commander() == Some(1));
    assert!(took < 50, "{took} ms");
    world.change();
}

#[test]
fn three_nodes_elect_and_agree() {
    let mut world = World::of(2, 3);
    let version = world.change();
    world.wait_for(1_000, "all have it", |world| (1..=3).all(|n| world.published(n).dictionary.version == version));
    let commander = world.commander().unwrap();
    world.crash(commander);
    let took = world.wait("another commander", |world| world.commander().is_some());
    assert!(took < 1_000, "{took} ms");
    world.change();
}
