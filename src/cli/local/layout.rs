//! Who stands where: ports, folders, and the file that tells others.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cli::output::table;

/// How far the ports of the other doors lie above the plain door's.
const CLUSTER: u16 = 1_000;
const CONSOLE: u16 = 2_000;
const PEER: u16 = 10_000;

/// A node before it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Node {
    pub(in crate::cli) name: String,
    pub(in crate::cli) client: String,
    pub(in crate::cli) cluster: String,
    pub(in crate::cli) console: String,
    pub(in crate::cli) peer: String,
    /// Where others call its peer door; another place where something stands between the nodes.
    pub(in crate::cli) announced: String,
    pub(in crate::cli) data_dir: PathBuf,
    pub(in crate::cli) log: PathBuf,
    /// Peer doors of nodes to join; empty: it founds.
    pub(in crate::cli) join: Vec<String>,
    /// Whether it founds if nobody to join knows a mesh.
    pub(in crate::cli) found: bool,
}

/// A running node, as nodes.json has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cli) struct Described {
    pub(in crate::cli) name: String,
    /// Empty until the node has said it.
    pub(in crate::cli) id: String,
    pub(in crate::cli) pid: u32,
    pub(in crate::cli) client: String,
    pub(in crate::cli) cluster: String,
    pub(in crate::cli) console: String,
    pub(in crate::cli) peer: String,
    pub(in crate::cli) data_dir: PathBuf,
    pub(in crate::cli) log: PathBuf,
}

/// Lays out so many nodes, and makes the folder.
///
/// The first one founds. Where the folder shows that there was a mesh before, it asks the others first, so that it comes back to
/// them even if its own directory was lost.
pub(in crate::cli) fn lay_out(count: u16, port: u16, dir: &Path) -> Result<Vec<Node>, String> {
    let last = u32::from(port) + u32::from(PEER) + u32::from(count) - 1;
    if last > u32::from(u16::MAX) {
        return Err(format!("--port {port} leaves no room: the last node's peer door would have port {last}"));
    }
    if count > CLUSTER {
        return Err(format!("--nodes {count}: the ports of the doors would overlap"));
    }
    fs::create_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    // Nodes are started in this folder, and so must find theirs whatever it was called here.
    let dir = fs::canonicalize(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let name = |place: u16| format!("node-{}", place + 1);
    let is_new = !(0..count).any(|place| dir.join(name(place)).exists());
    let peer = |place: u16| address(port + PEER + place);
    let node = |place: u16| {
        let others = (0..count).filter(|other| *other != place).map(peer);
        Node {
            name: name(place),
            client: address(port + place),
            cluster: address(port + CLUSTER + place),
            console: address(port + CONSOLE + place),
            peer: peer(place),
            announced: peer(place),
            data_dir: dir.join(name(place)),
            log: dir.join(format!("{}.log", name(place))),
            join: if place == 0 && is_new { Vec::new() } else { others.collect() },
            found: place == 0,
        }
    };
    Ok((0..count).map(node).collect())
}

/// Nodes that others call elsewhere than at their own peer doors.
pub(in crate::cli) fn behind(nodes: &mut [Node], doors: &[String]) {
    let called: BTreeMap<String, &String> = nodes.iter().map(|node| node.peer.clone()).zip(doors).collect();
    for node in nodes {
        node.announced.clone_from(called[&node.peer]);
        node.join.iter_mut().for_each(|other| other.clone_from(called[other]));
    }
}

/// Whether nobody has any of the ports yet that so many nodes would have.
pub(in crate::cli) fn is_free(port: u16, count: u16) -> bool {
    let doors = [0, CLUSTER, CONSOLE, PEER];
    let mut ports = doors.iter().flat_map(|door| (0..count).map(move |place| port + door + place));
    ports.all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok())
}

/// What nodes.json of a folder says.
pub(in crate::cli) fn read(dir: &Path) -> Result<Vec<Described>, String> {
    let path = dir.join("nodes.json");
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
}

fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// Writes nodes.json, whole or not at all: who reads it meanwhile sees the old one.
pub(in crate::cli) fn write(dir: &Path, nodes: &[Described]) -> Result<(), String> {
    let (path, draft) = (dir.join("nodes.json"), dir.join("nodes.json.draft"));
    let text = serde_json::to_string_pretty(nodes).expect("plain data always has an encoding") + "\n";
    fs::write(&draft, text)
        .and_then(|()| fs::rename(&draft, &path))
        .map_err(|error| format!("{}: {error}", path.display()))
}

/// The nodes as a table.
pub(in crate::cli) fn table_of(nodes: &[Described]) -> String {
    let mut rows = vec![["name", "id", "pid", "client", "cluster", "console", "peer"].map(str::to_owned).to_vec()];
    rows.extend(nodes.iter().map(|node| {
        let Described { name, id, pid, client, cluster, console, peer, .. } = node;
        let pid = pid.to_string();
        [name, id, &pid, client, cluster, console, peer].map(Clone::clone).to_vec()
    }));
    table(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_as_documented() {
        let dir = tempfile::tempdir().unwrap();
        let nodes = lay_out(3, 6234, dir.path()).unwrap();
        let third = &nodes[2];
        assert_eq!(
            [&third.client, &third.cluster, &third.console, &third.peer],
            ["127.0.0.1:6236", "127.0.0.1:7236", "127.0.0.1:8236", "127.0.0.1:16236"]
        );
        assert!(third.data_dir.ends_with("node-3") && third.log.ends_with("node-3.log"));
        assert_eq!(third.join, ["127.0.0.1:16234", "127.0.0.1:16235"]);
        assert!(lay_out(2, 60_000, dir.path()).unwrap_err().contains("--port 60000"));
    }

    #[test]
    fn the_first_founds_a_new_mesh_and_comes_back_to_an_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let first = lay_out(2, 6234, dir.path()).unwrap().remove(0);
        assert!(first.join.is_empty());
        fs::create_dir(dir.path().join("node-2")).unwrap();
        let first = lay_out(2, 6234, dir.path()).unwrap().remove(0);
        assert!(first.found && first.join == ["127.0.0.1:16235"]);
    }

    #[test]
    fn nodes_behind_other_doors_call_each_other_there() {
        let dir = tempfile::tempdir().unwrap();
        let mut nodes = lay_out(3, 6234, dir.path()).unwrap();
        behind(&mut nodes, &["p:1", "p:2", "p:3"].map(str::to_owned));
        assert_eq!((nodes[1].peer.as_str(), nodes[1].announced.as_str()), ("127.0.0.1:16235", "p:2"));
        assert_eq!(nodes[1].join, ["p:1", "p:3"]);
    }

    #[test]
    fn nodes_json_is_an_array_of_what_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let node = Described {
            name: "node-1".into(),
            id: "00ab".into(),
            pid: 7,
            client: "127.0.0.1:1".into(),
            cluster: "127.0.0.1:2".into(),
            console: "127.0.0.1:3".into(),
            peer: "127.0.0.1:4".into(),
            data_dir: "d".into(),
            log: "l".into(),
        };
        write(dir.path(), std::slice::from_ref(&node)).unwrap();
        assert_eq!(read(dir.path()).unwrap(), [node]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
