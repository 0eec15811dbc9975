//! Stories: what happens to a mesh, told line by line, and what was seen of it, recorded below.
//!
//! A story is a text in goldenscript's manner: blocks of commands, then `---`, then their output. Somebody writes the commands
//! and reads the recorded output, and only then is it kept; from then on a run that gives another one fails. Whatever lets time
//! pass also tells what changed meanwhile (`summary`), so a story shows the mesh as its operator would see it. Rules are
//! checked throughout, and a broken one fails the story, whatever its output. The language is listed in [`help`]; `by_hand` tells
//! one line at a time.

mod acts;
mod by_hand;
mod cast;
mod conditions;
pub mod help;
mod shows;
mod summary;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use goldenscript::{Argument, Command, Context};

use super::clock::Time;
use super::network::Host;
use super::trace::Keep;
use super::world::{Asker, Told, World, words};
use crate::messages::client::Reply;
use cast::Cast;
use conditions::Condition;
use summary::Summary;

/// How long a story waits for what it does not say how long to wait for.
const PATIENCE: Duration = Duration::from_secs(30);

const NO_MESH: &str = "no mesh yet: a story begins with `mesh`";

pub use by_hand::ByHand;

type Answer = Result<String, Box<dyn Error>>;

/// A story being told.
#[derive(Debug, Default)]
pub struct Story {
    world: Option<World>,
    seen: Summary,
    remembered: Summary,
    remembered_at: Time,
    asked: BTreeMap<u64, String>,
    cast: Cast,
    /// How much of what happens is kept for whoever tells it.
    keep: Keep,
}

/// Tells the story in a text; what it outputs with the output recorded anew.
///
/// # Errors
/// When a line cannot be understood, an expectation fails, or a rule is broken.
pub fn tell(text: &str) -> std::io::Result<String> {
    goldenscript::generate(&mut Story::default(), &with_end(text))
}

/// A text that has not been recorded yet has no `---` below its commands.
fn with_end(text: &str) -> Cow<'_, str> {
    match text.lines().any(|line| line == "---") {
        true => text.into(),
        false => format!("{}\n---\n", text.trim_end()).into(),
    }
}

/// Tells the story in a file and compares its output with what was recorded there.
///
/// # Errors
/// As [`tell`], and when the file cannot be read.
///
/// # Panics
/// When the output is another than that recorded.
pub fn run(path: &std::path::Path) -> std::io::Result<()> {
    goldenscript::run(&mut Story::default(), path)
}

impl goldenscript::Runner for Story {
    type Command = Command;

    fn run(&mut self, command: &Command, context: &Context) -> Answer {
        let mut output = match &context.prefix {
            Some(node) => {
                let node = self.cast.node(node)?;
                self.on_client(&node, command, context.tags.contains("later"))?
            }
            None => self.act(&self.cast.named(command)?)?,
        };
        if let Some(world) = &self.world {
            if let Some(violation) = world.checkers.violation() {
                return Err(violation.to_string().into());
            }
            let now = Summary::of(world);
            let told = now.since(&self.seen);
            // What a client sees stands for itself, and who is silenced tells nothing: what changed meanwhile is told by the
            // next command.
            if context.prefix.is_none() && !context.silent {
                self.seen = now;
                output.push_str(&told);
            }
        }
        Ok(output)
    }

    fn end_script(&mut self) -> Result<(), Box<dyn Error>> {
        let Some(world) = &mut self.world else { return Ok(()) };
        let now = world.now();
        world.checkers.finish(now);
        world.checkers.violation().map_or(Ok(()), |violation| Err(violation.to_string().into()))
    }
}

impl Story {
    fn act(&mut self, command: &Command) -> Answer {
        let arguments = &mut Arguments::of(command);
        let output = match command.name.as_str() {
            "mesh" => self.mesh(arguments)?,
            "advance" => {
                let span = arguments.span()?;
                self.world()?.advance(span);
                String::new()
            }
            "until" => self.until(arguments)?,
            "expect" => self.expect(arguments)?,
            "remember" => {
                self.remembered = Summary::of(self.world()?);
                self.remembered_at = self.world()?.now();
                String::new()
            }
            "answers" => self.answers()?,
            "cast" => self.cast.bind(self.world.as_ref().ok_or(NO_MESH)?, arguments)?,
            "lines" => {
                self.world()?.trace.keep(Keep::All);
                self.world()?.trace.take().iter().map(|line| format!("{line}\n")).collect()
            }
            "hello" => self.hello(arguments)?,
            "help" => help::help(arguments.word().as_deref()),
            name => match shows::show(self, name, arguments)? {
                Some(output) => output,
                None => acts::act(self.world()?, name, arguments)?,
            },
        };
        arguments.end()?;
        Ok(output)
    }

    fn world(&mut self) -> Result<&mut World, Box<dyn Error>> {
        self.world.as_mut().ok_or_else(|| NO_MESH.into())
    }

    fn mesh(&mut self, arguments: &mut Arguments) -> Answer {
        let bare = match arguments.key("commander").as_deref() {
            None => false,
            Some("bare") => true,
            Some(other) => return Err(format!("commander={other}: bare").into()),
        };
        let mut world = acts::mesh(arguments)?;
        world.trace.keep(self.keep);
        let waits = acts::start_mesh(&mut world, arguments, usize::from(bare))?;
        match (waits, bare) {
            (None, false) => {}
            (None, true) => return Err("commander=bare: such a mesh is waited for".into()),
            (Some(nodes), false) => settle(&mut world, nodes)?,
            (Some(nodes), true) => {
                settle(&mut world, nodes)?;
                let last = acts::add_bare(&mut world);
                settle(&mut world, nodes + 1)?;
                acts::instate(&mut world, last)?;
                settle(&mut world, nodes + 1)?;
            }
        }
        self.world = Some(world);
        Ok(String::new())
    }

    fn until(&mut self, arguments: &mut Arguments) -> Answer {
        let within = arguments.key("within").map_or(Ok(PATIENCE), |text| span(&text))?;
        let condition = conditions::parse(&arguments.rest())?;
        let remembered = self.remembered.clone();
        let world = self.world()?;
        let watch = condition.watch(world);
        world.watch(watch);
        let holds = |world: &World| world.checkers.violation().is_some() || condition.holds(world, &remembered);
        let came = match condition.is_fleeting() {
            true => world.until_event(within, holds),
            false => world.until(within, |world| holds(world)),
        };
        world.watch(None);
        if let Some(violation) = world.checkers.violation() {
            return Err(violation.to_string().into());
        }
        if !came {
            let state = Summary::of(world).told();
            return Err(format!("not within {}: {condition}; {state}", humantime::format_duration(within)).into());
        }
        Ok(String::new())
    }

    fn expect(&mut self, arguments: &mut Arguments) -> Answer {
        let condition: Condition = conditions::parse(&arguments.rest())?;
        if condition.is_deed() {
            return Err(format!("{condition}: this can be waited for, with `until`, but not be seen afterwards").into());
        }
        let remembered = self.remembered.clone();
        let world = self.world()?;
        match condition.holds(world, &remembered) {
            true => Ok(String::new()),
            false => Err(format!("not so: {condition}; {}", Summary::of(world).told()).into()),
        }
    }

    fn on_client(&mut self, node: &str, command: &Command, later: bool) -> Answer {
        let world = self.world.as_mut().ok_or(NO_MESH)?;
        let host = place(world, node)?;
        let said: Vec<String> = std::iter::once(command.name.clone())
            .chain(command.args.iter().map(|argument| match argument {
                Argument::KeyValue(key, value) => format!("{key}={value}"),
                Argument::Positional(word) => word.clone(),
                _ => String::new(),
            }))
            .collect();
        let line = said.join(" ");
        let ask = world.ask(host, said.into_iter().map(Bytes::from).collect(), Asker::Story, PATIENCE);
        if later {
            self.asked.insert(ask, format!("{node}: {line}"));
            return Ok(String::new());
        }
        let mut told = None;
        world.until(PATIENCE * 2, |world| {
            told = told.take().or_else(|| world.told(ask));
            told.is_some()
        });
        let (_, told) = told.ok_or("a client is always told something")?;
        Ok(world.named(&told_words(&told)))
    }

    /// What HELLO says at a node, as far as it concerns the mesh.
    fn hello(&mut self, arguments: &mut Arguments) -> Answer {
        let mut output = String::new();
        for name in arguments.rest() {
            let world = self.world()?;
            let host = place(world, &name)?;
            let ask =
                world.ask(host, vec![Bytes::from_static(b"HELLO"), Bytes::from_static(b"3")], Asker::Story, PATIENCE);
            let mut told = None;
            world.until(PATIENCE * 2, |world| {
                told = told.take().or_else(|| world.told(ask));
                told.is_some()
            });
            let Some((_, Told::Reply(Reply::Map(pairs)))) = told else {
                writeln!(output, "{name}: no answer")?;
                continue;
            };
            let field =
                |wanted: &str| pairs.iter().find(|(key, _)| words(key) == wanted).map(|(_, value)| words(value));
            let fields = ["state", "term", "commander", "drones"];
            let fields: Vec<String> =
                fields.iter().map(|name| format!("{name} {}", field(name).unwrap_or_default())).collect();
            writeln!(output, "{name}: {}", fields.join(", "))?;
        }
        Ok(output)
    }

    fn answers(&mut self) -> Answer {
        let mut output = String::new();
        let world = self.world.as_mut().ok_or(NO_MESH)?;
        self.asked.retain(|ask, line| match world.told(*ask) {
            Some((_, told)) => {
                let _ = writeln!(output, "{line} -> {}", world.named(&told_words(&told)));
                false
            }
            None => true,
        });
        for line in self.asked.values() {
            writeln!(output, "{line} -> no answer yet")?;
        }
        Ok(output)
    }
}

fn settle(world: &mut World, nodes: usize) -> Result<(), Box<dyn Error>> {
    let settled = conditions::parse(&["settled".into(), nodes.to_string()])?;
    match world.until(PATIENCE, |world| settled.holds(world, &Summary::default())) {
        true => Ok(()),
        false => Err(format!("the mesh does not settle: {}", Summary::of(world).told()).into()),
    }
}

fn told_words(told: &Told) -> String {
    match told {
        Told::Reply(reply) => words(reply),
        Told::Ordered(Ok(lines)) => lines.join("\n"),
        Told::Ordered(Err(reason)) => format!("refused: {reason}"),
        Told::Verified(Ok(verification)) => shows::verification(verification),
        Told::Verified(Err(reason)) => format!("refused: {reason}"),
        Told::Lost => "connection lost".into(),
        Told::Nothing => "no answer".into(),
    }
}

fn place(world: &World, name: &str) -> Result<Host, Box<dyn Error>> {
    world.host(name).ok_or_else(|| format!("there is no {name}").into())
}

fn span(text: &str) -> Result<Duration, Box<dyn Error>> {
    humantime::parse_duration(text).map_err(|error| format!("{text} is no span of time: {error}").into())
}

/// What stands behind a command's name.
#[derive(Debug)]
struct Arguments {
    words: std::collections::VecDeque<String>,
    keys: BTreeMap<String, String>,
}

impl Arguments {
    fn of(command: &Command) -> Self {
        let (mut words, mut keys) = (std::collections::VecDeque::new(), BTreeMap::new());
        for argument in &command.args {
            match argument {
                Argument::KeyValue(key, value) => drop(keys.insert(key.clone(), value.clone())),
                Argument::Positional(word) => words.push_back(word.clone()),
                _ => {}
            }
        }
        Self { words, keys }
    }

    fn word(&mut self) -> Option<String> {
        self.words.pop_front()
    }

    fn key(&mut self, key: &str) -> Option<String> {
        self.keys.remove(key)
    }

    fn number<N: std::str::FromStr>(&mut self, key: &str, otherwise: N) -> Result<N, Box<dyn Error>> {
        match self.key(key) {
            None => Ok(otherwise),
            Some(text) => text.parse().map_err(|_| format!("{key}={text}: a number is wanted").into()),
        }
    }

    fn span(&mut self) -> Result<Duration, Box<dyn Error>> {
        span(&self.word().ok_or("how long?")?)
    }

    fn key_span(&mut self, key: &str) -> Result<Option<Duration>, Box<dyn Error>> {
        self.key(key).map(|text| span(&text)).transpose()
    }

    fn rest(&mut self) -> Vec<String> {
        self.words.drain(..).collect()
    }

    fn end(&self) -> Result<(), Box<dyn Error>> {
        match (self.words.front(), self.keys.keys().next()) {
            (None, None) => Ok(()),
            (Some(word), _) => Err(format!("{word} is not understood here").into()),
            (_, Some(key)) => Err(format!("{key}= is not understood here").into()),
        }
    }
}
