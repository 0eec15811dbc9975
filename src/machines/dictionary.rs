//! The dictionary: which drones hold which range, and who is on the roster; changed by committed commands only.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::messages::ownership::{Chain, Member, MeshSettings};
use crate::types::{Incarnation, MeshId, NodeId, RangeId, Version};

/// The agreed state. Every node applies the same commands in the same order and so has the same one at each version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dictionary {
    /// Whose.
    pub mesh: MeshId,
    /// How often it has changed.
    pub version: Version,
    /// What all nodes agree on.
    pub settings: MeshSettings,
    /// The nodes.
    pub roster: BTreeMap<NodeId, Member>,
    /// Range by range.
    pub chains: Vec<Arc<Chain>>,
    /// Nodes that were removed, with the last incarnation known: never admitted again under the same id.
    pub gone: BTreeMap<NodeId, Incarnation>,
}

impl Dictionary {
    /// The chain of a range.
    pub fn chain(&self, range: RangeId) -> &Arc<Chain> {
        &self.chains[range.0 as usize]
    }

    /// All ranges with their chains.
    pub fn ranges(&self) -> impl Iterator<Item = (RangeId, &Arc<Chain>)> {
        self.chains.iter().enumerate().map(|(place, chain)| (RangeId(place as u16), chain))
    }
}
