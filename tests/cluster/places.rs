//! Every place that a node can have in a chain, and in the mesh, is lost in turn while clients write: head, middle, tail,
//! commander, a node that is just joining, and two at once where there are three copies.

use std::time::Duration;

use keyval::sim::clock::Time;

use crate::mesh::{Mesh, Plan, until};
use crate::siege::Siege;

const KEYS: usize = 24;

#[test]
fn head_middle_tail_commander_and_a_joining_node_are_killed() {
    let mut mesh = Mesh::of(Plan::of(5, 3));
    mesh.until_well(0, 5, Duration::from_secs(60));
    for (place, what) in ["the head", "the middle", "the tail"].iter().enumerate() {
        let at = |mesh: &Mesh, key: &str| mesh.holders(0, key)[place];
        kill_one(&mut mesh, what, at);
    }
    kill_one(&mut mesh, "the commander", |mesh, _| mesh.commander(&[0, 1, 2, 3, 4]).0);

    let siege = Siege::lay(&mesh, KEYS);
    let joining = mesh.add(0);
    until("it is given its first ranges", Duration::from_secs(30), || loading(&mesh, joining) > 0);
    let at = siege.now();
    mesh.kill(joining);
    end("a joining node", &mesh, siege, at);
    mesh.restart(joining);
    mesh.until_well(0, 6, Duration::from_secs(120));
}

#[test]
fn two_of_three_holders_are_killed_at_once() {
    let mut mesh = Mesh::of(Plan::of(5, 3));
    mesh.until_well(0, 5, Duration::from_secs(60));
    for (one, other, what) in [(0, 1, "head and middle"), (1, 2, "middle and tail"), (0, 2, "head and tail")] {
        let siege = Siege::lay(&mesh, KEYS);
        let chain = mesh.holders(0, siege.key(0));
        let at = siege.now();
        mesh.pause(chain[one]);
        mesh.kill(chain[other]);
        mesh.kill(chain[one]);
        let left = chain.iter().copied().find(|node| *node != chain[one] && *node != chain[other]).expect("a third");
        end(what, &mesh, siege, at);
        mesh.restart(chain[one]);
        mesh.restart(chain[other]);
        mesh.until_well(left, 5, Duration::from_secs(120));
    }
}

fn kill_one(mesh: &mut Mesh, what: &str, whom: impl Fn(&Mesh, &str) -> usize) {
    let siege = Siege::lay(mesh, KEYS);
    let victim = whom(mesh, siege.key(0));
    let at = siege.now();
    mesh.kill(victim);
    end(what, mesh, siege, at);
    mesh.restart(victim);
    mesh.until_well((victim + 1) % 5, 5, Duration::from_secs(120));
}

/// Waits until all keys take writes again, and looks what it has cost.
fn end(what: &str, mesh: &Mesh, siege: Siege, at: Time) {
    siege.until_written_after(at + Duration::from_secs(1));
    let account = siege.lift();
    let gap = account.longest_gap(at);
    eprintln!("{what} killed: longest gap {gap}; {}; {} nodes", account.counts(), mesh.nodes.len());
    account.check();
}

fn loading(mesh: &Mesh, node: usize) -> u64 {
    let Some(nodes) = mesh.ctl(0, &["nodes"]) else { return 0 };
    let mut known = nodes["nodes"].as_array().into_iter().flatten();
    known.find(|one| one["name"] == mesh.nodes[node].name.as_str()).and_then(|one| one["loading"].as_u64()).unwrap_or(0)
}
