//! What clients are told when something cannot be done. The first word is a code that clients act on (docs/errors.md):
//! `MOVED`, `TRYAGAIN` and `CLUSTERDOWN` make them send the command again, so they mean that it was surely not applied.

use bytes::Bytes;

use super::spec::Spec;
use crate::messages::client::Reply;
use crate::types::Slot;

/// How much of what a client sent is given back to it in an error.
const ECHO: usize = 128;

/// Nobody's command.
pub fn unknown_command(words: &[Bytes]) -> Reply {
    let name = words.first().map(|name| shown(name, ECHO)).unwrap_or_default();
    let mut arguments = String::new();
    for word in words.iter().skip(1) {
        if arguments.len() >= ECHO {
            break;
        }
        arguments += &format!("'{}' ", shown(word, ECHO - arguments.len()));
    }
    Reply::error(format!("ERR unknown command '{name}', with args beginning with: {arguments}"))
}

/// A command that is ours, with a subcommand that is not.
pub fn unknown_subcommand(spec: &Spec, name: &[u8]) -> Reply {
    let parent = spec.name.to_ascii_uppercase();
    Reply::error(format!("ERR unknown subcommand '{}'. Try {parent} HELP.", shown(name, ECHO)))
}

/// Too few words, or too many.
pub fn wrong_number(name: &str) -> Reply {
    Reply::error(format!("ERR wrong number of arguments for '{name}' command"))
}

/// Words that make no sense together.
pub fn syntax() -> Reply {
    Reply::error("ERR syntax error")
}

/// Not a whole number of 64 bits.
pub fn not_an_integer() -> Reply {
    Reply::error("ERR value is not an integer or out of range")
}

/// A time to live that is none, or beyond all calendars.
pub fn invalid_expire(name: &str) -> Reply {
    Reply::error(format!("ERR invalid expire time in '{name}' command"))
}

/// The client has not said who it is.
pub fn no_auth() -> Reply {
    Reply::error("NOAUTH Authentication required.")
}

/// What was said does not say who it is.
pub fn wrong_pass() -> Reply {
    Reply::error("WRONGPASS invalid username-password pair or user is disabled.")
}

/// For a client of another host while there is no password (protected mode). Then the connection is closed.
pub fn protected() -> Reply {
    Reply::error(
        "DENIED Keyval has no password and answers only clients of its own host. Either set client.password on every node, \
         or, if everyone who can reach this port may use the data, set client.protected to false, and restart; or connect \
         from the node's own host.",
    )
}

/// There are as many connections as there may be. Then the connection is closed.
pub fn max_clients() -> Reply {
    Reply::error("ERR max number of clients reached")
}

/// Another node's slot; clients go there. `host_port` as the map replies spell it.
pub fn moved(slot: Slot, host_port: &str) -> Reply {
    Reply::error(format!("MOVED {slot} {host_port}"))
}

/// Keys of several slots in a command that cannot be split.
pub fn cross_slot() -> Reply {
    Reply::error("CROSSSLOT Keys in request don't hash to the same slot")
}

/// Surely not applied: the range changes hands, or is held up, for longer than commands are held.
pub fn try_again() -> Reply {
    Reply::error("TRYAGAIN The range of this key changes hands; nothing was applied, try again")
}

/// Surely not applied: this node is not in a mesh yet.
pub fn joining() -> Reply {
    Reply::error("CLUSTERDOWN This node is joining and belongs to no mesh yet; nothing was applied, try again")
}

/// Surely not applied: too much is in flight.
pub fn busy() -> Reply {
    Reply::error("TRYAGAIN Too many commands are in flight; nothing was applied, try again")
}

/// The command may have happened or not. No client sends it again by itself.
pub fn uncertain() -> Reply {
    Reply::error(
        "UNCERTAIN The command may have been applied or not: its head was lost before it could tell; read before you write again",
    )
}

/// Part of a split command happened, part did not.
pub fn partly(rest: &str) -> Reply {
    Reply::error(format!("UNCERTAIN The command was applied to some of its keys, and not to others: {rest}"))
}

/// The bytes as text for people, at most so many of them.
fn shown(bytes: &[u8], limit: usize) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(limit)]).into_owned()
}
