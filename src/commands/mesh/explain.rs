//! `MESH EXPLAIN`: how a range or a node stands, and what led to it.

use std::collections::BTreeSet;

use super::View;
use super::describe::{self, NO_MESH, role, served_by, standing};
use crate::machines::dictionary::Dictionary;
use crate::machines::election::Published;
use crate::messages::events::{Event, EventKind};
use crate::messages::status::{EventStatus, Explanation};
use crate::types::{NodeId, RangeId, SLOTS, Slot};

/// So many of the newest events are told.
const TOLD: usize = 50;

enum Target {
    Range(RangeId),
    Node(NodeId),
}

/// Explains `range:N`, `slot:N`, `node:NAME`, a number (a slot) or a node's name.
///
/// # Errors
/// When there is no such thing, or before this node knows a dictionary.
pub fn explain(view: &View<'_>, what: &str) -> Result<Explanation, String> {
    let agreed = view.published.ok_or(NO_MESH)?;
    match target(view, &agreed.dictionary, what)? {
        Target::Range(range) => Ok(explain_range(view, agreed, range)),
        Target::Node(node) => Ok(explain_node(view, agreed, node)),
    }
}

/// The range that `range:N`, `slot:N` or a number (a slot) means.
///
/// # Errors
/// When it means something else, or before this node knows a dictionary.
pub(super) fn range(view: &View<'_>, what: &str) -> Result<RangeId, String> {
    let agreed = view.published.ok_or(NO_MESH)?;
    match target(view, &agreed.dictionary, what)? {
        Target::Range(range) => Ok(range),
        Target::Node(_) => Err(format!("ERR {what:?} is a node; range:N or slot:N is wanted")),
    }
}

fn target(view: &View<'_>, dictionary: &Dictionary, what: &str) -> Result<Target, String> {
    let total = dictionary.chains.len();
    let number = |text: &str, below: usize| {
        let number = text.parse().ok().filter(|number: &u16| usize::from(*number) < below);
        number.ok_or_else(|| format!("ERR {what:?}: a number from 0 to {} is wanted", below - 1))
    };
    let slots = usize::from(SLOTS);
    match what.split_once(':') {
        Some(("range", text)) => Ok(Target::Range(RangeId(number(text, total)?))),
        Some(("slot", text)) => Ok(Target::Range(Slot(number(text, slots)?).range(total))),
        Some(("node", name)) => describe::find_node(view, name).map(Target::Node),
        _ if what.bytes().all(|byte| byte.is_ascii_digit()) && !what.is_empty() => {
            Ok(Target::Range(Slot(number(what, slots)?).range(total)))
        }
        _ => describe::find_node(view, what).map(Target::Node),
    }
}

fn explain_range(view: &View<'_>, agreed: &Published, range: RangeId) -> Explanation {
    let dictionary = &agreed.dictionary;
    let chain = dictionary.chain(range);
    let (first, last) = range.slots(dictionary.chains.len());
    let mut now = vec![format!(
        "epoch {}, generation {}, changed by version {} of the dictionary, now {}",
        chain.epoch, chain.generation, chain.changed, dictionary.version
    )];
    for (place, holder) in chain.holders.iter().enumerate() {
        let part = if place == 0 && holder.state.serves() { "head" } else { "member" };
        let life = match dictionary.roster.get(&holder.node) {
            Some(member) if member.node.incarnation == holder.incarnation => standing(member.standing).to_owned(),
            Some(member) => format!("listed in life {}, lives in {}", holder.incarnation, member.node.incarnation),
            None => "not on the roster".to_owned(),
        };
        now.push(format!("{part} {}: {}, {life}", dictionary.name_of(holder.node), holder.state));
    }
    for former in &chain.former {
        now.push(format!(
            "former member {}, until epoch {}: may still have its copy, unread",
            dictionary.name_of(former.node),
            former.until
        ));
    }
    now.push(match served_by(dictionary, chain) {
        Some(member) => format!("served by {} ({})", member.node.name, member.node.addresses.client),
        None => "served by nobody; MESH STATUS says what is done about it".to_owned(),
    });
    now.push(format!("last change: {}", dictionary.words(&chain.cause)));
    // Beside its own story: while nobody commands nobody repairs it, and who was missed may have been a member.
    let members: BTreeSet<NodeId> =
        chain.holders.iter().map(|holder| holder.node).chain(chain.former.iter().map(|former| former.node)).collect();
    let concerns = |event: &Event| match event.kind {
        EventKind::CommanderElected | EventKind::CommanderLost => true,
        EventKind::NodeSuspect | EventKind::NodeUp => event.node.is_some_and(|node| members.contains(&node)),
        _ => event.ranges.contains(&range),
    };
    let events = view.chronicle.events().filter(|recorded| concerns(&recorded.event));
    let events = newest(events.map(|recorded| describe::event(view, recorded)).collect());
    Explanation { what: format!("range {range}, slots {first} to {last}"), now, events }
}

fn explain_node(view: &View<'_>, agreed: &Published, node: NodeId) -> Explanation {
    let status = describe::nodes(view).nodes.into_iter().find(|status| status.id == node.to_string());
    let mut now = Vec::new();
    let mut what = format!("node {node}");
    if let (Some(status), Some(member)) = (status, agreed.dictionary.roster.get(&node)) {
        what = format!("{} {} ({node})", role(member.node.role), status.name);
        let commands =
            if status.commander { format!("commands in term {}", agreed.term) } else { "does not command".into() };
        now.push(format!("{}, {commands}, seat in elections: {}", status.state, status.seat));
        now.push(format!(
            "heads {} ranges, holds {}, of which {} are loading",
            status.heads, status.holds, status.loading
        ));
        now.push(format!("in life {}, peer door {}, plain door {}", status.incarnation, status.peer, status.client));
        if let Some(dead) = member.dead {
            now.push(format!("lives up to {dead} are known to have ended"));
        }
    }
    if let Some(ails) = view.ailing.get(&node).filter(|ails| !ails.is_empty()) {
        now.push(format!("it says that this does not work: {}", ails.join("; ")));
    }
    let events = newest(view.chronicle.about_node(node).map(|recorded| describe::event(view, recorded)).collect());
    Explanation { what, now, events }
}

fn newest(mut events: Vec<EventStatus>) -> Vec<EventStatus> {
    events.drain(..events.len().saturating_sub(TOLD));
    events
}
