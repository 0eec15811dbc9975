//! How far moves have come, reckoned by the commander and heard by others.

use super::*;

fn saying(from: NodeId, node: &mut Node, streamed: u64, progress: Option<Progress>) -> Vec<Effect> {
    let HeartbeatMessage::Beacon(beacon) = beacon(node.now.0) else { unreachable!("it is one") };
    node.hear(from, HeartbeatMessage::Beacon(Beacon { streamed, progress, ..beacon }))
}

fn shown(effects: &[Effect]) -> Vec<Option<Progress>> {
    effects.iter().filter_map(|effect| if let Effect::Progress(it) = effect { Some(*it) } else { None }).collect()
}

fn notes(effects: &[Effect]) -> Vec<String> {
    effects
        .iter()
        .filter_map(|effect| if let Effect::Note(it) = effect { Some(it.text.clone()) } else { None })
        .collect()
}

/// Lets time pass until `end`, while node 2 is heard each tenth of a second and streams so much in each second.
fn stream_until(node: &mut Node, end: Instant, from: u64, a_second: u64) -> Vec<Effect> {
    let began = node.now;
    let mut seen = Vec::new();
    while node.now < end {
        let next = node.now + Duration::from_millis(100);
        seen.extend(only(node.until(next)));
        let streamed = from + node.now.since(began).as_millis() as u64 * a_second / 1000;
        seen.extend(saying(TWO, node, streamed, None));
    }
    seen
}

#[test]
fn the_commander_reckons_bytes_rate_and_end() {
    let mut node = Node::commander(&[chain(&[ONE, TWO], 1)]);
    saying(TWO, &mut node, 5_000_000, None);
    assert!(shown(&node.step(Input::Moves { done: 0, left: 100 })).is_empty(), "the next beat shows it");
    let effects = stream_until(&mut node, ms(14_000), 5_000_000, 1_000_000);
    let first = shown(&effects)[0].expect("moves are under way");
    assert_eq!((first.done, first.left, first.remaining_s), (0, 100, None));
    node.step(Input::Moves { done: 25, left: 75 });
    let effects = stream_until(&mut node, ms(14_200), 9_000_000, 1_000_000);
    let last = shown(&effects).pop().flatten().expect("moves are under way");
    assert!((3_900_000..=4_200_000).contains(&last.bytes), "what was streamed before does not count: {last:?}");
    assert!((900_000..=1_100_000).contains(&last.rate), "{last:?}");
    assert!((12..=14).contains(&last.remaining_s.expect("some are through")), "{last:?}");
    let mut beacons = effects.iter().filter_map(|effect| match effect {
        Effect::Send { message: HeartbeatMessage::Beacon(beacon), .. } => Some(beacon.progress),
        _ => None,
    });
    assert_eq!(beacons.next_back(), Some(Some(last)), "its beacons tell everybody");
}

#[test]
fn long_moves_are_told_of_now_and_then_and_at_their_end() {
    let mut node = Node::commander(&[chain(&[ONE, TWO], 1)]);
    node.step(Input::Moves { done: 0, left: 2 });
    node.now = ms(10_900);
    let short = node.step(Input::Moves { done: 2, left: 0 });
    assert!(notes(&short).is_empty(), "{short:?}");
    node.step(Input::Moves { done: 0, left: 100 });
    let began = node.now;
    stream_until(&mut node, began + Duration::from_secs(5), 0, 1_000_000);
    node.step(Input::Moves { done: 50, left: 50 });
    let told = notes(&stream_until(&mut node, began + Duration::from_secs(11), 5_000_000, 1_000_000));
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].starts_with("50 of 100 ranges are through, 9.") && told[0].ends_with("about 10s to go"),
        "{told:?}"
    );
    let end = node.step(Input::Moves { done: 100, left: 0 });
    assert_eq!(shown(&end), [None]);
    assert!(notes(&end)[0].starts_with("no range moves any more: 100 of 100 ranges are through"), "{end:?}");
}

#[test]
fn others_show_what_the_commander_says_until_another_commands() {
    let mut node = Node::new(TWO);
    node.publish(published(1, &[chain(&[ONE, TWO], 1)], Some(ONE), TWO));
    let progress = Some(Progress { done: 1, left: 2, bytes: 3, rate: 4, remaining_s: None });
    assert_eq!(shown(&saying(ONE, &mut node, 0, progress)), [progress]);
    assert!(shown(&saying(ONE, &mut node, 0, progress)).is_empty(), "nothing new");
    assert!(shown(&saying(THREE, &mut node, 0, None)).is_empty(), "it does not command");
    let again = node.publish(published(2, &[chain(&[ONE, TWO], 1)], Some(ONE), TWO));
    assert!(shown(&again).is_empty());
    let other = node.publish(published(2, &[chain(&[ONE, TWO], 1)], Some(THREE), TWO));
    assert_eq!(shown(&other), [None]);
}

#[test]
fn a_life_that_begins_anew_counts_from_nothing() {
    let mut node = Node::commander(&[chain(&[ONE, TWO], 1)]);
    saying(TWO, &mut node, 9_000_000, None);
    node.step(Input::Moves { done: 0, left: 1 });
    let HeartbeatMessage::Beacon(anew) = beacon_of(Incarnation(2), 1) else { unreachable!("it is one") };
    for streamed in [0, 500] {
        node.hear_life(TWO, Incarnation(2), HeartbeatMessage::Beacon(Beacon { streamed, ..anew.clone() }));
    }
    let effects = only(node.until(node.now + Duration::from_millis(200)));
    assert_eq!(shown(&effects).last().copied().flatten().map(|progress| progress.bytes), Some(500));
}
