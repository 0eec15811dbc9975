//! The mesh that is put to the test: one of our own behind a proxy, one that `keyval local` runs, or any at all.
//!
//! What can be done to it depends on that. Of our own everything; of one in a folder what can be done to its processes, and
//! `keyval local` starts again what was killed; of any other nothing but asking.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rand::rngs::OsRng;
use rand::{Rng, RngCore};
use rand_chacha::ChaCha8Rng;
use rustix::process::Signal;

use super::harm::{Fault, Harm};
use super::process::{Amends, Process};
use super::proxy::Proxy;
use super::route::{Manners, Route};
use super::stop::Stop;
use crate::cli::client::ClientError;
use crate::cli::local::layout::{self, Described, Node};
use crate::cli::local::nodes::{self, Running};
use crate::cli::local::ready;
use crate::messages::status::{Map, Nodes, Status};
use crate::types::NodeId;

/// How long a mesh may take until it is well, at the beginning and after each fault.
pub(super) const WELL: Duration = Duration::from_secs(60);

/// How long a process may take to end, or to be started again.
const PROCESS: Duration = Duration::from_secs(10);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// From where ports of a mesh of our own are drawn: all its doors lie below those that the system hands out.
const PORTS: std::ops::Range<u16> = 10_000..20_000;

/// A mesh.
pub(super) struct Target {
    pub(super) nodes: Vec<Described>,
    manners: Manners,
    keeper: Keeper,
}

/// Who started it.
enum Keeper {
    Own(Box<Own>),
    Local(PathBuf),
    /// Somebody else; its plain door.
    Somebody(String),
}

/// A mesh of our own.
struct Own {
    nodes: Vec<Node>,
    running: Running,
    copies: u8,
    proxy: Proxy,
    dir: PathBuf,
}

impl Target {
    /// Starts a mesh of so many nodes with so many copies, behind a proxy whose chance begins with this seed.
    pub(super) fn own(count: u16, copies: u8, dir: PathBuf, seed: u64, stop: &Stop) -> Result<Self, String> {
        let free = (0..100).map(|_| OsRng.gen_range(PORTS)).find(|port| layout::is_free(*port, count));
        let mut nodes = layout::lay_out(count, free.ok_or("no ports are free")?, &dir)?;
        let proxy = Proxy::new(seed);
        let doors: Vec<String> = nodes.iter().enumerate().map(|(place, node)| proxy.open(place, &node.peer)).collect();
        layout::behind(&mut nodes, &doors);
        let running = nodes::start(&nodes, Some(copies))?;
        let described = running.described();
        // The nodes have it from the environment.
        let password = std::env::var("KEYVAL__CLIENT__PASSWORD").ok();
        let own = Own { nodes, running, copies, proxy, dir };
        let mut target = Self { nodes: described, manners: near(password), keeper: Keeper::Own(Box::new(own)) };
        target
            .until_well(Some(stop))
            .map_err(|why| format!("{why}; logs are in {}", target.folder().unwrap_or_default()))?;
        target.introduce()?;
        Ok(target)
    }

    /// The mesh that `keyval local` runs in a folder.
    pub(super) fn of_dir(dir: &Path, password: Option<String>, faults: &[Fault], stop: &Stop) -> Result<Self, String> {
        let nodes = layout::read(dir).map_err(|why| format!("{why} (does `keyval local --dir` run there?)"))?;
        for node in &nodes {
            Process::of_node(node)?;
            if faults.contains(&Fault::Kill) {
                Process::of_local(node)?;
            }
        }
        let mut target = Self { nodes, manners: near(password), keeper: Keeper::Local(dir.to_owned()) };
        target.until_well(Some(stop))?;
        target.bears(faults)?;
        Ok(target)
    }

    /// Whatever answers there.
    pub(super) fn at(door: &str, password: Option<String>) -> Result<Self, String> {
        let manners = Manners { password, patience: Duration::from_secs(2) };
        manners.connect(door).map_err(|error| error.to_string())?;
        Ok(Self { nodes: Vec::new(), manners, keeper: Keeper::Somebody(door.to_owned()) })
    }

    /// The way to its keys, and what there is to say about it.
    pub(super) fn route(&self) -> (Route, Option<String>) {
        let manners = self.manners.clone();
        match &self.keeper {
            Keeper::Somebody(door) => match cluster_doors(door, &manners) {
                Ok(doors) => (Route::new(doors, manners), None),
                Err(why) => {
                    let why =
                        format!("everything goes by {door}, since its cluster doors cannot be used from here: {why}");
                    (Route::plain(door.clone(), manners), Some(why))
                }
            },
            _ => (Route::new(self.nodes.iter().map(|node| node.cluster.clone()).collect(), manners), None),
        }
    }

    /// For people.
    pub(super) fn told(&self) -> String {
        let count = self.nodes.len();
        match &self.keeper {
            Keeper::Own(own) => format!("a mesh of its own, {count} nodes, {} copies", own.copies),
            Keeper::Local(dir) => format!("the mesh of {count} nodes in {}", dir.display()),
            Keeper::Somebody(door) => format!("the mesh at {door}, to which nothing is done"),
        }
    }

    /// Where logs are.
    pub(super) fn folder(&self) -> Option<String> {
        match &self.keeper {
            Keeper::Own(own) => Some(own.dir.display().to_string()),
            Keeper::Local(dir) => Some(dir.display().to_string()),
            Keeper::Somebody(_) => None,
        }
    }

    /// Tells the proxy who is who.
    fn introduce(&self) -> Result<(), String> {
        let Keeper::Own(own) = &self.keeper else { return Ok(()) };
        for (place, node) in self.nodes.iter().enumerate() {
            let id =
                u64::from_str_radix(&node.id, 16).map_err(|error| format!("{}: id {}: {error}", node.name, node.id))?;
            own.proxy.name(place, NodeId(id));
        }
        Ok(())
    }

    /// With one copy a killed node takes with it what it held, as it should, and there would be nothing to judge.
    fn bears(&self, faults: &[Fault]) -> Result<(), String> {
        let Some(node) = self.nodes.first().filter(|_| !faults.is_empty()) else { return Ok(()) };
        let map = self.manners.connect(&node.client).and_then(|mut client| client.json::<Map>(&["MESH", "MAP"]));
        let map = map.map_err(|error| error.to_string())?;
        match map.runs.iter().find(|run| run.holders.len() < 2) {
            Some(run) => Err(format!(
                "slots {} to {} have one holder, so a fault would lawfully lose them; start the mesh with --copies 2 or more, or \
                 say --faults none",
                run.slots.0, run.slots.1
            )),
            None => Ok(()),
        }
    }

    /// Lets one node suffer for a while. Returns when that is over; the mesh is still to recover.
    pub(super) fn strike(
        &mut self,
        harm: Harm,
        (victim, other): (usize, usize),
        span: Duration,
        random: &mut ChaCha8Rng,
        stop: &Stop,
    ) -> Result<(), String> {
        match harm {
            Harm::Killed => return self.kill(victim, span, stop),
            Harm::Paused => return self.pause(victim, span, stop),
            _ => {}
        }
        let Keeper::Own(own) = &self.keeper else { return Err(format!("{harm:?} takes a proxy")) };
        harm.begin(&own.proxy, (victim, other), self.nodes.len(), random);
        stop.wait(span);
        Harm::end(&own.proxy, victim, self.nodes.len(), random);
        Ok(())
    }

    fn pause(&mut self, victim: usize, span: Duration, stop: &Stop) -> Result<(), String> {
        let process = Process::of_node(&self.nodes[victim])?;
        process.signal(Signal::STOP)?;
        let _amends = Amends::owe(move || drop(process.signal(Signal::CONT)));
        stop.wait(span);
        Ok(())
    }

    fn kill(&mut self, victim: usize, span: Duration, stop: &Stop) -> Result<(), String> {
        let node = self.nodes[victim].clone();
        let process = Process::of_node(&node)?;
        let amends = match &self.keeper {
            Keeper::Local(_) => {
                let local = Process::of_local(&node)?;
                Some(Amends::owe(move || drop(local.signal(Signal::USR1))))
            }
            _ => None,
        };
        process.signal(Signal::KILL)?;
        within(PROCESS, || process.is_gone(&node)).ok_or_else(|| format!("{} does not end", node.name))?;
        stop.wait(span);
        drop(amends);
        match &mut self.keeper {
            Keeper::Own(own) => {
                own.running.ended();
                own.running.start_again(&own.nodes, Some(own.copies))?;
                own.running.number(&mut self.nodes);
            }
            Keeper::Local(dir) => {
                let nodes = &mut self.nodes;
                let is_back = || match layout::read(dir) {
                    Ok(now) if now.iter().any(|one| one.name == node.name && one.pid != node.pid) => {
                        *nodes = now;
                        true
                    }
                    _ => false,
                };
                within(PROCESS, is_back).ok_or_else(|| format!("`keyval local` does not start {} again", node.name))?;
            }
            Keeper::Somebody(_) => {}
        }
        Ok(())
    }

    /// Waits until every node sees all others as up and nothing as wrong, and not as long if somebody wants it to end.
    pub(super) fn until_well(&mut self, stop: Option<&Stop>) -> Result<(), String> {
        let start = Instant::now();
        loop {
            let missing = self.missing();
            if let Keeper::Own(own) = &mut self.keeper
                && let Some(ended) = own.running.ended().into_iter().find(|ended| ended.by_itself)
            {
                return Err(ended.to_string());
            }
            match missing {
                None => return Ok(()),
                Some(missing) if start.elapsed() > WELL => {
                    return Err(format!("the mesh is not well after {} s: {missing}", WELL.as_secs()));
                }
                Some(missing) if stop.is_some_and(Stop::is_urgent) => {
                    return Err(format!("interrupted before the mesh was well: {missing}"));
                }
                Some(_) => thread::sleep(LOOK), // between looks
            }
        }
    }

    fn missing(&mut self) -> Option<String> {
        let missing = ready::missing(&mut self.nodes, self.manners.password.as_deref());
        missing.or_else(|| self.nodes.iter().find_map(|node| ails(node, &self.manners)))
    }

    /// Ends a mesh of our own, and removes its folder if nobody has to look into it.
    pub(super) fn end(self, is_good: bool) {
        if let Keeper::Own(own) = self.keeper {
            let Own { mut running, proxy, dir, .. } = *own;
            running.kill();
            drop(proxy);
            if is_good {
                let _ = std::fs::remove_dir_all(dir);
            }
        }
    }
}

/// What a node says is gravely wrong.
fn ails(node: &Described, manners: &Manners) -> Option<String> {
    let status = manners.connect(&node.client).and_then(|mut client| client.json::<Status>(&["MESH", "STATUS"]));
    match status {
        Ok(status) if status.well => None,
        Ok(status) => {
            let first = status.problems.into_iter().next().map_or("something is wrong".to_owned(), |it| it.what);
            Some(format!("{} says: {first}", node.name))
        }
        Err(error) => Some(format!("{}: {error}", node.name)),
    }
}

/// The cluster doors of a mesh, if all can be reached from here.
fn cluster_doors(door: &str, manners: &Manners) -> Result<Vec<String>, ClientError> {
    let roster: Nodes = manners.connect(door)?.json(&["MESH", "NODES"])?;
    let doors: Vec<String> =
        roster.nodes.into_iter().filter(|node| node.state == "up").map(|node| node.cluster).collect();
    doors.iter().try_for_each(|door| manners.connect(door)?.call(&["PING"]).map(drop))?;
    Ok(doors)
}

/// How clients get to a mesh on this machine.
fn near(password: Option<String>) -> Manners {
    Manners { password, patience: Duration::from_millis(300) }
}

/// Looks again and again. None when it does not come true in time.
fn within(limit: Duration, mut condition: impl FnMut() -> bool) -> Option<()> {
    let start = Instant::now();
    while !condition() {
        if start.elapsed() > limit {
            return None;
        }
        thread::sleep(LOOK); // between looks
    }
    Some(())
}

/// What a run calls itself, so that its keys are its own.
pub(super) fn fresh_name() -> String {
    format!("{:08x}", OsRng.next_u32())
}
