//! `MESH ...`: what operators ask and order, at any node, by the door that clients use.
//!
//! Questions are answered from what the asked node knows to be agreed, at once and without asking anybody: of two nodes that
//! disagree the one with the higher version is right. Answers are JSON (`messages::status`). Orders go to the ownership
//! machine, which brings them to the commander. Everything here is a pure function of a [`View`]; who keeps the parts of a view
//! and who waits for a watcher's next event is the postman's affair.

mod describe;
mod explain;
mod problems;
mod table;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;

use crate::machines::chronicle::Chronicle;
use crate::machines::election::Published;
use crate::machines::heartbeat::Leases;
use crate::messages::client::Reply;
use crate::messages::heartbeat::Progress;
use crate::messages::ownership::{Candidate, Order};
use crate::messages::status::{Status, Verification, Watched};
use crate::types::{NodeId, Now, RangeId};

pub use describe::{locate, map, nodes};
pub use explain::explain;
pub(super) use table::COMMANDS;

/// How long a `MESH WATCH` may be held until something happens.
pub const WATCH_PATIENCE: Duration = Duration::from_secs(1);

/// What a node knows, as far as operators ask about it.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// This instant.
    pub now: Now,
    /// This node as it presents itself.
    pub me: &'a Candidate,
    /// What is agreed; none before this node knows a dictionary.
    pub published: Option<&'a Published>,
    /// The leases it holds, if it keeps them.
    pub leases: Option<&'a Leases>,
    /// What does not work, by node, as far as it has heard.
    pub ailing: &'a BTreeMap<NodeId, Vec<String>>,
    /// How far the moves of ranges have come, as far as it has heard.
    pub progress: Option<Progress>,
    /// Where it asks to be admitted while it belongs to no mesh.
    pub asking: &'a [String],
    /// What has happened.
    pub chronicle: &'a Chronicle,
}

/// What is to be done about a `MESH` command.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Say this.
    Reply(Reply),
    /// Bring this to the ownership machine (`Input::Order`), and say [`ordered`] of its answer.
    Order(Order),
    /// Ask the ownership machine (`Input::Verify`) how the copies of this range, or of all, compare, and say [`verified`] of
    /// its answer.
    Verify(Option<RangeId>),
    /// Nothing has happened after this number: say [`watched`] once something has, or after [`WATCH_PATIENCE`].
    Watch {
        /// The number.
        after: u64,
    },
}

const HELP: &[&str] = &[
    "MESH <subcommand> [<arg> ...]. Subcommands are:",
    "STATUS",
    "    How the mesh is: what is wrong, and what it does about it.",
    "NODES",
    "    The roster: roles, states, shares, addresses.",
    "MAP",
    "    Which node holds which slots, and in which state.",
    "LOCATE <key>",
    "    Slot, range and holders of a key.",
    "EXPLAIN <range:N|slot:N|node:NAME|N|NAME>",
    "    How a range or a node stands, and what led to it. A number alone is a slot.",
    "VERIFY [<range:N|slot:N>]",
    "    Whether all holders of a range, or of each, hold the same. Clients go on meanwhile.",
    "STEPDOWN [<node>]",
    "    The commander hands over, to this voter or the best one.",
    "DROP <node>",
    "    The process of this node has ended for good: off the roster at once.",
    "DRAIN <node> [DRYRUN]",
    "    This node gives away all it holds, then leaves. DRYRUN: which moves that would be.",
    "ABORT <node>",
    "    A node that drains stays after all.",
    "REBALANCE [DRYRUN]",
    "    Moves that wait for something are tried at once; they are listed. DRYRUN: they are listed alone.",
    "PROMOTE <node>",
    "    This node votes, if need be instead of another.",
    "DEMOTE <node>",
    "    This node does not vote.",
    "WEIGHT <node> <number|own>",
    "    This node takes such a share of the data, whatever its settings say; own: what they say.",
    "ZONE <node> <name|none|own>",
    "    This node is in this zone, whatever its settings say; own: where they say.",
    "PAUSE",
    "    Clients' writes wait, in the whole mesh; reads go on.",
    "RESUME",
    "    Clients' writes go on.",
    "WATCH [<after>]",
    "    What has happened after this number; waits up to a second for something to happen.",
    "Nodes are named by their names or their ids. Answers are JSON.",
];

/// Hears a command: `words` are all of it, MESH first.
pub fn answer(view: &View<'_>, words: &[Bytes]) -> Answer {
    let name = words.get(1).map(|word| word.to_ascii_uppercase()).unwrap_or_default();
    let arguments = words.get(2..).unwrap_or_default();
    match (&name[..], arguments) {
        (b"STATUS", []) => json(&status(view)),
        (b"NODES", []) => json(&nodes(view)),
        (b"MAP", []) => or_refusal(map(view)),
        (b"LOCATE", [key]) => or_refusal(locate(view, key)),
        (b"EXPLAIN", [what]) => or_refusal(text(what).and_then(|what| explain(view, what))),
        (b"VERIFY", []) => match view.published {
            Some(_) => Answer::Verify(None),
            None => refusal(describe::NO_MESH),
        },
        (b"VERIFY", [what]) => match text(what).and_then(|what| explain::range(view, what)) {
            Ok(range) => Answer::Verify(Some(range)),
            Err(why) => refusal(&why),
        },
        (b"STEPDOWN", []) => Answer::Order(Order::StepDown { to: None }),
        (b"STEPDOWN", [node]) => order(view, node, |node| Order::StepDown { to: Some(node) }),
        (b"DROP", [node]) => order(view, node, |node| Order::Drop { node }),
        (b"DRAIN", [node]) => order(view, node, |node| Order::Drain { node }),
        (b"DRAIN", [node, word]) if is_dry_run(word) => order(view, node, |node| Order::Preview { drain: Some(node) }),
        (b"ABORT", [node]) => order(view, node, |node| Order::Abort { node }),
        (b"PROMOTE", [node]) => order(view, node, |node| Order::Promote { node }),
        (b"WEIGHT", [node, said]) => match weight(said) {
            Ok(weight) => order(view, node, |node| Order::Weigh { node, weight }),
            Err(why) => refusal(&why),
        },
        (b"ZONE", [node, said]) => match text(said).map(zone) {
            Ok(zone) => order(view, node, |node| Order::Zone { node, zone }),
            Err(why) => refusal(&why),
        },
        (b"DEMOTE", [node]) => order(view, node, |node| Order::Demote { node }),
        (b"REBALANCE", []) => Answer::Order(Order::Rebalance),
        (b"REBALANCE", [word]) if is_dry_run(word) => Answer::Order(Order::Preview { drain: None }),
        (b"PAUSE", []) => Answer::Order(Order::Pause { since_ms: view.now.wall_ms }),
        (b"RESUME", []) => Answer::Order(Order::Resume),
        (b"WATCH", []) => watch(view, 0),
        (b"WATCH", [after]) => match text(after).ok().and_then(|after| after.parse().ok()) {
            Some(after) => watch(view, after),
            None => refusal("ERR value is not an integer or out of range"),
        },
        (b"HELP", []) | (b"", _) => {
            Answer::Reply(Reply::Array(HELP.iter().map(|line| Reply::Simple((*line).into())).collect()))
        }
        _ => refusal("ERR unknown subcommand or wrong number of arguments for 'MESH'. Try MESH HELP."),
    }
}

/// How the mesh is, as this node sees it.
pub fn status(view: &View<'_>) -> Status {
    let problems = problems::problems(view);
    let (mesh, term, version) = match view.published {
        Some(agreed) => (Some(agreed.dictionary.mesh.to_string()), agreed.term.0, agreed.dictionary.version.0),
        None => (None, 0, 0),
    };
    Status {
        me: describe::me(view),
        state: describe::own_state(view).to_owned(),
        mesh,
        term,
        version,
        commander: view.published.and_then(describe::commander),
        nodes: view.published.map(describe::count_nodes).unwrap_or_default(),
        ranges: view.published.map(|agreed| describe::count_ranges(&agreed.dictionary)).unwrap_or_default(),
        progress: view.progress,
        well: !problems.iter().any(|problem| problem.grave),
        problems,
    }
}

/// What has happened after a number, as a reply.
pub fn watched(view: &View<'_>, after: u64) -> Reply {
    let chronicle = view.chronicle;
    // A number of an earlier life of this node: begin anew.
    let after = if after > chronicle.last() { 0 } else { after };
    let watched = Watched {
        incarnation: view.me.incarnation.0,
        last: chronicle.last(),
        missed: chronicle.missed_after(after),
        events: chronicle.after(after).map(|recorded| describe::event(view, recorded)).collect(),
    };
    json_reply(&watched)
}

/// What came of an order, as a reply.
pub fn ordered(result: Result<Vec<String>, String>) -> Reply {
    match result {
        Ok(lines) => json_reply(&crate::messages::status::OrderDone { lines }),
        Err(why) => Reply::error(format!("REFUSED {why}")),
    }
}

/// How copies compare, as a reply.
pub fn verified(result: Result<Verification, String>) -> Reply {
    match result {
        Ok(verification) => json_reply(&verification),
        Err(why) => Reply::error(format!("REFUSED {why}")),
    }
}

/// A weight as operators say it: none is a node's own.
fn weight(said: &[u8]) -> Result<Option<u32>, String> {
    match text(said)? {
        said if said.eq_ignore_ascii_case("own") => Ok(None),
        said => said.parse().map(Some).map_err(|_| "ERR value is not an integer or out of range".to_owned()),
    }
}

/// A zone as operators say it: none is a node's own, an empty one is none.
fn zone(said: &str) -> Option<String> {
    match said {
        said if said.eq_ignore_ascii_case("own") => None,
        said if said.eq_ignore_ascii_case("none") => Some(String::new()),
        said => Some(said.to_owned()),
    }
}

fn is_dry_run(word: &[u8]) -> bool {
    word.eq_ignore_ascii_case(b"dryrun")
}

fn watch(view: &View<'_>, after: u64) -> Answer {
    if after == view.chronicle.last() { Answer::Watch { after } } else { Answer::Reply(watched(view, after)) }
}

fn order(view: &View<'_>, node: &[u8], order: impl FnOnce(NodeId) -> Order) -> Answer {
    let node = text(node).and_then(|name| describe::find_node(view, name));
    node.map_or_else(|why| refusal(&why), |node| Answer::Order(order(node)))
}

fn text(word: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(word).map_err(|_| "ERR text is wanted here".to_owned())
}

fn or_refusal<T: Serialize>(result: Result<T, String>) -> Answer {
    result.map_or_else(|why| refusal(&why), |value| json(&value))
}

fn refusal(why: &str) -> Answer {
    Answer::Reply(Reply::error(why.to_owned()))
}

fn json<T: Serialize>(value: &T) -> Answer {
    Answer::Reply(json_reply(value))
}

fn json_reply<T: Serialize>(value: &T) -> Reply {
    Reply::text(serde_json::to_string(value).expect("plain data always has an encoding"))
}

#[cfg(test)]
mod tests;
