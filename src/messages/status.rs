//! What `MESH ...` answers, as `keyval ctl` reads it: JSON in a bulk string. Fields are added, never changed or taken away.
//!
//! Ids are hexadecimal text here, since not every reader of JSON keeps 64 bits of a number.

use serde::{Deserialize, Serialize};

use crate::messages::heartbeat::Progress;

/// A node as people know it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeName {
    /// Its id.
    pub id: String,
    /// Its name; the id where no name is known.
    pub name: String,
}

/// `MESH STATUS`: how the mesh is, as the asked node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The asked node.
    pub me: NodeName,
    /// Its state: joining, up, suspect, draining or gone.
    pub state: String,
    /// Its mesh, if it has one.
    pub mesh: Option<String>,
    /// The newest term it knows.
    pub term: u64,
    /// Its dictionary's version.
    pub version: u64,
    /// Who commands, as far as it knows.
    pub commander: Option<Commander>,
    /// The roster in numbers.
    pub nodes: NodeCounts,
    /// The ranges in numbers.
    pub ranges: RangeCounts,
    /// How far the moves of ranges have come, while there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// Whether no problem is grave.
    pub well: bool,
    /// What is wrong or under way; grave ones first.
    pub problems: Vec<Problem>,
}

/// Who commands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commander {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its plain door, host:port.
    pub client: String,
}

/// The roster in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeCounts {
    /// On the roster.
    pub roster: usize,
    /// Of these, up.
    pub up: usize,
    /// Of the roster, drones.
    pub drones: usize,
    /// Who votes.
    pub voters: usize,
    /// Who receives the log and does not vote.
    pub learners: usize,
}

/// The ranges in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeCounts {
    /// All.
    pub total: usize,
    /// With a head that is up.
    pub served: usize,
    /// Without one.
    pub unserved: usize,
    /// With a member that is still being sent its copy.
    pub loading: usize,
    /// With a member that is to leave.
    pub leaving: usize,
}

/// Something that is wrong or under way, and what the mesh does about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// A stable word, as docs/errors.md has it.
    pub code: String,
    /// False for what is only under way, or worth knowing.
    pub grave: bool,
    /// What it is.
    pub what: String,
    /// What the mesh does about it, or what somebody should do.
    pub doing: String,
}

/// `MESH NODES`: the roster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nodes {
    /// As of this dictionary version.
    pub version: u64,
    /// In the order of their names.
    pub nodes: Vec<NodeStatus>,
}

/// One node of the roster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// drone or witness.
    pub role: String,
    /// joining, up, suspect or draining.
    pub state: String,
    /// Whether it commands.
    pub commander: bool,
    /// voter, learner, or none: how it counts in elections.
    pub seat: String,
    /// Its life, as the roster lists it.
    pub incarnation: u64,
    /// Ranges it heads.
    pub heads: usize,
    /// Ranges of which it is a member in any state.
    pub holds: usize,
    /// Of these, still being sent to it.
    pub loading: usize,
    /// Its weight.
    pub weight: u32,
    /// Its zone; empty for none.
    pub zone: String,
    /// Plain door, host:port.
    pub client: String,
    /// Cluster door.
    pub cluster: String,
    /// Console.
    pub console: String,
    /// Peer door.
    pub peer: String,
    /// Whether it is the asked node.
    pub me: bool,
}

/// `MESH MAP`: who holds what, neighbouring ranges with the same members in one run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Map {
    /// As of this dictionary version.
    pub version: u64,
    /// How many ranges there are.
    pub ranges: usize,
    /// In the order of slots.
    pub runs: Vec<Run>,
}

/// Neighbouring ranges with the same members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// First and last slot, both included.
    pub slots: (u16, u16),
    /// First and last range, both included.
    pub ranges: (u16, u16),
    /// Whether their head is up.
    pub served: bool,
    /// Head first.
    pub holders: Vec<HolderStatus>,
}

/// A member of a chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HolderStatus {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// loading, serving or leaving.
    pub state: String,
}

/// `MESH LOCATE key`: where a key lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    /// The key, as far as it is text.
    pub key: String,
    /// Its slot.
    pub slot: u16,
    /// Its range.
    pub range: u16,
    /// That range's epoch.
    pub epoch: u64,
    /// How often the range was begun anew.
    pub generation: u64,
    /// Whether its head is up.
    pub served: bool,
    /// Who heads it, with its doors.
    pub head: Option<Head>,
    /// Head first.
    pub holders: Vec<HolderStatus>,
}

/// The node that heads a range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Plain door, host:port.
    pub client: String,
    /// Cluster door.
    pub cluster: String,
}

/// `MESH EXPLAIN what`: how it stands, and what led to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// What was asked about.
    pub what: String,
    /// How it stands, in lines.
    pub now: Vec<String>,
    /// What happened to it, oldest first, as far as the asked node keeps it.
    pub events: Vec<EventStatus>,
}

/// `MESH WATCH [after]`: what has happened after a number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    /// The asked node's life. Another one: numbers have begun anew.
    pub incarnation: u64,
    /// Ask for those after this number next.
    pub last: u64,
    /// How many were asked for and are not kept any more.
    pub missed: u64,
    /// Oldest first.
    pub events: Vec<EventStatus>,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventStatus {
    /// Its number at the asked node.
    pub number: u64,
    /// When that node noticed it, in milliseconds since 1970.
    pub wall_ms: u64,
    /// What kind of thing.
    pub kind: String,
    /// In which term.
    pub term: u64,
    /// At which dictionary version.
    pub version: u64,
    /// Whom it concerns, if one node.
    pub node: Option<NodeName>,
    /// The ranges it concerns, as in "3, 7-9".
    pub ranges: String,
    /// What happened and why.
    pub text: String,
}

/// `MESH STEPDOWN [node]` and `MESH DROP node`: what the commander answered. A refusal is an error reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderDone {
    /// What was done, in lines.
    pub lines: Vec<String>,
}

/// `MESH VERIFY [range:N|slot:N]`: whether all holders hold the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// As of this dictionary version.
    pub version: u64,
    /// Whether nobody differs and everybody answered.
    pub well: bool,
    /// How many keys the heads have of these ranges.
    pub keys: u64,
    /// In the order of their numbers.
    pub ranges: Vec<RangeCompared>,
}

/// The copies of one range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeCompared {
    /// Which.
    pub range: u16,
    /// First and last slot, both included.
    pub slots: (u16, u16),
    /// In this epoch.
    pub epoch: u64,
    /// Whether nobody differs and everybody answered.
    pub well: bool,
    /// Head first.
    pub holders: Vec<HolderCompared>,
}

/// One copy of a range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HolderCompared {
    /// Its holder's id.
    pub id: String,
    /// Its holder's name.
    pub name: String,
    /// loading, serving or leaving.
    pub state: String,
    /// How it compares.
    pub compared: Compared,
    /// How many keys it has; none where it was not compared.
    pub keys: Option<u64>,
    /// A digest of its keys, their values and ends, in hexadecimal; of copies that change meanwhile it is made up of intervals
    /// at different instants, at each the same for all holders.
    pub digest: Option<String>,
}

/// How a copy compares with the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compared {
    /// With most others, at the same stamps.
    Same,
    /// Not with most others; of two, not with the head.
    Differs,
    /// Its holder did not answer.
    Silent,
    /// It could not be compared: another before or behind it did not answer, or they were never met at one stamp.
    Unsettled,
    /// It is being loaded, and not compared.
    Loading,
}
