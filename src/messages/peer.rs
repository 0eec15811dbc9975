//! What two nodes say to each other: the handshake first, and after it messages in one envelope.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::messages::chain::ChainFrame;
use crate::messages::client::RelayMessage;
use crate::messages::election::ElectionMessage;
use crate::messages::heartbeat::HeartbeatMessage;
use crate::messages::ownership::OwnershipMessage;
use crate::types::{Incarnation, MeshId, NodeId, Version};

/// The first bytes of every peer connection.
pub const MAGIC: [u8; 4] = *b"KVL1";

/// The versions of the peer protocol that this build speaks, oldest and newest.
pub const PROTOCOL: (u16, u16) = (2, 2);

/// Connections between two nodes are kept apart by what they carry, so that a beacon never waits behind a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Lane {
    /// Beacons, votes, the log, orders.
    Control,
    /// Clients' commands on their way to a head, forwards and acknowledgements of chains.
    Data,
    /// Snapshots and chunks of ranges.
    Bulk,
}

/// One message after the handshake. Who sent it, and in which incarnation, the connection knows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum PeerMessage {
    /// Votes and the log.
    Election(ElectionMessage),
    /// Beacons, leases, probes.
    Heartbeat(HeartbeatMessage),
    /// Orders to the commander and their answers.
    Ownership(OwnershipMessage),
    /// Replication of one range.
    Chain(ChainFrame),
    /// Clients' commands that another node must carry out, and the outcomes.
    Relay(RelayMessage),
}

impl PeerMessage {
    /// The lane this message takes.
    pub fn lane(&self) -> Lane {
        match self {
            Self::Election(message) if message.is_bulk() => Lane::Bulk,
            Self::Election(_) | Self::Heartbeat(_) | Self::Ownership(_) => Lane::Control,
            Self::Chain(frame) if frame.is_bulk() => Lane::Bulk,
            Self::Chain(_) | Self::Relay(_) => Lane::Data,
        }
    }
}

/// What the side that dialled says first. Nothing else is heard before the handshake has succeeded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Greeting {
    /// Oldest and newest protocol version spoken.
    pub versions: (u16, u16),
    /// The mesh of the caller; none while it asks to join one.
    pub mesh: Option<MeshId>,
    /// The caller.
    pub node: NodeId,
    /// Its life.
    pub incarnation: Incarnation,
    /// Whom it believes to call; none while it asks to join, since it knows an address only.
    pub to: Option<NodeId>,
    /// What the connection will carry.
    pub lane: Lane,
    /// Fresh random bytes, for the proof that the other side knows the mesh secret.
    pub nonce: [u8; 16],
    /// The dictionary version the caller has. A node that has slept and knows an older one cannot say that the caller
    /// is not on the roster.
    pub version: Version,
}

/// What the called side answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    /// Who I am; now prove that you know the secret.
    Challenge {
        /// The version chosen: the newest both speak.
        version: u16,
        /// The mesh of the called node; none while it has none itself.
        mesh: Option<MeshId>,
        /// The called node.
        node: NodeId,
        /// Its life.
        incarnation: Incarnation,
        /// Fresh random bytes of the called side.
        nonce: [u8; 16],
        /// Proof over both nonces and both names that the called side knows the secret.
        proof: [u8; 32],
    },
    /// All is well: messages may follow.
    Welcome,
    /// It will not speak with the caller, and closes.
    Refused(PeerRefusal),
}

/// The caller's proof that it knows the mesh secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Proof(pub [u8; 32]);

/// Why a peer is not heard. Each has a stable name, said to the other side and in both logs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeerRefusal {
    /// The first bytes are not those of this protocol.
    BadMagic,
    /// No protocol version in common; mine are given.
    BadVersion {
        /// Oldest and newest version that the refusing side speaks.
        mine: (u16, u16),
    },
    /// Another mesh; mine is given.
    WrongMesh {
        /// The mesh of the refusing side.
        mine: Option<MeshId>,
    },
    /// The address belongs to another node than the caller believes.
    WrongNode {
        /// Who answers at this address.
        mine: NodeId,
    },
    /// Another living process has this identity: a data directory was copied or is used twice.
    NodeIdInUse,
    /// The caller is not on the roster of this dictionary version.
    NotOnRoster {
        /// The version the refusing side knows.
        version: Version,
        /// True when it was on the roster and was removed: it will not be admitted under this id again.
        removed: bool,
    },
    /// The proof of the mesh secret is wrong or missing.
    BadSecret,
    /// A frame could not be read, or was larger than allowed.
    Malformed(String),
    /// A message that may not be said now, as anything but the handshake before it has succeeded.
    Unexpected,
}

impl PeerRefusal {
    /// The stable name, as logs and docs/errors.md have it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BadMagic => "BadMagic",
            Self::BadVersion { .. } => "BadVersion",
            Self::WrongMesh { .. } => "WrongMesh",
            Self::WrongNode { .. } => "WrongNode",
            Self::NodeIdInUse => "NodeIdInUse",
            Self::NotOnRoster { .. } => "NotOnRoster",
            Self::BadSecret => "BadSecret",
            Self::Malformed(_) => "Malformed",
            Self::Unexpected => "Unexpected",
        }
    }
}

impl fmt::Display for PeerRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.code();
        match self {
            Self::BadMagic => write!(
                f,
                "{code}: this is the peer port of a keyval node; clients connect to the plain or the cluster door"
            ),
            Self::BadVersion { mine } => {
                write!(f, "{code}: this node speaks peer protocol {} to {}; upgrade the older one", mine.0, mine.1)
            }
            Self::WrongMesh { mine: Some(mine) } => write!(f, "{code}: this node belongs to mesh {mine}"),
            Self::WrongMesh { mine: None } => write!(f, "{code}: this node belongs to no mesh yet"),
            Self::WrongNode { mine } => write!(f, "{code}: node {mine} answers at this address"),
            Self::NodeIdInUse => {
                write!(f, "{code}: another living process has this node id; was a data directory copied?")
            }
            Self::NotOnRoster { version, removed: true } => write!(
                f,
                "{code}: this node was removed from the mesh (dictionary version {version}); start it with an empty data directory to join as a new one"
            ),
            Self::NotOnRoster { version, removed: false } => {
                write!(f, "{code}: not on the roster of dictionary version {version}")
            }
            Self::BadSecret => write!(f, "{code}: mesh.secret differs between the two nodes"),
            Self::Malformed(what) => write!(f, "{code}: {what}"),
            Self::Unexpected => write!(f, "{code}: nothing but the handshake is heard before it has succeeded"),
        }
    }
}

impl std::error::Error for PeerRefusal {}
