//! Queues are bounded: nothing in a node or between two grows with the length of an outage.

use super::{Checker, Fact};
use crate::sim::clock::Time;

/// Queues are bounded.
#[derive(Debug, Default)]
pub struct Bounded;

impl Checker for Bounded {
    fn name(&self) -> &'static str {
        "bounded"
    }

    fn observe(&mut self, _: Time, fact: &Fact<'_>) -> Result<(), String> {
        let Fact::Sample(views) = fact else { return Ok(()) };
        for view in *views {
            if let Some((what, length, most)) = view.queues.iter().find(|(_, length, most)| length > most) {
                return Err(format!("{:?} has {length} {what}, and may have {most}", view.node));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::View;
    use super::*;
    use crate::types::{Incarnation, NodeId};

    #[test]
    fn a_queue_that_grew_is_found() {
        let view = |length| View {
            node: NodeId(1),
            life: Incarnation(1),
            published: None,
            answers: vec![],
            queues: vec![("commands parked", length, 8)],
            copies: Default::default(),
        };
        assert!(Bounded.observe(Time(0), &Fact::Sample(&[view(8)])).is_ok());
        assert!(Bounded.observe(Time(0), &Fact::Sample(&[view(9)])).is_err());
    }
}
