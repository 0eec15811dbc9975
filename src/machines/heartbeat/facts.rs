//! What follows from a dictionary for signs of life and leases: who shares a chain with this node, and who heads them.

use std::collections::BTreeSet;

use crate::machines::dictionary::Dictionary;
use crate::types::{Incarnation, NodeId, Version};

/// A node in one life.
pub(super) type Life = (NodeId, Incarnation);

/// Read off a dictionary once, at its adoption; asked at every beacon.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// All who share a chain with this life of this node.
    pub neighbours: BTreeSet<NodeId>,
    /// The others who head a chain in which this life of this node is: to these it grants.
    pub heads: BTreeSet<Life>,
    /// Those of them whose chain with this node is new: what they were granted before does not cover it.
    pub fresh_heads: BTreeSet<Life>,
    /// Anywhere in the mesh, heads without another Serving member, of chains that are new: these wait for the commander.
    pub fresh_sole: BTreeSet<Life>,
    /// Former members, of chains whose Serving members are all dead: their copies may be the newest there are (G22).
    pub keepers: BTreeSet<Life>,
}

impl Facts {
    /// The facts of `dictionary` for one life of `me`; a chain is new if it changed after `known`.
    pub fn of(dictionary: &Dictionary, (me, incarnation): Life, known: Version) -> Self {
        let mut facts = Self::default();
        for (_, chain) in dictionary.ranges() {
            if chain.serving().all(|holder| dictionary.is_dead(holder.node, holder.incarnation)) {
                facts.keepers.extend(chain.former.iter().map(|former| (former.node, former.incarnation)));
            }
            let Some(head) = chain.head().map(|head| (head.node, head.incarnation)) else { continue };
            let fresh = chain.changed > known;
            if fresh && chain.serving().count() == 1 {
                facts.fresh_sole.insert(head);
            }
            if chain.holder(me, incarnation).is_none() {
                continue;
            }
            facts.neighbours.extend(chain.holders.iter().map(|holder| holder.node));
            if head.0 != me {
                facts.heads.insert(head);
                if fresh {
                    facts.fresh_heads.insert(head);
                }
            }
        }
        facts.neighbours.remove(&me);
        facts
    }
}
