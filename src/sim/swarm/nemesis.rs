//! What a seed does to a mesh while nothing is promised but safety.
//!
//! A nemesis knows some kinds of harm, each seed its own; it does one, waits, and does the next. Most harm is undone after a
//! while: processes start again, cuts heal, disks recover. What cannot be undone is kept within what the mesh can bear: never so
//! many data directories are lost that the voters who remain are no majority.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::messages::election::{Payload, Recovered, Seats};
use crate::messages::ownership::{Order, Role};
use crate::sim::client::Habits;
use crate::sim::clock::Time;
use crate::sim::disk::{Disk, Health};
use crate::sim::network::{Host, between};
use crate::sim::node::Room;
use crate::sim::world::{Spec, World};
use crate::types::NodeId;

/// At most so many places.
const PLACES: usize = 9;

/// Clocks are wrong by less than the drift that a mesh is told to expect.
const DRIFT_PPM: i64 = 49_000;

/// A kind of harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Harm {
    /// A process ends.
    Kill,
    /// A machine goes down, and nobody is told.
    PowerOff,
    /// A process does not run on for a while.
    Pause,
    /// All processes end.
    KillAll,
    /// Two nodes do not reach each other.
    Cut,
    /// One node does not reach another.
    OneWay,
    /// A node reaches nobody, and nobody it.
    Isolate,
    /// Some nodes and the others do not reach each other.
    Partition,
    /// A link is cut and mended in quick turn.
    Flap,
    /// Writes to a disk take long.
    SlowDisk,
    /// A disk is full, or fails.
    BadDisk,
    /// A data directory is gone.
    LostDisk,
    /// A new node asks to join.
    Join,
    /// An operator drops a node.
    Drop,
    /// The commander is told to step down.
    StepDown,
    /// A clock runs at another rate.
    Drift,
    /// A clock on the wall jumps.
    WallJump,
    /// An actor hears nothing for a while.
    Stall,
    /// A node stands for election early.
    TimeOut,
    /// A process begins anew so soon that hardly anybody sees it.
    Blink,
    /// A process does not run on for about as long as a lease lasts.
    Lease,
    /// Two neighbours of one chain, or a head and the commander, do not reach each other.
    Neighbours,
    /// A source, a joiner or the way between them is harmed in the middle of a join.
    Joiner,
    /// A member does not run on until its chain has gone on without it.
    WakeLate,
    /// A head is cut off from all but its successor, which ends when another serves.
    Succession,
    /// The commander and one that alone serves a range reach only each other, and the commander's election sleeps.
    Enclave,
    /// A node is to give away what it holds, and leave.
    Drain,
    /// A node says that it is about to end and will be back; and ends, whatever has become of that.
    Rest,
    /// None.
    Peace,
}

const ALL: [Harm; 28] = [
    Harm::Kill,
    Harm::PowerOff,
    Harm::Pause,
    Harm::KillAll,
    Harm::Cut,
    Harm::OneWay,
    Harm::Isolate,
    Harm::Partition,
    Harm::Flap,
    Harm::SlowDisk,
    Harm::BadDisk,
    Harm::LostDisk,
    Harm::Join,
    Harm::Drop,
    Harm::StepDown,
    Harm::Drift,
    Harm::WallJump,
    Harm::Stall,
    Harm::TimeOut,
    Harm::Blink,
    Harm::Lease,
    Harm::Neighbours,
    Harm::Joiner,
    Harm::WakeLate,
    Harm::Succession,
    Harm::Enclave,
    Harm::Drain,
    Harm::Rest,
];

/// All of it.
pub fn harms() -> impl Iterator<Item = Harm> {
    ALL.into_iter()
}

impl Harm {
    fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::PowerOff => "power off",
            Self::Pause => "pause",
            Self::KillAll => "kill all",
            Self::Cut => "cut",
            Self::OneWay => "cut one way",
            Self::Isolate => "isolate",
            Self::Partition => "partition",
            Self::Flap => "flapping link",
            Self::SlowDisk => "slow disk",
            Self::BadDisk => "disk refuses",
            Self::LostDisk => "lost disk",
            Self::Join => "join",
            Self::Drop => "drop",
            Self::StepDown => "step down",
            Self::Drift => "clock rate",
            Self::WallJump => "wall clock jump",
            Self::Stall => "stalled actor",
            Self::TimeOut => "early timeout",
            Self::Blink => "blink",
            Self::Lease => "pause of a lease",
            Self::Neighbours => "cut in a chain",
            Self::Joiner => "harmed join",
            Self::WakeLate => "late waking",
            Self::Succession => "double succession",
            Self::Enclave => "enclave",
            Self::Drain => "drain",
            Self::Rest => "rest",
            Self::Peace => "peace",
        }
    }
}

/// As it is counted, with dashes for spaces.
impl fmt::Display for Harm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name().replace(' ', "-"))
    }
}

impl FromStr for Harm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        ALL.into_iter().chain([Self::Peace]).find(|harm| harm.to_string() == text).ok_or_else(|| {
            let known: Vec<String> = ALL.iter().map(ToString::to_string).collect();
            format!("{text:?} is no fault; these are: {}", known.join(", "))
        })
    }
}

/// What undoes harm.
#[derive(Clone, Copy, Debug)]
pub(super) enum Undo {
    Start(Host),
    Resume(Host),
    Heal(Host, Host),
    Disk(Host),
    Drain(NodeId),
    End(Host),
}

/// A seed's will.
#[derive(Debug)]
pub(super) struct Nemesis {
    pub(super) random: ChaCha8Rng,
    knows: Vec<Harm>,
    pause: Duration,
    /// So long after all clients have asked something harm is done, at most.
    pub(super) haste: Duration,
    pub(super) undo: Vec<(Time, Undo)>,
    /// Nodes whose data directory is gone, or that an operator has dropped: they never come back.
    pub(super) gone: BTreeSet<NodeId>,
    /// When operators last said that such a node will not come back, and that a node may stay.
    pub(super) vouched: Time,
    pub(super) kept: Time,
    counts: BTreeMap<&'static str, u64>,
}

impl Nemesis {
    /// One that knows about half of all harm; or of that only what is named.
    pub(super) fn new(mut random: ChaCha8Rng, drifts: bool, only: Option<&[Harm]>) -> Self {
        let mut knows: Vec<Harm> = ALL.into_iter().filter(|_| random.gen_ratio(1, 2)).collect();
        if drifts {
            knows.push(Harm::Drift);
        }
        knows.push(Harm::Peace);
        // It has peace instead of what it is not to do: so what it draws, and with it the run, stays alike.
        if let Some(only) = only {
            knows.iter_mut().filter(|harm| !only.contains(harm)).for_each(|harm| *harm = Harm::Peace);
        }
        let pause = Duration::from_millis([800, 3_000, 10_000, 25_000][random.gen_range(0..4)]);
        let haste = Duration::from_micros([400, 2_000, 10_000, 60_000][random.gen_range(0..4)]);
        Self {
            random,
            knows,
            pause,
            haste,
            undo: Vec::new(),
            gone: BTreeSet::new(),
            vouched: Time(0),
            kept: Time(0),
            counts: BTreeMap::new(),
        }
    }

    /// How clients work. Few registers are asked for more often at once; where all keys lie in few slots, a copy takes many
    /// parts; and to change a long value is a short command.
    pub(super) fn draw_habits(&mut self) -> Habits {
        let mut pick = |all: [u32; 4]| all[self.random.gen_range(0..4)];
        let (keys, crowd, long) = (pick([24, 24, 6, 2]), pick([0, 0, 1, 3]), pick([4, 4, 4, 40]));
        Habits { keys, crowd, long, others: 20, objects: 35, batches: 8, straight: 20, again: 50, ..Habits::PLAIN }
    }

    /// What it did, and what came of that on the network.
    pub(super) fn counts(&self, world: &World) -> BTreeMap<&'static str, u64> {
        let mut counts = self.counts.clone();
        counts.insert("broken connections", world.network.broken());
        counts.extend(world.fired());
        counts
    }

    /// Does one thing, and lets some time pass.
    pub(super) fn act(&mut self, world: &mut World) {
        self.vouch(world);
        let harm = *self.knows.choose(&mut self.random).expect("it knows peace at least");
        // Harm is done where it hurts: while commands are on their way.
        world.hurry_clients();
        let moment = between(&mut self.random, (Duration::ZERO, self.haste));
        self.wait(world, world.now() + moment);
        if self.harm(world, harm).is_some() {
            *self.counts.entry(harm.name()).or_default() += 1;
        }
        let until = world.now() + between(&mut self.random, (Duration::ZERO, self.pause * 2));
        self.wait(world, until);
    }

    /// Lets time pass, and undoes what is due.
    pub(super) fn wait(&mut self, world: &mut World, until: Time) {
        loop {
            self.undo.sort_by_key(|(at, _)| *at);
            let next = self.undo.first().map(|(at, _)| *at).filter(|at| *at <= until);
            let now = world.now();
            world.advance(next.unwrap_or(until).max(now).since(now));
            if next.is_none() || world.checkers.violation().is_some() {
                return;
            }
            let (_, undo) = self.undo.remove(0);
            self.undo(world, undo);
        }
    }

    fn undo(&mut self, world: &mut World, undo: Undo) {
        match undo {
            Undo::Start(host) => self.start(world, host),
            Undo::Resume(host) => world.resume(host),
            Undo::Heal(from, to) => world.heal(from, to),
            Undo::Disk(host) => world.places[host.0].disk.health = Health::Well,
            Undo::End(host) => self.kill(world, host, false),
            Undo::Drain(node) => {
                self.order(world, Order::Abort { node });
            }
        }
    }

    /// Starts a process; as a new node where the former was removed from the mesh.
    pub(super) fn start(&mut self, world: &mut World, host: Host) {
        if world.places[host.0].node.is_some() {
            return;
        }
        let place = &mut world.places[host.0];
        let known = place.disk.identity().map(|identity| identity.node);
        let removed = place.ended.as_ref().is_some_and(|reason| reason.contains("removed"));
        if removed || known.is_some_and(|node| self.gone.contains(&node)) {
            self.gone.extend(known);
            world.lose_disk(host);
        }
        let place = &mut world.places[host.0];
        if place.disk.health.refusal().is_some() {
            place.disk.health = Health::Well;
        }
        world.start(host);
    }

    fn harm(&mut self, world: &mut World, harm: Harm) -> Option<()> {
        let runs: Vec<Host> = world.hosts().filter(|host| world.places[host.0].runs()).collect();
        let one = *runs.choose(&mut self.random)?;
        match harm {
            Harm::Kill => self.kill(world, one, false),
            Harm::PowerOff => self.kill(world, one, true),
            Harm::KillAll => runs.into_iter().for_each(|host| self.kill(world, host, false)),
            Harm::Pause => {
                // The commander is the more interesting one.
                let one = world.commander().filter(|_| self.random.gen_ratio(1, 3)).map_or(one, |it| it.host);
                world.pause(one);
                self.later(world, Undo::Resume(one), Duration::from_secs(8));
            }
            Harm::Cut => {
                let other = self.other(world, one)?;
                self.cut(world, one, other);
                self.cut(world, other, one);
            }
            Harm::OneWay => {
                let other = self.other(world, one)?;
                self.cut(world, one, other);
            }
            Harm::Isolate => {
                let one = world.commander().filter(|_| self.random.gen_ratio(1, 2)).map_or(one, |it| it.host);
                self.part(world, &[one]);
            }
            Harm::Partition => {
                let all: Vec<Host> = world.hosts().collect();
                let size = self.random.gen_range(1..=all.len() / 2);
                let side: Vec<Host> = all.choose_multiple(&mut self.random, size).copied().collect();
                self.part(world, &side);
            }
            Harm::Flap => {
                let other = self.other(world, one)?;
                for _ in 0..5 {
                    world.cut(one, other);
                    let until =
                        world.now() + between(&mut self.random, (Duration::from_millis(1), Duration::from_secs(1)));
                    self.wait(world, until);
                    world.heal(one, other);
                    let until =
                        world.now() + between(&mut self.random, (Duration::from_millis(1), Duration::from_secs(1)));
                    self.wait(world, until);
                }
            }
            Harm::SlowDisk => {
                let by = between(&mut self.random, (Duration::from_millis(20), Duration::from_secs(4)));
                world.tell_of(one, || format!("has a slow disk: {by:?} for each sync"));
                world.places[one.0].disk.health = Health::Slow(by);
                self.later(world, Undo::Disk(one), Duration::from_secs(30));
            }
            Harm::BadDisk => {
                let health = if self.random.gen_ratio(1, 2) { Health::Full } else { Health::Fails };
                world.tell_of(one, || format!("has a disk that is not well: {health:?}"));
                world.places[one.0].disk.health = health;
                self.later(world, Undo::Start(one), Duration::from_secs(20));
            }
            Harm::LostDisk => self.lose_disk(world, one)?,
            Harm::Join => self.join(world)?,
            Harm::Drop => self.drop(world, one)?,
            Harm::StepDown => {
                let commander = world.commander()?;
                world.tell_of(commander.host, || "is told to step down".into());
                world.order(commander.host, Order::StepDown { to: None }, Duration::from_secs(5));
            }
            Harm::Drift => {
                let (now, ppm) = (world.now(), self.random.gen_range(-DRIFT_PPM..=DRIFT_PPM));
                world.tell_of(one, || format!("has a clock that is off by {ppm} in a million"));
                world.places[one.0].clock.set_drift(now, ppm);
            }
            Harm::WallJump => {
                let by = self.random.gen_range(-3_600_000..3_600_000);
                world.tell_of(one, || format!("has its wall clock set by {by} ms"));
                world.places[one.0].clock.jump_wall(by);
            }
            Harm::Stall => {
                let rooms = [Room::Election, Room::Heartbeat, Room::Ownership, Room::Store(0), Room::Door];
                let room = *rooms.choose(&mut self.random)?;
                let span = between(&mut self.random, (Duration::from_millis(1), Duration::from_secs(3)));
                world.stall(one, room, span);
            }
            Harm::TimeOut => world.time_out(one),
            Harm::Blink => self.blink(world, one),
            Harm::Lease => self.pause_for_a_lease(world, one),
            Harm::Neighbours => self.cut_neighbours(world)?,
            Harm::Joiner => self.harm_join(world)?,
            Harm::WakeLate => self.wake_late(world)?,
            Harm::Succession => self.succeed_twice(world)?,
            Harm::Enclave => self.enclose(world)?,
            Harm::Drain => self.drain(world, one)?,
            Harm::Rest => self.rest(world, one)?,
            Harm::Peace => {}
        }
        Some(())
    }

    pub(super) fn later(&mut self, world: &World, undo: Undo, bound: Duration) {
        // Short spans are as likely as long ones: each order of magnitude counts the same.
        let bound = bound.as_secs_f64();
        let span = bound * (-self.random.gen_range(0.0..6.0_f64)).exp();
        self.undo.push((world.now() + Duration::from_secs_f64(span), undo));
    }

    fn other(&mut self, world: &World, one: Host) -> Option<Host> {
        let others: Vec<Host> = world.hosts().filter(|host| *host != one).collect();
        others.choose(&mut self.random).copied()
    }

    pub(super) fn kill(&mut self, world: &mut World, host: Host, silently: bool) {
        world.kill(host, silently);
        self.later(world, Undo::Start(host), Duration::from_secs(25));
    }

    fn cut(&mut self, world: &mut World, from: Host, to: Host) {
        world.cut(from, to);
        self.later(world, Undo::Heal(from, to), Duration::from_secs(40));
    }

    fn part(&mut self, world: &mut World, side: &[Host]) {
        let others: Vec<Host> = world.hosts().filter(|host| !side.contains(host)).collect();
        let before = self.undo.len();
        for (host, other) in side.iter().flat_map(|host| others.iter().map(move |other| (*host, *other))) {
            self.cut(world, host, other);
            self.cut(world, other, host);
        }
        // A partition heals as one, more often than not.
        if self.random.gen_ratio(3, 4) && before < self.undo.len() {
            let at = self.undo[before].0;
            self.undo[before..].iter_mut().for_each(|undo| undo.0 = at);
        }
    }

    fn lose_disk(&mut self, world: &mut World, host: Host) -> Option<()> {
        let node = world.places[host.0].disk.identity()?.node;
        if !self.is_bearable(world, node) {
            return None;
        }
        world.kill(host, false);
        world.lose_disk(host);
        self.gone.insert(node);
        self.later(world, Undo::Start(host), Duration::from_secs(25));
        Some(())
    }

    /// Whether those who are left are a majority that can rule, in whatever way the voters may be changing: also when those have
    /// given up their seats who are to leave, which they may do before anybody knows that this node is lost.
    pub(super) fn is_bearable(&self, world: &World, node: NodeId) -> bool {
        let Some(dictionary) = world.newest_dictionary() else { return false };
        let is_witness = |id: &NodeId| dictionary.roster.get(id).is_some_and(|it| it.node.role == Role::Witness);
        let leavers: BTreeSet<NodeId> = dictionary.leavers().collect();
        let can_rule = |voters: &[NodeId]| {
            let left = || voters.iter().filter(|voter| **voter != node && !self.gone.contains(voter));
            voters.is_empty() || left().count() * 2 > voters.len() && left().any(|voter| !is_witness(voter))
        };
        let is_majority = |voters: &[NodeId]| {
            let stay: Vec<NodeId> = voters.iter().copied().filter(|voter| !leavers.contains(voter)).collect();
            can_rule(voters) && can_rule(&stay)
        };
        let bears = |seats: &Seats| is_majority(&seats.voters) && is_majority(&seats.outgoing);
        // The change that is known to one node only may be the one that holds, even if it only lies in a log so far.
        let mut known = world.places.iter().filter_map(|place| place.node.as_ref()?.published.as_ref());
        let returns = |disk: &&Disk| disk.identity().is_some_and(|identity| !self.gone.contains(&identity.node));
        let mut logged =
            world.places.iter().map(|place| &place.disk).filter(returns).flat_map(|disk| voters_in(&disk.written()));
        world.newest().is_some_and(|newest| bears(&newest.seats))
            && known.all(|published| bears(&published.seats))
            && logged.all(|voters| is_majority(&voters))
    }

    fn join(&mut self, world: &mut World) -> Option<()> {
        if world.places.len() >= PLACES {
            return None;
        }
        let asked = self.random.gen_range(0..world.places.len());
        let join = vec![world.places[asked].peer_address(), "n1:16234".into()];
        let role = if self.random.gen_ratio(1, 8) { Role::Witness } else { Role::Drone };
        let limits = world.places[0].spec.limits;
        let host = world.add_place(Spec { join, role, limits, ..Spec::default() });
        world.start(host);
        Some(())
    }
}

/// Who votes as of the last committed record of a log, and after each later one.
fn voters_in(log: &Recovered) -> Vec<Vec<NodeId>> {
    let (start, mut voters) = log.snapshot.as_ref().map(|it| (it.index, it.seats.voters.clone())).unwrap_or_default();
    let committed = log.hard.commit.max(start);
    let mut possible = vec![voters.clone()];
    for entry in &log.entries {
        let Payload::Seats(change) = &entry.payload else { continue };
        voters.retain(|node| !change.learners.contains(node) && !change.gone.contains(node));
        voters.extend(change.voters.iter().filter(|node| !voters.contains(node)).copied().collect::<Vec<_>>());
        if entry.index <= committed {
            possible.clear();
        }
        possible.push(voters.clone());
    }
    possible
}
