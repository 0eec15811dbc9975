//! One link is cut, and everybody still reaches everybody over a third one: that is no reason for an election.

use std::time::{Duration, Instant};

use crate::mesh::{Mesh, Plan};
use crate::proxy::Weather;
use crate::siege::Siege;

const NODES: usize = 5;
const KEYS: usize = 24;

/// Long enough for whoever missed the commander to have stood for election several times.
const LAST: Duration = Duration::from_secs(4);

#[test]
fn one_cut_link_never_changes_the_term() {
    let mesh = Mesh::of(Plan::of(NODES, 2).with_faults(3));
    let all: Vec<usize> = (0..NODES).collect();
    let before = mesh.commander(&all);
    let (commander, _) = before;
    let proxy = mesh.proxy.as_ref().expect("this mesh has one");
    let siege = Siege::lay(&mesh, KEYS);
    // Between the commander and another, both ways and one way, and between two others.
    let (one, other) = (mesh.others(commander)[0], mesh.others(commander)[1]);
    for directions in
        [vec![(commander, one), (one, commander)], vec![(one, commander)], vec![(one, other), (other, one)]]
    {
        let cut = Weather { cut: true, ..Weather::default() };
        directions.iter().for_each(|(from, to)| proxy.set(*from, *to, cut));
        let start = Instant::now();
        while start.elapsed() < LAST {
            for node in &all {
                // Who has lost the commander may name nobody, but never another.
                let seen = mesh.commander_seen_by(*node);
                assert!(seen.is_none_or(|seen| seen == before), "{directions:?} cut: {seen:?} after {before:?}");
            }
            std::thread::sleep(Duration::from_millis(10)); // between looks
        }
        proxy.heal();
        mesh.until_well(commander, NODES, Duration::from_secs(60));
        assert_eq!(mesh.commander(&all), before, "{directions:?} cut and mended");
    }
    let account = siege.lift();
    eprintln!("one link cut: longest gap {}; {}", account.longest_gap(Default::default()), account.counts());
    account.check();
}
