//! What a story can wait for or expect; `help` lists it.

use std::error::Error;
use std::fmt;

use super::shows;
use super::summary::Summary;
use crate::machines::dictionary::Dictionary;
use crate::messages::ownership::{HolderState, Role, Standing};
use crate::sim::checker::{unequal, uneven};
use crate::sim::network::Host;
use crate::sim::world::{Deed, Watch, World};
use crate::types::RangeId;

/// A condition.
#[derive(Clone, Debug)]
pub(super) struct Condition {
    words: Vec<String>,
}

/// Reads a condition.
pub(super) fn parse(words: &[String]) -> Result<Condition, Box<dyn Error>> {
    let all: Vec<&str> = words.iter().map(String::as_str).collect();
    let known = match all.as_slice() {
        ["commander" | "served" | "agreed" | "balanced" | "whole" | "changing" | "equal"] => true,
        ["commander", _] | ["commander", "not", _] => true,
        ["term" | "version", "same" | "higher"] => true,
        ["settled" | "roster" | "learners", count] => count.parse::<usize>().is_ok(),
        ["voters", _, ..] | ["moved", _] => true,
        [_, "up" | "suspect" | "joining" | "draining" | "listed" | "gone"] => true,
        [_, "voter" | "learner" | "heads" | "empty" | "answers" | "silent" | "ended" | "runs"] => true,
        [_, "follows", _] | ["chain", _, _] | [_, "knows", _, _] => true,
        [_, "says" | "hears" | "proposes", _, rest @ ..] => {
            rest.chunks(2).all(|pair| matches!(pair, ["from" | "to" | "of", _]))
        }
        _ => false,
    };
    if known { Ok(Condition { words: words.to_vec() }) } else { Err(format!("no condition: {}", all.join(" ")).into()) }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words.join(" "))
    }
}

impl Condition {
    /// Whether it holds for an instant only, so that every event has to be looked at.
    pub(super) fn is_fleeting(&self) -> bool {
        self.words[0] == "chain" || matches!(self.words.get(1).map(String::as_str), Some("knows")) || self.is_deed()
    }

    /// Whether it is something that happens, and cannot be seen afterwards.
    pub(super) fn is_deed(&self) -> bool {
        matches!(self.words.get(1).map(String::as_str), Some("says" | "hears" | "proposes"))
    }

    /// What the world has to look out for.
    pub(super) fn watch(&self, world: &World) -> Option<Watch> {
        let [by, deed, word, rest @ ..] = self.words.as_slice() else { return None };
        let deed = match deed.as_str() {
            "says" => Deed::Says,
            "hears" => Deed::Hears,
            "proposes" => Deed::Proposes,
            _ => return None,
        };
        let after = |preposition: &str| rest.chunks(2).find(|pair| pair[0] == preposition).map(|pair| pair[1].clone());
        let ranges = world.newest_dictionary().map_or(1, |it| it.chains.len());
        let range = after("of").map(|key| RangeId::of_key(key.as_bytes(), ranges));
        Some(Watch::new(by.clone(), deed, word.clone(), after("from").or_else(|| after("to")), range))
    }

    /// Whether it holds now; `remembered` is what it may compare with.
    pub(super) fn holds(&self, world: &World, remembered: &Summary) -> bool {
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        let commander = || world.commander().map(|it| world.name(it.node));
        match words.as_slice() {
            ["commander"] => commander().is_some(),
            ["commander", "none"] => commander().is_none(),
            ["commander", "not", name] => commander().is_some_and(|it| it != *name),
            ["commander", name] => commander().as_deref() == Some(name),
            ["term", how] => compare(how, Summary::of(world).term, remembered.term),
            ["version", how] => compare(how, Summary::of(world).version, remembered.version),
            ["served"] => world.is_served(),
            ["agreed"] => is_agreed(world),
            ["balanced"] => world.newest_dictionary().is_some_and(|it| uneven(it).is_none()),
            ["whole"] => is_whole(world),
            ["equal"] => unequal(&world.whole_views()).is_none(),
            ["changing"] => world.newest().is_some_and(|it| !it.seats.outgoing.is_empty()),
            ["settled", count] => is_settled(world, count.parse().unwrap_or(0)),
            ["roster", count] => world.newest_dictionary().is_some_and(|it| it.roster.len().to_string() == *count),
            ["learners", count] => world.newest().is_some_and(|it| it.seats.learners.len().to_string() == *count),
            ["voters", names @ ..] => are_voters(world, names),
            ["moved", name] => Summary::of(world).moved(remembered).all(|(_, from, _)| from == *name),
            [name, "follows", other] => follows(world, name, other),
            ["chain", key, members] => world.newest_dictionary().is_some_and(|it| are_members(world, it, key, members)),
            [name, "knows", key, members] => {
                let known = world.host(name).and_then(|host| world.dictionary(host));
                known.is_some_and(|it| are_members(world, it, key, members))
            }
            [_, "says" | "hears" | "proposes", ..] => world.has_seen(),
            [name, state] => node_is(world, name, state),
            _ => false,
        }
    }
}

fn compare<T: Ord>(how: &str, now: T, then: T) -> bool {
    if how == "same" { now == then } else { now > then }
}

fn are_members(world: &World, dictionary: &Dictionary, key: &str, members: &str) -> bool {
    let range = RangeId::of_key(key.as_bytes(), dictionary.chains.len());
    shows::members(world, dictionary.chain(range)) == members
}

fn is_agreed(world: &World) -> bool {
    let Some(newest) = world.newest_dictionary() else { return false };
    let running = world.places.iter().filter(|place| place.runs()).filter_map(|place| place.node.as_ref());
    let known: Vec<_> = running
        .filter(|node| newest.roster.contains_key(&node.me().0))
        .map(|node| {
            let published = node.published.as_ref()?;
            Some((published.dictionary.version, published.term, published.commander))
        })
        .collect();
    known.windows(2).all(|pair| pair[0] == pair[1]) && known.first().is_some_and(Option::is_some)
}

fn drones(dictionary: &Dictionary) -> usize {
    dictionary.roster.values().filter(|member| member.node.role == Role::Drone).count()
}

fn is_whole(world: &World) -> bool {
    let Some(dictionary) = world.newest_dictionary() else { return false };
    let wanted = usize::from(dictionary.settings.factor).min(drones(dictionary));
    let serving = |state: HolderState| state == HolderState::Serving;
    dictionary
        .chains
        .iter()
        .all(|chain| chain.holders.len() == wanted && chain.holders.iter().all(|holder| serving(holder.state)))
}

fn is_settled(world: &World, count: usize) -> bool {
    let Some(newest) = world.newest() else { return false };
    let dictionary = &newest.dictionary;
    let seats = &newest.seats;
    let drones = drones(dictionary);
    let wanted = world.seats_for(drones, count.saturating_sub(drones));
    dictionary.roster.len() == count
        && dictionary.roster.values().all(|member| member.standing == Standing::Up)
        && seats.voters.len() == wanted
        && seats.outgoing.is_empty()
        && world.commander().is_some()
        && is_whole(world)
        && uneven(dictionary).is_none()
        && is_agreed(world)
        && world.is_served()
}

fn are_voters(world: &World, names: &[&str]) -> bool {
    let Some(newest) = world.newest() else { return false };
    if !newest.seats.outgoing.is_empty() {
        return false;
    }
    let mut voters: Vec<String> = newest.seats.voters.iter().map(|id| world.name(*id)).collect();
    voters.sort();
    match names {
        [count] if count.parse::<usize>().is_ok() => voters.len().to_string() == *count,
        names => {
            let mut names = names.to_vec();
            names.sort_unstable();
            voters == names
        }
    }
}

fn follows(world: &World, name: &str, other: &str) -> bool {
    let published = world.host(name).and_then(|host| world.places[host.0].node.as_ref()?.known());
    published.and_then(|it| it.commander).is_some_and(|it| world.name(it) == other)
}

fn node_is(world: &World, name: &str, state: &str) -> bool {
    let place = world.host(name).map(|host: Host| &world.places[host.0]);
    let answers = || world.views().iter().any(|view| world.name(view.node) == name && !view.answers.is_empty());
    match state {
        "runs" => return place.is_some_and(|place| place.runs()),
        "ended" => return place.is_some_and(|place| place.ended.is_some()),
        "answers" => return answers(),
        "silent" => return !answers(),
        _ => {}
    }
    let Some(newest) = world.newest() else { return false };
    let dictionary = &newest.dictionary;
    let member = dictionary.roster.iter().find(|(id, _)| world.name(**id) == name);
    let Some((id, member)) = member else { return state == "gone" };
    let heads = || dictionary.chains.iter().any(|chain| chain.head().is_some_and(|head| head.node == *id));
    match state {
        "listed" => true,
        "voter" => newest.seats.voters.contains(id) && newest.seats.outgoing.is_empty(),
        "learner" => newest.seats.learners.contains(id),
        "heads" => heads(),
        "empty" => !heads(),
        standing => member.standing.to_string() == standing,
    }
}
