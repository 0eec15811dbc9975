//! The agreed log is the same everywhere: nodes that know the same version of the dictionary know the same dictionary.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Checker, Fact};
use crate::machines::dictionary::Dictionary;
use crate::sim::clock::Time;
use crate::types::{NodeId, Version};

/// How many versions are remembered: nodes that are further apart than this are not compared.
const REMEMBERED: usize = 4096;

/// Nodes that know the same version know the same dictionary.
#[derive(Debug, Default)]
pub struct SameDictionary {
    first: BTreeMap<Version, (NodeId, Arc<Dictionary>)>,
}

impl Checker for SameDictionary {
    fn name(&self) -> &'static str {
        "same_dictionary"
    }

    fn observe(&mut self, _: Time, fact: &Fact<'_>) -> Result<(), String> {
        let Fact::Published { node, published, .. } = fact else { return Ok(()) };
        let new = &published.dictionary;
        let (first, known) = self.first.entry(new.version).or_insert_with(|| (*node, new.clone()));
        if !Arc::ptr_eq(known, new) && known != new {
            return Err(format!("{first:?} and {node:?} know different dictionaries of version {}", new.version));
        }
        if self.first.len() > REMEMBERED {
            self.first.pop_first();
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::machines::election::Published;
    use crate::messages::ownership::{Addresses, Candidate, Command, MeshSettings, Role, Standing};
    use crate::types::{Epoch, Incarnation, MeshId};

    /// A mesh of some drones in which the first holds all of 16 ranges.
    pub(in crate::sim::checker) fn dictionary(nodes: u64) -> Dictionary {
        let candidate = |id: u64| Candidate {
            id: NodeId(id),
            incarnation: Incarnation(1),
            name: format!("n{id}"),
            addresses: Addresses { peer: format!("n{id}:16234"), ..Addresses::default() },
            zone: String::new(),
            weight: 100,
            role: Role::Drone,
        };
        let settings = MeshSettings { ranges: 16, ..MeshSettings::default() };
        let mut dictionary = Dictionary::found(MeshId(1), settings, candidate(1));
        for id in 2..=nodes {
            dictionary.apply(&Command::Admit(candidate(id)));
            let evidence = String::new();
            let (node, incarnation, standing) = (NodeId(id), Incarnation(1), Standing::Up);
            dictionary.apply(&Command::Stand { node, incarnation, standing, evidence });
        }
        dictionary.version = Version(1);
        dictionary
    }

    /// What a node of such a mesh publishes.
    pub(in crate::sim::checker) fn published(nodes: u64, change: impl FnOnce(&mut Published)) -> Arc<Published> {
        let mut published = Published {
            dictionary: Arc::new(dictionary(nodes)),
            term: Default::default(),
            commander: None,
            commanding: false,
            seats: Default::default(),
        };
        change(&mut published);
        Arc::new(published)
    }

    #[test]
    fn two_dictionaries_of_one_version_are_found() {
        let mut checker = SameDictionary::default();
        let mut tell = |node, published: &Arc<Published>| {
            checker.observe(Time(0), &Fact::Published { node: NodeId(node), life: Incarnation(1), published })
        };
        let other = published(1, |published| {
            Arc::make_mut(&mut Arc::make_mut(&mut published.dictionary).chains[5]).epoch = Epoch(2);
        });
        assert!(tell(1, &published(1, |_| ())).is_ok());
        assert!(tell(2, &published(1, |_| ())).is_ok());
        assert!(tell(3, &other).unwrap_err().contains("version 1"));
    }
}
