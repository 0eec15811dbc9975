//! What a session knows when it answers a command by itself: plain data, handed in by whoever runs the session.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::machines::election::Published;
use crate::messages::ownership::{Addresses, Member, Role, Standing};
use crate::resp::Protocol;
use crate::types::{Incarnation, MeshId, NodeId, Now, RangeId};

/// The version of Redis that we say we are, because clients' libraries decide by it what they may use.
pub const REDIS_VERSION: &str = "7.2.4";
/// Our own.
pub const KEYVAL_VERSION: &str = env!("CARGO_PKG_VERSION");

/// By which listener a client came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Door {
    /// Any key to any node.
    Plain,
    /// For clients that know slots; what is misdirected is answered with `MOVED`.
    Cluster,
}

/// What a connection is, besides its socket. Changed by `HELLO`, `AUTH`, `CLIENT`, `RESET` and their like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionState {
    /// Its number, unique in this life of the node.
    pub id: u64,
    /// The protocol of its replies.
    pub protocol: Protocol,
    /// Whether it may use commands: always, where no password is set.
    pub authenticated: bool,
    /// The name it gave itself.
    pub name: String,
    /// The name of its library.
    pub library: String,
    /// That library's version.
    pub library_version: String,
    /// Whether it said that it would read from any holder.
    pub readonly: bool,
}

impl ConnectionState {
    /// A new connection to a node that does, or does not, ask for a password.
    pub fn new(id: u64, needs_password: bool) -> Self {
        Self { id, authenticated: !needs_password, ..Self::default() }
    }
}

/// What does not change while a node lives.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its id.
    pub node: NodeId,
    /// Its life.
    pub incarnation: Incarnation,
    /// Its name.
    pub name: String,
    /// Drone or witness.
    pub role: Role,
    /// What it announces, each as `host:port`.
    pub addresses: Addresses,
    /// Its process id.
    pub process: u32,
    /// What clients must say, if they must.
    pub password: Option<String>,
    /// Its settings, by their keys in config/default.toml. Those that are secret are not told.
    pub settings: BTreeMap<String, String>,
}

/// What a session hands in with each command that it answers by itself.
#[derive(Clone, Debug)]
pub struct View {
    /// Who we are.
    pub me: Arc<Identity>,
    /// What is agreed; none before a mesh is known.
    pub published: Option<Arc<Published>>,
    /// By which listener this client came in.
    pub door: Door,
    /// The time.
    pub now: Now,
    /// All clients of this node, where [`needs`](super::connection::needs) says so; else empty.
    pub clients: Vec<ClientInfo>,
    /// Counters and gauges of this process, where `needs` says so; else none.
    pub facts: Option<Arc<Facts>>,
}

/// A client, as `CLIENT LIST` tells of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientInfo {
    /// What the connection is.
    pub state: ConnectionState,
    /// Its own address, `host:port`.
    pub address: String,
    /// The address it came to.
    pub door_address: String,
    /// Since when it is connected, in milliseconds since 1970.
    pub since_ms: u64,
    /// When it last sent a command.
    pub active_ms: u64,
    /// Its last command, as the table names it.
    pub command: String,
    /// Bytes that it sent and that are not yet carried out.
    pub input_bytes: usize,
    /// Bytes that it has not yet read.
    pub output_bytes: usize,
}

/// What a process counts and measures, for `INFO`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// Seconds since it started.
    pub uptime_s: u64,
    /// Bytes of memory that the operating system gave it.
    pub rss_bytes: u64,
    /// Bytes that the keys take, about.
    pub used_bytes: u64,
    /// Seconds of processor time in user mode.
    pub cpu_user_s: f64,
    /// Seconds of processor time in the kernel.
    pub cpu_system_s: f64,
    /// Clients connected now.
    pub clients: u64,
    /// How many there may be.
    pub max_clients: u64,
    /// Connections accepted since it started.
    pub connections: u64,
    /// Connections refused.
    pub connections_refused: u64,
    /// Commands answered.
    pub commands: u64,
    /// Commands in the last second.
    pub commands_per_second: u64,
    /// Bytes from clients.
    pub bytes_in: u64,
    /// Bytes to clients.
    pub bytes_out: u64,
    /// Reads of keys that were there.
    pub hits: u64,
    /// Reads of keys that were not.
    pub misses: u64,
    /// Keys whose time had come.
    pub expired: u64,
    /// Keys in the ranges that this node heads.
    pub keys: u64,
    /// Those of them that have an end.
    pub expiring: u64,
    /// Keys sent whole to joiners.
    pub entries_streamed: u64,
    /// Bytes of keys and values among them.
    pub bytes_streamed: u64,
    /// Writes sent to members that had missed them.
    pub writes_repaired: u64,
    /// Streamings of whole copies begun.
    pub streamings: u64,
    /// Writes sent as commands (`replication.mode = command`).
    pub recipes_sent: u64,
    /// Commands of others that would have made something else here: another version runs there, or a copy is damaged.
    pub recipes_refused: u64,
    /// Error replies, by their code.
    pub errors: BTreeMap<String, u64>,
    /// Commands, by their names in the table: how many, and their time in microseconds.
    pub per_command: BTreeMap<String, (u64, u64)>,
}

impl View {
    /// The mesh, if one is known.
    pub fn mesh(&self) -> Option<MeshId> {
        self.published.as_ref().map(|published| published.dictionary.mesh)
    }

    /// This node's place on the roster.
    pub fn member(&self) -> Option<&Member> {
        self.published.as_ref()?.dictionary.roster.get(&self.me.node)
    }

    /// The commander's plain door, if a commander and its address are known.
    pub fn commander(&self) -> Option<&str> {
        let published = self.published.as_ref()?;
        let member = published.dictionary.roster.get(&published.commander?)?;
        Some(&member.node.addresses.client).filter(|address| !address.is_empty()).map(String::as_str)
    }

    /// How this node stands, in the words of `HELLO`.
    pub fn state(&self) -> &'static str {
        let Some(published) = &self.published else { return "joining" };
        let standing = self.member().map(|member| member.standing);
        match standing {
            None if published.dictionary.gone.contains_key(&self.me.node) => "gone",
            None | Some(Standing::Joining) => "joining",
            Some(_) if published.commander.is_none() => "no commander",
            Some(Standing::Draining) => "draining",
            Some(Standing::Suspect) => "suspect",
            Some(Standing::Up) => "serving",
        }
    }
}

/// The ranges that a node heads, in order: what its cluster door speaks for.
pub fn headed(published: &Published, node: NodeId, incarnation: Incarnation) -> Vec<RangeId> {
    let heads = |(range, chain): (RangeId, &Arc<crate::messages::ownership::Chain>)| {
        let head = chain.head()?;
        (head.node == node && head.incarnation == incarnation).then_some(range)
    };
    published.dictionary.ranges().filter_map(heads).collect()
}
