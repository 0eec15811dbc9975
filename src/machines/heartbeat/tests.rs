//! Small facts of beacons, leases and suspicion, one machine at a time; and two clocks that drift apart.

use super::*;
use crate::machines::dictionary::Dictionary;
use crate::messages::election::Seats;
use crate::messages::ownership::{
    Addresses, Candidate, Cause, Chain, Former, GiveUp, Holder, HolderState, Member, Role, Standing,
};
use crate::types::{Epoch, Generation, MeshId};

const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);
const THREE: NodeId = NodeId(3);
const LIFE: Incarnation = Incarnation(1);

fn ms(ms: u64) -> Instant {
    Instant(ms * 1_000_000)
}

fn holder(node: NodeId) -> Holder {
    Holder { node, incarnation: LIFE, state: HolderState::Serving }
}

fn chain(holders: &[NodeId], changed: u64) -> Arc<Chain> {
    Arc::new(Chain {
        epoch: Epoch(changed),
        generation: Generation(1),
        changed: Version(changed),
        holders: holders.iter().copied().map(holder).collect(),
        former: Vec::new(),
        revived: None,
        cause: Cause::Founded,
    })
}

fn member(id: NodeId) -> Member {
    let node = Candidate {
        id,
        incarnation: LIFE,
        name: format!("drone-{}", id.0),
        addresses: Addresses::default(),
        zone: String::new(),
        weight: 100,
        role: Role::Drone,
    };
    Member::new(id.0 as u16, node, Standing::Up)
}

/// Nodes 1, 2, 3; `chains` at `version`; never given up by time.
fn published(version: u64, chains: &[Arc<Chain>], commander: Option<NodeId>, me: NodeId) -> Published {
    let settings = MeshSettings { give_up: GiveUp::Never, ..MeshSettings::default() };
    let roster = [ONE, TWO, THREE].map(|id| (id, member(id))).into();
    let dictionary = Dictionary::assembled(MeshId(7), Version(version), settings, roster, chains.to_vec());
    let seats = Seats { voters: vec![ONE, TWO, THREE], ..Seats::default() };
    let commanding = commander == Some(me);
    Published { dictionary: Arc::new(dictionary), term: Term(5), commander, commanding, seats }
}

fn with_give_up(mut published: Published, span: Option<Duration>) -> Published {
    let mut dictionary = (*published.dictionary).clone();
    dictionary.settings.give_up = span.map_or(GiveUp::Never, GiveUp::After);
    published.dictionary = Arc::new(dictionary);
    published
}

struct Node {
    machine: Heartbeat,
    now: Instant,
}

impl Node {
    fn new(me: NodeId) -> Self {
        Self { machine: Heartbeat::new(me, LIFE, 42), now: ms(10_000) }
    }

    /// Node 1 in command of chains held by 1 and 2.
    fn commander(chains: &[Arc<Chain>]) -> Self {
        let mut node = Self::new(ONE);
        node.publish(published(1, chains, Some(ONE), ONE));
        node
    }

    fn step(&mut self, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.machine.step(Now { instant: self.now, wall_ms: 0 }, input, &mut effects);
        effects
    }

    fn publish(&mut self, published: Published) -> Vec<Effect> {
        self.step(Input::Published(Arc::new(published)))
    }

    fn hear(&mut self, from: NodeId, message: HeartbeatMessage) -> Vec<Effect> {
        self.hear_life(from, LIFE, message)
    }

    fn hear_life(&mut self, from: NodeId, incarnation: Incarnation, message: HeartbeatMessage) -> Vec<Effect> {
        self.step(Input::Peer { from, incarnation, message })
    }

    fn report(&mut self, from: NodeId, about: NodeId) -> Vec<Effect> {
        self.hear(from, HeartbeatMessage::Report { about, incarnation: LIFE, why: Silence::Unreachable })
    }

    /// Lets time pass as an actor would: told at each deadline, at its very instant.
    fn until(&mut self, end: Instant) -> Vec<(Instant, Effect)> {
        let mut seen = Vec::new();
        while let Some(at) = self.machine.deadline().filter(|at| *at <= end) {
            self.now = at.max(self.now);
            let effects = self.step(Input::Timer);
            seen.extend(effects.into_iter().map(|effect| (self.now, effect)));
            assert!(self.machine.deadline().is_none_or(|next| next > self.now), "a deadline is not met by its timer");
        }
        self.now = end;
        seen
    }
}

fn beacon(number: u64) -> HeartbeatMessage {
    beacon_of(LIFE, number)
}

fn beacon_of(life: Incarnation, number: u64) -> HeartbeatMessage {
    HeartbeatMessage::Beacon(Beacon {
        term: Term(5),
        commander: Some(ONE),
        version: Version(1),
        ask: AskId { life, number },
        hears: 3,
        ailing: Vec::new(),
    })
}

fn grants(effects: &[Effect]) -> Vec<(NodeId, Grant)> {
    let grant = |effect: &Effect| match effect {
        Effect::Send { to, message: HeartbeatMessage::Grant(grant) } => Some((*to, grant.clone())),
        _ => None,
    };
    effects.iter().filter_map(grant).collect()
}

fn asks(effects: &[Effect]) -> Vec<(NodeId, AskId)> {
    let ask = |effect: &Effect| match effect {
        Effect::Send { to, message: HeartbeatMessage::Beacon(beacon) } => Some((*to, beacon.ask)),
        _ => None,
    };
    effects.iter().filter_map(ask).collect()
}

fn rounds(effects: &[Effect]) -> Vec<u64> {
    let round = |effect: &Effect| match effect {
        Effect::Confirm { ask } => Some(*ask),
        _ => None,
    };
    effects.iter().filter_map(round).collect()
}

fn leases(effects: &[Effect]) -> Option<Arc<Leases>> {
    effects.iter().rev().find_map(|effect| match effect {
        Effect::Leases(leases) => Some(Arc::clone(leases)),
        _ => None,
    })
}

fn adoption(effects: &[Effect]) -> Arc<Adoption> {
    let adopted = effects.iter().find_map(|effect| match effect {
        Effect::Adopt(adoption) => Some(Arc::clone(adoption)),
        _ => None,
    });
    adopted.expect("an adoption")
}

fn probes(effects: &[Effect], whom: NodeId) -> Vec<u64> {
    let probe = |effect: &Effect| match effect {
        Effect::Send { to, message: HeartbeatMessage::Probe(id) } if *to == whom => Some(*id),
        _ => None,
    };
    effects.iter().filter_map(probe).collect()
}

fn only(effects: Vec<(Instant, Effect)>) -> Vec<Effect> {
    effects.into_iter().map(|(_, effect)| effect).collect()
}

fn confirmed(ask: u64, version: u64) -> Input {
    Input::Confirmed { ask, term: Term(5), version: Version(version) }
}

// Leases given

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
    assert_eq!(rounds(&before), [0u64; 0], "a second hurried round waits a twentieth of T");
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

#[test]
fn a_lease_ends_before_its_promise_whatever_the_clocks_within_the_drift_and_the_network_do() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut counted = 0;
    for _ in 0..300 {
        let (one, two) = (Clock::random(&mut rng), Clock::random(&mut rng));
        let (mut head, mut other) = (Node::new(ONE), Node::new(TWO));
        let chains = [chain(&[ONE, TWO], 1)];
        head.now = one.at(0.0);
        other.now = two.at(0.0);
        let mut sent = asks(&head.publish(published(1, &chains, None, ONE)));
        other.publish(published(1, &chains, None, TWO));
        let mut truth = 0.0;
        let mut held: f64 = 0.0;
        for _ in 0..rng.gen_range(1..12) {
            let there = truth + rng.gen_range(0.0..300e6);
            let back = there + rng.gen_range(0.0..300e6);
            other.now = two.at(there).max(other.now);
            let Some((_, ask)) = sent.iter().find(|(to, _)| *to == TWO) else { break };
            let granted = grants(&other.hear(ONE, beacon_of(LIFE, ask.number)));
            head.now = one.at(back).max(head.now);
            for (_, grant) in granted {
                let effects = head.hear(TWO, HeartbeatMessage::Grant(grant));
                for lease in leases(&effects).iter().flat_map(|leases| leases.members.get(&TWO)).flatten() {
                    held = held.max(one.truth(lease.until));
                }
            }
            truth = back + rng.gen_range(1e6..400e6);
            sent = asks(&only(head.until(one.at(truth))));
        }
        // Two becomes head now, and must wait out what it promised.
        let effects = other.publish(published(2, &[chain(&[TWO], 2)], None, TWO));
        let free = adoption(&effects).promises.get(&ONE).copied().unwrap_or(other.now);
        assert!(held <= two.truth(free), "one answers until {held}, two from {free}");
        counted += u32::from(held > 0.0);
    }
    assert!(counted > 250, "only {counted} runs held a lease");
}

/// A clock that runs at its own rate and stands anywhere when the true time is zero.
#[derive(Clone, Copy)]
struct Clock {
    rate: f64,
    start: u64,
}

impl Clock {
    fn random(rng: &mut ChaCha8Rng) -> Self {
        let drift = Timing::default().drift_ppm as f64 / 1e6;
        // As fast or as slow as may be, more often than not.
        let skew = if rng.gen_bool(0.3) { rng.gen_range(-0.999..0.999) } else { [-0.999, 0.999][rng.gen_range(0..2)] };
        Self { rate: 1.0 + drift * skew, start: rng.gen_range(1_000_000_000..2_000_000_000) }
    }

    fn at(self, truth: f64) -> Instant {
        Instant(self.start + (truth * self.rate) as u64)
    }

    fn truth(self, at: Instant) -> f64 {
        (at.0 - self.start) as f64 / self.rate
    }
}

/// Node 1 commands and holds node 2 alive, until node 3 is elected, which never hears node 2.
#[test]
fn a_life_that_is_given_up_has_ended_by_itself_whatever_the_clocks_within_the_drift_do() {
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let span = Some(Duration::from_secs(2));
    let at = |commander, me| with_give_up(published(1, &[chain(&[TWO], 1)], commander, me), span);
    let mut alive = 0;
    for _ in 0..200 {
        let clocks = [(); 3].map(|()| Clock::random(&mut rng));
        let mut nodes = [ONE, TWO, THREE].map(Node::new);
        let elected = rng.gen_range(0.5e9..4e9);
        for ((node, clock), me) in nodes.iter_mut().zip(clocks).zip([ONE, TWO, THREE]) {
            node.now = clock.at(0.0);
            node.publish(at(Some(ONE), me));
        }
        let [old, holder, new] = &mut nodes;
        let mut ends: f64 = 0.0;
        let mut truth = 0.0;
        while truth < elected {
            truth += rng.gen_range(10e6..100e6);
            let sent = asks(&only(holder.until(clocks[1].at(truth))));
            let Some((_, ask)) = sent.last() else { continue };
            let there = truth + rng.gen_range(0.0..40e6);
            old.until(clocks[0].at(there));
            let mut begun = rounds(&old.hear(TWO, beacon_of(LIFE, ask.number)));
            let confirmed_at = there + rng.gen_range(25e6..100e6);
            begun.extend(rounds(&only(old.until(clocks[0].at(confirmed_at)))));
            truth = confirmed_at;
            // A quorum that has elected another confirms nothing any more.
            for round in begun.into_iter().filter(|_| confirmed_at < elected) {
                let given = grants(&old.step(confirmed(round, 1)));
                // However late the grant arrives.
                holder.until(clocks[1].at(confirmed_at + rng.gen_range(0.0..500e6)).max(holder.now));
                truth = truth.max(clocks[1].truth(holder.now));
                for (_, grant) in given.into_iter().filter(|(to, _)| *to == TWO) {
                    let effects = holder.hear(ONE, HeartbeatMessage::Grant(grant));
                    let after = leases(&effects).and_then(|leases| leases.silent_after);
                    ends = after.map_or(ends, |after| ends.max(clocks[1].truth(after)));
                }
            }
        }
        new.until(clocks[2].at(elected));
        new.publish(at(Some(THREE), THREE));
        let seen = new.until(clocks[2].at(elected + 5e9));
        let said = seen.iter().find(|(_, effect)| matches!(effect, Effect::Expired { node: TWO, .. }));
        let said = clocks[2].truth(said.expect("it is given up").0);
        assert!(ends < said, "it answers until {ends}, and is given up at {said}");
        alive += u32::from(ends > 0.0);
    }
    assert!(alive > 150, "only {alive} were ever alive");
}
