//! A drain outlives the commander that began it.

use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use super::load::{Load, Plan};
use super::{PATIENCE, is_even};
use crate::client::Reply;
use crate::mesh::{self, Mesh, until};
use crate::number_from_environment;

const NODES: usize = 5;

/// A drain of the small mesh below takes a little longer.
const LASTS: Duration = Duration::from_millis(600);

#[test]
fn a_drain_whose_commander_is_killed_goes_on_and_ends_once() {
    let mut random = ChaCha8Rng::seed_from_u64(number_from_environment("KEYVAL_SEED", 1));
    for round in 1..=number_from_environment("KEYVAL_ROUNDS", 1) {
        let after = LASTS.mul_f64(random.gen_range(0.0..1.0));
        let (left, took) = drain_without_its_commander(after);
        eprintln!(
            "round {round}: the commander was killed after {after:?} with {left} ranges left; drained after {took:?}"
        );
    }
}

/// How many ranges were left when the commander was killed, and how long the drain took in all.
fn drain_without_its_commander(after: Duration) -> (u64, Duration) {
    let mut mesh = Mesh::of(mesh::Plan::of(NODES - 1, 2));
    let doors: Vec<String> = mesh.nodes.iter().map(|node| node.cluster.clone()).collect();
    let load = Load::fill(&doors, Plan { keys: 2_000, rate: 500, value_bytes: 100, clients: 2 });
    load.begin();
    let leaver = mesh.add(0);
    until("the last node has its share", PATIENCE, || is_even(&mesh, 0, NODES));
    let (commander, _) = mesh.commander(&[0, 1, 2, 3]);
    let asked = (commander + 1) % (NODES - 1);
    let name = mesh.nodes[leaver].name.clone();
    let drained = mesh.ctl(asked, &["drain", &name]).expect("an answer");
    assert!(drained["error"].is_null(), "{drained}");
    let begun = Instant::now();
    std::thread::sleep(after); // not a guess: the instant at which the commander dies
    let left = held(&mesh, asked, &name);
    mesh.kill(commander);
    until("the drained node has left", PATIENCE, || mesh.is_gone(leaver));
    let took = begun.elapsed();
    assert_eq!(mesh.ended(leaver), Some(0), "its process ends in order");
    mesh.restart(commander);
    until("all others have their shares", PATIENCE, || {
        is_even(&mesh, asked, NODES - 1) && mesh.is_well(asked) && mesh.roster_size(asked) == Some(NODES - 1)
    });
    for node in (0..NODES).filter(|node| *node != leaver && *node != commander) {
        let ends = events(&mesh, node).into_iter().filter(|text| {
            text.contains(&name) && text.contains("is off the roster") && text.contains("given away all it held")
        });
        assert_eq!(ends.count(), 1, "it ends once: {:#?}", events(&mesh, node));
    }
    let wrong = load.end();
    let strange: Vec<&String> = wrong.iter().filter(|line| !line.contains(": lost: ")).collect();
    assert!(strange.is_empty(), "{strange:#?}");
    (left, took)
}

/// How many ranges a node holds, as another knows.
fn held(mesh: &Mesh, at: usize, name: &str) -> u64 {
    let roster = mesh.ctl(at, &["nodes"]).expect("an answer");
    let its = roster["nodes"].as_array().into_iter().flatten().find(|node| node["name"] == name);
    its.and_then(|node| node["holds"].as_u64()).unwrap_or(0)
}

/// What a node has noticed.
fn events(mesh: &Mesh, node: usize) -> Vec<String> {
    let Ok(Reply::Bulk(text)) = mesh.ask(node, &["MESH", "WATCH"]) else { panic!("no answer") };
    let watched: Value = serde_json::from_str(&text).expect("JSON");
    let text = |event: &Value| event["text"].as_str().expect("a text").to_owned();
    watched["events"].as_array().into_iter().flatten().map(text).collect()
}
