//! What a node tells about itself: numbers for `INFO` and Prometheus, and what ails it.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::actors::node::{Node, Tally};
use crate::commands::view::Facts;

/// Counters and gauges for `INFO`.
pub fn facts(node: &Node) -> Facts {
    let (commands, bytes_in, bytes_out) = node.clients.traffic();
    let (connections, connections_refused) = node.clients.entered();
    let process = process();
    let sum = |of: fn(&Tally) -> &AtomicU64| node.tallies.iter().map(|tally| of(tally).load(Ordering::Relaxed)).sum();
    Facts {
        uptime_s: node.now().instant.since(node.started).as_secs(),
        rss_bytes: process.rss_bytes,
        cpu_user_s: process.user_s,
        cpu_system_s: process.system_s,
        clients: node.clients.count() as u64,
        max_clients: node.settings.client.max_clients as u64,
        connections,
        connections_refused,
        commands,
        commands_per_second: node.clients.rate(),
        bytes_in,
        bytes_out,
        keys: sum(|tally| &tally.keys),
        expiring: sum(|tally| &tally.expiring),
        used_bytes: sum(|tally| &tally.bytes),
        entries_streamed: sum(|tally| &tally.entries_streamed),
        bytes_streamed: sum(|tally| &tally.bytes_streamed),
        writes_repaired: sum(|tally| &tally.writes_repaired),
        streamings: sum(|tally| &tally.streamings),
        recipes_sent: sum(|tally| &tally.recipes_sent),
        recipes_refused: sum(|tally| &tally.recipes_refused),
        errors: node.clients.errors(),
        ..Facts::default()
    }
}

/// What the operating system counts of this process.
#[derive(Clone, Copy, Debug, Default)]
struct Process {
    rss_bytes: u64,
    user_s: f64,
    system_s: f64,
}

/// As Linux tells it in /proc; zeros elsewhere.
fn process() -> Process {
    let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else { return Process::default() };
    // The name of the process is in parentheses and may hold anything: fields are counted behind it.
    let fields: Vec<u64> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .map(|field| field.parse().unwrap_or_default())
        .collect();
    let field = |place: usize| fields.get(place).copied().unwrap_or_default();
    // Ticks are hundredths of a second on every Linux that this runs on.
    let seconds = |ticks: u64| ticks as f64 / 100.0;
    Process {
        rss_bytes: field(21) * rustix::param::page_size() as u64,
        user_s: seconds(field(11)),
        system_s: seconds(field(12)),
    }
}

/// What does not work in this node, in words; empty when all is well.
pub fn ails(node: &Node) -> Vec<String> {
    let mut ails = Vec::new();
    let Some(published) = node.adopted() else {
        return vec!["joining: this node belongs to no mesh yet".into()];
    };
    if !published.dictionary.roster.contains_key(&node.me.id) {
        ails.push("not on the roster".into());
    }
    if published.commander.is_none() {
        ails.push("no commander is known".into());
    }
    ails.extend(node.ailing());
    ails
}

/// A few numbers in the text form of Prometheus.
pub fn metrics(node: &Node) -> String {
    use std::fmt::Write;
    let facts = facts(node);
    let published = node.adopted();
    let mut text = String::new();
    let mut tell = |name: &str, kind: &str, help: &str, value: f64| {
        let _ = write!(text, "# HELP keyval_{name} {help}\n# TYPE keyval_{name} {kind}\nkeyval_{name} {value}\n");
    };
    tell("uptime_seconds", "gauge", "Since this process began.", facts.uptime_s as f64);
    tell("memory_resident_bytes", "gauge", "Memory that the operating system gave.", facts.rss_bytes as f64);
    tell("cpu_seconds_total", "counter", "Processor time.", facts.cpu_user_s + facts.cpu_system_s);
    tell("clients", "gauge", "Clients connected.", facts.clients as f64);
    tell("connections_total", "counter", "Clients that have connected.", facts.connections as f64);
    tell("connections_refused_total", "counter", "Clients that were refused.", facts.connections_refused as f64);
    tell("commands_total", "counter", "Commands from clients.", facts.commands as f64);
    tell("client_bytes_in_total", "counter", "Bytes from clients.", facts.bytes_in as f64);
    tell("client_bytes_out_total", "counter", "Bytes to clients.", facts.bytes_out as f64);
    let Some(published) = published else { return text };
    let dictionary = &published.dictionary;
    let me = (node.me.id, node.me.incarnation);
    let heads = dictionary.ranges().filter_map(|(_, chain)| chain.head());
    let headed = heads.filter(|head| (head.node, head.incarnation) == me).count();
    tell("keys", "gauge", "Keys in the ranges that this node heads.", facts.keys as f64);
    tell("keyspace_bytes", "gauge", "What the keys that this node holds take, about.", facts.used_bytes as f64);
    tell("term", "gauge", "The newest term that this node knows.", published.term.0 as f64);
    tell("dictionary_version", "gauge", "The version of its dictionary.", dictionary.version.0 as f64);
    tell("roster_nodes", "gauge", "Nodes on the roster.", dictionary.roster.len() as f64);
    tell("commanding", "gauge", "Whether this node commands.", f64::from(u8::from(published.commanding)));
    tell("ranges_headed", "gauge", "Ranges that this node heads.", headed as f64);
    text
}
