//! The log's commands, the records of the dictionary, and what nodes and the commander say to each other about them.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::messages::chain::Counted;
pub use crate::messages::orders::Order;
use crate::types::{Epoch, Generation, Incarnation, MeshId, NodeId, RangeId, Term, Timing, Version};

/// What all nodes of a mesh must agree on. Set by the founder's settings, travels in the dictionary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeshSettings {
    /// How many ranges the slots are cut into; a power of two from 16 to 16,384. Fixed at founding.
    pub ranges: u16,
    /// The times that leases depend on. Fixed at founding.
    pub timing: Timing,
    /// How many holders each range should have.
    pub factor: u8,
    /// How many Serving holders a write needs before it is acknowledged.
    pub min_copies: u8,
    /// What is replicated.
    pub mode: ReplicationMode,
    /// What to do when all holders of a range are gone.
    pub on_total_loss: OnTotalLoss,
    /// After how long a silence holders are given up (G24): never, or a span. `None` in `give_up_after` of the settings
    /// means "by the number of copies": 4 T with one, never with more.
    pub give_up: GiveUp,
    /// For how long the place of a holder that is merely silent is kept for it.
    #[serde(with = "crate::types::span")]
    pub repair_after: Duration,
    /// How many nodes vote at most.
    pub voters: u8,
    /// After how long an absence a node leaves the roster.
    #[serde(with = "crate::types::span")]
    pub node_expiry: Duration,
}

/// When holders that are only silent are given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GiveUp {
    /// 4 T with one copy, never with two or more.
    ByCopies,
    /// Silence is no death.
    Never,
    /// After this long.
    After(#[serde(with = "crate::types::span")] Duration),
}

/// What the head sends down the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReplicationMode {
    /// The resulting values.
    Value,
    /// The command, where it is smaller and gives the same on every member.
    Command,
}

/// What to do when all holders of a range are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnTotalLoss {
    /// The newest surviving copy, else the archive, else empty; said aloud.
    Recover,
    /// Wait for the operator's word.
    Wait,
}

impl Default for MeshSettings {
    fn default() -> Self {
        Self {
            ranges: 1024,
            timing: Timing::default(),
            factor: 2,
            min_copies: 1,
            mode: ReplicationMode::Value,
            on_total_loss: OnTotalLoss::Recover,
            give_up: GiveUp::ByCopies,
            repair_after: Duration::from_secs(15),
            voters: 5,
            node_expiry: Duration::from_secs(15 * 60),
        }
    }
}

impl MeshSettings {
    /// The time of silence after which an incarnation may be given up, if ever.
    pub fn give_up_after(&self) -> Option<Duration> {
        match self.give_up {
            GiveUp::Never => None,
            GiveUp::After(span) => Some(span),
            GiveUp::ByCopies if self.factor <= 1 => Some(self.timing.sole_lease()),
            GiveUp::ByCopies => None,
        }
    }
}

/// What a node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Role {
    /// Holds data, votes, may command.
    Drone,
    /// Votes; holds no data and never stands.
    Witness,
}

/// Where others reach a node, each as `host:port`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Addresses {
    /// The peer door.
    pub peer: String,
    /// The plain door.
    pub client: String,
    /// The cluster door.
    pub cluster: String,
    /// The console.
    pub console: String,
}

/// A node as it presents itself when it asks to be admitted, and again at each start.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Candidate {
    /// Its id.
    pub id: NodeId,
    /// Its life.
    pub incarnation: Incarnation,
    /// Its name, for people. Unique on a roster: the commander appends the id's end if it must.
    pub name: String,
    /// Where it listens.
    pub addresses: Addresses,
    /// Its zone; empty for none. Copies of a range go to different zones where there are enough.
    pub zone: String,
    /// Its share of the data, relative to others' weights; 100 is usual.
    pub weight: u32,
    /// What it does.
    pub role: Role,
}

/// A node of the roster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Short index, by which chains on the wire name it. Never given to another node while this one is on the roster.
    pub index: u16,
    /// What it said of itself, latest admission.
    pub node: Candidate,
    /// How it stands.
    pub standing: Standing,
    /// The newest incarnation known to be dead (G22, G24): chains that list it, or an older one, list nobody.
    pub dead: Option<Incarnation>,
    /// It is to give away all it holds, then to leave: an operator's word, which holds whatever life it lives.
    #[serde(default)]
    pub drains: bool,
    /// Whether an operator has said that it votes.
    #[serde(default)]
    pub franchise: Franchise,
    /// What operators have said of its part in placement, which counts more than what it says itself.
    #[serde(default)]
    pub part: Part,
}

/// What operators say of a node's part in placement; whatever they say nothing of is as the node says itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its share of the data.
    pub weight: Option<u32>,
    /// Its zone; empty for none.
    pub zone: Option<String>,
}

impl Member {
    /// A node as it comes on the roster.
    pub fn new(index: u16, node: Candidate, standing: Standing) -> Self {
        Self { index, node, standing, dead: None, drains: false, franchise: Franchise::Any, part: Part::default() }
    }

    /// Its share of the data, relative to others' weights.
    pub fn weight(&self) -> u32 {
        self.part.weight.unwrap_or(self.node.weight)
    }

    /// Its zone; empty for none.
    pub fn zone(&self) -> &str {
        self.part.zone.as_deref().unwrap_or(&self.node.zone)
    }
}

/// Whether a node votes, as far as operators have a word in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Franchise {
    /// Where there is a seat for it.
    #[default]
    Any,
    /// Before others.
    Votes,
    /// Never.
    Learns,
}

/// How a node of the roster stands. The states of docs/protocol.md; `gone` is not on the roster any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Standing {
    /// Admitted, not yet heard by the commander.
    Joining,
    /// Heard.
    Up,
    /// Probed in vain. What it holds goes to others as CHAIN.md allows.
    Suspect,
    /// Gives away what it holds, then leaves.
    Draining,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Joining => "joining",
            Self::Up => "up",
            Self::Suspect => "suspect",
            Self::Draining => "draining",
        })
    }
}

/// How a member of a chain holds the range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum HolderState {
    /// Receives writes, is not read.
    Loading,
    /// Has every acknowledged write.
    Serving,
    /// Serving, and to go once another serves.
    Leaving,
}

impl HolderState {
    /// Whether it has every acknowledged write. Leaving counts as Serving in every guard (G19).
    pub fn serves(self) -> bool {
        self != Self::Loading
    }
}

impl fmt::Display for HolderState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loading => "loading",
            Self::Serving => "serving",
            Self::Leaving => "leaving",
        })
    }
}

/// A member of a chain: a node in one life (G1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Holder {
    /// Which node.
    pub node: NodeId,
    /// In which incarnation. The node with another one is no member.
    pub incarnation: Incarnation,
    /// How it holds the range.
    pub state: HolderState,
}

/// Who holds one range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// Rises with each change of this chain.
    pub epoch: Epoch,
    /// Rises when the range was begun anew (G23).
    pub generation: Generation,
    /// The dictionary version of the last change.
    pub changed: Version,
    /// Head first; at most one Loading, last.
    pub holders: Vec<Holder>,
    /// Former members whose copies may survive, newest epoch of membership first (G22). Dropped when the range is whole.
    pub former: Vec<Former>,
    /// Whose copy the present generation began with; none when it began empty. Whoever meets a higher generation drops
    /// its copy, this node alone keeps it (G22, G23). Stands here because epochs may be skipped, and causes with them.
    pub revived: Option<NodeId>,
    /// Why it last changed.
    pub cause: Cause,
}

/// A former member of a chain, which may still keep its copy unread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Former {
    /// Who.
    pub node: NodeId,
    /// In which life.
    pub incarnation: Incarnation,
    /// The last epoch in which it was a Serving member.
    pub until: Epoch,
}

impl Chain {
    /// The head: the first member, if it serves. None while nobody who has the data is listed.
    pub fn head(&self) -> Option<&Holder> {
        self.holders.first().filter(|holder| holder.state.serves())
    }

    /// This node's place as the listed incarnation.
    pub fn holder(&self, node: NodeId, incarnation: Incarnation) -> Option<&Holder> {
        self.holders.iter().find(|holder| holder.node == node && holder.incarnation == incarnation)
    }

    /// The members that serve.
    pub fn serving(&self) -> impl Iterator<Item = &Holder> {
        self.holders.iter().filter(|holder| holder.state.serves())
    }
}

/// Why a chain or the roster changed: kept with the change, and told by `explain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// The mesh was founded.
    Founded,
    /// A node was admitted or its share was due.
    Placement,
    /// A member was lost; what was missed, and by whom.
    Lost {
        /// The lost node.
        node: NodeId,
        /// What was missed, probed and decided, in words.
        evidence: String,
    },
    /// A member started anew and holds nothing.
    Restarted(NodeId),
    /// A member's incarnation was silent so long that it was given up (G24).
    Expired(NodeId),
    /// The operator dropped a node.
    Dropped(NodeId),
    /// A joiner has all.
    CaughtUp(NodeId),
    /// A head handed over.
    HandedOver {
        /// From this node.
        from: NodeId,
        /// To that one.
        to: NodeId,
    },
    /// A hand-over was called off.
    CalledOff,
    /// A holder that was to leave has left.
    Left(NodeId),
    /// All holders were gone: begun anew from the copy of a node, or empty.
    BegunAnew {
        /// Whose copy, if any survived.
        from: Option<NodeId>,
        /// Who was lost.
        lost: Vec<NodeId>,
    },
    /// A node was to leave, and has given away all it held.
    Drained(NodeId),
}

/// The log's commands: the only way the dictionary changes. Those that name an epoch have no effect on any other (G2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Put a node on the roster, or note its new incarnation and addresses.
    Admit(Candidate),
    /// Note how a node stands.
    Stand {
        /// Which node.
        node: NodeId,
        /// In which life; no effect on a later one.
        incarnation: Incarnation,
        /// How.
        standing: Standing,
        /// Why, in words.
        evidence: String,
    },
    /// Note that this incarnation is dead for certain, or given up (G22, G24). It never counts again.
    Bury {
        /// Which node.
        node: NodeId,
        /// This life and all before it.
        incarnation: Incarnation,
        /// Expired or Dropped or Restarted.
        cause: Cause,
    },
    /// Take a node off the roster. Refused while a chain lists it, unless its listed incarnation is dead.
    Remove {
        /// Which node.
        node: NodeId,
        /// Why.
        cause: Cause,
    },
    /// Change chains, each by one step, each only if its epoch is still the one the change was computed from.
    SetChains(#[serde(with = "crate::messages::causes_once")] Vec<SetChain>),
    /// Change a mesh-wide setting.
    Configure {
        /// Its key, as in config/default.toml.
        key: String,
        /// Its new value, as in config/default.toml.
        value: String,
    },
    /// Clients' writes pause in the whole mesh, or go on.
    Pause(Option<Pause>),
    /// A node gives away all it holds and leaves then, or stays after all.
    Drain {
        /// Which node, whatever life it lives.
        node: NodeId,
        /// Whether it is to leave.
        drains: bool,
    },
    /// Who votes is left to the commander no longer, as far as this node goes.
    Enfranchise {
        /// Which node, whatever life it lives.
        node: NodeId,
        /// Whether it votes.
        franchise: Franchise,
    },
    /// How much of the data a node takes, and in which zone it is, is not left to what it says of itself.
    Assign {
        /// Which node, whatever life it lives.
        node: NodeId,
        /// What is said of it now; what was said before is forgotten.
        part: Part,
    },
}

/// An operator's word that clients' writes shall wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// The node at which it was given.
    pub by: NodeId,
    /// When, by that node's clock, in milliseconds since 1970.
    pub since_ms: u64,
}

/// A change of one chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetChain {
    /// Which range.
    pub range: RangeId,
    /// Computed from this epoch.
    pub expected: Epoch,
    /// The new members.
    pub holders: Vec<Holder>,
    /// Whether the range is begun anew (G23).
    pub anew: bool,
    /// Why.
    pub cause: Cause,
}

/// What became of a command, at its place in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Applied {
    /// It had its effect; the version it made.
    Changed(Version),
    /// It had no effect, lawfully: another change came first, or it was so already. In words.
    Nothing(String),
}

/// Between nodes and the commander, on the control lane.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum OwnershipMessage {
    /// A node presents itself: admit me, or note that I am back. Sent until the roster shows it.
    Present(Candidate),
    /// An operator's order, on its way to the commander.
    Order {
        /// Names the order at the sender.
        id: u64,
        /// What is asked.
        order: Order,
    },
    /// The commander's answer, or a node's that cannot bring the order to one.
    Ordered {
        /// Which order.
        id: u64,
        /// Lines for the operator, or why not.
        result: Result<Vec<String>, String>,
    },
    /// The source of a joiner says: bound, and the joiner has all (G15, G17).
    CaughtUp {
        /// Which range.
        range: RangeId,
        /// In which epoch; counts for that one only.
        epoch: Epoch,
        /// Who.
        joiner: NodeId,
        /// In which life.
        incarnation: Incarnation,
    },
    /// A head says: no more numbered, all is clean (G20).
    Parked {
        /// Which range.
        range: RangeId,
        /// In which epoch.
        epoch: Epoch,
    },
    /// The commander asks a head to hand over (G20).
    Park {
        /// Which range.
        range: RangeId,
        /// In which epoch.
        epoch: Epoch,
    },
    /// The commander asks, before it drops somebody: do you serve these ranges in these epochs? (G19)
    Vouch {
        /// Names the asking.
        id: u64,
        /// Range and epoch.
        ranges: Vec<(RangeId, Epoch)>,
    },
    /// Yes, for these.
    Vouched {
        /// Which asking.
        id: u64,
        /// The ranges that this incarnation serves in the epoch asked for.
        ranges: Vec<RangeId>,
    },
    /// To a head: what do the members of this chain hold from this place on? The head chooses how far it looks.
    Count {
        /// Names the asking at the sender.
        id: u64,
        /// Which range.
        range: RangeId,
        /// In which epoch.
        epoch: Epoch,
        /// From which place of the keyspace on.
        from: u64,
    },
    /// This is what a member holds.
    Counted {
        /// Which asking.
        id: u64,
        /// What.
        counted: Counted,
    },
}

/// Asked by a node that belongs to no mesh yet, at an address, in a connection of its own after the handshake.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum JoinMessage {
    /// Which mesh is this, and may I join it?
    Ask(Candidate),
    /// What the asked node says.
    Answer(JoinAnswer),
}

/// What a node answers to one that wants to join.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum JoinAnswer {
    /// You are on the roster of this mesh. Keep its id; the log will reach you.
    Admitted {
        /// Its id.
        mesh: MeshId,
        /// Its settings.
        settings: MeshSettings,
    },
    /// Ask there: the commander's peer address.
    Elsewhere {
        /// As host:port.
        peer: String,
        /// In this term.
        term: Term,
    },
    /// There is a mesh, but nobody commands it now, or it is busy: ask again.
    Later {
        /// Its id.
        mesh: MeshId,
    },
    /// I belong to no mesh myself.
    NoMesh,
    /// Never, under this id or with these settings; why.
    Refused(String),
    /// I belong to no mesh either, and shall found one if I find none. Of two such nodes the one with the lower id does.
    Founding {
        /// Who.
        node: NodeId,
    },
}
