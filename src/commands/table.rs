//! The one table: every command that Keyval knows, family by family, and how a name is found in it.

use bytes::Bytes;

use super::spec::Spec;
use super::view::ConnectionState;
use super::{cluster, configuration, connection, errors, flush, generic, info, introspection, mesh, scan, strings};
use crate::commands::spec::Flags;
use crate::messages::client::Reply;

/// The families, in the order in which `COMMAND` lists them.
const FAMILIES: [&[Spec]; 10] = [
    connection::COMMANDS,
    introspection::COMMANDS,
    configuration::COMMANDS,
    info::COMMANDS,
    cluster::COMMANDS,
    mesh::COMMANDS,
    strings::COMMANDS,
    generic::COMMANDS,
    scan::COMMANDS,
    flush::COMMANDS,
];

const COUNT: usize = {
    let (mut count, mut family) = (0, 0);
    while family < FAMILIES.len() {
        count += FAMILIES[family].len();
        family += 1;
    }
    count
};

/// All commands; subcommands stand within their parents.
pub static TABLE: &[&Spec] = &{
    let mut table = [&Spec::BASE; COUNT];
    let (mut place, mut family) = (0, 0);
    while family < FAMILIES.len() {
        let mut entry = 0;
        while entry < FAMILIES[family].len() {
            table[place] = &FAMILIES[family][entry];
            place += 1;
            entry += 1;
        }
        family += 1;
    }
    table
};

/// From the hash of a name to the place in the table, plus one; a name whose place is taken stands in the next free one.
static INDEX: [u8; 256] = {
    assert!(COUNT < 200, "the index needs more room");
    let mut index = [0u8; 256];
    let mut place = 0;
    while place < COUNT {
        let mut at = hash(TABLE_NAMES[place].as_bytes());
        while index[at as usize] != 0 {
            at = at.wrapping_add(1);
        }
        index[at as usize] = place as u8 + 1;
        place += 1;
    }
    index
};

const TABLE_NAMES: [&str; COUNT] = {
    let mut names = [""; COUNT];
    let (mut place, mut family) = (0, 0);
    while family < FAMILIES.len() {
        let mut entry = 0;
        while entry < FAMILIES[family].len() {
            names[place] = FAMILIES[family][entry].name;
            place += 1;
            entry += 1;
        }
        family += 1;
    }
    names
};

const fn hash(name: &[u8]) -> u8 {
    let (mut hash, mut place) = (name.len() as u32, 0);
    while place < name.len() {
        hash = (hash ^ (name[place] | 0x20) as u32).wrapping_mul(0x0100_0193);
        place += 1;
    }
    (hash ^ hash >> 8 ^ hash >> 16 ^ hash >> 24) as u8
}

/// The command of that name, in any case.
pub fn lookup(name: &[u8]) -> Option<&'static Spec> {
    let mut at = hash(name);
    loop {
        let place = INDEX[usize::from(at)].checked_sub(1)?;
        let spec = TABLE[usize::from(place)];
        if spec.name.as_bytes().eq_ignore_ascii_case(name) {
            return Some(spec);
        }
        at = at.wrapping_add(1);
    }
}

/// The command or subcommand that these words are, if there is one and it takes so many words.
///
/// # Errors
/// What the client is told otherwise.
pub fn resolve(words: &[Bytes]) -> Result<&'static Spec, Reply> {
    let mut spec = words.first().and_then(|name| lookup(name)).ok_or_else(|| errors::unknown_command(words))?;
    if let (false, Some(name)) = (spec.subcommands.is_empty(), words.get(1)) {
        spec = spec.subcommand(name).ok_or_else(|| errors::unknown_subcommand(spec, name))?;
    }
    if spec.takes(words.len()) { Ok(spec) } else { Err(errors::wrong_number(spec.name)) }
}

/// What these words are, if this connection may say them now: the first thing a session asks about a command.
///
/// # Errors
/// What the client is told otherwise.
pub fn admit(state: &ConnectionState, words: &[Bytes]) -> Result<&'static Spec, Reply> {
    let spec = resolve(words)?;
    if state.authenticated || spec.flags.has(Flags::NO_AUTH) { Ok(spec) } else { Err(errors::no_auth()) }
}

/// The keys among the words of a command.
pub fn keys<'a>(spec: &Spec, words: &'a [Bytes]) -> impl Iterator<Item = &'a Bytes> {
    spec.keys.places(words.len()).map(|place| &words[place])
}
