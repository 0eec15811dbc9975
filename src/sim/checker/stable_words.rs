//! What a node promises is stable: when a vote, an acknowledgement or a word of a commander leaves it, its disk already knows
//! the term, the vote and the records, so that no later life of it takes them back.
//!
//! A commander may count others' disks in place of its own. One that is the only voter has no others: what it says is
//! committed is stable here.

use super::{Checker, Fact};
use crate::messages::election::{ElectionMessage, MessageKind, Recovered};
use crate::sim::clock::Time;

/// What a node promises is stable.
#[derive(Debug, Default)]
pub struct StableWords;

impl Checker for StableWords {
    fn name(&self) -> &'static str {
        "stable_words"
    }

    fn observe(&mut self, _: Time, fact: &Fact<'_>) -> Result<(), String> {
        let Fact::Said { node, message, stable, reached, alone } = fact else { return Ok(()) };
        lacking(message, stable, *reached, *alone).map_or(Ok(()), |lack| {
            let ElectionMessage { kind, term, index, commit, .. } = message;
            Err(format!(
                "{node:?} says {kind:?} in term {term} of record {index}, commit {commit}, but its disk knows {lack}"
            ))
        })
    }
}

/// What of a promise the disk of its giver does not know.
fn lacking(message: &ElectionMessage, stable: &Recovered, reached: u64, alone: bool) -> Option<String> {
    use MessageKind::{Append, AppendResponse, Heartbeat, RequestVote, RequestVoteResponse};
    let grants = matches!(message.kind, AppendResponse | RequestVoteResponse) && !message.reject;
    let leads = matches!(message.kind, Append | Heartbeat);
    if !grants && !leads && message.kind != RequestVote {
        return None;
    }
    // One sync may take in an acknowledged record and what a later term put in its place; the word of the older term then
    // leaves late, as if the network had kept it: it was true before the node heard of the later one.
    let last = if stable.hard.term > message.term { reached } else { stable.last() };
    if stable.hard.term < message.term {
        return Some(format!("term {}", stable.hard.term));
    }
    if message.kind == RequestVoteResponse && stable.hard.term == message.term && stable.hard.vote.is_none() {
        return Some("no vote".into());
    }
    let promised = match message.kind {
        AppendResponse => message.index,
        Append | Heartbeat if alone => message.commit,
        _ => 0,
    };
    (last < promised).then(|| format!("records up to {last}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::election::{Entry, HardState, Payload};
    use crate::types::{NodeId, Term};

    fn message(kind: MessageKind, term: u64, index: u64, commit: u64) -> ElectionMessage {
        ElectionMessage {
            kind,
            term: Term(term),
            log_term: 0,
            index,
            entries: Vec::new(),
            commit,
            commit_term: 0,
            snapshot: None,
            reject: false,
            reject_hint: 0,
            context: Vec::new(),
            priority: 0,
        }
    }

    #[test]
    fn a_promise_that_is_not_stable_is_found() {
        let entries = (1..=4).map(|index| Entry { index, term: Term(2), payload: Payload::Empty }).collect();
        let hard = HardState { term: Term(5), vote: None, commit: 4 };
        let stable = Recovered { hard, snapshot: None, entries };
        let said = |kind, term, index, commit, alone| {
            let message = message(kind, term, index, commit);
            let fact = Fact::Said { node: NodeId(1), message: &message, stable: &stable, reached: 6, alone };
            StableWords.observe(Time(0), &fact)
        };
        assert_eq!(said(MessageKind::AppendResponse, 5, 4, 0, false), Ok(()));
        assert!(said(MessageKind::AppendResponse, 5, 5, 0, false).unwrap_err().contains("records up to 4"));
        // Of an older term that counts which its disk held then.
        assert_eq!(said(MessageKind::AppendResponse, 4, 6, 0, false), Ok(()));
        assert!(said(MessageKind::AppendResponse, 4, 7, 0, false).unwrap_err().contains("records up to 6"));
        assert!(said(MessageKind::RequestVoteResponse, 5, 0, 0, false).unwrap_err().contains("no vote"));
        assert!(said(MessageKind::RequestVote, 6, 0, 0, false).unwrap_err().contains("term 5"));
        assert_eq!(said(MessageKind::Append, 5, 4, 9, false), Ok(()));
        assert!(said(MessageKind::Append, 5, 4, 9, true).unwrap_err().contains("records up to 4"));
    }
}
