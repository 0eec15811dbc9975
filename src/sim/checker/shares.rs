//! When nothing happens any more, each drone heads its share of the ranges: within a twentieth of it, or one range.

use std::collections::BTreeMap;

use super::{Checker, Fact};
use crate::machines::dictionary::Dictionary;
use crate::messages::ownership::{Role, Standing};
use crate::sim::clock::Time;
use crate::types::NodeId;

/// When nothing happens any more, each drone heads its share.
#[derive(Debug, Default)]
pub struct Shares;

impl Checker for Shares {
    fn name(&self) -> &'static str {
        "shares"
    }

    fn observe(&mut self, _: Time, fact: &Fact<'_>) -> Result<(), String> {
        let Fact::Quiet(views) = fact else { return Ok(()) };
        let newest = views.iter().filter_map(|view| view.published.as_ref()).max_by_key(|it| it.dictionary.version);
        newest.and_then(|newest| uneven(&newest.dictionary)).map_or(Ok(()), Err)
    }
}

/// Who heads more or less than its share, in words; none if all is even.
pub fn uneven(dictionary: &Dictionary) -> Option<String> {
    let weights: BTreeMap<NodeId, f64> = dictionary
        .roster
        .iter()
        .filter(|(_, member)| member.node.role == Role::Drone && member.standing == Standing::Up)
        .map(|(id, member)| (*id, f64::from(member.weight())))
        .collect();
    let total: f64 = weights.values().sum();
    let mut heads: BTreeMap<NodeId, usize> = BTreeMap::new();
    for head in dictionary.ranges().filter_map(|(_, chain)| chain.head()) {
        *heads.entry(head.node).or_default() += 1;
    }
    weights.iter().find_map(|(node, weight)| {
        let share = weight / total * dictionary.chains.len() as f64;
        let held = heads.get(node).copied().unwrap_or(0) as f64;
        let slack = (share * 0.05).max(1.0);
        ((held - share).abs() > slack).then(|| {
            format!("{node:?} heads {held} ranges, its share is {share:.1}: weights {weights:?}, heads {heads:?}")
        })
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::same_dictionary::tests::dictionary;
    use super::*;

    #[test]
    fn an_uneven_mesh_is_found() {
        let mut uneven_one = dictionary(2);
        assert!(uneven(&uneven_one).unwrap().contains("share is 8.0"));
        for chain in uneven_one.chains.iter_mut().step_by(2) {
            Arc::make_mut(chain).holders[0].node = NodeId(2);
        }
        assert_eq!(uneven(&uneven_one), None);
    }
}
