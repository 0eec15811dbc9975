//! A mesh of three in several states, and what an operator is told of each.

use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::*;
use crate::machines::dictionary::Dictionary;
use crate::messages::election::Seats;
use crate::messages::events::{Event, EventKind};
use crate::messages::ownership::{
    Addresses, Cause, Chain, GiveUp, Holder, HolderState, Member, MeshSettings, Role, Standing,
};
use crate::messages::status::{EventStatus, Explanation, Location, Map, Nodes};
use crate::types::{Epoch, Generation, Incarnation, Instant, MeshId, RangeId, Slot, Term, Version};

const RANGES: u16 = 16;

struct World {
    me: Candidate,
    published: Option<Published>,
    leases: Leases,
    ailing: BTreeMap<NodeId, Vec<String>>,
    progress: Option<Progress>,
    chronicle: Chronicle,
}

fn candidate(number: u64) -> Candidate {
    let door = |base: u64| format!("127.0.0.1:{}", base + number);
    Candidate {
        id: NodeId(0xabcd_0000_0000_0000 + number),
        incarnation: Incarnation(5),
        name: format!("node-{number}"),
        addresses: Addresses { peer: door(16_233), client: door(6_233), cluster: door(7_233), console: door(8_233) },
        zone: String::new(),
        weight: 100,
        role: Role::Drone,
    }
}

fn id(number: u64) -> NodeId {
    candidate(number).id
}

fn holder(number: u64, state: HolderState) -> Holder {
    Holder { node: id(number), incarnation: Incarnation(5), state }
}

impl World {
    /// Three nodes that are well; each heads a third, as one run.
    fn well() -> Self {
        let member = |number: u64| Member::new(number as u16, candidate(number), Standing::Up);
        let chain = |range: u64| Chain {
            epoch: Epoch(4),
            generation: Generation(1),
            changed: Version(9),
            holders: vec![holder(1 + range * 3 / u64::from(RANGES), HolderState::Serving)],
            former: Vec::new(),
            revived: None,
            cause: Cause::Placement,
        };
        let dictionary = Dictionary::assembled(
            MeshId(7),
            Version(9),
            MeshSettings { factor: 1, ranges: RANGES, ..MeshSettings::default() },
            (1..=3).map(|number| (id(number), member(number))).collect(),
            (0..u64::from(RANGES)).map(|range| Arc::new(chain(range))).collect(),
        );
        let published = Published {
            dictionary: Arc::new(dictionary),
            term: Term(3),
            commander: Some(id(2)),
            commanding: false,
            seats: Seats { voters: vec![id(1), id(2), id(3)], ..Seats::default() },
        };
        Self {
            me: candidate(1),
            published: Some(published),
            leases: Leases::default(),
            ailing: BTreeMap::new(),
            progress: None,
            chronicle: Chronicle::new(10),
        }
    }

    fn agreed(&mut self) -> &mut Published {
        self.published.as_mut().unwrap()
    }

    fn dictionary(&mut self) -> &mut Dictionary {
        Arc::make_mut(&mut self.agreed().dictionary)
    }

    fn chain(&mut self, range: usize) -> &mut Chain {
        Arc::make_mut(&mut self.dictionary().chains[range])
    }

    /// Counts anew what a test has changed behind the dictionary's back.
    fn recount(&mut self) {
        let Dictionary { mesh, version, settings, roster, chains, .. } = self.dictionary().clone();
        *self.dictionary() = Dictionary::assembled(mesh, version, settings, roster, chains);
    }

    fn stand(&mut self, number: u64, standing: Standing) {
        self.dictionary().roster.get_mut(&id(number)).unwrap().standing = standing;
    }

    fn view(&self) -> View<'_> {
        View {
            now: Now { instant: Instant(1_000), wall_ms: 1 },
            me: &self.me,
            published: self.published.as_ref(),
            leases: Some(&self.leases),
            ailing: &self.ailing,
            progress: self.progress,
            asking: &[],
            chronicle: &self.chronicle,
        }
    }

    fn ask(&self, line: &str) -> Answer {
        let words: Vec<Bytes> = line.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect();
        answer(&self.view(), &words)
    }

    fn json<T: DeserializeOwned>(&self, line: &str) -> T {
        match self.ask(line) {
            Answer::Reply(Reply::Bulk(bytes)) => serde_json::from_slice(&bytes).unwrap(),
            other => panic!("{line}: {other:?}"),
        }
    }

    fn refusal(&self, line: &str) -> String {
        match self.ask(line) {
            Answer::Reply(Reply::Error(text)) => text.into_owned(),
            other => panic!("{line}: {other:?}"),
        }
    }

    /// Codes of the problems, grave ones first, a bar between.
    fn codes(&self) -> String {
        let status = status(&self.view());
        let of = |grave| {
            let found = status.problems.iter().filter(|problem| problem.grave == grave);
            found.map(|problem| problem.code.as_str()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(status.well, of(true).is_empty());
        format!("{} | {}", of(true), of(false))
    }

    fn doing(&self, code: &str) -> String {
        status(&self.view()).problems.into_iter().find(|problem| problem.code == code).expect(code).doing
    }
}

#[test]
fn a_mesh_that_is_well_says_so() {
    let world = World::well();
    let status: Status = world.json("MESH STATUS");
    assert!(status.well && status.problems.is_empty(), "{status:?}");
    assert_eq!((status.ranges.total, status.ranges.served, status.nodes.up, status.term), (16, 16, 3, 3));
    assert_eq!(status.commander.unwrap().client, "127.0.0.1:6235");
    assert_eq!((status.me.name.as_str(), status.state.as_str()), ("node-1", "up"));
}

#[test]
fn a_node_without_a_mesh_says_what_it_waits_for() {
    let mut world = World::well();
    world.published = None;
    let asking = ["10.0.0.1:16234".to_owned()];
    let view = View { asking: &asking, ..world.view() };
    let found = &status(&view).problems[0];
    assert_eq!((found.code.as_str(), found.grave), ("no-mesh", true));
    assert!(found.doing.contains("10.0.0.1:16234"));
    assert!(world.refusal("MESH MAP").starts_with("NOMESH "));
    assert!(world.refusal("MESH DROP node-2").starts_with("NOMESH "));
    let nodes: Nodes = world.json("MESH NODES");
    assert_eq!((nodes.nodes.len(), nodes.nodes[0].state.as_str()), (1, "joining"));
}

#[test]
fn a_lost_drone_is_named_with_its_ranges_and_what_becomes_of_them() {
    let mut world = World::well();
    world.stand(3, Standing::Suspect);
    assert_eq!(world.codes(), "node-suspect ranges-unserved | ");
    assert!(world.doing("ranges-unserved").contains("silent for 2s"), "{}", world.doing("ranges-unserved"));
    assert!(world.doing("node-suspect").contains("its vote goes to a learner after 5s"));
    // With more copies nobody is given up for silence.
    world.dictionary().settings.give_up = GiveUp::Never;
    assert!(world.doing("ranges-unserved").contains("keyval ctl drop"));
    // No promise is made while nobody commands.
    world.agreed().commander = None;
    assert_eq!(world.codes(), "no-commander node-suspect ranges-unserved | ");
    assert_eq!(world.doing("ranges-unserved"), "nothing before a commander rules");
    assert!(world.doing("no-commander").contains("2 of 3 must reach each other"));
}

#[test]
fn a_range_whose_head_was_started_again_is_not_served() {
    let mut world = World::well();
    world.dictionary().roster.get_mut(&id(3)).unwrap().node.incarnation = Incarnation(6);
    let status: Status = world.json("MESH STATUS");
    assert!(!status.well && status.ranges.unserved == 5, "{status:?}");
    let problem = &status.problems[0];
    assert_eq!(problem.what, "5 ranges (11-15), headed by node-3: not served");
}

#[test]
fn what_is_under_way_is_told_and_is_not_grave() {
    let mut world = World::well();
    world.chain(0).holders.push(holder(2, HolderState::Loading));
    world.chain(1).holders[0].state = HolderState::Leaving;
    world.stand(2, Standing::Joining);
    world.chain(1).holders.push(holder(1, HolderState::Serving));
    world.agreed().seats = Seats { voters: vec![id(1)], outgoing: vec![id(2)], ..Seats::default() };
    world.me.addresses.client = "10.0.0.9:6234".into();
    world.dictionary().chains.truncate(2);
    world.recount();
    world.progress = Some(Progress { done: 3, left: 9, bytes: 12_300_000, rate: 4_000_000, remaining_s: Some(31) });
    assert_eq!(
        world.codes(),
        " | node-joining ranges-moving ranges-loading ranges-leaving few-voters seats-changing address-differs"
    );
}

#[test]
fn moves_are_told_with_their_bytes_and_their_end() {
    let mut world = World::well();
    world.progress = Some(Progress { done: 3, left: 9, bytes: 12_300_000, rate: 4_000_000, remaining_s: Some(31) });
    let status: Status = world.json("MESH STATUS");
    assert_eq!(status.progress, world.progress);
    assert_eq!(status.problems[0].what, "ranges are being moved: 3 of 12 ranges are through, 12.3 MB streamed");
    assert_eq!(world.doing("ranges-moving"), "4.0 MB/s, about 31s to go");
}

#[test]
fn copies_majorities_and_ailments_are_watched() {
    let mut world = World::well();
    world.dictionary().settings.factor = 2;
    assert_eq!(world.codes(), "few-copies | ");
    world.dictionary().settings.min_copies = 2;
    assert_eq!(world.codes(), "too-few-copies | ");
    let mut world = World::well();
    world.ailing.insert(id(2), vec!["the disk is slow".into()]);
    world.leases.silent_after = Some(Instant(999));
    assert_eq!(world.codes(), "silenced node-ailing | ");
    let mut world = World::well();
    world.stand(2, Standing::Suspect);
    world.stand(3, Standing::Suspect);
    assert!(world.codes().contains("majority-at-risk"), "{}", world.codes());
}

#[test]
fn the_roster_tells_seats_and_shares() {
    let mut world = World::well();
    world.agreed().seats = Seats { voters: vec![id(1), id(2)], learners: vec![id(3)], ..Seats::default() };
    let nodes: Nodes = world.json("mesh nodes");
    let told: Vec<_> =
        nodes.nodes.iter().map(|node| (node.name.as_str(), node.seat.as_str(), node.heads, node.commander)).collect();
    assert_eq!(told, [("node-1", "voter", 6, false), ("node-2", "voter", 5, true), ("node-3", "learner", 5, false)]);
}

#[test]
fn the_map_draws_neighbours_together() {
    let map: Map = World::well().json("MESH MAP");
    let told: Vec<_> = map.runs.iter().map(|run| (run.slots, run.holders[0].name.as_str(), run.served)).collect();
    assert_eq!(
        told,
        [((0, 6143), "node-1", true), ((6144, 11_263), "node-2", true), ((11_264, 16_383), "node-3", true)]
    );
}

#[test]
fn a_key_is_located() {
    let location: Location = World::well().json("MESH LOCATE foo");
    assert_eq!((location.slot, location.range), (12_182, Slot(12_182).range(16).0));
    assert_eq!(location.head.unwrap().cluster, "127.0.0.1:7236");
}

#[test]
fn explain_tells_state_cause_and_events() {
    let mut world = World::well();
    let lost = Cause::Lost { node: id(2), evidence: "no beacon for 0.5s, probed in vain".into() };
    world.chain(12).cause = lost;
    let event = Event {
        kind: EventKind::ChainsChanged,
        term: Term(3),
        version: Version(9),
        node: Some(id(3)),
        ranges: vec![RangeId(7), RangeId(12), RangeId(13)],
        text: "node-3 takes over".into(),
    };
    world.chronicle.record(Now::default(), event.clone());
    // Of another range; of a node that is no member; and what concerns all ranges.
    let others = [
        Event { ranges: vec![RangeId(9)], ..event.clone() },
        Event { kind: EventKind::NodeSuspect, node: Some(id(77)), ranges: vec![], ..event.clone() },
        Event { kind: EventKind::CommanderElected, ranges: vec![], text: "node-3 commands".into(), ..event },
    ];
    for event in others {
        world.chronicle.record(Now::default(), event);
    }
    for what in ["range:12", "slot:12300", "12300"] {
        let explained: Explanation = world.json(&format!("MESH EXPLAIN {what}"));
        assert_eq!(explained.what, "range 12, slots 12288 to 13311");
        assert!(explained.now.iter().any(|line| line.contains("node-2 was lost: no beacon")), "{explained:?}");
        let EventStatus { ranges, kind, .. } = &explained.events[0];
        assert_eq!((ranges.as_str(), kind.as_str()), ("7, 12-13", "ChainsChanged"));
        let texts: Vec<&str> = explained.events.iter().map(|event| event.text.as_str()).collect();
        assert_eq!(texts, ["node-3 takes over", "node-3 commands"]);
    }
    for what in ["node-3", "node:node-3", "abcd000000000003"] {
        let explained: Explanation = world.json(&format!("MESH EXPLAIN {what}"));
        assert_eq!((explained.what.as_str(), explained.events.len()), ("drone node-3 (abcd000000000003)", 3));
    }
    assert!(world.refusal("MESH EXPLAIN range:16").contains("0 to 15"));
    assert!(world.refusal("MESH EXPLAIN abcd").contains("several"));
    assert!(world.refusal("MESH EXPLAIN nobody").contains("nobody"));
}

#[test]
fn orders_name_nodes_and_go_to_the_ownership_machine() {
    let world = World::well();
    let since_ms = world.view().now.wall_ms;
    assert_eq!(world.ask("MESH PAUSE"), Answer::Order(Order::Pause { since_ms }));
    assert_eq!(world.ask("MESH RESUME"), Answer::Order(Order::Resume));
    assert_eq!(world.ask("MESH VERIFY"), Answer::Verify(None));
    assert_eq!(world.ask("MESH VERIFY slot:1024"), Answer::Verify(Some(RangeId(1))));
    assert!(world.refusal("MESH VERIFY node-1").contains("range:N"));
    assert_eq!(world.ask("MESH STEPDOWN"), Answer::Order(Order::StepDown { to: None }));
    assert_eq!(world.ask("MESH STEPDOWN node-3"), Answer::Order(Order::StepDown { to: Some(id(3)) }));
    assert_eq!(world.ask("MESH DROP node-3"), Answer::Order(Order::Drop { node: id(3) }));
    assert_eq!(world.ask("MESH DRAIN node-3"), Answer::Order(Order::Drain { node: id(3) }));
    assert_eq!(world.ask("MESH DRAIN node-3 DRYRUN"), Answer::Order(Order::Preview { drain: Some(id(3)) }));
    assert_eq!(world.ask("MESH ABORT node-3"), Answer::Order(Order::Abort { node: id(3) }));
    assert_eq!(world.ask("MESH PROMOTE node-3"), Answer::Order(Order::Promote { node: id(3) }));
    assert_eq!(world.ask("MESH DEMOTE node-3"), Answer::Order(Order::Demote { node: id(3) }));
    assert_eq!(world.ask("MESH WEIGHT node-3 250"), Answer::Order(Order::Weigh { node: id(3), weight: Some(250) }));
    assert_eq!(world.ask("MESH WEIGHT node-3 own"), Answer::Order(Order::Weigh { node: id(3), weight: None }));
    assert!(world.refusal("MESH WEIGHT node-3 heavy").contains("not an integer"));
    let zone = |zone: &str| Answer::Order(Order::Zone { node: id(3), zone: Some(zone.into()) });
    assert_eq!(world.ask("MESH ZONE node-3 east"), zone("east"));
    assert_eq!(world.ask("MESH ZONE node-3 none"), zone(""));
    assert_eq!(world.ask("MESH ZONE node-3 own"), Answer::Order(Order::Zone { node: id(3), zone: None }));
    assert_eq!(world.ask("MESH REBALANCE"), Answer::Order(Order::Rebalance));
    assert_eq!(world.ask("MESH REBALANCE dryrun"), Answer::Order(Order::Preview { drain: None }));
    assert!(world.refusal("MESH DRAIN node-3 SOON").starts_with("ERR "));
    assert_eq!(ordered(Err("the commander lives".into())), Reply::error("REFUSED the commander lives"));
}

#[test]
fn watchers_are_told_what_they_missed_and_wait_for_the_rest() {
    let mut world = World::well();
    assert_eq!(world.ask("MESH WATCH"), Answer::Watch { after: 0 });
    let event = Event {
        kind: EventKind::Noticed,
        term: Term(1),
        version: Version(1),
        node: None,
        ranges: Vec::new(),
        text: "x".into(),
    };
    for _ in 0..12 {
        world.chronicle.record(Now::default(), event.clone());
    }
    let watched: Watched = world.json("MESH WATCH 0");
    assert_eq!((watched.missed, watched.events.len(), watched.last), (2, 10, 12));
    assert_eq!(world.ask("MESH WATCH 12"), Answer::Watch { after: 12 });
    // A number of an earlier life: from the beginning.
    let watched: Watched = world.json("MESH WATCH 500");
    assert_eq!((watched.missed, watched.events[0].number), (2, 3));
}

#[test]
fn other_words_are_answered_with_help() {
    let world = World::well();
    assert!(matches!(world.ask("MESH HELP"), Answer::Reply(Reply::Array(_))));
    assert!(world.refusal("MESH CONQUER").starts_with("ERR "));
    assert!(world.refusal("MESH LOCATE").starts_with("ERR "));
}
