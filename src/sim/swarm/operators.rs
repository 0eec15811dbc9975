//! What operators do in a random world: they drop nodes, let them leave or stay, and vouch for those that will not come back.

use std::time::Duration;

use rand::Rng;
use rand::seq::SliceRandom;

use super::World;
use super::nemesis::{Nemesis, Undo};
use crate::messages::ownership::Order;
use crate::sim::network::Host;
use crate::types::NodeId;

/// After so long what was not heard is said again.
const SAID_AGAIN: Duration = Duration::from_secs(2);

impl Nemesis {
    /// Where silence is no death an operator has to say that a node whose directory is lost will not come back.
    pub(super) fn vouch(&mut self, world: &mut World) {
        if world.settings.give_up_after().is_some() || world.now() < self.vouched + SAID_AGAIN {
            return;
        }
        self.vouched = world.now();
        let Some(commander) = world.commander() else { return };
        let listed = world.newest_dictionary().map(|it| it.roster.keys().copied().collect::<Vec<_>>());
        for node in listed.unwrap_or_default().into_iter().filter(|node| self.gone.contains(node)) {
            world.order(commander.host, Order::Drop { node }, Duration::from_secs(2));
        }
    }

    /// An operator drops a node, and vouches that its process has ended.
    pub(super) fn drop(&mut self, world: &mut World, host: Host) -> Option<()> {
        let node = world.places[host.0].disk.identity()?.node;
        let others: Vec<Host> = world.hosts().filter(|it| *it != host && world.places[it.0].runs()).collect();
        let at = *others.choose(&mut self.random)?;
        if !self.is_bearable(world, node) {
            return None;
        }
        world.kill(host, false);
        world.tell_of(host, || "is dropped by an operator".into());
        world.order(at, Order::Drop { node }, Duration::from_secs(10));
        self.gone.insert(node);
        self.later(world, Undo::Start(host), Duration::from_secs(40));
        Some(())
    }

    /// One wants a node to leave, and now and then thinks better of it.
    pub(super) fn drain(&mut self, world: &mut World, host: Host) -> Option<()> {
        let node = world.places[host.0].disk.identity()?.node;
        world.tell_of(host, || "is told to drain".into());
        self.order(world, Order::Drain { node })?;
        if self.random.gen_ratio(1, 4) {
            self.later(world, Undo::Drain(node), Duration::from_secs(10));
        }
        self.later(world, Undo::Start(host), Duration::from_secs(40));
        Some(())
    }

    /// A process is told to end, and to be started again: the mesh is asked to do without it first.
    pub(super) fn rest(&mut self, world: &mut World, host: Host) -> Option<()> {
        let (node, incarnation) = world.places[host.0].node.as_ref()?.me();
        world.tell_of(host, || "is about to end, and to be started again".into());
        world.order(host, Order::Rest { node, incarnation }, Duration::from_secs(4));
        self.later(world, Undo::End(host), Duration::from_secs(4));
        Some(())
    }

    /// Where all drones are to leave none can: then they stay.
    pub(super) fn keep_some(&mut self, world: &mut World) {
        let Some(newest) = world.newest_dictionary().filter(|_| world.now() >= self.kept + SAID_AGAIN) else { return };
        if newest.drones().all(|member| member.drains) {
            let drones: Vec<NodeId> = newest.drones().map(|member| member.node.id).collect();
            self.kept = world.now();
            for node in drones {
                self.order(world, Order::Abort { node });
            }
        }
    }

    /// An order, at whatever node runs.
    pub(super) fn order(&mut self, world: &mut World, order: Order) -> Option<u64> {
        let runs: Vec<Host> = world.hosts().filter(|host| world.places[host.0].runs()).collect();
        let at = *runs.choose(&mut self.random)?;
        Some(world.order(at, order, Duration::from_secs(10)))
    }
}
