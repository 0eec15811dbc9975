//! The dictionary as it is written to the log's snapshots: small, because chains repeat themselves.
//!
//! Lives of nodes and causes are listed once and named by their place in the list, so that a chain takes some twenty
//! bytes, whatever it says. What follows from the chains (the counts) is not written.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::machines::dictionary::chains::well_formed;
use crate::machines::dictionary::{Counts, Dictionary, Gone};
use crate::messages::ownership::{Cause, Chain, Former, Holder, HolderState, Member, MeshSettings, Pause};
use crate::types::{Epoch, Generation, Incarnation, MeshId, NodeId, Version};

/// What is written in place of a [`Dictionary`].
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Form {
    mesh: MeshId,
    version: Version,
    settings: MeshSettings,
    roster: Vec<Member>,
    gone: Vec<(NodeId, Gone)>,
    lives: Vec<(NodeId, Incarnation)>,
    causes: Vec<Cause>,
    chains: Vec<Row>,
    #[serde(default)]
    paused: Option<Pause>,
}

/// A chain: epoch, generation, change, holders (life, state), former members (life, until), revived, cause.
#[derive(Clone, Serialize, Deserialize)]
struct Row(Epoch, Generation, Version, Vec<(u16, HolderState)>, Vec<(u16, Epoch)>, Option<NodeId>, u16);

impl From<Dictionary> for Form {
    fn from(dictionary: Dictionary) -> Self {
        let mut lives = Places::default();
        let mut causes: Vec<Cause> = Vec::new();
        let mut cause_place = |cause: &Cause| {
            // Neighbours often share their cause, and there are few at a time, so looking from the end finds it at once.
            let found = causes.iter().rposition(|known| known == cause);
            found.unwrap_or_else(|| {
                causes.push(cause.clone());
                causes.len() - 1
            }) as u16
        };
        let rows = dictionary.chains.iter().map(|chain| {
            let holders = chain.holders.iter().map(|h| (lives.place((h.node, h.incarnation)), h.state)).collect();
            let former = chain.former.iter().map(|f| (lives.place((f.node, f.incarnation)), f.until)).collect();
            let cause = cause_place(&chain.cause);
            Row(chain.epoch, chain.generation, chain.changed, holders, former, chain.revived, cause)
        });
        let chains = rows.collect();
        Self {
            mesh: dictionary.mesh,
            version: dictionary.version,
            settings: dictionary.settings,
            roster: dictionary.roster.into_values().collect(),
            gone: dictionary.gone.into_iter().collect(),
            lives: lives.list,
            causes,
            chains,
            paused: dictionary.paused,
        }
    }
}

impl TryFrom<Form> for Dictionary {
    type Error = String;

    fn try_from(form: Form) -> Result<Self, String> {
        if form.chains.len() != form.settings.ranges as usize {
            return Err(format!("{} chains for {} ranges", form.chains.len(), form.settings.ranges));
        }
        let chains: Vec<Arc<Chain>> =
            form.chains.iter().map(|row| form.chain(row).map(Arc::new)).collect::<Result<_, _>>()?;
        Ok(Self {
            mesh: form.mesh,
            version: form.version,
            settings: form.settings,
            roster: form.roster.into_iter().map(|member| (member.node.id, member)).collect(),
            counts: Counts::of(&chains),
            chains,
            paused: form.paused,
            gone: form.gone.into_iter().collect(),
        })
    }
}

impl Form {
    fn chain(&self, row: &Row) -> Result<Chain, String> {
        let Row(epoch, generation, changed, holders, former, revived, cause) = row;
        let life = |place: &u16| self.lives.get(*place as usize).copied().ok_or("a chain names an unknown life");
        let holder = |(place, state): &(u16, HolderState)| {
            life(place).map(|(node, incarnation)| Holder { node, incarnation, state: *state })
        };
        let copy = |(place, until): &(u16, Epoch)| {
            life(place).map(|(node, incarnation)| Former { node, incarnation, until: *until })
        };
        let holders: Vec<Holder> = holders.iter().map(holder).collect::<Result<_, _>>()?;
        well_formed(&holders)?;
        Ok(Chain {
            epoch: *epoch,
            generation: *generation,
            changed: *changed,
            holders,
            former: former.iter().map(copy).collect::<Result<_, _>>()?,
            revived: *revived,
            cause: self.causes.get(*cause as usize).cloned().ok_or("a chain names an unknown cause")?,
        })
    }
}

/// Lives in the order of their first mention.
#[derive(Default)]
struct Places {
    list: Vec<(NodeId, Incarnation)>,
    known: BTreeMap<(NodeId, Incarnation), u16>,
}

impl Places {
    fn place(&mut self, life: (NodeId, Incarnation)) -> u16 {
        *self.known.entry(life).or_insert_with(|| {
            self.list.push(life);
            (self.list.len() - 1) as u16
        })
    }
}
