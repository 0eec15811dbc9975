//! To whom beacons go, and what else they carry.

use super::*;

#[test]
fn ailments_are_passed_on_when_they_change() {
    let mut node = Node::commander(&[chain(&[ONE, TWO], 1)]);
    node.hear(TWO, beacon(1));
    let HeartbeatMessage::Beacon(mut sick) = beacon(2) else { unreachable!() };
    sick.ailing = vec!["store 1 stands still".to_owned()];
    let effects = node.hear(TWO, HeartbeatMessage::Beacon(sick.clone()));
    assert!(effects.contains(&Effect::Alive { node: TWO, incarnation: LIFE, ailing: sick.ailing.clone() }));
    sick.ask.number = 3;
    assert!(
        !node.hear(TWO, HeartbeatMessage::Beacon(sick)).iter().any(|effect| matches!(effect, Effect::Alive { .. }))
    );
    let effects = node.step(Input::Ailing(vec!["archive full".to_owned()]));
    assert_eq!(effects.len(), 1, "the commander says it of itself too");
}

// Who speaks to whom

#[test]
fn a_node_without_a_dictionary_answers_probes_and_nothing_else() {
    let mut node = Node::new(TWO);
    assert_eq!(node.machine.deadline(), None);
    assert_eq!(node.hear(ONE, HeartbeatMessage::Probe(3)), [send(ONE, HeartbeatMessage::Probed(3))]);
    assert_eq!(node.hear(ONE, beacon(1)), []);
}

#[test]
fn beacons_go_to_the_commander_and_neighbours_once_a_beat() {
    let mut node = Node::new(TWO);
    node.publish(published(1, &[chain(&[TWO, ONE], 1), chain(&[ONE, TWO], 1), chain(&[THREE], 1)], Some(ONE), TWO));
    let sent = asks(&only(node.until(ms(11_000))));
    assert_eq!(sent.len(), 10, "{sent:?}");
    assert!(sent.iter().all(|(to, _)| *to == ONE));

    let effects = node.publish(published(1, &[chain(&[TWO, ONE], 1), chain(&[THREE], 1)], None, TWO));
    assert_eq!(asks(&effects).len(), 1, "three is new, and hears of it at once");
    let sent: BTreeSet<_> = asks(&only(node.until(ms(11_200)))).into_iter().map(|(to, _)| to).collect();
    assert_eq!(sent, BTreeSet::from([ONE, THREE]), "without a commander all speak to all");
}

#[test]
fn who_is_heard_is_told_when_it_changes() {
    let mut node = Node::new(ONE);
    let effects = node.publish(published(1, &[chain(&[ONE], 1)], None, ONE));
    assert!(effects.contains(&Effect::Hears(BTreeSet::from([ONE]))));
    let effects = node.hear(TWO, beacon(1));
    assert!(effects.contains(&Effect::Hears(BTreeSet::from([ONE, TWO]))));
    node.now = ms(10_100);
    assert!(!node.hear(TWO, beacon(2)).iter().any(|effect| matches!(effect, Effect::Hears(_))));
    let seen = node.until(ms(11_000));
    let told: Vec<_> = seen.iter().filter(|(_, effect)| matches!(effect, Effect::Hears(_))).collect();
    assert_eq!(told, [&(ms(10_600), Effect::Hears(BTreeSet::from([ONE])))]);
}

#[test]
fn news_of_a_commander_reaches_one_that_does_not_hear_it() {
    let mut node = Node::new(TWO);
    node.publish(published(1, &[chain(&[ONE], 1)], None, TWO));
    let HeartbeatMessage::Beacon(mut news) = beacon(1) else { unreachable!() };
    (news.term, news.commander) = (Term(6), Some(ONE));
    let effects = node.hear(THREE, HeartbeatMessage::Beacon(news));
    let adopted = adoption(&effects);
    assert_eq!((adopted.published.term, adopted.published.commander), (Term(6), Some(ONE)));
    assert!(!adopted.published.commanding);

    // Nobody repeats it: it is forgotten.
    let seen = only(node.until(ms(10_600)));
    assert_eq!(adoption(&seen).published.commander, None);
}

#[test]
fn one_that_knows_less_is_told_but_not_more_often_than_each_beat() {
    let mut node = Node::new(TWO);
    node.publish(published(1, &[chain(&[ONE], 1)], Some(ONE), TWO));
    let HeartbeatMessage::Beacon(mut old) = beacon(1) else { unreachable!() };
    old.commander = None;
    let effects = node.hear(THREE, HeartbeatMessage::Beacon(old.clone()));
    assert_eq!(asks(&effects).len(), 1);
    assert_eq!(asks(&node.hear(THREE, HeartbeatMessage::Beacon(old))), []);
}

// Clocks that run apart
