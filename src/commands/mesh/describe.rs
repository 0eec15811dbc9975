//! The roster and the chains in the words of `messages::status`.

use std::collections::BTreeMap;

use super::View;
use crate::machines::chronicle::Recorded;
use crate::machines::dictionary::Dictionary;
use crate::machines::election::Published;
use crate::messages::election::Seats;
use crate::messages::ownership::{Chain, HolderState, Member, Role, Standing};
use crate::messages::status::{
    Commander, EventStatus, Head, HolderStatus, Location, Map, NodeCounts, NodeName, NodeStatus, Nodes, RangeCounts,
    Run,
};
use crate::types::{NodeId, RangeId, Slot};

/// Before a node knows a dictionary there is nothing to tell.
pub(super) const NO_MESH: &str = "NOMESH this node belongs to no mesh yet; MESH STATUS says what it waits for";

/// The member that serves a range: listed as head in its present life, and heard by the commander.
pub(super) fn served_by<'a>(dictionary: &'a Dictionary, chain: &Chain) -> Option<&'a Member> {
    let head = chain.head()?;
    let member = dictionary.roster.get(&head.node)?;
    (member.serves() && !dictionary.is_dead(head.node, head.incarnation)).then_some(member)
}

/// This node's id and name.
pub(super) fn me(view: &View<'_>) -> NodeName {
    let listed = view.published.and_then(|agreed| agreed.dictionary.roster.get(&view.me.id));
    let name = listed.map_or(&view.me.name, |member| &member.node.name);
    NodeName { id: view.me.id.to_string(), name: name.clone() }
}

/// This node's state, in the words of docs/protocol.md.
pub(super) fn own_state(view: &View<'_>) -> &'static str {
    let Some(agreed) = view.published else { return "joining" };
    match agreed.dictionary.roster.get(&view.me.id) {
        Some(member) => standing(member.standing),
        None if agreed.dictionary.gone.contains_key(&view.me.id) => "gone",
        None => "joining",
    }
}

pub(super) fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Joining => "joining",
        Standing::Up => "up",
        Standing::Suspect => "suspect",
        Standing::Draining => "draining",
    }
}

pub(super) fn node_name(dictionary: &Dictionary, node: NodeId) -> NodeName {
    NodeName { id: node.to_string(), name: dictionary.name_of(node) }
}

/// The commander with its door, while the roster lists it.
pub(super) fn commander(agreed: &Published) -> Option<Commander> {
    let member = agreed.dictionary.roster.get(&agreed.commander?)?;
    Some(Commander {
        id: member.node.id.to_string(),
        name: member.node.name.clone(),
        client: member.node.addresses.client.clone(),
    })
}

pub(super) fn count_nodes(agreed: &Published) -> NodeCounts {
    let roster = &agreed.dictionary.roster;
    NodeCounts {
        roster: roster.len(),
        up: roster.values().filter(|member| member.standing == Standing::Up).count(),
        drones: roster.values().filter(|member| member.node.role == Role::Drone).count(),
        voters: agreed.seats.voters.len(),
        learners: agreed.seats.learners.len(),
    }
}

pub(super) fn count_ranges(dictionary: &Dictionary) -> RangeCounts {
    let (total, unserved) = (dictionary.chains.len(), dictionary.unserved());
    let mut counts = RangeCounts { total, unserved, served: total - unserved, ..RangeCounts::default() };
    for (_, chain) in dictionary.ranges() {
        counts.loading += usize::from(has(chain, HolderState::Loading));
        counts.leaving += usize::from(has(chain, HolderState::Leaving));
    }
    counts
}

pub(super) fn has(chain: &Chain, state: HolderState) -> bool {
    chain.holders.iter().any(|holder| holder.state == state)
}

/// `MESH NODES`. A node without a dictionary lists itself alone.
pub fn nodes(view: &View<'_>) -> Nodes {
    let Some(agreed) = view.published else {
        let me = Member::new(0, view.me.clone(), Standing::Joining);
        return Nodes { version: 0, nodes: vec![node_status(view, &me, Share::default(), &Seats::default(), false)] };
    };
    let shares = shares(&agreed.dictionary);
    let mut nodes: Vec<NodeStatus> = agreed
        .dictionary
        .roster
        .values()
        .map(|member| {
            let id = member.node.id;
            let share = shares.get(&id).copied().unwrap_or_default();
            node_status(view, member, share, &agreed.seats, agreed.commander == Some(id))
        })
        .collect();
    nodes.sort_by(|a, b| (natural(&a.name), &a.id).cmp(&(natural(&b.name), &b.id)));
    Nodes { version: agreed.dictionary.version.0, nodes }
}

/// Names with a number at the end in the order of the numbers.
fn natural(name: &str) -> (&str, u64) {
    let text = name.trim_end_matches(|letter: char| letter.is_ascii_digit());
    (text, name[text.len()..].parse().unwrap_or_default())
}

#[derive(Clone, Copy, Default)]
struct Share {
    heads: usize,
    holds: usize,
    loading: usize,
}

fn shares(dictionary: &Dictionary) -> BTreeMap<NodeId, Share> {
    let mut shares: BTreeMap<NodeId, Share> = BTreeMap::new();
    for (_, chain) in dictionary.ranges() {
        if let Some(head) = chain.head() {
            shares.entry(head.node).or_default().heads += 1;
        }
        for holder in &chain.holders {
            let share = shares.entry(holder.node).or_default();
            share.holds += 1;
            share.loading += usize::from(holder.state == HolderState::Loading);
        }
    }
    shares
}

fn node_status(view: &View<'_>, member: &Member, share: Share, seats: &Seats, commander: bool) -> NodeStatus {
    let node = &member.node;
    let seat = if seats.votes(node.id) {
        "voter"
    } else if seats.learners.contains(&node.id) {
        "learner"
    } else {
        "none"
    };
    NodeStatus {
        id: node.id.to_string(),
        name: node.name.clone(),
        role: role(node.role).to_owned(),
        state: standing(member.standing).to_owned(),
        commander,
        seat: seat.to_owned(),
        incarnation: node.incarnation.0,
        heads: share.heads,
        holds: share.holds,
        loading: share.loading,
        weight: member.weight(),
        zone: member.zone().to_owned(),
        client: node.addresses.client.clone(),
        cluster: node.addresses.cluster.clone(),
        console: node.addresses.console.clone(),
        peer: node.addresses.peer.clone(),
        me: node.id == view.me.id,
    }
}

pub(super) fn role(role: Role) -> &'static str {
    match role {
        Role::Drone => "drone",
        Role::Witness => "witness",
    }
}

/// `MESH MAP`.
///
/// # Errors
/// Before this node knows a dictionary.
pub fn map(view: &View<'_>) -> Result<Map, String> {
    let dictionary = &view.published.ok_or(NO_MESH)?.dictionary;
    let total = dictionary.chains.len();
    let mut runs: Vec<Run> = Vec::new();
    for (range, chain) in dictionary.ranges() {
        let (first, last) = range.slots(total);
        let (holders, served) = (holders(dictionary, chain), served_by(dictionary, chain).is_some());
        match runs.last_mut() {
            Some(run) if run.holders == holders && run.served == served => {
                run.slots.1 = last.0;
                run.ranges.1 = range.0;
            }
            _ => runs.push(Run { slots: (first.0, last.0), ranges: (range.0, range.0), served, holders }),
        }
    }
    Ok(Map { version: dictionary.version.0, ranges: total, runs })
}

/// `MESH LOCATE`.
///
/// # Errors
/// Before this node knows a dictionary.
pub fn locate(view: &View<'_>, key: &[u8]) -> Result<Location, String> {
    let dictionary = &view.published.ok_or(NO_MESH)?.dictionary;
    let slot = Slot::of_key(key);
    let range = slot.range(dictionary.chains.len());
    let chain = dictionary.chain(range);
    let head = chain.head().and_then(|head| dictionary.roster.get(&head.node)).map(|member| Head {
        id: member.node.id.to_string(),
        name: member.node.name.clone(),
        client: member.node.addresses.client.clone(),
        cluster: member.node.addresses.cluster.clone(),
    });
    Ok(Location {
        key: String::from_utf8_lossy(key).into_owned(),
        slot: slot.0,
        range: range.0,
        epoch: chain.epoch.0,
        generation: chain.generation.0,
        served: served_by(dictionary, chain).is_some(),
        head,
        holders: holders(dictionary, chain),
    })
}

fn holders(dictionary: &Dictionary, chain: &Chain) -> Vec<HolderStatus> {
    let status = |holder: &crate::messages::ownership::Holder| HolderStatus {
        id: holder.node.to_string(),
        name: dictionary.name_of(holder.node),
        state: holder.state.to_string(),
    };
    chain.holders.iter().map(status).collect()
}

pub(super) fn event(view: &View<'_>, recorded: &Recorded) -> EventStatus {
    let event = &recorded.event;
    let name = |node| match view.published {
        Some(agreed) => node_name(&agreed.dictionary, node),
        None => NodeName { id: node.to_string(), name: node.to_string() },
    };
    EventStatus {
        number: recorded.number,
        wall_ms: recorded.wall_ms,
        kind: format!("{:?}", event.kind),
        term: event.term.0,
        version: event.version.0,
        node: event.node.map(name),
        ranges: runs(event.ranges.iter().copied()),
        text: event.text.clone(),
    }
}

/// Numbers of ranges, neighbours drawn together: "3, 7-9".
pub(super) fn runs(ranges: impl IntoIterator<Item = RangeId>) -> String {
    let mut runs: Vec<(u16, u16)> = Vec::new();
    for range in ranges {
        match runs.last_mut() {
            Some((_, last)) if u32::from(*last) + 1 == u32::from(range.0) => *last = range.0,
            _ => runs.push((range.0, range.0)),
        }
    }
    let shown = |(first, last): &(u16, u16)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    runs.iter().map(shown).collect::<Vec<_>>().join(", ")
}

/// The node of a name or an id; an id may be shortened as long as it is clear.
pub(super) fn find_node(view: &View<'_>, text: &str) -> Result<NodeId, String> {
    let roster = &view.published.ok_or(NO_MESH)?.dictionary.roster;
    let named: Vec<NodeId> =
        roster.values().filter(|member| member.node.name == text).map(|member| member.node.id).collect();
    if let [node] = named[..] {
        return Ok(node);
    }
    let begins = |node: &&NodeId| text.len() >= 4 && node.to_string().starts_with(&text.to_ascii_lowercase());
    let by_id: Vec<NodeId> = roster.keys().filter(begins).copied().collect();
    match by_id[..] {
        [node] => Ok(node),
        [] if named.is_empty() => Err(format!("ERR no node on the roster is called {text:?}; MESH NODES lists all")),
        _ => Err(format!("ERR {text:?} names several nodes; say which by its id")),
    }
}
