//! What is wrong, and what the mesh does about it: in words that somebody woken at night can act upon.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use super::View;
use super::describe::{has, runs, served_by};
use crate::machines::dictionary::Dictionary;
use crate::machines::election::Published;
use crate::messages::heartbeat::Progress;
use crate::messages::ownership::{Chain, HolderState, Member, OnTotalLoss, Role, Standing};
use crate::messages::status::Problem;
use crate::types::{NodeId, RangeId};

/// So many runs of ranges are named; the rest is counted.
const NAMED: usize = 3;

/// All problems of a view; grave ones first.
pub(super) fn problems(view: &View<'_>) -> Vec<Problem> {
    let mut found = Vec::new();
    match view.published {
        None => found.push(no_mesh(view)),
        Some(agreed) => {
            found.extend(no_commander(agreed));
            found.extend(silenced(view, agreed));
            found.extend(paused(&agreed.dictionary));
            nodes(agreed, &mut found);
            unserved(agreed, &mut found);
            few_copies(agreed, &mut found);
            found.extend(view.progress.map(moving));
            under_way(&agreed.dictionary, &mut found);
            seats(agreed, &mut found);
            addresses(view, &agreed.dictionary, &mut found);
        }
    }
    ailing(view, &mut found);
    found.sort_by_key(|problem| !problem.grave);
    found
}

fn problem(grave: bool, code: &str, what: String, doing: impl Into<String>) -> Problem {
    Problem { code: code.to_owned(), grave, what, doing: doing.into() }
}

fn no_mesh(view: &View<'_>) -> Problem {
    let doing = match view.asking {
        [] => "it founds one".to_owned(),
        asking => format!("it asks at {} until it is admitted", asking.join(", ")),
    };
    problem(true, "no-mesh", "this node belongs to no mesh yet".into(), doing)
}

fn no_commander(agreed: &Published) -> Option<Problem> {
    let known = agreed.commander.is_some_and(|node| agreed.dictionary.roster.contains_key(&node));
    if known {
        return None;
    }
    let voters = agreed.seats.voters.len();
    let longest = agreed.dictionary.settings.timing.failure_timeout * 3 / 2;
    Some(problem(
        true,
        "no-commander",
        format!("no commander is known in term {}", agreed.term),
        format!(
            "the voters elect one, each trying after at most {}; {} of {voters} must reach each other",
            span(longest),
            voters / 2 + 1
        ),
    ))
}

fn silenced(view: &View<'_>, agreed: &Published) -> Option<Problem> {
    let until = view.leases?.silent_after?;
    (until <= view.now.instant && agreed.dictionary.roster.len() > 1).then(|| {
        problem(
            true,
            "silenced",
            "this node has heard no commander for so long that others may have been given its ranges".into(),
            "it answers nothing until it hears one again",
        )
    })
}

fn paused(dictionary: &Dictionary) -> Option<Problem> {
    let pause = dictionary.paused?;
    let since = humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + Duration::from_millis(pause.since_ms));
    let what =
        format!("clients' writes are paused since {since}, by an order given at {}", dictionary.name_of(pause.by));
    Some(problem(true, "writes-paused", what, "reads go on; `keyval ctl resume` lets writes go on"))
}

fn nodes(agreed: &Published, found: &mut Vec<Problem>) {
    let dictionary = &agreed.dictionary;
    for member in dictionary.roster.values() {
        let name = &member.node.name;
        match member.standing {
            Standing::Suspect => found.push(problem(
                true,
                "node-suspect",
                format!("{name} does not answer ({})", member.node.addresses.peer),
                suspect_doing(agreed, member),
            )),
            Standing::Joining => found.push(problem(
                false,
                "node-joining",
                format!("{name} is admitted and has not been heard yet"),
                "the commander waits for its first beacon",
            )),
            Standing::Draining => found.push(problem(
                false,
                "node-draining",
                format!(
                    "{name} gives away what it holds, then leaves: {} ranges are left",
                    dictionary.tally(member.node.id).held
                ),
                "its ranges move to others; `keyval ctl abort` lets it stay",
            )),
            Standing::Up => {}
        }
    }
}

fn suspect_doing(agreed: &Published, member: &Member) -> String {
    let settings = &agreed.dictionary.settings;
    let mut doing = Vec::new();
    if agreed.seats.votes(member.node.id) {
        doing.push(format!("its vote goes to a learner after {}", span(settings.timing.seat_timeout())));
    }
    doing.push(format!("it leaves the roster after {}, or at once by `keyval ctl drop`", span(settings.node_expiry)));
    doing.join("; ")
}

fn unserved(agreed: &Published, found: &mut Vec<Problem>) {
    let dictionary = &agreed.dictionary;
    // Ranges that wait for the same node are one problem.
    let mut waiting: BTreeMap<Option<NodeId>, Vec<RangeId>> = BTreeMap::new();
    for (range, chain) in dictionary.ranges() {
        if served_by(dictionary, chain).is_none() {
            waiting.entry(chain.head().map(|head| head.node)).or_default().push(range);
        }
    }
    for (head, ranges) in waiting {
        let whose = head.map(|node| format!(", headed by {}", dictionary.name_of(node))).unwrap_or_default();
        let what = format!("{}{whose}: not served", count(&ranges));
        found.push(problem(true, "ranges-unserved", what, unserved_doing(agreed, head)));
    }
}

fn unserved_doing(agreed: &Published, head: Option<NodeId>) -> String {
    let dictionary = &agreed.dictionary;
    let settings = &dictionary.settings;
    if agreed.commander.is_none() {
        return "nothing before a commander rules".into();
    }
    let member = head.and_then(|node| dictionary.roster.get(&node));
    let silent = member.is_some_and(|member| member.standing == Standing::Suspect);
    match (silent, settings.give_up_after(), settings.on_total_loss) {
        (true, Some(after), _) => {
            format!("they are given to others when it has been silent for {}; commands are held meanwhile", span(after))
        }
        (true, None, _) => {
            "they wait for it, since it may still have writes that nobody else has; `keyval ctl drop` says that its process has \
             ended"
                .into()
        }
        (false, _, OnTotalLoss::Wait) => "they wait for an operator (replication.on_total_loss = wait)".into(),
        (false, _, OnTotalLoss::Recover) => "the commander is giving them to others".into(),
    }
}

fn few_copies(agreed: &Published, found: &mut Vec<Problem>) {
    let dictionary = &agreed.dictionary;
    let settings = &dictionary.settings;
    let drones =
        dictionary.roster.values().filter(|m| m.node.role == Role::Drone && m.standing == Standing::Up).count().max(1);
    let wanted = usize::from(settings.factor).min(drones);
    let serving = |chain: &Chain| chain.serving().count();
    let mut few = Vec::new();
    let mut waiting = Vec::new();
    for (range, chain) in dictionary.ranges() {
        if served_by(dictionary, chain).is_none() {
            continue;
        }
        if serving(chain) < usize::from(settings.min_copies) {
            waiting.push(range);
        } else if serving(chain) < wanted {
            few.push(range);
        }
    }
    if !waiting.is_empty() {
        let what = format!("{}: fewer copies than a write must have, so writes wait", count(&waiting));
        found.push(problem(true, "too-few-copies", what, "copies are being made on other drones, if there are any"));
    }
    if !few.is_empty() {
        let what = format!("{}: fewer than {wanted} copies", count(&few));
        found.push(problem(true, "few-copies", what, repair_of_few(dictionary)));
    }
}

/// What is done about ranges with too few copies.
fn repair_of_few(dictionary: &Dictionary) -> String {
    let silent = |member: &&Member| member.node.role == Role::Drone && member.standing == Standing::Suspect;
    let silent: Vec<&str> = dictionary.roster.values().filter(silent).map(|member| &*member.node.name).collect();
    match silent.is_empty() {
        true => "copies are being made on other drones".into(),
        false => format!(
            "copies are made on other drones, at once if the process of {} has ended, else after {} of silence \
             (replication.repair_after)",
            silent.join(", "),
            span(dictionary.settings.repair_after)
        ),
    }
}

fn moving(progress: Progress) -> Problem {
    let what = format!("ranges are being moved: {}", progress.moved());
    let doing = format!("{:.1} MB/s, {}", progress.rate as f64 / 1e6, progress.end());
    problem(false, "ranges-moving", what, doing)
}

fn under_way(dictionary: &Dictionary, found: &mut Vec<Problem>) {
    let with = |state| -> Vec<RangeId> {
        dictionary.ranges().filter(|(_, chain)| has(chain, state)).map(|(range, _)| range).collect()
    };
    let loading = with(HolderState::Loading);
    if !loading.is_empty() {
        let joiners = |(_, chain): (RangeId, &std::sync::Arc<Chain>)| {
            chain.holders.iter().find(|holder| holder.state == HolderState::Loading).map(|holder| holder.node)
        };
        let to: BTreeSet<NodeId> = dictionary.ranges().filter_map(joiners).collect();
        let to: Vec<String> = to.iter().map(|node| dictionary.name_of(*node)).collect();
        let what = format!("{}: being copied to {}", count(&loading), to.join(", "));
        found.push(problem(false, "ranges-loading", what, "whoever has them serves them meanwhile"));
    }
    let leaving = with(HolderState::Leaving);
    if !leaving.is_empty() {
        let what = format!("{}: about to leave a holder", count(&leaving));
        found.push(problem(false, "ranges-leaving", what, "another holder takes over first"));
    }
}

fn seats(agreed: &Published, found: &mut Vec<Problem>) {
    let dictionary = &agreed.dictionary;
    let voters = agreed.seats.voters.len();
    if voters < 3 {
        found.push(problem(
            false,
            "few-voters",
            format!("{voters} of the nodes vote, so the loss of one may stop elections"),
            "three or more nodes, or two drones and a witness, bear the loss of one",
        ));
    }
    if !agreed.seats.outgoing.is_empty() {
        let what = "a change of who votes is under way".to_owned();
        found.push(problem(false, "seats-changing", what, "it ends once a majority of both sets has it"));
    }
    let up = |node: &NodeId| dictionary.roster.get(node).is_some_and(|member| member.standing != Standing::Suspect);
    let reachable = agreed.seats.voters.iter().filter(|node| up(node)).count();
    if reachable < voters / 2 + 1 {
        found.push(problem(
            true,
            "majority-at-risk",
            format!("only {reachable} of {voters} voters are up"),
            "nothing more can be decided without a majority; bring the others back",
        ));
    }
}

fn addresses(view: &View<'_>, dictionary: &Dictionary, found: &mut Vec<Problem>) {
    if let Some(member) = dictionary.roster.get(&view.me.id)
        && member.node.addresses != view.me.addresses
    {
        let what = format!("the roster has other addresses for this node than its own ({})", view.me.addresses.peer);
        found.push(problem(false, "address-differs", what, "it presents itself until the roster shows them"));
    }
    let mut by_address: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for member in dictionary.roster.values() {
        by_address.entry(&member.node.addresses.peer).or_default().push(&member.node.name);
    }
    for (address, names) in by_address.into_iter().filter(|(_, names)| names.len() > 1) {
        let what = format!("{} announce one peer address, {address}", names.join(" and "));
        found.push(problem(false, "address-shared", what, "drop the one that is gone, or correct peer.announce"));
    }
}

fn ailing(view: &View<'_>, found: &mut Vec<Problem>) {
    for (node, ails) in view.ailing.iter().filter(|(_, ails)| !ails.is_empty()) {
        let name = match view.published {
            Some(agreed) => agreed.dictionary.name_of(*node),
            None => node.to_string(),
        };
        found.push(problem(true, "node-ailing", format!("{name}: {}", ails.join("; ")), "its log says more"));
    }
}

/// "12 ranges (3, 7-9, ...)".
fn count(ranges: &[RangeId]) -> String {
    let text = runs(ranges.iter().copied());
    let mut shown: Vec<&str> = text.split(", ").take(NAMED + 1).collect();
    if shown.len() > NAMED {
        shown[NAMED] = "...";
    }
    let noun = if ranges.len() == 1 { "range" } else { "ranges" };
    format!("{} {noun} ({})", ranges.len(), shown.join(", "))
}

fn span(span: Duration) -> String {
    humantime::format_duration(span).to_string()
}
