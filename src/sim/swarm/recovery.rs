//! What is promised once nothing is done to a mesh any more: it becomes whole by itself, in time.

use std::collections::BTreeSet;
use std::time::Duration;

use super::nemesis::Nemesis;
use super::{EVEN_WITHIN, HEALED_WITHIN, READING, World};
use crate::machines::dictionary::Dictionary;
use crate::messages::ownership::{Chain, HolderState, Role, Standing};
use crate::sim::checker::uneven;
use crate::sim::disk::Health;
use crate::sim::network::Weather;
use crate::types::NodeId;

/// How often is looked whether a mesh is whole.
const LOOK: Duration = Duration::from_millis(20);

/// Heals everything, and waits until the mesh is whole; clients come to rest meanwhile.
pub(super) fn heal(world: &mut World, nemesis: &mut Nemesis) {
    world.heal_all();
    world.calm_sites();
    world.network.weather = Weather::default();
    for host in world.hosts().collect::<Vec<_>>() {
        world.places[host.0].disk.health = Health::Well;
        world.resume(host);
        nemesis.start(world, host);
    }
    become_whole(world, nemesis);
}

/// What a mesh that is left alone comes to within the stated times, or breaks a promise.
fn become_whole(world: &mut World, nemesis: &mut Nemesis) {
    let healed = world.until_each(LOOK, HEALED_WITHIN, |world| {
        // Who learns only now that it was removed meanwhile comes back as a new node.
        for host in world.hosts().collect::<Vec<_>>() {
            nemesis.start(world, host);
        }
        nemesis.vouch(world);
        nemesis.keep_some(world);
        world.checkers.violation().is_some() || lacks(world).is_none()
    });
    let now = world.now();
    if let (false, Some(lack)) = (healed, lacks(world)) {
        world.checkers.violate(now, "healed_in_time", lack);
        return;
    }
    let even_within = world.settings.timing.failure_timeout * EVEN_WITHIN;
    let lacking = |world: &World| {
        let newest = world.newest_dictionary()?;
        uneven(newest).or_else(|| thin(newest)).or_else(|| leaving(newest))
    };
    if !world.until_each(LOOK, even_within, |world| world.checkers.violation().is_some() || lacking(world).is_none()) {
        let now = world.now();
        world.checkers.violate(now, "even_in_time", lacking(world).unwrap_or_default());
        return;
    }
    read_all(world);
    world.rest_clients();
    if !world.until(HEALED_WITHIN, |world| world.clients.iter().all(|client| !client.is_busy())) {
        world.checkers.violate(now, "healed_in_time", "a client waits for ever".into());
    }
}

/// Clients only read for a while: what was lost would be missed now at the latest.
fn read_all(world: &mut World) {
    for client in &mut world.clients {
        (client.habits.writes, client.habits.others) = (0, 0);
    }
    world.advance(READING);
}

/// A range that has fewer holders than it should have, or one that is on its way in or out; none if all are as they should be.
fn thin(dictionary: &Dictionary) -> Option<String> {
    let drones = dictionary.drones().filter(|member| member.standing == Standing::Up).count();
    let wanted = drones.min(usize::from(dictionary.settings.factor));
    let is_full = |chain: &Chain| {
        chain.holders.len() == wanted && chain.holders.iter().all(|holder| holder.state == HolderState::Serving)
    };
    let (range, chain) = dictionary.ranges().find(|(_, chain)| !is_full(chain))?;
    Some(format!("range {range} should have {wanted} holders: {chain:?}"))
}

/// A node that is to leave and has not; none if there is none.
fn leaving(dictionary: &Dictionary) -> Option<String> {
    let member = dictionary.roster.values().find(|member| member.standing == Standing::Draining)?;
    Some(format!("{} drains, and still holds {}", member.node.name, dictionary.tally(member.node.id).held))
}

/// What a mesh lacks, with all its processes running and nothing in their way; none if it is whole.
fn lacks(world: &World) -> Option<String> {
    let running: Vec<_> = world.places.iter().filter_map(|place| Some((place, place.node.as_ref()?))).collect();
    let Some(commander) = world.commander() else { return Some("nobody commands".into()) };
    let newest = world.newest()?;
    let dictionary = &newest.dictionary;
    for (place, node) in &running {
        let (id, life) = node.me();
        let Some(published) = &node.published else { return Some(format!("{} knows nothing", place.name)) };
        if (published.dictionary.version, published.term) != (dictionary.version, commander.term) {
            return Some(format!(
                "{} knows version {} of term {}, not {} of {}",
                place.name, published.dictionary.version, published.term, dictionary.version, commander.term
            ));
        }
        match dictionary.roster.get(&id) {
            None => return Some(format!("{} is not on the roster", place.name)),
            Some(member) if member.node.incarnation != life => {
                return Some(format!("{} is on the roster in a former life", place.name));
            }
            // Who leaves takes its time: what it holds moves to nodes that reach each other, and who did not is avoided for a while.
            Some(member) if !matches!(member.standing, Standing::Up | Standing::Draining) => {
                return Some(format!("{} is {}", place.name, member.standing));
            }
            Some(_) => {}
        }
    }
    let alive: BTreeSet<NodeId> = running.iter().map(|(_, node)| node.me().0).collect();
    let seats = &newest.seats;
    let is_witness = |id: &&NodeId| dictionary.roster[*id].node.role == Role::Witness;
    let witnesses = alive.iter().filter(is_witness).count();
    let wanted = world.seats_for(alive.len() - witnesses, witnesses);
    let held = seats.voters.iter().filter(|voter| alive.contains(voter)).count();
    // A dead voter may keep its seat while nobody is there to take it.
    let heirs = seats.learners.iter().any(|learner| alive.contains(learner));
    if held < wanted || (held < seats.voters.len() && heirs) || !seats.outgoing.is_empty() {
        return Some(format!("{wanted} of {alive:?} should vote: {seats:?}"));
    }
    if world.served() != dictionary.chains.len() {
        let unserved = world.unserved();
        let first = unserved.first().map(|range| {
            let seen = world.hosts().filter_map(|host| {
                let node = world.places[host.0].node.as_ref()?;
                let seen = node.store_of(*range).inspect(*range, world.clock(host))?;
                Some(format!("{}: {seen:?}", world.name(node.me().0)))
            });
            format!("range {range} is {:?}, seen as {}", dictionary.chain(*range), seen.collect::<Vec<_>>().join("; "))
        });
        let first = first.unwrap_or_default();
        let doing = world.places[commander.host.0].node.as_ref().map(|node| node.doing()).unwrap_or_default();
        let (missing, all) = (unserved.len(), dictionary.chains.len());
        return Some(format!("{missing} of {all} ranges are not served: {first}; the commander: {doing}"));
    }
    None
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::messages::ownership::MeshSettings;
    use crate::sim::client::Habits;
    use crate::sim::network::Host;
    use crate::sim::world::Spec;

    fn world(copies: u8) -> (World, Nemesis) {
        let mut world = World::new(7, MeshSettings { ranges: 16, factor: copies, ..MeshSettings::default() });
        for index in 0..3 {
            let join = if index == 0 { vec![] } else { vec!["n1:16234".to_string()] };
            let host = world.add_place(Spec { join, ..Spec::default() });
            world.start(host);
        }
        world.add_client(Habits::default(), Host(0));
        world.advance(Duration::from_secs(20));
        (world, Nemesis::new(ChaCha8Rng::seed_from_u64(1), false, None))
    }

    #[test]
    fn a_mesh_at_rest_keeps_its_promises() {
        let (mut world, mut nemesis) = world(2);
        become_whole(&mut world, &mut nemesis);
        world.look_quietly();
        assert_eq!(world.checkers.violation(), None);
    }

    #[test]
    fn a_mesh_that_is_not_whole_in_time_is_found() {
        let (mut world, mut nemesis) = world(2);
        world.cut(Host(0), Host(2));
        world.cut(Host(2), Host(0));
        world.cut(Host(1), Host(2));
        world.advance(Duration::from_secs(3));
        become_whole(&mut world, &mut nemesis);
        let violation = world.checkers.violation().expect("n3 hears nobody");
        assert_eq!(violation.checker, "healed_in_time", "{violation}");
    }

    #[test]
    fn a_range_with_a_holder_too_few_is_found() {
        let (mut world, _) = world(1);
        let mut dictionary = world.newest_dictionary().expect("there is a mesh").clone();
        assert_eq!(thin(&dictionary), None);
        dictionary.settings.factor = 2;
        assert!(thin(&dictionary).expect("there is one holder").contains("should have 2 holders"));
        world.rest_clients();
    }
}
