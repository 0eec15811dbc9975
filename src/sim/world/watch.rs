//! What somebody waits for to happen, so that all stands still right after it: a node says or hears something, or asks for a
//! change as commander.

use super::World;
use crate::messages::chain::ChainMessage;
use crate::messages::ownership::{Command, OwnershipMessage};
use crate::messages::peer::PeerMessage;
use crate::sim::network::Host;
use crate::sim::trace::first_word;
use crate::types::{NodeId, RangeId};

/// What a node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// It has said it: the network has it.
    Says,
    /// It has heard it, and done what follows.
    Hears,
    /// It has asked for it, as commander.
    Proposes,
}

/// Something that is waited for.
#[derive(Clone, Debug)]
pub struct Watch {
    by: String,
    deed: Deed,
    word: String,
    with: Option<String>,
    range: Option<RangeId>,
    seen: bool,
}

impl Watch {
    /// A node, by name, does something, in a word; to or from this one, and about this range, if it matters.
    pub fn new(by: String, deed: Deed, word: String, with: Option<String>, range: Option<RangeId>) -> Self {
        Self { by, deed, word, with, range, seen: false }
    }

    fn is_about(&self, word: &str, range: Option<RangeId>) -> bool {
        self.word.eq_ignore_ascii_case(word) && self.range.is_none_or(|wanted| range == Some(wanted))
    }
}

impl World {
    /// From now on this is looked out for.
    pub fn watch(&mut self, watch: Option<Watch>) {
        self.watched = watch;
    }

    /// Whether what is looked out for has happened.
    pub fn has_seen(&self) -> bool {
        self.watched.as_ref().is_some_and(|watch| watch.seen)
    }

    pub(super) fn watch_message(&mut self, deed: Deed, (host, with): (Host, NodeId), message: &PeerMessage) {
        let Some(watch) = self.watched_by(host, deed) else { return };
        let is_with = watch.with.as_ref().is_none_or(|name| *name == self.name(with));
        let (word, range) = word_of(message);
        if is_with && watch.is_about(&word, range) {
            self.see();
        }
    }

    pub(super) fn on_proposed(&mut self, host: Host, command: &Command) {
        let Some(watch) = self.watched_by(host, Deed::Proposes) else { return };
        let is_meant = match command {
            Command::SetChains(changes) => {
                changes.iter().any(|change| watch.is_about(&first_word(&change.cause), Some(change.range)))
            }
            command => watch.is_about(&first_word(command), None),
        };
        if is_meant {
            self.see();
        }
    }

    fn watched_by(&self, host: Host, deed: Deed) -> Option<&Watch> {
        let me = self.places[host.0].node.as_ref()?.me().0;
        self.watched.as_ref().filter(|watch| watch.deed == deed && watch.by == self.name(me))
    }

    fn see(&mut self) {
        self.watched.iter_mut().for_each(|watch| watch.seen = true);
    }
}

/// What a message is called, and the range it is about.
fn word_of(message: &PeerMessage) -> (String, Option<RangeId>) {
    match message {
        PeerMessage::Election(message) => (first_word(&message.kind), None),
        PeerMessage::Heartbeat(message) => (first_word(message), None),
        PeerMessage::Ownership(message) => {
            let range = match message {
                OwnershipMessage::CaughtUp { range, .. }
                | OwnershipMessage::Parked { range, .. }
                | OwnershipMessage::Park { range, .. } => Some(*range),
                _ => None,
            };
            (first_word(message), range)
        }
        PeerMessage::Chain(frame) => match &frame.message {
            // Said when nothing is to be forwarded.
            ChainMessage::Forward { writes, .. } if writes.is_empty() => ("comparison".into(), Some(frame.range)),
            message => (first_word(message), Some(frame.range)),
        },
        PeerMessage::Relay(message) => (first_word(message), None),
    }
}
