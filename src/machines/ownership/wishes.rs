//! What operators want of nodes and the log is to say: that they leave or stay, that they vote or learn.
//!
//! The last word about each counts. Whoever gave it is answered once it is agreed; what follows from it takes its time.

use crate::machines::dictionary::{Dictionary, may_assign, part_words};
use crate::machines::election::Published;
use crate::messages::ownership::{Command, Franchise, Member, Part, Role};
use crate::types::NodeId;

use super::drain;
use super::roster::{Asker, Reply};
use super::watch::Watch;

/// What an operator wants of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// That it gives away all it holds and leaves, or stays after all.
    Leave(bool),
    /// That it votes, or does not.
    Vote(Franchise),
    /// That it takes such a share, or what it says itself.
    Weigh(Option<u32>),
    /// That it is in this zone, or where it says itself.
    Zone(Option<String>),
}

impl Want {
    /// Whether the roster says so.
    fn is_so(&self, member: &Member) -> bool {
        match self {
            Self::Leave(leaves) => member.drains == *leaves,
            Self::Vote(franchise) => member.franchise == *franchise,
            Self::Weigh(weight) => member.part.weight == *weight,
            Self::Zone(zone) => member.part.zone == *zone,
        }
    }

    fn is_about_the_same(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }

    fn command(&self, member: &Member) -> Command {
        let node = member.node.id;
        match self {
            Self::Leave(drains) => Command::Drain { node, drains: *drains },
            Self::Vote(franchise) => Command::Enfranchise { node, franchise: *franchise },
            Self::Weigh(weight) => Command::Assign { node, part: Part { weight: *weight, ..member.part.clone() } },
            Self::Zone(zone) => Command::Assign { node, part: Part { zone: zone.clone(), ..member.part.clone() } },
        }
    }

    /// Whether it may be wanted of a node that is otherwise.
    fn may_be(&self, member: &Member, published: &Published, watch: &Watch) -> Result<(), String> {
        match self {
            Self::Leave(true) => {
                drain::may_leave(member, &published.dictionary, watch).and_then(|()| may_learn(member, published))
            }
            Self::Leave(false) if drain::is_drained(member, &published.dictionary) => {
                Err(format!("{} holds nothing any more, and leaves; start another node instead", member.node.name))
            }
            Self::Vote(Franchise::Learns) => may_learn(member, published),
            Self::Leave(false) | Self::Vote(_) | Self::Weigh(_) | Self::Zone(_) => self.can_be_agreed(member),
        }
    }

    /// Whether the log can say so of a node as it is on the roster: it may have changed since that was wanted.
    fn can_be_agreed(&self, member: &Member) -> Result<(), String> {
        match self {
            Self::Weigh(weight) => may_assign(member, &Part { weight: *weight, ..Part::default() }),
            Self::Zone(zone) => may_assign(member, &Part { zone: zone.clone(), ..Part::default() }),
            Self::Leave(_) | Self::Vote(_) => Ok(()),
        }
    }

    /// What became of it, for people.
    fn words(&self, dictionary: &Dictionary, node: NodeId) -> String {
        let name = dictionary.name_of(node);
        match (self, dictionary.member(node)) {
            (Self::Leave(_), _) => drain::words(dictionary, node),
            (_, None) => format!("node {node} is off the roster"),
            (Self::Weigh(_) | Self::Zone(_), Some(member)) => format!("{name} {}", part_words(member)),
            (Self::Vote(_), Some(member)) => match member.franchise {
                Franchise::Votes => format!("{name} votes, as soon as it has the whole log and is heard"),
                Franchise::Learns => format!("{name} does not vote; it goes on learning what is agreed"),
                Franchise::Any => format!("{name} votes where there is a seat for it"),
            },
        }
    }
}

/// Another that could rule must be left among the voters.
fn may_learn(member: &Member, published: &Published) -> Result<(), String> {
    let (node, name) = (member.node.id, &member.node.name);
    let can_rule = |other: &NodeId| {
        let other = published.dictionary.member(*other).filter(|other| other.node.id != node);
        other.is_some_and(|it| it.node.role == Role::Drone && !it.drains && it.franchise != Franchise::Learns)
    };
    if !published.seats.votes(node) || published.seats.voters.iter().any(can_rule) {
        return Ok(());
    }
    Err(format!("{name} is the only voter that can command; promote another drone first"))
}

/// What is wanted and not agreed yet.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    list: Vec<Wish>,
}

#[derive(Debug)]
struct Wish {
    node: NodeId,
    want: Want,
    askers: Vec<Asker>,
}

impl Wishes {
    /// An operator wants something; `is_first` if this is not the same asking again. An answer, if there is one already.
    pub fn hear(
        &mut self,
        asker: Asker,
        is_first: bool,
        (node, want): (NodeId, Want),
        published: &Published,
        watch: &Watch,
    ) -> Option<Reply> {
        let dictionary = &published.dictionary;
        let Some(member) = dictionary.member(node) else {
            let is_over = want == Want::Leave(true) && dictionary.gone.contains_key(&node);
            let over = || vec![format!("node {node} is off the roster already")];
            return Some((asker, if is_over { Ok(over()) } else { Err(format!("no node {node} is on the roster")) }));
        };
        if !want.is_so(member)
            && let Err(why) = want.may_be(member, published, watch)
        {
            return Some((asker, Err(why)));
        }
        let known = self.list.iter().position(|wish| wish.node == node && wish.want.is_about_the_same(&want));
        if known.is_none() && !is_first {
            // The answer was lost, and another word may have been given since.
            return Some((asker, Ok(vec![want.words(dictionary, node)])));
        }
        let place = known.unwrap_or_else(|| {
            self.list.push(Wish { node, want: want.clone(), askers: Vec::new() });
            self.list.len() - 1
        });
        let wish = &mut self.list[place];
        if is_first {
            wish.want = want;
        }
        if !wish.askers.contains(&asker) {
            wish.askers.push(asker);
        }
        None
    }

    /// Takes what is agreed by now off the list, with the answers to it.
    pub fn settle(&mut self, dictionary: &Dictionary) -> Vec<Reply> {
        let is_settled = |wish: &mut Wish| {
            let member = dictionary.member(wish.node);
            member.is_none_or(|member| wish.want.is_so(member) || wish.want.can_be_agreed(member).is_err())
        };
        let settled = self.list.extract_if(.., is_settled);
        let answers = settled.flat_map(|wish| {
            let differs = dictionary.member(wish.node).filter(|member| !wish.want.is_so(member));
            let refused = differs.and_then(|member| wish.want.can_be_agreed(member).err());
            let result = refused.map_or_else(|| Ok(vec![wish.want.words(dictionary, wish.node)]), Err);
            wish.askers.into_iter().map(move |asker| (asker, result.clone()))
        });
        answers.collect()
    }

    /// The next command that says what is wanted.
    pub fn next(&self, dictionary: &Dictionary) -> Option<Command> {
        self.list.iter().find_map(|wish| {
            let member = dictionary.member(wish.node).filter(|member| !wish.want.is_so(member))?;
            wish.want.can_be_agreed(member).ok().map(|()| wish.want.command(member))
        })
    }
}
