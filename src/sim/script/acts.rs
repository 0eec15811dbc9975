//! What a story can do to a mesh.

use std::error::Error;
use std::time::Duration;

use super::{Answer, Arguments, PATIENCE, place, span};
use bytes::Bytes;

use crate::machines::heartbeat;
use crate::machines::store::Limits;
use crate::messages::chain::{Change, Value};
use crate::messages::heartbeat::{HeartbeatMessage, Silence};
use crate::messages::ownership::{GiveUp, MeshSettings, Order, ReplicationMode, Role};
use crate::messages::peer::Lane;
use crate::sim::client::Habits;
use crate::sim::disk::Health;
use crate::sim::network::Host;
use crate::sim::node::{Mail, Room};
use crate::sim::world::{Spec, World};
use crate::types::{NodeId, RangeId, Timing};

/// A world for the mesh that the arguments describe.
pub(super) fn mesh(arguments: &mut Arguments) -> Result<World, Box<dyn Error>> {
    let factor = arguments.number("copies", 1)?;
    let failure_timeout = arguments.key_span("timeout")?.unwrap_or(Duration::from_millis(500));
    let give_up = match arguments.key("give_up").as_deref() {
        None => GiveUp::ByCopies,
        Some("never") => GiveUp::Never,
        Some(text) => GiveUp::After(span(text)?),
    };
    let settings = MeshSettings {
        ranges: arguments.number("ranges", 16)?,
        timing: Timing { failure_timeout, ..Timing::default() },
        factor,
        min_copies: arguments.number("min_copies", 1)?,
        give_up,
        mode: match arguments.key("mode").as_deref() {
            None | Some("value") => ReplicationMode::Value,
            Some("command") => ReplicationMode::Command,
            Some(other) => return Err(format!("mode={other}: value or command").into()),
        },
        voters: arguments.number("voters", 5)?,
        node_expiry: arguments.key_span("expiry")?.unwrap_or(Duration::from_secs(900)),
        ..MeshSettings::default()
    };
    Ok(World::new(arguments.number("seed", 1)?, settings))
}

/// Adds places and starts what the arguments say, without the last ones, which come later. How many nodes should come to be
/// a mesh, if it is to be waited for.
pub(super) fn start_mesh(
    world: &mut World,
    arguments: &mut Arguments,
    later: usize,
) -> Result<Option<usize>, Box<dyn Error>> {
    let nodes = arguments.number("nodes", 3usize)?.saturating_sub(later);
    let witnesses: usize = arguments.number("witness", 0)?;
    let workers = arguments.number("workers", 1)?;
    let start = arguments.key("start").unwrap_or("founder".into());
    let limits = match arguments.key("parts").as_deref() {
        None => Limits::default(),
        // Each byte of a copy travels by itself, and the next when it has arrived. One recent write is kept, so that who
        // has missed more, or comes anew, is streamed.
        Some("small") => Limits { chunk_bytes: 1, parts_a_joiner: 1, backlog_writes: 1, ..Limits::default() },
        Some(other) => return Err(format!("parts={other}: small").into()),
    };
    let names: Vec<String> = (1..=nodes).map(|number| format!("n{number}:16234")).collect();
    for index in 0..nodes {
        let role = if index >= nodes - witnesses { Role::Witness } else { Role::Drone };
        let others = || names.iter().filter(|name| **name != names[index]).cloned().collect();
        // Started together, the first lists the others too, and founds a mesh when nobody it asked knows one.
        let (join, found) = match (start.as_str(), index) {
            ("together", 0) => (others(), true),
            ("together", _) => (others(), false),
            (_, 0) => (vec![], false),
            _ => (vec![names[0].clone()], false),
        };
        world.add_place(Spec { role, workers, join, found, limits, ..Spec::default() });
    }
    match start.as_str() {
        "none" => return Ok(None),
        "founder" => {
            world.start(Host(0));
            world.until(PATIENCE, |world| world.commander().is_some());
            (1..nodes).for_each(|index| world.start(Host(index)));
        }
        "together" => (0..nodes).for_each(|index| world.start(Host(index))),
        other => return Err(format!("start={other}: founder, together or none").into()),
    }
    Ok(arguments.key("wait").is_none_or(|wait| wait != "no").then_some(nodes))
}

/// Adds a drone that weighs next to nothing. It comes when all ranges have their places, so that it holds none.
pub(super) fn add_bare(world: &mut World) -> Host {
    let first = &world.places[0];
    let join = vec![format!("{}:16234", first.name)];
    let host = world.add_place(Spec { weight: 1, join, found: false, ..first.spec.clone() });
    world.start(host);
    host
}

/// Has the commander hand over to a node, and waits until that commands.
pub(super) fn instate(world: &mut World, host: Host) -> Result<(), Box<dyn Error>> {
    let to = node(world, &world.places[host.0].name)?;
    let commander = world.commander().ok_or("nobody commands")?.host;
    let ask = world.order(commander, Order::StepDown { to: Some(to) }, PATIENCE);
    let answer = told(world, ask);
    match world.until(PATIENCE, |world| world.commander().is_some_and(|it| it.host == host)) {
        true => Ok(()),
        false => Err(format!("{} does not take over: {answer}", world.places[host.0].name).into()),
    }
}

/// Does what a line says.
pub(super) fn act(world: &mut World, name: &str, arguments: &mut Arguments) -> Answer {
    match name {
        "new" => new(world, arguments)?,
        "start" => each(world, arguments, |world, host| world.start(host))?,
        "kill" => {
            let silently = arguments.key("power").is_some_and(|power| power == "off");
            each(world, arguments, |world, host| world.kill(host, silently))?;
        }
        "pause" => each(world, arguments, |world, host| world.pause(host))?,
        "resume" => each(world, arguments, |world, host| world.resume(host))?,
        "restart" => restart(world, arguments)?,
        "cut" | "isolate" | "partition" | "heal" => network(world, name, arguments)?,
        "hold" | "release" | "reset" => between_two(world, name, arguments)?,
        "weather" => weather(world, arguments)?,
        "disk" => disk(world, arguments)?,
        "clock" => clock(world, arguments)?,
        "timeout" => each(world, arguments, |world, host| world.time_out(host))?,
        "stall" => stall(world, arguments)?,
        "rumour" => rumour(world, arguments)?,
        "clients" => clients(world, arguments)?,
        "rest" => {
            world.rest_clients();
            if !world.until(PATIENCE, |world| world.clients.iter().all(|client| !client.is_busy())) {
                return Err("a client waits for ever".into());
            }
            let answered: u64 = world.clients.iter().map(|client| client.answered).sum();
            if answered == 0 {
                return Err("no client had an answer".into());
            }
        }
        "stepdown" => {
            let to = arguments.word().map(|name| node(world, &name)).transpose()?;
            return order(world, Order::StepDown { to }, arguments);
        }
        "drop" => return order_about(world, arguments, |node| Order::Drop { node }),
        "drain" => {
            let dry_run = arguments.key("only").is_some_and(|only| only == "preview");
            let preview = |node| Order::Preview { drain: Some(node) };
            return order_about(world, arguments, |node| if dry_run { preview(node) } else { Order::Drain { node } });
        }
        "abort" => return order_about(world, arguments, |node| Order::Abort { node }),
        "promote" => return order_about(world, arguments, |node| Order::Promote { node }),
        "demote" => return order_about(world, arguments, |node| Order::Demote { node }),
        "weight" => {
            let weight = arguments.key("to").map(|to| to.parse()).transpose().map_err(|_| "to= takes a number")?;
            return order_about(world, arguments, |node| Order::Weigh { node, weight });
        }
        "zone" => {
            let zone = arguments.key("to");
            return order_about(world, arguments, |node| Order::Zone { node, zone });
        }
        "rebalance" => return order(world, Order::Rebalance, arguments),
        "pausewrites" => {
            let since_ms = world.clock(Host(0)).wall_ms;
            return order(world, Order::Pause { since_ms }, arguments);
        }
        "resumewrites" => return order(world, Order::Resume, arguments),
        "verify" => return verify(world, arguments),
        "tamper" => tamper(world, arguments)?,
        _ => return Err(format!("{name} is no command of stories").into()),
    }
    Ok(String::new())
}

fn each(
    world: &mut World,
    arguments: &mut Arguments,
    mut act: impl FnMut(&mut World, Host),
) -> Result<(), Box<dyn Error>> {
    let names = arguments.rest();
    if names.is_empty() {
        return Err("whom?".into());
    }
    let hosts = match names[0].as_str() {
        "all" => world.hosts().collect(),
        _ => names.iter().map(|name| place(world, name)).collect::<Result<Vec<_>, _>>()?,
    };
    hosts.into_iter().for_each(|host| act(world, host));
    Ok(())
}

fn new(world: &mut World, arguments: &mut Arguments) -> Result<(), Box<dyn Error>> {
    let role = match arguments.key("role").as_deref() {
        None | Some("drone") => Role::Drone,
        Some("witness") => Role::Witness,
        Some(other) => return Err(format!("role={other}: drone or witness").into()),
    };
    let join = arguments.key("join").unwrap_or("n1".into());
    let spec = Spec {
        role,
        zone: arguments.key("zone").unwrap_or_default(),
        weight: arguments.number("weight", 100)?,
        workers: arguments.number("workers", 1)?,
        limits: world.places[0].spec.limits,
        join: vec![format!("{join}:16234")],
        ..Spec::default()
    };
    let mut names = arguments.rest();
    if names.is_empty() {
        names.push(format!("n{}", world.places.len() + 1));
    }
    for name in names {
        let host = world.add_place(spec.clone());
        if world.places[host.0].name != name {
            return Err(format!("the next node is called {}", world.places[host.0].name).into());
        }
        world.start(host);
    }
    Ok(())
}

fn restart(world: &mut World, arguments: &mut Arguments) -> Result<(), Box<dyn Error>> {
    let lost = arguments.key("disk").is_some_and(|disk| disk == "lost");
    let mut named = Vec::new();
    each(world, arguments, |world, host| {
        world.kill(host, false);
        if lost {
            world.lose_disk(host);
        }
        named.push(host);
    })?;
    // All are down before the first is up again.
    named.into_iter().for_each(|host| world.start(host));
    Ok(())
}

fn network(world: &mut World, name: &str, arguments: &mut Arguments) -> Result<(), Box<dyn Error>> {
    let way = arguments.key("way");
    let hosts = arguments.rest().iter().map(|name| place(world, name)).collect::<Result<Vec<_>, _>>()?;
    let others: Vec<Host> = world.hosts().filter(|host| !hosts.contains(host)).collect();
    match (name, hosts.as_slice()) {
        ("heal", []) => world.heal_all(),
        ("heal", [one, other]) => {
            world.heal(*one, *other);
            world.heal(*other, *one);
        }
        ("cut", [one, other]) => {
            world.cut(*one, *other);
            if way.is_none() {
                world.cut(*other, *one);
            }
        }
        ("isolate" | "partition", [_, ..]) => {
            for (host, other) in hosts.iter().flat_map(|host| others.iter().map(move |other| (*host, *other))) {
                world.cut(host, other);
                if way.is_none() {
                    world.cut(other, host);
                }
            }
        }
        _ => return Err(format!("{name} between whom?").into()),
    }
    Ok(())
}

fn between_two(world: &mut World, name: &str, arguments: &mut Arguments) -> Result<(), Box<dyn Error>> {
    let lane = match arguments.key("lane").as_deref() {
        Some("control") => Lane::Control,
        None | Some("data") => Lane::Data,
        Some("bulk") => Lane::Bulk,
        Some(other) => return Err(format!("lane={other}: control, data or bulk").into()),
    };
    let (from, to) = (arguments.word().ok_or("from whom?")?, arguments.word().ok_or("to whom?")?);
    let (from, to) = (one_or_all(world, &from)?, one_or_all(world, &to)?);
    for (from, to) in from.iter().flat_map(|from| to.iter().map(move |to| (*from, *to))).filter(|(from, to)| from != to)
    {
        match name {
            "hold" => world.hold(from, to, lane),
            "release" => world.let_go(from, to),
            _ => world.reset(from, to),
        }
    }
    Ok(())
}

fn one_or_all(world: &World, name: &str) -> Result<Vec<Host>, Box<dyn Error>> {
    if name == "all" { Ok(world.hosts().collect()) } else { Ok(vec![place(world, name)?]) }
}

fn weather(world: &mut World, arguments: &mut Arguments) -> Result<(), Box<dyn Error>> {
    let weather = &mut world.network.weather;
    if let Some(delay) = arguments.key_span("delay")? {
        weather.delay = (delay / 2, delay);
    }
    weather.late = arguments.number("late", weather.late)?;
    weather.late_by = arguments.key_span("late_by")?.unwrap_or(weather.late_by);
    weather.breaks = arguments.number("breaks", weather.breaks)?;
    Ok(())
}

fn disk(world: &mut World, arguments: &mut Arguments) -> Result<(), Box<dyn Error>> {
    let host = place(world, &arguments.word().ok_or("whose disk?")?)?;
    let health = match (arguments.word().as_deref(), arguments.key_span("slow")?) {
        (None, Some(span)) => Health::Slow(span),
        (Some("ok"), None) => Health::Well,
        (Some("full"), None) => Health::Full,
        (Some("fails"), None) => Health::Fails,
        _ => return Err("a disk is ok, full, fails, or slow=SPAN".into()),
    };
    world.places[host.0].disk.health = health;
    Ok(())
}

fn clock(world: &mut World, arguments: &mut Arguments) -> Result<(), Box<dyn Error>> {
    let host = place(world, &arguments.word().ok_or("whose clock?")?)?;
    let now = world.now();
    if let Some(text) = arguments.key("drift") {
        let percent: f64 = text.trim_end_matches('%').parse().map_err(|_| "drift is so many percent")?;
        world.places[host.0].clock.set_drift(now, (percent * 10_000.0) as i64);
    }
    if let Some(text) = arguments.key("wall") {
        let by = span(text.trim_start_matches(['-', '+']))?.as_millis() as i64;
        world.places[host.0].clock.jump_wall(if text.starts_with('-') { -by } else { by });
    }
    Ok(())
}

fn stall(world: &mut World, arguments: &mut Arguments) -> Result<(), Box<dyn Error>> {
    let host = place(world, &arguments.word().ok_or("who stalls?")?)?;
    let room = match arguments.word().as_deref() {
        Some("election") => Room::Election,
        Some("heartbeat") => Room::Heartbeat,
        Some("ownership") => Room::Ownership,
        Some("door") => Room::Door,
        Some("store") => Room::Store(0),
        _ => return Err("election, heartbeat, ownership, store or door?".into()),
    };
    let span = arguments.span()?;
    world.stall(host, room, span);
    Ok(())
}

/// One node tells the commander that it does not hear another, true or not.
fn rumour(world: &mut World, arguments: &mut Arguments) -> Result<(), Box<dyn Error>> {
    let from = place(world, &arguments.word().ok_or("who says so?")?)?;
    let about = place(world, &arguments.word().ok_or("about whom?")?)?;
    let commander = world.commander().ok_or("nobody commands")?.host;
    let life = |host: Host| world.places[host.0].disk.identity().map(|it| (it.node, it.incarnation));
    let ((from, incarnation), (about, its)) = (life(from).ok_or("no node")?, life(about).ok_or("no node")?);
    for _ in 0..arguments.number("times", 1)? {
        let message = HeartbeatMessage::Report { about, incarnation: its, why: Silence::Unreachable };
        world.tell(commander, Mail::Heartbeat(heartbeat::Input::Peer { from, incarnation, message }));
    }
    Ok(())
}

fn clients(world: &mut World, arguments: &mut Arguments) -> Result<(), Box<dyn Error>> {
    let count: usize = arguments.word().ok_or("how many clients?")?.parse().map_err(|_| "how many clients?")?;
    let keys = arguments.number("keys", Habits::default().keys)?;
    let others = arguments.number("others", 0)?;
    let places = world.places.len();
    for index in 0..count {
        world.add_client(Habits { keys, others, ..Habits::default() }, Host(index % places));
    }
    Ok(())
}

fn node(world: &World, name: &str) -> Result<NodeId, Box<dyn Error>> {
    let host = place(world, name)?;
    let identity = world.places[host.0].disk.identity();
    identity.map(|identity| identity.node).ok_or_else(|| format!("{name} was never started").into())
}

fn order(world: &mut World, order: Order, arguments: &mut Arguments) -> Answer {
    let at = match arguments.key("at") {
        Some(name) => place(world, &name)?,
        None => world.commander().ok_or("nobody commands: say at=")?.host,
    };
    let ask = world.order(at, order, PATIENCE);
    Ok(told(world, ask))
}

/// An order about the node that is named next.
fn order_about(world: &mut World, arguments: &mut Arguments, wanted: impl FnOnce(NodeId) -> Order) -> Answer {
    let node = node(world, &arguments.word().ok_or("whom?")?)?;
    order(world, wanted(node), arguments)
}

/// Asks a node how copies compare: the commander, unless another is named.
fn verify(world: &mut World, arguments: &mut Arguments) -> Answer {
    let at = match arguments.key("at") {
        Some(name) => place(world, &name)?,
        None => world.commander().ok_or("nobody commands: say at=")?.host,
    };
    let ranges = world.newest_dictionary().map_or(1, |it| it.chains.len());
    let range = arguments.word().map(|key| RangeId::of_key(key.as_bytes(), ranges));
    let ask = world.verify(at, range, PATIENCE);
    Ok(told(world, ask))
}

fn told(world: &mut World, ask: u64) -> String {
    let mut told = None;
    world.until(PATIENCE * 2, |world| {
        told = told.take().or_else(|| world.told(ask));
        told.is_some()
    });
    let words = told.map_or("no answer".into(), |(_, told)| super::told_words(&told));
    world.named(&words) + "\n"
}

fn tamper(world: &mut World, arguments: &mut Arguments) -> Result<(), Box<dyn Error>> {
    let host = place(world, &arguments.word().ok_or("whose copy?")?)?;
    let key = Bytes::from(arguments.word().ok_or("of which key?")?);
    let ranges = world.newest_dictionary().map_or(1, |it| it.chains.len());
    let range = RangeId::of_key(&key, ranges);
    let change = match arguments.word() {
        Some(value) => Change::Put(key, Value { data: Bytes::from(value), expires_ms: None }),
        None => Change::Delete(key),
    };
    world.tamper(host, range, &change);
    Ok(())
}
