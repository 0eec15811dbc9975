//! Large replies that many clients ask for and that change with the dictionary at most, kept as bytes: one shelf a worker.
//!
//! A client's start asks for `COMMAND` (tens of kilobytes) and for a map of the slots; after a failover all clients ask for the
//! map at once. Each is encoded once for each listener, protocol and state of the dictionary.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::commands::view::Door;
use crate::machines::election::Published;
use crate::resp::Protocol;

/// Which reply: the command by its name in the table, for which listener, in which protocol.
type Label = (&'static str, Door, Protocol);

/// The replies kept, each with the state of the dictionary that it tells.
#[derive(Debug, Default)]
pub struct Shelf {
    kept: HashMap<Label, (Option<Arc<Published>>, Bytes)>,
}

/// Whether the reply to these words is worth keeping: the command by its name in the table, and how many words there are.
pub fn is_kept(name: &str, words: usize) -> bool {
    match name {
        "command" => words == 1,
        "command|docs" | "cluster|slots" | "cluster|shards" | "cluster|nodes" => words == 2,
        _ => false,
    }
}

impl Shelf {
    /// The reply, if it was encoded for this very state of the dictionary; else what `encode` gives, which is kept.
    pub fn reply(
        &mut self,
        (name, door, protocol): Label,
        published: Option<&Arc<Published>>,
        encode: impl FnOnce() -> Bytes,
    ) -> Bytes {
        let is_of = |other: &Option<Arc<Published>>| match (published, other) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        };
        if let Some((_, bytes)) = self.kept.get(&(name, door, protocol)).filter(|(of, _)| is_of(of)) {
            return bytes.clone();
        }
        let bytes = encode();
        self.kept.insert((name, door, protocol), (published.cloned(), bytes.clone()));
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_encoded_once_for_each_protocol() {
        let mut shelf = Shelf::default();
        let mut encoded = 0;
        for protocol in [Protocol::Resp2, Protocol::Resp2, Protocol::Resp3, Protocol::Resp2] {
            shelf.reply(("command", Door::Plain, protocol), None, || {
                encoded += 1;
                Bytes::from_static(b"*0\r\n")
            });
        }
        assert_eq!(encoded, 2);
        assert!(is_kept("cluster|slots", 2) && !is_kept("command", 2));
    }
}
