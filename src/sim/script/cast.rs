//! Who plays which part: names for nodes by their place in a key's chain, so that a story meets the moment that it tells of
//! however the ranges happen to lie.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::error::Error;

use goldenscript::{Argument, Command};

use super::{Answer, Arguments, shows};
use crate::sim::world::World;

/// Which node each letter stands for.
#[derive(Debug, Default)]
pub(super) struct Cast(BTreeMap<char, String>);

impl Cast {
    /// Names the holders of a key, head first, and then all others that run, in the order of their numbers: A, B, C and so on.
    pub(super) fn bind(&mut self, world: &World, arguments: &mut Arguments) -> Answer {
        let (_, chain) = shows::chain_of(world, arguments)?;
        let mut nodes: Vec<String> = chain.holders.iter().map(|holder| world.name(holder.node)).collect();
        for place in world.places.iter().filter(|place| place.node.is_some()) {
            let identity = place.disk.identity().map(|it| world.name(it.node));
            nodes.extend(identity.filter(|name| !nodes.contains(name)));
        }
        self.0 = ('A'..='Z').zip(nodes).collect();
        let told: Vec<String> = self.0.iter().map(|(letter, name)| format!("{letter}: {name}")).collect();
        Ok(format!("{}\n", told.join(", ")))
    }

    /// A command, with the names of nodes for the letters that stand for them.
    ///
    /// # Errors
    /// When a letter stands for nobody: else a story could go on and meet another moment than it tells of.
    pub(super) fn named(&self, command: &Command) -> Result<Command, Box<dyn Error>> {
        let mut command = command.clone();
        for argument in &mut command.args {
            if let Argument::Positional(text) | Argument::KeyValue(_, text) = argument {
                *text = self.node(text)?.into_owned();
            }
        }
        Ok(command)
    }

    /// A text, with the names of nodes for the words in it that stand for them. `Ab` is to A as n2b is to n2.
    pub(super) fn node<'a>(&self, text: &'a str) -> Result<Cow<'a, str>, Box<dyn Error>> {
        let mut words: Vec<Cow<str>> = text.split(' ').map(Cow::from).collect();
        for word in &mut words {
            let Some((letter, later)) = part(word) else { continue };
            let name = self.0.get(&letter).ok_or_else(|| format!("{word}: nobody plays that part, see `help cast`"))?;
            *word = format!("{name}{later}").into();
        }
        Ok(words.join(" ").into())
    }
}

/// The letter that a word consists of, and which later identity of that node is meant.
fn part(word: &str) -> Option<(char, &str)> {
    let letter = word.chars().next().filter(char::is_ascii_uppercase)?;
    let later = &word[1..];
    matches!(later.as_bytes(), [] | [b'b'..=b'z']).then_some((letter, later))
}
