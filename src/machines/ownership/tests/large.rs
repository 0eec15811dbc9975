//! What a lost drone costs a large mesh: bytes of the log, which every node receives, and the time in which a plan is made.

use crate::machines::dictionary::Dictionary;
use crate::machines::placement::{self, Drone, PlacementInput, Present};
use crate::messages::ownership::{
    Addresses, Applied, Candidate, Cause, Command, Holder, HolderState, MeshSettings, SetChain,
};
use crate::types::{Incarnation, MeshId, NodeId, RangeId};

use super::world::{World, candidate};

/// Ids and lives as long as real ones are.
fn long(place: u64) -> u64 {
    place << 50 | place
}

fn drone(place: u64) -> Candidate {
    let peer = format!("10.0.{}.{}:16234", place / 256, place % 256);
    Candidate { addresses: Addresses { peer, ..Addresses::default() }, ..candidate(long(place), 1 << 40) }
}

fn apply(dictionary: &mut Dictionary, command: &Command) {
    assert!(matches!(dictionary.apply(command).0, Applied::Changed(_)), "{command:?}");
}

/// A mesh of so many drones in which everything lies as it should.
fn spread(drones: u64, ranges: u16) -> Dictionary {
    let settings = MeshSettings { ranges, ..MeshSettings::default() };
    let factor = usize::from(settings.factor);
    let mut dictionary = Dictionary::found(MeshId(u128::MAX), settings, drone(1));
    (2..=drones).for_each(|place| apply(&mut dictionary, &Command::Admit(drone(place))));
    let offered = |place| Drone { node: NodeId(long(place)), weight: 100, zone: String::new() };
    let present = vec![Present::default(); usize::from(ranges)];
    let plan = placement::plan(&PlacementInput { drones: (1..=drones).map(offered).collect(), factor, present });
    // A chain changes by one step at a time: each wanted one comes and serves, then the founder goes.
    for place in 0..factor + 1 {
        for state in [HolderState::Loading, HolderState::Serving] {
            let step = |range: u16| {
                let chain = dictionary.chain(RangeId(range));
                let wanted = &plan[usize::from(range)];
                let mut holders = chain.holders.clone();
                match (wanted.get(place), state) {
                    (Some(node), HolderState::Loading) if holders.iter().all(|holder| holder.node != *node) => {
                        holders.push(Holder { node: *node, incarnation: Incarnation(1 << 40), state });
                    }
                    (Some(_), HolderState::Serving) => holders.last_mut()?.state = state,
                    (None, HolderState::Loading) => holders.retain(|holder| wanted.contains(&holder.node)),
                    _ => {}
                }
                let change = SetChain {
                    range: RangeId(range),
                    expected: chain.epoch,
                    holders,
                    anew: false,
                    cause: Cause::Placement,
                };
                (change.holders != chain.holders).then_some(change)
            };
            let changes: Vec<SetChain> = (0..ranges).filter_map(step).collect();
            if !changes.is_empty() {
                apply(&mut dictionary, &Command::SetChains(changes));
            }
        }
    }
    dictionary
}

/// How many ranges a drone held that was lost, and the bytes of all that was changed until everything had its copies again.
fn repaired(drones: u64, ranges: u16) -> (usize, usize) {
    let mut world = World::of(spread(drones, ranges));
    world.settle();
    let (lost, before) = (world.held(long(drones / 2)), world.bytes);
    world.kill(long(drones / 2));
    world.settle();
    assert_eq!(world.dictionary.short_of_copies(), 0);
    assert_eq!(world.held(long(drones / 2)), 0);
    (lost, world.bytes - before)
}

/// `KEYVAL_DRONES=1000 KEYVAL_RANGES=4096` asks for more.
#[test]
fn a_lost_drone_of_two_hundred_costs_each_node_two_kilobytes() {
    let asked = |name: &str, usual: u64| std::env::var(name).ok().and_then(|it| it.parse().ok()).unwrap_or(usual);
    let (drones, ranges) = (asked("KEYVAL_DRONES", 200), asked("KEYVAL_RANGES", 1024) as u16);
    let (lost, bytes) = repaired(drones, ranges);
    eprintln!("{drones} drones: {lost} of {ranges} ranges had a copy less; {bytes} bytes");
    assert!(lost as u64 <= 2 * u64::from(ranges) / drones + 1, "{lost} ranges");
    assert!(bytes <= 2048, "{bytes} bytes for {lost} ranges");
}
