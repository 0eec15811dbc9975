//! A node is lost while clients write: how long they notice it, and that nothing they were told is lost with it.

use std::time::Duration;

use crate::mesh::{Mesh, Plan};
use crate::rounds;
use crate::siege::Siege;

const KEYS: usize = 24;

/// What clients may notice of a loss, and how often they may notice more.
const LIMIT: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Harm {
    Killed,
    Paused,
}

#[test]
fn commander_killed_is_noticed_for_a_second() {
    lose("the commander is killed", Harm::Killed, 0)
}

#[test]
fn drone_killed_is_noticed_for_a_second() {
    lose("a drone is killed", Harm::Killed, 2)
}

#[test]
fn commander_paused_is_noticed_for_a_second() {
    lose("the commander is paused", Harm::Paused, 0)
}

#[test]
fn drone_paused_is_noticed_for_a_second() {
    lose("a drone is paused", Harm::Paused, 2)
}

/// Five nodes, two copies, and the node that stands so many places behind the commander is lost, round after round.
fn lose(what: &str, harm: Harm, behind: usize) {
    let mut mesh = Mesh::of(Plan::of(5, 2));
    let all: Vec<usize> = (0..5).collect();
    let rounds = rounds(1);
    let mut gaps = Vec::new();
    for round in 0..rounds {
        mesh.until_well(0, 5, Duration::from_secs(60));
        mesh.until_spread(0, Duration::from_secs(60));
        let victim = (mesh.commander(&all).0 + behind) % 5;
        let siege = Siege::lay(&mesh, KEYS);
        let at = siege.now();
        match harm {
            Harm::Killed => mesh.kill(victim),
            Harm::Paused => mesh.pause(victim),
        }
        siege.until_written_after(at + LIMIT);
        match harm {
            Harm::Killed => mesh.restart(victim),
            Harm::Paused => mesh.resume(victim),
        }
        // The one who comes back may do harm as well.
        siege.until_written_after(siege.now() + LIMIT);
        let account = siege.lift();
        let gap = account.longest_gap(at);
        eprintln!("{what}, round {round}: lost at {at}, longest gap {gap}; {}", account.counts());
        if gap.length() > LIMIT {
            eprintln!("{}", account.tell(&gap));
            mesh.tell_warnings();
        }
        account.check();
        gaps.push(gap.length());
    }
    report(what, gaps, rounds.div_ceil(20));
}

fn report(what: &str, mut gaps: Vec<Duration>, but: usize) {
    gaps.sort();
    let late = gaps.iter().filter(|gap| **gap > LIMIT).count();
    let (median, longest) = (gaps[gaps.len() / 2], gaps[gaps.len() - 1]);
    eprintln!("{what}: {} rounds, median {median:?}, longest {longest:?}, {late} over {LIMIT:?}", gaps.len());
    assert!(late <= but, "{what}: {late} of {} over {LIMIT:?}: {gaps:?}", gaps.len());
}
