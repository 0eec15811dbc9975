//! Copies of one last write are equal, key by key and value by value, by digest: at any time among those who serve a range, so
//! that no stamp stands for two writes, and no write does two things. When nothing happens any more all who serve it have the
//! same last write, and all of it is clean.

use std::collections::BTreeMap;

use super::{Checker, Copied, Fact, View};
use crate::messages::ownership::Chain;
use crate::sim::clock::Time;
use crate::types::{Generation, Stamp};

/// Copies of one last write are equal, and when nothing happens any more all who serve a range have the same.
#[derive(Debug, Default)]
pub struct EqualCopies;

impl Checker for EqualCopies {
    fn name(&self) -> &'static str {
        "equal_copies"
    }

    fn observe(&mut self, _: Time, fact: &Fact<'_>) -> Result<(), String> {
        match fact {
            Fact::Sample(views) if views.iter().any(|view| !view.copies.is_empty()) => {
                forked(views).map_or(Ok(()), Err)
            }
            Fact::Quiet(views) => forked(views).or_else(|| unequal(views)).map_or(Ok(()), Err),
            _ => Ok(()),
        }
    }
}

/// A range of which two who serve it have the same last write and not the same keys and values, in words.
fn forked(views: &[View]) -> Option<String> {
    in_any_chain(views, |chain, copies| {
        let mut seen: BTreeMap<(Generation, Stamp), &Copied> = BTreeMap::new();
        chain.serving().find_map(|holder| {
            let copy = copies.iter().find(|copy| copy.node == holder.node && copy.life == holder.incarnation)?;
            let progress = copy.progress?;
            let first = seen.entry((progress.generation, progress.applied)).or_insert(copy);
            let (one, other) = (first.node, copy.node);
            (first.digest != copy.digest).then(|| format!("{one:?} and {other:?} fork at {}", progress.applied))
        })
    })
}

/// A range of which not all who serve it hold the same, in words; none if all copies are equal.
pub fn unequal(views: &[View]) -> Option<String> {
    in_any_chain(views, differing)
}

fn in_any_chain(views: &[View], wrong: impl Fn(&Chain, &[Copied]) -> Option<String>) -> Option<String> {
    let newest = views.iter().filter_map(|view| view.published.as_ref()).max_by_key(|it| it.dictionary.version)?;
    newest.dictionary.ranges().find_map(|(range, chain)| {
        let copies: Vec<Copied> = views.iter().map(|view| view.copy_of(range)).collect();
        wrong(chain, &copies).map(|what| format!("range {range}: {what}: {chain:?}, {copies:?}"))
    })
}

fn differing(chain: &Chain, copies: &[Copied]) -> Option<String> {
    let mut first: Option<&Copied> = None;
    for holder in chain.serving() {
        let found = copies.iter().find(|copy| copy.node == holder.node && copy.life == holder.incarnation);
        let Some((copy, progress)) = found.and_then(|copy| Some((copy, copy.progress?))) else {
            return Some(format!("{:?} serves it and has no copy", holder.node));
        };
        if progress.clean < progress.applied.sequence {
            return Some(format!("{:?} has dirty writes", holder.node));
        }
        let first = first.get_or_insert(copy);
        if first.progress.is_some_and(|it| it.applied != progress.applied) || first.digest != copy.digest {
            return Some(format!("{:?} and {:?} differ", first.node, copy.node));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::same_dictionary::tests::{dictionary, published};
    use super::*;
    use crate::machines::store::Progress;
    use crate::messages::ownership::{Holder, HolderState};
    use crate::types::{Epoch, Incarnation, NodeId, RangeId, Sequence};

    fn copy(node: u64, applied: u64, clean: u64, digest: u64) -> Copied {
        let progress = Progress {
            epoch: Epoch(1),
            generation: Generation(0),
            applied: Stamp { epoch: Epoch(1), sequence: Sequence(applied) },
            clean: Sequence(clean),
            backlog: 0,
        };
        Copied { node: NodeId(node), life: Incarnation(1), progress: Some(progress), digest: Some(digest) }
    }

    #[test]
    fn copies_that_differ_are_found() {
        let mut chain = Chain::clone(dictionary(2).chain(RangeId(0)));
        chain.holders.push(Holder { node: NodeId(2), incarnation: Incarnation(1), state: HolderState::Serving });
        let look = |first, second| differing(&chain, &[first, second]).unwrap_or_default();
        assert_eq!(look(copy(1, 5, 5, 77), copy(2, 5, 5, 77)), "");
        assert!(look(copy(1, 5, 5, 77), copy(2, 5, 5, 78)).contains("differ"));
        assert!(look(copy(1, 5, 5, 77), copy(2, 4, 4, 77)).contains("differ"));
        assert!(look(copy(1, 5, 4, 77), copy(2, 5, 5, 77)).contains("dirty"));
        assert!(look(copy(1, 5, 5, 77), Copied { progress: None, ..copy(2, 5, 5, 77) }).contains("no copy"));
    }

    #[test]
    fn one_stamp_with_two_contents_is_found_at_any_time() {
        let mut agreed = dictionary(2);
        let chain = std::sync::Arc::make_mut(&mut agreed.chains[0]);
        chain.holders.push(Holder { node: NodeId(2), incarnation: Incarnation(1), state: HolderState::Serving });
        let published = published(2, |it| it.dictionary = std::sync::Arc::new(agreed.clone()));
        let view = |copied: Copied| View {
            node: copied.node,
            life: copied.life,
            published: Some(published.clone()),
            answers: vec![],
            queues: vec![],
            copies: [(RangeId(0), (copied.progress.expect("some"), copied.digest.expect("some")))].into(),
        };
        let look = |first, second| EqualCopies.observe(Time(0), &Fact::Sample(&[view(first), view(second)]));
        // One is behind: nothing can be said yet.
        assert_eq!(look(copy(1, 5, 5, 77), copy(2, 4, 4, 78)), Ok(()));
        assert_eq!(look(copy(1, 5, 5, 77), copy(2, 5, 4, 77)), Ok(()));
        assert!(look(copy(1, 5, 5, 77), copy(2, 5, 5, 78)).unwrap_err().contains("fork at"));
    }
}
