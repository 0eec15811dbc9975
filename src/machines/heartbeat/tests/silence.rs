//! Who is late, who is gone, and who says so.

use super::*;

#[test]
fn a_life_is_given_up_once_and_counted_anew_from_the_election() {
    let mut node = Node::new(ONE);
    let span = Some(Duration::from_secs(2));
    let at = |version, commander| with_give_up(published(version, &[chain(&[TWO], 1)], commander, ONE), span);
    node.publish(at(1, Some(THREE)));
    node.until(ms(11_500));
    node.publish(at(2, Some(ONE)));
    let expired = |effects: Vec<(Instant, Effect)>| -> Vec<_> {
        effects.into_iter().filter(|(_, effect)| matches!(effect, Effect::Expired { node: TWO, .. })).collect()
    };
    let seen = expired(node.until(ms(20_000)));
    let silent_for = Duration::from_millis(2_100);
    assert_eq!(seen, [(ms(13_600), Effect::Expired { node: TWO, incarnation: LIFE, silent_for })]);

    let effects = node.hear(TWO, beacon(1));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Alive { .. })), "never taken back");
    let given: Vec<_> = rounds(&only(node.until(ms(20_300)))).into_iter().collect();
    assert_eq!(given.iter().flat_map(|round| grants(&node.step(confirmed(*round, 2)))).collect::<Vec<_>>(), []);

    let next = Incarnation(2);
    let effects = node.hear_life(TWO, next, beacon_of(next, 1));
    assert!(effects.contains(&Effect::Alive { node: TWO, incarnation: next, ailing: Vec::new() }));
}

#[test]
fn a_life_that_no_range_waits_for_is_suspected_but_not_given_up() {
    let mut node = Node::new(ONE);
    let at = |version, holders: &[NodeId], former: &[NodeId]| {
        let mut kept = (*chain(holders, version)).clone();
        let copy = |node: &NodeId| Former { node: *node, incarnation: LIFE, until: Epoch(1) };
        kept.former = former.iter().map(copy).collect();
        let span = Some(Duration::from_secs(2));
        with_give_up(published(version, &[Arc::new(kept)], Some(ONE), ONE), span)
    };
    node.publish(at(1, &[ONE], &[TWO]));
    let seen = only(node.until(ms(20_000)));
    assert!(seen.iter().any(|effect| matches!(effect, Effect::Suspect { node: TWO, .. })));
    assert!(!seen.iter().any(|effect| matches!(effect, Effect::Expired { .. })), "{seen:?}");
    let effects = node.hear(TWO, beacon(1));
    assert!(effects.contains(&Effect::Alive { node: TWO, incarnation: LIFE, ailing: Vec::new() }), "it comes back");

    // Its copy is the only one once those who served are gone.
    node.until(ms(40_000));
    node.publish(at(2, &[], &[TWO]));
    let seen = only(node.until(ms(40_000)));
    assert!(seen.iter().any(|effect| matches!(effect, Effect::Expired { node: TWO, .. })));
}

#[test]
fn a_life_that_the_roster_does_not_list_yet_is_not_given_up_with_the_one_before() {
    let mut node = Node::new(ONE);
    let span = Some(Duration::from_secs(2));
    node.publish(with_give_up(published(1, &[chain(&[TWO], 1)], Some(ONE), ONE), span));
    let next = Incarnation(2);
    node.hear_life(TWO, next, beacon_of(next, 1));
    let seen = only(node.until(ms(20_000)));
    let expired: Vec<_> = seen.iter().filter(|effect| matches!(effect, Effect::Expired { .. })).collect();
    assert!(matches!(expired[..], [Effect::Expired { node: TWO, incarnation: LIFE, .. }]), "{expired:?}");
    let effects = node.hear_life(TWO, next, beacon_of(next, 2));
    assert!(effects.contains(&Effect::Alive { node: TWO, incarnation: next, ailing: Vec::new() }), "it comes back");
}

#[test]
fn a_commander_that_was_paused_counts_silence_anew() {
    let mut node = Node::new(ONE);
    let span = Some(Duration::from_secs(2));
    node.publish(with_give_up(published(1, &[chain(&[TWO], 1)], Some(ONE), ONE), span));
    for number in 1..10 {
        node.hear(TWO, beacon(number));
        node.hear(THREE, beacon(number));
        node.until(node.now + Duration::from_millis(100));
    }
    node.now = node.now + Duration::from_secs(60);
    let effects = node.step(Input::Timer);
    let blamed = |effect: &Effect| matches!(effect, Effect::Expired { .. } | Effect::Suspect { .. });
    assert!(!effects.iter().any(blamed), "{effects:?}");
}

#[test]
fn a_shorter_span_binds_only_those_who_know_of_it() {
    let mut node = Node::new(ONE);
    let chains = [chain(&[TWO], 1), chain(&[THREE], 1)];
    node.publish(published(1, &chains, Some(ONE), ONE));
    node.hear(TWO, beacon(1));
    let span = Some(Duration::from_secs(2));
    node.publish(with_give_up(published(2, &chains, Some(ONE), ONE), span));
    let seen = only(node.until(ms(20_000)));
    let expired = |whom| move |effect: &Effect| matches!(effect, Effect::Expired { node, .. } if *node == whom);
    assert!(!seen.iter().any(expired(TWO)), "two was last heard before it could know");
    assert!(seen.iter().any(expired(THREE)), "three was never heard");
}

// Suspicion

#[test]
fn silence_is_probed_after_t_and_judged_a_fifth_later() {
    let mut node = Node::commander(&[chain(&[ONE, TWO], 1)]);
    node.until(ms(10_200));
    node.hear(TWO, beacon(1));
    let seen = node.until(ms(11_000));
    let at = |wanted: fn(&Effect) -> bool| {
        seen.iter().filter(|(_, effect)| wanted(effect)).map(|(at, _)| *at).collect::<Vec<_>>()
    };
    let probe = |effect: &Effect| matches!(effect, Effect::Send { to: TWO, message: HeartbeatMessage::Probe(_) });
    let suspect = |effect: &Effect| matches!(effect, Effect::Suspect { node: TWO, .. });
    assert_eq!(at(probe), [ms(10_700)]);
    assert_eq!(at(suspect), [ms(10_800)]);
    let evidence = seen.iter().find_map(|(_, effect)| match effect {
        Effect::Suspect { node: TWO, evidence, .. } => Some(evidence.clone()),
        _ => None,
    });
    assert_eq!(evidence.expect("words"), "last heard 0.600s ago; no beacon; probe 2 unanswered for 0.100s");

    let effects = node.hear(TWO, beacon(2));
    assert!(effects.contains(&Effect::Alive { node: TWO, incarnation: LIFE, ailing: Vec::new() }));
    assert!(!node.hear(TWO, beacon(3)).iter().any(|effect| matches!(effect, Effect::Alive { .. })));
}

#[test]
fn a_broken_link_is_probed_at_once() {
    let mut node = Node::commander(&[chain(&[ONE, TWO], 1)]);
    node.hear(TWO, beacon(1));
    let effects = node.step(Input::LinkBroken(TWO));
    assert_eq!(probes(&effects, TWO).len(), 1);
    let seen = node.until(ms(10_100));
    assert!(seen.iter().any(|(at, effect)| *at == ms(10_100) && matches!(effect, Effect::Suspect { node: TWO, .. })));
}

#[test]
fn ten_thousand_reports_about_a_live_node_change_nothing() {
    let mut node = Node::commander(&[chain(&[ONE, TWO], 1)]);
    node.hear(TWO, beacon(1));
    let mut asked = 0;
    for step in 0..10_000 {
        node.now = ms(10_000) + Duration::from_micros(step * 100);
        let effects = node.report(THREE, TWO);
        assert!(!effects.iter().any(|effect| matches!(effect, Effect::Suspect { .. })));
        for probe in probes(&effects, TWO) {
            asked += 1;
            node.hear(TWO, HeartbeatMessage::Probed(probe));
        }
    }
    assert!(asked <= 11, "{asked} probes in a second");
}

#[test]
fn one_that_is_heard_and_hears_nobody_is_probed_like_a_silent_one() {
    let says = |number, hears| {
        let HeartbeatMessage::Beacon(beacon) = beacon(number) else { unreachable!() };
        HeartbeatMessage::Beacon(Beacon { hears, ..beacon })
    };
    let alive = Effect::Alive { node: TWO, incarnation: LIFE, ailing: Vec::new() };
    let mut node = Node::commander(&[chain(&[ONE, TWO], 1)]);
    // Who has just begun has heard nobody yet.
    assert!(node.hear(TWO, says(1, 1)).contains(&alive));
    let probe = probes(&node.hear(TWO, says(2, 1)), TWO)[0];
    node.hear(TWO, HeartbeatMessage::Probed(probe));
    // It goes on saying so, and does not answer any more.
    node.now = ms(10_100);
    assert_eq!(probes(&node.hear(TWO, says(3, 1)), TWO).len(), 1);
    node.now = ms(10_150);
    node.report(TWO, THREE);
    let seen = node.until(ms(10_200));
    assert!(seen.iter().any(|(at, effect)| *at == ms(10_200) && matches!(effect, Effect::Suspect { node: TWO, .. })));
    assert!(!node.hear(TWO, says(4, 1)).contains(&alive));
    assert!(!node.report(TWO, THREE).contains(&alive));
    assert!(node.hear(TWO, says(5, 2)).contains(&alive));
}

#[test]
fn a_live_node_that_another_misses_is_apart_from_it() {
    let mut node = Node::commander(&[chain(&[TWO, THREE], 1)]);
    let missed = HeartbeatMessage::Report { about: TWO, incarnation: LIFE, why: Silence::NoBeacon };
    let apart = |lasting| Effect::Apart { by: THREE, about: TWO, lasting };
    let mut number = 0;
    let mut live_for = |node: &mut Node, beats: u64| {
        (0..beats).for_each(|_| {
            node.now = node.now + Duration::from_millis(100);
            number += 1;
            node.hear(THREE, beacon(number));
            node.hear(TWO, beacon(number));
        });
    };
    live_for(&mut node, 35);
    node.hear(THREE, missed.clone());
    assert!(node.hear(TWO, beacon(1_001)).contains(&apart(true)), "it was missed, and lives");
    assert!(!node.hear(TWO, beacon(1_002)).contains(&apart(true)), "said once a report");
    node.report(THREE, TWO);
    assert!(!node.hear(TWO, beacon(1_003)).contains(&apart(true)), "a command that was not brought there is no proof");
    // Nobody heard it for a while. Others may hear it again later than the commander does.
    node.now = node.now + Duration::from_millis(600);
    live_for(&mut node, 29);
    node.hear(THREE, missed.clone());
    assert!(node.hear(TWO, beacon(1_004)).contains(&apart(false)), "it has not been back for long");
    live_for(&mut node, 3);
    node.hear(THREE, missed);
    assert!(node.hear(TWO, beacon(1_005)).contains(&apart(true)), "it has been back for long");
}

#[test]
fn a_death_right_after_an_answered_probe_is_not_overlooked() {
    let mut node = Node::commander(&[chain(&[ONE, TWO], 1)]);
    let probe = probes(&node.report(THREE, TWO), TWO)[0];
    node.hear(TWO, HeartbeatMessage::Probed(probe));
    node.now = ms(10_010);
    assert_eq!(probes(&node.step(Input::LinkBroken(TWO)), TWO), [0u64; 0], "one in a fifth of T");
    let seen = node.until(ms(10_200));
    let verdict = seen.iter().find(|(_, effect)| matches!(effect, Effect::Suspect { node: TWO, .. }));
    assert_eq!(verdict.expect("a verdict").0, ms(10_200));
}

#[test]
fn a_new_commander_gives_everybody_a_fresh_grace() {
    let mut node = Node::new(ONE);
    node.publish(published(1, &[chain(&[ONE, TWO], 1)], Some(THREE), ONE));
    node.until(ms(15_000));
    let effects = node.publish(published(1, &[chain(&[ONE, TWO], 1)], Some(ONE), ONE));
    assert!(effects.contains(&Effect::Alive { node: ONE, incarnation: LIFE, ailing: Vec::new() }));
    let seen = node.until(ms(15_499));
    assert_eq!(probes(&only(seen), TWO), [0u64; 0]);
    assert_eq!(probes(&only(node.until(ms(15_500))), TWO).len(), 1);
}

#[test]
fn whom_a_new_commander_misses_already_is_probed_at_once() {
    let chains = [chain(&[ONE, TWO], 1)];
    let elected = |node: &mut Node| {
        node.publish(published(1, &chains, Some(ONE), ONE));
        probes(&node.step(Input::Timer), TWO).len()
    };
    let follower = || {
        let mut node = Node::new(ONE);
        node.publish(published(1, &chains, Some(THREE), ONE));
        node.hear(TWO, beacon(1));
        node
    };
    // It was reported after the election and before anything was committed in the new term.
    let mut node = follower();
    node.until(ms(10_400));
    assert_eq!(probes(&node.report(THREE, TWO), TWO), [0u64; 0], "it does not command yet");
    let effects = node.publish(published(1, &chains, Some(ONE), ONE));
    assert_eq!(probes(&effects, TWO).len(), 1);
    let seen = node.until(ms(10_500));
    assert!(seen.iter().any(|(at, effect)| *at == ms(10_500) && matches!(effect, Effect::Suspect { node: TWO, .. })));
    // The commander has missed it for a failure_timeout itself.
    let mut node = follower();
    node.until(ms(10_500));
    let effects = node.publish(published(1, &chains, Some(ONE), ONE));
    assert_eq!(probes(&effects, TWO).len(), 1);
    // A sign of life settles a complaint, and so does time.
    let mut node = follower();
    node.report(THREE, TWO);
    node.hear(TWO, beacon(2));
    assert_eq!(elected(&mut node), 0);
    let mut node = Node::new(ONE);
    node.publish(published(1, &chains, Some(THREE), ONE));
    node.report(THREE, TWO);
    node.now = ms(10_501);
    assert_eq!(elected(&mut node), 0);
}

#[test]
fn a_drone_reports_a_silent_neighbour_each_t_and_decides_nothing() {
    let mut node = Node::new(TWO);
    node.publish(published(1, &[chain(&[TWO, THREE], 1)], Some(ONE), TWO));
    node.hear(THREE, beacon_of(LIFE, 1));
    let reports = |seen: &[(Instant, Effect)]| -> Vec<_> {
        let report = |effect: &Effect| {
            matches!(effect, Effect::Send { to: ONE, message: HeartbeatMessage::Report { about: THREE, .. } })
        };
        seen.iter().filter(|(_, effect)| report(effect)).map(|(at, _)| *at).collect()
    };
    let seen = node.until(ms(11_200));
    assert_eq!(reports(&seen), [ms(10_500), ms(11_000)]);
    assert!(!seen.iter().any(|(_, effect)| matches!(effect, Effect::Suspect { .. })));
    let effects = node.step(Input::Unreachable(ONE, Silence::Unreachable));
    assert_eq!(effects, [], "the commander's own silence is the election machine's matter");
    node.hear(THREE, beacon_of(LIFE, 2));
    let effects = node.step(Input::LinkBroken(THREE));
    assert_eq!(effects.len(), 1);
    assert_eq!(node.step(Input::LinkBroken(THREE)), [], "not more often than each beat");
}

#[test]
fn an_older_life_is_not_heard_any_more() {
    let mut node = Node::commander(&[chain(&[ONE, TWO], 1)]);
    let next = Incarnation(2);
    let effects = node.hear_life(TWO, next, beacon_of(next, 1));
    assert!(effects.contains(&Effect::Alive { node: TWO, incarnation: next, ailing: Vec::new() }));
    assert_eq!(node.hear(TWO, beacon(7)), []);
}
