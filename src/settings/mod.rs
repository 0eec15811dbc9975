//! Settings: built-in defaults, then a file, then the environment, then flags; each overrules those before it.
//!
//! `config/default.toml` explains every key at its default and is the reference. A key that does not exist, a value that
//! cannot be read, and a set that contradicts itself end the start, with one message that names the key and where it came
//! from. `keys` is the one table of keys, `text` how a value of each kind is written, `check` what must fit together,
//! `address` how a node finds the address that it tells others.
//!
//! Some settings belong to the mesh rather than to a node: those of the founder travel in the dictionary
//! ([`Settings::mesh_settings`]), and the file of a node that joins has no say in them.

mod address;
mod check;
mod keys;
mod text;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use config::{Config, Environment, File, FileFormat, Map, Value, ValueKind};

use crate::messages::ownership::{Addresses, Candidate, GiveUp, MeshSettings, OnTotalLoss, ReplicationMode, Role};
use crate::types::{Incarnation, NodeId, Timing};

pub use keys::{Key, Scope, keys};

/// What the names of the environment begin with: `KEYVAL__NODE__NAME` is `node.name`.
pub const PREFIX: &str = "KEYVAL";

/// Everything a node can be told before it starts. See config/default.toml.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "config/default.toml explains each")]
pub struct Settings {
    pub node: NodeSettings,
    pub client: ClientSettings,
    pub cluster: DoorSettings,
    pub console: DoorSettings,
    pub peer: DoorSettings,
    pub mesh: MeshDoor,
    pub times: TimeSettings,
    pub replication: ReplicationSettings,
    pub placement: PlacementSettings,
    pub election: ElectionSettings,
    pub log: LogSettings,
}

/// `[node]`: what this node is.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "config/default.toml explains each")]
pub struct NodeSettings {
    /// Empty: the host's name.
    pub name: String,
    pub role: Role,
    pub data_dir: PathBuf,
    pub zone: String,
    pub weight: u32,
    /// None: one for each processor but one.
    pub workers: Option<usize>,
    pub on_term: OnTerm,
    pub grace: Duration,
}

/// `[client]`: the plain door, and what holds for clients of both doors.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "config/default.toml explains each")]
pub struct ClientSettings {
    pub listen: SocketAddr,
    /// Empty: found by [`Settings::addresses`].
    pub announce: String,
    pub park: Duration,
    pub password: Secret,
    pub protected: bool,
    pub max_clients: usize,
    /// In bytes.
    pub output_limit: usize,
    /// In bytes.
    pub query_limit: usize,
    /// None: never.
    pub idle_timeout: Option<Duration>,
}

/// `[cluster]`, `[console]`, `[peer]`: where a door listens.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "config/default.toml explains each")]
pub struct DoorSettings {
    pub listen: SocketAddr,
    /// Empty: found by [`Settings::addresses`].
    pub announce: String,
}

/// `[mesh]`: which mesh this node belongs to, and how it gets there.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "config/default.toml explains each")]
pub struct MeshDoor {
    /// Each as host:port.
    pub join: Vec<String>,
    pub found: bool,
    pub secret: Secret,
    pub ranges: u16,
}

/// The keys that stand before all sections.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "config/default.toml explains each")]
pub struct TimeSettings {
    pub failure_timeout: Duration,
    /// In parts per million.
    pub clock_drift: u32,
    pub node_expiry: Duration,
}

/// `[replication]`.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "config/default.toml explains each")]
pub struct ReplicationSettings {
    pub factor: u8,
    pub min_copies: u8,
    pub mode: ReplicationMode,
    pub on_total_loss: OnTotalLoss,
    pub give_up: GiveUp,
    pub repair_after: Duration,
}

/// `[placement]`.
#[derive(Clone, Debug, PartialEq)]
pub struct PlacementSettings {
    /// In bytes a second.
    pub budget: usize,
}

/// `[election]`.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "config/default.toml explains each")]
pub struct ElectionSettings {
    pub voters: u8,
}

/// `[log]`.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "config/default.toml explains each")]
pub struct LogSettings {
    pub level: String,
    pub format: LogFormat,
}

/// What SIGTERM means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnTerm {
    /// The node will be back: its seat is kept.
    Restart,
    /// It leaves the roster.
    Leave,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Time, level, place, text; with colours where the output is a terminal.
    Text,
    /// Without time and place, for whoever adds them.
    Plain,
}

/// A text that is never printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(pub String);

impl Secret {
    /// Whether one is set.
    pub fn is_set(&self) -> bool {
        !self.0.is_empty()
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_set() { "(set)" } else { "(none)" })
    }
}

/// Why a node cannot start with these settings. One line; it names the key.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read, or is no TOML.
    #[error("{path}: {why}")]
    File {
        /// Which file.
        path: String,
        /// As the reader of files says it.
        why: String,
    },
    /// There is no such key.
    #[error("{key} ({origin}): there is no such key; config/default.toml explains all there are{}", hint(.near))]
    UnknownKey {
        /// As it was written.
        key: String,
        /// The file, the environment, or the flags.
        origin: String,
        /// A key that is spelled much like it.
        near: Option<&'static str>,
    },
    /// The value cannot be read.
    #[error("{key} = {value:?} ({origin}): {why}")]
    BadValue {
        /// Which key.
        key: String,
        /// As it was written; hidden when secret.
        value: String,
        /// The file, the environment, or the flags.
        origin: String,
        /// What is wanted.
        why: String,
    },
    /// Values that can be read, and do not go together.
    #[error("{keys}: {why}")]
    Inconsistent {
        /// The keys with their values.
        keys: String,
        /// Why they do not go together, and what would.
        why: String,
    },
}

fn hint(near: &Option<&'static str>) -> String {
    near.map(|near| format!(" (is {near} meant?)")).unwrap_or_default()
}

/// Where settings are looked for.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// A TOML file.
    pub file: Option<PathBuf>,
    /// Names and values to take for the environment; the process's own when none are given.
    pub environment: Option<Vec<(String, String)>>,
    /// Keys and values, as after `--set`; a later one overrules an earlier.
    pub flags: Vec<(String, String)>,
}

impl Settings {
    /// Reads all sources and checks what came of them.
    ///
    /// # Errors
    /// When a source cannot be read, or says what cannot be meant.
    pub fn load(sources: &Sources) -> Result<Self, SettingsError> {
        let mut settings = Self::default();
        let mut said = Vec::new();
        for (name, text) in collect(sources)? {
            let key = keys().iter().find(|key| key.name == name).ok_or_else(|| SettingsError::UnknownKey {
                near: keys::near(&name),
                key: name.clone(),
                origin: text.origin.clone(),
            })?;
            let bad = |why| {
                let value = if key.secret { "(hidden)".to_owned() } else { text.written.clone() };
                SettingsError::BadValue { key: name.clone(), value, origin: text.origin.clone(), why }
            };
            if text.is_list && !key.list {
                return Err(bad("one value is wanted, not a list".into()));
            }
            (key.read)(&mut settings, &text.written).map_err(bad)?;
            said.push(key.name);
        }
        check::check(&settings, &said)?;
        Ok(settings)
    }

    /// What the founder of a mesh lays down for all nodes.
    pub fn mesh_settings(&self) -> MeshSettings {
        MeshSettings {
            ranges: self.mesh.ranges,
            timing: self.timing(),
            factor: self.replication.factor,
            min_copies: self.replication.min_copies,
            mode: self.replication.mode,
            on_total_loss: self.replication.on_total_loss,
            give_up: self.replication.give_up,
            repair_after: self.replication.repair_after,
            voters: self.election.voters,
            node_expiry: self.times.node_expiry,
        }
    }

    /// The times that follow from `failure_timeout`. A node goes by those of its mesh as soon as it has one.
    pub fn timing(&self) -> Timing {
        Timing { failure_timeout: self.times.failure_timeout, drift_ppm: self.times.clock_drift }
    }

    /// This node as it presents itself to a mesh.
    pub fn candidate(&self, id: NodeId, incarnation: Incarnation) -> Candidate {
        Candidate {
            id,
            incarnation,
            name: self.name(id),
            addresses: self.addresses(),
            zone: self.node.zone.clone(),
            // A witness holds nothing.
            weight: if self.node.role == Role::Witness { 0 } else { self.node.weight },
            role: self.node.role,
        }
    }

    /// The name for people: as set, else the host's, else one made of the id.
    pub fn name(&self, id: NodeId) -> String {
        let host = || address::host_name().filter(|name| check::is_name(name));
        let by_id = || format!("node-{:06x}", id.0 & 0xff_ffff);
        if self.node.name.is_empty() { host().unwrap_or_else(by_id) } else { self.node.name.clone() }
    }

    /// Where others reach this node's doors: as announced, else where it listens, and where that is every address of the
    /// host, the address from which the host would speak to others.
    pub fn addresses(&self) -> Addresses {
        Addresses {
            peer: address::announced(self.peer.listen, &self.peer.announce),
            client: address::announced(self.client.listen, &self.client.announce),
            cluster: address::announced(self.cluster.listen, &self.cluster.announce),
            console: address::announced(self.console.listen, &self.console.announce),
        }
    }

    /// How many worker threads: as set, else one for each processor but one, which the control plane, the disk and the
    /// kernel share. A command that crosses from one worker to another costs twice one that does not (measured on two
    /// processors), so a small machine has a single worker.
    pub fn workers(&self) -> usize {
        let others = || std::thread::available_parallelism().map_or(1, |all| usize::from(all).saturating_sub(1).max(1));
        self.node.workers.unwrap_or_else(others).min(check::MOST_WORKERS)
    }

    /// Every key with its value, as it could be written in a file; secrets are hidden.
    pub fn entries(&self) -> Vec<(&'static str, String)> {
        let shown = |key: &Key| if key.secret { "(hidden)".to_owned() } else { (key.show)(self) };
        keys().iter().map(|key| (key.name, shown(key))).collect()
    }
}

/// A value as it was written, and where.
struct Written {
    written: String,
    is_list: bool,
    origin: String,
}

/// All that the sources say, by key; what a later source says has replaced the earlier.
fn collect(sources: &Sources) -> Result<Vec<(String, Written)>, SettingsError> {
    let mut builder = Config::builder();
    if let Some(path) = &sources.file {
        builder = builder.add_source(File::from(path.as_path()).format(FileFormat::Toml));
    }
    let environment: Option<Map<String, String>> = sources.environment.clone().map(|pairs| pairs.into_iter().collect());
    builder =
        builder.add_source(Environment::with_prefix(PREFIX).prefix_separator("__").separator("__").source(environment));
    for (key, value) in &sources.flags {
        builder = builder.set_override(key, value.as_str()).map_err(|_| SettingsError::UnknownKey {
            key: key.clone(),
            origin: "flags".into(),
            near: keys::near(key),
        })?;
    }
    let config = builder.build().map_err(|error| file_error(sources, &error))?;
    let mut found = Vec::new();
    flatten(String::new(), config.cache, &mut found);
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

fn flatten(name: String, value: Value, found: &mut Vec<(String, Written)>) {
    let origin = value.origin().unwrap_or("flags").to_owned();
    let (written, is_list) = match value.kind {
        ValueKind::Table(table) => {
            for (key, value) in table {
                let name = if name.is_empty() { key } else { format!("{name}.{key}") };
                flatten(name, value, found);
            }
            return;
        }
        ValueKind::Array(values) => {
            (values.iter().map(|value| value.kind.to_string()).collect::<Vec<_>>().join(","), true)
        }
        kind => (kind.to_string(), false),
    };
    found.push((name, Written { written, is_list, origin }));
}

fn file_error(sources: &Sources, error: &config::ConfigError) -> SettingsError {
    let path = sources.file.as_ref().map_or_else(|| "environment".into(), |path| path.display().to_string());
    let why = match error {
        config::ConfigError::FileParse { cause, .. } => cause.to_string(),
        other => other.to_string(),
    };
    // A parse error comes with a drawing of the line, marked by bars, and that line may hold a password.
    let told = why.lines().map(str::trim).filter(|line| !line.is_empty() && !line.contains('|'));
    SettingsError::File { path, why: told.collect::<Vec<_>>().join(": ") }
}

impl Default for Settings {
    fn default() -> Self {
        let door = |port| DoorSettings { listen: on_all(port), announce: String::new() };
        Self {
            node: NodeSettings::default(),
            client: ClientSettings::default(),
            cluster: door(7234),
            console: door(8234),
            peer: door(16234),
            mesh: MeshDoor::default(),
            times: TimeSettings::default(),
            replication: ReplicationSettings::default(),
            placement: PlacementSettings { budget: 8 << 20 },
            election: ElectionSettings::default(),
            log: LogSettings::default(),
        }
    }
}

impl Default for NodeSettings {
    fn default() -> Self {
        Self {
            name: String::new(),
            role: Role::Drone,
            data_dir: "./keyval-data".into(),
            zone: String::new(),
            weight: 100,
            workers: None,
            on_term: OnTerm::Restart,
            grace: Duration::from_secs(8),
        }
    }
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            listen: on_all(6234),
            announce: String::new(),
            park: Duration::from_millis(1500),
            password: Secret::default(),
            protected: true,
            max_clients: 10_000,
            output_limit: 1 << 30,
            query_limit: 1 << 30,
            idle_timeout: None,
        }
    }
}

impl Default for MeshDoor {
    fn default() -> Self {
        Self { join: Vec::new(), found: false, secret: Secret::default(), ranges: MeshSettings::default().ranges }
    }
}

impl Default for TimeSettings {
    fn default() -> Self {
        let Timing { failure_timeout, drift_ppm } = Timing::default();
        Self { failure_timeout, clock_drift: drift_ppm, node_expiry: MeshSettings::default().node_expiry }
    }
}

impl Default for ReplicationSettings {
    fn default() -> Self {
        let MeshSettings { factor, min_copies, mode, on_total_loss, give_up, repair_after, .. } =
            MeshSettings::default();
        Self { factor, min_copies, mode, on_total_loss, give_up, repair_after }
    }
}

impl Default for ElectionSettings {
    fn default() -> Self {
        Self { voters: MeshSettings::default().voters }
    }
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Text }
    }
}

fn on_all(port: u16) -> SocketAddr {
    (Ipv4Addr::UNSPECIFIED, port).into()
}

#[cfg(test)]
mod tests;
