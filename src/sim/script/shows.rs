//! What a story can show of a mesh; `help` lists it.

use std::error::Error;
use std::fmt::Write as _;

use super::summary::Summary;
use super::{Arguments, Story, place};
use crate::messages::ownership::{Chain, HolderState};
use crate::messages::status::{Compared, Verification};
use crate::sim::clock::Time;
use crate::sim::world::World;
use crate::types::RangeId;

/// Shows what a line asks for; none if it asks for nothing that can be shown.
pub(super) fn show(story: &mut Story, name: &str, arguments: &mut Arguments) -> Result<Option<String>, Box<dyn Error>> {
    let since = story.remembered_at;
    let world = story.world()?;
    let output = match name {
        "head" => {
            let (range, chain) = chain_of(world, arguments)?;
            let head = chain.head().map_or("nobody".into(), |head| world.name(head.node));
            format!("{head} heads range {range}\n")
        }
        "show" => {
            let what = arguments.word().ok_or("show what?")?;
            match what.as_str() {
                "events" => events(world, since, arguments)?,
                what => shown(world, what, arguments)?,
            }
        }
        _ => return Ok(None),
    };
    Ok(Some(output))
}

fn shown(world: &World, what: &str, arguments: &mut Arguments) -> Result<String, Box<dyn Error>> {
    let summary = Summary::of(world);
    let mut output = String::new();
    match what {
        "commander" => match &summary.commander {
            Some((name, term)) => writeln!(output, "{name} commands in term {term}")?,
            None => writeln!(output, "nobody commands")?,
        },
        "roster" => {
            for (name, standing) in &summary.roster {
                writeln!(output, "{name} {standing}")?;
            }
        }
        "heads" => writeln!(output, "{}", summary.heads())?,
        "seats" => {
            let newest = world.newest().ok_or("nothing is agreed yet")?;
            let names = |nodes: &[crate::types::NodeId]| {
                let mut names: Vec<String> = nodes.iter().map(|node| world.name(*node)).collect();
                names.sort();
                names.join(" ")
            };
            writeln!(output, "voters: {}", names(&newest.seats.voters))?;
            writeln!(output, "learners: {}", names(&newest.seats.learners))?;
        }
        "terms" => {
            for place in &world.places {
                let Some(node) = place.node.as_ref() else { continue };
                let term = node.published.as_ref().map(|published| published.term);
                let term = term.map_or("no term".into(), |term| format!("term {term}"));
                writeln!(output, "{}: {term}", place.name)?;
            }
        }
        "votes" => {
            for place in &world.places {
                let hard = place.disk.recover().hard;
                let vote = hard.vote.map_or("none".into(), |vote| world.name(vote));
                writeln!(output, "{}: term {}, vote {vote}", place.name, hard.term)?;
            }
        }
        "holders" => {
            let (range, _) = chain_of(world, arguments)?;
            for host in world.hosts() {
                let Some(node) = &world.places[host.0].node else { continue };
                let Some(seen) = node.store_of(range).inspect(range, world.clock(host)) else { continue };
                let state = seen.state.map_or("former".to_string(), |state| format!("{state:?}").to_lowercase());
                let answers = if seen.answers { "answers" } else { "does not answer" };
                writeln!(output, "{}: {state}, {} keys, {answers}", world.places[host.0].name, seen.len)?;
            }
        }
        "transfers" => {
            let stores = world.places.iter().filter_map(|place| place.node.as_ref()).flat_map(|node| node.stores());
            let (mut keys, mut writes) = (0, 0);
            for transfers in stores.map(|store| store.transfers()) {
                keys += transfers.entries_streamed;
                writes += transfers.writes_repaired;
            }
            writeln!(output, "{keys} keys streamed, {writes} writes sent again")?;
        }
        "chain" => {
            let (range, chain) = chain_of(world, arguments)?;
            writeln!(output, "range {range}: {}", chain_words(world, chain))?;
        }
        "state" => writeln!(output, "{}", summary.told())?,
        _ => return Err(format!("{what} cannot be shown").into()),
    }
    Ok(output)
}

/// Who does not hold what the others hold, a line a range; and how much was looked at.
pub(super) fn verification(verification: &Verification) -> String {
    let mut lines: Vec<String> = Vec::new();
    let states = verification.ranges.iter().flat_map(|range| &range.holders).map(|holder| holder.compared);
    let loading = states.filter(|compared| *compared == Compared::Loading).count();
    for range in verification.ranges.iter().filter(|range| !range.well) {
        let holders = range.holders.iter().map(|holder| {
            let keys = holder.keys.map_or("nothing".to_owned(), |keys| format!("{keys} keys"));
            format!("{} {:?} ({keys})", holder.name, holder.compared).to_lowercase()
        });
        lines.push(format!("range {}: {}", range.range, holders.collect::<Vec<_>>().join(", ")));
    }
    let word = if verification.well { "the same" } else { "not the same" };
    let loading = if loading > 0 { format!(", {loading} loading") } else { String::new() };
    lines.push(format!("{} ranges, {} keys: {word}{loading}", verification.ranges.len(), verification.keys));
    lines.join("\n")
}

pub(super) fn chain_of<'a>(
    world: &'a World,
    arguments: &mut Arguments,
) -> Result<(RangeId, &'a Chain), Box<dyn Error>> {
    let key = arguments.word().ok_or("of which key?")?;
    let dictionary = world.newest_dictionary().ok_or("nothing is agreed yet")?;
    let range = RangeId::of_key(key.as_bytes(), dictionary.chains.len());
    Ok((range, dictionary.chain(range)))
}

fn chain_words(world: &World, chain: &Chain) -> String {
    format!("epoch {}, generation {}, {}", chain.epoch, chain.generation, members(world, chain))
}

/// Who holds a range, head first, and who of them does not serve.
pub(super) fn members(world: &World, chain: &Chain) -> String {
    let holders = chain.holders.iter().map(|holder| {
        let state = match holder.state {
            HolderState::Serving => "",
            HolderState::Loading => " loading",
            HolderState::Leaving => " leaving",
        };
        format!("{}{state}", world.name(holder.node))
    });
    holders.collect::<Vec<_>>().join(" - ")
}

/// What nodes noted, oldest first; what several noted in the same words is told once.
fn events(world: &World, since: Time, arguments: &mut Arguments) -> Result<String, Box<dyn Error>> {
    let at = arguments.key("at").map(|name| place(world, &name)).transpose()?;
    let kind = arguments.word();
    let about = arguments.key("about");
    let mut notes: Vec<_> = world
        .hosts()
        .filter(|host| at.is_none_or(|at| at == *host))
        .flat_map(|host| world.places[host.0].notes())
        .filter(|(noted, _)| *noted > since)
        .filter(|(_, event)| kind.as_ref().is_none_or(|kind| format!("{:?}", event.kind).eq_ignore_ascii_case(kind)))
        .collect();
    notes.sort_by_key(|(at, event)| (event.version, *at));
    let mut output = String::new();
    let mut told = std::collections::BTreeSet::new();
    for (_, event) in notes {
        let text = world.named(&event.text);
        if about.as_ref().is_some_and(|about| !text.contains(about.as_str())) || !told.insert(text.clone()) {
            continue;
        }
        writeln!(output, "{:?}: {text}", event.kind)?;
    }
    Ok(output)
}
