//! `keyval sim trace`: who said what to whom, as a sequence diagram in Mermaid's language.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{MeshArgs, not_done};
use crate::cli::output;
use crate::messages::chain::ChainMessage;
use crate::messages::election::MessageKind;
use crate::messages::heartbeat::HeartbeatMessage;
use crate::messages::peer::PeerMessage;
use crate::sim::script::ByHand;
use crate::sim::swarm::play;
use crate::sim::trace::{Happening, Keep, What, first_word};

/// More arrows than this nobody can read, and few programs draw.
const ARROWS: usize = 400;

/// Arguments of `keyval sim trace`.
#[derive(Debug, Args)]
pub struct TraceArgs {
    /// A seed, or the file of a story
    what: String,
    /// Draw only what happened from this time on, as 2s or 350ms
    #[arg(long, value_parser = humantime::parse_duration, default_value = "0s")]
    from: Duration,
    /// Draw only what happened up to this time
    #[arg(long, value_parser = humantime::parse_duration)]
    to: Option<Duration>,
    /// Draw only what these nodes say to each other, separated by commas, as n1,n2
    #[arg(long, value_delimiter = ',')]
    between: Vec<String>,
    /// Draw what is said all the time, too: beacons, leases, the commander's rounds
    #[arg(long)]
    all: bool,
    /// In which language
    #[arg(long, value_enum, default_value_t = Language::Mermaid)]
    language: Language,
    #[command(flatten)]
    mesh: MeshArgs,
}

/// In which language a diagram is written.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Language {
    /// A `sequenceDiagram`, as many a viewer of Markdown draws it.
    Mermaid,
    /// One line for each thing that happened.
    Lines,
}

pub(super) fn draw(args: &TraceArgs) -> ExitCode {
    let happenings = match args.what.parse::<u64>() {
        Ok(seed) => play(seed, &args.mesh.options(Keep::All)).happenings,
        Err(_) => {
            let path = Path::new(&args.what);
            let told = std::fs::read_to_string(path)
                .and_then(|text| ByHand::new(Keep::All).tell(&text).map_err(std::io::Error::other));
            match told {
                Ok(happenings) => happenings,
                Err(error) => return not_done(path, &error),
            }
        }
    };
    let suits = |happening: &&Happening| {
        let at = Duration::from_nanos(happening.at.0);
        at >= args.from && args.to.is_none_or(|to| at <= to) && is_between(happening, &args.between)
    };
    let chosen: Vec<&Happening> = happenings.iter().filter(suits).collect();
    match args.language {
        Language::Mermaid => output::say(mermaid(&chosen, args.all).trim_end()),
        Language::Lines => chosen.iter().for_each(output::say),
    }
    ExitCode::SUCCESS
}

fn is_between(happening: &Happening, nodes: &[String]) -> bool {
    let is_named = |name: &String| nodes.is_empty() || nodes.contains(name);
    match &happening.what {
        What::Heard { from, to, .. } => is_named(from) && is_named(to),
        What::Told { place: Some(place), .. } => is_named(place),
        What::Told { place: None, .. } => true,
        What::Detail(_) => nodes.is_empty(),
    }
}

fn mermaid(happenings: &[&Happening], all: bool) -> String {
    let mut lines = Vec::new();
    let mut names = BTreeSet::new();
    let mut left_out = 0;
    for happening in happenings {
        let at = happening.at;
        let line = match &happening.what {
            What::Heard { from, to, message } => {
                let Some(label) = label(message, all) else { continue };
                names.extend([from, to]);
                format!("{from}->>{to}: {at} {label}")
            }
            What::Told { place: Some(place), text } => {
                names.insert(place);
                format!("Note over {place}: {at} {}", plain(text))
            }
            What::Told { .. } | What::Detail(_) => continue,
        };
        if lines.len() < ARROWS { lines.push(line) } else { left_out += 1 }
    }
    let mut diagram = String::from("sequenceDiagram\n");
    if left_out > 0 {
        let _ = writeln!(diagram, "    %% {left_out} later ones are left out: --from, --to and --between choose");
    }
    for name in names {
        let _ = writeln!(diagram, "    participant {name}");
    }
    for line in lines {
        let _ = writeln!(diagram, "    {line}");
    }
    diagram
}

/// What a message is, in a few words; none for what is said all the time.
fn label(message: &PeerMessage, all: bool) -> Option<String> {
    let routine = match message {
        PeerMessage::Heartbeat(message) => matches!(message, HeartbeatMessage::Beacon(_) | HeartbeatMessage::Grant(_)),
        PeerMessage::Election(message) => {
            matches!(message.kind, MessageKind::Heartbeat | MessageKind::HeartbeatResponse)
        }
        PeerMessage::Chain(frame) => {
            matches!(&frame.message, ChainMessage::Forward { writes, .. } if writes.is_empty())
        }
        PeerMessage::Ownership(_) | PeerMessage::Relay(_) => false,
    };
    if routine && !all {
        return None;
    }
    Some(match message {
        PeerMessage::Election(message) => {
            let more = match message.entries.len() {
                0 if message.reject => ", no".into(),
                0 => String::new(),
                some => format!(", {some} records"),
            };
            format!("{:?} (term {}{more})", message.kind, message.term)
        }
        PeerMessage::Heartbeat(message) => first_word(message),
        PeerMessage::Ownership(message) => first_word(message),
        PeerMessage::Chain(frame) => {
            let more = match &frame.message {
                ChainMessage::Hello { applied, .. } => format!(" with {applied}"),
                ChainMessage::Forward { writes, .. } => {
                    writes.last().map_or(String::new(), |it| format!(" of {}", it.stamp))
                }
                ChainMessage::Ack { sequence } => format!(" of {sequence}"),
                _ => String::new(),
            };
            format!("{}{more} (range {}, epoch {})", first_word(&frame.message), frame.range, frame.epoch)
        }
        PeerMessage::Relay(message) => first_word(message),
    })
}

/// Without what would end a line of a diagram.
fn plain(text: &str) -> String {
    text.replace([';', '#'], ",").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_drawn_on_its_way_along_the_chain() {
        let text = "mesh nodes=3 copies=3\nn1: set color blue\n---\n";
        let happenings = ByHand::new(Keep::All).tell(text).expect("it is told");
        let diagram = mermaid(&happenings.iter().rev().take(60).rev().collect::<Vec<_>>(), false);
        assert!(diagram.starts_with("sequenceDiagram\n    participant n1\n"), "{diagram}");
        let forward = diagram.lines().position(|line| line.contains("Forward of"));
        let ack = diagram.lines().position(|line| line.contains("Ack of"));
        assert!(forward.is_some() && forward < ack, "{diagram}");
        assert!(!diagram.contains("Beacon"), "{diagram}");
    }
}
