//! Leases and promises, given and held.

use super::*;

#[test]
fn a_member_grants_to_the_listed_head_alone_and_remembers_its_promise() {
    let mut node = Node::new(TWO);
    node.publish(published(1, &[chain(&[ONE, TWO], 1), chain(&[THREE], 1)], None, TWO));
    let to_head = grants(&node.hear(ONE, beacon(1)));
    let ask = AskId { life: LIFE, number: 1 };
    let grant = Grant { ask, version: Version(1), commanding: None, as_member: true };
    assert_eq!(to_head, [(ONE, grant)]);
    assert_eq!(grants(&node.hear(THREE, beacon(1))), [], "it shares nothing with three");
    let other_life = Incarnation(2);
    assert_eq!(grants(&node.hear_life(ONE, other_life, beacon_of(other_life, 1))), [], "the chain lists another life");

    // The chain goes to two alone; the promise to one is told with the version that takes it away.
    let adopted = adoption(&node.publish(published(2, &[chain(&[TWO], 2), chain(&[THREE], 1)], None, TWO)));
    assert_eq!(adopted.promises, BTreeMap::from([(ONE, ms(10_525))]));
    node.until(ms(10_600));
    let adopted = adoption(&node.publish(published(3, &[chain(&[TWO], 2), chain(&[THREE], 3)], None, TWO)));
    assert_eq!(adopted.promises, BTreeMap::new(), "it has run out");
}

#[test]
fn after_a_version_is_adopted_no_grant_contradicts_it() {
    let mut node = Node::new(TWO);
    node.publish(published(1, &[chain(&[ONE, TWO], 1)], None, TWO));
    let effects = node.publish(published(2, &[chain(&[TWO, ONE], 2)], None, TWO));
    assert!(matches!(effects[0], Effect::Adopt(_)), "adopted before anything else is said: {effects:?}");
    assert_eq!(grants(&node.hear(ONE, beacon(9))), []);
}

#[test]
fn a_new_chain_is_granted_at_adoption_from_the_last_asking() {
    let mut node = Node::new(TWO);
    node.publish(published(1, &[chain(&[ONE], 1)], None, TWO));
    node.hear(ONE, beacon(3));
    let effects = node.publish(published(2, &[chain(&[ONE, TWO], 2)], None, TWO));
    let ask = AskId { life: LIFE, number: 3 };
    assert_eq!(grants(&effects), [(ONE, Grant { ask, version: Version(2), commanding: None, as_member: true })]);
}

#[test]
fn the_commander_grants_what_was_asked_before_the_round_began() {
    let mut node = Node::new(ONE);
    let effects = node.publish(published(1, &[chain(&[ONE], 1)], Some(ONE), ONE));
    let first = rounds(&effects);
    assert_eq!(first.len(), 1, "its own lease does not wait for a beat");
    let mut before = node.hear(TWO, beacon(1));
    assert_eq!(rounds(&before), [0u64; 0], "a second hurried round waits a little");
    before = node.step(confirmed(first[0], 1));
    assert_eq!(grants(&before), [], "two asked after the round began");
    assert!(leases(&before).expect("its own").commander.is_some());

    let later = node.until(ms(10_025));
    let second = rounds(&only(later));
    assert_eq!(second.len(), 1);
    let granted = grants(&node.step(confirmed(second[0], 1)));
    let ask = AskId { life: LIFE, number: 1 };
    assert_eq!(granted, [(TWO, Grant { ask, version: Version(1), commanding: Some(Term(5)), as_member: false })]);
    assert_eq!(grants(&node.step(confirmed(second[0], 1))), [], "once");
}

#[test]
fn many_askings_share_a_round_a_beat() {
    let mut node = Node::commander(&[chain(&[ONE], 1)]);
    let mut all = 0;
    for number in 1..100 {
        for peer in [TWO, THREE] {
            node.hear(peer, beacon(number));
        }
        let effects = only(node.until(node.now + Duration::from_millis(100)));
        for round in rounds(&effects) {
            all += 1;
            node.step(confirmed(round, 1));
        }
    }
    assert!((95..=105).contains(&all), "{all} rounds in 99 beats");
}

#[test]
fn an_unconfirmed_round_grants_nothing_and_its_askings_wait_for_the_next() {
    let mut node = Node::commander(&[chain(&[TWO], 1)]);
    node.hear(TWO, beacon(1));
    let round = rounds(&only(node.until(ms(10_025))))[0];
    assert_eq!(grants(&node.step(Input::Again { ask: round })), []);
    let next = rounds(&only(node.until(ms(10_130))));
    let granted: Vec<_> = next.into_iter().flat_map(|round| grants(&node.step(confirmed(round, 1)))).collect();
    assert_eq!(granted.len(), 1);
    assert_eq!(granted[0].0, TWO);
}

#[test]
fn the_dead_and_the_removed_get_no_lease_from_the_commander() {
    let mut node = Node::commander(&[chain(&[ONE], 1)]);
    node.hear(TWO, beacon(1));
    node.hear(THREE, beacon(1));
    let round = rounds(&only(node.until(ms(10_025))))[0];
    let mut next = published(2, &[chain(&[ONE], 1)], Some(ONE), ONE);
    let dictionary = Arc::make_mut(&mut next.dictionary);
    dictionary.roster.get_mut(&TWO).expect("two").dead = Some(LIFE);
    dictionary.roster.remove(&THREE);
    node.publish(next);
    assert_eq!(grants(&node.step(confirmed(round, 1))), []);
    assert_eq!(rounds(&node.hear(TWO, beacon(2))), [0u64; 0]);
}

// Leases held

#[test]
fn a_lease_runs_from_the_instant_its_beacon_left() {
    let mut node = Node::new(ONE);
    let sent = asks(&node.publish(published(1, &[chain(&[ONE, TWO], 1)], None, ONE)));
    let ask = sent[0].1;
    node.until(ms(10_040));
    let grant = Grant { ask, version: Version(1), commanding: Some(Term(5)), as_member: true };
    let held = leases(&node.hear(TWO, HeartbeatMessage::Grant(grant.clone()))).expect("leases");
    let lease = |until| Lease { giver: LIFE, version: Version(1), until };
    assert_eq!(held.members[&TWO], [lease(ms(10_475))]);
    assert_eq!(held.commander, Some(lease(ms(11_900))));
    assert_eq!(held.silent_after, None);

    let unknown = Grant { ask: AskId { life: Incarnation(0), number: ask.number }, ..grant };
    assert_eq!(leases(&node.hear(THREE, HeartbeatMessage::Grant(unknown))), None, "another life asked that");
}

#[test]
fn a_lease_of_a_version_not_yet_adopted_does_not_push_out_the_one_that_counts() {
    let mut node = Node::new(ONE);
    let first = asks(&node.publish(published(1, &[chain(&[ONE, TWO], 1)], None, ONE)))[0].1;
    let grant = |ask, version| {
        let version = Version(version);
        HeartbeatMessage::Grant(Grant { ask, version, commanding: Some(Term(5)), as_member: true })
    };
    node.hear(TWO, grant(first, 1));
    let second = asks(&only(node.until(ms(10_100))))[0].1;
    let held = leases(&node.hear(TWO, grant(second, 2))).expect("leases");
    let versions: Vec<_> = held.members[&TWO].iter().map(|lease| lease.version).collect();
    assert_eq!(versions, [Version(1), Version(2)]);
    assert_eq!(held.commander.map(|lease| lease.version), Some(Version(1)));

    let held = leases(&node.publish(published(2, &[chain(&[ONE, TWO], 1)], None, ONE))).expect("leases");
    assert_eq!(held.members[&TWO].len(), 1, "the newer covers the older");
    assert_eq!(held.commander.map(|lease| lease.version), Some(Version(2)));
}

#[test]
fn askings_are_never_named_twice_and_remembered_within_bounds() {
    let mut node = Node::new(TWO);
    let mut seen = BTreeSet::new();
    let mut effects = node.publish(published(1, &[chain(&[ONE], 1)], Some(ONE), TWO));
    for beat in 1..2_000u64 {
        let now: BTreeSet<_> = asks(&effects).into_iter().map(|(_, ask)| ask).collect();
        assert!(now.iter().all(|ask| seen.last().is_none_or(|last| last < ask)));
        seen.extend(now);
        effects = only(node.until(ms(10_000 + beat * 100)));
    }
    assert!(seen.len() > 1_900);
}

// Giving up by time (G24)

#[test]
fn silent_after_follows_the_commander_that_was_heard() {
    let mut node = Node::new(TWO);
    let span = Some(Duration::from_secs(2));
    let effects = node.publish(with_give_up(published(1, &[chain(&[ONE, TWO], 1)], Some(ONE), TWO), span));
    assert_eq!(leases(&effects).expect("told").silent_after, Some(Instant(0)), "no commander was ever heard");
    assert_eq!(grants(&node.hear(ONE, beacon(1))), [], "so it grants nothing");

    let ask = asks(&effects)[0].1;
    let grant = Grant { ask, version: Version(1), commanding: Some(Term(5)), as_member: false };
    let effects = node.hear(ONE, HeartbeatMessage::Grant(grant));
    assert_eq!(leases(&effects).expect("told").silent_after, Some(ms(11_900)));
    assert_eq!(grants(&node.hear(ONE, beacon(2))).len(), 1);

    let notes = node.until(ms(12_000));
    let noted = notes.iter().find(|(_, effect)| matches!(effect, Effect::Note(_))).expect("people are told");
    assert_eq!(noted.0, ms(11_900));
    assert_eq!(grants(&node.hear(ONE, beacon(3))), [], "it stops granting as it stops answering");

    let next = with_give_up(published(2, &[chain(&[ONE, TWO], 1)], Some(ONE), TWO), None);
    assert_eq!(leases(&node.publish(next)).expect("told").silent_after, None, "the setting may change");
}
