//! Answers of the mesh as people read them.

use std::time::{Duration, SystemTime};

use crate::cli::output::table;
use crate::messages::status::{
    Compared, EventStatus, Explanation, HolderCompared, HolderStatus, Location, Map, NodeStatus, Nodes, OrderDone,
    Problem, RangeCompared, Run, Status, Verification,
};

/// `keyval ctl status`.
pub(super) fn status(status: &Status) -> String {
    let mut lines = vec![
        format!("asked      {} ({}), {}", status.me.name, status.me.id, status.state),
        match &status.mesh {
            Some(mesh) => format!("mesh       {mesh}, term {}, dictionary version {}", status.term, status.version),
            None => "mesh       none yet".to_owned(),
        },
        match &status.commander {
            Some(commander) => format!("commander  {} ({})", commander.name, commander.client),
            None => "commander  none is known".to_owned(),
        },
    ];
    if status.mesh.is_some() {
        let (nodes, ranges) = (&status.nodes, &status.ranges);
        lines.push(format!(
            "nodes      {} on the roster, {} up; {} vote, {} learn",
            nodes.roster, nodes.up, nodes.voters, nodes.learners
        ));
        let moving = ranges.loading.max(ranges.leaving);
        let moving = if moving > 0 { format!(", {moving} on their way") } else { String::new() };
        lines.push(format!("ranges     {}, {} served{moving}", ranges.total, ranges.served));
    }
    lines.push(String::new());
    for problem in &status.problems {
        let mark = if problem.grave { "WRONG" } else { "note " };
        lines.push(format!("{mark}  {}  [{}]", problem.what, problem.code));
        lines.push(format!("       {}", problem.doing));
    }
    if status.well {
        lines.push("All is well.".to_owned());
    }
    lines.join("\n")
}

/// What speaks against starting another node anew: all that is wrong, and all that is under way. What will always be so is not.
pub(super) fn in_the_way(status: &Status) -> Vec<&Problem> {
    let lasts = |problem: &&Problem| !problem.grave && ["few-voters", "address-differs"].contains(&&*problem.code);
    status.problems.iter().filter(|problem| !lasts(problem)).collect()
}

/// `keyval ctl rolling --check`.
pub(super) fn rolling(status: &Status) -> String {
    let lines: Vec<String> = in_the_way(status)
        .into_iter()
        .map(|problem| format!("wait: {}  [{}]; {}", problem.what, problem.code, problem.doing))
        .collect();
    if lines.is_empty() { "the next node may go: every range has all its copies".to_owned() } else { lines.join("\n") }
}

/// `keyval ctl health`.
pub(super) fn health(status: &Status) -> String {
    match &status.commander {
        Some(commander) => format!("{} is {}; {} commands", status.me.name, status.state, commander.name),
        None => format!("{} is {}; no commander is known", status.me.name, status.state),
    }
}

/// `keyval ctl nodes`.
pub(super) fn nodes(nodes: &Nodes) -> String {
    let head = ["name", "id", "role", "state", "seat", "heads", "holds", "weight", "zone", "client", "peer"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(nodes.nodes.iter().map(node_row));
    table(&rows)
}

fn node_row(node: &NodeStatus) -> Vec<String> {
    let role = if node.commander { "commander" } else { &node.role };
    let holds =
        if node.loading > 0 { format!("{} ({} loading)", node.holds, node.loading) } else { node.holds.to_string() };
    let or_none = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    vec![
        node.name.clone(),
        node.id.clone(),
        role.to_owned(),
        node.state.clone(),
        node.seat.clone(),
        node.heads.to_string(),
        holds,
        node.weight.to_string(),
        or_none(&node.zone),
        node.client.clone(),
        node.peer.clone(),
    ]
}

/// `keyval ctl map`.
pub(super) fn map(map: &Map) -> String {
    let mut rows = vec![["slots", "ranges", "served", "holders, head first"].map(str::to_owned).to_vec()];
    rows.extend(map.runs.iter().map(|run: &Run| {
        vec![span(run.slots), span(run.ranges), if run.served { "yes" } else { "NO" }.to_owned(), holders(&run.holders)]
    }));
    table(&rows)
}

fn span((first, last): (u16, u16)) -> String {
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

fn holders(holders: &[HolderStatus]) -> String {
    if holders.is_empty() {
        return "nobody".to_owned();
    }
    let shown = |holder: &HolderStatus| match holder.state.as_str() {
        "serving" => holder.name.clone(),
        state => format!("{} ({state})", holder.name),
    };
    holders.iter().map(shown).collect::<Vec<_>>().join(", ")
}

/// `keyval ctl locate`.
pub(super) fn location(location: &Location) -> String {
    let head = match &location.head {
        Some(head) if location.served => {
            format!("{} (plain door {}, cluster door {})", head.name, head.client, head.cluster)
        }
        Some(head) => format!("{}, which does not serve it now", head.name),
        None => "nobody".to_owned(),
    };
    format!(
        "key      {}\nslot     {}\nrange    {}, epoch {}, generation {}\nhead     {head}\nholders  {}",
        location.key,
        location.slot,
        location.range,
        location.epoch,
        location.generation,
        holders(&location.holders)
    )
}

/// `keyval ctl verify`: all copies of a range that was asked for; of all ranges, those that are not in order.
pub(super) fn verification(verification: &Verification, all: bool) -> String {
    let told: Vec<&RangeCompared> = verification.ranges.iter().filter(|range| !all || !range.well).collect();
    let mut lines = Vec::new();
    if !told.is_empty() {
        let head = ["range", "slots", "epoch", "holder", "state", "keys", "digest", "compared"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        rows.extend(told.iter().flat_map(|range| range.holders.iter().map(|holder| copy_row(range, holder))));
        lines.push(table(&rows));
        lines.push(String::new());
    }
    let (ranges, keys) = (verification.ranges.len(), verification.keys);
    let bad = verification.ranges.iter().filter(|range| !range.well).count();
    lines.push(match bad {
        0 => format!("{ranges} ranges, {keys} keys: all holders hold the same."),
        _ => format!("{bad} of {ranges} ranges: a holder differs or did not answer."),
    });
    lines.join("\n")
}

fn copy_row(range: &RangeCompared, holder: &HolderCompared) -> Vec<String> {
    let compared = match holder.compared {
        Compared::Same => "same",
        Compared::Differs => "DIFFERS",
        Compared::Silent => "SILENT",
        Compared::Unsettled => "unsettled",
        Compared::Loading => "not compared",
    };
    vec![
        range.range.to_string(),
        span(range.slots),
        range.epoch.to_string(),
        holder.name.clone(),
        holder.state.clone(),
        holder.keys.map_or("-".to_owned(), |keys| keys.to_string()),
        holder.digest.clone().unwrap_or("-".to_owned()),
        compared.to_owned(),
    ]
}

/// `keyval ctl explain`.
pub(super) fn explanation(explanation: &Explanation) -> String {
    let mut lines = vec![explanation.what.clone()];
    lines.extend(explanation.now.iter().map(|line| format!("  {line}")));
    lines.push(match explanation.events.len() {
        0 => "the asked node remembers nothing that happened to it".to_owned(),
        _ => "what happened, as the asked node saw it:".to_owned(),
    });
    lines.extend(explanation.events.iter().map(|told| format!("  {}", event(told))));
    lines.join("\n")
}

/// A line of `keyval ctl watch`.
pub(super) fn event(event: &EventStatus) -> String {
    let when = SystemTime::UNIX_EPOCH + Duration::from_millis(event.wall_ms);
    let when = humantime::format_rfc3339_millis(when);
    format!("{when}  term {}  version {}  {}: {}", event.term, event.version, event.kind, event.text)
}

/// What an order came to.
pub(super) fn done(done: &OrderDone) -> String {
    if done.lines.is_empty() { "done".to_owned() } else { done.lines.join("\n") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::status::{Commander, NodeCounts, NodeName, Problem, RangeCounts};

    #[test]
    fn status_says_what_is_wrong_and_what_is_done_about_it() {
        let text = status(&Status {
            me: NodeName { id: "0a".into(), name: "node-1".into() },
            state: "up".into(),
            mesh: Some("7".into()),
            term: 3,
            version: 9,
            commander: Some(Commander { id: "0b".into(), name: "node-2".into(), client: "127.0.0.1:6235".into() }),
            nodes: NodeCounts { roster: 3, up: 2, drones: 3, voters: 3, learners: 0 },
            ranges: RangeCounts { total: 1024, served: 700, unserved: 324, loading: 2, leaving: 0 },
            progress: None,
            well: false,
            problems: vec![Problem {
                code: "node-suspect".into(),
                grave: true,
                what: "node-3 does not answer".into(),
                doing: "it leaves the roster after 15m".into(),
            }],
        });
        assert_eq!(
            text,
            "asked      node-1 (0a), up\n\
             mesh       7, term 3, dictionary version 9\n\
             commander  node-2 (127.0.0.1:6235)\n\
             nodes      3 on the roster, 2 up; 3 vote, 0 learn\n\
             ranges     1024, 700 served, 2 on their way\n\
             \n\
             WRONG  node-3 does not answer  [node-suspect]\n       \
             it leaves the roster after 15m"
        );
    }

    #[test]
    fn the_map_shows_states_where_they_are_not_the_usual_one() {
        let holder = |name: &str, state: &str| HolderStatus { id: "1".into(), name: name.into(), state: state.into() };
        let run = |slots, ranges, served, holders| Run { slots, ranges, served, holders };
        let text = map(&Map {
            version: 1,
            ranges: 3,
            runs: vec![
                run((0, 31), (0, 1), true, vec![holder("n1", "serving"), holder("n2", "loading")]),
                run((32, 47), (2, 2), false, Vec::new()),
            ],
        });
        assert_eq!(
            text,
            "slots  ranges  served  holders, head first\n\
             0-31   0-1     yes     n1, n2 (loading)\n\
             32-47  2       NO      nobody"
        );
    }

    #[test]
    fn events_have_their_time() {
        let text = event(&EventStatus {
            number: 4,
            wall_ms: 1_500,
            kind: "NodeLost".into(),
            term: 2,
            version: 8,
            node: None,
            ranges: String::new(),
            text: "node-3 was silent".into(),
        });
        assert_eq!(text, "1970-01-01T00:00:01.500Z  term 2  version 8  NodeLost: node-3 was silent");
    }
}
