//! The dictionary is complete: every range has a chain, of distinct nodes that are on the roster or known to be dead, with at most one of
//! them Loading, and that one last.

use std::collections::BTreeSet;

use super::{Checker, Fact};
use crate::machines::dictionary::Dictionary;
use crate::messages::ownership::{Chain, Holder};
use crate::sim::clock::Time;
use crate::types::Version;

/// Every range has a lawful chain, in every version.
#[derive(Debug, Default)]
pub struct Complete {
    checked: Version,
}

impl Checker for Complete {
    fn name(&self) -> &'static str {
        "complete"
    }

    fn observe(&mut self, _: Time, fact: &Fact<'_>) -> Result<(), String> {
        let Fact::Published { published, .. } = fact else { return Ok(()) };
        let dictionary = &published.dictionary;
        if dictionary.version <= self.checked {
            return Ok(());
        }
        self.checked = dictionary.version;
        look(dictionary).map_err(|what| format!("version {}: {what}", dictionary.version))
    }
}

fn look(dictionary: &Dictionary) -> Result<(), String> {
    if dictionary.chains.len() != dictionary.settings.ranges as usize {
        return Err(format!("{} chains for {} ranges", dictionary.chains.len(), dictionary.settings.ranges));
    }
    for (range, chain) in dictionary.ranges() {
        lawful(dictionary, chain).map_err(|what| format!("range {range}: {what} in {chain:?}"))?;
    }
    Ok(())
}

fn lawful(dictionary: &Dictionary, chain: &Chain) -> Result<(), String> {
    let nodes: BTreeSet<_> = chain.holders.iter().map(|holder| holder.node).collect();
    if chain.holders.is_empty() {
        return Err("nobody".into());
    }
    if nodes.len() != chain.holders.len() {
        return Err("one node twice".into());
    }
    // One that was removed is listed until its range is begun anew: it is known to be dead.
    let is_over =
        |holder: &Holder| dictionary.gone.get(&holder.node).is_some_and(|it| holder.incarnation <= it.incarnation);
    let known = |holder: &Holder| dictionary.roster.contains_key(&holder.node) || is_over(holder);
    if let Some(stranger) = chain.holders.iter().find(|holder| !known(holder)) {
        return Err(format!("{:?}, who is not on the roster,", stranger.node));
    }
    let loading = chain.holders.iter().position(|holder| !holder.state.serves());
    if loading.is_some_and(|place| place + 1 != chain.holders.len()) {
        return Err("one that loads before others".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::same_dictionary::tests::dictionary;
    use super::*;
    use crate::messages::ownership::HolderState;
    use crate::types::NodeId;

    #[test]
    fn unlawful_chains_are_found() {
        let broken: [fn(&mut Chain); 4] = [
            |chain| chain.holders.clear(),
            |chain| chain.holders.push(chain.holders[0]),
            |chain| chain.holders[0].node = NodeId(77),
            |chain| {
                let mut first = chain.holders[0];
                first.state = HolderState::Loading;
                first.node = NodeId(2);
                chain.holders.insert(0, first);
            },
        ];
        assert_eq!(look(&dictionary(2)), Ok(()));
        for breaking in broken {
            let mut dictionary = dictionary(2);
            breaking(std::sync::Arc::make_mut(&mut dictionary.chains[3]));
            assert!(look(&dictionary).unwrap_err().contains("range 3"));
        }
    }
}
