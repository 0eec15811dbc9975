//! `CLUSTER`: the dictionary, as clients that know slots read it.
//!
//! Each slot is told with its head and nobody else, because these clients give a node one role, and a drone of ours heads some
//! ranges and follows in others. Neighbouring ranges of one head are one run. Addresses are those of the cluster doors,
//! whichever door was asked, and spelled as in `MOVED`; what has no address is left out rather than told without one.
//! A reply depends on the dictionary and the asked node alone, so it may be kept, encoded, until either changes.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::connection::{Ran, ran};
use super::data::Scope;
use super::errors;
use super::spec::{Flags, Route, Spec, Work};
use super::view::View;
use crate::machines::election::Published;
use crate::messages::client::Reply;
use crate::messages::ownership::{Member, OnTotalLoss, Role, Standing};
use crate::types::{MeshId, NodeId, SLOTS, Slot};

const CLUSTER: Spec = Spec { group: "cluster", since: "3.0.0", flags: Flags::STALE, ..Spec::BASE };
const MAP: Spec =
    Spec { arity: 2, tips: &["nondeterministic_output"], complexity: "O(N) in the number of ranges", ..CLUSTER };
const NOT_OURS: Spec = Spec {
    arity: -2,
    flags: Flags::STALE.and(Flags::ADMIN).and(Flags::NO_ASYNC_LOADING),
    summary: "Is done by the mesh itself, or by `keyval ctl`: the error says which.",
    work: Work::Connection(|_, _, words| not_ours(words)),
    ..CLUSTER
};

/// This family's part of the table.
pub(super) const COMMANDS: &[Spec] = &[Spec {
    name: "cluster",
    arity: -2,
    flags: Flags::NONE,
    summary: "About slots and who heads them.",
    complexity: "See the subcommands",
    subcommands: SUBCOMMANDS,
    ..CLUSTER
}];

const SUBCOMMANDS: &[Spec] = &[
    Spec {
        name: "cluster|slots",
        summary: "Lists runs of slots with their heads.",
        work: Work::Connection(|_, view, _| ran(slots(view))),
        ..MAP
    },
    Spec {
        name: "cluster|shards",
        since: "7.0.0",
        summary: "Lists heads with their runs of slots.",
        work: Work::Connection(|_, view, _| ran(shards(view))),
        ..MAP
    },
    Spec {
        name: "cluster|nodes",
        summary: "Lists nodes with their runs of slots, a line each.",
        work: Work::Connection(|_, view, _| ran(nodes(view))),
        ..MAP
    },
    Spec {
        name: "cluster|info",
        summary: "Tells whether all slots are served.",
        work: Work::Connection(|_, view, _| Reply::Verbatim(info(view)).into()),
        ..MAP
    },
    Spec {
        name: "cluster|myid",
        arity: 2,
        summary: "Tells this node's id, as the other replies name it.",
        work: Work::Connection(|_, view, _| Reply::text(own_hex(view)).into()),
        ..CLUSTER
    },
    Spec {
        name: "cluster|keyslot",
        arity: 3,
        summary: "Tells the slot of a key.",
        complexity: "O(N) in the length of the key",
        work: Work::Connection(|_, _, words| Reply::Integer(Slot::of_key(&words[2]).0.into()).into()),
        ..CLUSTER
    },
    Spec {
        name: "cluster|countkeysinslot",
        arity: 3,
        summary: "Tells how many keys a slot has.",
        complexity: "O(N) in the number of keys of its range",
        work: Work::Data(Route::Slot, count_keys_in_slot),
        ..CLUSTER
    },
    Spec { name: "cluster|meet", arity: -4, ..NOT_OURS },
    Spec { name: "cluster|addslots", arity: -3, ..NOT_OURS },
    Spec { name: "cluster|addslotsrange", arity: -4, since: "7.0.0", ..NOT_OURS },
    Spec { name: "cluster|delslots", arity: -3, ..NOT_OURS },
    Spec { name: "cluster|delslotsrange", arity: -4, since: "7.0.0", ..NOT_OURS },
    Spec { name: "cluster|setslot", arity: -4, ..NOT_OURS },
    Spec { name: "cluster|set-config-epoch", arity: 3, ..NOT_OURS },
    Spec { name: "cluster|replicate", arity: 3, ..NOT_OURS },
    Spec { name: "cluster|failover", ..NOT_OURS },
    Spec { name: "cluster|forget", arity: 3, ..NOT_OURS },
    Spec { name: "cluster|reset", flags: Flags::STALE.and(Flags::ADMIN).and(Flags::NOSCRIPT), ..NOT_OURS },
    Spec {
        name: "cluster|help",
        arity: 2,
        flags: Flags::LOADING.and(Flags::STALE),
        since: "5.0.0",
        summary: "Lists the subcommands.",
        work: Work::Connection(super::introspection::help),
        ..CLUSTER
    },
];

/// A run of slots, first and last.
type Run = (u16, u16);

/// A node's id in the 40 hexadecimal digits that clients expect: 24 of the mesh's, then the node's own.
pub fn node_hex(mesh: MeshId, node: NodeId) -> String {
    format!("{:024x}{:016x}", mesh.0 >> 32, node.0)
}

/// Host and port of an address. An IPv6 host loses its brackets.
pub fn host_and_port(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Some((host, port.parse().ok()?)).filter(|(host, _)| !host.is_empty())
}

/// Where `MOVED` sends a client for this slot: the cluster door of its head, if it has one with an address.
pub fn head_address(published: &Published, slot: Slot) -> Option<&str> {
    let dictionary = &published.dictionary;
    let head = dictionary.chain(slot.range(dictionary.chains.len())).head()?;
    let address = dictionary.roster.get(&head.node)?.node.addresses.cluster.as_str();
    host_and_port(address).map(|_| address)
}

/// What the dictionary says, turned round: the runs of slots that each node heads, in the order of slots.
fn runs(published: &Published) -> Vec<(Run, &Member)> {
    let dictionary = &published.dictionary;
    let ranges = dictionary.chains.len();
    let mut runs: Vec<(Run, &Member)> = Vec::new();
    for (range, chain) in dictionary.ranges() {
        let member = chain.head().and_then(|head| dictionary.roster.get(&head.node));
        let Some(member) = member.filter(|member| host_and_port(&member.node.addresses.cluster).is_some()) else {
            continue;
        };
        let (Slot(first), Slot(last)) = range.slots(ranges);
        match runs.last_mut() {
            Some((run, before)) if before.node.id == member.node.id && run.1 + 1 == first => run.1 = last,
            _ => runs.push(((first, last), member)),
        }
    }
    runs
}

fn runs_by_node(published: &Published) -> BTreeMap<NodeId, Vec<Run>> {
    let mut by_node: BTreeMap<NodeId, Vec<Run>> = BTreeMap::new();
    for (run, member) in runs(published) {
        by_node.entry(member.node.id).or_default().push(run);
    }
    by_node
}

fn published(view: &View) -> Result<&Published, Reply> {
    view.published.as_deref().ok_or_else(errors::joining)
}

fn own_hex(view: &View) -> String {
    node_hex(view.mesh().unwrap_or(MeshId(0)), view.me.node)
}

fn slots(view: &View) -> Result<Reply, Reply> {
    let published = published(view)?;
    let mesh = published.dictionary.mesh;
    let told = runs(published).into_iter().filter_map(|((first, last), member)| {
        let (host, port) = host_and_port(&member.node.addresses.cluster)?;
        let node = vec![
            Reply::text(host),
            Reply::Integer(port.into()),
            Reply::text(node_hex(mesh, member.node.id)),
            Reply::Map(Vec::new()),
        ];
        Some(Reply::Array(vec![Reply::Integer(first.into()), Reply::Integer(last.into()), Reply::Array(node)]))
    });
    Ok(Reply::Array(told.collect()))
}

fn shards(view: &View) -> Result<Reply, Reply> {
    let published = published(view)?;
    let told = runs_by_node(published).into_iter().filter_map(|(node, runs)| {
        let member = published.dictionary.roster.get(&node)?;
        let slots = runs.into_iter().flat_map(|(first, last)| [first, last]);
        let slots = slots.map(|slot| Reply::Integer(slot.into())).collect();
        Some(Reply::Map(vec![
            (Reply::text("slots"), Reply::Array(slots)),
            (Reply::text("nodes"), Reply::Array(vec![described(published, member)?])),
        ]))
    });
    Ok(Reply::Array(told.collect()))
}

fn described(published: &Published, member: &Member) -> Option<Reply> {
    let (host, port) = host_and_port(&member.node.addresses.cluster)?;
    let health = if member.standing == Standing::Suspect { "fail" } else { "online" };
    let fields = [
        ("id", Reply::text(node_hex(published.dictionary.mesh, member.node.id))),
        ("port", Reply::Integer(port.into())),
        ("ip", Reply::text(host)),
        ("endpoint", Reply::text(host)),
        ("role", Reply::text("master")),
        ("replication-offset", Reply::Integer(0)),
        ("health", Reply::text(health)),
    ];
    Some(Reply::Map(fields.into_iter().map(|(name, value)| (Reply::text(name), value)).collect()))
}

/// Drones, with slots or without, and the asked node whatever it is.
fn nodes(view: &View) -> Result<Reply, Reply> {
    let published = published(view)?;
    let by_node = runs_by_node(published);
    let mut text = String::new();
    for member in published.dictionary.roster.values() {
        let is_me = member.node.id == view.me.node;
        if is_me || member.node.role == Role::Drone {
            let runs = by_node.get(&member.node.id).map_or(&[][..], |runs| runs);
            text += &node_line(published, member, is_me, runs).unwrap_or_default();
        }
    }
    if view.member().is_none() {
        let (host, port) = host_and_port(&view.me.addresses.cluster).unwrap_or_default();
        text += &format!("{} {host}:{port}@0 myself,master - 0 0 0 connected\n", own_hex(view));
    }
    Ok(Reply::Verbatim(text))
}

fn node_line(published: &Published, member: &Member, is_me: bool, runs: &[Run]) -> Option<String> {
    let id = node_hex(published.dictionary.mesh, member.node.id);
    let (host, port) = host_and_port(&member.node.addresses.cluster)?;
    let bus = host_and_port(&member.node.addresses.peer).map_or(0, |(_, port)| port);
    let is_suspect = member.standing == Standing::Suspect && !is_me;
    let flags = match (is_me, is_suspect) {
        (true, _) => "myself,master",
        (false, true) => "master,fail?",
        (false, false) => "master",
    };
    let link = if is_suspect { "disconnected" } else { "connected" };
    let mut line = format!("{id} {host}:{port}@{bus} {flags} - 0 0 {} {link}", config_epoch(published, member.node.id));
    for (first, last) in runs {
        line += &if first == last { format!(" {first}") } else { format!(" {first}-{last}") };
    }
    line.push('\n');
    Some(line)
}

/// What stands for the epoch of a node's claim to its slots: the last version that changed what it heads.
fn config_epoch(published: &Published, node: NodeId) -> u64 {
    let headed = published.dictionary.ranges().filter(|(_, chain)| chain.head().is_some_and(|head| head.node == node));
    headed.map(|(_, chain)| chain.changed.0).max().unwrap_or(0)
}

fn info(view: &View) -> String {
    let Some(published) = view.published.as_deref() else { return info_lines("fail", 0, 0, 0, 1, 0, 0) };
    let dictionary = &published.dictionary;
    let width = usize::from(SLOTS) / dictionary.chains.len();
    let is_suspect = |node| dictionary.roster.get(&node).is_some_and(|member| member.standing == Standing::Suspect);
    let heads = || dictionary.ranges().filter_map(|(_, chain)| chain.head());
    let served = heads().count() * width;
    let suspect = heads().filter(|head| is_suspect(head.node)).count() * width;
    let unserved = usize::from(SLOTS) - served;
    // The commander gives a range without a head to somebody at once, unless it must wait for an operator's word.
    let decides = published.commander.is_some() && dictionary.settings.on_total_loss == OnTotalLoss::Recover;
    let state = if unserved == 0 || decides { "ok" } else { "fail" };
    let size = runs_by_node(published).len();
    let nodes = dictionary.roster.len();
    info_lines(state, served - suspect, suspect, unserved, nodes, size, dictionary.version.0)
}

fn info_lines(state: &str, ok: usize, suspect: usize, fail: usize, nodes: usize, size: usize, epoch: u64) -> String {
    format!(
        "cluster_state:{state}\r\ncluster_slots_assigned:{}\r\ncluster_slots_ok:{ok}\r\ncluster_slots_pfail:{suspect}\r\n\
         cluster_slots_fail:{fail}\r\ncluster_known_nodes:{nodes}\r\ncluster_size:{size}\r\ncluster_current_epoch:{epoch}\r\n\
         cluster_my_epoch:{epoch}\r\ncluster_stats_messages_sent:0\r\ncluster_stats_messages_received:0\r\n\
         total_cluster_links_buffer_limit_exceeded:0\r\n",
        ok + suspect,
    )
}

fn count_keys_in_slot(scope: &mut Scope<'_>, words: &[Bytes]) -> Result<Reply, Reply> {
    let slot = super::plan::slot_word(words)?;
    Ok(Reply::Integer(scope.keyspace().count(|key| Slot::of_key(key) == slot) as i64))
}

/// What Redis Cluster has its operators do, and who does it here.
fn not_ours(words: &[Bytes]) -> Ran {
    let name = String::from_utf8_lossy(&words[1]).to_ascii_uppercase();
    let instead = match name.as_str() {
        "MEET" => "a node joins by itself (mesh.join); `keyval ctl nodes` lists them",
        "REPLICATE" => "copies are made as replication.factor says; `keyval ctl map` shows them",
        "FAILOVER" => "heads change by themselves; `keyval ctl step-down` changes the commander",
        "FORGET" | "RESET" => "`keyval ctl drop NODE` takes a node off the roster",
        "SET-CONFIG-EPOCH" => "epochs are the dictionary's; `keyval ctl status` tells its version",
        _ => "the commander places slots by itself; `keyval ctl map` shows where",
    };
    Reply::error(format!("ERR CLUSTER {name} is not needed in Keyval: {instead}")).into()
}
