//! A mesh of real processes on loopback, started as a user starts it, and looked at from outside.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use keyval::types::NodeId;
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use serde_json::Value;

use crate::client::{Client, Reply};
use crate::proxy::Proxy;

/// Stories measure times, so one mesh runs at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
static NEXT_PORT: AtomicU16 = AtomicU16::new(0);

/// How long a reply may take before a story calls it lost.
const PATIENCE: Duration = Duration::from_secs(3);

/// What kind of mesh a story wants.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many nodes.
    pub nodes: usize,
    /// `replication.factor`.
    pub copies: u8,
    /// Settings for all nodes (`KEYVAL__...`).
    pub environment: Vec<(String, String)>,
    /// From which seed what happens on the peer links is drawn; none: nothing stands on them.
    pub faults: Option<u64>,
}

impl Plan {
    /// So many nodes, with so many copies of each range.
    pub fn of(nodes: usize, copies: u8) -> Self {
        Self { nodes, copies, environment: Vec::new(), faults: None }
    }

    /// With a proxy on every peer link, whose chance begins with this seed.
    pub fn with_faults(mut self, seed: u64) -> Self {
        self.faults = Some(seed);
        self
    }

    /// One more setting for all nodes.
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.environment.push((key.to_owned(), value.to_owned()));
        self
    }
}

/// One line of nodes.json.
#[derive(Clone, Debug, Deserialize)]
pub struct Node {
    pub name: String,
    pub pid: i32,
    pub client: String,
    pub cluster: String,
    pub console: String,
    pub peer: String,
    /// Where others call its peer door; a proxy, where links are bad.
    #[serde(default)]
    pub announced: String,
    pub data_dir: PathBuf,
    pub log: PathBuf,
    /// Settings of its own, as variables of its environment.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// The incarnation that the mesh knew when the process was started again, which it may list for a while yet.
    #[serde(default)]
    former: Option<u64>,
}

/// A running mesh. Its processes end with it.
pub struct Mesh {
    /// `keyval local`; nobody where the story has put something between the nodes.
    local: Option<Child>,
    /// On the peer links.
    pub proxy: Option<Proxy>,
    /// The nodes that a story began with, then those added.
    pub nodes: Vec<Node>,
    added: Vec<Child>,
    folder: tempfile::TempDir,
    port: u16,
    plan: Plan,
    _alone: std::sync::MutexGuard<'static, ()>,
}

impl Mesh {
    /// Starts `keyval local` with so many nodes, one copy of each range, and waits for `mesh ready`.
    pub fn start(nodes: usize) -> Self {
        Self::of(Plan::of(nodes, 1))
    }

    /// Starts `keyval local` as planned and waits for `mesh ready`; or the nodes one by one, where the links are to be bad.
    pub fn of(plan: Plan) -> Self {
        let alone = Self::alone();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let port = next_port();
        let proxy = plan.faults.map(Proxy::new);
        let mut mesh =
            Self { local: None, proxy, nodes: Vec::new(), added: Vec::new(), folder, port, plan, _alone: alone };
        if mesh.proxy.is_none() {
            mesh.local = Some(local(&mesh.plan, port, mesh.folder.path()));
            mesh.wait_until_ready();
        } else {
            mesh.start_one_by_one();
        }
        mesh
    }

    /// Waits until no other mesh runs; none does while this is held.
    pub fn alone() -> std::sync::MutexGuard<'static, ()> {
        ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn start_one_by_one(&mut self) {
        for place in 0..self.plan.nodes {
            self.add(0);
            until("the first has founded", Duration::from_secs(20), || place > 0 || self.roster_size(0) == Some(1));
        }
        self.until_well(0, self.plan.nodes, Duration::from_secs(60));
        self.introduce();
    }

    /// Tells the proxy who is who.
    fn introduce(&self) {
        let Some(proxy) = &self.proxy else { return };
        let nodes = self.ctl(0, &["nodes"]).expect("the roster");
        for (place, node) in self.nodes.iter().enumerate() {
            let mut known = nodes["nodes"].as_array().into_iter().flatten();
            let id = known.find(|one| one["name"] == node.name.as_str()).and_then(|one| one["id"].as_str());
            let id = u64::from_str_radix(id.expect("on the roster"), 16).expect("an id is hexadecimal");
            proxy.name(place, NodeId(id));
        }
    }

    fn wait_until_ready(&mut self) {
        let output = self.folder.path().join("local.out");
        until("mesh ready", Duration::from_secs(60), || {
            if let Some(status) = self.local.as_mut().and_then(|local| local.try_wait().expect("a child of ours")) {
                panic!("keyval local ended: {status}\n{}", fs::read_to_string(&output).unwrap_or_default());
            }
            fs::read_to_string(&output).is_ok_and(|text| text.lines().any(|line| line.trim() == "mesh ready"))
        });
        self.nodes = self.read_nodes();
        assert_eq!(self.nodes.len(), self.plan.nodes);
    }

    fn read_nodes(&self) -> Vec<Node> {
        let text = fs::read_to_string(self.folder.path().join("mesh/nodes.json")).expect("nodes.json");
        let mut nodes: Vec<Node> = serde_json::from_str(&text).expect("nodes.json is an array of nodes");
        nodes.iter_mut().for_each(|node| node.announced.clone_from(&node.peer));
        nodes
    }

    /// A connection to a node's plain door.
    pub fn client(&self, node: usize) -> Client {
        Client::connect(&self.nodes[node].client, PATIENCE).expect("a living node takes connections")
    }

    /// One command to a node, in a connection of its own.
    pub fn ask(&self, node: usize, words: &[&str]) -> io::Result<Reply> {
        Client::connect(&self.nodes[node].client, PATIENCE)?.ask(words)
    }

    /// What `keyval ctl --json` says of a node's view.
    pub fn ctl(&self, node: usize, words: &[&str]) -> Option<Value> {
        let output = Command::new(binary())
            .args(["ctl", "--at", &self.nodes[node].client, "--json"])
            .args(words)
            .stderr(Stdio::null())
            .output()
            .expect("ctl starts");
        serde_json::from_slice(&output.stdout).ok()
    }

    /// Whom a node names as commander, and in which term, by HELLO.
    pub fn commander_seen_by(&self, node: usize) -> Option<(usize, u64)> {
        let hello = self.ask(node, &["HELLO"]).ok()?;
        let commander = hello.field("commander")?.text()?;
        let term = hello.field("term")?.text()?.parse().ok()?;
        let place = self.nodes.iter().position(|node| node.client == commander)?;
        Some((place, term))
    }

    /// The commander as all of `nodes` see it, once they agree.
    pub fn commander(&self, nodes: &[usize]) -> (usize, u64) {
        let mut agreed = None;
        until("all nodes name the same commander", Duration::from_secs(10), || {
            let seen: Vec<_> = nodes.iter().map(|node| self.commander_seen_by(*node)).collect();
            agreed = seen.first().copied().flatten();
            agreed.is_some() && seen.iter().all(|one| *one == agreed)
        });
        agreed.expect("agreed")
    }

    /// All places of nodes but one.
    pub fn others(&self, than: usize) -> Vec<usize> {
        (0..self.nodes.len()).filter(|node| *node != than).collect()
    }

    /// kill -9, and waits until the process has let go of its doors.
    pub fn kill(&self, node: usize) {
        signal(self.nodes[node].pid, Signal::KILL);
        until_gone(&self.nodes[node]);
    }

    /// SIGTERM.
    pub fn terminate(&self, node: usize) {
        signal(self.nodes[node].pid, Signal::TERM);
    }

    /// With which code an added node's process has ended, once it has.
    pub fn ended(&mut self, node: usize) -> Option<i32> {
        let pid = self.nodes[node].pid;
        let child = self.added.iter_mut().find(|child| child.id() as i32 == pid).expect("an added node");
        let mut code = None;
        until("its process has ended", Duration::from_secs(10), || {
            code = child.try_wait().expect("a child of ours");
            code.is_some()
        });
        code.and_then(|code| code.code())
    }

    /// Whether a node's process has ended, and let go of its doors.
    pub fn is_gone(&self, node: usize) -> bool {
        // Which of its doors a process lets go of first, as it ends, nobody knows.
        let Node { pid, client, cluster, console, peer, .. } = &self.nodes[node];
        !is_ours(*pid) && [client, cluster, console, peer].iter().all(|door| TcpStream::connect(door).is_err())
    }

    /// Whether the next node may be started anew, as `keyval ctl rolling --check` says at a node.
    pub fn may_go_on(&self, node: usize) -> bool {
        Command::new(binary())
            .args(["ctl", "--at", &self.nodes[node].client, "rolling", "--check"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    }

    /// SIGSTOP.
    pub fn pause(&self, node: usize) {
        signal(self.nodes[node].pid, Signal::STOP);
    }

    /// SIGCONT.
    pub fn resume(&self, node: usize) {
        signal(self.nodes[node].pid, Signal::CONT);
    }

    /// Starts a killed node again, with its directory and addresses.
    pub fn restart(&mut self, node: usize) {
        self.nodes[node].former = self.others(node).into_iter().find_map(|at| self.incarnation(at, node));
        let child = self.spawn(&self.nodes[node]);
        self.nodes[node].pid = child.id() as i32;
        self.added.push(child);
    }

    /// Starts one more node, which joins through `at`. Its place in `nodes` is returned.
    pub fn add(&mut self, at: usize) -> usize {
        self.add_with(at, &[])
    }

    /// The same, with settings of its own.
    pub fn add_with(&mut self, at: usize, settings: &[(&str, &str)]) -> usize {
        let place = self.nodes.len();
        let (offset, name) = (place as u16, format!("node-{}", place + 1));
        let door = |base: u16| format!("127.0.0.1:{}", self.port + base + offset);
        let mut node = Node {
            pid: 0,
            client: door(0),
            cluster: door(1000),
            console: door(2000),
            peer: door(10_000),
            announced: door(10_000),
            data_dir: self.folder.path().join(&name),
            log: self.folder.path().join(format!("{name}.log")),
            name,
            settings: settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            former: None,
        };
        if let Some(proxy) = &self.proxy {
            node.announced = proxy.open(place, &node.peer);
        }
        let seed = self.nodes.get(at).map_or(String::new(), |seed| seed.announced.clone());
        let child = self.spawn_joining(&node, &seed);
        node.pid = child.id() as i32;
        self.added.push(child);
        self.nodes.push(node);
        place
    }

    fn spawn(&self, node: &Node) -> Child {
        let seeds: Vec<&str> = self.nodes.iter().map(|node| node.announced.as_str()).collect();
        self.spawn_joining(node, &seeds.join(","))
    }

    /// The command that starts one node with these doors.
    pub fn command(&self, node: &Node, join: &str) -> Command {
        let mut command = Command::new(binary());
        command
            .arg("node")
            .env("KEYVAL__NODE__NAME", &node.name)
            .env("KEYVAL__NODE__DATA_DIR", &node.data_dir)
            .env("KEYVAL__CLIENT__LISTEN", &node.client)
            .env("KEYVAL__CLUSTER__LISTEN", &node.cluster)
            .env("KEYVAL__CONSOLE__LISTEN", &node.console)
            .env("KEYVAL__PEER__LISTEN", &node.peer)
            .env("KEYVAL__PEER__ANNOUNCE", &node.announced)
            .env("KEYVAL__MESH__JOIN", join)
            .envs(self.plan.environment.iter().map(|(key, value)| (key, value)))
            .env("KEYVAL__REPLICATION__FACTOR", self.plan.copies.to_string())
            .envs(&node.settings)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }

    fn spawn_joining(&self, node: &Node, join: &str) -> Child {
        let log = fs::OpenOptions::new().create(true).append(true).open(&node.log).expect("a log file");
        self.command(node, join).stderr(log).spawn().expect("a node starts")
    }

    /// Ends the processes of all nodes at once, by kill -9, then `keyval local` itself.
    pub fn kill_all(&mut self) {
        self.nodes.iter().for_each(|node| signal(node.pid, Signal::KILL));
        self.nodes.iter().for_each(until_gone);
        let _ = self.local.as_mut().map(Child::wait);
    }

    /// Starts `keyval local` again on the same folder.
    pub fn start_again(&mut self) {
        let _ = fs::remove_file(self.folder.path().join("local.out"));
        self.local = Some(local(&self.plan, self.port, self.folder.path()));
        self.wait_until_ready();
    }

    /// A number that a node tells in a section of INFO.
    pub fn info(&self, node: usize, section: &str, field: &str) -> u64 {
        let Ok(Reply::Bulk(text)) = self.ask(node, &["INFO", section]) else { panic!("no INFO of node {node}") };
        let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        value.and_then(|value| value.trim().parse().ok()).unwrap_or_else(|| panic!("no {field} in {text}"))
    }

    /// Files and connections that a node's process has open.
    pub fn open_files(&self, node: usize) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.nodes[node].pid)).map_or(0, Iterator::count)
    }

    /// Whether a node says that all is well; what else it says stands in the test's output.
    pub fn is_well(&self, node: usize) -> bool {
        let asked = Command::new(binary()).args(["ctl", "--at", &self.nodes[node].client, "status"]).output();
        let Ok(said) = asked else { return false };
        if !said.status.success() {
            eprintln!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
        }
        said.status.success()
    }

    /// Waits until a node says that all is well, so many nodes are on its roster, and whoever was started again is there in its
    /// new life: before the old one is missed, a mesh looks well too.
    pub fn until_well(&self, node: usize, roster: usize, within: Duration) {
        let is_listed = |place: usize| {
            let former = self.nodes[place].former;
            former.is_none() || self.incarnation(node, place) != former
        };
        until(&format!("{roster} nodes, and all is well"), within, || {
            self.roster_size(node) == Some(roster) && (0..self.nodes.len()).all(is_listed) && self.is_well(node)
        });
    }

    /// Waits until each node of the roster heads its share of the ranges, within 5 % or one range, and no range is on its way.
    pub fn until_spread(&self, node: usize, within: Duration) {
        until("ranges are spread", within, || {
            let Some(status) = self.ctl(node, &["status"]) else { return false };
            let still = [&status["ranges"]["loading"], &status["ranges"]["leaving"]].iter().all(|count| **count == 0);
            let Some(nodes) = self.ctl(node, &["nodes"]) else { return false };
            let heads: Vec<f64> =
                nodes["nodes"].as_array().into_iter().flatten().filter_map(|node| node["heads"].as_f64()).collect();
            let share = 1024.0 / heads.len().max(1) as f64;
            still
                && heads.len() == self.nodes.len()
                && heads.iter().all(|heads| (heads - share).abs() <= (share / 20.0).max(1.0))
        });
    }

    /// The incarnation of a node that another one knows.
    pub fn incarnation(&self, at: usize, node: usize) -> Option<u64> {
        let nodes = self.ctl(at, &["nodes"])?;
        let name = &self.nodes[node].name;
        nodes["nodes"].as_array()?.iter().find(|one| one["name"] == name.as_str())?["incarnation"].as_u64()
    }

    /// The places of the nodes that hold a key, head first, as a node sees it.
    pub fn holders(&self, at: usize, key: &str) -> Vec<usize> {
        self.holder_states(at, key).into_iter().map(|(node, _)| node).collect()
    }

    /// The same with the state of each: loading, serving or leaving.
    pub fn holder_states(&self, at: usize, key: &str) -> Vec<(usize, String)> {
        let Ok(Reply::Bulk(text)) = self.ask(at, &["MESH", "LOCATE", key]) else {
            panic!("nobody tells where {key} is")
        };
        let location: Value = serde_json::from_str(&text).expect("JSON");
        let text = |holder: &Value, field: &str| holder[field].as_str().expect("a text").to_owned();
        let place = |name: String| self.nodes.iter().position(|node| node.name == name).expect("a node of ours");
        let holders = location["holders"].as_array().expect("a list").iter();
        holders.map(|holder| (place(text(holder, "name")), text(holder, "state"))).collect()
    }

    /// How many nodes are on the roster, as a node sees it.
    pub fn roster_size(&self, node: usize) -> Option<usize> {
        Some(self.ctl(node, &["nodes"])?.get("nodes")?.as_array()?.len())
    }

    /// The folder of this mesh, for looking at what went wrong.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The newest warnings and changes of command in all logs, for whoever has to find out why something took so long.
    pub fn tell_warnings(&self) {
        let matters = |line: &&str| line.contains(" WARN ") || line.contains(" commands in term ");
        self.tell_logs(12, matters);
    }

    /// The ends of all logs, for whoever has to find out why a test failed.
    fn tell_last_words(&self) {
        self.tell_logs(25, |_| true);
    }

    fn tell_logs(&self, lines: usize, matters: impl Fn(&&str) -> bool) {
        let folders = [self.folder.path().to_owned(), self.folder.path().join("mesh")];
        let files = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
        let mut logs: Vec<PathBuf> = files.map(|file| file.path()).filter(|path| is_log(path)).collect();
        logs.sort();
        for log in logs {
            let text = fs::read_to_string(&log).unwrap_or_default();
            let tail: Vec<&str> = text.lines().rev().filter(&matters).take(lines).collect();
            eprintln!("--- {} ---", log.display());
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell_last_words();
        }
        // How nodes end in order has stories of its own.
        for node in &self.nodes {
            signal(node.pid, Signal::KILL);
        }
        for child in &mut self.added {
            let _ = child.kill();
            let _ = child.wait();
        }
        if let Some(local) = &mut self.local {
            signal(local.id() as i32, Signal::TERM);
            let deadline = Instant::now() + Duration::from_secs(10);
            while Instant::now() < deadline && local.try_wait().is_ok_and(|status| status.is_none()) {
                std::thread::sleep(Duration::from_millis(20)); // between looks
            }
            let _ = local.kill();
            let _ = local.wait();
        }
    }
}

/// The binary under test: the one built with the tests, or another that `KEYVAL_BINARY` names.
pub fn binary() -> &'static str {
    static BINARY: OnceLock<String> = OnceLock::new();
    BINARY.get_or_init(|| std::env::var("KEYVAL_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_keyval").to_owned()))
}

/// Looks again and again until `condition` holds; panics when it does not within `limit`. Returns how long it took.
pub fn until(what: &str, limit: Duration, condition: impl FnMut() -> bool) -> Duration {
    until_every(Duration::from_millis(10), what, limit, condition)
}

/// The same with fewer looks, where looking disturbs what is measured.
pub fn until_every(pause: Duration, what: &str, limit: Duration, mut condition: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(pause); // between looks
    }
    start.elapsed()
}

/// Ports of one mesh: fifty of each door, below the ports that the system hands out, and free now.
pub fn next_port() -> u16 {
    let fresh = || 21_000 + NEXT_PORT.fetch_add(1, Ordering::Relaxed) % 19 * 50;
    let doors = |port: u16| {
        [0, 1000, 2000, 10_000].into_iter().flat_map(move |door| (0..50).map(move |node| port + door + node))
    };
    let is_free = |port: &u16| doors(*port).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok());
    (0..19).map(|_| fresh()).find(is_free).expect("one in nineteen runs of ports is free")
}

fn is_log(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "log" || extension == "out")
}

fn local(plan: &Plan, port: u16, folder: &Path) -> Child {
    let output = fs::File::create(folder.join("local.out")).expect("an output file");
    let errors = output.try_clone().expect("a second handle");
    Command::new(binary())
        .arg("local")
        .args(["--nodes", &plan.nodes.to_string(), "--copies", &plan.copies.to_string(), "--port", &port.to_string()])
        .arg("--dir")
        .arg(folder.join("mesh"))
        .envs(plan.environment.iter().map(|(key, value)| (key, value)))
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .spawn()
        .expect("keyval local starts")
}

/// Whether a living process of this number runs our binary. One that has ended, but was not waited for, has none.
fn is_ours(pid: i32) -> bool {
    fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == Path::new(binary()))
}

/// Its memory goes before its sockets do.
fn until_gone(node: &Node) {
    until("a killed process is gone", Duration::from_secs(5), || {
        !is_ours(node.pid) && TcpStream::connect(&node.client).is_err()
    });
}

fn signal(pid: i32, signal: Signal) {
    // A number may have been given to somebody else's process meanwhile: only our own binary is ever signalled.
    if let Some(process) = Pid::from_raw(pid).filter(|_| is_ours(pid)) {
        let _ = kill_process(process, signal);
    }
}
