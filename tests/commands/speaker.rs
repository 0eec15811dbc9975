//! One who answers commands, and scripts of commands with their replies.

use std::collections::BTreeSet;
use std::error::Error;

use bytes::{Bytes, BytesMut};
use goldenscript::{Command, Context, Runner};
use keyval::messages::client::Reply;
use keyval::resp::{Limits, Parser};

/// One who answers commands.
pub trait Speaker {
    /// The reply to one command.
    fn call(&mut self, words: &[Bytes]) -> Reply;

    /// Time goes by; false where it cannot be made to.
    fn advance(&mut self, _ms: u64) -> bool {
        false
    }

    /// From now on this listener is spoken to; false where there is one alone.
    fn door(&mut self, _name: &str) -> bool {
        false
    }
}

/// Plays scripts. A line after `>` is sent as a client would type it; others happen: `advance ms`, `door plain|cluster`.
pub struct Script<S> {
    speaker: S,
    /// All commands that were said.
    pub said: BTreeSet<Vec<Bytes>>,
}

impl<S: Speaker> Script<S> {
    /// With this one to answer.
    pub fn new(speaker: S) -> Self {
        Self { speaker, said: BTreeSet::new() }
    }
}

impl<S: Speaker> Runner for Script<S> {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Box<dyn Error>> {
        let argument = || command.consume_args().next_pos().unwrap_or_default();
        let happened = match command.name.as_str() {
            "advance" => self.speaker.advance(argument().parse()?),
            "door" => self.speaker.door(argument()),
            line => {
                let mut input = BytesMut::from(format!("{line}\r\n").as_bytes());
                let words = Parser::new(Limits::CLIENT).next(&mut input)?.ok_or("an empty command")?;
                let reply = self.speaker.call(&words);
                self.said.insert(words);
                return Ok(cut(shown(&reply)));
            }
        };
        if happened { Ok(String::new()) } else { Err(format!("cannot {}", command.name).into()) }
    }
}

/// Nobody reads a record of the whole table: its beginning will do.
fn cut(mut text: String) -> String {
    const MOST: usize = 1500;
    if text.len() > MOST {
        let rest = text.len() - MOST;
        text.truncate(MOST);
        text += &format!("... and {rest} more");
    }
    text
}

/// A reply as one line. Sets are put in order, for theirs is nobody's promise; text for people keeps its lines.
pub fn shown(reply: &Reply) -> String {
    match reply {
        Reply::Simple(text) => format!("+{text}"),
        Reply::Error(text) => format!("-{text}"),
        Reply::Integer(number) => format!(":{number}"),
        Reply::Bulk(bytes) => format!("\"{}\"", bytes.escape_ascii()),
        Reply::Null => "nil".into(),
        Reply::Array(items) => format!("[{}]", all(items).join(", ")),
        Reply::Set(items) => {
            let mut items = all(items);
            items.sort();
            format!("~[{}]", items.join(", "))
        }
        Reply::Map(pairs) => {
            let pairs: Vec<String> =
                pairs.iter().map(|(key, value)| format!("{}: {}", shown(key), shown(value))).collect();
            format!("{{{}}}", pairs.join(", "))
        }
        Reply::Double(number) => format!(",{number}"),
        Reply::Boolean(truth) => format!("#{truth}"),
        Reply::Verbatim(text) => text.replace("\r\n", "\n").trim_end().to_owned(),
    }
}

fn all(items: &[Reply]) -> Vec<String> {
    items.iter().map(shown).collect()
}
