//! How the log writes changes of chains: each cause once, though many ranges change for the same.
//!
//! When a drone is lost, all its ranges change for one reason, told in a sentence. Written with each it would be most of what
//! every node receives of a repair.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::messages::ownership::{Cause, Holder, SetChain};
use crate::types::{Epoch, RangeId};

/// A change with the place of its cause among the causes.
type Line<H> = (RangeId, Epoch, H, bool, usize);

/// There are no more ranges (`mesh.ranges`).
const MOST_LINES: usize = 1 << 14;

/// Evidence is kept short where it is made.
const LONGEST_CAUSE: usize = 1024;

/// Bytes of a cause that are its own.
fn weight(cause: &Cause) -> usize {
    match cause {
        Cause::Lost { evidence, .. } => evidence.len(),
        Cause::BegunAnew { lost, .. } => size_of_val(&lost[..]),
        _ => 0,
    }
}

/// For `#[serde(with)]`.
pub fn serialize<S: Serializer>(changes: &[SetChain], serializer: S) -> Result<S::Ok, S::Error> {
    let mut causes: Vec<&Cause> = Vec::new();
    let mut lines: Vec<Line<&[Holder]>> = Vec::with_capacity(changes.len());
    for change in changes {
        let place = causes.iter().rposition(|cause| **cause == change.cause).unwrap_or_else(|| {
            causes.push(&change.cause);
            causes.len() - 1
        });
        lines.push((change.range, change.expected, &change.holders, change.anew, place));
    }
    (causes, lines).serialize(serializer)
}

/// For `#[serde(with)]`.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SetChain>, D::Error> {
    let (causes, lines): (Vec<Cause>, Vec<Line<Vec<Holder>>>) = Deserialize::deserialize(deserializer)?;
    // Each line gets a cause of its own, so what is read is bounded by both, not by the bytes alone.
    if lines.len() > MOST_LINES || causes.iter().any(|cause| weight(cause) > LONGEST_CAUSE) {
        return Err(D::Error::custom("more changes than there are ranges, or a cause that is too long"));
    }
    let change = |(range, expected, holders, anew, place): Line<Vec<Holder>>| {
        let cause = causes.get(place).cloned().ok_or_else(|| D::Error::custom("a change without its cause"))?;
        Ok(SetChain { range, expected, holders, anew, cause })
    };
    lines.into_iter().map(change).collect()
}
