//! What is promised once nothing is done to a mesh any more: it becomes whole by itself, in time.

use std::collections::BTreeSet;

use super::nemesis::Nemesis;
use super::{EVEN_WITHIN, HEALED_WITHIN, World};
use crate::messages::ownership::Standing;
use crate::sim::checker::uneven;
use crate::sim::disk::Health;
use crate::sim::network::Weather;
use crate::types::NodeId;

/// Heals everything, and waits until the mesh is whole; clients come to rest meanwhile.
pub(super) fn heal(world: &mut World, nemesis: &mut Nemesis) {
    world.heal_all();
    world.network.weather = Weather::default();
    for host in world.hosts().collect::<Vec<_>>() {
        world.places[host.0].disk.health = Health::Well;
        world.resume(host);
        nemesis.start(world, host);
    }
    let healed = world.until(HEALED_WITHIN, |world| {
        // Who learns only now that it was removed meanwhile comes back as a new node.
        for host in world.hosts().collect::<Vec<_>>() {
            nemesis.start(world, host);
        }
        nemesis.vouch(world);
        world.checkers.violation().is_some() || lacks(world).is_none()
    });
    let now = world.now();
    if let (false, Some(lack)) = (healed, lacks(world)) {
        world.checkers.violate(now, "healed_in_time", lack);
        return;
    }
    let even_within = world.settings.timing.failure_timeout * EVEN_WITHIN;
    let uneven_now = |world: &World| world.newest_dictionary().and_then(uneven);
    if !world.until(even_within, |world| world.checkers.violation().is_some() || uneven_now(world).is_none()) {
        let now = world.now();
        world.checkers.violate(now, "even_in_time", uneven_now(world).unwrap_or_default());
        return;
    }
    world.rest_clients();
    if !world.until(HEALED_WITHIN, |world| world.clients.iter().all(|client| !client.is_busy())) {
        world.checkers.violate(now, "healed_in_time", "a client waits for ever".into());
    }
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
            Some(member) if member.standing != Standing::Up => {
                return Some(format!("{} is {}", place.name, member.standing));
            }
            Some(_) => {}
        }
    }
    let alive: BTreeSet<NodeId> = running.iter().map(|(_, node)| node.me().0).collect();
    let seats = &newest.seats;
    let wanted = world.seats_for(alive.len());
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
        return Some(format!("{} of {} ranges are not served: {first}", unserved.len(), dictionary.chains.len()));
    }
    None
}
