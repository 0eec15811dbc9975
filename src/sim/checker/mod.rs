//! What must be true in every run, whatever happens: each rule an object that is shown the facts as they occur.
//!
//! A checker sees more than any node does: all nodes at one true instant. It never touches the mesh. Each comes with a test
//! that shows it a history that breaks its rule.

mod acknowledged;
mod anew;
mod answers;
mod bounded;
mod complete;
mod counters;
mod equal_copies;
mod losses;
mod never_back;
mod objects;
mod one_commander;
mod registers;
mod same_dictionary;
mod shares;
mod stable_words;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

pub use acknowledged::Acknowledged;
pub use anew::Anew;
pub use answers::{LawfulAnswers, OneAnswerer};
pub use bounded::Bounded;
pub use complete::Complete;
pub use counters::{Clash, Counted, Counters, judge as judge_counter};
pub use equal_copies::{EqualCopies, unequal};
pub use losses::Losses;
pub use never_back::NeverBack;
pub use objects::{Asked, Call, Came, Objects};
pub use one_commander::OneCommander;
pub use registers::{Contradiction, Kind, Operation, Registers, judge as judge_register};
pub use same_dictionary::SameDictionary;
pub use shares::{Shares, uneven};
pub use stable_words::StableWords;

use super::clock::Time;
use crate::machines::dictionary::Dictionary;
use crate::machines::election::Published;
use crate::machines::store::Progress;
use crate::messages::election::{ElectionMessage, Recovered};
use crate::messages::ownership::Chain;
use crate::types::{Incarnation, NodeId, RangeId, Term};

/// Something that occurred, as the world saw it.
#[derive(Debug)]
pub enum Fact<'a> {
    /// A process begins with this on its disk.
    Started {
        /// Whose.
        node: NodeId,
        /// In which life.
        life: Incarnation,
        /// The term its disk knows.
        term: Term,
    },
    /// A process is over.
    Ended {
        /// Whose.
        node: NodeId,
        /// In which life.
        life: Incarnation,
    },
    /// A node published what it knows to be agreed.
    Published {
        /// Who.
        node: NodeId,
        /// In which life.
        life: Incarnation,
        /// What.
        published: &'a Arc<Published>,
    },
    /// A store carried out commands of one range and answers.
    Answered {
        /// Whose store.
        node: NodeId,
        /// In which life.
        life: Incarnation,
        /// For which range.
        range: RangeId,
        /// The chain that this store goes by: it may not have heard yet of a newer one that others of its node have adopted.
        chain: &'a Chain,
        /// The chain in the newest dictionary that anybody has published.
        newest: &'a Chain,
        /// What every living process has of the range, its own included.
        copies: &'a [Copied],
        /// Everybody else who could answer for this range at this instant.
        others: Vec<NodeId>,
    },
    /// A chain is agreed that nobody had published before.
    Agreed {
        /// Of which range.
        range: RangeId,
        /// Where it stands.
        dictionary: &'a Dictionary,
        /// What every living process has of the range.
        copies: &'a [Copied],
    },
    /// A word of the consensus leaves a node.
    Said {
        /// Whose.
        node: NodeId,
        /// What.
        message: &'a ElectionMessage,
        /// What its disk holds for certain.
        stable: &'a Recovered,
        /// The last record that its disk held in the term of the word.
        reached: u64,
        /// Whether it is the only voter, as far as it knows.
        alone: bool,
    },
    /// A client's operation is over.
    Operation(&'a Operation),
    /// A client's INCR was answered.
    Counted(&'a Counted),
    /// A client has done something to an object.
    Called(&'a Call),
    /// All nodes at one instant.
    Sample(&'a [View]),
    /// The same, after a time in which nothing was done to the mesh.
    Quiet(&'a [View]),
}

/// One running node at one instant.
#[derive(Clone, Debug)]
pub struct View {
    /// Who.
    pub node: NodeId,
    /// In which life.
    pub life: Incarnation,
    /// What it knows to be agreed, once it does.
    pub published: Option<Arc<Published>>,
    /// The ranges for which it can answer now.
    pub answers: Vec<RangeId>,
    /// What waits in its queues: what kind, how many, and how many may.
    pub queues: Vec<(&'static str, usize, usize)>,
    /// What it has of each range; now and then, and when nothing happens any more.
    pub copies: BTreeMap<RangeId, (Progress, u64)>,
}

impl View {
    /// What it has of a range.
    pub fn copy_of(&self, range: RangeId) -> Copied {
        let found = self.copies.get(&range);
        let (node, life) = (self.node, self.life);
        Copied { node, life, progress: found.map(|it| it.0), digest: found.map(|it| it.1) }
    }
}

/// What a living process has of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Whose.
    pub node: NodeId,
    /// In which life.
    pub life: Incarnation,
    /// How far it has come; none if there is no copy.
    pub progress: Option<Progress>,
    /// Of all keys and values, where they were looked at.
    pub digest: Option<u64>,
}

/// A rule.
pub trait Checker: fmt::Debug {
    /// Its name, as a violation names it.
    fn name(&self) -> &'static str;

    /// Is shown a fact.
    ///
    /// # Errors
    /// When the fact breaks the rule: how, in words.
    fn observe(&mut self, at: Time, fact: &Fact<'_>) -> Result<(), String>;

    /// Looks back at the end of a run.
    ///
    /// # Errors
    /// When what was seen breaks the rule: how, in words.
    fn finish(&mut self) -> Result<(), String> {
        Ok(())
    }

    /// What it could not judge, for that would have taken too long.
    fn unfinished(&self) -> u64 {
        0
    }
}

/// A rule was broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{at} {checker}: {what}")]
pub struct Violation {
    /// Which rule.
    pub checker: &'static str,
    /// When.
    pub at: Time,
    /// How.
    pub what: String,
}

/// All rules, and the first violation.
#[derive(Debug)]
pub struct Checkers {
    all: Vec<Box<dyn Checker>>,
    violation: Option<Violation>,
}

impl Default for Checkers {
    fn default() -> Self {
        Self {
            all: vec![
                Box::<OneCommander>::default(),
                Box::<NeverBack>::default(),
                Box::<SameDictionary>::default(),
                Box::<StableWords>::default(),
                Box::<Complete>::default(),
                Box::<OneAnswerer>::default(),
                Box::<LawfulAnswers>::default(),
                Box::<Acknowledged>::default(),
                Box::<Losses>::default(),
                Box::<Anew>::default(),
                Box::<EqualCopies>::default(),
                Box::<Counters>::default(),
                Box::<Bounded>::default(),
                Box::<Shares>::default(),
                Box::<Registers>::default(),
                Box::<Objects>::default(),
            ],
            violation: None,
        }
    }
}

impl Checkers {
    /// Shows a fact to every rule.
    pub fn observe(&mut self, at: Time, fact: &Fact<'_>) {
        for checker in &mut self.all {
            if let Err(what) = checker.observe(at, fact) {
                self.violation.get_or_insert(Violation { checker: checker.name(), at, what });
            }
        }
    }

    /// Lets every rule look back.
    pub fn finish(&mut self, at: Time) {
        for checker in &mut self.all {
            if let Err(what) = checker.finish() {
                self.violation.get_or_insert(Violation { checker: checker.name(), at, what });
            }
        }
    }

    /// Notes a violation that a rule outside this list found.
    pub fn violate(&mut self, at: Time, checker: &'static str, what: String) {
        self.violation.get_or_insert(Violation { checker, at, what });
    }

    /// How many histories could not be judged, for that would have taken too long.
    pub fn unfinished(&self) -> u64 {
        self.all.iter().map(|checker| checker.unfinished()).sum()
    }

    /// The first violation, if there was one.
    pub fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }
}
