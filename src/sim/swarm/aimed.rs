//! Harm that is aimed: at a joiner and its source in the middle of a join, at a head and its successor, at one node while
//! another takes its place. What a mesh guards against by a hair is seldom met by chance, and met here in every other seed.
//!
//! A hunt looks at the newest dictionary, waits for the moment it wants, within bounds, and strikes then. The moments are those
//! in which two members believe different epochs, or in which what was said is not yet carried out.

use std::time::Duration;

use rand::Rng;
use rand::seq::SliceRandom;

use super::nemesis::{Nemesis, Undo};
use crate::messages::ownership::{Chain, Holder};
use crate::sim::network::{Host, between};
use crate::sim::node::Room;
use crate::sim::world::World;
use crate::types::RangeId;

/// How long a hunt waits for a join to begin; and for one that it has brought about.
const JOIN_WITHIN: (Duration, Duration) = (Duration::from_millis(400), Duration::from_secs(3));

const MS: Duration = Duration::from_millis(1);

impl Nemesis {
    /// A process ends and begins anew so soon that hardly anybody sees it.
    pub(super) fn blink(&mut self, world: &mut World, host: Host) {
        let silently = self.random.gen_ratio(1, 2);
        world.kill(host, silently);
        let after = between(&mut self.random, (MS, MS * 60));
        self.undo.push((world.now() + after, Undo::Start(host)));
    }

    /// A pause about as long as a lease is, or a commander's, or the way to a verdict.
    pub(super) fn pause_for_a_lease(&mut self, world: &mut World, host: Host) {
        let times = [1.0, 1.0, 2.0, 4.0, 6.0][self.random.gen_range(0..5)] * self.random.gen_range(0.85..1.25);
        let span = world.settings.timing.failure_timeout.mul_f64(times);
        world.pause(host);
        self.undo.push((world.now() + span, Undo::Resume(host)));
    }

    /// Two members of a chain, or its head and the commander, do not reach each other; all others reach both.
    pub(super) fn cut_neighbours(&mut self, world: &mut World) -> Option<()> {
        let (_, chain) = self.some_chain(world, |chain| chain.holders.len() > 1)?;
        let place = self.random.gen_range(1..chain.holders.len());
        let one = host_of(world, &chain.holders[place - 1])?;
        let commander = world.commander().map(|it| it.host).filter(|host| *host != one);
        let other = match commander.filter(|_| self.random.gen_ratio(1, 2)) {
            Some(commander) => commander,
            None => host_of(world, &chain.holders[place])?,
        };
        world.snap(one, other);
        let bound = Duration::from_secs(10);
        self.cut_for(world, (one, other), bound);
        if self.random.gen_ratio(3, 4) {
            self.cut_for(world, (other, one), bound);
        }
        Some(())
    }

    /// In the middle of a join the source, the joiner, the way between them or the one who is to promote is harmed.
    pub(super) fn harm_join(&mut self, world: &mut World) -> Option<()> {
        let (range, source, joiner) = self.find_join(world)?;
        world.hurry_clients();
        let (source, joiner) = (host_of(world, &source)?, host_of(world, &joiner)?);
        let commander = world.commander().map(|it| it.host);
        if self.random.gen_ratio(1, 2) {
            // The joiner has all, and the commander hears of it late.
            let busy = between(&mut self.random, (MS * 20, MS * 400));
            commander.into_iter().for_each(|host| world.stall(host, Room::Ownership, busy));
            world.until(MS * 200, |world| is_gated(world, source, range));
            world.hurry_clients();
        }
        let moment = between(&mut self.random, (Duration::ZERO, MS * 4));
        world.advance(moment);
        match self.random.gen_range(0..6) {
            0 | 1 => {
                world.snap(source, joiner);
                let bound = MS * 700;
                self.cut_for(world, (source, joiner), bound);
                self.cut_for(world, (joiner, source), bound);
            }
            2 => self.blink(world, source),
            3 => self.blink(world, joiner),
            4 => self.kill(world, source, true),
            _ => self.pause_for_a_lease(world, source),
        }
        // What is written now must not be missing later.
        world.hurry_clients();
        Some(())
    }

    /// A range that is being loaded; one that clients ask for, more often than not. If need be somebody begins anew for it.
    fn find_join(&mut self, world: &mut World) -> Option<(RangeId, Holder, Holder)> {
        let wanted = match self.random.gen_ratio(1, 2) {
            true => Some(self.bring_about_join(world)?),
            false => None,
        };
        let within = wanted.map_or(JOIN_WITHIN.0, |_| JOIN_WITHIN.1);
        let is_wanted = |range: RangeId| wanted.is_none_or(|wanted| wanted == range);
        let loads = |world: &World| joining(world).any(|(range, ..)| is_wanted(range));
        if !world.until(within, |world| world.checkers.violation().is_some() || loads(world)) {
            return None;
        }
        let joins = joining(world).filter(|(range, ..)| is_wanted(*range)).collect();
        self.one_asked_for(world, joins, |(range, ..)| *range)
    }

    /// A member of a chain begins anew, so that somebody joins it.
    fn bring_about_join(&mut self, world: &mut World) -> Option<RangeId> {
        let (range, chain) = self.some_chain(world, |chain| chain.serving().count() > 1)?;
        let out = host_of(world, chain.holders.choose(&mut self.random)?)?;
        if world.commander().is_none_or(|it| it.host == out) {
            return None;
        }
        self.blink(world, out);
        // What is due is undone while time passes in a hunt, too.
        let until = world.now() + MS * 60;
        self.wait(world, until);
        Some(range)
    }

    /// A member sleeps until its chain goes on without it and another is on its way in; then it wakes, and says what it had
    /// to say in an epoch that has passed.
    pub(super) fn wake_late(&mut self, world: &mut World) -> Option<()> {
        let (range, chain) = self.some_chain(world, |chain| chain.holders.len() > 1)?;
        let out = *chain.holders.choose(&mut self.random)?;
        let host = host_of(world, &out).filter(|host| world.commander().is_none_or(|it| it.host != *host))?;
        world.hurry_clients();
        let moment = between(&mut self.random, (Duration::ZERO, self.haste));
        world.advance(moment);
        world.pause(host);
        let longest = world.settings.timing.failure_timeout * 6 + world.settings.repair_after;
        world.until(longest, |world| {
            let replaced = |chain: &Chain| !lists(chain, &out) && chain.holders.len() > 1;
            world.checkers.violation().is_some()
                || world.newest_dictionary().is_some_and(|it| replaced(it.chain(range)))
        });
        let moment = between(&mut self.random, (Duration::ZERO, MS * 5));
        self.undo.push((world.now() + moment, Undo::Resume(host)));
        Some(())
    }

    /// A head is cut off from all but its successor. When its chain goes on without it and somebody new serves, the successor
    /// dies: whoever leads then has promised nothing to the head that was cut off, whose leases may still run.
    pub(super) fn succeed_twice(&mut self, world: &mut World) -> Option<()> {
        let (range, chain) = self.some_chain(world, |chain| chain.serving().count() > 1)?;
        let (first, second) = (chain.holders[0], chain.holders[1]);
        let (head, next) = (host_of(world, &first)?, host_of(world, &second)?);
        if world.commander().is_none_or(|it| it.host == head || it.host == next) {
            return None;
        }
        self.cut_off(world, head, next, 6);
        let timing = world.settings.timing;
        let newest = |world: &World| world.newest_dictionary().map(|it| it.chain(range).clone());
        let dropped = |world: &World| newest(world).is_some_and(|chain| !lists(&chain, &first));
        let succeeded =
            |world: &World| newest(world).is_some_and(|chain| chain.serving().any(|it| is_other(it, &chain, &second)));
        world.until(timing.failure_timeout * 4, |world| world.checkers.violation().is_some() || dropped(world));
        if world.until(timing.failure_timeout, |world| world.checkers.violation().is_some() || succeeded(world)) {
            self.kill(world, next, false);
        }
        Some(())
    }

    /// The commander and one that alone serves a range reach nobody but each other, and the machine that would notice that
    /// nobody follows it any more hears nothing, until the others have long gone on without both.
    pub(super) fn enclose(&mut self, world: &mut World) -> Option<()> {
        let (_, chain) = self.some_chain(world, |chain| chain.serving().count() == 1)?;
        let holder = host_of(world, chain.serving().next()?)?;
        let commander = world.commander()?.host;
        self.cut_off(world, commander, holder, 14);
        self.cut_off(world, holder, commander, 14);
        let times = self.random.gen_range(1.0..10.0);
        world.stall(commander, Room::Election, world.settings.timing.failure_timeout.mul_f64(times));
        Some(())
    }

    /// Cuts a node off from all but one other, for so many failure_timeouts.
    fn cut_off(&mut self, world: &mut World, host: Host, but: Host, times: u32) {
        let at = world.now() + world.settings.timing.failure_timeout * times;
        for other in world.hosts().filter(|other| *other != host && *other != but).collect::<Vec<_>>() {
            world.cut(host, other);
            world.cut(other, host);
            self.undo.extend([(at, Undo::Heal(host, other)), (at, Undo::Heal(other, host))]);
        }
    }

    fn cut_for(&mut self, world: &mut World, (from, to): (Host, Host), bound: Duration) {
        world.cut(from, to);
        self.later(world, Undo::Heal(from, to), bound);
    }

    /// Any chain that is as wanted.
    fn some_chain(&mut self, world: &World, wanted: impl Fn(&Chain) -> bool) -> Option<(RangeId, Chain)> {
        let chains = world.newest_dictionary()?.ranges().filter(|(_, chain)| wanted(chain)).collect();
        self.one_asked_for(world, chains, |(range, _)| *range).map(|(range, chain)| (range, Chain::clone(chain)))
    }

    /// Any of these; of a range that clients ask for, more often than not, for harm is missed elsewhere.
    fn one_asked_for<T: Clone>(&mut self, world: &World, all: Vec<T>, range: impl Fn(&T) -> RangeId) -> Option<T> {
        let asked: Vec<&T> = all.iter().filter(|one| world.is_asked_for(range(one))).collect();
        let from_asked = self.random.gen_ratio(3, 4) && !asked.is_empty();
        if from_asked {
            asked.choose(&mut self.random).copied().cloned()
        } else {
            all.choose(&mut self.random).cloned()
        }
    }
}

/// The ranges that somebody is loading: its source and the joiner.
fn joining(world: &World) -> impl Iterator<Item = (RangeId, Holder, Holder)> {
    let ranges = world.newest_dictionary().into_iter().flat_map(|newest| newest.ranges());
    ranges.filter_map(|(range, chain)| {
        let joiner = chain.holders.last().filter(|holder| !holder.state.serves())?;
        Some((range, *chain.serving().last()?, *joiner))
    })
}

/// Where a holder runs, in the life that the chain lists.
fn host_of(world: &World, holder: &Holder) -> Option<Host> {
    let lives = |host: &Host| {
        let place = &world.places[host.0];
        place.runs() && place.node.as_ref().is_some_and(|node| node.me() == (holder.node, holder.incarnation))
    };
    world.hosts().find(lives)
}

fn is_gated(world: &World, source: Host, range: RangeId) -> bool {
    let seen =
        world.places[source.0].node.as_ref().map(|node| node.store_of(range).inspect(range, world.clock(source)));
    seen.flatten().is_some_and(|seen| seen.gate)
}

fn lists(chain: &Chain, holder: &Holder) -> bool {
    chain.holder(holder.node, holder.incarnation).is_some()
}

/// Whether somebody serves beside the first of a chain, who is the one expected.
fn is_other(holder: &Holder, chain: &Chain, first: &Holder) -> bool {
    chain.head().is_some_and(|head| head.node == first.node) && holder.node != first.node
}
