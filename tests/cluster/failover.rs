//! Commander and drones killed and paused: how long until others have taken over.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use keyval::types::{RangeId, SLOTS, Slot};

use crate::client::{Client, Reply};
use crate::mesh::{Mesh, until};
use crate::rounds;

const RANGES: usize = 1024;

/// One key in each range.
fn a_key_a_range() -> BTreeMap<RangeId, String> {
    let mut keys = BTreeMap::new();
    let mut number = 0u32;
    while keys.len() < RANGES {
        let key = format!("k{number}");
        keys.entry(RangeId::of_key(key.as_bytes(), RANGES)).or_insert(key);
        number += 1;
    }
    keys
}

/// Which node heads each slot, as a node's CLUSTER SLOTS says; slots of nobody are missing.
fn heads(mesh: &Mesh, at: usize) -> BTreeMap<u16, usize> {
    let mut heads = BTreeMap::new();
    let Ok(Reply::Array(runs)) = mesh.ask(at, &["CLUSTER", "SLOTS"]) else { return heads };
    for run in runs {
        let Reply::Array(run) = run else { continue };
        let [Reply::Integer(first), Reply::Integer(last), Reply::Array(head), ..] = run.as_slice() else { continue };
        let address = format!("{}:{}", head[0].text().expect("a host"), head[1].text().expect("a port"));
        if let Some(node) = mesh.nodes.iter().position(|node| node.cluster == address) {
            heads.extend((*first as u16..=*last as u16).map(|slot| (slot, node)));
        }
    }
    heads
}

/// The head of each slot, once all nodes name the same for every slot: a node may know of a change before another does.
fn settled_heads(mesh: &Mesh) -> BTreeMap<u16, usize> {
    let mut settled = BTreeMap::new();
    until("all nodes know the same head of every slot", Duration::from_secs(20), || {
        let mut maps = (0..mesh.nodes.len()).map(|node| heads(mesh, node));
        settled = maps.next().expect("a mesh has nodes");
        settled.len() == usize::from(SLOTS) && maps.all(|map| map == settled)
    });
    settled
}

/// Waits until a node other than `lost` names a commander of a later term, and says how long that took.
fn until_another_rules(mesh: &Mesh, lost: usize, term: u64, since: Instant) -> Duration {
    let mut clients: Vec<Client> = mesh.others(lost).into_iter().map(|node| mesh.client(node)).collect();
    until("another commander rules", Duration::from_secs(10), || {
        clients.iter_mut().any(|client| {
            let Ok(hello) = client.ask(&["HELLO"]) else { return false };
            let commander = hello.field("commander").and_then(|reply| reply.text());
            let now = hello.field("term").and_then(|reply| reply.text()).and_then(|text| text.parse().ok());
            commander.is_some_and(|commander| commander != mesh.nodes[lost].client) && now > Some(term)
        })
    });
    since.elapsed()
}

fn report(what: &str, mut times: Vec<Duration>, limit: Duration, but: usize) {
    times.sort();
    let late = times.iter().filter(|time| **time > limit).count();
    eprintln!(
        "{what}: {} rounds, median {:?}, longest {:?}, {late} over {limit:?}",
        times.len(),
        times[times.len() / 2],
        times[times.len() - 1]
    );
    assert!(late <= but, "{what}: {late} of {} over {limit:?}: {times:?}", times.len());
}

#[test]
fn commander_killed_or_paused_is_replaced_within_a_second() {
    let mut mesh = Mesh::start(5);
    let rounds = rounds(4);
    let all: Vec<usize> = (0..5).collect();
    let mut times = Vec::new();
    for round in 0..rounds {
        mesh.until_well(0, 5, Duration::from_secs(60));
        // Who came back is given its share: what it heads must stay there while the story looks.
        mesh.until_spread(0, Duration::from_secs(60));
        let (commander, term) = mesh.commander(&all);
        let keys = a_key_a_range();
        let before = settled_heads(&mesh);
        let others = mesh.others(commander);
        let mut client = mesh.client(others[0]);
        let kept: Vec<&String> =
            keys.values().filter(|key| before.get(&Slot::of_key(key.as_bytes()).0) != Some(&commander)).collect();
        for key in keys.values() {
            let reply = client.ask(&["SET", key, &format!("{key} in round {round}")]).expect("a reply");
            assert_eq!(reply, Reply::Simple("OK".into()), "SET {key}");
        }

        let start = Instant::now();
        let killed = round % 2 == 0;
        if killed {
            mesh.kill(commander)
        } else {
            mesh.pause(commander)
        }
        times.push(until_another_rules(&mesh, commander, term, start));

        // What was not on the lost drone is there, through every other node.
        for node in &others {
            let mut client = mesh.client(*node);
            for key in kept.iter().skip(*node).step_by(5) {
                let reply = client.ask(&["GET", key]).expect("a reply");
                assert_eq!(reply, Reply::Bulk(format!("{key} in round {round}")), "GET {key}");
            }
        }
        if killed { mesh.restart(commander) } else { mesh.resume(commander) }
    }
    report("another commander rules", times, Duration::from_secs(1), rounds.div_ceil(20));
}

#[test]
fn ranges_of_a_killed_drone_are_served_by_several_others() {
    let mut mesh = Mesh::start(5);
    let rounds = rounds(2);
    let all: Vec<usize> = (0..5).collect();
    let keys = a_key_a_range();
    let mut times = Vec::new();
    for _ in 0..rounds {
        mesh.until_well(0, 5, Duration::from_secs(60));
        // Who came back is given its share: what it heads must stay there while the story looks.
        mesh.until_spread(0, Duration::from_secs(60));
        let (commander, _) = mesh.commander(&all);
        let victim = (commander + 2) % 5;
        let door = (commander + 1) % 5;
        let before = settled_heads(&mesh);
        let lost: Vec<(u16, &String)> = keys
            .values()
            .map(|key| (Slot::of_key(key.as_bytes()).0, key))
            .filter(|(slot, _)| before.get(slot) == Some(&victim))
            .collect();
        assert!(lost.len() > RANGES / 10, "the victim heads its share: {} ranges", lost.len());

        let start = Instant::now();
        mesh.kill(victim);
        let mut waiting: Vec<&(u16, &String)> = lost.iter().collect();
        let mut client = mesh.client(door);
        until("every range of the lost drone takes writes", Duration::from_secs(10), || {
            waiting
                .retain(|(_, key)| client.ask(&["SET", key, "again"]).is_ok_and(|r| r != Reply::Simple("OK".into())));
            waiting.is_empty()
        });
        times.push(start.elapsed());
        let after = heads(&mesh, door);
        let takers: BTreeSet<usize> = lost.iter().filter_map(|(slot, _)| after.get(slot).copied()).collect();
        assert!(takers.len() >= 3 && !takers.contains(&victim), "served by {takers:?}");
        mesh.restart(victim);
    }
    report("ranges of a killed drone are served", times, Duration::from_secs(3), 0);
}

#[test]
fn all_killed_at_once_come_back_as_the_same_mesh() {
    let mut mesh = Mesh::start(3);
    let hello = mesh.ask(0, &["HELLO"]).expect("a reply");
    let (_, term) = mesh.commander(&[0, 1, 2]);
    let id = hello.field("mesh").expect("a mesh id");
    let names = roster(&mesh);
    for _ in 0..rounds(1) {
        mesh.kill_all();
        mesh.start_again();
        mesh.until_well(0, 3, Duration::from_secs(30));
        let (_, again) = mesh.commander(&[0, 1, 2]);
        assert!(again > term, "terms never fall: {term}, then {again}");
        for node in 0..3 {
            assert_eq!(mesh.ask(node, &["HELLO"]).expect("a reply").field("mesh"), Some(id.clone()));
        }
        assert_eq!(roster(&mesh), names);
    }
}

fn roster(mesh: &Mesh) -> BTreeSet<String> {
    let nodes = mesh.ctl(0, &["nodes"]).expect("nodes");
    nodes["nodes"].as_array().expect("a list").iter().map(|node| node["id"].to_string()).collect()
}
