//! Each guard that concerns a member, told as the run that it prevents.

use super::*;

#[test]
fn a_sole_holder_serves_and_a_chain_of_three_does() {
    let mut world = World::chain_of(&[A], 1, 1);
    assert_eq!(world.read(A, "k"), None);
    assert!(matches!(world.at_once(A, "SET k v"), Some(Outcome::Replied(_))));
    assert_eq!(world.read(A, "k").as_deref(), Some("v"));

    let mut world = World::chain_of(&[A, B, C], 3, 3);
    let ticket = world.ask(A, "SET k v");
    assert_eq!(world.outcome(ticket), None);
    world.deliver();
    assert!(world.ok(ticket));
    assert_eq!(world.read(A, "k").as_deref(), Some("v"));
    world.equal(&[A, B, C]);
}
