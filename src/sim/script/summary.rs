//! What a mesh looks like at one instant, in few words, and what has changed since another.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::messages::ownership::Standing;
use crate::sim::world::World;
use crate::types::{Epoch, Generation, RangeId, Term, Version};

/// What a mesh looks like at one instant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Summary {
    /// Who commands, in which term.
    pub commander: Option<(String, Term)>,
    /// The highest term that any running node knows.
    pub term: Term,
    /// The newest version that any node published.
    pub version: Version,
    /// Who is on the roster, and how each stands.
    pub roster: BTreeMap<String, Standing>,
    /// Who votes.
    pub voters: BTreeSet<String>,
    /// Range by range: epoch, generation, head.
    pub chains: Vec<(Epoch, Generation, Option<String>)>,
    /// How many ranges are served this instant.
    pub served: usize,
    /// Processes that ended by themselves, and why.
    pub ended: BTreeMap<String, String>,
}

impl Summary {
    pub(super) fn of(world: &World) -> Self {
        let mut summary = Self {
            commander: world.commander().map(|it| (world.name(it.node), it.term)),
            term: world
                .places
                .iter()
                .filter_map(|place| place.node.as_ref()?.published.as_ref().map(|it| it.term))
                .max()
                .unwrap_or_default(),
            ..Self::default()
        };
        for place in &world.places {
            if let Some(reason) = &place.ended {
                summary.ended.insert(place.name.clone(), world.named(reason));
            }
        }
        let Some(newest) = world.newest() else { return summary };
        let dictionary = &newest.dictionary;
        summary.version = dictionary.version;
        summary.roster = dictionary.roster.iter().map(|(id, member)| (world.name(*id), member.standing)).collect();
        summary.voters = newest.seats.voters.iter().map(|id| world.name(*id)).collect();
        summary.chains = dictionary
            .chains
            .iter()
            .map(|chain| (chain.epoch, chain.generation, chain.head().map(|head| world.name(head.node))))
            .collect();
        summary.served = world.served();
        summary
    }

    /// All of it, on one line.
    pub(super) fn told(&self) -> String {
        let commander =
            self.commander.as_ref().map_or("nobody".into(), |(name, term)| format!("{name} in term {term}"));
        let roster: Vec<String> = self.roster.iter().map(|(name, standing)| format!("{name} {standing}")).collect();
        format!(
            "commander {commander}; version {}; roster {}; voters {}; heads {}; {} of {} ranges served; ended {:?}",
            self.version,
            roster.join(", "),
            listed(&self.voters),
            self.heads(),
            self.served,
            self.chains.len(),
            self.ended
        )
    }

    /// Who heads how many ranges.
    pub(super) fn heads(&self) -> String {
        let mut heads: BTreeMap<&str, usize> = BTreeMap::new();
        for (.., head) in &self.chains {
            *heads.entry(head.as_deref().unwrap_or("nobody")).or_default() += 1;
        }
        heads.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
    }

    /// The ranges of which somebody else is the head now.
    pub(super) fn moved<'a>(&'a self, old: &'a Self) -> impl Iterator<Item = (RangeId, &'a str, &'a str)> {
        let name = |head: &'a Option<String>| head.as_deref().unwrap_or("nobody");
        let both = self.chains.iter().zip(&old.chains).enumerate();
        both.filter(|(_, ((.., new), (.., old)))| new != old)
            .map(move |(range, ((.., new), (.., old)))| (RangeId(range as u16), name(old), name(new)))
    }

    /// What has changed since, one thing a line.
    pub(super) fn since(&self, old: &Self) -> String {
        let mut lines = String::new();
        self.tell_roster(old, &mut lines);
        let commander = |it: &Option<(String, Term)>| {
            it.as_ref().map_or("nobody".to_string(), |(name, term)| format!("{name} (term {term})"))
        };
        if self.commander != old.commander {
            let _ = writeln!(lines, "commander: {} -> {}", commander(&old.commander), commander(&self.commander));
        }
        if self.voters != old.voters {
            let _ = writeln!(lines, "voters: {} -> {}", listed(&old.voters), listed(&self.voters));
        }
        if self.heads() != old.heads() {
            let _ = writeln!(
                lines,
                "heads: {} -> {}",
                if old.chains.is_empty() { "none".into() } else { old.heads() },
                self.heads()
            );
        }
        let anew = self.chains.iter().zip(&old.chains).filter(|((_, new, _), (_, old, _))| new > old).count();
        if anew > 0 {
            let _ = writeln!(lines, "begun anew: {anew} ranges");
        }
        if self.served != old.served {
            let _ = writeln!(lines, "served: {} of {} ranges", self.served, self.chains.len());
        }
        lines
    }

    fn tell_roster(&self, old: &Self, lines: &mut String) {
        for (name, reason) in self.ended.iter().filter(|(name, reason)| old.ended.get(*name) != Some(reason)) {
            let _ = writeln!(lines, "{name} ended: {reason}");
        }
        for (name, standing) in &self.roster {
            match old.roster.get(name) {
                Some(before) if before != standing => drop(writeln!(lines, "{name}: {before} -> {standing}")),
                None => drop(writeln!(lines, "{name}: on the roster, {standing}")),
                _ => {}
            }
        }
        for name in old.roster.keys().filter(|name| !self.roster.contains_key(*name)) {
            let _ = writeln!(lines, "{name}: off the roster");
        }
    }
}

fn listed(names: &BTreeSet<String>) -> String {
    if names.is_empty() { "none".into() } else { names.iter().cloned().collect::<Vec<_>>().join(" ") }
}
