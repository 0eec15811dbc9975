//! `INFO` and `TIME`: how this node is, in the form that the tools of Redis read.

use std::fmt::Write;

use bytes::Bytes;

use super::connection::Ran;
use super::spec::{Flags, Spec, Work};
use super::view::{ConnectionState, Door, Facts, KEYVAL_VERSION, REDIS_VERSION, View};
use crate::messages::client::Reply;

const FLAGS: Flags = Flags::LOADING.and(Flags::STALE);

/// This family's part of the table.
pub(super) const COMMANDS: &[Spec] = &[
    Spec {
        name: "info",
        arity: -1,
        flags: FLAGS,
        categories: &["dangerous"],
        tips: &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
        summary: "Tells how this node is, section by section.",
        work: Work::Connection(info),
        ..Spec::BASE
    },
    Spec {
        name: "time",
        arity: 1,
        flags: FLAGS.and(Flags::FAST),
        tips: &["nondeterministic_output"],
        since: "2.6.0",
        summary: "Tells the time of this node's clock: seconds since 1970, and microseconds.",
        work: Work::Connection(time),
        ..Spec::BASE
    },
];

type Section = fn(&View, &Facts, &mut String);

/// The sections, whether they are told unasked, and who tells them.
const SECTIONS: [(&str, bool, Section); 12] = [
    ("Server", true, server),
    ("Clients", true, clients),
    ("Memory", true, memory),
    ("Persistence", true, persistence),
    ("Stats", true, stats),
    ("Replication", true, replication),
    ("CPU", true, cpu),
    ("Commandstats", false, command_stats),
    ("Errorstats", true, error_stats),
    ("Cluster", true, cluster),
    ("Keyspace", true, keyspace),
    ("Mesh", true, mesh),
];

fn info(_: &mut ConnectionState, view: &View, words: &[Bytes]) -> Ran {
    let is = |name: &str| words[1..].iter().any(|word| word.eq_ignore_ascii_case(name.as_bytes()));
    let unasked = words.len() == 1 || is("default");
    let everything = is("all") || is("everything");
    let none = Facts::default();
    let facts = view.facts.as_deref().unwrap_or(&none);
    let mut text = String::new();
    for (name, by_default, tell) in SECTIONS {
        if everything || is(name) || unasked && by_default {
            if !text.is_empty() {
                text += "\r\n";
            }
            text += &format!("# {name}\r\n");
            tell(view, facts, &mut text);
        }
    }
    Reply::Verbatim(text).into()
}

fn time(_: &mut ConnectionState, view: &View, _: &[Bytes]) -> Ran {
    let millis = view.now.wall_ms;
    let micros = millis % 1000 * 1000;
    Reply::Array(vec![Reply::text((millis / 1000).to_string()), Reply::text(micros.to_string())]).into()
}

/// Writes `key:value` lines.
macro_rules! lines {
    ($text:expr, $($key:literal: $value:expr),+ $(,)?) => {
        $( write!($text, concat!($key, ":{}\r\n"), $value).expect("text takes everything"); )+
    };
}

fn server(view: &View, facts: &Facts, text: &mut String) {
    lines!(text,
        "redis_version": REDIS_VERSION,
        "keyval_version": KEYVAL_VERSION,
        "redis_mode": if view.door == Door::Plain { "standalone" } else { "cluster" },
        "os": std::env::consts::OS,
        "arch_bits": usize::BITS,
        "process_id": view.me.process,
        "run_id": format_args!("{:024x}{:016x}", view.me.incarnation.0, view.me.node.0),
        "tcp_port": port(view),
        "server_time_usec": view.now.wall_ms * 1000,
        "uptime_in_seconds": facts.uptime_s,
        "uptime_in_days": facts.uptime_s / 86_400,
        "hz": 10,
        "executable": "keyval",
        "config_file": "",
    );
}

fn port(view: &View) -> u16 {
    let addresses = &view.me.addresses;
    let address = if view.door == Door::Plain { &addresses.client } else { &addresses.cluster };
    super::cluster::host_and_port(address).map_or(0, |(_, port)| port)
}

fn clients(_: &View, facts: &Facts, text: &mut String) {
    lines!(text,
        "connected_clients": facts.clients,
        "cluster_connections": 0,
        "maxclients": facts.max_clients,
        "blocked_clients": 0,
        "tracking_clients": 0,
    );
}

fn memory(_: &View, facts: &Facts, text: &mut String) {
    lines!(text,
        "used_memory": facts.used_bytes,
        "used_memory_human": human(facts.used_bytes),
        "used_memory_rss": facts.rss_bytes,
        "used_memory_rss_human": human(facts.rss_bytes),
        "used_memory_dataset": facts.used_bytes,
        "maxmemory": 0,
        "maxmemory_human": "0B",
        "maxmemory_policy": "noeviction",
        "mem_fragmentation_ratio": format_args!("{:.2}", facts.rss_bytes as f64 / facts.used_bytes.max(1) as f64),
    );
}

fn human(bytes: u64) -> String {
    let units = [(1u64 << 40, "T"), (1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")];
    match units.into_iter().find(|(size, _)| bytes >= *size) {
        Some((size, unit)) => format!("{:.2}{unit}", bytes as f64 / size as f64),
        None => format!("{bytes}B"),
    }
}

fn persistence(view: &View, _: &Facts, text: &mut String) {
    // Some clients wait while this says 1: only while nobody is served here.
    lines!(text,
        "loading": u8::from(view.published.is_none()),
        "async_loading": 0,
        "rdb_changes_since_last_save": 0,
        "rdb_bgsave_in_progress": 0,
        "rdb_last_bgsave_status": "ok",
        "aof_enabled": 0,
        "aof_rewrite_in_progress": 0,
        "aof_last_write_status": "ok",
    );
}

fn stats(_: &View, facts: &Facts, text: &mut String) {
    lines!(text,
        "total_connections_received": facts.connections,
        "total_commands_processed": facts.commands,
        "instantaneous_ops_per_sec": facts.commands_per_second,
        "total_net_input_bytes": facts.bytes_in,
        "total_net_output_bytes": facts.bytes_out,
        "rejected_connections": facts.connections_refused,
        "expired_keys": facts.expired,
        "evicted_keys": 0,
        "keyspace_hits": facts.hits,
        "keyspace_misses": facts.misses,
        "pubsub_channels": 0,
        "pubsub_patterns": 0,
        "total_error_replies": facts.errors.values().sum::<u64>(),
    );
}

fn replication(view: &View, facts: &Facts, text: &mut String) {
    // To a client of Redis every node is one that takes writes and has nobody behind it.
    lines!(text,
        "role": "master",
        "connected_slaves": 0,
        "master_failover_state": "no-failover",
        "master_replid": format_args!("{:040x}", view.mesh().map_or(0, |mesh| mesh.0)),
        "master_repl_offset": 0,
        "second_repl_offset": -1,
        "repl_backlog_active": 0,
        // What this node has sent to others of its chains since it started.
        "chain_entries_streamed": facts.entries_streamed,
        "chain_bytes_streamed": facts.bytes_streamed,
        "chain_writes_repaired": facts.writes_repaired,
        "chain_streamings": facts.streamings,
        "chain_commands_sent": facts.recipes_sent,
        // Of what others sent here: its values were asked for instead.
        "chain_commands_refused": facts.recipes_refused,
    );
}

fn cpu(_: &View, facts: &Facts, text: &mut String) {
    lines!(text,
        "used_cpu_sys": format_args!("{:.6}", facts.cpu_system_s),
        "used_cpu_user": format_args!("{:.6}", facts.cpu_user_s),
    );
}

fn command_stats(_: &View, facts: &Facts, text: &mut String) {
    for (name, (calls, micros)) in &facts.per_command {
        let each = *micros as f64 / (*calls).max(1) as f64;
        let line = format!("calls={calls},usec={micros},usec_per_call={each:.2},rejected_calls=0,failed_calls=0");
        *text += &format!("cmdstat_{name}:{line}\r\n");
    }
}

fn error_stats(_: &View, facts: &Facts, text: &mut String) {
    for (code, count) in &facts.errors {
        *text += &format!("errorstat_{code}:count={count}\r\n");
    }
}

fn cluster(view: &View, _: &Facts, text: &mut String) {
    lines!(text, "cluster_enabled": u8::from(view.door == Door::Cluster));
}

fn keyspace(_: &View, facts: &Facts, text: &mut String) {
    if facts.keys > 0 {
        *text += &format!("db0:keys={},expires={},avg_ttl=0\r\n", facts.keys, facts.expiring);
    }
}

fn mesh(view: &View, _: &Facts, text: &mut String) {
    let published = view.published.as_deref();
    lines!(text,
        "node_id": view.me.node,
        "node_name": view.me.name,
        "node_incarnation": view.me.incarnation,
        "mesh_id": view.mesh().map(|mesh| mesh.to_string()).unwrap_or_default(),
        "term": published.map_or(0, |published| published.term.0),
        "commander": view.commander().unwrap_or_default(),
        "dictionary_version": published.map_or(0, |published| published.dictionary.version.0),
        "state": view.state(),
    );
}
