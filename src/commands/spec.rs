//! What is known of a command before it is carried out: one entry of the table.

use bytes::Bytes;

use super::connection::Ran;
use super::data::Scope;
use super::view::{ConnectionState, View};
use crate::messages::client::Reply;

/// One command, or one subcommand of one.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// Its name in lower case; a subcommand's begins with its parent's: `client|id`.
    pub name: &'static str,
    /// How many words it has, itself included; negative: at least so many.
    pub arity: i32,
    /// What it does and when it may be used.
    pub flags: Flags,
    /// Which of its words are keys.
    pub keys: KeyPlaces,
    /// What it does with its keys, in the words of `COMMAND INFO`.
    pub key_flags: &'static [&'static str],
    /// Access categories besides those that the flags imply.
    pub categories: &'static [&'static str],
    /// Hints to cluster-aware clients, which route by them.
    pub tips: &'static [&'static str],
    /// Where it stands in the handbook.
    pub group: &'static str,
    /// The version of Redis that had it first; of Keyval, where Redis has it not.
    pub since: &'static str,
    /// What it does, for people.
    pub summary: &'static str,
    /// What it costs.
    pub complexity: &'static str,
    /// Since when something else should be used, and what.
    pub deprecated: Option<(&'static str, &'static str)>,
    /// Its subcommands.
    pub subcommands: &'static [Spec],
    /// Who carries it out, and how.
    pub work: Work,
}

/// Who carries a command out.
#[derive(Clone, Copy, Debug)]
pub enum Work {
    /// The session itself, from what it knows.
    Connection(fn(&mut ConnectionState, &View, &[Bytes]) -> Ran),
    /// The heads of ranges. What it does follows from the keyspace, the wall clock and its words alone: with
    /// `replication.mode = command` other holders may carry it out again. One that draws lots, or looks at anything else, has to
    /// be kept out of `machines::chain::recipe`.
    Data(Route, fn(&mut Scope<'_>, &[Bytes]) -> Result<Reply, Reply>),
    /// Whoever renders the mesh for operators.
    Mesh,
    /// Nobody: it has subcommands alone.
    Subcommands,
}

/// Which ranges a command concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// The one in which all its keys lie; they must share a slot.
    Keys,
    /// Those in which its keys lie; the replies are joined.
    Split(Join),
    /// All.
    Every(Join),
    /// The next ones after a cursor.
    Scan,
    /// The one of the slot that its third word names.
    Slot,
}

/// How the replies of several ranges become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Join {
    /// One value a key, in the order of the keys.
    Values,
    /// The sum.
    Sum,
    /// `OK` if all say so.
    Ok,
}

/// Which words of a command are keys: the first, the last (counted from the end if negative), every how many. Zero: none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyPlaces {
    /// The first one's place; the name is at 0.
    pub first: i32,
    /// The last one's.
    pub last: i32,
    /// From one to the next.
    pub step: i32,
}

impl KeyPlaces {
    /// No word is.
    pub const NONE: Self = Self { first: 0, last: 0, step: 0 };
    /// The word after the name is.
    pub const ONE: Self = Self { first: 1, last: 1, step: 1 };
    /// All words after the name are.
    pub const ALL: Self = Self { first: 1, last: -1, step: 1 };
    /// Every other word after the name is, beginning with the first.
    pub const PAIRS: Self = Self { first: 1, last: -1, step: 2 };

    /// The places of the keys in a command of so many words.
    pub fn places(self, words: usize) -> impl Iterator<Item = usize> + Clone {
        let last = if self.last < 0 { words as i64 + i64::from(self.last) } else { i64::from(self.last) };
        let end = if self.first == 0 { 0 } else { (last + 1).clamp(0, words as i64) as usize };
        (self.first as usize..end).step_by(self.step.max(1) as usize)
    }
}

/// A set of flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags(u16);

impl Flags {
    /// None.
    pub const NONE: Self = Self(0);
    /// May change keys.
    pub const WRITE: Self = Self(1);
    /// Reads keys.
    pub const READONLY: Self = Self(1 << 1);
    /// May need more memory.
    pub const DENYOOM: Self = Self(1 << 2);
    /// For operators.
    pub const ADMIN: Self = Self(1 << 3);
    /// Not in scripts.
    pub const NOSCRIPT: Self = Self(1 << 4);
    /// Also while data is loaded.
    pub const LOADING: Self = Self(1 << 5);
    /// Also while what is known may be old.
    pub const STALE: Self = Self(1 << 6);
    /// Never takes long.
    pub const FAST: Self = Self(1 << 7);
    /// Also before the client has said who it is.
    pub const NO_AUTH: Self = Self(1 << 8);
    /// Also while a script runs too long.
    pub const ALLOW_BUSY: Self = Self(1 << 9);
    /// Not while data is loaded beside the old.
    pub const NO_ASYNC_LOADING: Self = Self(1 << 10);

    const NAMES: [(Self, &'static str); 11] = [
        (Self::WRITE, "write"),
        (Self::READONLY, "readonly"),
        (Self::DENYOOM, "denyoom"),
        (Self::ADMIN, "admin"),
        (Self::NOSCRIPT, "noscript"),
        (Self::LOADING, "loading"),
        (Self::STALE, "stale"),
        (Self::FAST, "fast"),
        (Self::NO_AUTH, "no_auth"),
        (Self::ALLOW_BUSY, "allow_busy"),
        (Self::NO_ASYNC_LOADING, "no_async_loading"),
    ];

    /// These and those.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of these are set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// As `COMMAND INFO` names them.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().filter(move |(flag, _)| self.has(*flag)).map(|(_, name)| name)
    }
}

impl Spec {
    /// What entries of the table have unless they say otherwise.
    pub(super) const BASE: Self = Self {
        name: "",
        arity: 1,
        flags: Flags::NONE,
        keys: KeyPlaces::NONE,
        key_flags: &[],
        categories: &[],
        tips: &[],
        group: "server",
        since: "1.0.0",
        summary: "",
        complexity: "O(1)",
        deprecated: None,
        subcommands: &[],
        work: Work::Subcommands,
    };

    /// Whether so many words are lawful.
    pub fn takes(&self, words: usize) -> bool {
        let words = words as i64;
        let arity = i64::from(self.arity);
        if arity < 0 { words >= -arity } else { words == arity }
    }

    /// Whether it may change keys.
    pub fn writes(&self) -> bool {
        self.flags.has(Flags::WRITE)
    }

    /// The last part of its name: of a subcommand, what follows the parent's.
    pub fn own_name(&self) -> &'static str {
        self.name.rsplit('|').next().unwrap_or(self.name)
    }

    /// Its subcommand of that name, in any case.
    pub fn subcommand(&self, name: &[u8]) -> Option<&'static Spec> {
        self.subcommands.iter().find(|sub| sub.own_name().as_bytes().eq_ignore_ascii_case(name))
    }

    /// All its access categories, without the `@`, in the order in which Redis lists them.
    pub fn all_categories(&self) -> impl Iterator<Item = &'static str> {
        let (flags, own) = (self.flags, self.categories);
        let is_slow = !flags.has(Flags::FAST);
        let applies = move |(name, implied): &(&str, Option<Flags>)| {
            own.contains(name) || implied.is_some_and(|flag| flags.has(flag)) || *name == "slow" && is_slow
        };
        CATEGORIES.into_iter().filter(applies).map(|(name, _)| name)
    }
}

/// Access categories, and the flag that implies them.
const CATEGORIES: [(&str, Option<Flags>); 9] = [
    ("keyspace", None),
    ("read", Some(Flags::READONLY)),
    ("write", Some(Flags::WRITE)),
    ("string", None),
    ("admin", Some(Flags::ADMIN)),
    ("fast", Some(Flags::FAST)),
    ("slow", None),
    ("dangerous", Some(Flags::ADMIN)),
    ("connection", None),
];
