//! Nodes that come and go: many at once, growing, shrinking, dropped.

use std::time::{Duration, Instant};

use crate::client::Reply;
use crate::mesh::{Mesh, Plan, until};

#[test]
fn ten_started_at_once_form_one_mesh() {
    let mesh = Mesh::start(10);
    let all: Vec<usize> = (0..10).collect();
    mesh.until_well(3, 10, Duration::from_secs(60));
    mesh.commander(&all);
    let id = mesh.ask(0, &["HELLO"]).expect("a reply").field("mesh");
    assert!(id.is_some());
    for node in all {
        assert_eq!(mesh.ask(node, &["HELLO"]).expect("a reply").field("mesh"), id);
    }
}

#[test]
fn three_to_nine_to_three_and_then_the_commander_is_killed() {
    let mut mesh = Mesh::start(3);
    for key in 0..200 {
        mesh.ask(0, &["SET", &format!("k{key}"), &format!("v{key}")]).expect("a reply");
    }
    for joined in 3..9 {
        mesh.add(joined % 3);
    }
    mesh.until_well(0, 9, Duration::from_secs(90));
    // They took their shares by themselves, and no key was lost on the way.
    mesh.until_spread(0, Duration::from_secs(90));
    for key in 0..200 {
        let reply = mesh.ask(key % 9, &["GET", &format!("k{key}")]).expect("a reply");
        assert_eq!(reply, Reply::Bulk(format!("v{key}")), "k{key}");
    }

    // Six leave for good, one after the other: killed, then dropped by the operator.
    for gone in (3..9).rev() {
        mesh.kill(gone);
        let name = mesh.nodes[gone].name.clone();
        until("the operator's drop is taken", Duration::from_secs(20), || {
            mesh.ctl(0, &["drop", &name]).is_some_and(|reply| reply["error"].is_null())
        });
        mesh.nodes.pop();
        until("it is off the roster", Duration::from_secs(20), || mesh.roster_size(0) == Some(gone));
    }
    mesh.until_well(0, 3, Duration::from_secs(60));
    let (commander, term) = mesh.commander(&[0, 1, 2]);
    let start = Instant::now();
    mesh.kill(commander);
    let other = mesh.others(commander)[0];
    until("another rules", Duration::from_secs(10), || {
        mesh.commander_seen_by(other).is_some_and(|(now, later)| now != commander && later > term)
    });
    assert!(start.elapsed() < Duration::from_secs(3), "took {:?}", start.elapsed());
}

#[test]
fn two_drones_and_a_witness_bear_the_loss_of_either_drone() {
    let mut mesh = Mesh::of(Plan::of(2, 2));
    let witness = mesh.add_with(0, &[("KEYVAL__NODE__ROLE", "witness")]);
    mesh.until_well(0, 3, Duration::from_secs(30));
    let votes = |mesh: &Mesh| {
        let nodes = mesh.ctl(0, &["nodes"])?;
        let its = nodes["nodes"].as_array()?.iter().find(|node| node["role"] == "witness")?.clone();
        Some((its["seat"] == "voter", its["holds"].as_u64()?))
    };
    until("the witness votes, and holds nothing", Duration::from_secs(20), || votes(&mesh) == Some((true, 0)));
    mesh.ask(witness, &["SET", "k", "v"]).expect("a reply");
    let (commander, term) = mesh.commander(&[0, 1, 2]);
    assert_ne!(commander, witness, "it never stands");
    mesh.kill(commander);
    let other = 1 - commander;
    until("the other drone commands", Duration::from_secs(10), || {
        mesh.commander_seen_by(other).is_some_and(|(now, later)| now == other && later > term)
    });
    until("it serves all", Duration::from_secs(10), || {
        mesh.ctl(other, &["status"]).is_some_and(|status| status["ranges"]["served"] == 1024)
    });
    assert_eq!(mesh.ask(witness, &["GET", "k"]).expect("a reply"), Reply::Bulk("v".into()));
    assert_eq!(mesh.ask(other, &["SET", "k", "w"]).expect("a reply"), Reply::Simple("OK".into()));
}
